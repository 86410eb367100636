//! The name an agent goes by.

use std::sync::Arc;

/// The name an agent goes by in policies and telemetry.
///
/// ```compile_fail,E0423
/// let id = identity::AgentId("a name with spaces".into());
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq, Ord, PartialOrd)]
pub struct AgentId(Arc<str>);

/// A name that can't stand for an agent.
#[derive(Debug, thiserror::Error)]
#[error("agent id `{0}` is not 1 to 2048 printable ASCII characters without spaces")]
pub struct InvalidAgentId(String);

/// The longest SPIFFE ID that must be supported, in bytes (SPIFFE ID specification, 2.3).
const MAX_BYTES: usize = 2048;

impl AgentId {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for AgentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for AgentId {
    type Err = InvalidAgentId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(InvalidAgentId(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::AgentId;

    #[track_caller]
    fn check(text: &str, expect: bool) {
        assert_eq!(text.parse::<AgentId>().is_ok(), expect, "{text:?}");
    }

    #[test]
    fn a_spiffe_id_is_a_name() {
        check("spiffe://example.org/agents/triage", true);
    }
    #[test]
    fn nothing_is_no_name() {
        check("", false);
    }
    #[test]
    fn a_space_is_refused() {
        check("a b", false);
    }
    #[test]
    fn a_line_break_is_refused() {
        check("a\nb", false);
    }
    #[test]
    fn letters_that_look_alike_are_refused() {
        check("\u{430}gent", false);
    }
    #[test]
    fn the_longest_name_is_2048_bytes() {
        check(&"a".repeat(2048), true);
        check(&"a".repeat(2049), false);
    }
}
