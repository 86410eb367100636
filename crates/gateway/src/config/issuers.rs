//! `identity`: who vouches for agents, and how they prove what their tokens are bound to.

use std::time::Duration;

use identity::{
    AgentTemplate, Algorithm, CertificateConfig, DpopConfig, IssuerConfig, NonceRule, SpiffeConfig,
    Svid, SvidRule, Vouching, WitIssuerConfig,
};
use url::Url;

use super::clusters::{ClusterAsked, RawCluster};
use super::collection::NonEmpty;
use super::listen::Listen;
use super::mistake::{At, Notes};
use super::shape::{section, words};
use super::spiffe::RawSpiffe;
use super::tools::is_loopback;
use super::wimse::RawWitIssuer;

/// Who is believed.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Who vouches for agents, besides our own task tokens; no two of one issuer.
    pub issuers: Vec<IssuerConfig>,
    /// The SPIFFE trust domains whose SVIDs are believed; none unless given.
    pub spiffe: Option<SpiffeConfig>,
    /// The Kubernetes clusters whose service accounts are agents; no two of one issuer.
    pub clusters: Vec<ClusterAsked>,
    /// Who issues workload identity tokens; no two of one trust domain.
    pub wit_issuers: Vec<WitIssuerConfig>,
    /// What is asked of DPoP proofs.
    pub dpop: DpopConfig,
    /// How agents are known by their certificates; by none unless given.
    pub certificates: Option<CertificateConfig>,
}

/// Somebody that the tokens of an issuer speak for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spoken {
    Agents,
    Owners,
}

words! { Spoken { "agents" => Self::Agents, "owners" => Self::Owners } }

words! { NonceRule { "required" => Self::Required, "optional" => Self::Optional } }

words! {
    Algorithm {
        "ES256" => Self::ES256, "ES384" => Self::ES384, "EdDSA" => Self::EdDSA,
        "RS256" => Self::RS256, "RS384" => Self::RS384, "RS512" => Self::RS512,
        "PS256" => Self::PS256, "PS384" => Self::PS384, "PS512" => Self::PS512,
    }
}

section! {
    /// Who vouches for agents, besides the gateway's own task tokens.
    struct RawIdentity {
        /// OpenID issuers whose workload tokens are believed.
        issuers: Vec<At<RawIssuer>> = default([]);
        /// SPIFFE trust domains whose SVIDs are believed: ours, and those that it is federated with. The agent's id is the SPIFFE ID.
        spiffe: RawSpiffe = optional;
        /// Kubernetes clusters whose service accounts are agents: their API servers are asked whose a token is (`TokenReview`). A cluster that publishes its keys can be one of the `issuers` instead.
        clusters: Vec<At<RawCluster>> = default([]);
        /// The issuers of workload identity tokens (WIMSE), which agents send in `Workload-Identity-Token` with a proof in `Workload-Proof-Token`. One trust domain has one issuer, and is none of `spiffe.trust_domains`.
        wimse: Vec<At<RawWitIssuer>> = default([]);
        /// What is asked of the proofs that go with tokens that are bound to a key (DPoP, RFC 9449).
        dpop: RawDpop = default({});
        /// Makes a client certificate of `listen.tls.client_ca` a proof of identity: alone, or beside tokens that must name the same agent. X.509-SVIDs that `identity.spiffe` believes prove themselves. Unless given, a certificate only shows that a bound token is its sender's.
        certificates: RawCertificates = optional;
    }
}

section! {
    /// One OpenID issuer.
    struct RawIssuer {
        /// The `iss` of its tokens, and where discovery starts.
        issuer: Url = required;
        /// What must be among a token's `aud`.
        audience: String = required;
        /// The signature algorithms that are accepted.
        algorithms: NonEmpty<Algorithm> = default(["ES256"]);
        /// For whom its tokens speak: `agents`, which call tools; `owners`, on whose behalf agents open tasks by token exchange, and whose tokens call nothing; or both.
        vouches_for: NonEmpty<Spoken> = default(["agents"]);
        /// How the agent's id is made of claims.
        agent: AgentTemplate = default("{sub}");
        /// How an owner's name is made of claims, where it vouches for owners. An `email` whose `email_verified` is false names nobody.
        owner: AgentTemplate = default("{email}");
        /// Its key set, where discovery is not wanted.
        jwks_uri: Url = optional;
        /// The `typ` headers that are accepted, in lower case; `jwt`, `at+jwt` and none at all unless given.
        types: Vec<At<String>> = default([]);
    }
}

