//! The revocations that stand: asked on every call, without waiting for anybody.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use identity::Agent;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::clock::Clock;
use crate::revocation::{Revocation, spelling};
use crate::{
    Blocked, Facts, RevocationRequest, RevocationView, Store, StoreError, Subject, Table, ToolName,
    Write,
};

/// The revocations that stand.
///
/// **Invariant.** One that was asked for is seen by every call from the first moment, before anything is ended for it.
#[derive(Debug)]
pub(crate) struct Revocations {
    store: Arc<dyn Store>,
    clock: Clock,
    /// What calls ask; nothing is in it most of the time.
    standing: ArcSwap<Standing>,
    /// What it is made of. Held for a change, never across an await, and never on the way of a call.
    known: Mutex<Vec<Arc<Revocation>>>,
    /// Those that the store may not know yet.
    unwritten: Mutex<Vec<Arc<Revocation>>>,
    /// Those that are to be deleted once the store knows of all that ended for them.
    done: Mutex<Vec<String>>,
    /// One change of the store at a time: none is undone by one that came before it.
    writing: tokio::sync::Mutex<()>,
}

/// Until when each is revoked, in milliseconds since the epoch.
#[derive(Debug, Default)]
struct Standing {
    agents: HashMap<String, i64>,
    issuers: HashMap<String, i64>,
    tools: HashMap<ToolName, i64>,
    owners: HashMap<String, i64>,
}

impl Standing {
    fn of(all: &[Arc<Revocation>]) -> Self {
        let mut standing = Self::default();
        for revocation in all {
            let until = revocation.until.unwrap_or(i64::MAX);
            let place = match &revocation.subject {
                Subject::Agent(name) => standing.agents.entry(name.clone()).or_insert(until),
                Subject::Issuer(name) => {
                    let issuers = standing.issuers.entry(spelling(name).to_owned());
                    issuers.or_insert(until)
                }
                Subject::Tool(name) => standing.tools.entry(name.clone()).or_insert(until),
                Subject::Owner(name) => standing.owners.entry(name.clone()).or_insert(until),
            };
            *place = until.max(*place);
        }
        standing
    }
}

