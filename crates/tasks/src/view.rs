//! What a task looks like from outside.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Done, Grant, Limits, TaskId, Usage};

/// What a task looks like from outside; the shape of the control API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// The agent that works on it.
    pub agent: String,
    /// On whose behalf.
    pub owner: String,
    /// Who vouched for whom it was opened by and for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// What for.
    pub purpose: String,
    /// `open`, `paused` or `ended`.
    pub state: String,
    /// Why it ended: `completed`, `revoked`, `expired`, `parent_ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_because: Option<String>,
    /// Who ended it, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// What its tokens are bound to (RFC 7800).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Value>,
    /// Whose transaction token opened it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The task that it was delegated from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The agents that delegated it, the first of all first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// The tasks that were delegated from it, as far as they are remembered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TaskId>,
    /// RFC 3339.
    pub opened_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// What it may touch.
    pub grants: Vec<Grant>,
    /// What it may use up.
    pub limits: Limits,
    /// What it used up.
    pub used: Usage,
    /// Free attributes.
    pub attributes: Map<String, Value>,
    /// Labels: those it was opened with, and those that its calls gave it.
    pub labels: Vec<String>,
    /// Its last calls that were permitted, at most 64, the oldest first; a restart forgets them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Done>,
}

/// Whose transaction token opened a task.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The issuer.
    pub issuer: String,
    /// What it calls the task.
    pub txn: String,
}

/// Why a task ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its work is done.
    Completed,
    /// Somebody took it back.
    Revoked,
    /// Its time was over.
    Expired,
    /// The task that it was delegated from ended.
    ParentEnded,
}

impl Ending {
    /// The name in the control API and telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::ParentEnded => "parent_ended",
        }
    }
}
