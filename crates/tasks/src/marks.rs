//! The labels that a task's calls gave it.

use parking_lot::RwLock;

use crate::Exhausted;
use crate::opening::MAX_LABELS;

/// The labels that a task's calls gave it, besides those it was opened with. None is ever taken away.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    labels: Vec<String>,
    /// How many of them the store is known to hold.
    durable: usize,
}

impl Marks {
    pub(crate) fn load(labels: Vec<String>) -> Self {
        let durable = labels.len();
        let state = RwLock::new(State { labels, durable });
        Self { state }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.state.read().labels.clone()
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        let state = self.state.read();
        state.labels.iter().any(|known| known == label)
    }

    /// Adds those that neither it nor `opened` has; they are seen from then on. True if one of these has yet to be
    /// written, whoever added it.
    pub(crate) fn add(&self, labels: &[String], opened: &[String]) -> Result<bool, Exhausted> {
        let is_opened = |label: &String| opened.contains(label);
        let place = |state: &State, label: &String| {
            let mut known = state.labels.iter();
            known.position(|known| known == label)
        };
        {
            let state = self.state.read();
            let is_written =
                |label: &String| place(&state, label).is_some_and(|place| place < state.durable);
            if labels
                .iter()
                .all(|label| is_opened(label) || is_written(label))
            {
                return Ok(false);
            }
        }
        let mut state = self.state.write();
        for label in labels.iter().filter(|label| !is_opened(label)) {
            if place(&state, label).is_some() {
                continue;
            }
            if opened.len() + state.labels.len() >= MAX_LABELS {
                return Err(Exhausted::Labels(MAX_LABELS));
            }
            state.labels.push(label.clone());
        }
        Ok(true)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.state.read().labels.len()
    }

    /// The store holds so many.
    pub(crate) fn written(&self, count: usize) {
        let mut state = self.state.write();
        state.durable = state.durable.max(count);
    }
}
