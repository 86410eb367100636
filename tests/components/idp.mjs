// An OpenID provider (oidc-provider) that gives agents their workload tokens.
//
//   node idp.mjs [PORT]        prints `ready ISSUER` and serves until it is killed
//
//   curl -u triage:triage-secret ISSUER/token -d grant_type=client_credentials -d resource=urn:remit
//
// answers with a JWT (`typ: at+jwt`, `sub: triage`, `aud: urn:remit`), signed as IDP_ALG says (ES256
// unless given, RS256). Its life in seconds is IDP_TTL (300 unless given). A second client is
// `stranger:stranger-secret`. Without `resource` the token is opaque.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const alg = process.env.IDP_ALG ?? "ES256";
const ttl = Number(process.env.IDP_TTL ?? 300);

const key = (kind, options, claims) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
  use: "sig",
  ...claims,
});
const jwks = {
  keys: [
    key("ec", { namedCurve: "P-256" }, { kid: "ec", alg: "ES256" }),
    key("rsa", { modulusLength: 2048 }, { kid: "rsa", alg: "RS256" }),
  ],
};
const client = (name) => ({
  client_id: name,
  client_secret: `${name}-secret`,
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: "client_secret_basic",
});

// The port comes first: the issuer's name holds it.
const server = createServer();
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks,
    clients: [client("triage"), client("stranger")],
    scopes: ["tools"],
    extraTokenClaims: (_ctx, token) => ({ agent: { name: token.clientId } }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource) => ({
          audience: resource,
          scope: "tools",
          accessTokenFormat: "jwt",
          accessTokenTTL: ttl,
          jwt: { sign: { alg } },
        }),
      },
    },
  });
  provider.on("server_error", (_ctx, error) => console.error(error));
  server.on("request", provider.callback());
  console.log(`ready ${issuer}`);
});
