//! Since when the tokens of somebody count: those that were issued before are not taken any more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use identity::Agent;
use parking_lot::Mutex;

use crate::{Issued, Store, StoreError, Table, Write};

/// How long it is remembered from when it is heard of, in seconds: a week, longer than tokens of people and workloads live.
/// A start hears of it anew.
const REMEMBERED_FOR: i64 = 7 * 24 * 60 * 60;

/// Since when the tokens of owners and agents count, in seconds since the epoch.
#[derive(Debug)]
pub(crate) struct Cutoffs {
    store: Arc<dyn Store>,
    /// Read on every call without waiting.
    agents: papaya::HashMap<String, Cutoff>,
    owners: papaya::HashMap<String, Cutoff>,
    /// When each may be forgotten, in seconds since the epoch, the next first.
    until: Mutex<BinaryHeap<Reverse<(i64, String)>>>,
}

/// Since when tokens count, and until when that is remembered.
#[derive(Clone, Copy, Debug)]
struct Cutoff {
    since: i64,
    until: i64,
}

/// Whose tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    Agent(&'a str),
    Owner(&'a str),
}

impl Whose<'_> {
    fn key(self) -> String {
        match self {
            Self::Agent(name) => format!("agent:{name}"),
            Self::Owner(name) => format!("owner:{name}"),
        }
    }
}

impl Cutoffs {
    /// Loads them from the store.
    pub(crate) async fn load(store: Arc<dyn Store>, now: i64) -> Result<Self, StoreError> {
        let rows = store.scan(Table::Cutoffs).await?;
        let cutoffs = Self {
            store,
            agents: papaya::HashMap::new(),
            owners: papaya::HashMap::new(),
            until: Mutex::default(),
        };
        for (key, value) in rows {
            let since = std::str::from_utf8(&value).ok();
            let since = since.and_then(|since| since.parse().ok());
            let since =
                since.ok_or_else(|| StoreError(format!("cut-off of `{key}` can't be read")))?;
            cutoffs.remember(key, since, now);
        }
        Ok(cutoffs)
    }

    /// Takes no tokens of somebody that were issued until then, in seconds since the epoch, from now on. It is to be written.
    pub(crate) fn note(&self, whose: Whose<'_>, since: i64, now: i64) {
        self.remember(whose.key(), since, now);
    }

    /// The same, durably when this returns.
    pub(crate) async fn add(
        &self,
        whose: Whose<'_>,
        since: i64,
        now: i64,
    ) -> Result<(), StoreError> {
        let key = whose.key();
        let since = self.remember(key.clone(), since, now);
        let value = since.to_string().into_bytes();
        let put = Write::Put {
            table: Table::Cutoffs,
            key,
            value,
        };
        self.store.commit(vec![put]).await
    }

    /// Notes it, and answers with the latest for the same.
    fn remember(&self, key: String, since: i64, now: i64) -> i64 {
        let Some((of, name)) = self.place(&key) else {
            return since;
        };
        let until = now.saturating_add(REMEMBERED_FOR);
        let of = of.pin();
        let before = of.get(name).map(|known| known.until);
        let latest = *of.update_or_insert(
            name.to_owned(),
            |known| Cutoff {
                since: since.max(known.since),
                until: until.max(known.until),
            },
            Cutoff { since, until },
        );
        if before != Some(latest.until) {
            self.until.lock().push(Reverse((latest.until, key)));
        }
        latest.since
    }

