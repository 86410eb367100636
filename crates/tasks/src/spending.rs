//! What one call takes of its task and of all above it, besides being a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::counters::of_height;
use crate::entry::Entry;
use crate::purse::{Hold, Need};
use crate::{Access, Amount, Exhausted, StoreError, ToolName, Unit};

/// How long bytes wait where the store is behind with them.
const PACE: Duration = Duration::from_millis(20);

/// What one call is counted by.
#[derive(Clone, Debug)]
pub struct Costs<'a> {
    /// The tool.
    pub tool: &'a ToolName,
    /// The access class.
    pub access: Access,
    /// What it is made on: distinct ones are counted. None if it is made on none.
    pub resource: Option<&'a str>,
    /// What it sends, in bytes, as far as that is known.
    pub bytes: u64,
    /// The most that it is expected to cost, by unit, each unit once.
    pub amounts: Vec<(Unit, Amount)>,
}

/// What is held for one call, until it is over. Dropped before [`Spending::begin`], nothing was spent; after it, what was
/// not settled counts as spent in full.
#[derive(Debug, Default)]
#[must_use = "what is held for the call is given back when it is dropped"]
pub struct Spending {
    /// None where nothing but calls is counted.
    held: Option<Box<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// The task that is called, and those above it.
    payers: Vec<Payer>,
    amounts: Vec<(Unit, Amount)>,
    /// What became of each amount, if that is known.
    settled: Vec<Option<Amount>>,
    resource: Option<String>,
    bytes: u64,
    begun: bool,
    /// Whether the store failed to hear of bytes that went already.
    unheard: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Payer {
    entry: Arc<Entry>,
    /// None if its bytes are not limited.
    bytes: Option<u64>,
    /// Whether the store must hear of it before the call is made.
    is_late: bool,
}

impl Spending {
    /// Holds what a call needs, in its task and in all above it: in all, or in none.
    pub(crate) fn hold(entry: &Arc<Entry>, costs: &Costs<'_>) -> Result<Self, Exhausted> {
        let mut spending = Self::default();
        let mut next = Some(entry);
        let mut height = 0_usize;
        while let Some(entry) = next {
            let limits = entry.facts().limits();
            if limits.bytes.is_some() || limits.resources.is_some() || !costs.amounts.is_empty() {
                let held = spending.held.get_or_insert_with(|| Held::of(costs));
                let held = held.hold(entry, costs);
                held.map_err(|error| of_height(error, height))?;
            }
            next = entry.parent();
            height += 1;
        }
        Ok(spending)
    }

    /// Returns when a crash can't forget what is held.
    pub(crate) async fn written(&self) -> Result<(), StoreError> {
        let Some(held) = &self.held else {
            return Ok(());
        };
        let late = held.payers.iter().filter(|payer| payer.is_late);
        let late: Vec<_> = late.map(|payer| Arc::clone(&payer.entry)).collect();
        Entry::write_spent(&late).await
    }

    /// The call leaves for its tool: from now on it costs.
    pub fn begin(&mut self) {
        if let Some(held) = &mut self.held {
            held.begun = true;
        }
    }

    /// Counts bytes that are about to go up; on record when it returns.
    ///
    /// # Errors
    /// A limit would be passed, or the store fails: they must not go.
    pub async fn send(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let late = self.grow(bytes)?;
        Ok(Entry::write_spent(&late).await?)
    }

    /// Counts bytes that are about to go down, where nobody can wait: the answer says how long they are to be held back while
    /// the store hears of them. Once it failed to, no more of them go.
    ///
    /// # Errors
    /// A limit would be passed, or the store failed: they must not go.
    pub fn receive(&mut self, bytes: usize) -> Result<Option<Duration>, Exhausted> {
        let late = self.grow(bytes)?;
        if late.is_empty() {
            return Ok(None);
        }
        if let Some(held) = &self.held {
            write_apart(late, Arc::clone(&held.unheard));
        }
        Ok(Some(PACE))
    }

    fn grow(&mut self, bytes: usize) -> Result<Vec<Arc<Entry>>, Exhausted> {
        match &mut self.held {
            Some(held) => held.grow(u64::try_from(bytes).unwrap_or(u64::MAX)),
            None => Ok(Vec::new()),
        }
    }

