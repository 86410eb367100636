"""A small GitHub, Google Cloud and Entra ID, as far as a gateway meets them: each gives tokens to who shows the key, and has an
API that takes no others. Makes `app.key`, `app.crt` (by openssl) and `key.json` in the folder where it is started. `PORT` 0
lets the system choose."""

import base64
import hashlib
import json
import os
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

ACCOUNT = "reports@demo.iam.gserviceaccount.com"
TENANT, CLIENT = "contoso.example", "remit-demo"
SCOPE = "https://graph.example/.default"
TOKENS = {}  # token -> what it is good for


def make_keys():
    os.umask(0o077)
    if not os.path.exists("app.key"):
        subprocess.run(["openssl", "genrsa", "-out", "app.key", "2048"], check=True, stderr=subprocess.DEVNULL)
    if not os.path.exists("app.crt"):
        command = "openssl req -x509 -key app.key -out app.crt -days 30 -subj /CN=remit"
        subprocess.run(command.split(), check=True)


def pem(name):
    lines = [line for line in open(name).read().splitlines() if line and not line.startswith("-")]
    return base64.b64decode("".join(lines))


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
    """Modulus and exponent of app.key, whether it is PKCS#1 or PKCS#8."""
    parts = der(der(pem("app.key"))[0][1])
    if parts[1][0] == 0x30:
        parts = der(der(parts[2][1])[0][1])
    return int.from_bytes(parts[1][1], "big"), int.from_bytes(parts[2][1], "big")


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def is_rs256(block, digest):
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    return block == b"\0\1" + b"\xff" * (len(block) - 54) + b"\0" + prefix + digest


def is_ps256(block, digest):
    masked, seed = block[:-33], block[-33:-1]
    mask = b"".join(hashlib.sha256(seed + count.to_bytes(4, "big")).digest() for count in range(8))
    clear = bytearray(one ^ other for one, other in zip(masked, mask))
    clear[0] &= 0x7F
    salt = bytes(clear[-32:])
    return block[-1] == 0xBC and hashlib.sha256(bytes(8) + digest + salt).digest() == seed


def verified(jwt):
    """Header and claims of a JWT that app.key has signed and that is good now."""
    try:
        message, signature = jwt.rsplit(".", 1)
        header, claims = (json.loads(unpadded(part)) for part in message.split("."))
        modulus, exponent = public_key()
        number = pow(int.from_bytes(unpadded(signature), "big"), exponent, modulus)
        block, digest = number.to_bytes(256, "big"), hashlib.sha256(message.encode()).digest()
        is_signed = {"RS256": is_rs256, "PS256": is_ps256}[header["alg"]](block, digest)
        return (header, claims) if is_signed and claims["exp"] > time.time() >= claims["iat"] else None
    except (ValueError, KeyError):
        return None


def issue(kind, good_for):
    token = f"{kind}{len(TOKENS) + 1}_{os.urandom(12).hex()}"
    TOKENS[token] = good_for
    return token


class Clouds(BaseHTTPRequestHandler):
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

    def body(self):
        return self.rfile.read(int(self.headers["content-length"] or 0)).decode()

    def form(self):
        return {name: values[0] for name, values in parse_qs(self.body()).items()}

    def do_GET(self):
        place = unquote(self.path).strip("/").split("/")
        if place == ["github", "orgs", "acme", "installation"]:
            is_app = verified(self.bearer())
            return self.answer(200, {"id": 7, "account": {"login": "acme"}}) if is_app else self.answer(401)
        good_for = TOKENS.get(self.bearer())
        match place:
            case ["github", "repos", "acme", repository, "issues"]:
                is_good = good_for and repository in good_for.get("repositories", [])
                body = [{"title": f"an issue of {repository}"}]
            case ["google", "b", bucket, "o"]:
                is_good = good_for and "read_only" in good_for.get("scope", "")
                body = {"items": [f"an object of {bucket}"]}
            case ["azure", "users"]:
                is_good = good_for and good_for.get("scope") == SCOPE
                body = {"value": ["anna"]}
            case _:
                return self.answer(404, {"message": "Not Found"})
        return self.answer(200, body) if is_good else self.answer(403, {"message": "this token is for something else"})

    def do_POST(self):
        if self.path == "/github/app/installations/7/access_tokens":
            shown = verified(self.bearer())
            if not shown or shown[1]["iss"] != "Iv23liDemo":
                return self.answer(401, {"message": "Bad credentials"})
            asked = json.loads(self.body())
            in_an_hour = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
            return self.answer(201, {
                "token": issue("ghs_", asked), "expires_at": in_an_hour, "permissions": asked["permissions"],
                "repository_selection": "selected", "repositories": [{"name": name} for name in asked["repositories"]],
            })
        form = self.form()
        shown = verified(form.get("assertion") or form.get("client_assertion") or "")
        if not shown:
            return self.answer(400, {"error": "invalid_client"})
        claims = shown[1]
        if self.path == "/google/token" and claims["iss"] == ACCOUNT:
            token = issue("ya29.", {"scope": claims["scope"]})
        elif self.path == f"/azure/{TENANT}/oauth2/v2.0/token" and claims["sub"] == CLIENT and form["scope"] == SCOPE:
            token = issue("eyJ", {"scope": SCOPE})
        else:
            return self.answer(400, {"error": "unauthorized_client"})
        return self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3599})

    def do_DELETE(self):
        is_known = self.path == "/github/installation/token" and TOKENS.pop(self.bearer(), None)
        return self.answer(204 if is_known else 401)


make_keys()
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8303"))), Clouds)
url = f"http://127.0.0.1:{server.server_port}"
with open("key.json", "w") as file:
    key = {"type": "service_account", "client_email": ACCOUNT, "private_key_id": "1", "private_key": open("app.key").read()}
    json.dump(key | {"token_uri": f"{url}/google/token"}, file)
print(f"clouds at {url}", flush=True)
server.serve_forever()
