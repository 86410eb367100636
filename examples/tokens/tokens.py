"""Six small tools, each of which wants a credential of another kind: `mail` a token of its own authorization server, `wiki` a
JWT that the gateway signs, `ledger` what `mint.py` prints, `board` a key that a Kubernetes cluster keeps, `deploys` a token
of a service account of it, and `pager`, on the
next port, a client certificate. Makes the keys that are not there (by openssl) in the folder where it is started. `PORT` 0 lets
the system choose both ports."""

import base64
import hashlib
import hmac
import json
import os
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

LIVE = set()  # the tokens of `mail` that were not taken back, and those of the service account
SECRETS = {"mail.secret": "mail-demo-secret", "ledger.key": "ledger-demo-key", "cluster.token": "cluster-demo-token"}
BOARD_KEY = "board-demo-key"


def openssl(command):
    subprocess.run(["openssl", *command.split()], check=True, stderr=subprocess.DEVNULL)


def make_keys():
    os.umask(0o077)
    for name, text in SECRETS.items():
        if not os.path.exists(name):
            with open(name, "w") as file:
                file.write(text)
    if not os.path.exists("wiki.key"):
        openssl("genrsa -out wiki.key 2048")
    if not os.path.exists("ca.crt"):
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=demo")
        for name, extension in ("server", "subjectAltName=IP:127.0.0.1"), ("gateway", "extendedKeyUsage=clientAuth"):
            with open("extension", "w") as file:
                file.write(extension)
            openssl(f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}")
            openssl(f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extension -out {name}.crt")


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def der(data):
    """The values of a DER sequence's parts."""
    parts = []
    while data:
        length, start = data[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start], "big")
        parts.append((data[0], data[start:start + length]))
        data = data[start + length:]
    return parts


def public_key():
    """Modulus and exponent of wiki.key, whether it is PKCS#1 or PKCS#8."""
    lines = [line for line in open("wiki.key").read().splitlines() if line and not line.startswith("-")]
    parts = der(der(base64.b64decode("".join(lines)))[0][1])
    if parts[1][0] == 0x30:
        parts = der(der(parts[2][1])[0][1])
    return int.from_bytes(parts[1][1], "big"), int.from_bytes(parts[2][1], "big")


def claims(jwt):
    """The claims of a JWT that wiki.key has signed, that is for the wiki, and that is good now."""
    try:
        message, signature = jwt.rsplit(".", 1)
        header, claims = (json.loads(unpadded(part)) for part in message.split("."))
        modulus, exponent = public_key()
        block = pow(int.from_bytes(unpadded(signature), "big"), exponent, modulus).to_bytes(256, "big")
        prefix = bytes.fromhex("3031300d060960864801650304020105000420")
        digest = hashlib.sha256(message.encode()).digest()
        is_signed = header["alg"] == "RS256" and block == b"\0\1" + b"\xff" * 202 + b"\0" + prefix + digest
        is_good = claims["iss"] == "remit-demo" and claims["aud"] == "wiki" and claims["exp"] > time.time()
        return claims if is_signed and is_good else None
    except (ValueError, KeyError):
        return None


def is_minted(token):
    """Whether `mint.py` made a token, and it is good now."""
    until, _, mac = token.partition(".")
    expected = hmac.new(SECRETS["ledger.key"].encode(), until.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(mac, expected) and int(until) > time.time()


class Tools(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def bearer(self):
        return (self.headers["authorization"] or "").removeprefix("Bearer ")

    def do_GET(self):
        if self.path == "/cluster/api/v1/namespaces/tools/secrets/board":
            is_gateway = self.bearer() == SECRETS["cluster.token"]
            data = {"api-key": base64.b64encode(BOARD_KEY.encode()).decode()}
            secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "board", "namespace": "tools", "resourceVersion": "1"}, "data": data}
            return self.answer(200, secret) if is_gateway else self.answer(401)
        who = {
            "/mail/messages": lambda: "the gateway" if self.bearer() in LIVE else None,
            "/wiki/pages": lambda: (claims(self.bearer()) or {}).get("sub"),
            "/ledger/entries": lambda: "whoever runs mint.py" if is_minted(self.bearer()) else None,
            "/deploys/runs": lambda: "the service account deployer" if self.bearer() in LIVE else None,
            "/board/cards": lambda: "a key of the cluster" if self.headers["x-api-key"] == BOARD_KEY else None,
        }.get(self.path)
        if who is None:
            return self.answer(404)
        known = who()
        return self.answer(200, {"read by": known}) if known else self.answer(401, {"error": "not by this credential"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
        if self.path == "/cluster/api/v1/namespaces/tools/serviceaccounts/deployer/token":
            if self.bearer() != SECRETS["cluster.token"]:
                return self.answer(401)
            life = json.loads(body)["spec"]["expirationSeconds"]
            token = os.urandom(24).hex()
            LIVE.add(token)
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + life))
            status = {"token": token, "expirationTimestamp": until}
            return self.answer(201, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "status": status})
        form = {name: values[0] for name, values in parse_qs(body).items()}
        pair = base64.b64encode(f"remit:{SECRETS['mail.secret']}".encode()).decode()
        if self.headers["authorization"] != f"Basic {pair}":
            return self.answer(401, {"error": "invalid_client"})
        if self.path == "/mail/token":
            token = os.urandom(24).hex()
            LIVE.add(token)
            return self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": form.get("scope", "")})
        if self.path == "/mail/revoke":
            LIVE.discard(form.get("token"))
            return self.answer(200)
        return self.answer(404)

    def log_message(self, *_):
        pass


class Pager(Tools):
    def do_GET(self):
        # The handshake has asked for it already.
        subject = dict(part[0] for part in self.connection.getpeercert()["subject"])
        self.answer(200, {"read by": f"the certificate of {subject['commonName']}"})


make_keys()
port = int(os.environ.get("PORT", "8304"))
tools = ThreadingHTTPServer(("127.0.0.1", port), Tools)
pager = ThreadingHTTPServer(("127.0.0.1", port and port + 1), Pager)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain("server.crt", "server.key")
pager.socket = context.wrap_socket(pager.socket, server_side=True)
threading.Thread(target=pager.serve_forever, daemon=True).start()
print(f"pager at https://127.0.0.1:{pager.server_port} tools at http://127.0.0.1:{tools.server_port}", flush=True)
tools.serve_forever()
