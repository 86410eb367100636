//! A certificate of the gateway's own, shown to the upstream: an X.509-SVID, or one from files.

use std::sync::Arc;

use crate::certificate::CertificateSource;
use crate::{
    ClientIdentity, LeaseView, Material, Obtained, Provider, ProviderError, Revocation, Wish,
    narrowing,
};

/// A certificate of the gateway's own, shown to the upstream on a connection that no other lease uses.
///
/// Nobody takes a certificate back: it expires, and soon where a Workload API gives it.
#[derive(Debug)]
pub struct Spiffe(CertificateSource);

impl Spiffe {
    /// Takes where the certificate comes from.
    pub fn new(source: CertificateSource) -> Self {
        Self(source)
    }
}

#[async_trait::async_trait]
impl Provider for Spiffe {
    fn name(&self) -> &'static str {
        "spiffe"
    }

    fn digest(&self) -> String {
        let texts = self.0.texts();
        crate::provider::digest(&texts.each_ref().map(String::as_str))
    }

    /// A certificate says who the gateway is, and can't say less: a decision that narrows it is not kept, so it is refused.
    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::only(&wish.narrow, &[])?;
        narrowing::scopes(wish, &[])?;
        let certificate = self.0.obtain().await?;
        let life = certificate.life();
        let shown = ClientIdentity::new(certificate.chain, certificate.key)?;
        Ok(Obtained {
            material: Material::Certificate(Arc::new(shown)),
            ttl_seconds: Some(life),
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}
