//! The answers to a call: a permit, a pending approval, or a denial.

use call::Call;
use serde_json::{Map, Value};
use tasks::Exhausted;
use telemetry::{DecisionId, PolicyFailure};

use crate::decision::Terms;

/// How a call was ruled, when it was not denied.
#[derive(Debug)]
#[must_use]
pub enum Ruling {
    /// It may.
    Allow(Permit),
    /// It may once somebody approves.
    Escalate(Pending),
}

/// Proof that policy allowed one call.
///
/// It can't be forged:
/// ```compile_fail,E0451
/// fn forge(call: call::Call, id: telemetry::DecisionId) -> policy::Permit {
///     policy::Permit { call, id, terms: Default::default() }
/// }
/// ```
/// It can't be copied:
/// ```compile_fail,E0277
/// fn copy(permit: &policy::Permit) -> policy::Permit {
///     policy::Permit::clone(permit)
/// }
/// ```
/// It can't be spent twice:
/// ```compile_fail,E0382
/// fn spend(permit: policy::Permit) -> (call::Call, call::Call) {
///     (permit.spend(), permit.spend())
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Permit {
    call: Call,
    id: DecisionId,
    terms: Terms,
}

impl Permit {
    pub(crate) fn new(call: Call, id: DecisionId, terms: Terms) -> Self {
        Self { call, id, terms }
    }

    /// The call that was allowed.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The decision's id.
    pub fn id(&self) -> &DecisionId {
        &self.id
    }

    /// How the decision narrows the credential.
    pub fn narrowing(&self) -> &Narrowing {
        &self.terms.narrowing
    }

    /// The reason it gave.
    pub fn reason(&self) -> Option<&str> {
        self.terms.reason.as_deref()
    }

    /// Its warnings.
    pub fn warnings(&self) -> &[String] {
        &self.terms.warnings
    }

    /// The labels it gives.
    pub fn labels(&self) -> &[String] {
        &self.terms.labels
    }

    /// What comes out of the answer, as JSON pointers (RFC 6901).
    pub fn redact(&self) -> &[String] {
        &self.terms.redact
    }

    /// Spends the permit on its call.
    pub fn spend(self) -> Call {
        self.call
    }
}

/// A call that waits for an approval. Approvals are not built yet: nothing turns it into a permit.
///
/// ```compile_fail,E0451
/// fn forge(call: call::Call) -> policy::Pending {
///     policy::Pending { call, reason: None, message: None }
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Pending {
    call: Call,
    reason: Option<String>,
    message: Option<String>,
}

impl Pending {
    pub(crate) fn new(call: Call, reason: Option<String>, message: Option<String>) -> Self {
        Self {
            call,
            reason,
            message,
        }
    }

    /// The call.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The reason.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The message.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// How a decision narrows a credential.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Narrowing {
    /// OAuth scopes; the tool's own unless given. Sorted.
    pub scopes: Vec<String>,
    /// The longest life.
    pub ttl_seconds: Option<u64>,
    /// The provider's own.
    pub narrow: Map<String, Value>,
}

/// The answer no.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Denial {
    /// Which no.
    pub kind: DenialKind,
    /// The policy's reason, shown to the agent.
    pub reason: Option<String>,
    /// The policy's message, shown to the agent.
    pub message: Option<String>,
    /// For operators alone.
    pub cause: String,
    /// How the policy failed, if that is why.
    pub failure: Option<PolicyFailure>,
}

/// Which no it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DenialKind {
    /// Policy said no.
    Denied,
    /// Policy said nothing.
    Undefined,
    /// Policy failed: error, wrong shape, panic.
    Failed,
    /// Policy took too many instructions, or too long.
    TooSlow,
    /// A limit of the task is used up.
    Exhausted,
    /// The task ended meanwhile.
    TaskEnded,
    /// The task was paused meanwhile.
    TaskPaused,
    /// The count could not be made durable.
    StoreFailed,
}

impl Denial {
    pub(crate) fn new(kind: DenialKind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            reason: None,
            message: None,
            cause: cause.into(),
            failure: None,
        }
    }
}

impl DenialKind {
    /// Whether policy gave no answer that counts.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TooSlow)
    }
}

impl From<Exhausted> for Denial {
    fn from(exhausted: Exhausted) -> Self {
        let cause = exhausted.to_string();
        let (kind, reason) = match exhausted {
            Exhausted::Limit { limit, .. } => (DenialKind::Exhausted, Some(limit)),
            Exhausted::Ended => (DenialKind::TaskEnded, None),
            Exhausted::Paused => (DenialKind::TaskPaused, None),
            Exhausted::Rehearsal | Exhausted::Store(_) => (DenialKind::StoreFailed, None),
        };
        Self {
            reason,
            ..Self::new(kind, cause)
        }
    }
}
