//! What a task used up, counted exactly and never lower than it was.
//!
//! Calls are counted by tool and access class, so that all sums can be made of one set of numbers. The store
//! holds for each an upper bound, moved ahead by a block before calls are let through: after a crash the
//! bound is what counts. A stop writes the exact numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::access::ByAccess;
use crate::{Access, Facts, Limits, Store, StoreError, Table, ToolName, Usage, Write};

/// The largest block, and that of calls without a limit: what a crash may count too much.
const MAX_BLOCK: u64 = 1024;

/// A block is at most this part of the tightest limit.
const BLOCKS_PER_LIMIT: u64 = 100;

/// A limit of the task would be passed, or can't be counted.
#[derive(Debug, thiserror::Error)]
pub enum Exhausted {
    /// `calls`, `calls_by_access.write`, `calls_by_tool.github`…; `parent.calls` where it is that of a task from which this
    /// one was delegated.
    #[error("limit `{limit}` of {allowed} is used up")]
    Limit {
        /// Which.
        limit: String,
        /// How much was allowed.
        allowed: String,
    },
    /// The task ended meanwhile.
    #[error("task has ended")]
    Ended,
    /// The task was paused meanwhile.
    #[error("task is paused")]
    Paused,
    /// The task carries as many labels as it may, and the call would give it another one.
    #[error("task carries {0} labels already")]
    Labels(usize),
    /// The task was bound to explain, not to call.
    #[error("a rehearsal makes no calls")]
    Rehearsal,
    /// The count could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The counters of one task.
#[derive(Debug)]
pub(crate) struct Counters {
    facts: Arc<Facts>,
    store: Arc<dyn Store>,
    /// Held for a few additions and comparisons, never across an await: calls of one task meet here, calls of
    /// different tasks never. Atomics can't move three sums at once.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    by_access: ByAccess<u64>,
    /// In the order of first use; it only grows.
    tools: Vec<(ToolName, ByAccess<Cell>)>,
    /// Whether somebody writes. One at a time, so that an older record never overwrites a newer one.
    writing: bool,
    /// Whoever waits for the next record to be durable.
    waiting: Vec<Waiting>,
    /// Whether the gateway stops: records hold what was used, no more blocks.
    exact: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    used: u64,
    /// How many the store is known to hold. A call goes on only when `used` is not above it.
    durable: u64,
}

type Waiting = oneshot::Sender<Result<(), StoreError>>;

/// What the store holds.
type Record = BTreeMap<ToolName, BTreeMap<Access, u64>>;

/// What is to be written.
struct Page {
    /// None if those who wait are covered by what was written before.
    record: Option<Record>,
    /// By tool, in the order of `State::tools`.
    durable: Vec<ByAccess<u64>>,
    waiting: Vec<Waiting>,
}

impl Counters {
    /// The counters of a task that used up nothing yet.
    pub(crate) fn new(facts: Arc<Facts>, store: Arc<dyn Store>) -> Self {
        Self {
            facts,
            store,
            state: Mutex::default(),
        }
    }

    /// The counters as the store holds them: an unfinished block counts as used.
    pub(crate) fn load(
        facts: Arc<Facts>,
        store: Arc<dyn Store>,
        value: &[u8],
    ) -> Result<Self, StoreError> {
        let record: Record = serde_json::from_slice(value)
            .map_err(|error| StoreError(format!("counters of task `{}`: {error}", facts.id())))?;
        let mut state = State::default();
        for (tool, by_access) in record {
            for (access, used) in by_access {
                state.add(&tool, access, used);
                state.cell(&tool, access).durable = used;
            }
        }
        Ok(Self {
            facts,
            store,
            state: Mutex::new(state),
        })
    }

    /// What was used up so far.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.lock();
        let by_tool = |(tool, cells): &(ToolName, ByAccess<Cell>)| (tool.clone(), used(cells));
        Usage {
            calls: state.calls,
            by_access: state
                .by_access
                .iter()
                .filter(|(_, used)| **used > 0)
                .map(|(access, used)| (access, *used))
                .collect(),
            by_tool: state
                .tools
                .iter()
                .map(by_tool)
                .filter(|(_, used)| *used > 0)
                .collect(),
            ..Usage::default()
        }
    }

