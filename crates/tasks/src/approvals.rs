//! Every approval that policy asked for: who is asked, who answered, and whether it was used.
//!
//! **Invariant.** An approval is of one call as it is, of one task. It is spent once, and the store knows it before
//! anybody else does: whatever fails after that costs an approval, never makes two calls of it. Nobody approves a call
//! of a task that is its own.

mod asking;
mod record;
mod spending;
mod view;
mod voting;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

pub use asking::{Escalated, NotAsked, Question};
pub use spending::{Approved, Granted, Unspent};
pub use view::{ApprovalState, ApprovalView, DemandView, VoteView};
pub use voting::VoteError;

use self::record::{Closed, Record};
use crate::clock::Clock;
use crate::{Demand, Store, StoreError, Table, TaskId, Write};

/// How many that are over are remembered, the newest.
const REMEMBERED: usize = 1_000;

/// How long one that is over is remembered, in milliseconds: a day.
const REMEMBERED_FOR: i64 = 24 * 60 * 60 * 1000;

/// News that a slow receiver may leave unread before it misses some.
const NEWS: usize = 256;

/// Deletions that share one transaction.
const BATCH: usize = 256;

/// Every approval that policy asked for.
pub struct Approvals {
    config: ArcSwap<ApprovalsConfig>,
    store: Arc<dyn Store>,
    clock: Clock,
    is_open: Box<dyn Fn(&TaskId) -> bool + Send + Sync>,
    book: Mutex<Book>,
    news: broadcast::Sender<ApprovalView>,
}

/// How approvals are asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApprovalsConfig {
    /// How long one waits for people, and then for the call.
    pub ttl: Duration,
    /// How long the call itself waits for them before it is refused; not at all where it is nothing.
    pub hold: Duration,
    /// What stands before an approval's id in the link to it.
    pub link: String,
}

#[derive(Debug, Default)]
struct Book {
    /// In the order they were asked for.
    by_id: BTreeMap<Arc<str>, Arc<Entry>>,
    /// The one that answers for a call now. One that was spent answers for none.
    by_call: HashMap<(TaskId, String), Arc<Entry>>,
}

/// One approval.
#[derive(Debug)]
struct Entry {
    id: Arc<str>,
    kept: Mutex<Kept>,
    /// Held while the store is told of it, so that its states are written in their order.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Somebody answered.
    answered: Notify,
}

#[derive(Clone, Debug)]
struct Kept {
    record: Record,
    /// When it is over by the clock that nobody sets.
    deadline: Option<Instant>,
    /// Whether the store has it.
    is_stored: bool,
}

impl Entry {
    fn put(&self, record: &Record) -> Result<Write, StoreError> {
        Ok(Write::Put {
            table: Table::Approvals,
            key: self.id.to_string(),
            value: serde_json::to_vec(record).map_err(|error| StoreError(error.to_string()))?,
        })
    }

    fn call(&self) -> (TaskId, String) {
        let kept = self.kept.lock();
        (kept.record.task.clone(), kept.record.digest.clone())
    }
}

impl Approvals {
    /// Loads every approval from the store. `is_open` tells whether a task is: those of others are over.
    pub async fn load(
        config: ApprovalsConfig,
        store: Arc<dyn Store>,
        is_open: impl Fn(&TaskId) -> bool + Send + Sync + 'static,
    ) -> Result<Arc<Self>, StoreError> {
        Self::load_by(config, store, Box::new(is_open), Clock::System).await
    }

    async fn load_by(
        config: ApprovalsConfig,
        store: Arc<dyn Store>,
        is_open: Box<dyn Fn(&TaskId) -> bool + Send + Sync>,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let mut book = Book::default();
        for (id, value) in store.scan(Table::Approvals).await? {
            let record: Record = serde_json::from_slice(&value)
                .map_err(|error| StoreError(format!("record of approval `{id}`: {error}")))?;
            let is_spent = record.is_spent();
            let kept = Kept {
                deadline: deadline(record.expires_at, clock.now()),
                record,
                is_stored: true,
            };
            let entry = entry(id.into(), kept);
            if !is_spent {
                book.by_call.insert(entry.call(), Arc::clone(&entry));
            }
            book.by_id.insert(Arc::clone(&entry.id), entry);
        }
        let approvals = Self {
            config: ArcSwap::from_pointee(config),
            store,
            clock,
            is_open,
            book: Mutex::new(book),
            news: broadcast::channel(NEWS).0,
        };
        approvals.sweep().await?;
        Ok(Arc::new(approvals))
    }

    /// Replaces how approvals are asked for; those that wait stay as they are.
    pub fn configure(&self, config: ApprovalsConfig) {
        self.config.store(Arc::new(config));
    }

    /// Each approval as it is asked for, or asked for with other demands, and as it is answered. A receiver that is more
    /// than 256 behind misses some.
    pub fn news(&self) -> broadcast::Receiver<ApprovalView> {
        self.news.subscribe()
    }

    fn tell(&self, id: &str, kept: &Kept) {
        if self.news.receiver_count() > 0 {
            // Nobody listens any more? Then nobody is told.
            let _gone = self.news.send(self.view(id, kept));
        }
    }

    /// How long a call waits for people before it is refused.
    pub fn hold(&self) -> Duration {
        self.config.load().hold
    }

