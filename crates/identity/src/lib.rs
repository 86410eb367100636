//! Who asks?
//!
//! [`Identity::authenticate`] reads the proofs in a request head and answers with an [`Agent`].
//!
//! **Invariant.** An [`Agent`] is made in this crate and nowhere else. Whoever holds one holds the
//! proof that its caller was authenticated.

mod agent;
mod agent_id;
mod algorithm;
mod assertion;
mod authorities;
mod binding;
mod cache;
mod certificate;
mod client_trust;
mod clock;
mod confirmation;
mod crypto;
mod digest;
mod dpop;
mod fetch;
mod handover;
mod issuer;
mod key;
mod key_look;
mod key_set;
mod key_source;
mod nonce;
mod own_certificate;
mod owner;
mod presented;
mod proofs;
mod replay;
mod security_events;
mod sender;
mod slot;
mod spiffe;
mod spiffe_id;
pub mod strict_json;
mod target;
mod task_tokens;
mod template;
mod token_review;
mod transaction;
mod transaction_issuer;
mod transaction_tokens;
mod unauthenticated;
mod unverified;
mod verified;
mod wimse;
mod workload_api;
mod x509_svid;

use std::sync::Arc;

pub use self::spiffe::{BundleConfig, SpiffeConfig, Svid, TrustDomainConfig};
pub use agent::{Agent, Method};
pub use agent_id::{AgentId, InvalidAgentId};
pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use assertion::{Assertion, SigningKey};
pub use binding::{Binding, InvalidBinding};
pub use certificate::{Certificate, CertificateConfig, UnreadableCertificate};
pub use client_trust::{CertificateRule, ClientTrust, InvalidAuthorities, SvidRule};
pub use crypto::install as install_crypto;
pub use dpop::{DpopConfig, NonceRule};
pub use fetch::is_trustworthy;
pub use handover::Handover;
pub use issuer::{IssuerConfig, Vouching};
pub use key_look::{KeyLook, UnknownLook};
pub use own_certificate::{NoCertificate, OwnCertificate};
pub use owner::Owner;
pub use presented::{Presented, Transport};
pub use security_events::{
    EventSubject, InvalidSet, SecurityEvents, Transmitter, TransmitterConfig,
};
pub use spiffe_id::{InvalidTrustDomain, TrustDomain};
pub use task_tokens::{InvalidKey, KeyKind, TaskClaims, TaskTokens};
pub use template::{AgentTemplate, InvalidTemplate};
pub use token_review::ClusterConfig;
pub use transaction::Transaction;
pub use transaction_issuer::TransactionIssuerConfig;
pub use transaction_tokens::TransactionClaims;
pub use unauthenticated::Unauthenticated;
pub use wimse::WitIssuerConfig;

use self::spiffe::Spiffe;
use cache::{Cache, Place};
use digest::Digest;
use dpop::{DPOP, Dpop};
use issuer::Issuer;
use key_source::Pace;
use proofs::Proofs;
use sender::Sender;
use slot::Slot;
use token_review::Cluster;
use transaction_issuer::TransactionIssuer;
use transaction_tokens::TXN_TOKEN;
use unverified::Unverified;
use verified::{Verified, Voucher};
use wimse::{Beside, WORKLOAD_IDENTITY_TOKEN, WORKLOAD_PROOF_TOKEN, Wimse};

