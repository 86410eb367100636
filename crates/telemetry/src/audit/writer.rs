//! The thread that writes the audit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::chain::Chain;
use super::line::Line;
use super::sync::Progress;
use super::{Entry, WAITING, Written};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::record::Told;

/// How many lines are written at once, and how long `closed` lines may wait for company.
pub(super) const AT_ONCE: usize = 1024;
const WAIT: Duration = Duration::from_millis(50);

/// All that the thread needs.
pub(super) struct Work {
    pub(super) queue: Arc<Queue<Entry>>,
    pub(super) chain: Chain,
    pub(super) progress: Arc<Progress>,
    pub(super) metrics: Arc<Metrics>,
}

/// What waits to be written: `decided` lines are written now or fail, `closed` lines wait for a better disk.
#[derive(Default)]
struct Round {
    decided: Vec<(Vec<u8>, Written)>,
    closed: VecDeque<Told>,
}

impl Work {
    /// Writes until the queue is closed and nothing is left, or nothing more can be written.
    pub(super) fn run(mut self) {
        let mut entries = Vec::with_capacity(AT_ONCE);
        let mut round = Round::default();
        let mut well = true;
        loop {
            let more_is_there = well && !round.closed.is_empty();
            let wait = if more_is_there { Duration::ZERO } else { WAIT };
            let open = self.queue.take(&mut entries, AT_ONCE, wait);
            for entry in entries.drain(..) {
                match entry {
                    Entry::Decided { members, written } => round.decided.push((members, written)),
                    Entry::Told(told) => round.closed.push_back(told),
                }
            }
            let outcome = self.write(&mut round);
            notice(well, &outcome);
            well = outcome.is_ok();
            if !open && (!well || round.closed.is_empty()) {
                break;
            }
        }
        self.metrics.audit_failed(round.closed.len());
        self.progress.end();
    }

    /// Writes what fits one batch.
    fn write(&mut self, round: &mut Round) -> Result<(), String> {
        let count = round.closed.len().min(AT_ONCE);
        if count == 0 && round.decided.is_empty() {
            return Ok(());
        }
        let decided = round.decided.iter().map(|(line, _)| Line::Decided(line));
        let closed = round.closed.iter().take(count);
        let lines = decided.chain(closed.map(Line::of));
        let outcome = match self.progress.failure() {
            Some(failure) => Err(failure),
            None => self.chain.append(lines).map_err(|e| e.to_string()),
        };
        for (_, written) in round.decided.drain(..) {
            // The call may have gone away meanwhile; its line stays.
            drop(written.send(outcome.clone()));
        }
        if outcome.is_err() {
            let excess = round.closed.len().saturating_sub(WAITING);
            round.closed.drain(..excess);
            self.metrics.audit_failed(excess);
            return outcome;
        }
        round.closed.drain(..count);
        self.progress.wrote(self.chain.head());
        Ok(())
    }
}

/// Says once that the audit can't be written, and once that it can again.
fn notice(well: bool, outcome: &Result<(), String>) {
    match (outcome, well) {
        (Err(error), true) => tracing::error!(error, "audit can't be written"),
        (Ok(()), false) => tracing::info!("audit is written again"),
        (Err(_), false) | (Ok(()), true) => {}
    }
}
