"""A small JSON API that demands a key: orders of a shop, in memory. `PORT` 0 lets the system choose."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "Bearer " + os.environ["SHOP_KEY"]
ORDERS = {1: {"id": 1, "item": "lamp", "price": 40}, 2: {"id": 2, "item": "desk", "price": 260}}


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        if self.headers["authorization"] != KEY:
            return self.answer(401, {"error": "a key is needed"})
        if self.path == "/orders":
            return self.answer(200, list(ORDERS.values()))
        return self.answer(404, {"error": "not found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.headers["authorization"] != KEY:
            return self.answer(401, {"error": "a key is needed"})
        order = ORDERS.get(int(self.path.split("/")[2]))
        if not order:
            return self.answer(404, {"error": "not found"})
        order["refunded"] = body["amount"]
        return self.answer(200, order)


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8301"))), Shop)
print(f"shop at http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
