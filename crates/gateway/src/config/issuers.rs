//! `identity`: who vouches for agents.

use identity::{AgentTemplate, Algorithm, IssuerConfig};
use url::Url;

use super::collection::NonEmpty;
use super::mistake::{At, Notes};
use super::shape::{section, words};
use super::tools::is_loopback;

words! {
    Algorithm {
        "ES256" => Self::ES256, "ES384" => Self::ES384, "EdDSA" => Self::EdDSA,
        "RS256" => Self::RS256, "RS384" => Self::RS384, "RS512" => Self::RS512,
        "PS256" => Self::PS256, "PS384" => Self::PS384, "PS512" => Self::PS512,
    }
}

section! {
    /// Who vouches for agents, besides the gateway's own task tokens.
    struct RawIdentity {
        /// OpenID issuers whose workload tokens are believed.
        issuers: Vec<At<RawIssuer>> = default([]);
    }
    later { spiffe: "SPIFFE" }
}

section! {
    /// One OpenID issuer.
    struct RawIssuer {
        /// The `iss` of its tokens, and where discovery starts.
        issuer: Url = required;
        /// What must be among a token's `aud`.
        audience: String = required;
        /// The signature algorithms that are accepted.
        algorithms: NonEmpty<Algorithm> = default(["ES256"]);
        /// How the agent's id is made of claims.
        agent: AgentTemplate = default("{sub}");
        /// Its key set, where discovery is not wanted.
        jwks_uri: Url = optional;
        /// The `typ` headers that are accepted, in lower case; `jwt`, `at+jwt` and none at all unless given.
        types: Vec<At<String>> = default([]);
    }
}

impl RawIdentity {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<Vec<IssuerConfig>> {
        let mut issuers: Vec<IssuerConfig> = Vec::new();
        for issuer in self.issuers?.value {
            let Some(parsed) = issuer.value.parse(notes) else {
                continue;
            };
            if issuers.iter().any(|other| other.issuer == parsed.issuer) {
                notes.mistake(
                    &issuer.place,
                    "duplicate_issuer",
                    "this issuer is already there",
                );
            }
            issuers.push(parsed);
        }
        Some(issuers)
    }
}

impl RawIssuer {
    fn parse(self, notes: &mut Notes) -> Option<IssuerConfig> {
        for url in [&self.issuer, &self.jwks_uri].into_iter().flatten() {
            if url.value.scheme() == "http" && !is_loopback(&url.value) {
                let message = "keys are fetched over `https://`; `http://` is for loopback";
                notes.mistake(&url.place, "plaintext_issuer", message);
            }
        }
        let types = self.types?.value.into_iter();
        Some(IssuerConfig {
            issuer: self.issuer?.value,
            audience: self.audience?.value,
            algorithms: self
                .algorithms?
                .value
                .0
                .into_iter()
                .map(|at| at.value)
                .collect(),
            agent: self.agent?.value,
            jwks_uri: self.jwks_uri.map(|url| url.value),
            types: types.map(|at| at.value.to_ascii_lowercase()).collect(),
        })
    }
}
