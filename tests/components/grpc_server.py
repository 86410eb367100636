"""A gRPC server (grpcio) of one service, `echo.Echo`, whose messages are plain bytes.

    GRPC_KEY=secret python grpc_server.py [--port N] [--certificate FILE --key FILE]

prints `ready 127.0.0.1:PORT`, then one line `call {"method","metadata","message"}` for each call that reaches it.

* `/echo.Echo/Unary` answers with the message; its trailers hold `echo-length`.
* `/echo.Echo/Stream` answers with the message three times; its trailers hold `echo-count: 3`.
* `/echo.Echo/Fail` sends one message, then the status `FAILED_PRECONDITION`, `as asked`.

With GRPC_KEY set, a call without the metadata `authorization: Bearer KEY` is `UNAUTHENTICATED`.
"""

import argparse
import json
import os
from concurrent import futures
from pathlib import Path

import grpc

KEY = os.environ.get("GRPC_KEY")


def enter(method, message, context):
    metadata = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
    print("call", json.dumps({"method": method, "metadata": metadata, "message": message.decode()}), flush=True)
    if KEY and metadata.get("authorization") != f"Bearer {KEY}":
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key is missing or wrong")


def unary(message, context):
    enter("Unary", message, context)
    context.set_trailing_metadata([("echo-length", str(len(message)))])
    return message


def stream(message, context):
    enter("Stream", message, context)
    context.set_trailing_metadata([("echo-count", "3")])
    for _ in range(3):
        yield message


def fail(message, context):
    enter("Fail", message, context)
    yield message
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    asked = parser.parse_args()
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Fail": grpc.unary_stream_rpc_method_handler(fail),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", methods)])
    address = f"127.0.0.1:{asked.port}"
    if asked.certificate:
        pair = (asked.key.read_bytes(), asked.certificate.read_bytes())
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(address)
    server.start()
    print(f"ready 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


main()
