//! The leases in memory, and who waits for which.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tasks::{TaskId, ToolName};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Closing, unavailable};
use crate::Unavailable;
use crate::lease::{Asking, Lease, LeaseKey, Line, Source, State};

/// What a flight brings: none while it is under way.
pub(super) type Landing = Option<Result<Arc<Lease>, Unavailable>>;

/// How many live leases one task may hold: a decision that narrows each call differently would otherwise fill
/// memory and ledger.
const PER_TASK: usize = 64;

/// How many ended leases stay listed.
const ENDED: usize = 1_000;

/// The leases in memory. Every change is one call under one lock, so that an end and an arrival can't miss each other.
#[derive(Debug, Default)]
pub(super) struct Book {
    tasks: HashMap<TaskId, OfTask>,
    /// Of tasks that ended while the gateway was down.
    pub(super) orphans: Vec<Arc<Line>>,
    /// Being taken back.
    closing: Vec<Arc<Line>>,
    /// Oldest first.
    pub(super) ended: VecDeque<Arc<Line>>,
}

/// The leases of one task. Few, so they are searched one by one.
#[derive(Debug, Default)]
struct OfTask {
    slots: Vec<Slot>,
    /// Read back from the ledger: their secrets are not in memory.
    kept: Vec<Arc<Line>>,
    /// The task's expiry and end, known since its first call.
    life: Option<(i64, CancellationToken)>,
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
    /// Leases whose time is over.
    pub(super) over: Vec<Arc<Lease>>,
}

/// What came of a landing.
#[derive(Debug)]
pub(super) enum Landed {
    /// The lease may be used.
    Kept,
    /// The task ended meanwhile: whatever there is must be taken back.
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
        leases.slots.iter().find_map(|slot| match slot {
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
        let over = leases.take_over(now);
        if leases.slots.len() >= PER_TASK {
            // Those just taken out are closed with the task.
            leases.slots.extend(over.into_iter().map(Slot::Live));
            return Err(unavailable(asking, "task holds too many leases"));
        }
        let resumed = leases.take_kept(asking, source, now);
        let id = Uuid::now_v7();
        let key = Arc::new(LeaseKey::new(asking, source));
        let (sender, landing) = watch::channel(None);
        leases.slots.push(Slot::Flying(Flight {
            id,
            key: Arc::clone(&key),
            landing: landing.clone(),
        }));
        Ok(Boarding::Start(
            landing,
            Box::new(Ticket {
                id,
                key,
                landing: sender,
                resumed,
                over,
            }),
        ))
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
        self.closing
            .extend(closing.iter().map(|closing| Arc::clone(&closing.line)));
        closing
    }

    /// Takes out all leases for these tools. Flights under way find themselves too late.
    pub(super) fn close_tools(&mut self, is_meant: impl Fn(&ToolName) -> bool) -> Vec<Closing> {
        let closing: Vec<_> = self
            .tasks
            .values_mut()
            .flat_map(|leases| leases.take_tools(&is_meant).into_closing())
            .collect();
        self.closing
            .extend(closing.iter().map(|closing| Arc::clone(&closing.line)));
        closing
    }

    /// Takes out the leases for a tool of these tasks. Flights under way find themselves too late.
    pub(super) fn close_of(
        &mut self,
        tool: &ToolName,
        is_meant: impl Fn(&TaskId) -> bool,
    ) -> Vec<Closing> {
        let closing: Vec<_> = self
            .tasks
            .iter_mut()
            .filter(|(task, _)| is_meant(task))
            .flat_map(|(_, leases)| {
                leases
                    .take_tools(|other: &ToolName| other == tool)
                    .into_closing()
            })
            .collect();
        self.closing
            .extend(closing.iter().map(|closing| Arc::clone(&closing.line)));
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

    /// Takes out the orphans.
    pub(super) fn close_orphans(&mut self) -> Vec<Closing> {
        let orphans = std::mem::take(&mut self.orphans);
        self.closing.extend(orphans.iter().cloned());
        let closing = orphans.into_iter().map(|line| Closing {
            line,
            provider: None,
        });
        closing.collect()
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
        self.closing.extend(lost.iter().cloned());
        let closing = lost.into_iter().map(|line| Closing {
            line,
            provider: None,
        });
        closing.collect()
    }

    /// Notes a lease that is taken back outside an end.
    pub(super) fn closing(&mut self, line: Arc<Line>) {
        self.closing.push(line);
    }

    /// Notes what became of leases.
    pub(super) fn ended(&mut self, lines: &[Arc<Line>]) {
        let ids: HashSet<&str> = lines.iter().map(|line| line.id.as_str()).collect();
        self.closing.retain(|line| !ids.contains(line.id.as_str()));
        self.ended.extend(lines.iter().cloned());
    }

    /// Forgets the oldest ended leases; they must be deleted from the ledger.
    pub(super) fn prune(&mut self) -> Vec<Arc<Line>> {
        let surplus = self.ended.len().saturating_sub(ENDED);
        self.ended.drain(..surplus).collect()
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
        let live = self.tasks.values().flat_map(|leases| {
            let live = leases.slots.iter().filter_map(|slot| match slot {
                Slot::Live(lease) => Some(&lease.line),
                Slot::Flying(_) => None,
            });
            live.chain(&leases.kept)
        });
        live.chain(&self.orphans)
            .chain(&self.closing)
            .chain(&self.ended)
            .cloned()
            .collect()
    }
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

    /// Takes out the leases whose time is over. A stale one stays till then: calls on their way still use it.
    fn take_over(&mut self, now: i64) -> Vec<Arc<Lease>> {
        let taken = self.slots.extract_if(.., |slot| match slot {
            Slot::Live(lease) => lease.line.ends_at <= now,
            Slot::Flying(_) => false,
        });
        taken
            .filter_map(|slot| match slot {
                Slot::Live(lease) => Some(lease),
                Slot::Flying(_) => None,
            })
            .collect()
    }

    fn take_tools(&mut self, is_meant: impl Fn(&ToolName) -> bool) -> Self {
        let is_of = |slot: &mut Slot| match slot {
            Slot::Live(lease) => is_meant(&lease.line.key.tool),
            Slot::Flying(flight) => is_meant(&flight.key.tool),
        };
        Self {
            slots: self.slots.extract_if(.., is_of).collect(),
            kept: self
                .kept
                .extract_if(.., |line| is_meant(&line.key.tool))
                .collect(),
            life: None,
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
        let live = self.slots.into_iter().filter_map(|slot| match slot {
            Slot::Live(lease) => Some(Closing::of(&lease)),
            Slot::Flying(_) => None,
        });
        let kept = self.kept.into_iter().map(|line| Closing {
            line,
            provider: None,
        });
        live.chain(kept).collect()
    }
}
