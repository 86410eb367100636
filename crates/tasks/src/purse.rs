//! What a task's calls take besides being calls: bytes, amounts of its budgets, distinct resources.
//!
//! What a call may take is held for it before it is made, and settled after it. The store holds an upper bound of what was
//! used and is held, moved ahead by a block: after a crash the bound is what counts.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Amount, Exhausted, Limits, Unit, Usage};

/// A block is such a part of its limit: what a crash may count too much.
const BLOCKS_PER_LIMIT: u64 = 100;

/// How many times over a block holds what one call takes, where there is no limit.
const CALLS_PER_BLOCK: u64 = 64;

/// What is held ahead for a call's bytes: such a part of those that are left, and at most so many.
const SHARES: u64 = 64;
const SHARE_MAX: u64 = 1024 * 1024;

/// The longest name of a resource that is counted, in bytes.
const MAX_RESOURCE: usize = 1024;

/// What a task used up, is held for its calls, and is on record.
#[derive(Debug, Default)]
pub(crate) struct Purse {
    /// Held for a few additions, never across an await: calls of one task meet here, those of different tasks never.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Cell,
    /// In the order of first use; it only grows.
    units: Vec<(Unit, Cell)>,
    resources: HashMap<String, Touched>,
    /// Whether the gateway stops: records hold what was used, no more blocks.
    exact: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    used: u64,
    /// For calls that are under way.
    held: u64,
    /// What the next record says.
    bound: u64,
    /// What the store is known to hold.
    durable: u64,
}

/// A resource that a call was or is about to be made on.
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    /// Calls that were made on it, or are about to be.
    calls: u64,
    durable: bool,
}

/// What the store holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Spent {
    #[serde(default, skip_serializing_if = "is_zero")]
    bytes: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    units: BTreeMap<Unit, Amount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resources: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What is held for one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) bytes: u64,
    /// Whether the store must hear of it before the call goes on.
    pub(crate) is_late: bool,
}

/// What one call needs before it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) bytes: u64,
    pub(crate) amounts: &'a [(Unit, Amount)],
    /// None if it is made on none.
    pub(crate) resource: Option<&'a str>,
}

