//! How a task is opened and ended over the control API.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tasks::{DelegationRequest, Ending, Grant, Issued, Limits, OpeningRequest, TaskId, TaskView};

use credentials::LeaseView;

/// The body of `POST /v1/tasks`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// The agent that is to work on it; the configured default agent unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// On whose behalf; the caller's name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What for, in the owner's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// What it may touch.
    pub grants: Vec<Grant>,
    /// How long it lives, in seconds; the configured default unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// What it may use up.
    #[serde(default)]
    pub limits: Limits,
    /// Free attributes, for policy.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
    /// Labels, for policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What its token is bound to, as a token's `cnf`: `jkt` (RFC 9449), `x5t#S256` (RFC 8705), or both; a bearer
    /// unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Value>,
}

impl OpenRequest {
    /// Fills in who is not named. None if no agent is known.
    pub(crate) fn complete(self, agent: Option<&str>, caller: &str) -> Option<OpeningRequest> {
        Some(OpeningRequest {
            agent: self.agent.or_else(|| agent.map(str::to_owned))?,
            owner: self.owner.unwrap_or_else(|| caller.to_owned()),
            opener: Some(caller.to_owned()),
            issuers: Vec::new(),
            issued: Issued::default(),
            cnf: self.cnf,
            purpose: self.purpose,
            grants: self.grants,
            ttl_seconds: self.ttl_seconds,
            limits: self.limits,
            attributes: self.attributes,
            labels: self.labels,
        })
    }
}

/// The body of `POST /v1/tasks/{id}/delegate`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegateRequest {
    /// The agent that is to work on it.
    pub agent: String,
    /// What for; the parent's purpose unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What it may touch, within what the parent may.
    pub grants: Vec<Grant>,
    /// How long it lives, in seconds; the configured default unless given, and no longer than the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// What it may use up, within what the parent has left.
    #[serde(default)]
    pub limits: Limits,
    /// What its token is bound to (RFC 7800); see [`OpenRequest::cnf`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Value>,
}

impl DelegateRequest {
    /// With the operator who asks, if one does, and who vouches for the agent that does.
    pub(crate) fn complete(self, opener: Option<&str>, issuers: Vec<String>) -> DelegationRequest {
        DelegationRequest {
            agent: self.agent,
            purpose: self.purpose,
            grants: self.grants,
            ttl_seconds: self.ttl_seconds,
            limits: self.limits,
            cnf: self.cnf,
            opener: opener.map(str::to_owned),
            issuers,
            issued_at: None,
        }
    }
}

/// A task that was opened, with the token for its agent.
#[derive(Clone, Serialize, Deserialize)]
pub struct OpenedTask {
    /// The task's id.
    pub id: TaskId,
    /// The task token: whoever holds it, and what it may be bound to, works on the task. Shown this once.
    pub token: String,
    /// When task and token expire, RFC 3339.
    pub expires_at: String,
    /// The task.
    pub task: TaskView,
}

impl std::fmt::Debug for OpenedTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedTask")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

/// The body of `POST /v1/tasks/{id}/end`; may be left out.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndRequest {
    /// Why it ends.
    #[serde(default)]
    pub ending: EndingWish,
}

/// Why somebody ends a task.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndingWish {
    /// Its work is done; the default.
    #[default]
    Completed,
    /// It is taken back.
    Revoked,
}

impl From<EndingWish> for Ending {
    fn from(wish: EndingWish) -> Self {
        match wish {
            EndingWish::Completed => Self::Completed,
            EndingWish::Revoked => Self::Revoked,
        }
    }
}

/// A task that has ended, and what became of its leases.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndedTask {
    /// The task.
    pub task: TaskView,
    /// Its leases and those of the tasks below it, each with its outcome.
    pub leases: Vec<LeaseView>,
    /// The tasks that were delegated from it, and ended with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub below: Vec<TaskId>,
}
