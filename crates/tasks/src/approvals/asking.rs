//! People are asked about a call.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::record::Record;
use super::{ApprovalState, Approvals, Entry, Kept, deadline, entry};
use crate::{Access, Demand, Facts, StoreError, ToolName};

/// How many calls may wait for people at once: more are read by nobody.
const MOST_WAITING: usize = 1_000;

/// How many of them may be of one task, so that one agent can't fill the list of all.
pub(super) const MOST_OF_A_TASK: usize = 32;

/// The longest call that is shown to people, in bytes of JSON: what nobody reads can't be approved.
pub(super) const LONGEST_CALL: usize = 32 * 1024;

/// A call that policy escalated, as people are asked about it.
#[derive(Clone, Debug)]
pub struct Escalated {
    /// The task.
    pub task: Arc<Facts>,
    /// Who holds a token of it, besides those that its facts tell of.
    pub holders: Vec<String>,
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

impl Approvals {
    /// Asks for an approval of a call, or says what became of the one that was asked for before.
    ///
    /// One that has expired is told once; the call after that asks anew.
    pub async fn ask(&self, escalated: Escalated) -> Result<Question, NotAsked> {
        let length = serde_json::to_vec(&escalated.call).map(|call| call.len());
        if length.is_ok_and(|length| length > LONGEST_CALL) {
            return Err(NotAsked::TooLong);
        }
        let (entry, _writing) = loop {
            let entry = match self.enter(&escalated)? {
                Entered::Over(question) => return Ok(question),
                Entered::Waits(entry) => entry,
            };
            let writing = Arc::clone(&entry.writing).lock_owned().await;
            // While it was waited for it may have been spent, or the store may not have taken it: then it is another one.
            if self.answers(&entry) {
                break (entry, writing);
            }
        };
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
                of_task += usize::from(kept.record.root() == escalated.task.root());
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

    /// Takes back what the store would not have.
    fn forget(&self, entry: &Arc<Entry>) {
        if entry.kept.lock().is_stored {
            return;
        }
        self.answers_no_more(entry);
        self.book.lock().by_id.remove(&entry.id);
    }
}

/// What the book says of a call.
enum Entered {
    /// It waits for people, or for its call.
    Waits(Arc<Entry>),
    /// It was answered, or nobody did in time.
    Over(Question),
}
