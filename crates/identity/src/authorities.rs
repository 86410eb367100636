//! The X.509 authorities of a SPIFFE trust domain: who may sign its X.509-SVIDs.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;

/// The certificates of those who may sign X.509-SVIDs.
#[derive(Debug, Default)]
pub(crate) struct Authorities(Vec<Authority>);

#[derive(Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    /// Seconds since the epoch, both included.
    valid: (i64, i64),
}

impl Authorities {
    /// Reads certificates, DER. What is no certificate of an authority is left out.
    pub(crate) fn read(certificates: impl Iterator<Item = Vec<u8>>) -> Self {
        Self(certificates.filter_map(Authority::read).collect())
    }

    /// Those of a bundle's keys whose `use` is `x509-svid`: each has its certificate in `x5c`, and no other beside it
    /// (SPIFFE's X509-SVID, section 6.2.2).
    pub(crate) fn of_bundle(keys: &[Value]) -> Self {
        let keys = keys.iter().filter(|key| key["use"] == "x509-svid");
        let certificates = keys.filter_map(|key| match key["x5c"].as_array()?.as_slice() {
            [certificate] => STANDARD.decode(certificate.as_str()?).ok(),
            _ => None,
        });
        Self::read(certificates)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them signed a client's certificate, by way of these others (RFC 5280, section 6). `now` is in
    /// seconds since the epoch; an authority whose time is over signs nothing.
    pub(crate) fn signed(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: i64,
    ) -> bool {
        let mut roots = RootCertStore::empty();
        for authority in self.0.iter().filter(|authority| authority.is_valid(now)) {
            // What can't be a root signs nothing.
            drop(roots.add(authority.certificate.clone()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let seconds = Duration::from_secs(u64::try_from(now).unwrap_or(u64::MAX));
        let now = UnixTime::since_unix_epoch(seconds);
        // Without any root there is no verifier.
        let verifier = verifier.build();
        verifier.is_ok_and(|verifier| verifier.verify_client_cert(leaf, others, now).is_ok())
    }
}

impl Authority {
    fn read(der: Vec<u8>) -> Option<Self> {
        let (rest, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let validity = certificate.validity();
        let valid = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let is_whole = rest.is_empty() && certificate.is_ca();
        is_whole.then(|| Self {
            valid,
            certificate: der.into(),
        })
    }

    fn is_valid(&self, now: i64) -> bool {
        let (from, until) = self.valid;
        from <= now && now <= until
    }
}
