// What stands before a server that isn't ours: it demands a key, and tells what reached it.
import http from "node:http";

/**
 * Before anything listens: every HTTP server of this process prints a line
 * `request {"method","path","headers","body"}` for each request that it read whole, and answers 401 to what
 * lacks `Authorization: Bearer KEY`, if there is a key.
 */
export function guard(key) {
  const { emit } = http.Server.prototype;
  http.Server.prototype.emit = function (event, request, response) {
    if (event !== "request") return emit.apply(this, arguments);
    tell(request);
    if (!key || request.headers.authorization === `Bearer ${key}`) return emit.apply(this, arguments);
    request.resume();
    response.writeHead(401, { "content-type": "application/json" });
    response.end('{"error":{"message":"the key is missing or wrong"}}\n');
    return true;
  };
}

// The body is seen where it is put into the stream, so that the server still reads it as its own.
function tell(request) {
  const { push } = request;
  const body = [];
  request.push = function (chunk, ...rest) {
    if (chunk) body.push(Buffer.from(chunk));
    else {
      const { method, url: path, headers } = request;
      const seen = { method, path, headers, body: Buffer.concat(body).toString() };
      console.log(`request ${JSON.stringify(seen)}`);
    }
    return push.call(this, chunk, ...rest);
  };
}
