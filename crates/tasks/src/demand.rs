//! Who must approve a call before it may be made.

use serde::{Deserialize, Serialize};

/// What one rule asks for before a call may be made: so many approvals, of these people.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// The rule's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rule's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Those whose approval counts, by name. Where neither names nor roles are given, everybody's counts who may approve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Those whose approval counts, by role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// How many of them; at least one.
    pub count: usize,
}

/// Somebody who approves or refuses: an operator whose token was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Voter {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
}

impl Demand {
    /// One approval of anybody.
    pub fn of_anybody(reason: Option<String>, message: Option<String>) -> Self {
        Self {
            reason,
            message,
            names: Vec::new(),
            roles: Vec::new(),
            count: 1,
        }
    }

    /// Whether somebody's approval counts.
    pub(crate) fn counts(&self, name: &str, role: &str) -> bool {
        self.names.is_empty() && self.roles.is_empty()
            || self.names.iter().any(|known| known == name)
            || self.roles.iter().any(|known| known == role)
    }
}
