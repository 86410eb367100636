//! The leases in memory, and who waits for which.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tasks::{TaskId, ToolName};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Closing, unavailable};
use crate::lease::{Asking, Lease, LeaseKey, Line, Source, State};
use crate::{Revocation, Unavailable};

/// What a flight brings: none while it is under way.
pub(super) type Landing = Option<Result<Arc<Lease>, Unavailable>>;

/// How many live leases one task may hold: a decision that narrows each call differently would otherwise fill
/// memory and ledger.
const PER_TASK: usize = 64;

/// How many ended leases stay listed.
const ENDED: usize = 1_000;

/// How many leases that nobody could take back stay listed.
const ORPHANED: usize = 10_000;

/// How often the circumstances of a task's leases for one tool may change in quick succession, and how long it takes
/// until they may once more, in seconds: calls that alternate would otherwise ask the upstream for two leases each.
const CHANGES: i64 = 8;
const CHANGE_PAUSE: i64 = 30;

/// The leases in memory. Every change is one call under one lock, so that an end and an arrival can't miss each other.
#[derive(Debug, Default)]
pub(super) struct Book {
    tasks: HashMap<TaskId, OfTask>,
    /// Of tasks that ended while the gateway was down.
    pub(super) left_over: Vec<Arc<Line>>,
    /// Being taken back.
    closing: HashMap<TaskId, Vec<Arc<Line>>>,
    /// To be taken back again.
    ending: HashMap<TaskId, Vec<Retry>>,
    /// Oldest first.
    orphaned: VecDeque<Arc<Line>>,
    /// Oldest first.
    ended: VecDeque<Arc<Line>>,
}

/// A lease that could not be taken back, and when it is tried again.
#[derive(Debug)]
struct Retry {
    closing: Closing,
    due: i64,
}

/// The leases of one task. Few, so they are searched one by one.
#[derive(Debug, Default)]
struct OfTask {
    slots: Vec<Slot>,
    /// Read back from the ledger: their secrets are not in memory.
    kept: Vec<Arc<Line>>,
    /// The task's expiry and end, known since its first call.
    life: Option<(i64, CancellationToken)>,
    /// When the last of its changes will be forgotten, in seconds since the epoch, by tool.
    changes: HashMap<ToolName, i64>,
}

/// The place of one lease.
#[derive(Debug)]
enum Slot {
    Flying(Flight),
    Live(Arc<Lease>),
}

/// A lease that is being obtained.
#[derive(Debug)]
struct Flight {
    id: Uuid,
    key: Arc<LeaseKey>,
    landing: watch::Receiver<Landing>,
}

/// What somebody who needs a lease has to do.
#[derive(Debug)]
pub(super) enum Boarding {
    /// Nothing.
    Live(Arc<Lease>),
    /// Wait.
    Join(watch::Receiver<Landing>),
    /// Fly, and wait.
    Start(watch::Receiver<Landing>, Box<Ticket>),
}

/// The right and duty to obtain one lease.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) id: Uuid,
    pub(super) key: Arc<LeaseKey>,
    pub(super) landing: watch::Sender<Landing>,
    /// The lease of before the restart that goes on.
    pub(super) resumed: Option<Arc<Line>>,
    /// Leases whose time is over, and those of other circumstances.
    pub(super) over: Vec<Closing>,
    /// The lease that is used meanwhile.
    pub(super) renews: Option<Arc<Lease>>,
}

/// What came of a landing.
#[derive(Debug)]
pub(super) enum Landed {
    /// The lease may be used.
    Kept,
    /// The lease was taken back meanwhile: whatever there is must be, too.
    TooLate,
}

impl Book {
    /// Finds a live lease. Allocates nothing.
    pub(super) fn live(
        &self,
        asking: &Asking<'_>,
        source: &Source,
        now: i64,
    ) -> Option<Arc<Lease>> {
        let leases = self.tasks.get(asking.task)?;
        // The newest first: the one that it renews is used no more.
        leases.slots.iter().rev().find_map(|slot| match slot {
            Slot::Live(lease) if lease.fresh(now) && lease.line.key.fits(asking, source) => {
                Some(Arc::clone(lease))
            }
            Slot::Live(_) | Slot::Flying(_) => None,
        })
    }

