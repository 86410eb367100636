//! A statement of whom a call is made for, signed by the gateway.

use std::str::FromStr;

use identity::{Assertion, InvalidKey, SigningKey, TaskTokens};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{ProviderError, SecretRef, Wish};

/// What the gateway signs for those who trust it: a JWT with `iss`, `sub`, `aud`, `iat`, `exp`, `jti`, and `task`, `owner`,
/// `act` (the agent), `tool`, `access`, `scope`.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Whom it is for (`aud`).
    pub audience: String,
    /// Whom it is about (`sub`).
    pub subject: Subject,
    /// Who says it.
    pub signer: Signer,
}

/// Whom a statement is about; in a config `agent`, `owner` or `name:ACCOUNT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The agent.
    Agent,
    /// On whose behalf it acts.
    Owner,
    /// An account of the upstream's, by its name.
    Named(String),
}

/// A text that names no subject.
#[derive(Debug, thiserror::Error)]
#[error("expected `agent`, `owner` or `name:ACCOUNT`")]
pub struct InvalidSubject;

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        match (text, text.strip_prefix("name:")) {
            ("agent", _) => Ok(Self::Agent),
            ("owner", _) => Ok(Self::Owner),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Named(name.to_owned())),
            _ => Err(InvalidSubject),
        }
    }
}

/// Who says it.
#[derive(Clone, Debug)]
pub enum Signer {
    /// The gateway, by the key of its task tokens.
    Gateway,
    /// Whoever the upstream knows by a key of its own.
    Own {
        /// The `iss`.
        issuer: String,
        /// The private key.
        key: KeyRef,
    },
}

/// A private key that is kept elsewhere: P-256, RSA or Ed25519, PEM; read for each use.
#[derive(Clone, Debug)]
pub struct KeyRef {
    /// Where it is kept.
    pub key: SecretRef,
    /// The `kid` that goes with it.
    pub key_id: Option<String>,
}

impl Statement {
    /// Signs it for a wish; it lives so many seconds.
    pub(crate) async fn sign(
        &self,
        tokens: &TaskTokens,
        wish: &Wish,
        scopes: &[String],
        life: u64,
    ) -> Result<Zeroizing<String>, ProviderError> {
        let claims = Self::claims(wish, scopes);
        self.sign_claims(tokens, wish, claims, life).await
    }

    /// What it says of a wish.
    pub(crate) fn claims(wish: &Wish, scopes: &[String]) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("task", json!(wish.task));
        put("owner", json!(wish.owner));
        put("act", json!({ "sub": wish.agent }));
        put("tool", json!(wish.tool));
        put("access", json!(wish.access));
        if !scopes.is_empty() {
            put("scope", json!(scopes.join(" ")));
        }
        claims
    }

    /// Signs it with these claims.
    pub(crate) async fn sign_claims(
        &self,
        tokens: &TaskTokens,
        wish: &Wish,
        claims: Map<String, Value>,
        life: u64,
    ) -> Result<Zeroizing<String>, ProviderError> {
        let assertion = Assertion {
            subject: match &self.subject {
                Subject::Agent => wish.agent.clone(),
                Subject::Owner => wish.owner.clone(),
                Subject::Named(name) => name.clone(),
            },
            audience: self.audience.clone(),
            life,
            claims,
        };
        match &self.signer {
            Signer::Gateway => tokens.assert(&assertion).map_err(|error| unsigned(&error)),
            Signer::Own { issuer, key } => key.sign(issuer, &assertion).await,
        }
        .map(Zeroizing::new)
    }

    /// What of it makes a config.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts = vec![
            self.audience.clone(),
            match &self.subject {
                Subject::Agent => "agent".to_owned(),
                Subject::Owner => "owner".to_owned(),
                Subject::Named(name) => format!("name {name}"),
            },
        ];
        match &self.signer {
            Signer::Gateway => texts.push("gateway".to_owned()),
            Signer::Own { issuer, key } => {
                texts.push(format!("own {issuer}"));
                texts.extend(key.texts());
            }
        }
        texts
    }
}

impl KeyRef {
    /// Signs an assertion of `issuer`.
    pub(crate) async fn sign(
        &self,
        issuer: &str,
        assertion: &Assertion,
    ) -> Result<String, ProviderError> {
        let pem = self.key.read_document().await?;
        let key = SigningKey::from_pem(&pem, self.key_id.as_deref());
        let signed = key.and_then(|key| key.assert(issuer, assertion));
        signed.map_err(|InvalidKey(problem)| {
            ProviderError::Failed(format!("key `{}`: {problem}", self.key))
        })
    }

    pub(crate) fn texts(&self) -> [String; 2] {
        let key_id = self.key_id.as_deref().unwrap_or_default();
        [self.key.to_string(), key_id.to_owned()]
    }
}

fn unsigned(InvalidKey(problem): &InvalidKey) -> ProviderError {
    ProviderError::Failed(format!("statement can't be signed: {problem}"))
}
