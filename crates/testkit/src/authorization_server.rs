//! A fake OAuth 2.0 authorization server: tokens for one client, refresh tokens that rotate, revocation.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use parking_lot::Mutex;
use reqwest::Url;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use rustls::ServerConfig;
use serde_json::{Map, Value, json};

use crate::{Answer, Received, Upstream};

/// The client that it knows; its name has characters that basic authentication has encoded (RFC 6749, section 2.3.1).
pub const CLIENT: &str = "remit:gateway";
/// Its secret.
pub const CLIENT_SECRET: &str = "s3cret & more: 100%";

/// A fake authorization server. It asks for the client's secret, unless it shows an assertion, and grants what is asked for.
#[derive(Debug)]
pub struct AuthorizationServer {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

/// What was posted to it.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Where.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The certificate that was shown on the connection, DER.
    pub certificate: Option<Vec<u8>>,
    /// The fields, in their order.
    pub fields: Vec<(String, String)>,
}

impl Posted {
    /// The value of a field, if it is there once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let first = values.next()?;
        values.next().is_none().then_some(first.1.as_str())
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(known, _)| known == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Debug, Default)]
struct State {
    posted: Vec<Posted>,
    /// Answers of the token endpoint that come before its own.
    next: VecDeque<Answer>,
    /// The same of the revocation endpoint.
    next_revocation: VecDeque<Answer>,
    issued: usize,
    /// The refresh token that is good; one of before ends them all.
    refresh_token: Option<String>,
    /// The codes that are good, and what was asked for with them.
    codes: Vec<(String, Vec<(String, String)>)>,
    /// Whether codes are redeemed with a refresh token.
    is_brief: bool,
    /// What an ID token says, besides what was asked.
    person: Option<Value>,
    revoked: Vec<String>,
}

impl AuthorizationServer {
    /// Starts one.
    pub async fn start() -> Self {
        Self::of(Upstream::start(Answer::json(json!({}))).await)
    }

    /// Starts one over TLS.
    pub async fn start_tls(config: ServerConfig) -> Self {
        Self::of(Upstream::start_tls(Answer::json(json!({})), config).await)
    }

    fn of(upstream: Upstream) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let answering = Arc::clone(&state);
        upstream.answer(Answer::by(move |received| answer(&answering, received)));
        Self { upstream, state }
    }

    /// Its token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.upstream.url())
    }

    /// Its revocation endpoint.
    pub fn revocation_url(&self) -> String {
        format!("{}/revoke", self.upstream.url())
    }

    /// Answers the next request for a token like this.
    pub fn next(&self, answer: Answer) {
        self.state.lock().next.push_back(answer);
    }

    /// Answers the next revocation like this.
    pub fn next_revocation(&self, answer: Answer) {
        self.state.lock().next_revocation.push_back(answer);
    }

    /// Its authorization endpoint.
    pub fn authorization_url(&self) -> String {
        format!("{}/authorize?prompt=consent", self.upstream.url())
    }

    /// Its name.
    pub fn issuer(&self) -> String {
        self.upstream.url()
    }

    /// What a person's browser is sent back to who asked at this URL with, once the person said yes.
    pub fn consents(&self, url: &str) -> String {
        let asked = Url::parse(url).unwrap();
        let fields: Vec<_> = asked.query_pairs().into_owned().collect();
        let field = |name: &str| {
            fields
                .iter()
                .find(|(known, _)| known == name)
                .map(|it| it.1.clone())
        };
        let code = {
            let state = self.state.lock();
            // No two have the same, also where the first is not redeemed.
            format!("code-{}", state.issued + state.codes.len())
        };
        let mut back = Url::parse(&field("redirect_uri").unwrap()).unwrap();
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &field("state").unwrap())
            .append_pair("iss", &self.issuer());
        self.state.lock().codes.push((code, fields));
        back.into()
    }

    /// Gives no refresh tokens for codes any more.
    pub fn be_brief(&self) {
        self.state.lock().is_brief = true;
    }

    /// Gives ID tokens with these claims for codes from now on.
    pub fn person(&self, claims: Value) {
        self.state.lock().person = Some(claims);
    }

    /// Gives out a refresh token: the only one that is good.
    pub fn refresh_token(&self, token: &str) {
        self.state.lock().refresh_token = Some(token.to_owned());
    }

    /// What was asked of its token endpoint.
    pub fn asked(&self) -> Vec<Posted> {
        self.posted("/token")
    }

    /// The one question that was asked of its token endpoint.
    #[track_caller]
    pub fn only(&self) -> Posted {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "requests for tokens");
        asked.pop().unwrap()
    }

    /// What was posted to its revocation endpoint.
    pub fn revocations(&self) -> Vec<Posted> {
        self.posted("/revoke")
    }

    /// The tokens that it took back.
    pub fn revoked(&self) -> Vec<String> {
        self.state.lock().revoked.clone()
    }

    fn posted(&self, path: &str) -> Vec<Posted> {
        let state = self.state.lock();
        let posted = state.posted.iter().filter(|posted| posted.path == path);
        posted.cloned().collect()
    }
}

