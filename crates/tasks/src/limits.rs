//! What a task may use up, and what it did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Access, Amount, Rate, ToolName, Unit};

/// What a task may use up. None means unlimited.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Calls by access class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls_by_access: BTreeMap<Access, u64>,
    /// Calls by tool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls_by_tool: BTreeMap<ToolName, u64>,
    /// Bytes of bodies, both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Distinct resources; at most 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<u64>,
    /// What its calls may cost, by unit, as the answers of tools tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub budget: BTreeMap<Unit, Amount>,
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many calls at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
}

impl Limits {
    /// The tighter one of each.
    pub(crate) fn tighter(mut self, other: Self) -> Self {
        fn tighten(one: &mut Option<u64>, other: Option<u64>) {
            *one = match (*one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        tighten(&mut self.calls, other.calls);
        tighten(&mut self.bytes, other.bytes);
        tighten(&mut self.resources, other.resources);
        tighten(&mut self.concurrency, other.concurrency);
        self.rate = match (self.rate, other.rate) {
            (Some(one), Some(other)) if other.per_minute < one.per_minute => Some(other),
            (one, other) => one.or(other),
        };
        for (access, other) in other.calls_by_access {
            let one = self.calls_by_access.entry(access).or_insert(other);
            *one = other.min(*one);
        }
        for (tool, other) in other.calls_by_tool {
            let one = self.calls_by_tool.entry(tool).or_insert(other);
            *one = other.min(*one);
        }
        for (unit, other) in other.budget {
            let one = self.budget.entry(unit).or_insert(other);
            *one = other.min(*one);
        }
        self
    }
}

/// What a task used up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Calls in all.
    pub calls: u64,
    /// Calls by access class.
    pub by_access: BTreeMap<Access, u64>,
    /// Calls by tool.
    pub by_tool: BTreeMap<ToolName, u64>,
    /// Bytes of bodies, both ways, where they are limited; what is held for calls that are under way included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// What its calls cost, by unit; what is held for calls that are under way included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spent: BTreeMap<Unit, Amount>,
    /// The distinct resources, where they are limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
