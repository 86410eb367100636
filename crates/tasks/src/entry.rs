//! A task as the book holds it: its facts, its state, its counters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::counters::Counters;
use crate::facts::Wish;
use crate::{
    Access, Ending, Exhausted, Facts, Store, StoreError, Table, TaskId, TaskView, ToolName, Write,
};

/// A task as the book holds it.
#[derive(Debug)]
pub(crate) struct Entry {
    facts: Arc<Facts>,
    counters: Arc<Counters>,
    cancellation: CancellationToken,
    clock: Clock,
    /// When it expires, by the clock that nobody sets; none if that is beyond what it can say.
    deadline: Option<Instant>,
    ended: OnceLock<Ended>,
    /// Whether the store knows that it ended.
    closed: AtomicBool,
    cut: AtomicBool,
}

/// Why and when a task ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Ended {
    because: Ending,
    /// Milliseconds since the epoch.
    at: i64,
}

/// A task as the store holds it.
#[derive(Serialize, Deserialize)]
struct Record<W> {
    #[serde(flatten)]
    wish: W,
    /// Seconds since the epoch.
    opened_at: i64,
    /// Seconds since the epoch.
    expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

impl Entry {
    /// A task that is opened now; its expiry is rounded up to a whole second, the unit of tokens.
    pub(crate) fn open(wish: Wish, ttl: u64, clock: Clock, store: Arc<dyn Store>) -> Self {
        let now = clock.now();
        let opened_at = now.div_euclid(1000);
        let begun = i64::from(now.rem_euclid(1000) > 0);
        let ttl = i64::try_from(ttl).unwrap_or(i64::MAX);
        let expires_at = opened_at.saturating_add(ttl).saturating_add(begun);
        let facts = Arc::new(Facts::new(TaskId::fresh(), wish, opened_at, expires_at));
        let counters = Counters::new(Arc::clone(&facts), store);
        Self::new(facts, counters, clock)
    }

    /// A task as it was left.
    pub(crate) fn load(
        key: &str,
        record: &[u8],
        counters: Option<&[u8]>,
        clock: Clock,
        store: Arc<dyn Store>,
    ) -> Result<Self, StoreError> {
        let id: TaskId = key.parse().map_err(|e| StoreError(format!("{e}")))?;
        let record: Record<Wish> = serde_json::from_slice(record)
            .map_err(|error| StoreError(format!("record of task `{id}`: {error}")))?;
        let facts = Facts::new(id, record.wish, record.opened_at, record.expires_at);
        let facts = Arc::new(facts);
        let counters = match counters {
            Some(counters) => Counters::load(Arc::clone(&facts), store, counters)?,
            None => Counters::new(Arc::clone(&facts), store),
        };
        let entry = Self::new(facts, counters, clock);
        if let Some(ended) = record.ended {
            entry.ended.get_or_init(|| ended);
            entry.close();
            entry.cut();
        }
        Ok(entry)
    }

    fn new(facts: Arc<Facts>, counters: Counters, clock: Clock) -> Self {
        let left = expires_at(&facts).saturating_sub(clock.now());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Self {
            facts,
            counters: Arc::new(counters),
            cancellation: CancellationToken::new(),
            clock,
            deadline: Instant::now().checked_add(left),
            ended: OnceLock::new(),
            closed: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        }
    }

    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(crate) fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Why it ended, if it did. A task whose time is over has ended, whether that was noted or not.
    pub(crate) fn ending(&self) -> Option<Ending> {
        match self.ended.get() {
            Some(ended) => Some(ended.because),
            None => self.is_over().then_some(Ending::Expired),
        }
    }

    /// Whether its time is over, by either clock: one set back doesn't lengthen a life, and one that stood
    /// still while the machine slept doesn't either.
    pub(crate) fn is_over(&self) -> bool {
        self.left() == 0
    }

    /// Milliseconds until its time is over.
    pub(crate) fn left(&self) -> u64 {
        let left = expires_at(&self.facts).saturating_sub(self.clock.now());
        let left = u64::try_from(left).unwrap_or(0);
        match self.deadline {
            Some(deadline) => {
                // Rounded up: what is left in part is left.
                let micros = deadline
                    .saturating_duration_since(Instant::now())
                    .as_micros();
                left.min(u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX))
            }
            None => left,
        }
    }

    /// Ends it from now on, in memory; true if it was open, else the first ending stays.
    pub(crate) fn end(&self, ending: Ending) -> bool {
        let because = if self.is_over() {
            Ending::Expired
        } else {
            ending
        };
        let at = self.clock.now();
        self.ended.set(Ended { because, at }).is_ok()
    }

    /// When it ended, in milliseconds since the epoch.
    pub(crate) fn ended_at(&self) -> Option<i64> {
        self.ended.get().map(|ended| ended.at)
    }

    /// Cuts its open calls; true the first time.
    pub(crate) fn cut(&self) -> bool {
        self.cancellation.cancel();
        !self.cut.swap(true, Ordering::AcqRel)
    }

    /// Notes that the store knows that it ended.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the store knows that it ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Counts one call of an open task.
    pub(crate) async fn reserve(&self, tool: &ToolName, access: Access) -> Result<(), Exhausted> {
        if self.ending().is_some() {
            return Err(Exhausted::Ended);
        }
        self.counters.reserve(tool, access).await
    }

    /// Its record for the store.
    pub(crate) fn put(&self) -> Result<Write, StoreError> {
        let record = Record {
            wish: self.facts.wish(),
            opened_at: self.facts.opened_at_epoch(),
            expires_at: self.facts.expires_at_epoch(),
            ended: self.ended.get().copied(),
        };
        Ok(Write::Put {
            table: Table::Tasks,
            key: self.facts.id().to_string(),
            value: serde_json::to_vec(&record).map_err(|e| StoreError(e.to_string()))?,
        })
    }

    /// What it looks like from outside.
    pub(crate) fn view(&self) -> TaskView {
        let facts = &self.facts;
        let ending = self.ending();
        TaskView {
            id: facts.id().clone(),
            agent: facts.agent().to_owned(),
            owner: facts.owner().to_owned(),
            purpose: facts.purpose().to_owned(),
            state: ending.map_or("open", |_| "ended").to_owned(),
            ended_because: ending.map(|ending| ending.as_str().to_owned()),
            opened_at: facts.opened_at().to_owned(),
            expires_at: facts.expires_at().to_owned(),
            grants: facts.grants().to_vec(),
            limits: facts.limits().clone(),
            used: self.counters.usage(),
            attributes: facts.attributes().clone(),
            labels: facts.labels().to_vec(),
        }
    }
}

/// When it expires, in milliseconds since the epoch.
fn expires_at(facts: &Facts) -> i64 {
    facts.expires_at_epoch().saturating_mul(1000)
}
