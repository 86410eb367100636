//! `identity.wimse`: who issues workload identity tokens.

use identity::{Algorithm, TrustDomain, WitIssuerConfig};
use url::Url;

use super::collection::NonEmpty;
use super::mistake::Notes;
use super::shape::section;
use super::tools::is_loopback;

section! {
    /// The issuer of the workload identity tokens of one trust domain.
    struct RawWitIssuer {
        /// The trust domain, such as `example.org`: its workloads are `spiffe://example.org/…` or `wimse://example.org/…`, and that is the agent's id. Nobody else names them.
        trust_domain: TrustDomain = required;
        /// The `iss` of its tokens, where they have one, and where discovery starts.
        issuer: Url = required;
        /// The signature algorithms of its tokens.
        algorithms: NonEmpty<Algorithm> = default(["ES256"]);
        /// Its key set, where discovery is not wanted.
        jwks_uri: Url = optional;
    }
}

impl RawWitIssuer {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<WitIssuerConfig> {
        for url in [&self.issuer, &self.jwks_uri].into_iter().flatten() {
            if url.value.scheme() == "http" && !is_loopback(&url.value) {
                let message = "keys are fetched over `https://`; `http://` is for loopback";
                notes.mistake(&url.place, "plaintext_issuer", message);
            }
        }
        let algorithms = self.algorithms?.value.0.into_iter();
        Some(WitIssuerConfig {
            trust_domain: self.trust_domain?.value,
            issuer: self.issuer?.value,
            algorithms: algorithms.map(|algorithm| algorithm.value).collect(),
            jwks_uri: self.jwks_uri.map(|url| url.value),
        })
    }
}
