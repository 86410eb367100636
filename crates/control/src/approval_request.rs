//! How an approval is granted and refused over the control API.

use serde::{Deserialize, Serialize};

/// The body of `POST /v1/approvals/{id}/grant` and `/refuse`; may be left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoteRequest {
    /// What is said to it, for people; at most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}
