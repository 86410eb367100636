//! Transaction tokens: what tells which task a workload works on.
//!
//! draft-ietf-oauth-transaction-tokens-10. One is no credential: it is taken in `Txn-Token`, beside a workload
//! credential that names the same agent.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use std::sync::Arc;

use crate::cache::Place;
use crate::digest::Digest;
use crate::task_tokens::{InvalidKey, TaskTokens, actors};
use crate::unverified::{MAX_TOKEN_BYTES, Unverified, looks_compact};
use crate::verified::Verified;
use crate::{AgentId, Identity, Unauthenticated, clock};

/// Carries the token; `Authorization` must not.
pub(crate) static TXN_TOKEN: HeaderName = HeaderName::from_static("txn-token");

/// The `typ` of a transaction token, without `application/`.
pub(crate) const KIND: &str = "txntoken+jwt";

/// What a transaction token says.
#[derive(Clone, Debug)]
pub struct TransactionClaims {
    /// The task (`txn`).
    pub txn: String,
    /// The task's owner (`sub`).
    pub owner: String,
    /// The agent (`act.sub` and `req_wl`).
    pub agent: AgentId,
    /// The agents that delegated the task to it, the first of all first.
    pub chain: Vec<String>,
    /// Space separated scope.
    pub scope: String,
    /// What never changes of the transaction (`tctx`).
    pub details: Map<String, Value>,
    /// Where the request comes from (`rctx`).
    pub context: Map<String, Value>,
    /// Seconds since the epoch.
    pub expires_at: i64,
}

impl TaskTokens {
    /// Signs a transaction token. Its trust domain (`aud`) is what goes by the gateway's issuer.
    ///
    /// # Errors
    /// Where the key can't sign.
    pub fn mint_transaction(&self, claims: &TransactionClaims) -> Result<String, InvalidKey> {
        let mut all = Map::new();
        let mut put = |name: &str, value| all.insert(name.to_owned(), value);
        put("iss", json!(self.issuer()));
        put("aud", json!(self.issuer()));
        put("iat", json!(clock::now()));
        put("exp", json!(claims.expires_at));
        put("txn", json!(claims.txn));
        put("sub", json!(claims.owner));
        put("act", actors(&claims.agent, &claims.chain));
        put("req_wl", json!(claims.agent.as_str()));
        put("scope", json!(claims.scope));
        for (name, value) in [("tctx", &claims.details), ("rctx", &claims.context)] {
            if !value.is_empty() {
                put(name, json!(value));
            }
        }
        self.sign(KIND, &all)
    }
}

impl Identity {
    /// The transaction token of a request head, if it has one of ours or of an issuer that is configured for them; others
    /// are the agent's.
    pub(crate) async fn transaction<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<(&'h HeaderValue, Arc<Verified>)>, Unauthenticated> {
        let mut values = headers.get_all(&TXN_TOKEN).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            let problem = "there is more than one transaction token";
            return Err(Unauthenticated::Invalid(problem));
        }
        let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
        if !looks_compact(text) {
            return Ok(None);
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(Unauthenticated::Invalid("it is longer than 16 KiB"));
        }
        let digest = Digest::of(text.as_bytes());
        if let Some(verified) = self.cache.find(Place::Transaction, &digest) {
            return Ok(Some((value, verified)));
        }
        let Some(unverified) = Unverified::read(text) else {
            return Ok(None);
        };
        let name = unverified.issuer().unwrap_or_default();
        let verified = if name == self.tokens.issuer() {
            self.tokens.verify_transaction(unverified, digest)?
        } else {
            let mut issuers = self.transaction_issuers.iter();
            let Some(issuer) = issuers.find(|issuer| issuer.issuer().is_named(name)) else {
                return Ok(None);
            };
            issuer.verify(unverified, digest).await?
        };
        let verified = Arc::new(verified);
        self.cache.keep(Place::Transaction, &verified);
        Ok(Some((value, verified)))
    }
}
