"""Calls `echo.Echo` (grpc_server.py) with grpcio.

    TOKEN=… python grpc_client.py [--prefix /tool] [--authority HOST] [--ca FILE] HOST:PORT Unary|Stream|Fail [MESSAGE]

prints {"code","details","messages":[…],"initial":{…},"trailers":{…}}; the exit code is 1 unless `code` is `OK`.
`--prefix` stands before the method's path, as the gateway's path mode has it; `--authority` is for its host mode.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import grpc


def texts(metadata):
    return {name: value for name, value in metadata or () if isinstance(value, str)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prefix", default="")
    parser.add_argument("--authority")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("target")
    parser.add_argument("method", choices=["Unary", "Stream", "Fail"])
    parser.add_argument("message", nargs="?", default="hello")
    asked = parser.parse_args()

    options = [("grpc.default_authority", asked.authority)] if asked.authority else []
    if asked.ca:
        credentials = grpc.ssl_channel_credentials(asked.ca.read_bytes())
        channel = grpc.secure_channel(asked.target, credentials, options)
    else:
        channel = grpc.insecure_channel(asked.target, options)
    token = os.environ.get("TOKEN")
    metadata = [("authorization", f"Bearer {token}")] if token else []

    # Every method is called as a stream of answers: a unary one sends a single answer.
    method = channel.unary_stream(f"{asked.prefix}/echo.Echo/{asked.method}")
    call = method(asked.message.encode(), metadata=metadata, timeout=20)
    messages = []
    try:
        messages.extend(message.decode() for message in call)
    except grpc.RpcError:
        pass  # The call itself tells its status below.
    code = call.code()
    print(
        json.dumps(
            {
                "code": code.name,
                "details": call.details(),
                "messages": messages,
                "initial": texts(call.initial_metadata()),
                "trailers": texts(call.trailing_metadata()),
            }
        )
    )
    sys.exit(0 if code is grpc.StatusCode.OK else 1)


main()
