//! Every approval that policy asked for: who is asked, who answered, and whether it was used.
//!
//! **Invariant.** An approval is of one call as it is, of one task. It is spent once, and the store knows it before
//! anybody else does: whatever fails after that costs an approval, never makes two calls of it. Nobody approves a call
//! of a task that is its own.

mod record;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use uuid::Uuid;

pub use view::{ApprovalState, ApprovalView, DemandView, VoteView};

use self::record::{Closed, Record, Vote};
use crate::clock::Clock;
use crate::{Access, Demand, Facts, Store, StoreError, Table, TaskId, ToolName, Voter, Write};

/// How many calls may wait for people at once: more are read by nobody.
const MOST_WAITING: usize = 1_000;

/// How many of them may be of one task, so that one agent can't fill the list of all.
const MOST_OF_A_TASK: usize = 32;

/// How many that are over are remembered, the newest.
const REMEMBERED: usize = 1_000;

/// How long one that is over is remembered, in milliseconds: a day.
const REMEMBERED_FOR: i64 = 24 * 60 * 60 * 1000;

/// The longest call that is shown to people, in bytes of JSON: what nobody reads can't be approved.
const LONGEST_CALL: usize = 32 * 1024;

/// The longest comment, in characters.
const LONGEST_COMMENT: usize = 1_000;

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

/// A call that policy escalated, as people are asked about it.
#[derive(Clone, Debug)]
pub struct Escalated {
    /// The task.
    pub task: Arc<Facts>,
    /// The tool.
    pub tool: ToolName,
    /// The operation.
    pub operation: String,
    /// Its access class.
    pub access: Access,
    /// What tells this call from every other.
    pub digest: String,
    /// The whole call as a person reads it.
    pub call: Value,
    /// Policy's code.
    pub reason: Option<String>,
    /// Policy's text.
    pub message: Option<String>,
    /// Who must approve.
    pub demands: Vec<Demand>,
}

/// An approval that was granted and is not used yet. It allows nothing by itself.
#[derive(Debug)]
#[must_use]
pub struct Granted {
    entry: Arc<Entry>,
    demands: Vec<Demand>,
    by: Vec<String>,
    reason: Option<String>,
}

impl Granted {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.entry.id
    }

    /// Who approved. Sorted.
    pub fn by(&self) -> &[String] {
        &self.by
    }

    /// The code that the call was escalated with.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Proof that an approval was spent on one call, which nobody can do again.
///
/// ```compile_fail,E0451
/// fn forge() -> tasks::Approved {
///     tasks::Approved { id: "x".into() }
/// }
/// ```
/// ```compile_fail,E0599
/// fn copy(approved: tasks::Approved) -> (tasks::Approved, tasks::Approved) {
///     (approved.clone(), approved)
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Approved {
    id: Arc<str>,
}

impl Approved {
    /// The approval's id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Why an approval was not spent.
#[derive(Debug, thiserror::Error)]
pub enum Unspent {
    /// Another call was quicker, it was refused meanwhile, or its time is over.
    #[error("approval is not granted any more")]
    Gone,
    /// The store failed. The approval is over all the same: it may have been written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A question that people are asked, or were.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The approval's id.
    pub id: String,
    /// Where people find it.
    pub link: String,
    /// What it is now: waiting, refused, or expired. One that was granted a moment ago is told as waiting.
    pub state: ApprovalState,
}

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
pub enum NotAsked {
    /// The call is too long to be read.
    #[error("a call of over {LONGEST_CALL} bytes is read by nobody")]
    TooLong,
    /// Too many wait already.
    #[error("too many calls wait for an approval")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why somebody's answer does not count.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// No such approval.
    #[error("no approval `{0}`")]
    Unknown(String),
    /// It does not wait for answers any more.
    #[error("approval is {} already", .0.as_str())]
    NotWaiting(ApprovalState),
    /// Its task is the voter's own.
    #[error("nobody approves a call of a task that is its own")]
    OwnTask,
    /// The voter is none of those who were asked.
    #[error("`{0}` is not among those who were asked")]
    NotNamed(String),
    /// The comment is too long, or no text.
    #[error("a comment has at most {LONGEST_COMMENT} printable characters")]
    Comment,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What somebody answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    Grant,
    Refuse,
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
    writing: tokio::sync::Mutex<()>,
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

