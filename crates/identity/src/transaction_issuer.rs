//! An issuer whose transaction tokens are believed: agents bring them from whoever orchestrates their work.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value, json};
use url::Url;

use crate::digest::Digest;
use crate::issuer::{Issuer, name_of};
use crate::key_source::Pace;
use crate::transaction_tokens::KIND;
use crate::unverified::{Unverified, seconds};
use crate::verified::{Transacted, Verified, Voucher};
use crate::{AgentTemplate, Algorithm, IssuerConfig, Unauthenticated, Vouching};

/// An issuer whose transaction tokens are believed (draft-ietf-oauth-transaction-tokens-10).
#[derive(Clone, Debug)]
pub struct TransactionIssuerConfig {
    /// The `iss` claim, and where discovery starts. Keys come over `https`, or from loopback.
    pub issuer: Url,
    /// The trust domain: what must be among the token's `aud`.
    pub audience: String,
    /// The signature algorithms accepted; never `none`, never symmetric.
    pub algorithms: Vec<Algorithm>,
    /// The key set, where discovery is not wanted.
    pub jwks_uri: Option<Url>,
    /// How the id of the agent that may use a token is made of its claims, such as `{req_wl}`.
    pub agent: AgentTemplate,
    /// The longest life of a token, from `iat` to `exp`.
    pub ttl_max: Duration,
}

impl TransactionIssuerConfig {
    /// What the issuer is called wherever it is told: its URL, without a `/` at the end where it is at a root.
    pub fn name(&self) -> &str {
        name_of(&self.issuer)
    }
}

/// The longest `txn` that is taken, in bytes: four times a URN of a UUID, and more than any identifier in use.
const MAX_TXN_BYTES: usize = 256;

/// What a token must say as text.
const TEXTS: [&str; 4] = ["txn", "sub", "scope", "req_wl"];

/// What may differ between two tokens of one transaction: their own times and number, and where a request comes from.
/// `iss` goes by two spellings.
const OF_ONE_TOKEN: [&str; 6] = ["iss", "iat", "nbf", "exp", "jti", "rctx"];

/// Such an issuer with its keys.
#[derive(Debug)]
pub(crate) struct TransactionIssuer {
    issuer: Arc<Issuer>,
    /// In seconds.
    ttl_max: i64,
}

impl TransactionIssuer {
    /// Makes one with the keys of an issuer in `known`, if one is fetched from the same place.
    pub(crate) fn new(config: TransactionIssuerConfig, known: &[Arc<Issuer>], pace: Pace) -> Self {
        let ttl_max = i64::try_from(config.ttl_max.as_secs()).unwrap_or(i64::MAX);
        let issuer = IssuerConfig {
            issuer: config.issuer,
            audience: config.audience,
            algorithms: config.algorithms,
            vouches_for: Vouching::Agents,
            owner: config.agent.clone(),
            agent: config.agent,
            jwks_uri: config.jwks_uri,
            types: vec![KIND.to_owned()],
        };
        Self {
            issuer: Arc::new(Issuer::new(issuer, known, pace)),
            ttl_max,
        }
    }

    /// What has its keys.
    pub(crate) fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Verifies a token that claims to be of this issuer.
    pub(crate) async fn verify(
        &self,
        token: Unverified<'_>,
        digest: Digest,
    ) -> Result<Verified, Unauthenticated> {
        let invalid = |why| Err(Unauthenticated::Invalid(why));
        let (checked, keys) = self.issuer.check(token).await?;
        let claims = checked.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if TEXTS
            .iter()
            .any(|name| text(name).is_none_or(str::is_empty))
        {
            return invalid("it lacks one of `txn`, `sub`, `scope`, `req_wl`, as text");
        }
        let txn = text("txn").unwrap_or_default();
        if txn.len() > MAX_TXN_BYTES || !txn.bytes().all(|byte| byte.is_ascii_graphic()) {
            return invalid("its `txn` is not 1 to 256 printable ASCII characters without spaces");
        }
        let Some(issued_at) = seconds(&claims, "iat")? else {
            return invalid("it has no `iat`");
        };
        if checked.expires_at.saturating_sub(issued_at) > self.ttl_max {
            return invalid("it lives longer than the transaction tokens of its issuer may");
        }
        if claims.contains_key("cnf") {
            return Err(Unauthenticated::UnknownConfirmation);
        }
        let issuer = self.issuer.name().to_owned();
        let transacted = Transacted {
            key: sha256(&json!([issuer, txn])),
            said: said(&claims),
        };
        Ok(Verified {
            digest,
            agent: self.issuer.agent(&claims)?,
            issuer,
            expires_at: checked.expires_at,
            issued_at: Some(issued_at),
            confirmations: Vec::new(),
            voucher: Voucher::Transaction {
                source: Arc::clone(self.issuer.keys()),
                keys,
                transacted,
            },
            prepared: OnceLock::new(),
            claims,
        })
    }
}

/// Stands for all that a token says of its transaction.
fn said(claims: &Map<String, Value>) -> String {
    let mut said: Vec<(&String, &Value)> = claims.iter().collect();
    said.retain(|(name, _)| !OF_ONE_TOKEN.contains(&name.as_str()));
    said.sort_by_key(|(name, _)| *name);
    sha256(&json!(said))
}

fn sha256(value: &Value) -> String {
    Digest::of(value.to_string().as_bytes()).to_text()
}
