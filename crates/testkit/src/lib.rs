//! Who stands in for the world? An upstream, an issuer, a collector: fakes with real sockets.
//!
//! **Invariant.** Everything listens on `127.0.0.1` at a port of its own, and is gone when dropped.
#![expect(
    clippy::unwrap_used,
    reason = "test support: a failure here fails a test"
)]

pub mod authorization_server;
pub mod azure;
pub mod certificates;
pub mod collector;
pub mod github_app;
pub mod google;
pub mod issuer;
pub mod parts;
pub mod remit;
pub mod rsa;
pub mod site;
pub mod spire;
pub mod transmitter;
pub mod trust_domain;
pub mod upstream;
pub mod workload_api;

pub use authorization_server::AuthorizationServer;
pub use certificates::Authority;
pub use collector::Collector;
pub use issuer::Issuer;
pub use opentelemetry_proto;
pub use rcgen;
pub use site::Site;
pub use spire::Spire;
pub use trust_domain::TrustDomain;
pub use upstream::{Answer, Received, Upstream};
pub use workload_api::WorkloadApi;

use tokio::task::JoinHandle;

/// A client that waits, follows no redirects and uses no proxy.
pub fn http() -> reqwest::blocking::Client {
    // Set already, if another test of this process was first.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::blocking::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// A server's task, stopped when dropped.
#[derive(Debug)]
struct Serving(JoinHandle<()>);

impl Serving {
    fn spawn(server: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(server))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}
