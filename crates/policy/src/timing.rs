//! What does a decision cost? One input, judged by both engines again and again.

use std::time::Duration;

use serde_json::Value as Json;

use crate::bounded;
use crate::decision;
use crate::input;
use crate::machine::Phase;
use crate::policy::Policy;
use crate::reference;
use crate::vm::Clock;

/// How long an engine is asked.
const BUDGET: Duration = Duration::from_millis(300);

/// How often at most.
const MOST: u32 = 20_000;

/// What a decision costs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Timing {
    /// Which verdict it is.
    pub verdict: String,
    /// How often the data path was asked.
    pub times: u32,
    /// The median on the data path, without the building of the input, in nanoseconds.
    pub median_ns: u64,
    /// The slowest of a hundred, likewise.
    pub p99_ns: u64,
    /// Instructions of the data path, of at most [`Timing::MOST_INSTRUCTIONS`]. None where it failed.
    pub instructions: Option<usize>,
    /// The median of the reference, in nanoseconds.
    pub reference_ns: u64,
}

impl Timing {
    /// How many instructions a decision may take.
    pub const MOST_INSTRUCTIONS: usize = crate::vm::MOST_INSTRUCTIONS;
}

impl Policy {
    /// Judges one input again and again, for half a second or so.
    pub fn time(&self, input: &Json) -> Result<Timing, String> {
        let input = input::of_json(input).map_err(|error| error.to_string())?;
        let phase = match &input["operator"] {
            regorus::Value::Undefined => Phase::Call,
            _ => Phase::Admission,
        };
        let (machine, asked) = (self.machine.clone(), input.clone());
        let deadline = BUDGET.saturating_mul(20);
        let quick = bounded::run(deadline, move || {
            let judgement = match machine.run(phase, &asked) {
                Ok(answer) => decision::read(&answer),
                Err(failed) => decision::Judgement::failed(&failed),
            };
            let times = measured(|| drop(machine.run(phase, &asked)));
            let instructions = machine.instructions(phase, &asked).ok();
            (judgement.verdict().to_owned(), times, instructions)
        });
        let (verdict, mut times, instructions) =
            quick.map_err(|overrun| format!("the data path {overrun}"))?;
        let (sources, data) = self.files.of_tool(&input);
        let rule = phase.entrypoint().to_owned();
        let slow = bounded::run(deadline, move || {
            let engine = reference::engine(&sources, data);
            let mut engine = engine.map_err(|error| error.to_string())?;
            engine.set_input(input);
            Ok::<_, String>(measured(|| drop(engine.clone().eval_rule(rule.clone()))))
        });
        let mut slow = slow.map_err(|overrun| format!("the reference {overrun}"))??;
        Ok(Timing {
            verdict,
            times: u32::try_from(times.len()).unwrap_or(u32::MAX),
            median_ns: quantile(&mut times, 50),
            p99_ns: quantile(&mut times, 99),
            instructions,
            reference_ns: quantile(&mut slow, 50),
        })
    }
}

/// What each round takes, in nanoseconds.
fn measured(mut round: impl FnMut()) -> Vec<u64> {
    let began = Clock::now();
    let mut times = Vec::new();
    for _ in 0..MOST {
        let started = Clock::now();
        round();
        let took = started.elapsed().as_nanos();
        times.push(u64::try_from(took).unwrap_or(u64::MAX));
        if began.elapsed() > BUDGET {
            break;
        }
    }
    times
}

/// The one that so many of a hundred are not above.
fn quantile(times: &mut [u64], percent: usize) -> u64 {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::quantile;
    use crate::{Policy, Source};

    #[test]
    fn a_decision_is_timed_in_both_engines() {
        let source = Source {
            path: "t.rego".into(),
            text: "package remit.tools.t\n\nallow if input.tool.access == \"read\"\n".to_owned(),
        };
        let (policy, _) = Policy::load(vec![source]).unwrap();
        let timing = policy.time(&json!({ "tool": { "name": "t", "access": "read" } }));
        let timing = timing.unwrap();
        assert_eq!(timing.verdict, "allow");
        assert!(timing.times > 0 && timing.median_ns <= timing.p99_ns);
        assert!(timing.reference_ns > 0);
        assert!(
            timing
                .instructions
                .is_some_and(|many| many > 0 && many < 100)
        );
    }
    #[test]
    fn quantiles_are_of_what_was_measured() {
        let mut times: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(quantile(&mut times, 50), 50);
        assert_eq!(quantile(&mut times, 99), 99);
        assert_eq!(quantile(&mut [], 50), 0);
    }
}
