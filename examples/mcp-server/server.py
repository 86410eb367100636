"""An MCP server over Streamable HTTP that demands a key: a help desk. `PORT` 0 lets the system choose."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "Bearer " + os.environ["DESK_KEY"]
TEXT = {"type": "string"}
TOOLS = [
    {"name": "find_ticket", "description": "Finds a ticket.",
     "inputSchema": {"type": "object", "properties": {"query": TEXT}, "required": ["query"]}},
    {"name": "close_ticket", "description": "Closes a ticket.",
     "inputSchema": {"type": "object", "properties": {"ticket": TEXT, "reason": TEXT}, "required": ["ticket", "reason"]}},
    {"name": "purge", "description": "Deletes every ticket.", "inputSchema": {"type": "object", "properties": {}}},
]


def call(name, arguments):
    if name == "find_ticket":
        return f"T-1: a customer asks about {arguments['query']}"
    if name == "close_ticket":
        return f"{arguments['ticket']} is closed: {arguments['reason']}"
    return "every ticket is gone"


def result(method, params):
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "desk", "version": "1"}}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        text = call(params["name"], params.get("arguments", {}))
        return {"content": [{"type": "text", "text": text}], "isError": False}
    return {}


class Desk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != KEY:
            return self.answer(401)
        print(request["method"], json.dumps(request.get("params")), flush=True)
        if "id" not in request:
            return self.answer(202)
        answer = result(request["method"], request.get("params") or {})
        return self.answer(200, {"jsonrpc": "2.0", "id": request["id"], "result": answer})

    def do_GET(self):
        self.answer(405)

    do_DELETE = do_GET


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8302"))), Desk)
print(f"desk at http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
