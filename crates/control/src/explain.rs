//! What would be decided for a call, and why; nothing is sent, counted or leased.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use policy::{Condition, Explanation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tasks::TaskId;

/// Walks the way of a call up to the decision.
pub type Explain = Arc<
    dyn Fn(ExplainRequest) -> BoxFuture<'static, Result<ExplainAnswer, ExplainError>> + Send + Sync,
>;

/// The call to explain, as an agent would make it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Upper case.
    pub method: String,
    /// A path such as `/notes/notes?x=1`, or a whole URL.
    pub url: String,
    /// The task it is made for.
    pub task: TaskId,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its body, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Headers and body may hold a key, so they don't show.
impl std::fmt::Debug for ExplainRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExplainRequest")
            .field("method", &self.method)
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

/// What would be decided.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExplainAnswer {
    /// `allow`, `deny`, `escalate`, `error`; `refused` where the call wouldn't reach policy.
    pub verdict: String,
    /// The refusal's code, as the agent would see it; none if the call is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The policy's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policy's message, or what was wrong before policy was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The tool, once routed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The operation, once observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The access class, once observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// The policy revision that judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_revision: Option<String>,
    /// The whole decision document; null where policy wasn't asked.
    #[serde(default)]
    pub decision: Value,
    /// Which rules held.
    #[serde(default)]
    pub rules: Vec<Value>,
    /// The conditions of the `allow` that got farthest, in the order they are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The input that was judged; null where policy wasn't asked.
    #[serde(default)]
    pub input: Value,
}

impl From<Explanation> for ExplainAnswer {
    fn from(explanation: Explanation) -> Self {
        Self {
            verdict: explanation.verdict,
            reason: explanation.reason,
            message: explanation.message,
            decision: explanation.decision,
            rules: explanation.rules,
            conditions: explanation.conditions,
            input: explanation.input,
            ..Self::default()
        }
    }
}

/// Why a call can't be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is no such task, or it has ended.
    #[error("no open task `{0}`")]
    UnknownTask(TaskId),
    /// It is no request at all: its method, URL or headers can't be read.
    #[error("{0}")]
    Malformed(String),
    /// The gateway failed.
    #[error("{0}")]
    Failed(String),
}
