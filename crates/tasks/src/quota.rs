//! How many tasks are open at once that somebody opened who is no operator.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::entry::Entry;

/// How many names are kept before those with no open task are looked for.
const NAMES: usize = 1024;

/// How many tasks are open at once that each of some openers opened, by their names.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    /// Held for a look at one opener's tasks, when one is to be opened.
    openers: Mutex<Openers>,
}

#[derive(Debug, Default)]
struct Openers {
    by_name: HashMap<String, Opened>,
    /// How many had open tasks when all were looked at last.
    kept: usize,
}

#[derive(Debug, Default)]
struct Opened {
    open: Vec<Weak<Entry>>,
    /// Places of tasks that are about to be opened.
    reserved: usize,
}

/// Its opener has as many open tasks as it may.
#[derive(Debug)]
pub(crate) struct Full;

impl Quota {
    /// Counts a task that is open.
    pub(crate) fn count(&self, opener: &str, task: &Arc<Entry>) {
        let mut openers = self.openers.lock();
        let opened = openers.by_name.entry(opener.to_owned()).or_default();
        opened.open.push(Arc::downgrade(task));
    }

    /// How many are about to be opened.
    pub(crate) fn reserved(&self, opener: &str) -> usize {
        let openers = self.openers.lock();
        let opened = openers.by_name.get(opener);
        opened.map_or(0, |opened| opened.reserved)
    }

    /// Keeps a place for a task of this opener, of which so many may be open.
    pub(crate) fn reserve(self: &Arc<Self>, opener: &str, most: usize) -> Result<QuotaPlace, Full> {
        let mut openers = self.openers.lock();
        openers.forget();
        let opened = openers.by_name.entry(opener.to_owned()).or_default();
        if opened.count() >= most {
            // Only now, so that all of them are looked at as seldom as they are many.
            opened.open.retain(is_open);
            if opened.count() >= most {
                return Err(Full);
            }
        }
        opened.reserved = opened.reserved.saturating_add(1);
        Ok(QuotaPlace {
            quota: Arc::clone(self),
            opener: opener.to_owned(),
        })
    }
}

impl Openers {
    /// Forgets those that have no open task, whenever they have become twice as many.
    fn forget(&mut self) {
        if self.by_name.len() < self.kept.saturating_mul(2).max(NAMES) {
            return;
        }
        self.by_name.retain(|_, opened| {
            opened.open.retain(is_open);
            opened.count() > 0
        });
        self.kept = self.by_name.len();
    }
}

impl Opened {
    fn count(&self) -> usize {
        self.open.len().saturating_add(self.reserved)
    }
}

fn is_open(task: &Weak<Entry>) -> bool {
    task.upgrade().is_some_and(|task| task.ending().is_none())
}

/// The place of a task that is about to be opened: given back unless it is taken.
#[derive(Debug)]
pub(crate) struct QuotaPlace {
    quota: Arc<Quota>,
    opener: String,
}

impl QuotaPlace {
    /// Whose it is.
    pub(crate) fn opener(&self) -> &str {
        &self.opener
    }

    /// The task takes it.
    pub(crate) fn take(self, task: &Arc<Entry>) {
        self.quota.count(&self.opener, task);
    }
}

impl Drop for QuotaPlace {
    fn drop(&mut self) {
        if let Some(opened) = self.quota.openers.lock().by_name.get_mut(&self.opener) {
            opened.reserved = opened.reserved.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back() {
        let quota = Arc::new(Quota::default());
        let places: Vec<_> = (0..3).map(|_| quota.reserve("a", 3).unwrap()).collect();
        assert!(quota.reserve("a", 3).is_err());
        assert!(quota.reserve("b", 3).is_ok());
        drop(places);
        assert_eq!(quota.reserved("a"), 0);
        assert!(quota.reserve("a", 3).is_ok());
    }

    #[test]
    fn names_without_open_tasks_are_forgotten() {
        let quota = Arc::new(Quota::default());
        let kept = quota.reserve("kept", 1).unwrap();
        for name in 0..10 * NAMES {
            drop(quota.reserve(&name.to_string(), 1));
        }
        assert!(quota.openers.lock().by_name.len() <= NAMES);
        assert!(quota.reserve("kept", 1).is_err());
        drop(kept);
    }
}