    /// Looks for an approval of this very call that meets these demands. It is not spent by that.
    pub fn find_granted(&self, task: &TaskId, digest: &str, demands: &[Demand]) -> Option<Granted> {
        let key = (task.clone(), digest.to_owned());
        let entry = self.book.lock().by_call.get(&key).map(Arc::clone)?;
        let kept = entry.kept.lock();
        if !kept.is_stored || self.state_under(&kept, demands) != ApprovalState::Granted {
            return None;
        }
        let by = kept.record.approvers();
        let reason = kept.record.reason.clone();
        drop(kept);
        Some(Granted {
            entry,
            demands: demands.to_vec(),
            by,
            reason,
        })
    }

    /// Spends an approval: once, and durably before it returns.
    pub async fn spend(&self, granted: &Granted) -> Result<Approved, Unspent> {
        let Granted { entry, demands, .. } = granted;
        let _writing = entry.writing.lock().await;
        let write = {
            let mut kept = entry.kept.lock();
            if self.state_under(&kept, demands) != ApprovalState::Granted {
                return Err(Unspent::Gone);
            }
            // Over from here on, whatever becomes of the commit: a failed one may have been made.
            kept.record.close(Closed::Spent, self.clock.now());
            entry.put(&kept.record)?
        };
        self.answers_no_more(entry);
        self.store.commit(vec![write]).await?;
        Ok(Approved {
            id: Arc::clone(&entry.id),
        })
    }

    /// Asks for an approval of a call, or says what became of the one that was asked for before.
    ///
    /// One that has expired is told once; the call after that asks anew.
    pub async fn ask(&self, escalated: Escalated) -> Result<Question, NotAsked> {
        let length = serde_json::to_vec(&escalated.call).map(|call| call.len());
        if length.is_ok_and(|length| length > LONGEST_CALL) {
            return Err(NotAsked::TooLong);
        }
        let entry = match self.enter(&escalated)? {
            Entered::Over(question) => return Ok(question),
            Entered::Waits(entry) => entry,
        };
        let _writing = entry.writing.lock().await;
        let changed = {
            let kept = entry.kept.lock();
            let mut record = kept.record.clone();
            let same = record.demands == escalated.demands;
            // What policy demands now is what people are asked for; what they said stays said.
            record.demands = escalated.demands;
            record.reason = escalated.reason;
            record.message = escalated.message;
            (!kept.is_stored || !same && record.closed.is_none()).then_some(record)
        };
        if let Some(record) = changed {
            let write = entry.put(&record)?;
            if let Err(error) = self.store.commit(vec![write]).await {
                self.forget(&entry);
                return Err(error.into());
            }
            let mut kept = entry.kept.lock();
            // It may have been closed meanwhile, by a sweep.
            record.replace(&mut kept.record);
            kept.is_stored = true;
            self.tell(&entry.id, &kept);
        }
        let state = match self.state(&entry.kept.lock()) {
            ApprovalState::Granted | ApprovalState::Spent => ApprovalState::Waiting,
            state => state,
        };
        Ok(self.question(&entry, state))
    }

    /// Finds the approval that answers for a call, or enters a new one into the book.
    fn enter(&self, escalated: &Escalated) -> Result<Entered, NotAsked> {
        let task = escalated.task.id();
        let key = (task.clone(), escalated.digest.clone());
        let mut book = self.book.lock();
        if let Some(entry) = book.by_call.get(&key).map(Arc::clone) {
            let (state, expires_at) = {
                let kept = entry.kept.lock();
                (self.state(&kept), kept.record.expires_at)
            };
            match state {
                ApprovalState::Waiting | ApprovalState::Granted => {
                    return Ok(Entered::Waits(entry));
                }
                // A no is not asked for again and again: it holds as long as the question would have.
                ApprovalState::Refused if expires_at > self.clock.now() => {
                    return Ok(Entered::Over(self.question(&entry, state)));
                }
                ApprovalState::Expired => {
                    book.by_call.remove(&key);
                    return Ok(Entered::Over(self.question(&entry, state)));
                }
                ApprovalState::Refused | ApprovalState::Spent => {}
            }
        }
        let (mut all, mut of_task) = (0, 0);
        for entry in book.by_id.values() {
            let kept = entry.kept.lock();
            if !kept.record.is_closed() && !self.is_over(&kept) {
                all += 1;
                of_task += usize::from(kept.record.task == *task);
            }
        }
        if all >= MOST_WAITING || of_task >= MOST_OF_A_TASK {
            return Err(NotAsked::TooMany);
        }
        let now = self.clock.now();
        let record = Record::new(escalated, now, self.expiry(now));
        let kept = Kept {
            deadline: deadline(record.expires_at, now),
            record,
            is_stored: false,
        };
        let entry = entry(Uuid::now_v7().hyphenated().to_string().into(), kept);
        book.by_id.insert(Arc::clone(&entry.id), Arc::clone(&entry));
        book.by_call.insert(key, Arc::clone(&entry));
        Ok(Entered::Waits(entry))
    }

