//! What a task may use up, and what it did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Access, Rate, ToolName};

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
        self
    }
}

/// What a task used up, in calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Calls in all.
    pub calls: u64,
    /// Calls by access class.
    pub by_access: BTreeMap<Access, u64>,
    /// Calls by tool.
    pub by_tool: BTreeMap<ToolName, u64>,
}