    /// What the limits leave, in calls.
    pub(crate) fn rest(&self) -> Limits {
        let limits = self.facts.limits();
        let usage = self.usage();
        let by_access = limits.calls_by_access.iter().map(|(access, limit)| {
            let used = usage.by_access.get(access).copied().unwrap_or(0);
            (*access, limit.saturating_sub(used))
        });
        let by_tool = limits.calls_by_tool.iter().map(|(tool, limit)| {
            let used = usage.by_tool.get(tool).copied().unwrap_or(0);
            (tool.clone(), limit.saturating_sub(used))
        });
        Limits {
            calls: limits.calls.map(|limit| limit.saturating_sub(usage.calls)),
            calls_by_access: by_access.collect(),
            calls_by_tool: by_tool.collect(),
            ..limits.clone()
        }
    }

    /// Counts one call in all its limits at once, and returns when a crash can't forget it. A call that is
    /// given up while it waits, or whose count can't be written, is not counted.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        tool: &ToolName,
        access: Access,
    ) -> Result<(), Exhausted> {
        let Some(written) = self.count(tool, access)? else {
            return Ok(());
        };
        let counted = Counted {
            counters: self,
            tool,
            access,
            durable: false,
        };
        written.await.map_err(|_| stopped())??;
        counted.keep();
        Ok(())
    }

    /// Writes what was used, without a block ahead, and does so from now on.
    pub(crate) async fn settle(self: &Arc<Self>) -> Result<(), StoreError> {
        let written = {
            let mut state = self.state.lock();
            state.exact = true;
            if state.is_settled() {
                return Ok(());
            }
            self.wait(&mut state)
        };
        written.await.map_err(|_| stopped())?
    }

    /// Counts a call, and answers with what it has to wait for, if anything.
    fn count(
        self: &Arc<Self>,
        tool: &ToolName,
        access: Access,
    ) -> Result<Option<oneshot::Receiver<Result<(), StoreError>>>, Exhausted> {
        let limits = self.facts.limits();
        let mut state = self.state.lock();
        state.check(limits, tool, access)?;
        state.add(tool, access, 1);
        let cell = *state.cell(tool, access);
        if cell.used > cell.durable {
            return Ok(Some(self.wait(&mut state)));
        }
        if !state.writing && !state.exact && is_low(cell, block(limits, tool, access)) {
            self.write(&mut state);
        }
        Ok(None)
    }

    /// Waits for the next record, and has it written.
    fn wait(self: &Arc<Self>, state: &mut State) -> oneshot::Receiver<Result<(), StoreError>> {
        let (waiting, written) = oneshot::channel();
        state.waiting.push(waiting);
        if !state.writing {
            self.write(state);
        }
        written
    }

    /// Starts to write, apart from the caller: who goes away while others wait must not take the pen along.
    fn write(self: &Arc<Self>, state: &mut State) {
        state.writing = true;
        let pen = Pen {
            counters: Arc::clone(self),
            down: false,
        };
        drop(tokio::spawn(pen.write()));
    }
}

/// Counts one call in several tasks: in all, or in none. The first is the one that is called, the others those above it.
pub(crate) async fn reserve_all(
    all: &[&Arc<Counters>],
    tool: &ToolName,
    access: Access,
) -> Result<(), Exhausted> {
    let mut counted = Vec::with_capacity(all.len());
    let mut waiting = Vec::new();
    for (height, counters) in all.iter().enumerate() {
        let written = counters.count(tool, access);
        let written = written.map_err(|error| of_height(error, height))?;
        waiting.extend(written);
        counted.push(Counted {
            counters,
            tool,
            access,
            durable: false,
        });
    }
    for written in waiting {
        written.await.map_err(|_| stopped())??;
    }
    counted.into_iter().for_each(Counted::keep);
    Ok(())
}

/// Says that a limit is that of a task above the one that is called.
pub(crate) fn of_height(error: Exhausted, height: usize) -> Exhausted {
    match error {
        Exhausted::Limit { limit, allowed } if height > 0 => Exhausted::Limit {
            limit: format!("parent.{limit}"),
            allowed,
        },
        error => error,
    }
}

/// The right to write a task's record, held by one at a time.
struct Pen {
    counters: Arc<Counters>,
    down: bool,
}

impl Pen {
    /// Writes until nobody waits.
    async fn write(mut self) {
        let mut last = Ok(());
        while let Some(page) = self.next(&last) {
            last = self.write_page(page.record).await;
            if last.is_ok() {
                self.counters.state.lock().written(&page.durable);
            }
            for waiting in page.waiting {
                // Who gave up waiting has taken its call back.
                let _gone = waiting.send(last.clone());
            }
        }
    }

