//! An agent's call on an open task of its own.

use std::sync::Arc;

use identity::Agent;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::{
    Costs, Cover, Declared, Done, Exhausted, Facts, Grant, Limits, Spending, TaskId, Unmet, Usage,
    Wanted,
};

/// An agent's call on an open task of its own. It stands for one call: it can be neither copied nor made up.
///
/// ```compile_fail,E0599
/// fn twice(task: tasks::Task) -> (tasks::Task, tasks::Task) {
///     (task.clone(), task)
/// }
/// ```
/// ```compile_fail,E0451
/// fn forged(task: tasks::Task, agent: identity::Agent) -> tasks::Task {
///     tasks::Task { agent, ..task }
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Task {
    agent: Agent,
    entry: Arc<Entry>,
    declared: Declared,
    /// Taken before anything else is asked, so that a pause that comes later cuts this call.
    cut: CancellationToken,
    /// Whether it was bound to explain: then nothing is counted, and nothing is permitted.
    rehearsal: bool,
}

impl Task {
    pub(crate) fn new(agent: Agent, entry: Arc<Entry>, declared: Declared) -> Self {
        Self {
            cut: entry.calls().child_token(),
            agent,
            entry,
            declared,
            rehearsal: false,
        }
    }

    pub(crate) fn rehearsal(agent: Agent, entry: Arc<Entry>) -> Self {
        Self {
            cut: entry.calls(),
            agent,
            entry,
            declared: Declared::default(),
            rehearsal: true,
        }
    }

    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Who asks.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// What never changes about it, with forms of it that are prepared once.
    pub fn facts(&self) -> &Arc<Facts> {
        self.entry.facts()
    }

    /// Its id.
    pub fn id(&self) -> &TaskId {
        self.facts().id()
    }

    /// On whose behalf.
    pub fn owner(&self) -> &str {
        self.facts().owner()
    }

    /// What for.
    pub fn purpose(&self) -> &str {
        self.facts().purpose()
    }

    /// What it may touch.
    pub fn grants(&self) -> &[Grant] {
        self.facts().grants()
    }

    /// Free attributes.
    pub fn attributes(&self) -> &Map<String, Value> {
        self.facts().attributes()
    }

    /// The labels that calls gave it and the tasks that it was delegated from, besides those of its facts.
    pub fn marks(&self) -> Vec<String> {
        self.entry.marks()
    }

    /// Its last calls, at most 64, the oldest first.
    pub fn recent(&self) -> Vec<Arc<Done>> {
        self.entry.history().recent()
    }

    /// Gives labels to the task and to all that it was delegated from; durable when it returns, and seen at once.
    ///
    /// Nothing that it is about to do may be done when it fails.
    pub async fn mark(&self, labels: &[String]) -> Result<(), Exhausted> {
        if self.rehearsal {
            return Err(Exhausted::Rehearsal);
        }
        if labels.is_empty() {
            return Ok(());
        }
        self.entry.mark(labels).await
    }

    /// The operators who were given a token of it, besides whoever opened it.
    pub fn holders(&self) -> Vec<String> {
        self.entry.holders()
    }

    /// Remembers a call that was permitted.
    pub fn note(&self, done: Done) {
        self.entry.history().note(done);
    }

    /// When it was opened, RFC 3339.
    pub fn opened_at(&self) -> &str {
        self.facts().opened_at()
    }

    /// When it expires, RFC 3339.
    pub fn expires_at(&self) -> &str {
        self.facts().expires_at()
    }

    /// When it expires, in seconds since the epoch.
    pub fn expires_at_epoch(&self) -> i64 {
        self.facts().expires_at_epoch()
    }

    /// What the agent says of its call.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// What was used up before this call, calls that just pass through `reserve` included.
    pub fn usage(&self) -> Usage {
        self.entry.usage()
    }

    /// What its limits and those of the tasks above it leave.
    pub fn rest(&self) -> Limits {
        self.entry.rest()
    }

    /// Cancelled when the task ends: whatever is held for it must be given back.
    pub fn ended(&self) -> CancellationToken {
        self.entry.cancellation().clone()
    }

    /// Cancelled when the task ends or is paused: calls that are open for it must be cut.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// The task that it was delegated from.
    pub fn parent(&self) -> Option<&TaskId> {
        self.facts().parent()
    }

    /// The agents that delegated it, the first of all first.
    pub fn chain(&self) -> &Arc<[String]> {
        self.facts().chain()
    }

    /// Whether distinct resources are counted, in it or above it.
    pub fn counts_resources(&self) -> bool {
        let mut next = Some(&self.entry);
        while let Some(entry) = next {
            if entry.facts().limits().resources.is_some() {
                return true;
            }
            next = entry.parent();
        }
        false
    }

    /// Finds the grants that cover a call, by the labels that the task carries now. The error says which limit is in the way, if
    /// a grant would cover it otherwise.
    pub fn cover(&self, wanted: &Wanted<'_>) -> Result<Cover, Option<Unmet>> {
        Cover::find(self.grants(), wanted, |label| self.entry.carries(label))
    }

    /// Whether what covered a call of this task still does: another call may have given it a label meanwhile.
    pub fn still_covers(&self, cover: &Cover) -> Result<(), Unmet> {
        cover.check(self.grants(), |label| self.entry.carries(label))
    }

    /// Counts one permitted call, and holds for it what it may take, durably enough that a crash never counts lower; refused
    /// when a limit would be passed.
    ///
    /// Nothing is counted when it fails, or when it is dropped before it is ready.
    pub async fn reserve(&self, costs: &Costs<'_>) -> Result<Spending, Exhausted> {
        if self.rehearsal {
            return Err(Exhausted::Rehearsal);
        }
        self.entry.reserve(costs).await
    }
}
