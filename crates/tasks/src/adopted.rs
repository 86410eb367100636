//! Which transactions of other issuers became which tasks: remembered for longer than any of their tokens lives.
//!
//! **Invariant.** A transaction becomes one task, once: what its tokens may still be shown for is not forgotten, whether
//! its task is open, has ended or is forgotten itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use crate::adoption::Unadoptable;
use crate::entry::Entry;
use crate::opening::Adopting;
use crate::quota::{Full, Quota, QuotaPlace};
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
    /// How many of an issuer's tasks are open.
    open: Arc<Quota>,
    /// How many transactions of an issuer are remembered.
    remembered: Mutex<HashMap<String, usize>>,
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

impl Adopted {
    /// Loads what is remembered from the store.
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        let rows = store.scan(Table::Transactions).await?;
        let adopted = Arc::new(Self {
            store,
            known: papaya::HashMap::new(),
            turns: Mutex::default(),
            open: Arc::default(),
            remembered: Mutex::default(),
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
        let mut orphans = Vec::new();
        for entry in open {
            let Some(origin) = entry.facts().origin() else {
                continue;
            };
            if !tasks.contains(entry.facts().id()) {
                orphans.push(entry);
                continue;
            }
            self.open.count(&origin.issuer, &entry);
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
    pub(crate) fn reserve(&self, issuer: &str, open: usize) -> Result<QuotaPlace, Unadoptable> {
        let remembered = self.remembered.lock().get(issuer).copied().unwrap_or(0);
        if remembered.saturating_add(self.open.reserved(issuer)) >= REMEMBERED {
            return Err(Unadoptable::TooManyRemembered {
                issuer: issuer.to_owned(),
                most: REMEMBERED,
            });
        }
        let place = self.open.reserve(issuer, open);
        place.map_err(|Full| Unadoptable::TooManyOpen {
            issuer: issuer.to_owned(),
            most: open,
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
            let mut remembered = self.remembered.lock();
            let count = remembered.entry(issuer).or_default();
            *count = count.saturating_add(1);
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
                && let Some(count) = self.remembered.lock().get_mut(&known.issuer)
            {
                *count = count.saturating_sub(1);
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

impl Adopting {
    /// Binds the transaction to its task.
    pub(crate) fn bind(self, adopted: &Arc<Adopted>, task: &Entry) -> Bound {
        // Any token of it that was issued before its end has expired by then.
        let until = task.facts().expires_at_epoch();
        let until = until.saturating_add(self.ttl_max).saturating_add(MARGIN);
        Bound {
            known: Known {
                task: task.facts().id().clone(),
                said: self.said,
                issuer: self.place.opener().to_owned(),
                until,
            },
            adopted: Arc::clone(adopted),
            key: self.key,
            place: self.place,
        }
    }
}

/// A transaction and its task, of which nobody else knows yet.
#[derive(Debug)]
pub(crate) struct Bound {
    adopted: Arc<Adopted>,
    key: String,
    known: Known,
    place: QuotaPlace,
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
        self.place.take(task);
        self.adopted.remember(self.key, self.known);
    }
}

#[cfg(test)]
mod tests;
