"""nginx as an upstream that demands a key.

    NGINX_KEY=secret python nginx_server.py [--port N] [--certificate FILE --key FILE] [--files FOLDER]

prints `ready http://127.0.0.1:PORT` (`https://`, with HTTP/2, where it has a certificate), then one line
`request {…}` for each request that reaches it. It answers 401 to what lacks `Authorization: Bearer KEY`.
`/` answers with JSON, `/files/large` with 64 MiB, `/upload` reads a body of any size. With `--files` what is below
`/files/` is a folder's. The process becomes nginx.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from ports import announce, free_port


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--files", type=Path)
    asked = parser.parse_args()
    port = asked.port or free_port()

    folder = Path(tempfile.mkdtemp(prefix="nginx-"))
    if asked.files:
        (folder / "files").symlink_to(asked.files.resolve())
    else:
        (folder / "files").mkdir()
        with open(folder / "files/large", "wb") as large:
            large.truncate(64 << 20)
    listen = f"127.0.0.1:{port}"
    if asked.certificate:
        listen += f" ssl http2; ssl_certificate {asked.certificate.resolve()}; ssl_certificate_key {asked.key.resolve()}"
    key = os.environ.get("NGINX_KEY")
    filled = {
        "$folder": str(folder),
        "$listen": listen,
        "$key": f"Bearer {key}" if key else "~.*",
        "$sink": f"http://unix:{folder}/sink.sock",
    }
    text = Path(__file__).with_name("nginx.conf").read_text()
    for name, value in filled.items():
        text = text.replace(name, value)
    (folder / "nginx.conf").write_text(text)

    scheme = "https" if asked.certificate else "http"
    announce(f"ready {scheme}://127.0.0.1:{port}", port, folder=folder)
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    os.execv(nginx, [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"])


main()
