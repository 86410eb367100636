//! What a task did last.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Access, ToolName};

/// How many calls are remembered.
const REMEMBERED: usize = 64;

/// A call that was permitted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Done {
    /// The tool.
    pub tool: ToolName,
    /// The operation, as the config writes it.
    pub operation: String,
    /// Its access class.
    pub access: Access,
    /// The labels that it gave its task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// The last calls of one task, in memory: a restart forgets them, and what must not be forgotten is a label.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Held for a few moves.
    calls: Mutex<VecDeque<Arc<Done>>>,
}

impl History {
    pub(crate) fn note(&self, done: Done) {
        let mut calls = self.calls.lock();
        if calls.len() == REMEMBERED {
            calls.pop_front();
        }
        calls.push_back(Arc::new(done));
    }

    /// The oldest first.
    pub(crate) fn recent(&self) -> Vec<Arc<Done>> {
        self.calls.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, History, REMEMBERED};
    use crate::Access;

    #[test]
    fn the_last_are_remembered_the_oldest_first() {
        let history = History::default();
        assert!(history.recent().is_empty());
        for number in 0..REMEMBERED + 10 {
            history.note(Done {
                tool: "notes".parse().unwrap(),
                operation: number.to_string(),
                access: Access::Read,
                labels: Vec::new(),
            });
        }
        let recent = history.recent();
        assert_eq!(recent.len(), REMEMBERED);
        assert_eq!(recent[0].operation, "10");
        assert_eq!(recent[REMEMBERED - 1].operation, "73");
    }
}