    /// Joins or starts the flight for a lease.
    pub(super) fn board(
        &mut self,
        asking: &Asking<'_>,
        source: &Source,
        now: i64,
    ) -> Result<Boarding, Unavailable> {
        // Asked again under the lock: whoever ends the task cancels first and closes the book after.
        if asking.task_is_over(now) {
            return Err(Unavailable::TaskEnded);
        }
        if let Some(lease) = self.live(asking, source, now) {
            return Ok(Boarding::Live(lease));
        }
        let leases = self.tasks.entry(asking.task.clone()).or_default();
        leases.life = Some((asking.task_expires_at, asking.task_ended.clone()));
        if let Some(landing) = leases.flying(asking, source) {
            return Ok(Boarding::Join(landing));
        }
        let is_over = |slot: &Slot| slot.is_over(now) || slot.is_changed(asking);
        if leases.slots.iter().filter(|slot| !is_over(slot)).count() >= PER_TASK {
            return Err(unavailable(asking, "task holds too many leases"));
        }
        leases.count_change(asking, now)?;
        let over = leases.take_over(asking, now);
        let resumed = leases.take_kept(asking, source, now);
        let (landing, mut ticket) = leases.depart(asking, source);
        (ticket.over, ticket.resumed) = (over, resumed);
        for closing in &ticket.over {
            note(&mut self.closing, &closing.line);
        }
        Ok(Boarding::Start(landing, ticket))
    }

    /// Starts the flight for the lease that takes over from another one; none where there is no need or no room.
    pub(super) fn renew(
        &mut self,
        asking: &Asking<'_>,
        source: &Source,
        lease: &Arc<Lease>,
        now: i64,
    ) -> Option<Box<Ticket>> {
        if asking.task_is_over(now) {
            return None;
        }
        let leases = self.tasks.get_mut(asking.task)?;
        if leases.slots.len() >= PER_TASK || leases.flying(asking, source).is_some() {
            return None;
        }
        let (_, mut ticket) = leases.depart(asking, source);
        ticket.renews = Some(Arc::clone(lease));
        Some(ticket)
    }

    /// Lands a flight with a lease. Too late if its task was closed or cancelled.
    pub(super) fn land(&mut self, task: &TaskId, flight: Uuid, lease: &Arc<Lease>) -> Landed {
        let Some(leases) = self.tasks.get_mut(task) else {
            return Landed::TooLate;
        };
        if !leases.leave(flight) || leases.is_over() {
            return Landed::TooLate;
        }
        leases.slots.push(Slot::Live(Arc::clone(lease)));
        Landed::Kept
    }

    /// Lands a flight without a lease; the one of before the restart is kept if its task is still here.
    pub(super) fn crash(
        &mut self,
        task: &TaskId,
        flight: Uuid,
        resumed: Option<Arc<Line>>,
    ) -> Option<Arc<Line>> {
        let Some(leases) = self.tasks.get_mut(task) else {
            return resumed;
        };
        if !leases.leave(flight) {
            return resumed;
        }
        leases.kept.extend(resumed);
        None
    }

    /// Takes out all leases of a task. Flights under way find themselves too late.
    pub(super) fn close(&mut self, task: &TaskId) -> Vec<Closing> {
        let Some(leases) = self.tasks.remove(task) else {
            return Vec::new();
        };
        let closing = leases.into_closing();
        self.note_closing(closing)
    }

    /// Takes out all leases for these tools. Flights under way find themselves too late.
    pub(super) fn close_tools(&mut self, is_meant: impl Fn(&ToolName) -> bool) -> Vec<Closing> {
        let closing: Vec<_> = self
            .tasks
            .values_mut()
            .flat_map(|leases| leases.take_tools(&is_meant).into_closing())
            .collect();
        self.note_closing(closing)
    }

    /// Takes out one lease, by its id; none if it is not there, is being taken back or has ended.
    pub(super) fn close_one(&mut self, id: &str) -> Option<Closing> {
        let mut all = self.tasks.values_mut();
        let closing = all.find_map(|leases| leases.take_one(id));
        let closing = closing
            .or_else(|| self.take_retries(|retry| retry.closing.line.id == id).pop())
            .or_else(|| {
                let place = self.orphaned.iter().position(|line| line.id == id)?;
                self.orphaned.remove(place).map(Closing::known)
            })?;
        note(&mut self.closing, &closing.line);
        Some(closing)
    }

    /// Takes out the leases whose time is over.
    pub(super) fn close_over(&mut self, now: i64) -> Vec<Closing> {
        let all = self.tasks.values_mut();
        let over = all.flat_map(|leases| leases.take_slots(|slot| slot.is_over(now)));
        let over = over.collect();
        self.note_closing(over)
    }