impl Purse {
    pub(crate) fn load(spent: Spent) -> Self {
        let cell = |used| Cell {
            used,
            held: 0,
            bound: used,
            durable: used,
        };
        let touched = Touched {
            calls: 1,
            durable: true,
        };
        let units = spent.units.into_iter();
        let resources = spent.resources.into_iter();
        let state = State {
            bytes: cell(spent.bytes),
            units: units
                .map(|(unit, amount)| (unit, cell(amount.millionths())))
                .collect(),
            resources: resources.map(|resource| (resource, touched)).collect(),
            exact: false,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// What its record says.
    pub(crate) fn record(&self) -> Spent {
        let state = self.state.lock();
        let units = state.units.iter().filter(|(_, cell)| cell.bound > 0);
        let mut resources: Vec<_> = state.resources.keys().cloned().collect();
        resources.sort_unstable();
        Spent {
            bytes: state.bytes.bound,
            units: units
                .map(|(unit, cell)| (unit.clone(), Amount::of_millionths(cell.bound)))
                .collect(),
            resources,
        }
    }

    /// Adds what was used, and is held, to what calls used up.
    pub(crate) fn add_to(&self, usage: &mut Usage) {
        let state = self.state.lock();
        usage.bytes = state.bytes.taken();
        let units = state.units.iter().filter(|(_, cell)| cell.taken() > 0);
        usage.spent = units
            .map(|(unit, cell)| (unit.clone(), Amount::of_millionths(cell.taken())))
            .collect();
        usage.resources = state.resources.keys().cloned().collect();
        usage.resources.sort_unstable();
    }

    /// Holds what a call needs, all of it or nothing; of bytes a share more, if there is one.
    pub(crate) fn hold(&self, limits: &Limits, need: &Need<'_>) -> Result<Hold, Exhausted> {
        let mut state = self.state.lock();
        state.check(limits, need)?;
        let exact = state.exact;
        let mut is_late = false;
        let mut bytes = need.bytes;
        if let Some(limit) = limits.bytes {
            bytes = bytes.saturating_add(state.share(limit, bytes));
            is_late |= state.bytes.hold(bytes, limits.bytes, exact);
        }
        for (unit, amount) in need.amounts {
            let limit = limits.budget.get(unit).map(|limit| limit.millionths());
            let cell = state.cell(unit);
            is_late |= cell.hold(amount.millionths(), limit, exact);
        }
        if let (Some(_), Some(resource)) = (limits.resources, need.resource) {
            let touched = state.resources.entry(resource.to_owned()).or_default();
            touched.calls = touched.calls.saturating_add(1);
            is_late |= !touched.durable;
        }
        Ok(Hold { bytes, is_late })
    }

    /// Holds more bytes for a call that is under way, and a share more, if there is one.
    pub(crate) fn hold_bytes(&self, limits: &Limits, more: u64) -> Result<Hold, Exhausted> {
        let mut state = self.state.lock();
        state.check_bytes(limits, more)?;
        let share = limits.bytes.map_or(0, |limit| state.share(limit, more));
        let bytes = more.saturating_add(share);
        let exact = state.exact;
        let is_late = state.bytes.hold(bytes, limits.bytes, exact);
        Ok(Hold { bytes, is_late })
    }

    /// Takes back what was held for a call that was not made.
    pub(crate) fn give_back(&self, limits: &Limits, need: &Need<'_>) {
        let mut state = self.state.lock();
        if limits.bytes.is_some() {
            state.bytes.settle(need.bytes, 0);
        }
        for (unit, amount) in need.amounts {
            state.cell(unit).settle(amount.millionths(), 0);
        }
        let Some(resource) = need.resource else {
            return;
        };
        if let Some(touched) = state.resources.get_mut(resource) {
            touched.calls = touched.calls.saturating_sub(1);
            if touched.calls == 0 {
                state.resources.remove(resource);
            }
        }
    }

    /// Counts bytes in place of those that were held. True if the store must hear of it.
    pub(crate) fn settle_bytes(&self, held: u64, used: u64) -> bool {
        self.state.lock().bytes.settle(held, used)
    }

    /// Counts an amount in place of the one that was held. True if the store must hear of it.
    pub(crate) fn settle(&self, unit: &Unit, held: Amount, used: Amount) -> bool {
        let mut state = self.state.lock();
        let cell = state.cell(unit);
        cell.settle(held.millionths(), used.millionths())
    }

    /// Whether the store is known to hold all that was used and is held.
    pub(crate) fn is_on_record(&self) -> bool {
        let state = self.state.lock();
        let is_covered = |cell: &Cell| cell.taken() <= cell.durable;
        is_covered(&state.bytes)
            && state.units.iter().all(|(_, cell)| is_covered(cell))
            && state.resources.values().all(|touched| touched.durable)
    }

    /// A record is durable that says so much.
    pub(crate) fn written(&self, record: &Spent) {
        let mut state = self.state.lock();
        state.bytes.durable = state.bytes.durable.max(record.bytes);
        for (unit, amount) in &record.units {
            let cell = state.cell(unit);
            cell.durable = cell.durable.max(amount.millionths());
        }
        for resource in &record.resources {
            if let Some(touched) = state.resources.get_mut(resource) {
                touched.durable = true;
            }
        }
    }

    /// Has the next record hold what was used, without a block ahead, and so from now on. True if there is something to write.
    pub(crate) fn make_exact(&self) -> bool {
        let mut state = self.state.lock();
        state.exact = true;
        let mut changed = state.bytes.make_exact();
        for (_, cell) in &mut state.units {
            changed |= cell.make_exact();
        }
        changed
    }

    /// What the limits leave.
    pub(crate) fn rest(&self, rest: &mut Limits) {
        let state = self.state.lock();
        if let Some(bytes) = &mut rest.bytes {
            *bytes = bytes.saturating_sub(state.bytes.taken());
        }
        if let Some(resources) = &mut rest.resources {
            let touched = u64::try_from(state.resources.len()).unwrap_or(u64::MAX);
            *resources = resources.saturating_sub(touched);
        }
        for (unit, limit) in &mut rest.budget {
            let taken = state.find(unit).taken();
            *limit = Amount::of_millionths(limit.millionths().saturating_sub(taken));
        }
    }
}

impl State {
    fn check(&self, limits: &Limits, need: &Need<'_>) -> Result<(), Exhausted> {
        self.check_bytes(limits, need.bytes)?;
        for (unit, amount) in need.amounts {
            let Some(limit) = limits.budget.get(unit) else {
                continue;
            };
            let taken = self.find(unit).taken();
            // Where nothing is left, nothing more goes: neither a call that is expected to cost nothing.
            if taken.saturating_add(amount.millionths().max(1)) > limit.millionths() {
                return Err(used_up(format!("budget.{unit}"), limit));
            }
        }
        let (Some(limit), Some(resource)) = (limits.resources, need.resource) else {
            return Ok(());
        };
        let touched = u64::try_from(self.resources.len()).unwrap_or(u64::MAX);
        let is_new = !self.resources.contains_key(resource);
        if is_new && (touched >= limit || resource.len() > MAX_RESOURCE) {
            return Err(used_up("resources".to_owned(), &limit));
        }
        Ok(())
    }

    /// Where nothing is left, nothing more goes: neither a call that brings no bytes of its own.
    fn check_bytes(&self, limits: &Limits, more: u64) -> Result<(), Exhausted> {
        match limits.bytes {
            Some(limit) if self.bytes.taken().saturating_add(more.max(1)) > limit => {
                Err(used_up("bytes".to_owned(), &limit))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What may be held ahead for a call that needs so many bytes, of those that are left beside them.
    fn share(&self, limit: u64, bytes: u64) -> u64 {
        let left = limit.saturating_sub(self.bytes.taken());
        (left.saturating_sub(bytes) / SHARES).min(SHARE_MAX)
    }

    fn find(&self, unit: &Unit) -> Cell {
        let mut units = self.units.iter();
        let found = units.find(|(known, _)| known == unit);
        found.map(|(_, cell)| *cell).unwrap_or_default()
    }

    fn cell(&mut self, unit: &Unit) -> &mut Cell {
        let found = self.units.iter().position(|(known, _)| known == unit);
        let index = found.unwrap_or(self.units.len());
        if found.is_none() {
            self.units.push((unit.clone(), Cell::default()));
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "the index was found, or is that of the element just pushed"
        )]
        &mut self.units[index].1
    }
}

impl Cell {
    /// At most what a record can say.
    fn taken(self) -> u64 {
        self.used.saturating_add(self.held).min(Amount::MOST)
    }

    /// Holds so much, and has the next record cover it. True if none does yet.
    fn hold(&mut self, amount: u64, limit: Option<u64>, exact: bool) -> bool {
        self.held = self.held.saturating_add(amount);
        let taken = self.taken();
        if taken > self.bound {
            let block = match limit {
                _ if exact => 0,
                Some(limit) => (limit / BLOCKS_PER_LIMIT).min(limit.saturating_sub(taken)),
                None => amount.saturating_mul(CALLS_PER_BLOCK),
            };
            self.bound = taken.saturating_add(block).min(Amount::MOST);
        }
        taken > self.durable
    }

    /// Counts what was used in place of what was held. True if no record covers it.
    fn settle(&mut self, held: u64, used: u64) -> bool {
        self.held = self.held.saturating_sub(held);
        self.used = self.used.saturating_add(used);
        self.bound = self.bound.max(self.taken());
        self.taken() > self.durable
    }

    fn make_exact(&mut self) -> bool {
        self.bound = self.taken();
        // A lower bound holds from now on, so that nobody relies on the higher one while it is replaced.
        let changed = self.bound != self.durable;
        self.durable = self.durable.min(self.bound);
        changed
    }
}

fn used_up(limit: String, allowed: &dyn std::fmt::Display) -> Exhausted {
    Exhausted::Limit {
        limit,
        allowed: allowed.to_string(),
    }
}