    /// Says what of a unit the call cost, in place of what was held for it.
    pub fn settle(&mut self, unit: &Unit, cost: Amount) {
        let Some(held) = &mut self.held else {
            return;
        };
        let mut amounts = held.amounts.iter().zip(&mut held.settled);
        if let Some((_, settled)) = amounts.find(|((held, _), _)| held == unit) {
            *settled = Some(cost);
        }
    }

    /// Of which units something is held.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        let amounts = self.held.iter().flat_map(|held| &held.amounts);
        amounts.map(|(unit, _)| unit)
    }

    /// Whether nothing but calls is counted.
    pub fn is_nothing(&self) -> bool {
        self.held.is_none()
    }
}

impl Held {
    fn of(costs: &Costs<'_>) -> Box<Self> {
        Box::new(Self {
            payers: Vec::new(),
            amounts: costs.amounts.clone(),
            settled: vec![None; costs.amounts.len()],
            resource: costs.resource.map(str::to_owned),
            bytes: costs.bytes,
            begun: false,
            unheard: Arc::default(),
        })
    }

    fn hold(&mut self, entry: &Arc<Entry>, costs: &Costs<'_>) -> Result<(), Exhausted> {
        let limits = entry.facts().limits();
        let Hold { bytes, is_late } = entry.purse().hold(limits, &self.need(costs.bytes))?;
        self.payers.push(Payer {
            entry: Arc::clone(entry),
            bytes: limits.bytes.map(|_| bytes),
            is_late,
        });
        Ok(())
    }

    fn need(&self, bytes: u64) -> Need<'_> {
        Need {
            bytes,
            amounts: &self.amounts,
            resource: self.resource.as_deref(),
        }
    }

    /// Holds bytes that are about to go; those of whom the store must hear first.
    fn grow(&mut self, bytes: u64) -> Result<Vec<Arc<Entry>>, Exhausted> {
        if self.unheard.load(Ordering::Acquire) {
            let problem = "bytes that went are not on record".to_owned();
            return Err(Exhausted::Store(StoreError(problem)));
        }
        let total = self.bytes.saturating_add(bytes);
        let mut late = Vec::new();
        for (height, payer) in self.payers.iter_mut().enumerate() {
            let is_late = payer.grow(total);
            if is_late.map_err(|error| of_height(error, height))? {
                late.push(Arc::clone(&payer.entry));
            }
        }
        self.bytes = total;
        Ok(late)
    }
}

impl Payer {
    /// Holds as many bytes, and a share more. True if the store must hear of it.
    fn grow(&mut self, total: u64) -> Result<bool, Exhausted> {
        let Some(held) = self.bytes.as_mut().filter(|held| total > **held) else {
            return Ok(false);
        };
        let limits = self.entry.facts().limits();
        let missing = total.saturating_sub(*held);
        let hold = self.entry.purse().hold_bytes(limits, missing)?;
        *held = held.saturating_add(hold.bytes);
        Ok(hold.is_late)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut late = Vec::new();
        for payer in &self.payers {
            let purse = payer.entry.purse();
            if !self.begun {
                let need = self.need(payer.bytes.unwrap_or(0));
                purse.give_back(payer.entry.facts().limits(), &need);
                continue;
            }
            let mut is_late = payer
                .bytes
                .is_some_and(|held| purse.settle_bytes(held, self.bytes));
            for ((unit, held), settled) in self.amounts.iter().zip(&self.settled) {
                is_late |= purse.settle(unit, *held, settled.unwrap_or(*held));
            }
            if is_late {
                late.push(Arc::clone(&payer.entry));
            }
        }
        if !late.is_empty() {
            write_apart(late, Arc::clone(&self.unheard));
        }
    }
}

/// Tells the store what was spent already, and notes if that fails.
fn write_apart(late: Vec<Arc<Entry>>, unheard: Arc<AtomicBool>) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn(async move {
            if let Err(error) = Entry::write_spent(&late).await {
                unheard.store(true, Ordering::Release);
                tracing::warn!(%error, "what calls spent is not on record yet");
            }
        }));
    }
}

#[cfg(test)]
mod tests;
