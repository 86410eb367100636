//! Bytes of an answer that a cost is looked for in, held against what there may be of them in all.

use tokio::sync::OwnedSemaphorePermit;

use crate::body::Budget;

/// The most that one answer holds: one in one piece, or one event.
pub(crate) const LONGEST: usize = 1 << 20;

/// How much is taken of the budget at a time.
const STEP: usize = 16 << 10;

/// Bytes of an answer that a cost is looked for in.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
    /// How many bytes are held of the budget.
    room: usize,
}

impl Buffer {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            bytes: Vec::new(),
            budget: budget.clone(),
            held: None,
            room: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds bytes, if there is room for them.
    pub(crate) fn add(&mut self, more: &[u8]) -> bool {
        let length = self.bytes.len().saturating_add(more.len());
        if length > LONGEST {
            return false;
        }
        if length > self.room {
            let step = (length - self.room).next_multiple_of(STEP);
            let Ok(taken) = self.budget.take(step) else {
                return false;
            };
            match &mut self.held {
                Some(held) => held.merge(taken),
                None => self.held = Some(taken),
            }
            self.room += step;
        }
        self.bytes.extend_from_slice(more);
        true
    }

    /// Keeps so many of the first bytes; the room for what goes is given back once it is much.
    pub(crate) fn keep(&mut self, length: usize) {
        self.bytes.truncate(length);
        if self.room > STEP && length == 0 {
            self.bytes = Vec::new();
            self.held = None;
            self.room = 0;
        }
    }
}
