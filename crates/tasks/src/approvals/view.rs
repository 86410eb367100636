//! What an approval looks like from outside.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Access, Demand, TaskId, ToolName};

/// What an approval looks like from outside; the shape of the control API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// The task.
    pub task: TaskId,
    /// The agent that calls.
    pub agent: String,
    /// On whose behalf.
    pub owner: String,
    /// What the task is for.
    pub purpose: String,
    /// The tool.
    pub tool: ToolName,
    /// The operation.
    pub operation: String,
    /// Its access class.
    pub access: Access,
    /// Policy's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Policy's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The whole call: `tool`, `environment`, `operation`, `access`, `method`, `path`, `query`, `headers`, `arguments`, and
    /// on MCP `params`, the others.
    pub call: Value,
    /// The SHA-256 that tells this call from every other.
    pub digest: String,
    /// What is asked for: every one is to be met.
    pub demands: Vec<DemandView>,
    /// Who answered what, in their order.
    pub votes: Vec<VoteView>,
    /// RFC 3339.
    pub asked_at: String,
    /// When it is over if nothing happens, RFC 3339.
    pub expires_at: String,
    /// When it was spent, refused or seen to be expired, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    /// Where people find it.
    pub link: String,
}

/// One demand, and how far it is met.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DemandView {
    /// Whose approval counts, and how many are needed.
    #[serde(flatten)]
    pub demand: Demand,
    /// How many there are.
    pub granted: usize,
}

/// What somebody answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VoteView {
    /// Its name.
    pub by: String,
    /// Its role.
    pub role: String,
    /// Whether it approved.
    pub granted: bool,
    /// RFC 3339.
    pub at: String,
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Where an approval stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// People are asked.
    Waiting,
    /// Whoever must approve did; the call was not made yet.
    Granted,
    /// Somebody said no.
    Refused,
    /// Nobody answered in time, the call was not made in time, or the task ended.
    Expired,
    /// The call was made.
    Spent,
}

impl ApprovalState {
    /// The word in the control API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Spent => "spent",
        }
    }
}

/// A time as milliseconds since the epoch.
pub(super) fn rfc3339(at: i64) -> String {
    Timestamp::from_millisecond(at)
        .unwrap_or(Timestamp::MAX)
        .to_string()
}
