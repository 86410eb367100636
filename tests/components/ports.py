"""Loopback ports for servers that can neither choose one nor say when they listen."""

import os
import shutil
import socket
import time


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def announce(line, *ports, folder=None):
    """Prints `line` once every port accepts, while this process goes on to become the server.

    When the server has ended, however it did, its `folder` is removed.
    """
    server = os.getpid()
    if os.fork() != 0:
        return
    # A server that ended has handed this process to another parent.
    while os.getppid() == server:
        if all(accepts(port) for port in ports):
            print(line, flush=True)
            break
        time.sleep(0.02)
    while folder and os.getppid() == server:
        time.sleep(0.2)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