    /// Takes out the leases that are due to be taken back again.
    pub(super) fn close_due(&mut self, now: i64) -> Vec<Closing> {
        let due = self.take_retries(|retry| retry.due <= now || retry.closing.line.dead(now));
        self.note_closing(due)
    }

    fn take_retries(&mut self, is_meant: impl Fn(&Retry) -> bool) -> Vec<Closing> {
        let all = self.ending.values_mut();
        let taken = all.flat_map(|retries| retries.extract_if(.., |retry| is_meant(retry)));
        let taken = taken.map(|retry| retry.closing).collect();
        self.ending.retain(|_, retries| !retries.is_empty());
        taken
    }

    /// Takes out the orphans whose secrets have died: nothing is left of them.
    pub(super) fn take_dead(&mut self, now: i64) -> Vec<Closing> {
        let (dead, alive) = std::mem::take(&mut self.orphaned)
            .into_iter()
            .partition(|line| line.dead(now));
        self.orphaned = alive;
        let dead: VecDeque<Arc<Line>> = dead;
        let ended = dead.iter().map(|line| line.ended(Revocation::ExpiresAt));
        ended.map(|line| Closing::known(Arc::new(line))).collect()
    }

    /// When the next lease is due to be taken back again.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.ending.values().flatten().map(|retry| retry.due).min()
    }

    fn note_closing(&mut self, closing: Vec<Closing>) -> Vec<Closing> {
        for each in &closing {
            note(&mut self.closing, &each.line);
        }
        closing
    }

    /// The tasks that are over although nobody closed them.
    pub(super) fn over(&self, now: i64) -> Vec<TaskId> {
        let over = self
            .tasks
            .iter()
            .filter(|(_, leases)| leases.is_over() || leases.has_expired(now));
        over.map(|(task, _)| task.clone()).collect()
    }

    /// Takes out those of tasks that ended while the gateway was down.
    pub(super) fn close_left_over(&mut self) -> Vec<Closing> {
        let left_over = std::mem::take(&mut self.left_over).into_iter();
        self.note_closing(left_over.map(Closing::known).collect())
    }

    /// Takes out the leases of before a restart that no call can use again: only what `rereads` has its secret back.
    pub(super) fn close_lost(&mut self, rereads: impl Fn(&Line) -> bool) -> Vec<Closing> {
        let is_lost = |line: &mut Arc<Line>| line.state == State::Obtaining || !rereads(line);
        let all = self.tasks.values_mut();
        let lost: Vec<_> = all
            .flat_map(|leases| leases.kept.extract_if(.., is_lost))
            .collect();
        // An empty place would be taken for that of a task that is over.
        self.tasks.retain(|_, leases| !leases.is_empty());
        self.note_closing(lost.into_iter().map(Closing::known).collect())
    }

    /// Notes a lease that is taken back outside an end.
    pub(super) fn closing(&mut self, line: &Arc<Line>) {
        note(&mut self.closing, line);
    }

    /// Notes what became of leases that were taken out, or could not be taken back.
    pub(super) fn settle(&mut self, settled: Vec<Closing>, now: i64) {
        for closing in settled {
            let line = &closing.line;
            if let Some(noted) = self.closing.get_mut(&line.key.task) {
                noted.retain(|other| other.id != line.id);
                if noted.is_empty() {
                    self.closing.remove(&line.key.task);
                }
            }
            match line.state {
                State::Ending => self.keep_ending(closing, now),
                State::Orphaned => self.orphaned.push_back(closing.line),
                State::Obtaining | State::Active | State::Ended => {
                    self.ended.push_back(closing.line)
                }
            }
        }
    }

    /// Keeps one that is to be taken back again.
    pub(super) fn keep_ending(&mut self, closing: Closing, now: i64) {
        let due = closing.line.ending.map_or(now, |ending| ending.due(now));
        let retries = self
            .ending
            .entry(closing.line.key.task.clone())
            .or_default();
        retries.push(Retry { closing, due });
    }

    /// Keeps one that is given up, in order of age.
    pub(super) fn keep_orphaned(&mut self, line: Arc<Line>) {
        let place = self.orphaned.partition_point(|other| other.id <= line.id);
        self.orphaned.insert(place, line);
    }

    /// Forgets the oldest ended leases and orphans; they must be deleted from the ledger.
    pub(super) fn prune(&mut self) -> Vec<Arc<Line>> {
        let surplus = self.ended.len().saturating_sub(ENDED);
        let mut pruned: Vec<_> = self.ended.drain(..surplus).collect();
        let surplus = self.orphaned.len().saturating_sub(ORPHANED);
        pruned.extend(self.orphaned.drain(..surplus));
        pruned
    }

    /// Keeps a line of an open task.
    pub(super) fn keep(&mut self, line: Arc<Line>) {
        let leases = self.tasks.entry(line.key.task.clone()).or_default();
        leases.kept.push(line);
    }

    /// Keeps a line that is listed as ended, in order of age.
    pub(super) fn keep_ended(&mut self, line: Arc<Line>) {
        let place = self.ended.partition_point(|other| other.id <= line.id);
        self.ended.insert(place, line);
    }

    /// All leases, in no order. They are told from outside after the lock.
    pub(super) fn lines(&self) -> Vec<Arc<Line>> {
        let closing = self.closing.values().flatten();
        let ending = self.ending.values().flatten();
        let held = self.tasks.values().flat_map(OfTask::lines);
        held.chain(&self.left_over)
            .chain(closing)
            .chain(ending.map(|retry| &retry.closing.line))
            .chain(&self.orphaned)
            .chain(&self.ended)
            .cloned()
            .collect()
    }

    /// The leases of some tasks, in no order.
    pub(super) fn lines_of(&self, tasks: &HashSet<&TaskId>) -> Vec<Arc<Line>> {
        let held = tasks.iter().filter_map(|task| self.tasks.get(*task));
        let closing = tasks.iter().filter_map(|task| self.closing.get(*task));
        let ending = tasks.iter().filter_map(|task| self.ending.get(*task));
        let others = self.left_over.iter();
        let others = others.chain(&self.orphaned).chain(&self.ended);
        held.flat_map(OfTask::lines)
            .chain(closing.flatten())
            .chain(ending.flatten().map(|retry| &retry.closing.line))
            .chain(others.filter(|line| tasks.contains(&line.key.task)))
            .cloned()
            .collect()
    }

    /// When one lease is tried to be taken back again.
    pub(super) fn due(&self, line: &Line) -> Option<i64> {
        let mut retries = self.ending.get(&line.key.task)?.iter();
        let retry = retries.find(|retry| retry.closing.line.id == line.id)?;
        Some(retry.due)
    }
}

