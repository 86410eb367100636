//! Workloads of SPIFFE trust domains, by their SVIDs.
//!
//! **Invariant.** A trust domain is believed if it is configured, and by the keys of its own bundle alone.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use url::Url;

use crate::confirmation::Confirmation;
use crate::digest::Digest;
use crate::key_set::KeySet;
use crate::key_source::{KeySource, NoKey, Pace};
use crate::spiffe_id::{TrustDomain, is_spiffe, workload};
use crate::unverified::{Expected, Unverified};
use crate::verified::{Verified, Voucher, issued_at};
use crate::x509_svid::Claimed;
use crate::{Algorithm, Certificate, Unauthenticated, clock};

/// The trust domains whose SVIDs are believed.
#[derive(Clone, Debug)]
pub struct SpiffeConfig {
    /// The `aud` that must be among a JWT-SVID's.
    pub audience: String,
    /// The kinds of SVID that are believed.
    pub svids: Vec<Svid>,
    /// Ours, and those that it is federated with; no two of one name.
    pub trust_domains: Vec<TrustDomainConfig>,
}

/// A kind of SVID.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Svid {
    /// A token.
    Jwt,
    /// A client certificate.
    X509,
}

/// One trust domain whose SVIDs are believed.
#[derive(Clone, Debug)]
pub struct TrustDomainConfig {
    /// Its name.
    pub name: TrustDomain,
    /// Where its keys are.
    pub bundle: BundleConfig,
}

/// Where the bundle of a trust domain is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BundleConfig {
    /// In a file.
    File(PathBuf),
    /// At a bundle endpoint of the `https_web` profile (SPIFFE Federation, 5.2.1), over `https` or from loopback.
    Endpoint(Url),
    /// The Workload API at this Unix socket gives it.
    WorkloadApi(PathBuf),
}

/// The parameters that the header of a JWT-SVID may have (JWT-SVID, section 2).
const PARAMETERS: [&str; 3] = ["alg", "kid", "typ"];

/// The values of `typ` that it may have (JWT-SVID, section 2.3).
const TYPES: [&str; 2] = ["JWT", "JOSE"];

/// The trust domains that are believed, with their keys.
#[derive(Debug, Default)]
pub(crate) struct Spiffe {
    domains: Vec<Arc<Domain>>,
}

/// A trust domain with its keys.
#[derive(Debug)]
pub(crate) struct Domain {
    name: TrustDomain,
    audience: String,
    svids: Vec<Svid>,
    /// For JWT-SVIDs.
    keys: Arc<KeySource>,
    /// For X.509-SVIDs; the same, unless the Workload API gives both.
    authorities: Arc<KeySource>,
}

impl Spiffe {
    /// Makes the trust domains, with the keys of those in `known` whose bundles are at the same place.
    pub(crate) fn new(config: SpiffeConfig, known: Option<&Self>, pace: Pace) -> Self {
        let known = known.map_or(&[][..], |known| &known.domains);
        let SpiffeConfig {
            audience, svids, ..
        } = config;
        let domains = config.trust_domains.into_iter();
        let domain = |TrustDomainConfig { name, bundle }| {
            let source = |svid| {
                let sources = known
                    .iter()
                    .flat_map(|domain| [&domain.keys, &domain.authorities]);
                let mut same = sources.filter(|keys| keys.is_for_bundle(&name, &bundle, svid));
                same.next().map(Arc::clone)
            };
            let made = |svid| Arc::new(KeySource::of_bundle(&name, &bundle, svid, pace));
            let keys = source(Svid::Jwt).unwrap_or_else(|| made(Svid::Jwt));
            let authorities = if keys.is_for_bundle(&name, &bundle, Svid::X509) {
                Arc::clone(&keys)
            } else {
                source(Svid::X509).unwrap_or_else(|| made(Svid::X509))
            };
            Arc::new(Domain {
                name,
                audience: audience.clone(),
                svids: svids.clone(),
                keys,
                authorities,
            })
        };
        Self {
            domains: domains.map(domain).collect(),
        }
    }

    /// Whether an agent is a workload of one of these trust domains.
    pub(crate) fn names(&self, agent: &str) -> bool {
        let name = TrustDomain::of(agent);
        name.is_some_and(|name| self.named(&name).is_some())
    }

    /// The trust domain of a token, where it is one of these.
    pub(crate) fn domain(&self, token: &Unverified<'_>) -> Option<&Arc<Domain>> {
        let name = TrustDomain::of(token.subject()?)?;
        self.named(&name)
    }

    /// Verifies a certificate that means to be an X.509-SVID.
    pub(crate) async fn verify_certificate(
        &self,
        certificate: &Certificate,
        claimed: &Claimed,
    ) -> Result<Verified, Unauthenticated> {
        let Some(name) = claimed.trust_domain() else {
            let problem = "its certificate has no SPIFFE ID of a workload";
            return Err(Unauthenticated::Invalid(problem));
        };
        let Some(domain) = self.named(&name) else {
            return Err(Unauthenticated::UnknownTrustDomain(name.to_string()));
        };
        domain.verify_certificate(certificate, claimed).await
    }

