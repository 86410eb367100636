//! A task as the book holds it: its facts, its state, its counters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::children::Children;
use crate::clock::Clock;
use crate::counters::{self, Counters};
use crate::desk::Desk;
use crate::facts::Wish;
use crate::gates::Gate;
use crate::history::History;
use crate::marks::Marks;
use crate::open_calls::OpenCall;
use crate::purse::{Purse, Spent};
use crate::spending::{Costs, Spending};
use crate::{
    Done, Ending, Exhausted, Facts, Limits, StoreError, Table, TaskId, TaskView, Usage, Write,
};

/// A task as the book holds it.
#[derive(Debug)]
pub(crate) struct Entry {
    facts: Arc<Facts>,
    /// None while there was no call.
    counters: OnceLock<Arc<Counters>>,
    /// None while nothing but calls was counted.
    purse: OnceLock<Box<Purse>>,
    /// The task that it was delegated from.
    parent: Option<Arc<Self>>,
    /// None while nothing was delegated from it.
    children: OnceLock<Box<Children>>,
    /// Cancelled when it ends, and with it those of its children. None while nobody asks.
    cancellation: OnceLock<CancellationToken>,
    /// Cancelled when its open calls are to be cut: when it ends, and when it is paused; then there is another one. None while
    /// nobody has called.
    calls: Mutex<Option<CancellationToken>>,
    /// Those that are on their way to a tool.
    open: Mutex<Vec<Arc<OpenCall>>>,
    paused: AtomicBool,
    /// The labels that its calls gave it, besides those it was opened with.
    marks: Marks,
    history: History,
    gate: Gate,
    /// The operators who were given a token of it, besides whoever opened it.
    holders: Mutex<Vec<String>>,
    desk: Arc<Desk>,
    clock: Clock,
    /// When it expires, by the clock that nobody sets; none if that is beyond what it can say.
    deadline: Option<Instant>,
    ended: OnceLock<Ended>,
    /// Whether the store knows that it ended.
    closed: AtomicBool,
    cut: AtomicBool,
}

/// Why and when a task ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ended {
    because: Ending,
    /// Milliseconds since the epoch.
    at: i64,
    /// Who ended it, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
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
    #[serde(default, skip_serializing_if = "is_false")]
    paused: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holders: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spent: Option<Spent>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}

/// How long a task may live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// In seconds.
    pub(crate) ttl: u64,
    /// Seconds since the epoch.
    pub(crate) not_after: Option<i64>,
}

/// A task as it was left, before it is known what it was delegated from.
pub(crate) struct Loaded {
    id: TaskId,
    record: Record<Wish>,
}

impl Loaded {
    pub(crate) fn read(key: &str, record: &[u8]) -> Result<Self, StoreError> {
        let id: TaskId = key.parse().map_err(|e| StoreError(format!("{e}")))?;
        let record = serde_json::from_slice(record)
            .map_err(|error| StoreError(format!("record of task `{id}`: {error}")))?;
        Ok(Self { id, record })
    }

    pub(crate) fn id(&self) -> &TaskId {
        &self.id
    }

    pub(crate) fn parent(&self) -> Option<&TaskId> {
        self.record.wish.parent.as_ref()
    }

    /// How many delegations lie between it and the task that nobody delegated.
    pub(crate) fn depth(&self) -> usize {
        self.record.wish.chain.len()
    }
}

impl Entry {
    /// A task that is opened now; its expiry is rounded up to a whole second, the unit of tokens. It lives no longer than
    /// its parent.
    pub(crate) fn open(
        wish: Wish,
        life: Life,
        parent: Option<Arc<Self>>,
        clock: Clock,
        desk: Arc<Desk>,
    ) -> Self {
        let now = clock.now();
        let opened_at = now.div_euclid(1000);
        let begun = i64::from(now.rem_euclid(1000) > 0);
        let ttl = i64::try_from(life.ttl).unwrap_or(i64::MAX);
        let expires_at = opened_at.saturating_add(ttl).saturating_add(begun);
        let expires_at = expires_at.min(life.not_after.unwrap_or(i64::MAX));
        let expires_at = match &parent {
            Some(parent) => expires_at.min(parent.facts.expires_at_epoch()),
            None => expires_at,
        };
        let facts = Arc::new(Facts::new(TaskId::fresh(), wish, opened_at, expires_at));
        Self::new(facts, parent, clock, desk, Vec::new())
    }