    /// The next page, or none: then the pen is down.
    fn next(&mut self, last: &Result<(), StoreError>) -> Option<Page> {
        let mut state = self.counters.state.lock();
        // After a failure only those who wait are worth another try, else it would never end.
        let page = if last.is_err() && state.waiting.is_empty() {
            None
        } else {
            state.page(self.counters.facts.limits())
        };
        if page.is_none() {
            state.writing = false;
            self.down = true;
        }
        page
    }

    async fn write_page(&self, record: Option<Record>) -> Result<(), StoreError> {
        let Some(record) = record else {
            return Ok(());
        };
        let value = serde_json::to_vec(&record).map_err(|e| StoreError(e.to_string()))?;
        let put = Write::Put {
            table: Table::Counters,
            key: self.counters.facts.id().to_string(),
            value,
        };
        self.counters.store.commit(vec![put]).await
    }
}

/// A runtime that stops drops the pen in mid-page: those who wait are told, the next may take it.
impl Drop for Pen {
    fn drop(&mut self) {
        if !self.down {
            let mut state = self.counters.state.lock();
            state.writing = false;
            state.waiting.clear();
        }
    }
}

/// A call that is counted and not yet durable; dropped before, it is taken back.
struct Counted<'a> {
    counters: &'a Counters,
    tool: &'a ToolName,
    access: Access,
    durable: bool,
}

impl Counted<'_> {
    fn keep(mut self) {
        self.durable = true;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.durable {
            self.counters.state.lock().take_back(self.tool, self.access);
        }
    }
}

impl State {
    /// Whether one more call passes no limit.
    fn check(&self, limits: &Limits, tool: &ToolName, access: Access) -> Result<(), Exhausted> {
        let within = |limit: Option<&u64>, used: u64, name: &dyn Fn() -> String| match limit {
            Some(allowed) if used >= *allowed => Err(Exhausted::Limit {
                limit: name(),
                allowed: allowed.to_string(),
            }),
            Some(_) | None => Ok(()),
        };
        within(limits.calls.as_ref(), self.calls, &|| "calls".to_owned())?;
        within(
            limits.calls_by_access.get(&access),
            *self.by_access.of(access),
            &|| format!("calls_by_access.{}", access.as_str()),
        )?;
        within(
            limits.calls_by_tool.get(tool),
            self.cells(tool).map_or(0, used),
            &|| format!("calls_by_tool.{tool}"),
        )
    }

    fn add(&mut self, tool: &ToolName, access: Access, calls: u64) {
        self.calls = self.calls.saturating_add(calls);
        let by_access = self.by_access.of_mut(access);
        *by_access = by_access.saturating_add(calls);
        let cell = self.cell(tool, access);
        cell.used = cell.used.saturating_add(calls);
    }

    fn take_back(&mut self, tool: &ToolName, access: Access) {
        self.calls = self.calls.saturating_sub(1);
        let by_access = self.by_access.of_mut(access);
        *by_access = by_access.saturating_sub(1);
        let cell = self.cell(tool, access);
        cell.used = cell.used.saturating_sub(1);
    }

    fn cells(&self, tool: &ToolName) -> Option<&ByAccess<Cell>> {
        let (_, cells) = self.tools.iter().find(|(name, _)| name == tool)?;
        Some(cells)
    }

