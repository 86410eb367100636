//! The id that one decision has everywhere.

use std::fmt;
use std::sync::Arc;

/// Names one decision everywhere: reply header, span, log, audit line, lease. A `UUIDv7`.
///
/// Only the gateway makes one: what a peer says is never taken for it.
/// ```compile_fail,E0423
/// let forged = telemetry::DecisionId("chosen by the agent".into());
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct DecisionId(Arc<str>);

impl DecisionId {
    /// Makes a new one.
    #[expect(clippy::new_without_default, reason = "each is new")]
    pub fn new() -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        let text: &str = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text);
        Self(text.into())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::DecisionId;

    #[test]
    fn no_two_are_equal() {
        assert_ne!(DecisionId::new(), DecisionId::new());
    }

    #[test]
    fn it_is_a_uuid_v7() {
        let id = uuid::Uuid::parse_str(DecisionId::new().as_str()).unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
}
