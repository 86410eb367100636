//! The audit: a file of JSON lines, each of which holds the hash of the one before.
//!
//! A thread of its own writes them in batches, one `write` each; `decided` is acknowledged once the line has
//! been handed to the operating system, so it outlives the process. It outlives the machine once it is on
//! the disk: a second thread sees to that (`fdatasync`) every second or 1,000 lines, whichever is first, and
//! notes in `<file>.head` how far it got, so that a file cut at its end is noticed too.
//!
//! **Invariant.** A line is written whole or not at all, and the chain goes on across restarts. What a crash
//! left of a line is moved to `<file>.torn`, and a `recovered` line says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::record::Told;
use crate::recorder::{AuditUnavailable, StartError, Thread};
use crate::{Audit, AuditFailure, CallRecord};

mod chain;
mod line;
mod sync;
mod verify;
mod writer;

pub use verify::{Broken, Verified, verify};

use chain::Chain;
use sync::Progress;

/// How many lines may wait to be written. A full disk fills it with `closed` lines, about 1 KiB each.
const WAITING: usize = 65_536;
/// How many turns a call gives to others before it asks to be woken.
const TURNS: usize = 4;
/// How long a call waits for its `decided` line.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes lines for the audit.
#[derive(Debug)]
pub(crate) struct AuditLog {
    queue: Arc<Queue<Entry>>,
    on_failure: AuditFailure,
    metrics: Arc<Metrics>,
}

/// The members of the `decided` line of a record.
pub(crate) fn decided(record: &CallRecord) -> Vec<u8> {
    line::decided(record)
}

/// Tells that a line was written, or why not.
type Written = oneshot::Sender<Result<(), String>>;

/// A line to be written.
#[derive(Debug)]
enum Entry {
    Decided { members: Vec<u8>, written: Written },
    Told(Told),
}

impl AuditLog {
    /// Opens the file, goes on with its chain, and starts its threads.
    pub(crate) fn start(
        audit: &Audit,
        metrics: &Arc<Metrics>,
    ) -> Result<(Self, Writer), StartError> {
        let chain = Chain::open(&audit.path).map_err(|e| StartError(e.to_string()))?;
        // Any number of `closed` lines may wait, a `decided` line wakes the writer.
        let queue = Arc::new(Queue::new(WAITING, writer::AT_ONCE));
        let progress = Arc::new(Progress::new(chain.head()));
        let file = chain
            .share()
            .map_err(|e| StartError(format!("audit `{}`: {e}", audit.path.display())))?;
        let sync = {
            let (progress, path) = (Arc::clone(&progress), audit.path.clone());
            Thread::start("remit-audit-sync", move || {
                sync::run(file.as_ref(), &path, &progress);
            })?
        };
        let work = writer::Work {
            queue: Arc::clone(&queue),
            chain,
            progress,
            metrics: Arc::clone(metrics),
        };
        let thread = Thread::start("remit-audit", move || work.run())?;
        let log = Self {
            queue: Arc::clone(&queue),
            on_failure: audit.on_failure,
            metrics: Arc::clone(metrics),
        };
        Ok((
            log,
            Writer {
                queue,
                thread,
                sync,
            },
        ))
    }

    /// Writes a `decided` line, given by its members, and waits for it.
    pub(crate) async fn decided(&self, members: Vec<u8>) -> Result<(), AuditUnavailable> {
        let Err(cause) = self.write(members).await else {
            return Ok(());
        };
        self.metrics.audit_failed(1);
        match self.on_failure {
            AuditFailure::Refuse => Err(AuditUnavailable(cause)),
            AuditFailure::Continue => Ok(()),
        }
    }

    /// Calls that are ready are let go first: their lines come along, for one wake of the writer and one write.
    /// And who looks after the others had their turn mostly finds the line written, and need not be woken.
    async fn write(&self, members: Vec<u8>) -> Result<(), String> {
        let (written, mut outcome) = oneshot::channel();
        self.queue
            .push(Entry::Decided { members, written })
            .map_err(|_| "too many lines wait".to_owned())?;
        for turn in 0..TURNS {
            tokio::task::yield_now().await;
            match outcome.try_recv() {
                Ok(outcome) => return outcome,
                Err(TryRecvError::Empty) if turn == 0 => self.queue.wake(),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => return Err("the writer is gone".to_owned()),
            }
        }
        match tokio::time::timeout(PATIENCE, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the writer is gone".to_owned()),
            Err(_) => Err("the disk is too slow".to_owned()),
        }
    }

    /// Leaves the line of what is over to be written. Never waits; one that doesn't fit is counted.
    pub(crate) fn told(&self, told: Told) {
        if self.queue.leave(Entry::Told(told)).is_err() {
            self.metrics.audit_failed(1);
        }
    }
}

/// The running writer.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<Queue<Entry>>,
    thread: Thread,
    sync: Thread,
}

impl Writer {
    /// Writes what waits, until the deadline: how many lines were left.
    pub(crate) fn stop(self, deadline: Instant) -> usize {
        self.queue.close();
        self.thread.wait(deadline);
        let left = self.queue.abandon();
        self.sync.wait(deadline);
        left
    }
}

#[cfg(test)]
mod tests;
