//! The answers to a call: a permit, a pending approval, or a denial.

use call::{Call, Indistinct};
use serde_json::{Map, Value};
use tasks::{
    Approvals, Approved, Demand, Escalated, Exhausted, NotAsked, Question, Spending, Unmet,
};
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
///     policy::Permit { call, id, terms: Default::default(), approved: None, spending: Default::default() }
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
/// fn spend(permit: policy::Permit) {
///     let _ = permit.spend();
///     let _ = permit.spend();
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Permit {
    call: Call,
    id: DecisionId,
    terms: Terms,
    approved: Option<Approved>,
    /// What is held of the task for the call; given back if it is not made.
    spending: Spending,
}

impl Permit {
    pub(crate) fn new(
        call: Call,
        id: DecisionId,
        terms: Terms,
        (approved, spending): (Option<Approved>, Spending),
    ) -> Self {
        Self {
            call,
            id,
            terms,
            approved,
            spending,
        }
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

    /// The approval that was spent on it, if policy wanted one.
    pub fn approval(&self) -> Option<&str> {
        self.approved.as_ref().map(Approved::id)
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

    /// Spends the permit on its call, and on what is held of the task for it.
    pub fn spend(self) -> (Call, Spending) {
        (self.call, self.spending)
    }
}

/// A call that waits for an approval: it can be asked for, and decided again. Nothing else comes of it.
///
/// ```compile_fail,E0451
/// fn forge(call: call::Call) -> policy::Pending {
///     policy::Pending { call, reason: None, message: None, demands: Vec::new() }
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Pending {
    call: Call,
    reason: Option<String>,
    message: Option<String>,
    demands: Vec<Demand>,
}

impl Pending {
    pub(crate) fn new(
        call: Call,
        reason: Option<String>,
        message: Option<String>,
        demands: Vec<Demand>,
    ) -> Self {
        Self {
            call,
            reason,
            message,
            demands,
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

    /// Who must approve.
    pub fn demands(&self) -> &[Demand] {
        &self.demands
    }

    /// The call, to be decided again.
    pub fn into_call(self) -> Call {
        self.call
    }

    /// Asks for an approval of exactly this call, or says what became of the one that was asked for before.
    pub async fn ask(&self, approvals: &Approvals) -> Result<Question, Unaskable> {
        let digest = self.call.digest()?;
        let escalated = Escalated {
            task: self.call.task().facts().clone(),
            holders: self.call.task().holders(),
            tool: self.call.tool().name.clone(),
            operation: self.call.operation().to_owned(),
            access: self.call.access(),
            digest: digest.as_str().to_owned(),
            call: self.call.shown(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            demands: self.demands.clone(),
        };
        Ok(approvals.ask(escalated).await?)
    }
}

/// Why nobody can be asked about a call.
#[derive(Debug, thiserror::Error)]
pub enum Unaskable {
    /// It can't be told from every other call.
    #[error("call can't be approved: {0}")]
    Indistinct(#[from] Indistinct),
    /// The book of approvals does not take it.
    #[error(transparent)]
    NotAsked(#[from] NotAsked),
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
    /// The task carries as many labels as it may, and the call would give it another one.
    LabelsFull,
    /// The count could not be made durable.
    StoreFailed,
    /// The task was given a label meanwhile that its grant is not for.
    OutOfRemit,
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

impl From<Unmet> for Denial {
    fn from(unmet: Unmet) -> Self {
        Self {
            reason: Some(unmet.as_str().to_owned()),
            message: Some(unmet.to_string()),
            ..Self::new(DenialKind::OutOfRemit, unmet.to_string())
        }
    }
}

impl From<Exhausted> for Denial {
    fn from(exhausted: Exhausted) -> Self {
        let cause = exhausted.to_string();
        let (kind, reason) = match exhausted {
            Exhausted::Limit { limit, .. } => (DenialKind::Exhausted, Some(limit)),
            Exhausted::Ended => (DenialKind::TaskEnded, None),
            Exhausted::Paused => (DenialKind::TaskPaused, None),
            Exhausted::Labels(_) => (DenialKind::LabelsFull, None),
            Exhausted::Rehearsal | Exhausted::Store(_) => (DenialKind::StoreFailed, None),
        };
        Self {
            reason,
            ..Self::new(kind, cause)
        }
    }
}
