//! The kill switch: everything of an agent, an issuer, a tool or an owner ends at once, and nothing of it begins.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use identity::{Agent, Owner};
use jiff::Timestamp;

use super::{Cut, PATIENCE, Tasks};
use crate::cutoffs::Whose;
use crate::entry::Entry;
use crate::open_calls::{OpenCall, Reach};
use crate::revocation::{Revocation, spelling};
use crate::{
    Blocked, Ending, InvalidOpening, OpenError, Opening, RevocationRequest, RevocationView,
    StoreError, Subject, Task, TaskId, ToolName, Unbound,
};

/// How long calls that are cut are waited for, and how often it is looked whether they are over.
const GONE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// The longest name of an agent, in bytes; that of an owner is shorter.
const LONGEST_NAME: usize = 2048;

/// What came of a revocation.
#[derive(Clone, Debug)]
pub struct RevocationOutcome {
    /// What was revoked.
    pub revocation: RevocationView,
    /// The tasks that ended for it, those below them too.
    pub tasks: Vec<TaskId>,
    /// How many calls were cut.
    pub cut: usize,
    /// How many of them are not over after a second.
    pub uncut: usize,
}

/// The store failed: a revocation took effect, and is not durable.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Undurable {
    /// What came of it all the same.
    pub outcome: Box<RevocationOutcome>,
    /// Why.
    pub error: StoreError,
}

impl Tasks {
    /// Revokes an agent, an issuer, a tool or an owner: nothing of it goes through from the first moment. What is open ends:
    /// tasks of the agent or owner, or that the issuer vouched for, with all below them, and calls to the tool or by proofs
    /// of the issuer.
    ///
    /// Durable before anything is cut; a slow store is not waited for longer than 250 ms with that. If the store fails, all is
    /// cut and refused all the same, and [`Self::keep`] writes it as soon as the store lets it. What ended before is durable
    /// too when this returns, whoever ended it: who asks again is not told that all is well because nothing is left to end.
    pub async fn revoke(&self, request: RevocationRequest) -> Result<RevocationOutcome, Undurable> {
        let revocation = self.revocations.impose(request);
        // Whoever opens a task puts it among the others first and looks for revocations then; here it is the other way round.
        fence(Ordering::SeqCst);
        let ended = self.end_of(&revocation, |_| true);
        let mut cuts: Vec<_> = ended
            .iter()
            .map(|entry| Cut { tasks: self, entry })
            .collect();
        let changes_nothing = ended.is_empty() && !revocation.stays;
        let mut writing = std::pin::pin!(async {
            if changes_nothing {
                return Ok(());
            }
            self.revocations.write(&revocation).await
        });
        let written = tokio::time::timeout(PATIENCE, &mut writing).await;
        let calls = self.calls_of(&revocation.subject, &ended);
        calls.iter().for_each(|call| call.cut());
        cuts.clear();
        let written = match written {
            Ok(written) => written,
            Err(_) => writing.await,
        };
        let closed = self.close_all(&self.undurable()).await;
        if !revocation.stays && !changes_nothing {
            // Not before the store knows of each ending, so that a crash leaves none open.
            self.revocations.finish(&revocation);
            self.sooner.notify_one();
        }
        let durable = written.and(closed);
        if durable.is_ok() {
            self.settle_each(&ended).await;
        }
        let cut = calls.len();
        let uncut = left(calls).await;
        let tasks = ended.iter().map(|entry| entry.facts().id().clone());
        let outcome = RevocationOutcome {
            revocation: revocation.view(),
            tasks: tasks.collect(),
            cut,
            uncut,
        };
        match durable {
            Ok(()) => Ok(outcome),
            Err(error) => Err(Undurable {
                outcome: Box::new(outcome),
                error,
            }),
        }
    }

    /// What ended, and the store may not know of. An expiry it knows of since the task was opened.
    fn undurable(&self) -> Vec<Arc<Entry>> {
        let unwritten = self.unwritten.lock();
        let is_undurable =
            |entry: &&Arc<Entry>| !entry.is_closed() && entry.ending() != Some(Ending::Expired);
        unwritten.iter().filter(is_undurable).cloned().collect()
    }

