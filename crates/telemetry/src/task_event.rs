//! What happened to a task, rather than to a call of it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::Delegated;

/// What happened to a task. Texts hold no secret.
#[derive(Clone, Debug)]
pub struct TaskEvent {
    /// What.
    pub kind: TaskEventKind,
    /// When.
    pub at: Timestamp,
    /// To which.
    pub task: Arc<str>,
    /// Where it was delegated from, if it was.
    pub delegated: Option<Delegated>,
    /// Whose.
    pub agent: Arc<str>,
    /// On whose behalf.
    pub owner: Arc<str>,
    /// Who did it; none where nobody did, as with what expires.
    pub by: Option<Arc<str>>,
    /// The approval that was answered, if one was.
    pub approval: Option<Arc<str>>,
    /// What was said with the answer.
    pub comment: Option<String>,
    /// Why it ended: `completed`, `revoked`, `expired`, `parent_ended`.
    pub because: Option<Arc<str>>,
    /// What became of its leases.
    pub leases: Vec<EndedLease>,
}

/// What can happen to a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TaskEventKind {
    /// It was opened.
    Opened,
    /// It was opened as a part of another one.
    Delegated,
    /// Its calls are cut and refused.
    Paused,
    /// They are let through again.
    Resumed,
    /// A new token of it was given to somebody.
    TokenMinted,
    /// Somebody approved a call of it.
    CallApproved,
    /// Somebody refused to.
    CallRefused,
    /// One of its tokens was taken back.
    TokenRevoked,
    /// It ended, its calls were cut, its leases taken back as far as they could be.
    Ended,
}

impl TaskEventKind {
    /// The word in every output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Delegated => "delegated",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::TokenMinted => "token_minted",
            Self::CallApproved => "call_approved",
            Self::CallRefused => "call_refused",
            Self::TokenRevoked => "token_revoked",
            Self::Ended => "ended",
        }
    }
}

/// A lease that was taken back, or could not be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndedLease {
    /// Its id.
    pub id: String,
    /// For which tool.
    pub tool: String,
    /// `revoked`, `expires_at`, `drop_only`; `active` where it is still tried.
    pub outcome: String,
}

impl EndedLease {
    /// Whether the upstream takes the secret no more.
    pub fn is_revoked(&self) -> bool {
        self.outcome == "revoked"
    }
}
