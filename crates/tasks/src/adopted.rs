//! Which transactions of other issuers became which tasks: remembered for longer than any of their tokens lives.
//!
//! **Invariant.** A transaction becomes one task, once: what its tokens may still be shown for is not forgotten, whether
//! its task is open, has ended or is forgotten itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use crate::adoption::Unadoptable;
use crate::entry::Entry;
use crate::opening::Adopting;
use crate::revoked::MARGIN;
use crate::{Store, StoreError, Table, TaskId, Write};

/// How many transactions of one issuer are remembered: at about 400 bytes each, 40 MB.
const REMEMBERED: usize = 100_000;

/// Which transactions of other issuers became which tasks.
#[derive(Debug)]
pub(crate) struct Adopted {
    store: Arc<dyn Store>,
    /// Read on every call with such a token, without waiting.
    known: papaya::HashMap<String, Arc<Known>>,
    /// Who adopts which transaction just now.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Held for a look at one issuer's tasks, when one is to be opened.
    issuers: Mutex<HashMap<String, Issued>>,
    /// When each may be forgotten, in seconds since the epoch, the next first.
    until: Mutex<BinaryHeap<Reverse<(i64, String)>>>,
}

/// What became of a transaction; the store's form of it, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) task: TaskId,
    /// Stands for all that its first token said.
    pub(crate) said: String,
    issuer: String,
    /// Seconds since the epoch.
    until: i64,
}

#[derive(Debug, Default)]
struct Issued {
    open: Vec<Weak<Entry>>,
    /// Places of tasks that are about to be opened.
    reserved: usize,
    remembered: usize,
}

impl Adopted {
    /// Loads what is remembered from the store.
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        let rows = store.scan(Table::Transactions).await?;
        let adopted = Arc::new(Self {
            store,
            known: papaya::HashMap::new(),
            turns: Mutex::default(),
            issuers: Mutex::default(),
            until: Mutex::default(),
        });
        for (key, row) in rows {
            let known = serde_json::from_slice(&row)
                .map_err(|error| StoreError(format!("record of transaction `{key}`: {error}")))?;
            adopted.remember(key, known);
        }
        Ok(adopted)
    }

    /// Counts the tasks that are open; answers with those that no transaction leads to. A store that failed, and had written
    /// all the same, has some.
    pub(crate) fn count_open(&self, open: impl Iterator<Item = Arc<Entry>>) -> Vec<Arc<Entry>> {
        let known = self.known.pin();
        let tasks: HashSet<&TaskId> = known.values().map(|known| &known.task).collect();
        let mut issuers = self.issuers.lock();
        let mut orphans = Vec::new();
        for entry in open {
            let Some(origin) = entry.facts().origin() else {
                continue;
            };
            if !tasks.contains(entry.facts().id()) {
                orphans.push(entry);
                continue;
            }
            let issued = issuers.entry(origin.issuer.clone()).or_default();
            issued.open.push(Arc::downgrade(&entry));
        }
        orphans
    }

    /// What became of a transaction.
    pub(crate) fn find(&self, key: &str) -> Option<Arc<Known>> {
        self.known.pin().get(key).map(Arc::clone)
    }

    /// Waits until nobody else adopts this transaction.
    pub(crate) async fn turn(self: &Arc<Self>, key: &str) -> Turn {
        let turn = Arc::clone(self.turns.lock().entry(key.to_owned()).or_default());
        Turn {
            held: Some(turn.lock_owned().await),
            adopted: Arc::clone(self),
            key: key.to_owned(),
        }
    }

    /// Keeps a place for a task of this issuer, of which so many may be open.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        issuer: &str,
        open: usize,
    ) -> Result<IssuerPlace, Unadoptable> {
        let mut issuers = self.issuers.lock();
        let issued = issuers.entry(issuer.to_owned()).or_default();
        let issuer = issuer.to_owned();
        if issued.remembered.saturating_add(issued.reserved) >= REMEMBERED {
            let most = REMEMBERED;
            return Err(Unadoptable::TooManyRemembered { issuer, most });
        }
        if issued.open.len().saturating_add(issued.reserved) >= open {
            // Only now, so that a look at all of them is taken as seldom as they are many.
            let is_open = |entry: Arc<Entry>| entry.ending().is_none();
            issued
                .open
                .retain(|entry| entry.upgrade().is_some_and(is_open));
            if issued.open.len().saturating_add(issued.reserved) >= open {
                return Err(Unadoptable::TooManyOpen { issuer, most: open });
            }
        }
        issued.reserved = issued.reserved.saturating_add(1);
        Ok(IssuerPlace {
            adopted: Arc::clone(self),
            issuer,
        })
    }

    fn remember(&self, key: String, known: Known) {
        let (until, issuer) = (known.until, known.issuer.clone());
        if self
            .known
            .pin()
            .insert(key.clone(), Arc::new(known))
            .is_none()
        {
            let mut issuers = self.issuers.lock();
            let issued = issuers.entry(issuer).or_default();
            issued.remembered = issued.remembered.saturating_add(1);
        }
        self.until.lock().push(Reverse((until, key)));
    }

    /// Forgets those whose tokens have expired long ago. `now` is in seconds since the epoch.
    pub(crate) async fn forget(&self, now: i64) -> Result<(), StoreError> {
        let forgotten = self.take_expired(now);
        if forgotten.is_empty() {
            return Ok(());
        }
        let delete = |key| Write::Delete {
            table: Table::Transactions,
            key,
        };
        let deletes = forgotten.into_iter().map(delete).collect();
        self.store.commit(deletes).await
    }

    fn take_expired(&self, now: i64) -> Vec<String> {
        let mut until = self.until.lock();
        let mut expired = Vec::new();
        while until.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, key))) = until.pop() else {
                break;
            };
            if let Some(known) = self.known.pin().remove(&key)
                && let Some(issued) = self.issuers.lock().get_mut(&known.issuer)
            {
                issued.remembered = issued.remembered.saturating_sub(1);
            }
            expired.push(key);
        }
        expired
    }
}