fn answer(state: &Mutex<State>, received: &Received) -> Answer {
    let body = String::from_utf8_lossy(&received.body);
    let fields = Url::parse(&format!("http://form/?{body}")).unwrap();
    let fields = fields.query_pairs().into_owned().collect();
    let posted = Posted {
        path: received.target.clone(),
        authorization: received.header("authorization").map(str::to_owned),
        certificate: received.client_certificate.clone(),
        fields,
    };
    let mut state = state.lock();
    state.posted.push(posted.clone());
    let next = match posted.path.as_str() {
        "/token" => state.next.pop_front(),
        _ => state.next_revocation.pop_front(),
    };
    if let Some(answer) = next {
        return answer;
    }
    if received.method != http::Method::POST || !is_client(&posted) {
        return refusal(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    if posted.path == "/revoke" {
        let token = posted.field("token").unwrap_or_default();
        state.revoked.push(token.to_owned());
        return Answer::Bytes(StatusCode::OK, bytes::Bytes::new());
    }
    state.token(&posted)
}

impl State {
    fn token(&mut self, posted: &Posted) -> Answer {
        self.issued += 1;
        let mut token = json!({
            "access_token": format!("token-{}", self.issued),
            "token_type": "Bearer",
            "expires_in": 300,
        });
        let mut also = Map::new();
        if let Some(scope) = posted.field("scope") {
            also.insert("scope".to_owned(), scope.into());
        }
        match posted.field("grant_type").unwrap_or_default() {
            "client_credentials" | "urn:ietf:params:oauth:grant-type:jwt-bearer" => {}
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                let kind = "urn:ietf:params:oauth:token-type:access_token";
                also.insert("issued_token_type".to_owned(), kind.into());
            }
            "authorization_code" => {
                let place = self
                    .codes
                    .iter()
                    .position(|(code, _)| posted.field("code") == Some(code));
                let Some((_, asked)) = place.map(|place| self.codes.remove(place)) else {
                    return refusal(StatusCode::BAD_REQUEST, "invalid_grant");
                };
                let asked = |name: &str| {
                    asked
                        .iter()
                        .find(|(known, _)| known == name)
                        .map(|it| it.1.as_str())
                };
                // RFC 7636, section 4.6.
                let verifier = posted.field("code_verifier").unwrap_or_default();
                let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
                let is_ours = asked("code_challenge") == Some(&URL_SAFE_NO_PAD.encode(digest))
                    && asked("code_challenge_method") == Some("S256")
                    && asked("redirect_uri") == posted.field("redirect_uri");
                if !is_ours {
                    return refusal(StatusCode::BAD_REQUEST, "invalid_grant");
                }
                if let Some(scope) = asked("scope") {
                    also.insert("scope".to_owned(), scope.into());
                }
                if !self.is_brief {
                    let new = format!("refresh-{}", self.issued);
                    also.insert("refresh_token".to_owned(), new.clone().into());
                    self.refresh_token = Some(new);
                }
                if let Some(mut person) = self.person.clone() {
                    if let Some(claims) = person.as_object_mut() {
                        claims.insert("nonce".to_owned(), asked("nonce").into());
                    }
                    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                    let token = format!(
                        "{}.{}.AAAA",
                        encode(&json!({ "alg": "ES256" })),
                        encode(&person)
                    );
                    also.insert("id_token".to_owned(), token.into());
                }
            }
            "refresh_token" => {
                // Whoever comes with one of before may be a thief (RFC 9700, section 4.14.2).
                let good = self.refresh_token.take();
                if good.is_none() || good.as_deref() != posted.field("refresh_token") {
                    return refusal(StatusCode::BAD_REQUEST, "invalid_grant");
                }
                let new = format!("refresh-{}", self.issued);
                also.insert("refresh_token".to_owned(), new.clone().into());
                self.refresh_token = Some(new);
            }
            _ => return refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        }
        if let Some(token) = token.as_object_mut() {
            token.extend(also);
        }
        Answer::json(token)
    }
}

fn refusal(status: StatusCode, code: &str) -> Answer {
    Answer::Json(status, json!({ "error": code }))
}

/// Whether the client's secret was shown, or an assertion or certificate, which is for the test to look at.
fn is_client(posted: &Posted) -> bool {
    if posted.field("client_assertion").is_some() || posted.field("assertion").is_some() {
        return true;
    }
    if posted.certificate.is_some() {
        return posted.field("client_id") == Some(CLIENT);
    }
    if let Some(secret) = posted.field("client_secret") {
        return secret == CLIENT_SECRET && posted.field("client_id") == Some(CLIENT);
    }
    let basic = posted.authorization.as_deref();
    let pair = basic.and_then(|basic| STANDARD.decode(basic.strip_prefix("Basic ")?).ok());
    let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
    let Some((id, secret)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else {
        return false;
    };
    let decoded = Url::parse(&format!("http://form/?id={id}&secret={secret}")).unwrap();
    let decoded: Vec<_> = decoded
        .query_pairs()
        .map(|(_, value)| value.into_owned())
        .collect();
    decoded == [CLIENT, CLIENT_SECRET]
}

/// The header and claims of a JWT, if its signature is by this key (JWK).
pub fn verified(jwt: &str, key: &Value) -> Option<(Value, Value)> {
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key.get(name)?.as_str()?).ok();
    let (message, signature) = jwt.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let part = |place: usize| -> Option<Value> {
        let part = URL_SAFE_NO_PAD
            .decode(message.split('.').nth(place)?)
            .ok()?;
        serde_json::from_slice(&part).ok()
    };
    let header = part(0)?;
    let checked = match header.get("alg")?.as_str()? {
        "ES256" => {
            let point = [vec![4], bytes("x")?, bytes("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message.as_bytes(), &signature)
        }
        "EdDSA" => {
            UnparsedPublicKey::new(&ED25519, bytes("x")?).verify(message.as_bytes(), &signature)
        }
        "RS256" => RsaPublicKeyComponents {
            n: bytes("n")?,
            e: bytes("e")?,
        }
        .verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature),
        "PS256" => RsaPublicKeyComponents {
            n: bytes("n")?,
            e: bytes("e")?,
        }
        .verify(&RSA_PSS_2048_8192_SHA256, message.as_bytes(), &signature),
        _ => return None,
    };
    checked.ok()?;
    Some((header, part(1)?))
}
