//! Names of the SPIFFE world: trust domains and the workloads in them (SPIFFE-ID, section 2).

use std::fmt;
use std::str::FromStr;

use crate::{AgentId, Unauthenticated};

/// The name of a SPIFFE trust domain, such as `example.org`.
///
/// ```compile_fail,E0423
/// let domain = identity::TrustDomain("Example.org".into());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustDomain(String);

/// A text that names no trust domain.
#[derive(Debug, thiserror::Error)]
#[error(
    "a trust domain is 1 to 255 lower case letters, digits, dots, dashes and underscores, such as `example.org`"
)]
pub struct InvalidTrustDomain;

impl TrustDomain {
    /// The name of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its SPIFFE ID, that of no workload.
    pub(crate) fn id(&self) -> String {
        format!("spiffe://{}", self.0)
    }

    /// The trust domain that a `sub` is of, whatever is wrong with the rest of it.
    pub(crate) fn of(subject: &str) -> Option<Self> {
        let domain = is_spiffe(subject).then(|| spiffe::TrustDomain::new(subject))?;
        Some(Self(domain.ok()?.as_str().to_owned()))
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidTrustDomain;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The library takes other spellings of it, and whole SPIFFE IDs.
        match spiffe::TrustDomain::new(text) {
            Ok(domain) if domain.as_str() == text => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err(InvalidTrustDomain),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a `sub` means to be a SPIFFE ID, in order or not.
pub(crate) fn is_spiffe(subject: &str) -> bool {
    let scheme = subject.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe"))
}

/// The agent of a `sub` that is the SPIFFE ID of a workload, in its one spelling.
pub(crate) fn workload(subject: &str) -> Result<AgentId, Unauthenticated> {
    let invalid = || Unauthenticated::Invalid("its `sub` is no SPIFFE ID of a workload");
    let id = spiffe::SpiffeId::new(subject).map_err(|_| invalid())?;
    // The library takes a trust domain in upper case: two spellings would be two agents to policy.
    if id.path().is_empty() || id.to_string() != subject {
        return Err(invalid());
    }
    subject.parse().map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::{TrustDomain, is_spiffe, workload};

    #[track_caller]
    fn domain(text: &str, expect: bool) {
        assert_eq!(text.parse::<TrustDomain>().is_ok(), expect, "{text}");
    }

    #[track_caller]
    fn id(text: &str, expect: bool) {
        assert_eq!(workload(text).is_ok(), expect, "{text}");
    }

    #[test]
    fn a_trust_domain_has_one_spelling() {
        domain("example.org", true);
        domain("a-b_c.1", true);
        domain(&"a".repeat(255), true);
        for text in [
            "",
            "Example.org",
            "spiffe://example.org",
            "example.org/a",
            "example.org:1",
            "user@example.org",
            "ex%61mple.org",
            "exämple.org",
            " example.org",
            &"a".repeat(256),
        ] {
            domain(text, false);
        }
    }

    #[test]
    fn b6_a_spiffe_id_has_one_spelling() {
        id("spiffe://example.org/agents/triage", true);
        id("spiffe://example.org/A-b_c.1", true);
        for text in [
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/a/../b",
            "spiffe://example.org/a%2fb",
            "spiffe://example.org/a b",
            "spiffe://example.org/ä",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org:443/a",
            "spiffe://user@example.org/a",
            "spiffe://Example.org/a",
            "SPIFFE://example.org/a",
            "spiffe:///a",
            "spiffe:/example.org/a",
            "https://example.org/a",
            &format!("spiffe://example.org/{}", "a".repeat(2048)),
        ] {
            id(text, false);
        }
    }

    #[test]
    fn what_means_to_be_a_spiffe_id_is_known_by_its_scheme() {
        for text in ["spiffe://a/b", "SPIFFE://a/b", "spiffe:a", "spiffe:"] {
            assert!(is_spiffe(text), "{text}");
        }
        for text in ["", "spiffe", "triage", "xspiffe://a/b", "https://a/b"] {
            assert!(!is_spiffe(text), "{text}");
        }
    }
}