/// Whoever holds it adopts one transaction, alone.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    /// None while it is given back.
    held: Option<OwnedMutexGuard<()>>,
    adopted: Arc<Adopted>,
    key: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.adopted.turns.lock();
        self.held = None;
        // Nobody waits for it: those who do hold it, too.
        if turns
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            turns.remove(&self.key);
        }
    }
}

/// The place of a task that is about to be opened for a transaction: given back unless it is taken.
#[derive(Debug)]
pub(crate) struct IssuerPlace {
    adopted: Arc<Adopted>,
    issuer: String,
}

impl Drop for IssuerPlace {
    fn drop(&mut self) {
        if let Some(issued) = self.adopted.issuers.lock().get_mut(&self.issuer) {
            issued.reserved = issued.reserved.saturating_sub(1);
        }
    }
}

impl Adopting {
    /// Binds the transaction to its task.
    pub(crate) fn bind(self, task: &Entry) -> Bound {
        // Any token of it that was issued before its end has expired by then.
        let until = task.facts().expires_at_epoch();
        let until = until.saturating_add(self.ttl_max).saturating_add(MARGIN);
        Bound {
            known: Known {
                task: task.facts().id().clone(),
                said: self.said,
                issuer: self.place.issuer.clone(),
                until,
            },
            key: self.key,
            place: self.place,
        }
    }
}

/// A transaction and its task, of which nobody else knows yet.
#[derive(Debug)]
pub(crate) struct Bound {
    key: String,
    known: Known,
    place: IssuerPlace,
}

impl Bound {
    /// The store's form of it.
    pub(crate) fn put(&self) -> Result<Write, StoreError> {
        let value = serde_json::to_vec(&self.known);
        Ok(Write::Put {
            table: Table::Transactions,
            key: self.key.clone(),
            value: value.map_err(|error| StoreError(error.to_string()))?,
        })
    }

    /// The task takes its place, and is found by the transaction from now on.
    pub(crate) fn take(self, task: &Arc<Entry>) {
        let Self { key, known, place } = self;
        if let Some(issued) = place.adopted.issuers.lock().get_mut(&place.issuer) {
            issued.open.push(Arc::downgrade(task));
        }
        place.adopted.remember(key, known);
    }
}

#[cfg(test)]
mod tests;