    fn place<'k>(&self, key: &'k str) -> Option<(&papaya::HashMap<String, Cutoff>, &'k str)> {
        let agent = key.strip_prefix("agent:").map(|name| (&self.agents, name));
        agent.or_else(|| Some((&self.owners, key.strip_prefix("owner:")?)))
    }

    /// Whether a token of an agent was issued too early.
    pub(crate) fn hold_back(&self, agent: &Agent) -> bool {
        if self.agents.is_empty() {
            return false;
        }
        self.is_early_agent(agent.id().as_str(), agent.issued_at())
    }

    /// The same of an owner's token.
    pub(crate) fn hold_back_owner(&self, name: &str, issued_at: Option<i64>) -> bool {
        let since = self.owners.pin().get(name).map(|cutoff| cutoff.since);
        is_early(issued_at, since)
    }

    /// Whether a task was opened by a token that was issued too early.
    pub(crate) fn hold_back_task(&self, agent: &str, owner: &str, issued: Issued) -> bool {
        self.is_early_agent(agent, issued.agent) || self.hold_back_owner(owner, issued.owner)
    }

    fn is_early_agent(&self, name: &str, issued_at: Option<i64>) -> bool {
        let since = self.agents.pin().get(name).map(|cutoff| cutoff.since);
        is_early(issued_at, since)
    }

    /// Forgets those of long ago. `now` is in seconds since the epoch.
    pub(crate) async fn forget(&self, now: i64) -> Result<(), StoreError> {
        let forgotten = self.take_over(now);
        if forgotten.is_empty() {
            return Ok(());
        }
        let delete = |key| Write::Delete {
            table: Table::Cutoffs,
            key,
        };
        let deletes = forgotten.into_iter().map(delete).collect();
        self.store.commit(deletes).await
    }

    fn take_over(&self, now: i64) -> Vec<String> {
        let mut until = self.until.lock();
        let mut over = Vec::new();
        while until.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, key))) = until.pop() else {
                break;
            };
            let Some((of, name)) = self.place(&key) else {
                continue;
            };
            let of = of.pin();
            // A later one for the same has a place of its own in the queue.
            if of.get(name).map(|cutoff| cutoff.until) == Some(at) {
                of.remove(name);
                over.push(key);
            }
        }
        over
    }
}

fn is_early(issued_at: Option<i64>, since: Option<i64>) -> bool {
    // None where there is no token: a task token is as old as its task, which ended; a certificate does not tell.
    issued_at
        .zip(since)
        .is_some_and(|(issued_at, since)| issued_at <= since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Disk;

    fn early(cutoffs: &Cutoffs, name: &str, issued_at: i64) -> bool {
        cutoffs.hold_back_owner(name, Some(issued_at))
    }

    #[tokio::test]
    async fn tokens_of_before_are_held_back_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        {
            let cutoffs = Cutoffs::load(Disk::open(folder.path()), 1000)
                .await
                .unwrap();
            cutoffs.add(Whose::Owner("anna"), 1000, 1000).await.unwrap();
            // An earlier one takes nothing back.
            cutoffs.add(Whose::Owner("anna"), 900, 900).await.unwrap();
        }
        let cutoffs = Cutoffs::load(Disk::open(folder.path()), 1000)
            .await
            .unwrap();
        assert!(early(&cutoffs, "anna", 1000));
        assert!(early(&cutoffs, "anna", i64::MIN));
        assert!(!cutoffs.hold_back_owner("anna", None));
        assert!(!early(&cutoffs, "anna", 1001));
        assert!(!early(&cutoffs, "bert", 1));
        // An agent of the same name is somebody else.
        cutoffs.add(Whose::Agent("bert"), 1000, 1000).await.unwrap();
        assert!(!early(&cutoffs, "bert", 1));
    }

    #[tokio::test]
    async fn they_are_forgotten_once_such_tokens_are_over() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path());
        let store: Arc<dyn Store> = Arc::<Disk>::clone(&disk);
        let cutoffs = Cutoffs::load(store, 1000).await.unwrap();
        // What is heard of late is remembered as long.
        cutoffs.add(Whose::Owner("anna"), 10, 1000).await.unwrap();
        cutoffs.add(Whose::Owner("anna"), 900, 2000).await.unwrap();
        let old = 500;
        cutoffs.forget(1000 + REMEMBERED_FOR).await.unwrap();
        assert!(early(&cutoffs, "anna", old));
        cutoffs.forget(2000 + REMEMBERED_FOR).await.unwrap();
        assert!(!early(&cutoffs, "anna", old));
        assert!(disk.scan(Table::Cutoffs).await.unwrap().is_empty());
    }
}
