//! What a task may use up, and what it did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Access, ToolName};

/// What a task may use up, in calls. None means unlimited.
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
