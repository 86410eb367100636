"""Prints a token for `ledger`, as a `cmd` provider is to, by the key in the file that is named: the wish comes on standard input, the secret goes to standard output."""

import hashlib
import hmac
import json
import sys
import time

wish = json.load(sys.stdin)
life = min(wish["ttl_seconds"], 300)
until = str(int(time.time()) + life)
with open(sys.argv[1]) as file:
    mac = hmac.new(file.read().encode(), until.encode(), hashlib.sha256).hexdigest()
print(json.dumps({"secret": f"{until}.{mac}", "ttl_seconds": life}))