    fn named(&self, name: &TrustDomain) -> Option<&Arc<Domain>> {
        self.domains.iter().find(|domain| domain.name == *name)
    }
}

/// Refuses a token about a SPIFFE ID that nobody here can vouch for.
///
/// It means to tell who its bearer is, so it is not taken for a key that the agent happens to hold.
pub(crate) fn refuse_foreign(token: &Unverified<'_>) -> Result<(), Unauthenticated> {
    let Some(subject) = token.subject().filter(|subject| is_spiffe(subject)) else {
        return Ok(());
    };
    Err(match TrustDomain::of(subject) {
        Some(domain) => Unauthenticated::UnknownTrustDomain(domain.to_string()),
        None => Unauthenticated::Invalid("its `sub` is no SPIFFE ID of a workload"),
    })
}

impl Domain {
    /// Verifies a token about a workload of this trust domain.
    pub(crate) async fn verify(
        &self,
        token: Unverified<'_>,
        digest: Digest,
    ) -> Result<Verified, Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        self.takes(Svid::Jwt)?;
        let agent = workload(token.subject().unwrap_or_default())?;
        let parameters = token.parameters()?;
        if parameters
            .keys()
            .any(|name| !PARAMETERS.contains(&name.as_str()))
        {
            return Err(invalid("its header has a parameter that is not allowed"));
        }
        if let Some(kind) = parameters.get("typ")
            && !TYPES.iter().any(|accepted| kind == accepted)
        {
            return Err(invalid("its `typ` is not accepted"));
        }
        let header = token.header()?;
        if !is_allowed(header.algorithm) {
            return Err(invalid("its signature algorithm is not allowed"));
        }
        let found = self
            .keys
            .find(header.key_id.as_deref(), header.algorithm)
            .await;
        let (keys, key) = found.map_err(|missing| match missing {
            NoKey::Unknown => invalid("it was signed by a key that is not in its bundle"),
            NoKey::Unavailable => Unauthenticated::KeysUnavailable(self.name.id()),
        })?;
        let expected = Expected {
            algorithm: header.algorithm,
            key: &key,
            audience: Some(&self.audience),
            now: clock::now(),
        };
        let checked = token.check_as_of(self.name.id(), &expected)?;
        Ok(Verified {
            digest,
            issued_at: Some(issued_at(&checked.claims)),
            confirmations: Confirmation::all(&checked.claims)?,
            agent,
            issuer: checked.issuer,
            claims: checked.claims,
            expires_at: checked.expires_at,
            voucher: Voucher::TrustDomain {
                svid: Svid::Jwt,
                source: Arc::clone(&self.keys),
                keys,
            },
            prepared: OnceLock::new(),
        })
    }

    /// Verifies a certificate about a workload of this trust domain.
    async fn verify_certificate(
        &self,
        certificate: &Certificate,
        claimed: &Claimed,
    ) -> Result<Verified, Unauthenticated> {
        self.takes(Svid::X509)?;
        let svid = claimed.check()?;
        let now = clock::now();
        if svid.expires_at < now {
            return Err(Unauthenticated::Expired);
        }
        let vouched = |keys: &KeySet| {
            let authorities = keys.authorities();
            authorities
                .signed(svid.leaf, svid.others, now)
                .then_some(())
        };
        let found = self.authorities.look(vouched).await;
        let (keys, ()) = found.map_err(|missing| match missing {
            NoKey::Unknown => Unauthenticated::Invalid(
                "its certificate is not of an authority of its trust domain, or not valid yet",
            ),
            NoKey::Unavailable => Unauthenticated::KeysUnavailable(self.name.id()),
        })?;
        Ok(Verified {
            digest: *certificate.thumbprint(),
            issued_at: None,
            confirmations: Vec::new(),
            agent: svid.agent,
            issuer: self.name.id(),
            claims: certificate.claims().clone(),
            expires_at: svid.expires_at,
            voucher: Voucher::TrustDomain {
                svid: Svid::X509,
                source: Arc::clone(&self.authorities),
                keys,
            },
            prepared: OnceLock::new(),
        })
    }

    fn takes(&self, svid: Svid) -> Result<(), Unauthenticated> {
        if self.svids.contains(&svid) {
            return Ok(());
        }
        Err(Unauthenticated::Invalid(match svid {
            Svid::Jwt => "JWT-SVIDs are not taken here",
            Svid::X509 => "X.509-SVIDs are not taken here",
        }))
    }
}

/// The algorithms of JWT-SVIDs (JWT-SVID, section 2.1), but for ES512, which there is no implementation of here.
fn is_allowed(algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match algorithm {
        ES256 | ES384 | RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => true,
        EdDSA => false,
    }
}
