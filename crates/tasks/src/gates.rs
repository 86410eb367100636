//! How often, and how many at once: of a task, of an agent, of a tool.
//!
//! In memory alone: a restart forgets what happened in the last minute, and nothing is under way then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::entry::Entry;
use crate::{Limits, ToolName};

/// How many agents' rates are remembered; the one that asked least lately is forgotten.
const AGENTS: usize = 100_000;

const MINUTE: u64 = 60_000_000;

/// How often something may be done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How often in a minute, spread over it.
    pub per_minute: u64,
    /// How often at once; `per_minute` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

impl Rate {
    /// Whether it says anything: neither never nor more often than can be told apart.
    pub(crate) fn is_well_formed(self) -> bool {
        let is_one = |count: u64| (1..=MINUTE).contains(&count);
        is_one(self.per_minute) && self.burst.is_none_or(is_one)
    }

    /// Microseconds between two.
    fn pause(self) -> u64 {
        MINUTE / self.per_minute.max(1)
    }
}

/// What bounds the calls of an agent or on a tool, whatever their tasks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GateBounds {
    /// How often.
    pub rate: Option<Rate>,
    /// How many at once.
    pub concurrency: Option<u64>,
}

/// A call is one too many just now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Limited {
    /// Too many in too short a time.
    #[error("{whose} makes calls too often")]
    Rate {
        /// `task`, `parent`, `agent`, `tool`.
        whose: &'static str,
        /// When the next one may come.
        retry_after: Duration,
    },
    /// Too many at once.
    #[error("{whose} has as many calls under way as it may")]
    Concurrency {
        /// `task`, `parent`, `agent`, `tool`.
        whose: &'static str,
    },
}

impl Limited {
    /// Whose limit it is: `task`, `parent`, `agent`, `tool`.
    pub fn whose(&self) -> &'static str {
        match self {
            Self::Rate { whose, .. } | Self::Concurrency { whose } => whose,
        }
    }
}

/// What one of them did lately, and does now.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// When the next call would come if all came evenly, in microseconds since the start: the generic cell rate
    /// algorithm, one number for rate and burst.
    next: AtomicU64,
    running: AtomicU64,
}

impl Gate {
    fn take(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        let pause = rate.pause();
        let window = pause.saturating_mul(rate.burst.unwrap_or(rate.per_minute).max(1));
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let after = next.max(now).saturating_add(pause);
            let early = after.saturating_sub(now).saturating_sub(window);
            if early > 0 {
                return Err(Duration::from_micros(early));
            }
            let taken =
                self.next
                    .compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed);
            match taken {
                Ok(_) => return Ok(()),
                Err(other) => next = other,
            }
        }
    }

    fn start(&self, most: u64) -> bool {
        let mut running = self.running.load(Ordering::Relaxed);
        while running < most {
            let started = self.running.compare_exchange_weak(
                running,
                running + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match started {
                Ok(_) => return true,
                Err(other) => running = other,
            }
        }
        false
    }

    /// How many are under way.
    pub(crate) fn running(&self) -> u64 {
        self.running.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Those of agents and tools, which outlive tasks and configs.
pub(crate) struct Gates {
    since: Instant,
    agents: quick_cache::sync::Cache<String, Arc<Gate>>,
    tools: papaya::HashMap<ToolName, Arc<Gate>>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            agents: quick_cache::sync::Cache::new(AGENTS),
            tools: papaya::HashMap::new(),
        }
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates").finish_non_exhaustive()
    }
}

