//! Who asks?
//!
//! [`Identity::authenticate`] reads the proofs in a request head and answers with an [`Agent`].
//!
//! **Invariant.** An [`Agent`] is made in this crate and nowhere else. Whoever holds one holds the
//! proof that its caller was authenticated.

mod agent;
mod agent_id;
mod algorithm;
mod binding;
mod cache;
mod certificate;
mod clock;
mod confirmation;
mod crypto;
mod digest;
mod dpop;
mod fetch;
mod handover;
mod issuer;
mod key;
mod key_set;
mod key_source;
mod nonce;
mod owner;
mod presented;
mod proofs;
mod replay;
mod sender;
mod slot;
mod spiffe;
mod spiffe_id;
pub mod strict_json;
mod target;
mod task_tokens;
mod template;
mod transaction;
mod transaction_issuer;
mod transaction_tokens;
mod unauthenticated;
mod unverified;
mod verified;
mod workload_api;

use std::sync::Arc;

pub use self::spiffe::{BundleConfig, SpiffeConfig, TrustDomainConfig};
pub use agent::{Agent, Method};
pub use agent_id::{AgentId, InvalidAgentId};
pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use binding::{Binding, InvalidBinding};
pub use certificate::{Certificate, CertificateConfig, UnreadableCertificate};
pub use dpop::{DpopConfig, NonceRule};
pub use fetch::is_trustworthy;
pub use handover::Handover;
pub use issuer::{IssuerConfig, Vouching};
pub use owner::Owner;
pub use presented::{Presented, Transport};
pub use spiffe_id::{InvalidTrustDomain, TrustDomain};
pub use task_tokens::{InvalidKey, KeyKind, TaskClaims, TaskTokens};
pub use template::{AgentTemplate, InvalidTemplate};
pub use transaction::Transaction;
pub use transaction_issuer::TransactionIssuerConfig;
pub use transaction_tokens::TransactionClaims;
pub use unauthenticated::Unauthenticated;

use self::spiffe::Spiffe;
use cache::Cache;
use digest::Digest;
use dpop::{DPOP, Dpop};
use issuer::Issuer;
use key_source::Pace;
use proofs::Proofs;
use sender::Sender;
use transaction_issuer::TransactionIssuer;
use transaction_tokens::TXN_TOKEN;
use unverified::Unverified;
use verified::Verified;

/// Tells agents apart by the proofs they present.
#[derive(Debug)]
pub struct Identity {
    tokens: Arc<TaskTokens>,
    issuers: Vec<Arc<Issuer>>,
    transaction_issuers: Vec<TransactionIssuer>,
    spiffe: Spiffe,
    cache: Cache,
    dpop: Dpop,
    certificates: Option<CertificateConfig>,
}

/// What identity is made of, parsed.
#[derive(Debug)]
pub struct Config {
    /// The issuers whose workload tokens are believed; where two have the same `issuer`, the first counts.
    pub issuers: Vec<IssuerConfig>,
    /// The issuers whose transaction tokens are believed; where two have the same `issuer`, the first counts.
    pub transaction_issuers: Vec<TransactionIssuerConfig>,
    /// The SPIFFE trust domains whose JWT-SVIDs are believed; none unless given.
    pub spiffe: Option<SpiffeConfig>,
    /// Our own task tokens.
    pub tokens: Arc<TaskTokens>,
    /// What is asked of DPoP proofs.
    pub dpop: DpopConfig,
    /// How agents are known by their certificates; by none unless given.
    pub certificates: Option<CertificateConfig>,
}

impl Identity {
    /// Makes an identity; key sets of issuers that `previous` knew are kept (the last good ones).
    ///
    /// Nothing is fetched here: an issuer's keys are fetched when its first token comes. Verified
    /// tokens of `previous` are not kept, since what is expected of them may have changed.
    pub fn new(config: Config, previous: Option<&Self>) -> Self {
        Self::with_pace(config, previous, Pace::default())
    }

    fn with_pace(config: Config, previous: Option<&Self>, pace: Pace) -> Self {
        crypto::install();
        let mut known = previous.map_or_else(Vec::new, Self::known);
        let issuers = config.issuers.into_iter();
        let issuers = issuers.map(|issuer| Arc::new(Issuer::new(issuer, &known, pace)));
        let issuers: Vec<_> = issuers.collect();
        known.extend(issuers.iter().map(Arc::clone));
        let transacting = config.transaction_issuers.into_iter();
        let domains = previous.map(|previous| &previous.spiffe);
        let spiffe = config
            .spiffe
            .map(|spiffe| Spiffe::new(spiffe, domains, pace));
        Self {
            issuers,
            transaction_issuers: transacting
                .map(|issuer| TransactionIssuer::new(issuer, &known, pace))
                .collect(),
            spiffe: spiffe.unwrap_or_default(),
            tokens: config.tokens,
            cache: Cache::new(),
            certificates: config.certificates,
            dpop: Dpop::new(config.dpop, previous.map(|previous| &previous.dpop)),
        }
    }