fn note(closing: &mut HashMap<TaskId, Vec<Arc<Line>>>, line: &Arc<Line>) {
    let noted = closing.entry(line.key.task.clone()).or_default();
    noted.push(Arc::clone(line));
}

impl Slot {
    /// What there is to take back: of a flight nothing yet.
    fn into_closing(self) -> Option<Closing> {
        match self {
            Self::Live(lease) => Some(Closing::of(&lease)),
            Self::Flying(_) => None,
        }
    }

    fn key(&self) -> &LeaseKey {
        match self {
            Self::Live(lease) => &lease.line.key,
            Self::Flying(flight) => &flight.key,
        }
    }

    /// Whether its time is over. A stale one stays till then: calls on their way still use it.
    fn is_over(&self, now: i64) -> bool {
        match self {
            Self::Live(lease) => lease.line.ends_at <= now,
            Self::Flying(_) => false,
        }
    }

    fn is_changed(&self, asking: &Asking<'_>) -> bool {
        is_changed(self.key(), asking)
    }
}

/// Whether a lease for the same tool belongs to other circumstances than the call.
fn is_changed(key: &LeaseKey, asking: &Asking<'_>) -> bool {
    key.tool == *asking.tool && !key.context.fits(&asking.circumstances)
}

impl OfTask {
    /// A flight that still flies: one whose pilot was lost brings nothing.
    fn flying(&mut self, asking: &Asking<'_>, source: &Source) -> Option<watch::Receiver<Landing>> {
        self.slots.retain(|slot| match slot {
            Slot::Flying(flight) => flight.landing.has_changed().is_ok(),
            Slot::Live(_) => true,
        });
        self.slots.iter().find_map(|slot| match slot {
            Slot::Flying(flight) if flight.key.fits(asking, source) => Some(flight.landing.clone()),
            Slot::Flying(_) | Slot::Live(_) => None,
        })
    }

    /// Takes out the leases whose time is over, and those for the tool that belong to other circumstances. Flights of
    /// these find themselves too late.
    fn take_over(&mut self, asking: &Asking<'_>, now: i64) -> Vec<Closing> {
        let mut over = self.take_slots(|slot| slot.is_over(now) || slot.is_changed(asking));
        let changed = self
            .kept
            .extract_if(.., |line| is_changed(&line.key, asking));
        over.extend(changed.map(Closing::known));
        over
    }

