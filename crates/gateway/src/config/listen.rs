//! `listen`: where agents and operators reach the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;

use identity::{CertificateRule, SvidRule};

use super::collection::OneOrMore;
use super::mistake::{At, Notes};
use super::shape::{section, words};

/// Where the gateway listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where agents send their calls; at least one.
    pub calls: Vec<SocketAddr>,
    /// TLS of `calls`; none means plaintext, on loopback or where the config allows it.
    pub tls: Option<ServerTls>,
    /// API, console, health and metrics; plaintext.
    pub control: SocketAddr,
    /// Whether secrets may cross a network in the clear, because something in front encrypts.
    pub plaintext: Plaintext,
}

impl Listen {
    /// Whether clients are asked for certificates of authorities.
    pub(super) fn takes_certificates(&self) -> bool {
        let clients = self.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        clients.is_some_and(|clients| clients.authorities.is_some())
    }

    /// Whether clients can show certificates at all.
    pub(super) fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// How a listener proves itself, and whose certificates it takes.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whose client certificates are taken; none are asked for unless given.
    pub clients: Option<ClientCertificates>,
}

/// Whose client certificates are taken.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// The authorities, PEM.
    pub authorities: Option<PathBuf>,
    /// Whether a client must have one.
    pub rule: CertificateRule,
    /// Whether X.509-SVIDs are among them.
    pub svids: SvidRule,
}

words! { CertificateRule { "required" => Self::Required, "optional" => Self::Optional } }

/// Whether secrets may cross a network in the clear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plaintext {
    /// On loopback alone.
    Forbidden,
    /// Anywhere: somebody else encrypts.
    Allowed,
}
words! { Plaintext { "forbidden" => Self::Forbidden, "allowed" => Self::Allowed } }

section! {
    /// Where the gateway listens.
    struct RawListen {
        /// The reverse proxy that agents call: `/{tool}/…`, or by host. One address, or a list.
        calls: OneOrMore<SocketAddr> = required;
        /// API, console, health and metrics.
        control: SocketAddr = required;
        /// TLS of `calls`.
        tls: RawServerTls = optional;
        /// Whether a listener that is not on loopback may go without TLS, because something in front of it encrypts.
        plaintext: Plaintext = default("forbidden");
    }
    later { forward: "the forward proxy" }
}

section! {
    /// A certificate and its key.
    struct RawServerTls {
        /// The certificate chain, PEM.
        certificate: PathBuf = required;
        /// The private key, PEM.
        key: PathBuf = required;
        /// The authorities whose client certificates are accepted, PEM. No certificate is asked for without it, unless X.509-SVIDs are believed (`identity.spiffe.svids`).
        client_ca: PathBuf = optional;
        /// Whether every client must have a certificate of `client_ca`, or an X.509-SVID where these are believed. Where it is optional, a client without one can't use tokens that are bound to one (RFC 8705).
        client_certificates: CertificateRule = default("required");
    }
}

impl RawListen {
    pub(super) fn parse(self, svids: SvidRule, notes: &mut Notes) -> Option<Listen> {
        let plaintext = self.plaintext.map(|plaintext| plaintext.value);
        let forbidden = plaintext == Some(Plaintext::Forbidden);
        let calls = self.calls.map(|calls| calls.value.0).unwrap_or_default();
        if forbidden && self.tls.is_none() {
            for address in &calls {
                refuse_plaintext(address, "give it `listen.tls`, or", notes);
            }
        }
        if let Some(control) = &self.control {
            if forbidden {
                refuse_plaintext(control, "it speaks no TLS of its own:", notes);
            }
            if control.value.port() != 0 && calls.iter().any(|call| call.value == control.value) {
                notes.mistake(
                    &control.place,
                    "same_address",
                    "`calls` listens here already",
                );
            }
        }
        let tls = match self.tls {
            Some(tls) => Some(tls.value.parse(svids, notes)?),
            None => None,
        };
        Some(Listen {
            calls: calls.into_iter().map(|address| address.value).collect(),
            tls,
            control: self.control?.value,
            plaintext: plaintext?,
        })
    }
}

impl RawServerTls {
    fn parse(self, svids: SvidRule, notes: &mut Notes) -> Option<ServerTls> {
        let rule = self.client_certificates?;
        let asks = self.client_ca.is_some() || svids == SvidRule::Taken;
        if !asks && rule.value == CertificateRule::Optional {
            let message = "no certificate is asked for without `client_ca`";
            notes.mistake(&rule.place, "no_client_ca", message);
        }
        let clients = asks.then(|| ClientCertificates {
            authorities: self.client_ca.map(|authorities| authorities.value),
            rule: rule.value,
            svids,
        });
        Some(ServerTls {
            certificate: self.certificate?.value,
            key: self.key?.value,
            clients,
        })
    }
}

fn refuse_plaintext(address: &At<SocketAddr>, instead: &str, notes: &mut Notes) {
    if !address.value.ip().to_canonical().is_loopback() {
        let message = format!(
            "`{}` is not loopback, and secrets would cross the network in the clear: \
             {instead} write `listen.plaintext: allowed` if something in front encrypts",
            address.value
        );
        notes.mistake(&address.place, "plaintext_listener", message);
    }
}