    /// Finds the agent behind a request head.
    ///
    /// The proof slots are `Authorization` and `Proxy-Authorization` (`Bearer`, or the password of
    /// `Basic`), `x-api-key`, `api-key` and `x-goog-api-key`. A value is a proof if it is a compact
    /// JWT whose `iss` is ours or a configured issuer, or whose `sub` is a SPIFFE ID; anything else is the
    /// agent's key and is not looked at. A SPIFFE ID of a configured trust domain is for its bundle alone to
    /// vouch for, whatever the `iss`. Equal tokens are one proof. A task token beside a workload token must name the
    /// same agent.
    ///
    /// `Txn-Token` holds a transaction token of ours, or of an issuer that is configured for them: it tells which task a
    /// workload token or certificate works on, and proves nothing by itself.
    ///
    /// A token whose `cnf` binds it is worth nothing without what it is bound to: a key, shown by
    /// `Authorization: DPoP` and a proof in `DPoP` (RFC 9449), or a client certificate (RFC 8705).
    ///
    /// Where agents are known by their certificates, each that comes is a proof as well: the tokens beside
    /// it must name the same agent.
    ///
    /// # Errors
    /// [`Unauthenticated`], also if just one of several proofs is wrong.
    pub async fn authenticate(&self, presented: &Presented<'_>) -> Result<Agent, Unauthenticated> {
        let mut proofs = Proofs::default();
        let mut sender = Sender::new(presented, &self.dpop);
        if let Some(certificate) = self.certified(presented.transport)? {
            proofs.certify(certificate);
        }
        for (slot, value) in slot::filled(presented.headers) {
            let Some((scheme, token)) = slot.token(value) else {
                continue;
            };
            let Some(verified) = self.verify(&token).await? else {
                continue;
            };
            sender.confirm(scheme, &verified)?;
            proofs.add(slot, value, verified)?;
        }
        if let Some((value, verified)) = self.transaction(presented.headers).await? {
            proofs.transact(&TXN_TOKEN, value, verified);
        }
        if let Some(proof) = sender.proof() {
            proofs.show(&DPOP, proof);
        }
        proofs.agree()
    }

    /// Takes tokens that a request hands over in its body (RFC 8693 section 2.1). A DPoP proof in its head is used
    /// up by that (RFC 9449 section 5).
    ///
    /// # Errors
    /// [`Unauthenticated`] where such a proof is not in order.
    pub fn handover<'r>(
        &'r self,
        presented: &'r Presented<'r>,
    ) -> Result<Handover<'r>, Unauthenticated> {
        Handover::new(self, presented, &self.dpop)
    }

    /// Our own task tokens.
    pub fn tokens(&self) -> &Arc<TaskTokens> {
        &self.tokens
    }

    /// The agent of the client's certificate, where agents are known by them.
    fn certified(&self, transport: &Transport) -> Result<Option<Arc<Verified>>, Unauthenticated> {
        let (Some(config), Some(certificate)) = (&self.certificates, transport.certificate())
        else {
            return Ok(None);
        };
        if certificate.is_expired(clock::now()) {
            return Err(Unauthenticated::Expired);
        }
        if let Some(verified) = self.cache.find(certificate.thumbprint()) {
            return Ok(Some(verified));
        }
        let verified = Arc::new(certificate.agent(config)?);
        self.cache.keep(&verified);
        Ok(Some(verified))
    }

    /// Verifies a token, or answers `None` where it is no proof but the agent's key.
    async fn verify(&self, token: &str) -> Result<Option<Arc<Verified>>, Unauthenticated> {
        if !unverified::looks_compact(token) {
            return Ok(None);
        }
        if token.len() > unverified::MAX_TOKEN_BYTES {
            return Err(Unauthenticated::Invalid("it is longer than 16 KiB"));
        }
        let digest = Digest::of(token.as_bytes());
        if let Some(verified) = self.cache.find(&digest) {
            return Ok(Some(verified));
        }
        let Some(unverified) = Unverified::read(token) else {
            return Ok(None);
        };
        let verified = if unverified.issuer() == Some(self.tokens.issuer()) {
            self.tokens.verify(unverified, digest)?
        } else if let Some(domain) = self.spiffe.domain(&unverified) {
            domain.verify(unverified, digest).await?
        } else if let Some(issuer) = self.issuer(unverified.issuer()) {
            issuer.verify(unverified, digest).await?
        } else {
            spiffe::refuse_foreign(&unverified)?;
            return Ok(None);
        };
        let verified = Arc::new(verified);
        self.cache.keep(&verified);
        Ok(Some(verified))
    }

    /// All that have keys.
    fn known(&self) -> Vec<Arc<Issuer>> {
        let transacting = self.transaction_issuers.iter();
        let transacting = transacting.map(TransactionIssuer::issuer);
        self.issuers.iter().chain(transacting).cloned().collect()
    }

    fn issuer(&self, name: Option<&str>) -> Option<&Arc<Issuer>> {
        let name = name?;
        self.issuers.iter().find(|issuer| issuer.is_named(name))
    }
}

#[cfg(test)]
mod tests;
