//! X.509-SVIDs: certificates that name a workload of a SPIFFE trust domain.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::spiffe_id::{TrustDomain, is_spiffe, workload};
use crate::{AgentId, Unauthenticated};

/// A chain that a client proved to be its own, whose first certificate means to be an X.509-SVID. Nobody vouches for
/// it yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Claimed {
    leaf: CertificateDer<'static>,
    others: Vec<CertificateDer<'static>>,
    /// Its SPIFFE ID, in order or not.
    subject: String,
}

/// What an X.509-SVID says, apart from who vouches for it.
#[derive(Debug)]
pub(crate) struct X509Svid<'c> {
    pub(crate) agent: AgentId,
    pub(crate) leaf: &'c CertificateDer<'static>,
    pub(crate) others: &'c [CertificateDer<'static>],
    /// When the first certificate of its chain expires, in seconds since the epoch.
    pub(crate) expires_at: i64,
}

impl Claimed {
    /// The chain, where its first certificate has a SPIFFE ID among its names.
    pub(crate) fn read(chain: &[CertificateDer<'_>], first: &X509Certificate<'_>) -> Option<Self> {
        let (leaf, others) = chain.split_first()?;
        Some(Self {
            subject: spiffe_id(first)?.to_owned(),
            leaf: leaf.clone().into_owned(),
            others: others
                .iter()
                .map(|other| other.clone().into_owned())
                .collect(),
        })
    }

    /// The trust domain it is of, whatever is wrong with the rest of it.
    pub(crate) fn trust_domain(&self) -> Option<TrustDomain> {
        TrustDomain::of(&self.subject)
    }

    /// Checks all that a certificate of a workload has to be (SPIFFE's X509-SVID, sections 2 to 5) but for signatures.
    pub(crate) fn check(&self) -> Result<X509Svid<'_>, Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        let first = parse(&self.leaf)?;
        if uris(&first).count() != 1 {
            return Err(invalid("its certificate has more than one URI"));
        }
        let agent = workload(&self.subject)?;
        if first.is_ca() {
            return Err(invalid("its certificate is that of an authority"));
        }
        let usage = first.key_usage().map_err(|_| malformed())?;
        let usage = usage.ok_or_else(|| invalid("its certificate has no key usage"))?;
        let may_sign = usage.value.key_cert_sign() || usage.value.crl_sign();
        if !usage.critical || !usage.value.digital_signature() || may_sign {
            return Err(invalid(
                "its certificate's key usage is not that of an SVID",
            ));
        }
        let mut expires_at = first.validity().not_after.timestamp();
        let domain = self.trust_domain();
        for other in &self.others {
            let other = parse(other)?;
            expires_at = expires_at.min(other.validity().not_after.timestamp());
            // An authority with a name has that of the trust domain it signs for (section 3.2).
            let name = spiffe_id(&other).map(|id| (id, TrustDomain::of(id)));
            if name.is_some_and(|(id, of)| of != domain || workload(id).is_ok()) {
                return Err(invalid("an authority in its chain has another SPIFFE ID"));
            }
        }
        Ok(X509Svid {
            agent,
            leaf: &self.leaf,
            others: &self.others,
            expires_at,
        })
    }
}

/// Whether a certificate means to be an X.509-SVID; `None` where it can't be read.
pub(crate) fn means_to_be(certificate: &CertificateDer<'_>) -> Option<bool> {
    let certificate = parse(certificate).ok()?;
    certificate.subject_alternative_name().ok()?;
    Some(spiffe_id(&certificate).is_some())
}

fn parse<'c>(certificate: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, Unauthenticated> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(malformed()),
    }
}

fn malformed() -> Unauthenticated {
    Unauthenticated::Invalid("a certificate in its chain is malformed")
}

/// The first of its URIs that means to be a SPIFFE ID.
fn spiffe_id<'c>(certificate: &'c X509Certificate<'_>) -> Option<&'c str> {
    uris(certificate).find(|uri| is_spiffe(uri))
}

fn uris<'c>(certificate: &'c X509Certificate<'_>) -> impl Iterator<Item = &'c str> {
    // Names that stand twice or are malformed are refused where the certificate is read.
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })
}
