//! Where the records of tasks are written.
//!
//! **Invariant.** The records of one task are written one after the other, each as the task is when its turn comes: none
//! that is older is written last.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::entry::Entry;
use crate::purse::Purse;
use crate::{Store, StoreError, TaskId, Write};

/// How many tasks are written at once without waiting for each other, at best.
const PLACES: u64 = 64;

/// Where the records of tasks are written.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    /// Each task has one, and shares it with others. Held while a record is written, never on the way of a call that
    /// changes nothing of its task.
    places: Vec<Mutex<()>>,
}

impl Desk {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        let places = (0..PLACES).map(|_| Mutex::default()).collect();
        Arc::new(Self { store, places })
    }

    /// Writes the records of these, as they are then; durable when it returns.
    pub(crate) async fn write(&self, entries: &[Arc<Entry>]) -> Result<(), StoreError> {
        self.write_by(entries, Entry::put).await
    }

    /// Writes the record of one that is new and what else is to be known with it, all or nothing.
    pub(crate) async fn write_with(
        &self,
        entry: &Entry,
        more: Option<Write>,
    ) -> Result<(), StoreError> {
        // Nobody else has it yet.
        let mut writes = vec![entry.put()?];
        writes.extend(more);
        self.store.commit(writes).await
    }

    /// The same as [`Self::write`], with records made in another way.
    pub(crate) async fn write_by(
        &self,
        entries: &[Arc<Entry>],
        record: impl Fn(&Entry) -> Result<Write, StoreError>,
    ) -> Result<(), StoreError> {
        let _places = self.take_places(entries).await;
        let writes = entries.iter().map(|entry| record(entry));
        let writes = writes.collect::<Result<Vec<_>, _>>()?;
        if writes.is_empty() {
            return Ok(());
        }
        self.store.commit(writes).await
    }

    /// Writes what calls of these spent, of those of which that is to be told by then: whoever waits for a place may find
    /// that a record before its own said it already.
    pub(crate) async fn write_spent(
        &self,
        entries: &[Arc<Entry>],
        is_due: impl Fn(&Purse) -> bool,
    ) -> Result<(), StoreError> {
        let _places = self.take_places(entries).await;
        let due = entries.iter().filter(|entry| is_due(entry.purse()));
        let told = due.map(|entry| (entry, entry.purse().record()));
        let told: Vec<_> = told.collect();
        let writes = told.iter().map(|(entry, spent)| entry.put_spent(spent));
        let writes = writes.collect::<Result<Vec<_>, _>>()?;
        if writes.is_empty() {
            return Ok(());
        }
        self.store.commit(writes).await?;
        for (entry, spent) in told {
            entry.purse().written(&spent);
        }
        Ok(())
    }

    /// In the order of the places, so that two who need the same never wait for each other.
    async fn take_places(&self, entries: &[Arc<Entry>]) -> Vec<MutexGuard<'_, ()>> {
        let places: BTreeSet<usize> = entries.iter().map(|entry| place(entry)).collect();
        let mut held = Vec::with_capacity(places.len());
        for place in places.iter().filter_map(|place| self.places.get(*place)) {
            held.push(place.lock().await);
        }
        held
    }
}

fn place(entry: &Entry) -> usize {
    let id: &TaskId = entry.facts().id();
    let mut hasher = DefaultHasher::new();
    id.as_str().hash(&mut hasher);
    usize::try_from(hasher.finish() % PLACES).unwrap_or(0)
}
