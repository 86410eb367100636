//! Where a certificate of the gateway's own comes from, and `provider: spiffe`, which shows it to a tool.

use std::path::PathBuf;

use credentials::{CertificateSource, SecretRef};

use super::binding::ProviderConfig;
use super::mistake::{Notes, Place};
use super::shape::section;
use super::spiffe::Socket;

section! {
    /// A certificate of the gateway's own: `certificate` and `key`, or `workload_api`. It is read anew for each lease.
    struct RawCertificate {
        /// The chain, a PEM file, the gateway's own certificate first.
        certificate: PathBuf = optional;
        /// Where its private key is kept, PEM.
        key: SecretRef = optional;
        /// The SPIFFE Workload API that gives it, such as that of a SPIRE agent.
        workload_api: Socket = optional;
        /// Which SVID, where the Workload API has several for the gateway; the default one unless given.
        spiffe_id: String = optional;
    }
}

section! {
    /// A certificate of the gateway's own, which is shown to the tool on the connection: an X.509-SVID by `workload_api`, or `certificate` and `key`.
    struct RawSpiffeProvider (provider: "spiffe") {
        /// The chain, a PEM file, the gateway's own certificate first.
        certificate: PathBuf = optional;
        /// Where its private key is kept, PEM.
        key: SecretRef = optional;
        /// The SPIFFE Workload API that gives it, such as that of a SPIRE agent.
        workload_api: Socket = optional;
        /// Which SVID, where the Workload API has several for the gateway; the default one unless given.
        spiffe_id: String = optional;
    }
}

impl RawCertificate {
    /// `place` is where keys are found to be missing.
    pub(super) fn parse(self, place: &Place, notes: &mut Notes) -> Option<CertificateSource> {
        match (self.certificate, self.key, self.workload_api) {
            (Some(certificate), Some(key), None) => {
                if let Some(id) = self.spiffe_id {
                    let message = "`spiffe_id` goes with `workload_api`";
                    notes.mistake(&id.place, "wrong_certificate", message);
                }
                Some(CertificateSource::Pem {
                    certificate: certificate.value,
                    key: key.value,
                })
            }
            (None, None, Some(socket)) => {
                if let Some(id) = &self.spiffe_id
                    && !id.value.starts_with("spiffe://")
                {
                    let message = "expected a SPIFFE ID such as `spiffe://example.org/gateway`";
                    notes.mistake(&id.place, "wrong_value", message);
                }
                Some(CertificateSource::WorkloadApi {
                    socket: socket.value.0,
                    id: self.spiffe_id.map(|id| id.value),
                })
            }
            _ => {
                let message = "expected `certificate` and `key`, or `workload_api`";
                notes.mistake(place, "wrong_certificate", message);
                None
            }
        }
    }
}

impl RawSpiffeProvider {
    pub(super) fn parse(self, place: &Place, notes: &mut Notes) -> Option<ProviderConfig> {
        let raw = RawCertificate {
            certificate: self.certificate,
            key: self.key,
            workload_api: self.workload_api,
            spiffe_id: self.spiffe_id,
        };
        raw.parse(place, notes).map(ProviderConfig::Spiffe)
    }
}
