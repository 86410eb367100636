//! An approval as the store holds it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Escalated;
use super::view::{ApprovalState, ApprovalView, DemandView, VoteView, rfc3339};
use crate::{Access, Demand, TaskId, ToolName};

/// An approval as the store holds it. Times are milliseconds since the epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) task: TaskId,
    /// The first of all that the task was delegated from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<TaskId>,
    agent: String,
    owner: String,
    /// Who opened and delegated the task, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    openers: Vec<String>,
    purpose: String,
    tool: ToolName,
    operation: String,
    access: Access,
    pub(super) digest: String,
    call: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    pub(super) demands: Vec<Demand>,
    pub(super) votes: Vec<Vote>,
    asked_at: i64,
    pub(super) expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed: Option<Close>,
}

/// What somebody answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Vote {
    pub(super) by: String,
    pub(super) role: String,
    pub(super) granted: bool,
    pub(super) at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
}

/// How and when it ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Close {
    how: Closed,
    at: i64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Closed {
    Spent,
    Refused,
    Expired,
}

impl Record {
    pub(super) fn new(escalated: &Escalated, now: i64, expires_at: i64) -> Self {
        let task = &escalated.task;
        Self {
            task: task.id().clone(),
            root: (task.root() != task.id()).then(|| task.root().clone()),
            agent: task.agent().to_owned(),
            owner: task.owner().to_owned(),
            openers: [task.openers(), task.chain(), &*escalated.holders].concat(),
            purpose: task.purpose().to_owned(),
            tool: escalated.tool.clone(),
            operation: escalated.operation.clone(),
            access: escalated.access,
            digest: escalated.digest.clone(),
            call: escalated.call.clone(),
            reason: escalated.reason.clone(),
            message: escalated.message.clone(),
            demands: escalated.demands.clone(),
            votes: Vec::new(),
            asked_at: now,
            expires_at,
            closed: None,
        }
    }

    /// Ends it, unless it has ended.
    pub(super) fn close(&mut self, how: Closed, at: i64) {
        self.closed.get_or_insert(Close { how, at });
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(super) fn closed_as(&self) -> Option<Closed> {
        self.closed.map(|closed| closed.how)
    }

    pub(super) fn closed_at(&self) -> Option<i64> {
        self.closed.map(|closed| closed.at)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.closed_as() == Some(Closed::Spent)
    }

    /// Takes the place of another state of the same approval, which stays ended if it has.
    pub(super) fn replace(self, other: &mut Self) {
        let closed = other.closed.or(self.closed);
        *other = Self { closed, ..self };
    }

    /// The first of all that its task was delegated from; its task, if nobody delegated that.
    pub(super) fn root(&self) -> &TaskId {
        self.root.as_ref().unwrap_or(&self.task)
    }

    /// Whether the task is somebody's own: whoever it is done for, whoever opened or delegated it, whoever works on it.
    pub(super) fn is_own(&self, name: &str) -> bool {
        let own = [&self.owner, &self.agent].into_iter().chain(&self.openers);
        // Who is written in another case is hardly another one.
        let name = name.to_lowercase();
        own.into_iter().any(|own| own.to_lowercase() == name)
    }

    pub(super) fn has_granted(&self, name: &str) -> bool {
        self.grants().any(|vote| vote.by == name)
    }

    /// Whether every demand is met. One approval may count for several.
    pub(super) fn is_met(&self, demands: &[Demand]) -> bool {
        // Where nothing is demanded nobody approved anything.
        !demands.is_empty()
            && demands
                .iter()
                .all(|demand| self.counted(demand) >= demand.count)
    }

    /// How many of those whose approval counts approved. Nobody has two votes, and nobody one of its own task.
    fn counted(&self, demand: &Demand) -> usize {
        let mut names: Vec<&str> = self
            .grants()
            .filter(|vote| demand.counts(&vote.by, &vote.role) && !self.is_own(&vote.by))
            .map(|vote| vote.by.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }

    /// Who approved. Sorted.
    pub(super) fn approvers(&self) -> Vec<String> {
        let mut names: Vec<String> = self.grants().map(|vote| vote.by.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn grants(&self) -> impl Iterator<Item = &Vote> {
        self.votes.iter().filter(|vote| vote.granted)
    }

    pub(super) fn view(&self, id: &str, state: ApprovalState, link: String) -> ApprovalView {
        let demands = self.demands.iter().map(|demand| DemandView {
            demand: demand.clone(),
            granted: self.counted(demand),
        });
        let votes = self.votes.iter().map(|vote| VoteView {
            by: vote.by.clone(),
            role: vote.role.clone(),
            granted: vote.granted,
            at: rfc3339(vote.at),
            comment: vote.comment.clone(),
        });
        ApprovalView {
            id: id.to_owned(),
            state,
            task: self.task.clone(),
            agent: self.agent.clone(),
            owner: self.owner.clone(),
            purpose: self.purpose.clone(),
            tool: self.tool.clone(),
            operation: self.operation.clone(),
            access: self.access,
            reason: self.reason.clone(),
            message: self.message.clone(),
            call: self.call.clone(),
            digest: self.digest.clone(),
            demands: demands.collect(),
            votes: votes.collect(),
            asked_at: rfc3339(self.asked_at),
            expires_at: rfc3339(self.expires_at),
            closed_at: self.closed_at().map(rfc3339),
            link,
        }
    }
}
