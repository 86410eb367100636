//! `remit policy bench`: what decisions on samples cost.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use policy::{Policy, Timing};
use serde::Serialize;
use serde_json::Value;

use crate::command::outcome::{Failure, Screen};
use crate::command::policy::{broken, json_of, read};

#[derive(Args, Debug)]
pub(crate) struct PolicyBench {
    /// The folder of Rego, data and `samples/*.json`.
    #[arg(default_value = "policies")]
    folder: PathBuf,
    /// An input, instead of the samples: a JSON file; may be repeated.
    #[arg(long, short)]
    input: Vec<PathBuf>,
    /// Fail if a decision takes more instructions of the data path.
    #[arg(long, value_name = "NUMBER")]
    most_instructions: Option<usize>,
}

#[derive(Serialize)]
struct Measured {
    sample: String,
    #[serde(flatten)]
    timing: Timing,
}

impl PolicyBench {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let sources = read(&self.folder)?;
        let mut inputs: Vec<(String, Value)> = Vec::new();
        for path in &self.input {
            inputs.push((path.display().to_string(), json_of(path)?));
        }
        if inputs.is_empty() {
            for (name, text) in policy::samples(&sources) {
                let input = serde_json::from_str(text)
                    .map_err(|error| Failure::new("input", format!("`{name}`: {error}")))?;
                inputs.push((name, input));
            }
        }
        if inputs.is_empty() {
            let failure = Failure::new("no_samples", "there is nothing to judge");
            return Err(
                failure.hint("put inputs into `samples/*.json`, or name one with `--input`")
            );
        }
        let (policy, _) = Policy::load(sources).map_err(|found| broken(&found, screen))?;
        let mut all = Vec::new();
        for (sample, input) in inputs {
            let timing = policy.time(&input);
            let timing =
                timing.map_err(|error| Failure::new("bench", format!("`{sample}`: {error}")))?;
            all.push(Measured { sample, timing });
        }
        screen.show(&all, |screen| table(&all, screen))?;
        let limit = self.most_instructions.unwrap_or(usize::MAX);
        let is_over =
            |measured: &&Measured| measured.timing.instructions.is_none_or(|many| many > limit);
        match all.iter().find(is_over) {
            Some(over) if self.most_instructions.is_some() => {
                let text = format!("`{}` takes more than {limit} instructions", over.sample);
                Err(Failure::new("too_slow", text))
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

fn table(all: &[Measured], screen: &Screen) -> String {
    let heading = [
        "SAMPLE",
        "VERDICT",
        "MEDIAN",
        "P99",
        "INSTRUCTIONS",
        "REFERENCE",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|Measured { sample, timing }| {
        let instructions = timing
            .instructions
            .map_or_else(|| "failed".to_owned(), |many| many.to_string());
        vec![
            sample.clone(),
            timing.verdict.clone(),
            micros(timing.median_ns),
            micros(timing.p99_ns),
            instructions,
            micros(timing.reference_ns),
        ]
    }));
    let most = Timing::MOST_INSTRUCTIONS;
    format!(
        "{}\n{}",
        screen.table(&rows),
        screen.dim(&format!(
            "on the data path, without the building of the input; a decision may take {most} instructions"
        ))
    )
}

fn micros(nanoseconds: u64) -> String {
    format!("{}.{} µs", nanoseconds / 1_000, nanoseconds % 1_000 / 100)
}
