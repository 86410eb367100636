# What the gateway may do: read one secret, have two kinds made, and renew and revoke what was made.
path "secret/data/shop"   { capabilities = ["read"] }
path "ssh/creds/visitor"  { capabilities = ["update"] }
path "ssh/creds/clerk"    { capabilities = ["update"] }
path "sys/leases/renew"   { capabilities = ["update"] }
path "sys/leases/revoke"  { capabilities = ["update"] }
