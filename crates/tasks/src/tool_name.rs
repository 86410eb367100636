//! The name of a tool.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Names that mean something else in a path or in a policy package.
const RESERVED: [&str; 3] = ["mcp", "oauth2", "all"];

/// The longest name; our own bound, for path segments, policy packages and metric labels.
const MAX_LENGTH: usize = 64;

/// The name of a tool: `[a-z][a-z0-9_]*` without `__`, at most 64 characters; `mcp`, `oauth2` and
/// `all` are reserved.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Ord, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct ToolName(Arc<str>);

impl ToolName {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ToolName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A name that no tool can have.
#[derive(Debug, thiserror::Error)]
#[error("tool name `{0}` is not `[a-z][a-z0-9_]*` without `__`, or is reserved")]
pub struct InvalidToolName(String);

impl FromStr for ToolName {
    type Err = InvalidToolName;

    fn from_str(text: &str) -> Result<Self, InvalidToolName> {
        let well_formed = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && !text.contains("__")
            && text.len() <= MAX_LENGTH;
        if well_formed && !RESERVED.contains(&text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidToolName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ToolName {
    type Error = InvalidToolName;

    fn try_from(text: String) -> Result<Self, InvalidToolName> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: bool) {
        assert_eq!(text.parse::<ToolName>().is_ok(), expect, "{text}");
    }

    #[test]
    fn a_plain_name_is_one() {
        check("github", true);
        check("s3_eu_1", true);
    }

    #[test]
    fn an_odd_name_is_none() {
        for text in [
            "", "1a", "_a", "Git", "a-b", "a b", "a/b", "a__b", "é", "a.b",
        ] {
            check(text, false);
        }
        check(&"a".repeat(65), false);
    }

    #[test]
    fn a_reserved_name_is_none() {
        check("mcp", false);
        check("oauth2", false);
        check("all", false);
    }
}
