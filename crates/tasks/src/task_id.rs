//! The id of a task.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// The id of a task: a UUID version 7 (RFC 9562) in its one spelling, 36 lower-case characters with hyphens.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Ord, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct TaskId(Arc<str>);

impl TaskId {
    /// A new one, later in order than those made before it.
    pub(crate) fn fresh() -> Self {
        Self(Uuid::now_v7().hyphenated().to_string().into())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// So that a task is found by text that was never parsed.
impl Borrow<str> for TaskId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A text that is no task id.
#[derive(Debug, thiserror::Error)]
#[error("task id `{0}` is not a UUID")]
pub struct InvalidTaskId(String);

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        // The 36 characters rule out the braced, URN and hyphenless spellings of RFC 9562.
        let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if canonical && Uuid::try_parse(text).is_ok() {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTaskId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TaskId {
    type Error = InvalidTaskId;

    fn try_from(text: String) -> Result<Self, InvalidTaskId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: bool) {
        assert_eq!(text.parse::<TaskId>().is_ok(), expect, "{text}");
    }

    #[test]
    fn a_fresh_id_reads_back() {
        check(TaskId::fresh().as_str(), true);
    }

    #[test]
    fn ids_are_in_the_order_they_were_made() {
        let ids: Vec<_> = (0..100).map(|_| TaskId::fresh()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn an_id_has_one_spelling() {
        check("01890a5d-ac96-774b-bcce-b302099a8057", true);
        check("01890A5D-AC96-774B-BCCE-B302099A8057", false);
        check("01890a5dac96774bbcceb302099a8057", false);
        check("{01890a5d-ac96-774b-bcce-b302099a8057}", false);
        check("urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057", false);
        check(" 01890a5d-ac96-774b-bcce-b302099a8057", false);
        check("", false);
    }
}
