#!/bin/sh
# Prepares a Vault or OpenBao for this example: a secret, a maker of one-time passwords, and a login for the gateway
# that may use just these. Needs `bao` (or VAULT=vault), its address and a token that may do everything.
set -eu
bao=${VAULT:-bao}
cd "$(dirname "$0")"

$bao kv put secret/shop key="$SHOP_KEY"

$bao secrets enable ssh
for role in visitor clerk; do
    $bao write "ssh/roles/$role" key_type=otp default_user=agent cidr_list=127.0.0.0/8
done

$bao policy write remit remit.hcl
$bao auth enable approle
$bao write auth/approle/role/remit token_policies=remit token_ttl=20m token_max_ttl=24h
$bao write auth/approle/role/remit/role-id role_id=remit-example

mkdir -p state
umask 077
$bao write -f -field=secret_id auth/approle/role/remit/secret-id > state/secret-id
