"""An OTLP collector (rotel) that prints every span it gets.

    python collector.py [--grpc PORT] [--http PORT]

prints `ready grpc=http://127.0.0.1:PORT http=http://127.0.0.1:PORT`, then what rotel prints. The process
becomes rotel, so that to kill it is to kill the collector.
"""

import argparse
import os
import sysconfig
from pathlib import Path

import rotel
from ports import announce, free_port


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--grpc", type=int, default=0)
    parser.add_argument("--http", type=int, default=0)
    parser.add_argument("--version", action="store_true", help="only tell whether rotel can run here")
    asked = parser.parse_args()
    if asked.version:
        become(["--version"])
    grpc, http = asked.grpc or free_port(), asked.http or free_port()
    announce(f"ready grpc=http://127.0.0.1:{grpc} http=http://127.0.0.1:{http}", grpc, http)

    become(
        [
            "start",
            f"--otlp-grpc-endpoint=127.0.0.1:{grpc}",
            f"--otlp-http-endpoint=127.0.0.1:{http}",
            "--exporter=blackhole",
            "--batch-timeout=100ms",
            "--debug-log=traces",
            "--debug-log-verbosity=detailed",
        ]
    )


def become(arguments):
    agent = str(Path(rotel.__file__).with_name("rotel-agent"))
    # It is linked against the shared library of the Python that it came with.
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    environment = os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, libraries))}
    os.execve(agent, [agent, *arguments], environment)


main()
