//! What would be decided, and why.

use serde_json::Value;

use crate::steps::Condition;

/// What would be decided, and why.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Explanation {
    /// `allow`, `deny`, `escalate`, `error`.
    pub verdict: String,
    /// The reason.
    pub reason: Option<String>,
    /// The message.
    pub message: Option<String>,
    /// The whole decision document.
    pub decision: Value,
    /// Which rules of the tool's package and of `remit.all` held:
    /// `{"rule": "data.remit.tools.notes.allow", "file": "notes.rego", "line": 4, "value": true}`.
    pub rules: Vec<Value>,
    /// The conditions of the `allow` that got farthest: which of them did not hold is what kept the call from being allowed.
    pub conditions: Vec<Condition>,
    /// The input that was judged.
    pub input: Value,
}