    /// Lets what was revoked begin anew; what ended for it stays ended. Durable when it returns. None if there is no such
    /// revocation.
    pub async fn lift(&self, id: &str) -> Result<Option<RevocationView>, StoreError> {
        self.revocations.lift(id).await
    }

    /// All revocations that stand, newest first.
    pub fn revocations(&self) -> Vec<RevocationView> {
        self.revocations.list()
    }

    /// Refuses an agent that is revoked, or whose proof is of before its tokens count. Where it is bound to a task that is
    /// asked already.
    pub fn check_proof(&self, agent: &Agent) -> Result<(), Unbound> {
        self.revocations.check_agent(agent)?;
        if self.cutoffs.hold_back(agent) {
            return Err(Unbound::TokenRevoked);
        }
        Ok(())
    }

    /// Refuses the token of an owner that is of before its tokens count.
    pub fn check_owner(&self, owner: &Owner) -> Result<(), Unbound> {
        if self
            .cutoffs
            .hold_back_owner(owner.name(), Some(owner.issued_at()))
        {
            return Err(Unbound::TokenRevoked);
        }
        Ok(())
    }

    /// Takes no tokens of an agent or owner any more that were issued until then, and cuts calls that were made with them; for
    /// a week from now on. Durable when it returns. A name that no task could have is nobody's.
    pub async fn cut_off(&self, subject: &Subject, until: Timestamp) -> Result<(), StoreError> {
        let whose = match subject {
            Subject::Agent(name) => Whose::Agent(name),
            Subject::Owner(name) => Whose::Owner(name),
            Subject::Issuer(_) | Subject::Tool(_) => return Ok(()),
        };
        if subject.name().len() > LONGEST_NAME {
            return Ok(());
        }
        let (until, now) = (until.as_second(), self.clock.now() / 1000);
        self.cutoffs.note(whose, until, now);
        // The other way round than calls do it, as in [`Self::revoke`].
        fence(Ordering::SeqCst);
        if let Subject::Agent(name) = subject {
            self.cut_calls_by_tokens(name, until);
        }
        self.cutoffs.add(whose, until, now).await
    }

    /// Cuts the calls of an agent that it made with tokens of until then, whatever their tasks.
    fn cut_calls_by_tokens(&self, agent: &str, until: i64) {
        let entries = self.entries.pin();
        let of_agent = entries
            .values()
            .filter(|entry| entry.ending().is_none() && entry.facts().agent() == agent);
        let calls = of_agent.flat_map(|entry| entry.open_calls());
        calls
            .filter(|call| call.is_by_token_until(until))
            .for_each(|call| call.cut());
    }

    /// Refuses an issuer that is revoked.
    pub fn check_issuer(&self, issuer: &str) -> Result<(), Blocked> {
        self.revocations.check_issuer(issuer)
    }

    /// Refuses a tool that is revoked.
    pub fn check_tool(&self, tool: &ToolName) -> Result<(), Blocked> {
        self.revocations.check_tool(tool)
    }

    /// Lets a call go on to a tool that is not revoked, and takes its place among those that are cut once it is.
    pub fn reach(&self, task: &Task, tool: &ToolName) -> Result<Reach, Unbound> {
        let agent = task.agent();
        let issuers = agent.issuers().map(str::to_owned).collect();
        let call = OpenCall::new(tool.clone(), (issuers, agent.issued_at()), task.cut());
        task.entry().join(&call);
        let reach = Reach {
            entry: Arc::clone(task.entry()),
            call,
        };
        // After it is known: who revokes comes before that, and is seen, or after, and cuts it.
        fence(Ordering::SeqCst);
        self.check_proof(agent)?;
        self.revocations.check_tool(tool)?;
        Ok(reach)
    }

    /// Hands a wish back unless it is of, for, or vouched for by somebody who is revoked.
    pub(super) fn admit(&self, opening: Opening) -> Result<Opening, InvalidOpening> {
        let wish = &opening.wish;
        let admitted = self
            .revocations
            .check_task(&wish.agent, &wish.owner, &wish.issuers);
        admitted?;
        Ok(opening)
    }

