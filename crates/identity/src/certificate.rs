//! The certificate of a client, as its TLS handshake proved it.

use std::sync::OnceLock;

use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::confirmation::Confirmation;
use crate::digest::Digest;
use crate::verified::{Verified, Voucher};
use crate::x509_svid::Claimed;
use crate::{AgentTemplate, Unauthenticated};

/// The certificate that a client proved to be its own: by an authority that the listener trusts, unless it means to be
/// an X.509-SVID.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// `x5t#S256` (RFC 8705 section 3.1).
    thumbprint: Digest,
    /// Its issuer's name.
    issuer: String,
    /// What it says of its subject.
    claims: Map<String, Value>,
    /// Seconds since the epoch.
    expires_at: i64,
    /// Its chain, where only a SPIFFE bundle can vouch for it.
    svid: Option<Claimed>,
}

/// How an agent is known by its certificate.
#[derive(Clone, Debug)]
pub struct CertificateConfig {
    /// How the agent id is made of `san_uri`, `san_dns`, `subject`.
    pub agent: AgentTemplate,
}

/// A certificate that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("client certificate can't be read: {0}")]
pub struct UnreadableCertificate(&'static str);

impl Certificate {
    /// Reads a certificate that an authority of the listener signed, DER.
    pub(crate) fn read(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        Self::of(der, |_| None)
    }

    /// Reads the first certificate of a chain, of which none of the listener's authorities need have signed an
    /// X.509-SVID.
    pub(crate) fn read_chain(chain: &[CertificateDer<'_>]) -> Result<Self, UnreadableCertificate> {
        let first = chain.first().map_or(&[][..], AsRef::as_ref);
        Self::of(first, |certificate| Claimed::read(chain, certificate))
    }

    fn of(
        der: &[u8],
        svid: impl FnOnce(&X509Certificate<'_>) -> Option<Claimed>,
    ) -> Result<Self, UnreadableCertificate> {
        let unreadable = UnreadableCertificate;
        let (rest, certificate) = x509_parser::parse_x509_certificate(der)
            .map_err(|_| unreadable("it is no X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(unreadable("something follows it"));
        }
        Ok(Self {
            thumbprint: Digest::of(der),
            issuer: certificate.issuer().to_string(),
            claims: claims(&certificate)?,
            expires_at: certificate.validity().not_after.timestamp(),
            svid: svid(&certificate),
        })
    }

    /// Whether this is the certificate that a token is bound to.
    pub(crate) fn is(&self, thumbprint: &Digest) -> bool {
        self.thumbprint == *thumbprint
    }

    /// What it is cached by.
    pub(crate) fn thumbprint(&self) -> &Digest {
        &self.thumbprint
    }

    /// Its chain, where only a SPIFFE bundle can vouch for it.
    pub(crate) fn svid(&self) -> Option<&Claimed> {
        self.svid.as_ref()
    }

    /// What it says of its subject.
    pub(crate) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Whether its time is over at `now`, in seconds since the epoch. A connection outlives its handshake.
    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.expires_at < now
    }

    /// The agent that it names.
    pub(crate) fn agent(&self, config: &CertificateConfig) -> Result<Verified, Unauthenticated> {
        Ok(Verified {
            digest: self.thumbprint,
            agent: config.agent.resolve(&self.claims)?,
            issuer: self.issuer.clone(),
            claims: self.claims.clone(),
            expires_at: self.expires_at,
            confirmations: Vec::<Confirmation>::new(),
            voucher: Voucher::Certificate,
            issued_at: None,
            prepared: OnceLock::new(),
        })
    }
}

/// `subject`, and `san_uri` and `san_dns` where there is just one of its kind: of several, none is more
/// the agent's than the others.
fn claims(certificate: &X509Certificate<'_>) -> Result<Map<String, Value>, UnreadableCertificate> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| UnreadableCertificate("its names stand twice or are malformed"))?;
    let (mut uris, mut hosts) = (Vec::new(), Vec::new());
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(host) => hosts.push(*host),
            _ => {}
        }
    }
    let mut claims = Map::new();
    claims.insert(
        "subject".to_owned(),
        certificate.subject().to_string().into(),
    );
    for (claim, names) in [("san_uri", uris), ("san_dns", hosts)] {
        if let [name] = *names {
            claims.insert(claim.to_owned(), name.into());
        }
    }
    Ok(claims)
}
