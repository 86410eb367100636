// The reference MCP server (server-everything) over Streamable HTTP, on loopback, behind a key.
//
//   MCP_KEY=secret node mcp_server.mjs [PORT]      prints `ready URL`
//
// What reaches it is one line `request {"method","path","headers","body"}` each: told by the server itself.
// With MCP_KEY set it answers 401 to what lacks `Authorization: Bearer KEY`.
import net from "node:net";
import { guard } from "./guard.mjs";

const port = Number(process.argv[2] ?? 0);
guard(process.env.MCP_KEY);

// server-everything listens on every address, at a port that can't be left to the system.
const { listen } = net.Server.prototype;
net.Server.prototype.listen = function () {
  return listen.call(this, port, "127.0.0.1", () =>
    console.log(`ready http://127.0.0.1:${this.address().port}/mcp`),
  );
};
process.argv.splice(2, 1, "streamableHttp");
await import("@modelcontextprotocol/server-everything/dist/index.js");