    /// Refuses a task that was opened while what it depends on was revoked.
    pub(super) fn check_opened(&self, entry: &Entry) -> Result<(), OpenError> {
        fence(Ordering::SeqCst);
        let facts = entry.facts();
        self.revocations.check_facts(facts)?;
        let is_late = self
            .cutoffs
            .hold_back_task(facts.agent(), facts.owner(), facts.issued());
        if is_late {
            return Err(OpenError::TokenRevoked);
        }
        Ok(())
    }

    /// Ends what revocations of before the start left open.
    pub(super) fn end_revoked(&self, revocations: &[Arc<Revocation>]) {
        for revocation in revocations {
            let before = if revocation.stays {
                revocation.until.unwrap_or(i64::MAX)
            } else {
                revocation.at.saturating_add(1)
            };
            let ended = self.end_of(revocation, |entry| opened_at(entry) < before);
            for entry in &ended {
                drop(Cut { tasks: self, entry });
            }
        }
    }

    /// Ends in memory what a revocation is about, and all below; answers with what was open. Nothing is cut.
    fn end_of(&self, revocation: &Revocation, among: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let mut ended = Vec::new();
        let mut note = |entry: &Arc<Entry>, ending| {
            if self.end_in_memory(entry, ending, Some(&revocation.by)) {
                ended.push(Arc::clone(entry));
            }
        };
        let entries = self.entries.pin();
        let entries = entries.values().filter(|entry| entry.ending().is_none());
        let is_meant = |entry: &Entry| {
            entry.is_of(&revocation.subject)
                && revocation
                    .as_of
                    .is_none_or(|as_of| entry.began_for(&revocation.subject) <= as_of)
                && among(entry)
        };
        for entry in entries.filter(|entry| is_meant(entry)) {
            note(entry, Ending::Revoked);
            for child in entry.close_family() {
                note(&child, Ending::ParentEnded);
            }
        }
        ended
    }

    /// The calls that are under way of the tasks that ended, and all others of the subject.
    fn calls_of(&self, subject: &Subject, ended: &[Arc<Entry>]) -> Vec<Arc<OpenCall>> {
        let mut calls: Vec<_> = ended.iter().flat_map(|entry| entry.open_calls()).collect();
        if matches!(subject, Subject::Tool(_) | Subject::Issuer(_)) {
            let entries = self.entries.pin();
            let open = entries.values().filter(|entry| entry.ending().is_none());
            let of_them = open.flat_map(|entry| entry.open_calls());
            calls.extend(of_them.filter(|call| call.is_of(subject)));
        }
        calls
    }
}

impl Entry {
    /// Whether it ends when this is revoked.
    fn is_of(&self, subject: &Subject) -> bool {
        let facts = self.facts();
        match subject {
            Subject::Agent(name) => facts.agent() == name,
            Subject::Owner(name) => facts.owner() == name,
            Subject::Issuer(name) => {
                let mut issuers = facts.issuers().iter();
                issuers.any(|own| spelling(own) == spelling(name))
            }
            Subject::Tool(_) => false,
        }
    }

    /// Since when somebody is behind it, in milliseconds since the epoch: since the token was issued that named them, or else
    /// since it was opened. A thief opens tasks by tokens of long before.
    fn began_for(&self, subject: &Subject) -> i64 {
        let issued = self.facts().issued();
        let issued_at = match subject {
            Subject::Agent(_) => issued.agent,
            Subject::Owner(_) => issued.owner,
            Subject::Issuer(_) | Subject::Tool(_) => None,
        };
        issued_at.map_or_else(
            || opened_at(self),
            |issued_at| issued_at.saturating_mul(1000),
        )
    }
}

/// When it was opened, in milliseconds since the epoch, cut to a second.
fn opened_at(entry: &Entry) -> i64 {
    entry.facts().opened_at_epoch().saturating_mul(1000)
}

/// How many calls that were cut are not over after a second.
async fn left(mut calls: Vec<Arc<OpenCall>>) -> usize {
    let over = async {
        loop {
            calls.retain(|call| Arc::strong_count(call) > 1);
            if calls.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(GONE, over).await.ok();
    calls.len()
}