    /// Approves a call. Who approves twice approves once.
    pub async fn grant(
        &self,
        id: &str,
        voter: &Voter,
        comment: Option<&str>,
    ) -> Result<ApprovalView, VoteError> {
        self.vote(id, voter, Answer::Grant, comment).await
    }

    /// Refuses a call: one no is enough, also after others approved.
    pub async fn refuse(
        &self,
        id: &str,
        voter: &Voter,
        comment: Option<&str>,
    ) -> Result<ApprovalView, VoteError> {
        self.vote(id, voter, Answer::Refuse, comment).await
    }

    async fn vote(
        &self,
        id: &str,
        voter: &Voter,
        answer: Answer,
        comment: Option<&str>,
    ) -> Result<ApprovalView, VoteError> {
        let comment = comment.map(str::trim).filter(|comment| !comment.is_empty());
        if comment.is_some_and(|comment| !is_comment(comment)) {
            return Err(VoteError::Comment);
        }
        let unknown = || VoteError::Unknown(id.to_owned());
        let entry = self.book.lock().by_id.get(id).map(Arc::clone);
        let entry = entry.ok_or_else(unknown)?;
        let _writing = entry.writing.lock().await;
        let record = {
            let kept = entry.kept.lock();
            let state = self.state(&kept);
            let mut record = kept.record.clone();
            if !kept.is_stored {
                return Err(unknown());
            }
            if record.is_own(&voter.name) {
                return Err(VoteError::OwnTask);
            }
            if !record
                .demands
                .iter()
                .any(|demand| demand.counts(&voter.name, &voter.role))
            {
                return Err(VoteError::NotNamed(voter.name.clone()));
            }
            match (state, answer) {
                (ApprovalState::Waiting | ApprovalState::Granted, Answer::Grant)
                    if record.has_granted(&voter.name) =>
                {
                    return Ok(self.view(&entry.id, &kept));
                }
                (ApprovalState::Waiting, Answer::Grant | Answer::Refuse)
                | (ApprovalState::Granted, Answer::Refuse) => {}
                (state, _) => return Err(VoteError::NotWaiting(state)),
            }
            let now = self.clock.now();
            record.votes.push(Vote {
                by: voter.name.clone(),
                role: voter.role.clone(),
                granted: answer == Answer::Grant,
                at: now,
                comment: comment.map(str::to_owned),
            });
            match answer {
                Answer::Refuse => record.close(Closed::Refused, now),
                // Whoever approved at the last moment left the agent no time to call.
                Answer::Grant if record.is_met(&record.demands) => {
                    record.expires_at = record.expires_at.max(self.expiry(now));
                }
                Answer::Grant => {}
            }
            record
        };
        let write = entry.put(&record)?;
        let take = |record: Record| {
            let mut kept = entry.kept.lock();
            kept.deadline = deadline(record.expires_at, self.clock.now());
            kept.record = record;
        };
        match answer {
            // A no holds from the first moment, whether it could be written or not.
            Answer::Refuse => {
                take(record);
                entry.answered.notify_waiters();
                self.store.commit(vec![write]).await?;
            }
            Answer::Grant => {
                self.store.commit(vec![write]).await?;
                take(record);
            }
        }
        entry.answered.notify_waiters();
        let kept = entry.kept.lock();
        self.tell(&entry.id, &kept);
        Ok(self.view(&entry.id, &kept))
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

    /// Takes back what the store would not have.
    fn forget(&self, entry: &Arc<Entry>) {
        if entry.kept.lock().is_stored {
            return;
        }
        self.answers_no_more(entry);
        self.book.lock().by_id.remove(&entry.id);
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

/// What the book says of a call.
enum Entered {
    /// It waits for people, or for its call.
    Waits(Arc<Entry>),
    /// It was answered, or nobody did in time.
    Over(Question),
}

fn entry(id: Arc<str>, kept: Kept) -> Arc<Entry> {
    Arc::new(Entry {
        id,
        kept: Mutex::new(kept),
        writing: tokio::sync::Mutex::default(),
        answered: Notify::new(),
    })
}

fn deadline(expires_at: i64, now: i64) -> Option<Instant> {
    let left = u64::try_from(expires_at.saturating_sub(now)).unwrap_or(0);
    Instant::now().checked_add(Duration::from_millis(left))
}

fn is_comment(comment: &str) -> bool {
    comment.chars().count() <= LONGEST_COMMENT
        && !comment
            .chars()
            .any(|char| char.is_control() && char != '\n' && char != '\t')
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