    /// A task as it was left.
    pub(crate) fn load(
        Loaded { id, record }: Loaded,
        counters: Option<&[u8]>,
        parent: Option<Arc<Self>>,
        clock: Clock,
        desk: Arc<Desk>,
    ) -> Result<Self, StoreError> {
        let store = Arc::clone(&desk.store);
        let facts = Facts::new(id, record.wish, record.opened_at, record.expires_at);
        let entry = Self::new(Arc::new(facts), parent, clock, desk, record.marks);
        if let Some(counters) = counters {
            let counters = Counters::load(Arc::clone(&entry.facts), store, counters)?;
            entry.counters.get_or_init(|| Arc::new(counters));
        }
        *entry.holders.lock() = record.holders;
        if let Some(spent) = record.spent {
            entry.purse.get_or_init(|| Box::new(Purse::load(spent)));
        }
        if record.paused {
            entry.pause();
        }
        if let Some(ended) = record.ended {
            entry.ended.get_or_init(|| ended);
            entry.close();
            entry.cut();
        }
        Ok(entry)
    }

    fn new(
        facts: Arc<Facts>,
        parent: Option<Arc<Self>>,
        clock: Clock,
        desk: Arc<Desk>,
        marks: Vec<String>,
    ) -> Self {
        let left = expires_at(&facts).saturating_sub(clock.now());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Self {
            facts,
            counters: OnceLock::new(),
            purse: OnceLock::new(),
            parent,
            children: OnceLock::new(),
            calls: Mutex::default(),
            open: Mutex::default(),
            cancellation: OnceLock::new(),
            paused: AtomicBool::new(false),
            marks: Marks::load(marks),
            history: History::default(),
            gate: Gate::default(),
            holders: Mutex::default(),
            desk,
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

    fn counters(&self) -> &Arc<Counters> {
        self.counters.get_or_init(|| {
            let store = Arc::clone(&self.desk.store);
            Arc::new(Counters::new(Arc::clone(&self.facts), store))
        })
    }

    pub(crate) fn cancellation(&self) -> &CancellationToken {
        self.cancellation.get_or_init(|| match &self.parent {
            Some(parent) => parent.cancellation().child_token(),
            None => CancellationToken::new(),
        })
    }

    /// Cancelled when the calls that are open now are to be cut.
    pub(crate) fn calls(&self) -> CancellationToken {
        let mut calls = self.calls.lock();
        calls
            .get_or_insert_with(|| self.cancellation().child_token())
            .clone()
    }

    /// Notes a call that is on its way to a tool.
    pub(crate) fn join(&self, call: &Arc<OpenCall>) {
        self.open.lock().push(Arc::clone(call));
    }

    /// Forgets it.
    pub(crate) fn leave(&self, call: &Arc<OpenCall>) {
        let mut open = self.open.lock();
        if let Some(place) = open.iter().rposition(|other| Arc::ptr_eq(other, call)) {
            open.swap_remove(place);
        }
    }

    /// Those that are on their way to a tool.
    pub(crate) fn open_calls(&self) -> Vec<Arc<OpenCall>> {
        self.open.lock().clone()
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    pub(crate) fn children(&self) -> &Children {
        self.children.get_or_init(Box::default)
    }

    /// Those that are remembered, the oldest first.
    fn known_children(&self) -> Vec<Arc<Self>> {
        let children = self.children.get();
        children.map(|children| children.all()).unwrap_or_default()
    }

    /// All below it, parents before their children.
    pub(crate) fn descendants(&self) -> Vec<Arc<Self>> {
        below(self.known_children(), Self::known_children)
    }

    /// All below it, parents before their children; none of them gets any more.
    pub(crate) fn close_family(&self) -> Vec<Arc<Self>> {
        below(self.children().close(), |child| child.children().close())
    }

    /// Why it ended, if it did. A task whose time is over has ended, whether that was noted or not, and so has one whose
    /// parent has.
    pub(crate) fn ending(&self) -> Option<Ending> {
        if let Some(ended) = self.ended.get() {
            return Some(ended.because);
        }
        if self.is_over() {
            return Some(Ending::Expired);
        }
        let parent = self.parent.as_ref()?;
        parent.ending().map(|_| Ending::ParentEnded)
    }

    /// Whether it is paused, or one that it was delegated from is.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
            || self
                .parent
                .as_ref()
                .is_some_and(|parent| parent.is_paused())
    }

    /// Lets no more calls through, and cuts those that are open, here and below.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
        self.cut_calls();
        for child in self.descendants() {
            child.cut_calls();
        }
    }

    /// Lets calls through again.
    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::Release);
    }

    fn cut_calls(&self) {
        let calls = self.calls.lock().take();
        if let Some(calls) = calls {
            calls.cancel();
        }
    }

    /// What is counted of its calls besides how many there were.
    pub(crate) fn purse(&self) -> &Purse {
        self.purse.get_or_init(Box::default)
    }

    /// Has the store hear of what these spent, and is held for their calls; durable when it returns.
    pub(crate) async fn write_spent(entries: &[Arc<Self>]) -> Result<(), StoreError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let is_due = |purse: &Purse| !purse.is_on_record();
        first.desk.write_spent(entries, is_due).await
    }

    /// Has the store hear of exactly what was used, and does so from now on.
    pub(crate) async fn settle(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.purse.get().is_some_and(|purse| purse.make_exact()) {
            let entries = std::slice::from_ref(self);
            self.desk.write_spent(entries, |_| true).await?;
        }
        match self.counters.get() {
            Some(counters) => counters.settle().await,
            None => Ok(()),
        }
    }

    /// What was used up so far.
    pub(crate) fn usage(&self) -> Usage {
        let counters = self.counters.get();
        let mut usage = counters
            .map(|counters| counters.usage())
            .unwrap_or_default();
        if let Some(purse) = self.purse.get() {
            purse.add_to(&mut usage);
        }
        usage
    }

    /// What its own limits and those above it leave.
    pub(crate) fn rest(&self) -> Limits {
        let mut own = match self.counters.get() {
            Some(counters) => counters.rest(),
            None => self.facts.limits().clone(),
        };
        if let Some(purse) = self.purse.get() {
            purse.rest(&mut own);
        }
        match &self.parent {
            Some(parent) => own.tighter(parent.rest()),
            None => own,
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

    /// Ends it from now on, in memory, by somebody who is remembered; true if it was open, else the first ending stays.
    pub(crate) fn end_by(&self, ending: Ending, by: Option<&str>) -> bool {
        let because = if self.is_over() {
            Ending::Expired
        } else {
            ending
        };
        let at = self.clock.now();
        let by = by.map(str::to_owned);
        self.ended.set(Ended { because, at, by }).is_ok()
    }

    /// When it ended, in milliseconds since the epoch.
    pub(crate) fn ended_at(&self) -> Option<i64> {
        self.ended.get().map(|ended| ended.at)
    }

    /// Cuts its open calls; true the first time.
    pub(crate) fn cut(&self) -> bool {
        self.cancellation().cancel();
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

    /// Counts one call of an open task, in it and in all above it, and holds for it what it may take.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        costs: &Costs<'_>,
    ) -> Result<Spending, Exhausted> {
        if self.ending().is_some() {
            return Err(Exhausted::Ended);
        }
        if self.is_paused() {
            return Err(Exhausted::Paused);
        }
        let spending = Spending::hold(self, costs)?;
        spending.written().await?;
        self.count(costs).await?;
        Ok(spending)
    }

    async fn count(&self, costs: &Costs<'_>) -> Result<(), Exhausted> {
        let Some(parent) = &self.parent else {
            return self.counters().reserve(costs.tool, costs.access).await;
        };
        let mut all = vec![self.counters()];
        let mut above = Some(parent);
        while let Some(entry) = above {
            all.push(entry.counters());
            above = entry.parent.as_ref();
        }
        counters::reserve_all(&all, costs.tool, costs.access).await
    }

    /// What bounds how often and how many at once.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The labels that its calls gave it, and those that the tasks above it have by now, beside those it was opened with.
    pub(crate) fn marks(&self) -> Vec<String> {
        let mut marks = self.marks.all();
        let mut above = self.parent.as_ref();
        while let Some(entry) = above {
            let opened = entry.facts.labels().iter().cloned();
            for label in opened.chain(entry.marks.all()) {
                if !marks.contains(&label) && !self.facts.labels().contains(&label) {
                    marks.push(label);
                }
            }
            above = entry.parent.as_ref();
        }
        marks
    }

    /// All of its labels: those it was opened with, those that its calls gave it, and those of the tasks above it.
    pub(crate) fn labels(&self) -> Vec<String> {
        [self.facts.labels(), &*self.marks()].concat()
    }

    /// Whether it carries a label: one it was opened with, one that its calls gave it, or one of the tasks above it.
    pub(crate) fn carries(&self, label: &str) -> bool {
        let mut opened = self.facts.labels().iter();
        opened.any(|known| known == label)
            || self.marks.has(label)
            || self
                .parent
                .as_ref()
                .is_some_and(|above| above.carries(label))
    }

    /// Gives labels to a task and to all above it, seen at once and durable when it returns.
    pub(crate) async fn mark(self: &Arc<Self>, labels: &[String]) -> Result<(), Exhausted> {
        let mut changed = Vec::new();
        let mut next = Some(self);
        while let Some(entry) = next {
            if entry.marks.add(labels, entry.facts.labels())? {
                changed.push((Arc::clone(entry), entry.marks.count()));
            }
            next = entry.parent.as_ref();
        }
        if changed.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = changed.iter().map(|(entry, _)| Arc::clone(entry)).collect();
        self.desk.write(&entries).await?;
        for (entry, count) in changed {
            entry.marks.written(count);
        }
        Ok(())
    }

    /// The operators who were given a token of it, or of one that it was delegated from.
    pub(crate) fn holders(&self) -> Vec<String> {
        let mut holders = self.holders.lock().clone();
        if let Some(parent) = &self.parent {
            holders.extend(parent.holders());
        }
        holders
    }

    /// Remembers an operator who is given a token of it; durable when it returns.
    pub(crate) async fn hand_to(self: &Arc<Self>, operator: &str) -> Result<(), StoreError> {
        {
            let mut holders = self.holders.lock();
            if !holders.iter().any(|known| known == operator) {
                holders.push(operator.to_owned());
            }
        }
        self.desk.write(std::slice::from_ref(self)).await
    }

    /// Whether its parent ended without it.
    pub(crate) fn is_left_behind(&self) -> bool {
        let above = self.parent.as_ref().and_then(|parent| parent.ending());
        self.ended.get().is_none() && above.is_some()
    }

    /// Its record for the store.
    pub(crate) fn put(&self) -> Result<Write, StoreError> {
        self.record(self.paused.load(Ordering::Acquire))
    }

    /// The same once it is resumed.
    pub(crate) fn put_resumed(&self) -> Result<Write, StoreError> {
        self.record(false)
    }

    /// The same where it spent so much.
    pub(crate) fn put_spent(&self, spent: &Spent) -> Result<Write, StoreError> {
        self.write(self.paused.load(Ordering::Acquire), Some(spent.clone()))
    }

    fn record(&self, paused: bool) -> Result<Write, StoreError> {
        self.write(paused, self.purse.get().map(|purse| purse.record()))
    }

    fn write(&self, paused: bool, spent: Option<Spent>) -> Result<Write, StoreError> {
        let record = Record {
            wish: self.facts.wish(),
            opened_at: self.facts.opened_at_epoch(),
            expires_at: self.facts.expires_at_epoch(),
            ended: self.ended.get().cloned(),
            paused,
            marks: self.marks.all(),
            holders: self.holders.lock().clone(),
            spent,
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
            issuers: facts.issuers().to_vec(),
            purpose: facts.purpose().to_owned(),
            state: match ending {
                Some(_) => "ended",
                None if self.is_paused() => "paused",
                None => "open",
            }
            .to_owned(),
            ended_because: ending.map(|ending| ending.as_str().to_owned()),
            ended_by: self.ended.get().and_then(|ended| ended.by.clone()),
            cnf: facts.cnf().cloned(),
            origin: facts.origin().cloned(),
            parent: facts.parent().cloned(),
            chain: facts.chain().to_vec(),
            children: {
                let children = self.known_children().into_iter();
                children.map(|child| child.facts.id().clone()).collect()
            },
            opened_at: facts.opened_at().to_owned(),
            expires_at: facts.expires_at().to_owned(),
            grants: facts.grants().to_vec(),
            limits: facts.limits().clone(),
            used: self.usage(),
            attributes: facts.attributes().clone(),
            labels: self.labels(),
            recent: self
                .history
                .recent()
                .iter()
                .map(|done| Done::clone(done))
                .collect(),
        }
    }
}

/// The first and all below them, parents before their children.
fn below(first: Vec<Arc<Entry>>, children: impl Fn(&Entry) -> Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let mut all = Vec::new();
    let mut next = first;
    while !next.is_empty() {
        let after = next.iter().flat_map(|entry| children(entry)).collect();
        all.extend(std::mem::replace(&mut next, after));
    }
    all
}

/// When it expires, in milliseconds since the epoch.
fn expires_at(facts: &Facts) -> i64 {
    facts.expires_at_epoch().saturating_mul(1000)
}