section! {
    /// Agents that are known by their certificates.
    struct RawCertificates {
        /// How the agent's id is made of `san_uri` or `san_dns` (the certificate's one name of that kind) or `subject`.
        agent: AgentTemplate = default("{san_uri}");
    }
}

section! {
    /// What is asked of DPoP proofs.
    struct RawDpop {
        /// Whether a proof must hold a nonce of this gateway. One is asked for in any case in the first seconds after a start.
        nonce: NonceRule = default("optional");
        /// The origins that agents know the gateway by, such as `https://remit.example`, where something in front ends TLS. Unless given, a proof's `htu` must have the host that the request names.
        origins: Vec<At<Url>> = default([]);
        /// How old a proof may be; at most `10m`.
        max_age: Duration = default("60s");
    }
}

/// Each proof is remembered for as long as it may be used.
const MAX_AGE: Duration = Duration::from_secs(600);

impl RawIdentity {
    /// Whether X.509-SVIDs get past the handshake of the listeners.
    pub(super) fn svids(&self) -> SvidRule {
        let takes = self
            .spiffe
            .as_ref()
            .is_some_and(|raw| raw.value.takes(Svid::X509));
        if takes {
            SvidRule::Taken
        } else {
            SvidRule::LikeOthers
        }
    }

    pub(super) fn parse(
        self,
        listen: Option<&Listen>,
        notes: &mut Notes,
    ) -> Option<IdentityConfig> {
        let dpop = self.dpop.and_then(|raw| raw.value.parse(notes));
        let takes_certificates = listen.is_none_or(Listen::takes_certificates);
        let certificates = self.certificates.map(|raw| {
            if !takes_certificates {
                let message = "no certificate is asked for without `listen.tls.client_ca`";
                notes.mistake(&raw.place, "no_client_ca", message);
            }
            raw.value.parse()
        });
        let spiffe = self.spiffe.map(|raw| raw.value.parse(listen, notes));
        let spiffe = match spiffe {
            Some(spiffe) => Some(spiffe?),
            None => None,
        };
        let issuers = issuers(self.issuers?.value, notes);
        Some(IdentityConfig {
            clusters: clusters(self.clusters?.value, &issuers, notes),
            wit_issuers: wit_issuers(self.wimse?.value, spiffe.as_ref(), notes),
            issuers,
            spiffe,
            dpop: dpop?,
            certificates: match certificates {
                Some(certificates) => Some(certificates?),
                None => None,
            },
        })
    }
}

/// The issuers, no two of one name.
fn issuers(raw: Vec<At<RawIssuer>>, notes: &mut Notes) -> Vec<IssuerConfig> {
    let mut issuers: Vec<IssuerConfig> = Vec::new();
    for issuer in raw {
        let Some(parsed) = issuer.value.parse(notes) else {
            continue;
        };
        if issuers.iter().any(|other| other.issuer == parsed.issuer) {
            let message = "this issuer is already there";
            notes.mistake(&issuer.place, "duplicate_issuer", message);
        }
        issuers.push(parsed);
    }
    issuers
}

/// The clusters, each of an issuer that is no other's.
fn clusters(
    raw: Vec<At<RawCluster>>,
    issuers: &[IssuerConfig],
    notes: &mut Notes,
) -> Vec<ClusterAsked> {
    let mut clusters: Vec<ClusterAsked> = Vec::new();
    for cluster in raw {
        let Some(parsed) = cluster.value.parse(notes) else {
            continue;
        };
        let name = &parsed.cluster.issuer;
        let mut others = clusters.iter().map(|other| &other.cluster.issuer);
        let is_issuer =
            Url::parse(name).is_ok_and(|url| issuers.iter().any(|issuer| issuer.issuer == url));
        if is_issuer || others.any(|other| other == name) {
            let message = "this issuer is already there";
            notes.mistake(&cluster.place, "duplicate_issuer", message);
        }
        clusters.push(parsed);
    }
    clusters
}

