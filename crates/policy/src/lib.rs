//! May it?
//!
//! [`Policy::decide`] turns a [`Call`] into a [`Permit`], or says why not; [`Policy::admit`] says
//! whether a task may be opened.
//!
//! **Invariant.** A [`Permit`] is made in this crate and nowhere else, and stands for one call: it
//! can be neither forged nor copied. Undefined, error, timeout, wrong shape: no.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use call::Call;
use serde_json::{Map, Value};
use tasks::{Opening, StoreError, TaskView, Tasks};
use telemetry::DecisionId;

/// One revision of a policy: parsed, checked, compiled and tested. Never changed.
#[derive(Debug)]
pub struct Policy;

/// One file of a policy.
#[derive(Clone, Debug)]
pub struct Source {
    /// For findings.
    pub path: PathBuf,
    /// Rego, or JSON/YAML data.
    pub text: String,
}

/// Something wrong with a policy.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    /// Stable, kebab case.
    pub code: &'static str,
    /// `error` blocks, `warning` doesn't.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// From 1; 0 if unknown.
    pub line: u32,
    /// From 1; 0 if unknown.
    pub column: u32,
    /// What is wrong, and what to write instead.
    pub message: String,
}
/// Whether a finding blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It blocks.
    Error,
    /// It doesn't.
    Warning,
}

impl Policy {
    /// Reads every `.rego`, `data.json` and `data.yaml` below a folder.
    pub fn read(_folder: &Path) -> Result<Vec<Source>, std::io::Error> {
        todo!()
    }
    /// The policy of the examples (`notes`, `desk`).
    pub fn example() -> Vec<Source> {
        todo!()
    }
    /// Parse, check, compile, test. Warnings come with the policy, errors instead of it.
    pub fn load(_sources: Vec<Source>) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        todo!()
    }
    /// The revision: a digest of all sources.
    pub fn revision(&self) -> &Arc<str> {
        todo!()
    }
    /// Decides one call, and reserves its place in the task's limits.
    pub async fn decide(&self, _call: Call, _id: DecisionId) -> Result<Ruling, Denial> {
        todo!()
    }
    /// Decides whether a task may be opened.
    pub fn admit(&self, _opening: Opening, _opener: &Opener) -> Result<Admitted, Denial> {
        todo!()
    }
    /// What would be decided, and why. Nothing is reserved.
    pub fn explain(&self, _call: &Call) -> Explanation {
        todo!()
    }
}
/// Who asks to open a task, as admission policy sees it (`input.operator`).
#[derive(Clone, Debug, serde::Serialize)]
pub struct Opener {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
}

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
#[derive(Debug)]
#[must_use]
pub struct Permit {
    call: Call,
}
impl Permit {
    /// The call that was allowed.
    pub fn call(&self) -> &Call {
        &self.call
    }
    /// The decision's id.
    pub fn id(&self) -> &DecisionId {
        todo!()
    }
    /// How the decision narrows the credential.
    pub fn narrowing(&self) -> &Narrowing {
        todo!()
    }
    /// The reason it gave.
    pub fn reason(&self) -> Option<&str> {
        todo!()
    }
    /// Its warnings.
    pub fn warnings(&self) -> &[String] {
        todo!()
    }
    /// The labels it gives.
    pub fn labels(&self) -> &[String] {
        todo!()
    }
    /// Spends the permit on its call.
    pub fn spend(self) -> Call {
        self.call
    }
}
/// A call that waits for an approval. Approvals are not built yet: nothing turns it into a permit.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    call: Call,
}
impl Pending {
    /// The call.
    pub fn call(&self) -> &Call {
        &self.call
    }
    /// The reason.
    pub fn reason(&self) -> Option<&str> {
        todo!()
    }
    /// The message.
    pub fn message(&self) -> Option<&str> {
        todo!()
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
}
/// Which no it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DenialKind {
    /// Policy said no.
    Denied,
    /// Policy said nothing.
    Undefined,
    /// Policy failed: error, timeout, limit, wrong shape, panic.
    Failed,
    /// A limit of the task is used up.
    Exhausted,
    /// The task ended meanwhile.
    TaskEnded,
    /// The count could not be made durable.
    StoreFailed,
}

/// An opening that policy admitted. Only this opens a task.
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    opening: Opening,
}
impl Admitted {
    /// Opens the task.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where an admission opens a task"
    )]
    pub async fn open(self, tasks: &Tasks) -> Result<TaskView, StoreError> {
        tasks.open(self.opening).await
    }
}
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
    /// Which rules of the tool's package and of `remit.all` held.
    pub rules: Vec<Value>,
    /// The input that was judged.
    pub input: Value,
}