    fn cell(&mut self, tool: &ToolName, access: Access) -> &mut Cell {
        let found = self.tools.iter().position(|(name, _)| name == tool);
        let index = found.unwrap_or(self.tools.len());
        if found.is_none() {
            self.tools.push((tool.clone(), ByAccess::default()));
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "the index was found, or is that of the element just pushed"
        )]
        self.tools[index].1.of_mut(access)
    }

    fn is_settled(&self) -> bool {
        let settled =
            |cells: &ByAccess<Cell>| cells.iter().all(|(_, cell)| cell.used == cell.durable);
        !self.writing && self.tools.iter().all(|(_, cells)| settled(cells))
    }

    /// What is to be written next; none if nobody waits and no block is low.
    fn page(&mut self, limits: &Limits) -> Option<Page> {
        let mut changed = false;
        let mut durable = Vec::with_capacity(self.tools.len());
        for (tool, cells) in &self.tools {
            let mut targets = ByAccess::default();
            for (access, cell) in cells.iter() {
                let target = self.target(limits, tool, access, *cell);
                changed |= target != cell.durable;
                *targets.of_mut(access) = target;
            }
            durable.push(targets);
        }
        if !changed && self.waiting.is_empty() {
            return None;
        }
        if self.exact {
            // A lower bound holds from now on, so that nobody relies on the higher one while it is replaced.
            for (_, cells) in &mut self.tools {
                for access in [Access::Read, Access::Write, Access::Execute] {
                    let cell = cells.of_mut(access);
                    cell.durable = cell.durable.min(cell.used);
                }
            }
        }
        Some(Page {
            record: changed.then(|| self.record(&durable)),
            durable,
            waiting: std::mem::take(&mut self.waiting),
        })
    }

    /// Up to where a cell is to be durable.
    fn target(&self, limits: &Limits, tool: &ToolName, access: Access, cell: Cell) -> u64 {
        if self.exact {
            return cell.used;
        }
        let block = block(limits, tool, access);
        if cell.used <= cell.durable && !is_low(cell, block) {
            return cell.durable;
        }
        let target = cell
            .durable
            .max(cell.used.saturating_sub(1))
            .saturating_add(block);
        // No block beyond what the limits leave, so that a crash doesn't count more than was allowed.
        let left = self.left(limits, tool, access);
        target
            .min(cell.durable.max(cell.used).saturating_add(left))
            .max(cell.used)
    }

    /// How many more calls the limits leave when all blocks are counted as used.
    fn left(&self, limits: &Limits, tool: &ToolName, access: Access) -> u64 {
        let bound = |cell: &Cell| cell.used.max(cell.durable);
        let sum = |over_tools: &dyn Fn(&ToolName) -> bool, over_access: &dyn Fn(Access) -> bool| {
            self.tools
                .iter()
                .filter(|(tool, _)| over_tools(tool))
                .flat_map(|(_, cells)| cells.iter())
                .filter(|(access, _)| over_access(*access))
                .fold(0_u64, |sum, (_, cell)| sum.saturating_add(bound(cell)))
        };
        let mut left = u64::MAX;
        if let Some(limit) = limits.calls {
            left = left.min(limit.saturating_sub(sum(&|_| true, &|_| true)));
        }
        if let Some(limit) = limits.calls_by_access.get(&access) {
            left = left.min(limit.saturating_sub(sum(&|_| true, &|a| a == access)));
        }
        if let Some(limit) = limits.calls_by_tool.get(tool) {
            left = left.min(limit.saturating_sub(sum(&|t| t == tool, &|_| true)));
        }
        left
    }

    fn record(&self, durable: &[ByAccess<u64>]) -> Record {
        self.tools
            .iter()
            .zip(durable)
            .map(|((tool, _), durable)| {
                let durable = durable.iter().filter(|(_, calls)| **calls > 0);
                let by_access = durable.map(|(access, calls)| (access, *calls)).collect();
                (tool.clone(), by_access)
            })
            .collect()
    }

    fn written(&mut self, durable: &[ByAccess<u64>]) {
        for ((_, cells), durable) in self.tools.iter_mut().zip(durable) {
            for (access, calls) in durable.iter() {
                let cell = cells.of_mut(access);
                cell.durable = cell.durable.max(*calls);
            }
        }
    }
}

fn used(cells: &ByAccess<Cell>) -> u64 {
    cells
        .iter()
        .fold(0, |sum, (_, cell)| sum.saturating_add(cell.used))
}

/// How many calls one record covers: a hundredth of the tightest limit that is involved.
fn block(limits: &Limits, tool: &ToolName, access: Access) -> u64 {
    [
        limits.calls.as_ref(),
        limits.calls_by_access.get(&access),
        limits.calls_by_tool.get(tool),
    ]
    .into_iter()
    .flatten()
    .min()
    .map_or(MAX_BLOCK, |limit| {
        (limit / BLOCKS_PER_LIMIT).clamp(1, MAX_BLOCK)
    })
}

/// Whether it is time to write the next block ahead, so that no call waits. Only the largest blocks are:
/// smaller ones mean a limit, which is to be counted closely.
fn is_low(cell: Cell, block: u64) -> bool {
    let ahead = cell.durable.saturating_sub(cell.used);
    block == MAX_BLOCK && cell.used > 0 && ahead <= block / 2
}

fn stopped() -> StoreError {
    StoreError("the gateway is stopping".to_owned())
}

#[cfg(test)]
mod tests;