/// The issuers of workload identity tokens, each of a trust domain that nobody else vouches for.
fn wit_issuers(
    raw: Vec<At<RawWitIssuer>>,
    spiffe: Option<&SpiffeConfig>,
    notes: &mut Notes,
) -> Vec<WitIssuerConfig> {
    let spiffe = spiffe.map_or(&[][..], |spiffe| &spiffe.trust_domains);
    let mut issuers: Vec<WitIssuerConfig> = Vec::new();
    for issuer in raw {
        let Some(parsed) = issuer.value.parse(notes) else {
            continue;
        };
        let mut others = issuers.iter().map(|other| &other.trust_domain);
        let mut bundles = spiffe.iter().map(|domain| &domain.name);
        let name = &parsed.trust_domain;
        if others.any(|other| other == name) || bundles.any(|other| other == name) {
            let message = "somebody else vouches for this trust domain already";
            notes.mistake(&issuer.place, "duplicate_trust_domain", message);
        }
        issuers.push(parsed);
    }
    issuers
}

impl RawCertificates {
    fn parse(self) -> Option<CertificateConfig> {
        Some(CertificateConfig {
            agent: self.agent?.value,
        })
    }
}

impl RawDpop {
    fn parse(self, notes: &mut Notes) -> Option<DpopConfig> {
        let origins = self.origins?.value;
        for origin in &origins {
            if !is_origin(&origin.value) {
                let message = "an origin is `https://` or `http://`, a host and maybe a port";
                notes.mistake(&origin.place, "no_origin", message);
            }
        }
        let max_age = self.max_age?;
        if max_age.value > MAX_AGE || max_age.value < Duration::from_secs(1) {
            notes.mistake(&max_age.place, "wrong_value", "it is from `1s` to `10m`");
        }
        let origins = origins.iter().map(|origin| origin.value.origin());
        Some(DpopConfig {
            nonce: self.nonce?.value,
            origins: origins.collect(),
            max_age: max_age.value,
        })
    }
}

/// A URL of a config has a host and no user, and is of HTTP.
fn is_origin(url: &Url) -> bool {
    url.path() == "/" && url.query().is_none()
}

impl RawIssuer {
    fn parse(self, notes: &mut Notes) -> Option<IssuerConfig> {
        for url in [&self.issuer, &self.jwks_uri].into_iter().flatten() {
            if url.value.scheme() == "http" && !is_loopback(&url.value) {
                let message = "keys are fetched over `https://`; `http://` is for loopback";
                notes.mistake(&url.place, "plaintext_issuer", message);
            }
        }
        let types = self.types?.value;
        let mut kinds = types.iter().filter(|kind| {
            let kind = kind.value.to_ascii_lowercase();
            kind.strip_prefix("application/").unwrap_or(&kind) == "txntoken+jwt"
        });
        if let Some(kind) = kinds.next() {
            let message = "a transaction token authenticates nobody; `tasks.transaction_issuers` is for those";
            notes.mistake(&kind.place, "transaction_type", message);
        }
        let types = types.into_iter();
        let spoken = self.vouches_for?.value.0;
        let speaks = |whom| spoken.iter().any(|spoken| spoken.value == whom);
        let vouches_for = match (speaks(Spoken::Agents), speaks(Spoken::Owners)) {
            (true, true) => Vouching::Both,
            (false, true) => Vouching::Owners,
            _ => Vouching::Agents,
        };
        Some(IssuerConfig {
            issuer: self.issuer?.value,
            audience: self.audience?.value,
            algorithms: self
                .algorithms?
                .value
                .0
                .into_iter()
                .map(|at| at.value)
                .collect(),
            vouches_for,
            agent: self.agent?.value,
            owner: self.owner?.value,
            jwks_uri: self.jwks_uri.map(|url| url.value),
            types: types.map(|at| at.value.to_ascii_lowercase()).collect(),
        })
    }
}
