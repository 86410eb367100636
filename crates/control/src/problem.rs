//! Problem documents (RFC 9457): what the control API answers instead of what was asked.

use serde::{Deserialize, Serialize};

/// A problem document, `application/problem+json`. `code` is stable, the texts are for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The status' own name; `type` is left out, which means `about:blank`.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Which refusal; snake case, stable.
    pub code: String,
    /// What was wrong this time.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
    /// The field of the body that was wrong, such as `grants[0].tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The reason that admission policy gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why admission failed; told to the role `operator` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Every mistake of a configuration that was not applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<String>,
}
