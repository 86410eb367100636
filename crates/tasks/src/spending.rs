//! What one call takes of its task and of all above it, besides being a call.

use std::sync::Arc;
use std::time::Duration;

use crate::counters::of_height;
use crate::entry::Entry;
use crate::purse::Need;
use crate::{Access, Amount, Exhausted, StoreError, ToolName, Unit};

/// What is held ahead for a call's bytes: a hundredth of the limit, within these bounds.
const SHARES: u64 = 100;
const SHARE_MIN: u64 = 256;
const SHARE_MAX: u64 = 1024 * 1024;

/// How long bytes wait where the store is behind with them.
const PACE: Duration = Duration::from_millis(20);

/// What one call is counted by.
#[derive(Clone, Debug)]
pub struct Costs<'a> {
    /// The tool.
    pub tool: &'a ToolName,
    /// The access class.
    pub access: Access,
    /// What it is made on: distinct ones are counted.
    pub resource: &'a str,
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
    /// The task that is called, and those above it; empty where nothing but calls is counted.
    payers: Vec<Payer>,
    amounts: Vec<(Unit, Amount)>,
    /// What became of each amount, if that is known.
    settled: Vec<Option<Amount>>,
    resource: String,
    bytes: u64,
    begun: bool,
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
            let is_counted =
                limits.bytes.is_some() || limits.resources.is_some() || !costs.amounts.is_empty();
            if is_counted {
                if spending.payers.is_empty() {
                    spending.amounts.clone_from(&costs.amounts);
                    spending.settled = vec![None; costs.amounts.len()];
                    costs.resource.clone_into(&mut spending.resource);
                }
                let purse = entry.purse();
                // Where no share of the bytes is left, those that the call brings may be.
                let shared = costs.bytes.saturating_add(share(limits.bytes));
                let held = purse.hold(limits, &spending.need(shared));
                let held = held.map(|is_late| (shared, is_late)).or_else(|_| {
                    let is_late = purse.hold(limits, &spending.need(costs.bytes))?;
                    Ok((costs.bytes, is_late))
                });
                let (bytes, is_late) = held.map_err(|error| of_height(error, height))?;
                spending.payers.push(Payer {
                    entry: Arc::clone(entry),
                    bytes: limits.bytes.map(|_| bytes),
                    is_late,
                });
            }
            next = entry.parent();
            height += 1;
        }
        spending.bytes = costs.bytes;
        Ok(spending)
    }

    fn need(&self, bytes: u64) -> Need<'_> {
        Need {
            bytes,
            amounts: &self.amounts,
            resource: &self.resource,
        }
    }

    /// Returns when a crash can't forget what is held.
    pub(crate) async fn written(&mut self) -> Result<(), StoreError> {
        let late = self.payers.iter().filter(|payer| payer.is_late);
        let late: Vec<_> = late.map(|payer| Arc::clone(&payer.entry)).collect();
        Entry::write_spent(&late).await
    }

    /// The call leaves for its tool: from now on it costs.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Counts bytes that go either way. They may go after the answer's time, if it has one: then the store is behind.
    ///
    /// # Errors
    /// A limit would be passed: they must not go.
    pub fn pass(&mut self, bytes: usize) -> Result<Option<Duration>, Exhausted> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let total = self.bytes.saturating_add(bytes);
        let mut late = Vec::new();
        for (height, payer) in self.payers.iter_mut().enumerate() {
            let Some(held) = &mut payer.bytes else {
                continue;
            };
            if total <= *held {
                continue;
            }
            let limits = payer.entry.facts().limits();
            let purse = payer.entry.purse();
            let missing = total.saturating_sub(*held);
            let more = missing.max(share(limits.bytes));
            let held_more = purse.hold_bytes(limits, more).map(|late| (more, late));
            let held_more = held_more.or_else(|_| {
                let late = purse.hold_bytes(limits, missing)?;
                Ok((missing, late))
            });
            let (more, is_late) = held_more.map_err(|error: Exhausted| of_height(error, height))?;
            *held = held.saturating_add(more);
            if is_late {
                late.push(Arc::clone(&payer.entry));
            }
        }
        self.bytes = total;
        if late.is_empty() {
            return Ok(None);
        }
        write_apart(late);
        Ok(Some(PACE))
    }

    /// Says what of a unit the call cost, in place of what was held for it.
    pub fn settle(&mut self, unit: &Unit, cost: Amount) {
        let mut held = self.amounts.iter().zip(&mut self.settled);
        if let Some((_, settled)) = held.find(|((held, _), _)| held == unit) {
            *settled = Some(cost);
        }
    }

    /// Of which units something is held.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.amounts.iter().map(|(unit, _)| unit)
    }

    /// Whether nothing but calls is counted.
    pub fn is_nothing(&self) -> bool {
        self.payers.is_empty()
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        let mut late = Vec::new();
        for payer in &self.payers {
            let purse = payer.entry.purse();
            if !self.begun {
                purse.give_back(
                    payer.entry.facts().limits(),
                    &self.need(payer.bytes.unwrap_or(0)),
                );
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
            write_apart(late);
        }
    }
}

/// What is held ahead for a call's bytes.
fn share(limit: Option<u64>) -> u64 {
    limit.map_or(0, |limit| (limit / SHARES).clamp(SHARE_MIN, SHARE_MAX))
}

/// Tells the store what was spent already. Whoever spent it goes on; a store that fails keeps what it knew, and the next
/// call waits for it.
fn write_apart(late: Vec<Arc<Entry>>) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn(async move {
            if let Err(error) = Entry::write_spent(&late).await {
                tracing::warn!(%error, "what calls spent is not on record yet");
            }
        }));
    }
}

#[cfg(test)]
mod tests;