    fn take_slots(&mut self, is_meant: impl Fn(&Slot) -> bool) -> Vec<Closing> {
        let taken = self.slots.extract_if(.., |slot| is_meant(slot));
        taken.filter_map(Slot::into_closing).collect()
    }

    fn take_one(&mut self, id: &str) -> Option<Closing> {
        let is_meant = |slot: &Slot| matches!(slot, Slot::Live(lease) if *lease.id == *id);
        let live = self.take_slots(is_meant).pop();
        live.or_else(|| {
            let place = self.kept.iter().position(|line| line.id == id)?;
            Some(Closing::known(self.kept.swap_remove(place)))
        })
    }

    /// Counts a change of circumstances that may be undone by the next call; refused where they come too fast.
    fn count_change(&mut self, asking: &Asking<'_>, now: i64) -> Result<(), Unavailable> {
        let mut keys = self.slots.iter().map(Slot::key);
        let alternates = |key: &LeaseKey| {
            key.tool == *asking.tool && key.context.alternates(&asking.circumstances)
        };
        if !keys.any(alternates) {
            return Ok(());
        }
        let forgotten_at = self.changes.entry(asking.tool.clone()).or_insert(now);
        let next = (*forgotten_at).max(now).saturating_add(CHANGE_PAUSE);
        if next.saturating_sub(now) > CHANGES * CHANGE_PAUSE {
            let cause = "what its leases belong to (network, declared keys) changes too often";
            return Err(unavailable(asking, cause));
        }
        *forgotten_at = next;
        Ok(())
    }

    /// Takes the place of a lease that is to be obtained.
    fn depart(
        &mut self,
        asking: &Asking<'_>,
        source: &Source,
    ) -> (watch::Receiver<Landing>, Box<Ticket>) {
        let id = Uuid::now_v7();
        let key = Arc::new(LeaseKey::new(asking, source));
        let (sender, landing) = watch::channel(None);
        self.slots.push(Slot::Flying(Flight {
            id,
            key: Arc::clone(&key),
            landing: landing.clone(),
        }));
        let ticket = Ticket {
            id,
            key,
            landing: sender,
            resumed: None,
            over: Vec::new(),
            renews: None,
        };
        (landing, Box::new(ticket))
    }

    fn lines(&self) -> impl Iterator<Item = &Arc<Line>> {
        let live = self.slots.iter().filter_map(|slot| match slot {
            Slot::Live(lease) => Some(&lease.line),
            Slot::Flying(_) => None,
        });
        live.chain(&self.kept)
    }

    fn take_tools(&mut self, is_meant: impl Fn(&ToolName) -> bool) -> Self {
        let is_of = |slot: &mut Slot| is_meant(&slot.key().tool);
        Self {
            slots: self.slots.extract_if(.., is_of).collect(),
            kept: self
                .kept
                .extract_if(.., |line| is_meant(&line.key.tool))
                .collect(),
            life: None,
            changes: HashMap::new(),
        }
    }

    fn take_kept(&mut self, asking: &Asking<'_>, source: &Source, now: i64) -> Option<Arc<Line>> {
        if !source.provider.rereads() {
            return None;
        }
        let place = self.kept.iter().position(|line| {
            line.key.fits(asking, source)
                && line.state == State::Active
                && now < line.ends_at
                && !line.dead(now)
        })?;
        Some(self.kept.swap_remove(place))
    }

    /// Takes a flight out; false if it is not known.
    fn leave(&mut self, flight: Uuid) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| match slot {
            Slot::Flying(other) => other.id != flight,
            Slot::Live(_) => true,
        });
        self.slots.len() < before
    }

    /// Whether nobody has called for the task since the restart, and no lease is left of before.
    fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.kept.is_empty() && self.life.is_none()
    }

    fn is_over(&self) -> bool {
        let life = self.life.as_ref();
        life.is_some_and(|(_, ended)| ended.is_cancelled())
    }

    fn has_expired(&self, now: i64) -> bool {
        match &self.life {
            Some((expires_at, _)) => *expires_at <= now,
            // No call since the restart: no lease outlives its task, so the task is over when all leases are.
            None => self.kept.iter().all(|line| line.ends_at <= now),
        }
    }

    fn into_closing(self) -> Vec<Closing> {
        let live = self.slots.into_iter().filter_map(Slot::into_closing);
        live.chain(self.kept.into_iter().map(Closing::known))
            .collect()
    }
}