impl Revocations {
    /// Loads what was revoked; answers with all that what it is about has to end for.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<(Self, Vec<Arc<Revocation>>), StoreError> {
        let mut all = Vec::new();
        for (id, record) in store.scan(Table::Revocations).await? {
            let read = serde_json::from_slice(&record);
            let mut revocation: Revocation =
                read.map_err(|error| StoreError(format!("revocation `{id}`: {error}")))?;
            revocation.id = id;
            all.push(Arc::new(revocation));
        }
        let now = clock.now();
        let (known, over): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|each| each.stands(now));
        let revocations = Self {
            store,
            clock,
            standing: ArcSwap::from_pointee(Standing::of(&known)),
            known: Mutex::new(known),
            unwritten: Mutex::default(),
            done: Mutex::new(over.iter().map(|each| each.id.clone()).collect()),
            writing: tokio::sync::Mutex::default(),
        };
        Ok((revocations, all))
    }

    /// Notes a revocation: seen by every call when it returns. The store does not know of it.
    pub(crate) fn impose(&self, request: RevocationRequest) -> Arc<Revocation> {
        let revocation = Arc::new(Revocation {
            id: Uuid::now_v7().hyphenated().to_string(),
            subject: request.subject,
            reason: request.reason,
            by: request.by,
            at: self.clock.now(),
            until: request.until.map(|until| until.as_millisecond()),
            as_of: request.as_of.map(|as_of| as_of.as_millisecond()),
            stays: request.stays,
        });
        if revocation.stays {
            self.unwritten.lock().push(Arc::clone(&revocation));
            self.change(|known| known.push(Arc::clone(&revocation)));
        }
        revocation
    }

    /// Makes a revocation durable. One that stays is tried again by [`Self::sweep`] where this fails.
    pub(crate) async fn write(&self, revocation: &Arc<Revocation>) -> Result<(), StoreError> {
        let _one_at_a_time = self.writing.lock().await;
        self.put(revocation).await
    }

    async fn put(&self, revocation: &Arc<Revocation>) -> Result<(), StoreError> {
        let value =
            serde_json::to_vec(revocation).map_err(|error| StoreError(error.to_string()))?;
        let put = Write::Put {
            table: Table::Revocations,
            key: revocation.id.clone(),
            value,
        };
        self.store.commit(vec![put]).await?;
        let is_other = |other: &Arc<Revocation>| other.id != revocation.id;
        self.unwritten.lock().retain(is_other);
        Ok(())
    }

    /// Notes that a revocation is to be forgotten once the store knows of all that ended for it.
    pub(crate) fn finish(&self, revocation: &Revocation) {
        self.done.lock().push(revocation.id.clone());
    }

    /// Lifts a revocation; durable when it returns. None if there is none.
    pub(crate) async fn lift(&self, id: &str) -> Result<Option<RevocationView>, StoreError> {
        let _one_at_a_time = self.writing.lock().await;
        let found = self.known.lock().iter().find(|each| each.id == id).cloned();
        let Some(revocation) = found else {
            return Ok(None);
        };
        self.delete([id.to_owned()]).await?;
        self.unwritten.lock().retain(|other| other.id != id);
        self.change(|known| known.retain(|other| other.id != id));
        Ok(Some(revocation.view()))
    }

    /// All that stand, the newest first.
    pub(crate) fn list(&self) -> Vec<RevocationView> {
        let now = self.clock.now();
        let known = self.known.lock();
        let standing = known.iter().rev().filter(|each| each.stands(now));
        standing.map(|each| each.view()).collect()
    }

    /// Writes what the store doesn't know, and forgets what has lapsed; what is done too, if the store knows of all that
    /// ended.
    pub(crate) async fn sweep(&self, all_endings_are_written: bool) -> Result<(), StoreError> {
        let now = self.clock.now();
        let lapsed = |each: &Arc<Revocation>| !each.stands(now);
        let has_lapsed = self.known.lock().iter().any(lapsed);
        let is_done = all_endings_are_written && !self.done.lock().is_empty();
        if !has_lapsed && !is_done && self.unwritten.lock().is_empty() {
            return Ok(());
        }
        let _one_at_a_time = self.writing.lock().await;
        let unwritten = self.unwritten.lock().clone();
        for revocation in unwritten {
            self.put(&revocation).await?;
        }
        if has_lapsed {
            let mut over = Vec::new();
            self.change(|known| over.extend(known.extract_if(.., |each| lapsed(each))));
            self.done
                .lock()
                .extend(over.iter().map(|each| each.id.clone()));
        }
        if all_endings_are_written {
            let done = self.done.lock().clone();
            self.delete(done.clone()).await?;
            self.done.lock().retain(|id| !done.contains(id));
        }
        Ok(())
    }

    async fn delete(&self, ids: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
        let delete = |key| Write::Delete {
            table: Table::Revocations,
            key,
        };
        let deletes: Vec<_> = ids.into_iter().map(delete).collect();
        if deletes.is_empty() {
            return Ok(());
        }
        self.store.commit(deletes).await
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Revocation>>)) {
        let mut known = self.known.lock();
        change(&mut known);
        self.standing.store(Arc::new(Standing::of(&known)));
    }

    /// Refuses an agent that is revoked, or whose proofs are of an issuer that is.
    pub(crate) fn check_agent(&self, agent: &Agent) -> Result<(), Blocked> {
        let standing = self.standing.load();
        self.check(&standing.agents, agent.id().as_str(), Subject::Agent)?;
        for issuer in agent.issuers() {
            self.check(&standing.issuers, spelling(issuer), Subject::Issuer)?;
        }
        Ok(())
    }

    /// Refuses a task of an agent or owner that is revoked, or that an issuer vouched for which is.
    pub(crate) fn check_task(
        &self,
        agent: &str,
        owner: &str,
        issuers: &[String],
    ) -> Result<(), Blocked> {
        let standing = self.standing.load();
        self.check(&standing.agents, agent, Subject::Agent)?;
        self.check(&standing.owners, owner, Subject::Owner)?;
        for issuer in issuers {
            self.check(&standing.issuers, spelling(issuer), Subject::Issuer)?;
        }
        Ok(())
    }

    /// The same of a task that there is.
    pub(crate) fn check_facts(&self, facts: &Facts) -> Result<(), Blocked> {
        self.check_task(facts.agent(), facts.owner(), facts.issuers())
    }

    /// Refuses an issuer that is revoked.
    pub(crate) fn check_issuer(&self, issuer: &str) -> Result<(), Blocked> {
        self.check(
            &self.standing.load().issuers,
            spelling(issuer),
            Subject::Issuer,
        )
    }

    /// Refuses a tool that is revoked.
    pub(crate) fn check_tool(&self, tool: &ToolName) -> Result<(), Blocked> {
        match self.standing.load().tools.get(tool) {
            Some(until) if self.clock.now() < *until => Err(Blocked(Subject::Tool(tool.clone()))),
            Some(_) | None => Ok(()),
        }
    }

    fn check(
        &self,
        revoked: &HashMap<String, i64>,
        name: &str,
        subject: impl FnOnce(String) -> Subject,
    ) -> Result<(), Blocked> {
        if revoked.is_empty() {
            return Ok(());
        }
        match revoked.get(name) {
            Some(until) if self.clock.now() < *until => Err(Blocked(subject(name.to_owned()))),
            Some(_) | None => Ok(()),
        }
    }
}
