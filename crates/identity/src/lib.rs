//! Who asks?
//!
//! [`Identity::authenticate`] reads the proofs in a request head and answers with an [`Agent`].
//!
//! **Invariant.** An [`Agent`] is made in this crate and nowhere else. Whoever holds one holds the
//! proof that its caller was authenticated.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// Tells agents apart by the proofs they present.
#[derive(Debug)]
pub struct Identity;

/// What identity is made of, parsed.
#[derive(Debug)]
pub struct Config {
    /// The issuers whose workload tokens are believed.
    pub issuers: Vec<IssuerConfig>,
    /// Our own task tokens.
    pub tokens: Arc<TaskTokens>,
}

/// One OpenID issuer whose workload tokens are believed.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The `iss` claim, and where discovery starts.
    pub issuer: url::Url,
    /// The `aud` that must be among the token's.
    pub audience: String,
    /// The signature algorithms accepted; never `none`, never symmetric.
    pub algorithms: Vec<Algorithm>,
    /// How the agent id is made of claims, such as `{sub}`.
    pub agent: AgentTemplate,
    /// The key set, where discovery is not wanted.
    pub jwks_uri: Option<url::Url>,
    /// The `typ` header values accepted, lower case; `jwt`, `at+jwt` and none at all unless given.
    pub types: Vec<String>,
}

/// A signature algorithm of RFC 7518 or RFC 8037 that a proof may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum Algorithm {
    ES256,
    ES384,
    EdDSA,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
}

/// A template over claims that makes an agent id, such as `spiffe://x/{sub}`.
#[derive(Clone, Debug)]
pub struct AgentTemplate(());

/// A template that can't make an agent id.
#[derive(Debug, thiserror::Error)]
#[error("agent template `{0}` names no claim or is not closed")]
pub struct InvalidTemplate(String);

impl std::str::FromStr for AgentTemplate {
    type Err = InvalidTemplate;
    fn from_str(_text: &str) -> Result<Self, Self::Err> {
        todo!()
    }
}

impl Identity {
    /// Makes an identity; key sets of issuers that `previous` knew are kept (the last good ones).
    pub fn new(_config: Config, _previous: Option<&Self>) -> Self {
        todo!()
    }
    /// Finds the agent behind a request head.
    pub async fn authenticate(&self, _headers: &HeaderMap) -> Result<Agent, Unauthenticated> {
        todo!()
    }
    /// Our own task tokens.
    pub fn tokens(&self) -> &Arc<TaskTokens> {
        todo!()
    }
}

/// An authenticated workload.
#[derive(Debug)]
#[must_use]
pub struct Agent {
    id: AgentId,
}

impl Agent {
    /// The name the agent goes by.
    pub fn id(&self) -> &AgentId {
        &self.id
    }
    /// How it proved itself.
    pub fn method(&self) -> Method {
        todo!()
    }
    /// Who vouches for it.
    pub fn issuer(&self) -> &str {
        todo!()
    }
    /// The verified claims of its proof.
    pub fn claims(&self) -> &Map<String, Value> {
        todo!()
    }
    /// The task its task token was minted for (`txn`), if it brought one.
    pub fn txn(&self) -> Option<&str> {
        todo!()
    }
    /// The `jti` of its task token.
    pub fn jti(&self) -> Option<&str> {
        todo!()
    }
    /// Whether this header value is where a proof was found. Such a value comes off, and is not an agent's key.
    pub fn presented(&self, _name: &HeaderName, _value: &HeaderValue) -> bool {
        todo!()
    }
}

/// How an agent proved itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// A task token of ours.
    TaskToken,
    /// A JWT of a configured issuer.
    Jwt,
}

impl Method {
    /// The name in policy input and telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskToken => "task_token",
            Self::Jwt => "jwt",
        }
    }
}

/// The name an agent goes by in policies and telemetry.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Ord, PartialOrd)]
pub struct AgentId(Arc<str>);

/// A name that can't stand for an agent.
#[derive(Debug, thiserror::Error)]
#[error("agent id `{0}` is not 1 to 2048 printable ASCII characters without spaces")]
pub struct InvalidAgentId(String);

impl AgentId {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Display for AgentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::str::FromStr for AgentId {
    type Err = InvalidAgentId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > 2048 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidAgentId(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

/// Why nobody could be authenticated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unauthenticated {
    /// No proof in any slot.
    #[error("no proof of identity was sent")]
    NoProof,
    /// The proof is malformed, of an unknown issuer, or its signature is wrong.
    #[error("proof of identity is invalid: {0}")]
    Invalid(&'static str),
    /// The proof's time is over.
    #[error("proof of identity has expired")]
    Expired,
    /// Two proofs name two agents or tasks.
    #[error("two proofs of identity disagree")]
    Disagreement,
    /// The issuer's keys can't be had.
    #[error("keys of issuer `{0}` are not available")]
    KeysUnavailable(String),
}

/// Mints and verifies the task tokens of this gateway (RFC 9068, `typ: at+jwt`), and publishes their keys.
#[derive(Debug)]
pub struct TaskTokens;

/// A signing key of ours that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("task signing key is not a PKCS#8 PEM of a P-256 or Ed25519 key: {0}")]
pub struct InvalidKey(pub String);

/// Which kind of signing key to make.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// ECDSA P-256, for ES256.
    P256,
    /// Ed25519, for EdDSA.
    Ed25519,
}

/// What a task token says.
#[derive(Clone, Debug)]
pub struct TaskClaims {
    /// The task (`txn`).
    pub txn: String,
    /// The task's owner (`sub`).
    pub owner: String,
    /// The agent (`act.sub` and `client_id`).
    pub agent: AgentId,
    /// Space separated scope.
    pub scope: String,
    /// RFC 9396 details.
    pub authorization_details: Value,
    /// Seconds since the epoch.
    pub expires_at: i64,
}

impl TaskTokens {
    /// Makes a new signing key, as PKCS#8 PEM.
    pub fn generate(_kind: KeyKind) -> Result<zeroize::Zeroizing<String>, InvalidKey> {
        todo!()
    }
    /// Reads the signing key; `issuer` becomes `iss` and `aud`.
    pub fn from_pem(_pem: &[u8], _issuer: &str) -> Result<Self, InvalidKey> {
        todo!()
    }
    /// Signs a task token.
    pub fn mint(&self, _claims: &TaskClaims) -> Result<String, InvalidKey> {
        todo!()
    }
    /// The public keys, as a JWK Set.
    pub fn jwks(&self) -> Value {
        todo!()
    }
    /// The `iss` of our tokens.
    pub fn issuer(&self) -> &str {
        todo!()
    }
}
