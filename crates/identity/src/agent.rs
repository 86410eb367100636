//! An authenticated workload, and how it proved itself.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::slot::Slot;
use crate::verified::Verified;
use crate::{AgentId, Transaction};

/// An authenticated workload.
///
/// Where it brought several proofs, its workload identity token, or else its workload token, or else its certificate,
/// tells who it is (`method`, `issuer`, `claims`) and the task token what for (`txn`, `jti`).
///
/// An agent can't be forged:
/// ```compile_fail,E0451
/// fn forged(agent: identity::Agent) -> identity::Agent {
///     identity::Agent { ..agent }
/// }
/// ```
/// nor be used twice:
/// ```compile_fail,E0599
/// fn twice(agent: identity::Agent) -> (identity::Agent, identity::Agent) {
///     (agent.clone(), agent)
/// }
/// ```
#[must_use]
pub struct Agent {
    proof: Arc<Verified>,
    /// Those that say the same.
    others: [Option<Arc<Verified>>; 2],
    task: Option<Arc<Verified>>,
    transaction: Option<Arc<Verified>>,
    places: Vec<(&'static HeaderName, HeaderValue)>,
}

impl Agent {
    /// `proof` tells who the agent is, `task` is its task token or transaction token, `places` are the headers where both,
    /// and what they are bound to, were found.
    pub(crate) fn new(
        proof: Arc<Verified>,
        task: Option<Arc<Verified>>,
        places: Vec<(&'static HeaderName, HeaderValue)>,
    ) -> Self {
        Self {
            proof,
            others: [None, None],
            task,
            transaction: None,
            places,
        }
    }

    /// Adds the proofs that name it besides.
    pub(crate) fn with_others(self, others: [Option<Arc<Verified>>; 2]) -> Self {
        Self { others, ..self }
    }

    /// Adds the transaction token that another issuer gave it.
    pub(crate) fn with_transaction(self, transaction: Option<Arc<Verified>>) -> Self {
        Self {
            transaction,
            ..self
        }
    }

    /// The name the agent goes by.
    pub fn id(&self) -> &AgentId {
        &self.proof.agent
    }

    /// How it proved itself.
    pub fn method(&self) -> Method {
        self.proof.method()
    }

    /// Who vouches for it: the `iss` of its proof, its SPIFFE trust domain, or the issuer of its certificate.
    pub fn issuer(&self) -> &str {
        &self.proof.issuer
    }

    /// The issuers of all that it showed: who vouches for it first, then those of its other proofs, of its task token and of
    /// its transaction. One may stand there twice.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        let others = self.shown().map(|other| &*other.issuer);
        let others = others.filter(|issuer| *issuer != self.proof.issuer);
        std::iter::once(&*self.proof.issuer).chain(others)
    }

    /// When the oldest of the tokens was issued that it showed, in seconds since the epoch; long ago where one does not tell.
    /// None where it showed no token of an issuer.
    pub fn issued_at(&self) -> Option<i64> {
        let issued_at = self.shown().filter_map(|shown| shown.issued_at);
        issued_at.chain(self.proof.issued_at).min()
    }

    /// What it showed besides the proof that tells who it is.
    fn shown(&self) -> impl Iterator<Item = &Arc<Verified>> {
        let others = self.others.iter().flatten();
        others.chain(&self.task).chain(&self.transaction)
    }

    /// Who vouches for it besides this gateway itself.
    pub fn voucher(&self) -> Option<&str> {
        (self.method() != Method::TaskToken).then(|| self.issuer())
    }

    /// The verified claims of its proof; of a certificate its `subject`, `san_uri`, `san_dns`.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.proof.claims
    }

    /// A form of id, method, issuer and claims that a caller wants to prepare once per token, such as its
    /// policy engine's own value of them. There is one place, for one type: whoever comes second with
    /// another type gets None.
    pub fn prepared<T: Any + Send + Sync>(&self, prepare: impl FnOnce(&Self) -> T) -> Option<&T> {
        self.proof
            .prepared
            .get_or_init(|| Box::new(prepare(self)))
            .downcast_ref()
    }

    /// The task its task token or transaction token was minted for (`txn`), if it brought one.
    pub fn txn(&self) -> Option<&str> {
        self.task.as_ref()?.claims.get("txn")?.as_str()
    }

    /// What it works on as another issuer's transaction token has it. Then there is no [`Self::txn`].
    pub fn transaction(&self) -> Option<Transaction<'_>> {
        Transaction::of(self.transaction.as_deref()?)
    }

    /// The `jti` of its task token.
    pub fn jti(&self) -> Option<&str> {
        self.task.as_ref()?.claims.get("jti")?.as_str()
    }

    /// A token of this issuer that it showed, to be exchanged there for another one. None that is bound to a key, which
    /// nobody else can show, and none of this gateway.
    ///
    /// Whoever has it can be the agent, here and there: it goes to its own issuer alone.
    pub fn token_of(&self, issuer: &str) -> Option<Zeroizing<String>> {
        let same = |one: &str| one.trim_end_matches('/') == issuer.trim_end_matches('/');
        let mut shown = std::iter::once(&self.proof).chain(self.shown());
        let wanted = shown.find(|shown| shown.is_exchangeable() && same(&shown.issuer))?;
        let token = |(name, value): &(&'static HeaderName, HeaderValue)| {
            let token = match Slot::of(name.as_str()) {
                Some(slot) => slot.token(value)?.1.into_owned(),
                None => value.to_str().ok()?.to_owned(),
            };
            let token = Zeroizing::new(token);
            (Digest::of(token.as_bytes()) == wanted.digest).then_some(token)
        };
        self.places.iter().find_map(token)
    }

    /// Whether this header value is where a proof was found. Such a value comes off, and is not an agent's key.
    pub fn presented(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        self.places
            .iter()
            .any(|(place, found)| *place == name && found == value)
    }
}

// By hand, since the values in `places` are bearer tokens.
impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("id", &self.id().as_str())
            .field("method", &self.method())
            .field("issuer", &self.issuer())
            .field("txn", &self.txn())
            .finish_non_exhaustive()
    }
}

/// How an agent proved itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// A task token of ours.
    TaskToken,
    /// A JWT of a configured issuer.
    Jwt,
    /// A JWT-SVID of a configured SPIFFE trust domain.
    JwtSvid,
    /// A service account's token, by a Kubernetes cluster that was asked (`TokenReview`).
    TokenReview,
    /// A workload identity token, with a proof by the key that it is bound to (WIMSE).
    Wimse,
    /// An X.509-SVID of a configured SPIFFE trust domain: a client certificate of mutual TLS.
    X509Svid,
    /// Another client certificate of mutual TLS.
    Mtls,
}

impl Method {
    /// The name in policy input and telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskToken => "task_token",
            Self::Jwt => "jwt",
            Self::JwtSvid => "jwt_svid",
            Self::TokenReview => "token_review",
            Self::Wimse => "wimse",
            Self::X509Svid => "x509_svid",
            Self::Mtls => "mtls",
        }
    }
}
