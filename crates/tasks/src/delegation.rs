//! A part of a task for another agent: less than its parent has, never more.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::children::Place;
use crate::entry::Entry;
use crate::facts::Issued;
use crate::{Grant, InvalidOpening, Limits, Opening, OpeningRequest};

/// How far tasks may be delegated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DelegationBounds {
    /// How many delegations may lie between a task and the one that nobody delegated.
    pub depth: usize,
    /// How many open children a task may have at once.
    pub children: usize,
    /// How many open tasks there may be at once below one that nobody delegated.
    pub family: usize,
}

/// A part of a task that somebody asks to delegate. Owner, attributes and labels are the parent's: they say what policy
/// allows, so that who works on a task has no word in them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DelegationRequest {
    /// The agent that is to work on it; none that it was delegated by.
    pub agent: String,
    /// What for, in the delegating agent's words; the parent's purpose unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What it may touch, within what its parent may.
    pub grants: Vec<Grant>,
    /// How long it lives, in seconds; at most as long as its parent, and the configured default unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// What it may use up, within what its parent has left. Its calls count in its parent, too.
    #[serde(default)]
    pub limits: Limits,
    /// What its tokens are bound to (RFC 7800).
    #[serde(skip)]
    pub cnf: Option<serde_json::Value>,
    /// The operator who asks, if it is no agent: like the one who opened the parent, it approves no calls of the child.
    #[serde(skip)]
    pub opener: Option<String>,
    /// Who vouches for whoever asks, and for the agent that is to work on it.
    #[serde(skip)]
    pub issuers: Vec<String>,
    /// When the oldest of the tokens was issued that named the agent, in seconds since the epoch; none where none did.
    #[serde(skip)]
    pub issued_at: Option<i64>,
}

/// Four deep, 16 wide, 64 in all.
impl Default for DelegationBounds {
    fn default() -> Self {
        Self {
            depth: 4,
            children: 16,
            family: 64,
        }
    }
}

impl DelegationRequest {
    /// Checks it against the parent, and keeps a place for the child.
    pub(crate) fn opening(
        self,
        parent: &Arc<Entry>,
        bounds: DelegationBounds,
        (ttl_default, ttl_max): (Duration, Duration),
    ) -> Result<Opening, InvalidOpening> {
        let facts = parent.facts();
        let left = parent.left() / 1000;
        if left == 0 || parent.ending().is_some() || parent.is_paused() {
            return Err(InvalidOpening::ParentNotOpen(facts.id().clone()));
        }
        let mut chain = facts.chain().to_vec();
        chain.push(facts.agent().to_owned());
        if chain.len() > bounds.depth {
            return Err(InvalidOpening::TooDeep(bounds.depth));
        }
        if chain.contains(&self.agent) {
            return Err(InvalidOpening::Loop(self.agent));
        }
        check_life(self.ttl_seconds, left)?;
        if facts.cnf().is_some() && self.cnf.is_none() {
            let problem = "the parent's tokens are bound to a key, so the child's must be, too";
            return Err(wider("cnf", problem.to_owned()));
        }
        let request = OpeningRequest {
            agent: self.agent,
            owner: facts.owner().to_owned(),
            opener: None,
            issuers: distinct([facts.issuers(), &self.issuers].concat()),
            issued: Issued {
                agent: self.issued_at,
                ..facts.issued()
            },
            cnf: self.cnf,
            purpose: self.purpose.unwrap_or_else(|| facts.purpose().to_owned()),
            grants: self.grants,
            ttl_seconds: self.ttl_seconds,
            limits: self.limits,
            attributes: facts.attributes().clone(),
            labels: parent.labels(),
        };
        let ttl_default = ttl_default.min(Duration::from_secs(left));
        let mut opening = Opening::new(request, ttl_default, ttl_max)?;
        check_grants(&opening.wish.grants, facts.grants())?;
        check_limits(&opening.wish.limits, &parent.rest())?;
        opening.wish.openers = facts.openers().to_vec();
        opening.wish.openers.extend(self.opener);
        opening.wish.parent = Some(facts.id().clone());
        opening.wish.root = Some(facts.root().clone());
        opening.wish.chain = chain.into();
        opening.place = Some(Place::reserve(parent, &bounds)?);
        Ok(opening)
    }
}

pub(crate) fn distinct(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

fn wider(field: &'static str, problem: String) -> InvalidOpening {
    InvalidOpening::Wider { field, problem }
}

fn check_life(asked: Option<u64>, left: u64) -> Result<(), InvalidOpening> {
    match asked {
        Some(asked) if asked > left => {
            let problem = format!("is longer than the {left} s that are left of the parent");
            Err(wider("ttl_seconds", problem))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_grants(grants: &[Grant], parents: &[Grant]) -> Result<(), InvalidOpening> {
    match grants.iter().find(|grant| !grant.within(parents)) {
        Some(grant) => {
            let tool = &grant.tool;
            let problem =
                format!("the one for `{tool}` is for more than its parent may touch there");
            Err(wider("grants", problem))
        }
        None => Ok(()),
    }
}

fn check_limits(limits: &Limits, rest: &Limits) -> Result<(), InvalidOpening> {
    let check = |field, asked: Option<&u64>, left: Option<&u64>| match (asked, left) {
        (Some(asked), Some(left)) if asked > left => {
            let problem = format!("is more than the {left} that the parent has left");
            Err(wider(field, problem))
        }
        _ => Ok(()),
    };
    check("limits.calls", limits.calls.as_ref(), rest.calls.as_ref())?;
    let (asked, most) = (limits.concurrency.as_ref(), rest.concurrency.as_ref());
    check("limits.concurrency", asked, most)?;
    let per_minute = |limits: &Limits| limits.rate.map(|rate| rate.per_minute);
    let (asked, most) = (per_minute(limits), per_minute(rest));
    check("limits.rate", asked.as_ref(), most.as_ref())?;
    check("limits.bytes", limits.bytes.as_ref(), rest.bytes.as_ref())?;
    let (asked, most) = (limits.resources.as_ref(), rest.resources.as_ref());
    check("limits.resources", asked, most)?;
    for (unit, asked) in &limits.budget {
        if let Some(left) = rest.budget.get(unit).filter(|left| asked > left) {
            let problem = format!("is {asked} `{unit}`, of which the parent has {left} left");
            return Err(wider("limits.budget", problem));
        }
    }
    for (access, asked) in &limits.calls_by_access {
        let left = rest.calls_by_access.get(access);
        check("limits.calls_by_access", Some(asked), left)?;
    }
    for (tool, asked) in &limits.calls_by_tool {
        let left = rest.calls_by_tool.get(tool);
        check("limits.calls_by_tool", Some(asked), left)?;
    }
    Ok(())
}