/// Who makes a call, and on what.
pub(crate) struct Entering<'a> {
    pub(crate) entry: &'a Arc<Entry>,
    pub(crate) agent: (&'a str, GateBounds),
    pub(crate) tool: (&'a ToolName, GateBounds),
}

impl Gates {
    /// Counts a call that begins, in all that bound it; refused, it counts as one that was tried, and not as under way.
    pub(crate) fn enter(&self, entering: &Entering<'_>) -> Result<Slot, Limited> {
        let now = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut slot = Slot::default();
        let (tool, bounds) = entering.tool;
        if bounds != GateBounds::default() {
            let gate = self.tool(tool);
            pass(&gate, bounds, now, "tool")?;
            slot.holds(bounds.concurrency.map(|_| Held::Gate(gate)));
        }
        let (agent, bounds) = entering.agent;
        if bounds != GateBounds::default() {
            let gate = self.agent(agent);
            pass(&gate, bounds, now, "agent")?;
            slot.holds(bounds.concurrency.map(|_| Held::Gate(gate)));
        }
        let mut next = Some(entering.entry);
        let mut whose = "task";
        while let Some(entry) = next {
            let mut bounds = bounds_of(entry.facts().limits());
            if whose == "task" {
                // It is counted in any case: who ends it waits for what is under way.
                bounds.concurrency.get_or_insert(u64::MAX);
            }
            pass(entry.gate(), bounds, now, whose)?;
            slot.holds(bounds.concurrency.map(|_| Held::Task(Arc::clone(entry))));
            next = entry.parent();
            whose = "parent";
        }
        Ok(slot)
    }

    fn tool(&self, name: &ToolName) -> Arc<Gate> {
        let tools = self.tools.pin();
        if let Some(gate) = tools.get(name) {
            return Arc::clone(gate);
        }
        Arc::clone(tools.get_or_insert_with(name.clone(), Arc::default))
    }

    fn agent(&self, name: &str) -> Arc<Gate> {
        let made = self
            .agents
            .get_or_insert_with::<_, std::convert::Infallible>(name, || Ok(Arc::default()));
        made.unwrap_or_default()
    }
}

fn bounds_of(limits: &Limits) -> GateBounds {
    GateBounds {
        rate: limits.rate,
        concurrency: limits.concurrency,
    }
}

fn pass(gate: &Gate, bounds: GateBounds, now: u64, whose: &'static str) -> Result<(), Limited> {
    if let Some(rate) = bounds.rate {
        let taken = gate.take(rate, now);
        taken.map_err(|retry_after| Limited::Rate { whose, retry_after })?;
    }
    match bounds.concurrency {
        Some(most) if !gate.start(most) => Err(Limited::Concurrency { whose }),
        Some(_) | None => Ok(()),
    }
}

/// A call that is under way; it is over when this is dropped.
#[derive(Debug, Default)]
#[must_use = "the call counts as over when it is dropped"]
pub struct Slot {
    /// The task, and what else bounds how many are under way.
    held: Vec<Held>,
}

#[derive(Debug)]
enum Held {
    Gate(Arc<Gate>),
    Task(Arc<Entry>),
}

impl Slot {
    fn holds(&mut self, held: Option<Held>) {
        self.held.extend(held);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        for held in &self.held {
            match held {
                Held::Gate(gate) => gate.stop(),
                Held::Task(entry) => entry.gate().stop(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, MINUTE, Rate};

    const RATE: Rate = Rate {
        per_minute: 60,
        burst: Some(3),
    };

    /// How many of so many calls pass at once.
    fn passed(gate: &Gate, rate: Rate, now: u64, calls: usize) -> usize {
        (0..calls).filter(|_| gate.take(rate, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let gate = Gate::default();
        let now = 10 * MINUTE;
        assert_eq!(passed(&gate, RATE, now, 10), 3);
        let early = gate.take(RATE, now).unwrap_err();
        assert_eq!(early.as_micros(), 1_000_000);
        assert_eq!(passed(&gate, RATE, now + 1_000_000, 10), 1);
        assert_eq!(passed(&gate, RATE, now + 3_000_000, 10), 2);
        assert_eq!(passed(&gate, RATE, now + MINUTE, 10), 3);
    }
    #[test]
    fn without_a_burst_a_minutes_worth_passes_at_once() {
        let gate = Gate::default();
        let rate = Rate {
            burst: None,
            ..RATE
        };
        assert_eq!(passed(&gate, rate, MINUTE, 100), 60);
        // Half a minute brings half of them back.
        assert_eq!(passed(&gate, rate, MINUTE + MINUTE / 2, 100), 30);
    }
    #[test]
    fn so_many_are_under_way_and_no_more() {
        let gate = Gate::default();
        assert!(gate.start(2) && gate.start(2));
        assert!(!gate.start(2));
        gate.stop();
        assert!(gate.start(2));
    }
    #[test]
    fn what_says_nothing_is_no_rate() {
        let rate = |per_minute, burst| Rate { per_minute, burst };
        assert!(rate(1, None).is_well_formed() && rate(MINUTE, Some(1)).is_well_formed());
        assert!(!rate(0, None).is_well_formed());
        assert!(!rate(MINUTE + 1, None).is_well_formed());
        assert!(!rate(1, Some(0)).is_well_formed());
    }
}
