// An OAuth 2.0 authorization server (oidc-provider) that gives the gateway tokens for tools.
//
//   node authorization_server.mjs [PORT]      prints `ready ISSUER` and serves until it is killed
//
// Its client is `remit:remit-secret`, a native one: its redirect URI is `http://127.0.0.1:ANY/v1/consents/callback`.
// It has the grants client_credentials, authorization_code, refresh_token (which rotates) and token exchange (RFC 8693,
// which oidc-provider leaves to whoever uses it): the subject token is one of the gateway's, whose key set is in the file
// AS_GATEWAY_KEYS. People sign in at its own pages, with any name and password. It takes tokens back (RFC 7009) and tells
// of them (RFC 7662).
import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import Provider, { errors } from "oidc-provider";

const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const jwks = {
  keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", kid: "ec", alg: "ES256" }],
};

// What a JWT of the gateway's says, if it is one.
function statement(token, audience) {
  const [header, payload, signature] = token.split(".");
  const read = (part) => JSON.parse(Buffer.from(part, "base64url"));
  const { keys } = JSON.parse(readFileSync(process.env.AS_GATEWAY_KEYS));
  const key = keys.find(({ kid }) => kid === read(header).kid);
  const options = { key: createPublicKey({ key, format: "jwk" }), dsaEncoding: "ieee-p1363" };
  const signed = Buffer.from(`${header}.${payload}`);
  const claims = read(payload);
  const good =
    verify("sha256", signed, options, Buffer.from(signature, "base64url")) &&
    claims.aud === audience &&
    claims.exp > Date.now() / 1000;
  return good ? claims : undefined;
}

// The port comes first: the issuer's name holds it.
const server = createServer();
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks,
    clients: [
      {
        client_id: "remit",
        client_secret: "remit-secret",
        application_type: "native",
        grant_types: ["client_credentials", "authorization_code", "refresh_token", EXCHANGE],
        redirect_uris: ["http://127.0.0.1/v1/consents/callback"],
        response_types: ["code"],
        token_endpoint_auth_method: "client_secret_basic",
        id_token_signed_response_alg: "ES256",
      },
    ],
    scopes: ["openid", "offline_access", "notes:read"],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    cookies: { keys: ["a key of this fixture"] },
    ttl: { AccessToken: 300, ClientCredentials: 300, RefreshToken: 86400, Session: 3600, Grant: 86400, Interaction: 600, IdToken: 300 },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
    },
  });
  const parameters = ["subject_token", "subject_token_type", "requested_token_type", "scope", "audience"];
  provider.registerGrantType(
    EXCHANGE,
    async (ctx) => {
      const { client, params } = ctx.oidc;
      let claims;
      try {
        claims = statement(params.subject_token, issuer);
      } catch {
        // It is no JWT, or of another key.
      }
      if (!claims) throw new errors.InvalidGrant("subject_token is not believed");
      const token = new provider.ClientCredentials({ client, scope: params.scope });
      ctx.body = {
        access_token: await token.save(),
        issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
        token_type: "Bearer",
        expires_in: token.expiration,
        scope: params.scope,
      };
      console.log(`exchanged ${claims.sub} ${claims.task}`);
    },
    parameters,
  );
  provider.on("server_error", (_ctx, error) => console.error(error));
  provider.on("grant.error", (_ctx, error) => console.error(error.message, error.error_detail));
  server.on("request", provider.callback());
  console.log(`ready ${issuer}`);
});
