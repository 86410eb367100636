//! Whose certificates a listener takes from its clients.
//!
//! **Invariant.** A certificate that gets past a handshake was signed by an authority of the listener's, or means to be an
//! X.509-SVID and says so: then it proves nothing until the bundle of its trust domain vouches for it.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::{Certificate, UnreadableCertificate, x509_svid};

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateRule {
    /// Whoever has none does not get past the handshake.
    Required,
    /// Whoever has none can't use tokens that are bound to one.
    Optional,
}

/// Whether X.509-SVIDs get past the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SvidRule {
    /// They do: the bundle of their trust domain is asked for with each call.
    Taken,
    /// They are certificates like any other.
    LikeOthers,
}

/// Whose certificates a listener takes from its clients: those of its authorities, X.509-SVIDs, or both.
#[derive(Debug)]
pub struct ClientTrust {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    rule: CertificateRule,
    svids: SvidRule,
    provider: Arc<CryptoProvider>,
}

/// Authorities that no certificate can be checked against.
#[derive(Debug, thiserror::Error)]
#[error("client authorities can't be used: {0}")]
pub struct InvalidAuthorities(String);

impl ClientTrust {
    /// Takes the certificates of these authorities; none may be given.
    ///
    /// # Errors
    /// [`InvalidAuthorities`] where one of them is no certificate of an authority.
    pub fn new(
        authorities: Vec<CertificateDer<'static>>,
        rule: CertificateRule,
        svids: SvidRule,
    ) -> Result<Arc<Self>, InvalidAuthorities> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots
                .add(authority)
                .map_err(|error| InvalidAuthorities(error.to_string()))?;
        }
        let authorities = if roots.is_empty() {
            None
        } else {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = verifier.build();
            Some(verifier.map_err(|error| InvalidAuthorities(error.to_string()))?)
        };
        Ok(Arc::new(Self {
            authorities,
            rule,
            svids,
            provider,
        }))
    }

    /// Reads the chain of a client that got past the handshake, its own certificate first.
    ///
    /// # Errors
    /// [`UnreadableCertificate`] where there is none, or it is no X.509 certificate with at most one list of names.
    pub fn read(&self, chain: &[CertificateDer<'_>]) -> Result<Certificate, UnreadableCertificate> {
        match self.svids {
            SvidRule::Taken => Certificate::read_chain(chain),
            SvidRule::LikeOthers => Certificate::read(chain.first().map_or(&[][..], AsRef::as_ref)),
        }
    }

    fn takes_svid(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        match (self.svids, x509_svid::means_to_be(certificate)) {
            (SvidRule::LikeOthers, _) => Ok(false),
            (SvidRule::Taken, Some(is_svid)) => Ok(is_svid),
            (SvidRule::Taken, None) => Err(CertificateError::BadEncoding.into()),
        }
    }
}

impl ClientCertVerifier for ClientTrust {
    fn client_auth_mandatory(&self) -> bool {
        self.rule == CertificateRule::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match (&self.authorities, self.svids) {
            (Some(authorities), SvidRule::LikeOthers) => authorities.root_hint_subjects(),
            // Clients with an SVID would not show it if other authorities were named, and those of bundles change.
            (Some(_), SvidRule::Taken) | (None, _) => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.takes_svid(end_entity)? {
            return Ok(ClientCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
