//! Where a certificate of the gateway's own comes from.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::OwnCertificate;
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::{ProviderError, SecretRef};

/// Where a certificate of the gateway's own comes from. It is asked for at each use, so that it can be replaced at any time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateSource {
    /// Files.
    Pem {
        /// The chain, PEM, the gateway's own first. It is no secret.
        certificate: PathBuf,
        /// Where the private key is kept, PEM.
        key: SecretRef,
    },
    /// The SPIFFE Workload API.
    WorkloadApi {
        /// Its Unix socket.
        socket: PathBuf,
        /// The SPIFFE ID, where the gateway has several; the default one unless given.
        id: Option<String>,
    },
}

impl CertificateSource {
    pub(crate) async fn obtain(&self) -> Result<OwnCertificate, ProviderError> {
        match self {
            Self::Pem { certificate, key } => {
                let chain = tokio::fs::read(certificate).await;
                let told = |error: &dyn std::fmt::Display| {
                    failed(format!("certificate `{}`: {error}", certificate.display()))
                };
                let chain = chain.map_err(|error| told(&error))?;
                let key = key.read_document().await?;
                OwnCertificate::from_pem(&chain, &key).map_err(|error| told(&error))
            }
            Self::WorkloadApi { socket, id } => {
                let svid = OwnCertificate::from_workload_api(socket, id.as_deref()).await;
                svid.map_err(|error| failed(error.to_string()))
            }
        }
    }

    /// What of it makes a config.
    pub(crate) fn texts(&self) -> [String; 3] {
        match self {
            Self::Pem { certificate, key } => [
                "pem".to_owned(),
                certificate.display().to_string(),
                key.to_string(),
            ],
            Self::WorkloadApi { socket, id } => [
                "workload_api".to_owned(),
                socket.display().to_string(),
                id.clone().unwrap_or_default(),
            ],
        }
    }
}

/// A certificate and its key as one PEM.
pub(crate) fn pem(certificate: &OwnCertificate) -> Result<Zeroizing<String>, ProviderError> {
    let key = PrivateKeyDer::try_from(certificate.key.as_slice());
    let label = match key.map_err(|problem| failed(problem.to_owned()))? {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let chain = certificate.chain.iter();
    let sections = chain.map(|one| ("CERTIFICATE", one.as_ref()));
    let sections: Vec<(&str, &[u8])> = sections
        .chain([(label, certificate.key.as_slice())])
        .collect();
    // All the room at once: a text that grows leaves copies behind.
    let room = |der: &[u8]| der.len() * 4 / 3 + 128;
    let room = sections.iter().map(|(_, der)| room(der)).sum();
    let mut pem = Zeroizing::new(String::with_capacity(room));
    for (label, der) in sections {
        let marks = [
            format!("-----BEGIN {label}-----\n"),
            format!("\n-----END {label}-----\n"),
        ];
        let [begin, end] = &marks;
        pem.push_str(begin);
        STANDARD.encode_string(der, &mut pem);
        pem.push_str(end);
    }
    Ok(pem)
}

fn failed(cause: String) -> ProviderError {
    ProviderError::Failed(cause)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use testkit::Authority;

    use super::*;

    fn source(
        folder: &tempfile::TempDir,
        change: impl FnOnce(&mut testkit::Certified),
    ) -> CertificateSource {
        let mut pair = Authority::new("test").client("gateway", 1);
        change(&mut pair);
        let (certificate, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        std::fs::write(&certificate, pair.certificate).unwrap();
        std::fs::write(&key, pair.key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        CertificateSource::Pem {
            certificate,
            key: SecretRef::File(key),
        }
    }

    #[tokio::test]
    async fn a_pair_in_files_is_read_and_written_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let read = source(&folder, |_| {}).obtain().await.unwrap();
        let whole = pem(&read).unwrap();
        let again = OwnCertificate::from_pem(whole.as_bytes(), whole.as_bytes()).unwrap();
        assert_eq!((&again.chain, &again.key), (&read.chain, &read.key));
    }
    #[tokio::test]
    async fn a_pair_that_does_not_fit_is_told_without_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let other = Authority::new("test").client("gateway", 1).key;
        let refused = source(&folder, |pair| pair.key.clone_from(&other))
            .obtain()
            .await;
        let told = refused.unwrap_err().to_string();
        assert!(
            told.contains("cert.pem") && told.contains("can't be used"),
            "{told}"
        );
        assert!(!told.contains(other.lines().nth(1).unwrap()), "{told}");
    }
}