/// Tells agents apart by the proofs they present.
#[derive(Debug)]
pub struct Identity {
    tokens: Arc<TaskTokens>,
    issuers: Vec<Arc<Issuer>>,
    transaction_issuers: Vec<TransactionIssuer>,
    spiffe: Spiffe,
    clusters: Vec<Cluster>,
    wimse: Wimse,
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
    /// The SPIFFE trust domains whose SVIDs are believed; none unless given.
    pub spiffe: Option<SpiffeConfig>,
    /// The Kubernetes clusters whose service accounts are agents; no two of one `issuer`.
    pub clusters: Vec<ClusterConfig>,
    /// Who issues workload identity tokens; no two of one trust domain.
    pub wit_issuers: Vec<WitIssuerConfig>,
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
            clusters: config.clusters.into_iter().map(Cluster::new).collect(),
            wimse: Wimse::new(
                config.wit_issuers,
                previous.map(|previous| &previous.wimse),
                pace,
            ),
            tokens: config.tokens,
            cache: Cache::new(),
            certificates: config.certificates,
            dpop: Dpop::new(config.dpop, previous.map(|previous| &previous.dpop)),
        }
    }

    /// Finds the agent behind a request head.
    ///
    /// The proof slots are `Authorization` and `Proxy-Authorization` (`Bearer`, or the password of
    /// `Basic`), `x-api-key`, `api-key`, `x-goog-api-key` and `x-amz-security-token`, the last in a presigned URL
    /// too. A task token may look like another API's key ([`KeyLook`]) there, and stand after `token`, as GitHub
    /// has it. A value is a proof if it is a compact
    /// JWT whose `iss` is ours or a configured issuer, or whose `sub` is a SPIFFE ID; anything else is the
    /// agent's key and is not looked at. A SPIFFE ID of a configured trust domain is for its bundle alone to
    /// vouch for, whatever the `iss`. Equal tokens are one proof. A task token beside a workload token must name the
    /// same agent.
    ///
    /// `Workload-Identity-Token` holds a workload identity token, if one, and `Workload-Proof-Token` the proof by its key,
    /// which must cover every token beside it.
    ///
    /// `Txn-Token` holds a transaction token of ours, or of an issuer that is configured for them: it tells which task a
    /// workload token or certificate works on, and proves nothing by itself.
    ///
    /// A token whose `cnf` binds it is worth nothing without what it is bound to: a key, shown by
    /// `Authorization: DPoP` and a proof in `DPoP` (RFC 9449), or a client certificate (RFC 8705).
    ///
    /// A certificate with a SPIFFE ID is a proof where X.509-SVIDs are believed, for the bundle of its trust domain alone
    /// to vouch for. Where agents are known by their certificates, each other one that comes is a proof as well. The
    /// tokens beside it must name the same agent.
    ///
    /// # Errors
    /// [`Unauthenticated`], also if just one of several proofs is wrong.
    pub async fn authenticate(&self, presented: &Presented<'_>) -> Result<Agent, Unauthenticated> {
        let mut proofs = Proofs::default();
        let mut sender = Sender::new(presented, &self.dpop);
        if let Some(certificate) = self.certified(presented.transport).await? {
            proofs.certify(certificate);
        }
        let mut beside = Vec::new();
        let is_covered = presented.headers.contains_key(&WORKLOAD_IDENTITY_TOKEN);
        let in_query = presented.query_token.map(http::HeaderValue::from_str);
        let in_query = in_query.and_then(Result::ok);
        let in_query = in_query
            .iter()
            .map(|value| (Slot::XAmzSecurityToken, value, None));
        let in_headers = slot::filled(presented.headers);
        let in_headers = in_headers.map(|(slot, value)| (slot, value, Some(slot)));
        for (slot, value, header) in in_headers.chain(in_query) {
            let Some((scheme, token)) = slot.token(value) else {
                continue;
            };
            let undressed = key_look::undress(&token);
            let Some(verified) = self.verify(undressed.unwrap_or(&token)).await? else {
                continue;
            };
            if undressed.is_some() && verified.method() != Method::TaskToken {
                continue;
            }
            sender.confirm(scheme, &verified)?;
            if is_covered {
                let digest = verified.digest;
                beside.push(Beside { header, digest });
            }
            proofs.add(slot, value, verified)?;
        }
        if let Some((value, verified)) = self.transaction(presented.headers).await? {
            proofs.transact(&TXN_TOKEN, value, verified);
        }
        if let Some(wit) = self.wimse.token(presented.headers, &self.cache).await? {
            let origins = self.dpop.origins();
            let proof = self.wimse.prove(&wit, presented, origins, &beside)?;
            let places = [
                (&WORKLOAD_IDENTITY_TOKEN, wit.value),
                (&WORKLOAD_PROOF_TOKEN, proof),
            ];
            proofs.identify(wit.verified, places);
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
    async fn certified(
        &self,
        transport: &Transport,
    ) -> Result<Option<Arc<Verified>>, Unauthenticated> {
        let Some(certificate) = transport.certificate() else {
            return Ok(None);
        };
        let svid = certificate.svid();
        if svid.is_none() && self.certificates.is_none() {
            return Ok(None);
        }
        if certificate.is_expired(clock::now()) {
            return Err(Unauthenticated::Expired);
        }
        if let Some(verified) = self
            .cache
            .find(Place::Certificate, certificate.thumbprint())
        {
            return Ok(Some(verified));
        }
        let verified = match (svid, &self.certificates) {
            (Some(claimed), _) => self.spiffe.verify_certificate(certificate, claimed).await?,
            (None, Some(config)) => certificate.agent(config)?,
            (None, None) => return Ok(None),
        };
        let verified = Arc::new(verified);
        self.check_name(&verified)?;
        self.cache.keep(Place::Certificate, &verified);
        Ok(Some(verified))
    }

    /// Verifies a token, or answers `None` where it is no proof but the agent's key.
    async fn verify(&self, token: &str) -> Result<Option<Arc<Verified>>, Unauthenticated> {
        let is_compact = unverified::looks_compact(token);
        let opaque = self
            .clusters
            .iter()
            .find(|cluster| !is_compact && cluster.is_opaque(token));
        if !is_compact && opaque.is_none() {
            return Ok(None);
        }
        if token.len() > unverified::MAX_TOKEN_BYTES {
            return Err(Unauthenticated::Invalid("it is longer than 16 KiB"));
        }
        let digest = Digest::of(token.as_bytes());
        if let Some(verified) = self.cache.find(Place::Slot, &digest) {
            return Ok(Some(verified));
        }
        let verified = match opaque {
            Some(cluster) => Some(cluster.verify_opaque(token, digest).await?),
            None => self.verify_jwt(token, digest).await?,
        };
        if let Some(verified) = &verified {
            self.check_name(verified)?;
            self.cache.keep(Place::Slot, verified);
        }
        Ok(verified)
    }

    /// The workloads of a trust domain are named by whoever vouches for it alone, whatever a template makes of claims.
    fn check_name(&self, verified: &Verified) -> Result<(), Unauthenticated> {
        let agent = verified.agent.as_str();
        let is_foreign = match &verified.voucher {
            Voucher::Issuer { .. } | Voucher::Cluster => {
                self.spiffe.names(agent) || self.wimse.names(agent)
            }
            Voucher::Certificate => self.wimse.names(agent),
            Voucher::Ourselves
            | Voucher::Transaction { .. }
            | Voucher::WitIssuer { .. }
            | Voucher::TrustDomain { .. } => false,
        };
        if is_foreign {
            let problem = "it names a workload of a trust domain that others vouch for";
            return Err(Unauthenticated::Invalid(problem));
        }
        Ok(())
    }

    async fn verify_jwt(
        &self,
        token: &str,
        digest: Digest,
    ) -> Result<Option<Arc<Verified>>, Unauthenticated> {
        let Some(unverified) = Unverified::read(token) else {
            return Ok(None);
        };
        let verified = if unverified.issuer() == Some(self.tokens.issuer()) {
            self.tokens.verify(unverified, digest)?
        } else if let Some(domain) = self.spiffe.domain(&unverified) {
            domain.verify(unverified, digest).await?
        } else if let Some(cluster) = self.cluster(unverified.issuer()) {
            return cluster.verify(token, &unverified, digest).await.map(Some);
        } else if let Some(issuer) = self.issuer(unverified.issuer()) {
            issuer.verify(unverified, digest).await?
        } else {
            spiffe::refuse_foreign(&unverified)?;
            return Ok(None);
        };
        Ok(Some(Arc::new(verified)))
    }

    fn cluster(&self, name: Option<&str>) -> Option<&Cluster> {
        let name = name?;
        self.clusters.iter().find(|cluster| cluster.is_named(name))
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
