//! A certificate of the gateway's own, by which it shows others who it is.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use spiffe::transport::Endpoint;
use spiffe::{WorkloadApiClient, WorkloadApiError};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::clock;

/// A certificate chain of the gateway's own, the leaf first, and the leaf's private key.
///
/// **Invariant.** The key is the leaf's, and the leaf has not expired when this is made.
pub struct OwnCertificate {
    /// The certificates, DER; the first is the gateway's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, DER.
    pub key: Zeroizing<Vec<u8>>,
    /// When the first of the chain expires, in seconds since the epoch.
    pub expires_at: i64,
}

/// There is no certificate to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoCertificate {
    /// What there is can't be used.
    #[error("certificate can't be used: {0}")]
    Unusable(String),
    /// Its time is over.
    #[error("certificate has expired")]
    Expired,
    /// The Workload API has none for the gateway.
    #[error("the Workload API gives no SVID: {0}")]
    Refused(String),
    /// The Workload API says nothing.
    #[error("the Workload API gives no SVID in time")]
    Late,
    /// The Workload API has others only.
    #[error("the Workload API gives no SVID of `{0}`")]
    Other(String),
}

/// How long a Workload API may take: it is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

impl OwnCertificate {
    /// Reads the PEM of a chain, the leaf first, and that of its key.
    ///
    /// # Errors
    /// Where either can't be read, they don't belong together, or a certificate has expired.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, NoCertificate> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| unusable("expected the PEM of certificates"))?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|_| unusable("expected the PEM of a private key"))?;
        Self::new(chain, &key)
    }

    /// Asks the SPIFFE Workload API at a socket for an X.509-SVID: that of `id`, or the first, which is the default one
    /// (SPIFFE Workload API, 5.2.1).
    ///
    /// # Errors
    /// Where it does not answer in time, has none for the gateway, or one that can't be used.
    pub async fn from_workload_api(socket: &Path, id: Option<&str>) -> Result<Self, NoCertificate> {
        let asking = async {
            let endpoint = Endpoint::Unix(socket.to_owned());
            let client = WorkloadApiClient::connect(endpoint).await?;
            client.fetch_all_x509_svids().await
        };
        let svids = timeout(PATIENCE, asking).await;
        let svids = svids.map_err(|_| NoCertificate::Late)?;
        let svids =
            svids.map_err(|error: WorkloadApiError| NoCertificate::Refused(error.to_string()))?;
        let mut svids = svids.into_iter();
        let svid = match id {
            Some(id) => svids
                .find(|svid| svid.spiffe_id().to_string() == id)
                .ok_or_else(|| NoCertificate::Other(id.to_owned()))?,
            None => svids
                .next()
                .ok_or_else(|| NoCertificate::Refused("it has none".to_owned()))?,
        };
        let chain = svid.cert_chain().iter();
        let chain = chain.map(|one| CertificateDer::from(one.as_bytes().to_vec()));
        let key = PrivateKeyDer::try_from(svid.private_key().as_bytes());
        let key = key.map_err(unusable)?;
        Self::new(chain.collect(), &key)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> Result<Self, NoCertificate> {
        let mut ends = Vec::with_capacity(chain.len());
        for one in &chain {
            let parsed = x509_parser::parse_x509_certificate(one);
            let (rest, parsed) = parsed.map_err(|_| unusable("it is no X.509 certificate"))?;
            if !rest.is_empty() {
                return Err(unusable("something follows it"));
            }
            ends.push(parsed.validity().not_after.timestamp());
        }
        let expires_at = ends.into_iter().min();
        let expires_at = expires_at.ok_or_else(|| unusable("there is none"))?;
        if expires_at <= clock::now() {
            return Err(NoCertificate::Expired);
        }
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
            .map_err(|error| unusable(&error.to_string()))?;
        Ok(Self {
            key: Zeroizing::new(key.secret_der().to_vec()),
            chain,
            expires_at,
        })
    }

    /// How many seconds it is good for.
    pub fn life(&self) -> u64 {
        u64::try_from(self.expires_at.saturating_sub(clock::now())).unwrap_or(0)
    }
}

fn unusable(problem: &str) -> NoCertificate {
    NoCertificate::Unusable(problem.to_owned())
}

impl std::fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnCertificate")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn pair(end: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = date_time_ymd(end, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[track_caller]
    fn check(chain: &str, key: &str, expect: Result<(), &str>) {
        let made = OwnCertificate::from_pem(chain.as_bytes(), key.as_bytes());
        let told = made.as_ref().map(|_| ()).map_err(ToString::to_string);
        match expect {
            Ok(()) => assert_eq!(told, Ok(())),
            Err(cause) => assert!(told.unwrap_err().contains(cause)),
        }
    }

    #[test]
    fn a_pair_is_taken() {
        let (chain, key) = pair(2999);
        check(&chain, &key, Ok(()));
        let made = OwnCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert!(made.life() > 86_400);
        assert!(!format!("{made:?}").contains("key"));
    }
    #[test]
    fn the_key_of_another_is_refused() {
        check(&pair(2999).0, &pair(2999).1, Err("can't be used"));
    }
    #[test]
    fn one_that_has_expired_is_refused() {
        let (chain, key) = pair(2020);
        check(&chain, &key, Err("has expired"));
    }
    #[test]
    fn what_is_neither_is_refused() {
        let (chain, key) = pair(2999);
        check("", &key, Err("there is none"));
        check(&chain, "", Err("PEM of a private key"));
        check(&chain, &chain, Err("PEM of a private key"));
    }
    #[tokio::test]
    async fn a_workload_api_that_is_not_there_gives_none() {
        let asked = OwnCertificate::from_workload_api("/nowhere/api.sock".as_ref(), None).await;
        assert!(matches!(asked, Err(NoCertificate::Refused(_))), "{asked:?}");
    }
}