    /// Waits until an approval doesn't wait for people any more: until it is granted or refused. One that expires meanwhile
    /// is not told.
    pub async fn answered(&self, id: &str) {
        let Some(entry) = self.book.lock().by_id.get(id).map(Arc::clone) else {
            return;
        };
        loop {
            let answered = entry.answered.notified();
            if self.state(&entry.kept.lock()) != ApprovalState::Waiting {
                return;
            }
            answered.await;
        }
    }

    /// All of them, newest first.
    pub fn list(&self) -> Vec<ApprovalView> {
        let entries: Vec<_> = self.book.lock().by_id.values().rev().cloned().collect();
        let views = entries.iter().map(|entry| {
            let kept = entry.kept.lock();
            self.view(&entry.id, &kept)
        });
        views.collect()
    }

    /// One of them.
    pub fn show(&self, id: &str) -> Option<ApprovalView> {
        let entry = self.book.lock().by_id.get(id).map(Arc::clone)?;
        let kept = entry.kept.lock();
        Some(self.view(&entry.id, &kept))
    }

    /// Forgets what was over long ago, and the oldest of too many.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let forgotten = self.forgotten();
        let deletes: Vec<_> = forgotten
            .iter()
            .map(|id| Write::Delete {
                table: Table::Approvals,
                key: id.to_string(),
            })
            .collect();
        for batch in deletes.chunks(BATCH) {
            self.store.commit(batch.to_vec()).await?;
        }
        let mut book = self.book.lock();
        for id in &forgotten {
            book.by_id.remove(id);
        }
        Ok(())
    }

    /// Those to forget. What is over is written no more, so no state of theirs comes after their deletion.
    fn forgotten(&self) -> Vec<Arc<str>> {
        let horizon = self.clock.now().saturating_sub(REMEMBERED_FOR);
        let mut book = self.book.lock();
        let mut over = Vec::new();
        for entry in book.by_id.values() {
            let mut kept = entry.kept.lock();
            if self.is_over(&kept) {
                let at = self.clock.now().min(kept.record.expires_at);
                kept.record.close(Closed::Expired, at);
            }
            if let Some(at) = kept.record.closed_at() {
                over.push((at, Arc::clone(&entry.id)));
            }
        }
        over.sort_unstable();
        let surplus = over.len().saturating_sub(REMEMBERED);
        let old = over.iter().enumerate();
        let old = old.filter(|(place, (at, _))| *place < surplus || *at < horizon);
        let forgotten: Vec<_> = old.map(|(_, (_, id))| Arc::clone(id)).collect();
        book.by_call
            .retain(|_, entry| !forgotten.contains(&entry.id));
        forgotten
    }

    /// From now on its call is asked about anew.
    fn answers_no_more(&self, entry: &Arc<Entry>) {
        let call = entry.call();
        let mut book = self.book.lock();
        if book
            .by_call
            .get(&call)
            .is_some_and(|known| Arc::ptr_eq(known, entry))
        {
            book.by_call.remove(&call);
        }
    }

    /// Whether it is the one that answers for its call.
    fn answers(&self, entry: &Arc<Entry>) -> bool {
        let call = entry.call();
        let book = self.book.lock();
        let known = book.by_call.get(&call);
        known.is_some_and(|known| Arc::ptr_eq(known, entry))
    }

    fn state(&self, kept: &Kept) -> ApprovalState {
        self.state_under(kept, &kept.record.demands)
    }

    fn state_under(&self, kept: &Kept, demands: &[Demand]) -> ApprovalState {
        match kept.record.closed_as() {
            Some(Closed::Spent) => ApprovalState::Spent,
            Some(Closed::Refused) => ApprovalState::Refused,
            Some(Closed::Expired) => ApprovalState::Expired,
            None if self.is_over(kept) => ApprovalState::Expired,
            None if kept.record.is_met(demands) => ApprovalState::Granted,
            None => ApprovalState::Waiting,
        }
    }

    /// Whether its time is over, by either clock, or its task has ended.
    fn is_over(&self, kept: &Kept) -> bool {
        kept.record.expires_at <= self.clock.now()
            || kept
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
            || !(self.is_open)(&kept.record.task)
    }

    /// When one that is asked for or granted now is over.
    fn expiry(&self, now: i64) -> i64 {
        let ttl = self.config.load().ttl.as_millis();
        now.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX))
    }

    fn question(&self, entry: &Entry, state: ApprovalState) -> Question {
        Question {
            id: entry.id.to_string(),
            link: self.link(&entry.id),
            state,
        }
    }

    fn link(&self, id: &str) -> String {
        format!("{}{id}", self.config.load().link)
    }

    fn view(&self, id: &str, kept: &Kept) -> ApprovalView {
        kept.record.view(id, self.state(kept), self.link(id))
    }
}

fn entry(id: Arc<str>, kept: Kept) -> Arc<Entry> {
    Arc::new(Entry {
        id,
        kept: Mutex::new(kept),
        writing: Arc::default(),
        answered: Notify::new(),
    })
}

fn deadline(expires_at: i64, now: i64) -> Option<Instant> {
    let left = u64::try_from(expires_at.saturating_sub(now)).unwrap_or(0);
    Instant::now().checked_add(Duration::from_millis(left))
}

impl std::fmt::Debug for Approvals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approvals")
            .field("config", &self.config)
            .field("approvals", &self.book.lock().by_id.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
