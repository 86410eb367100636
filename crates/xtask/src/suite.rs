//! The steps of `cargo xtask test`, and what they came to.

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value;

use crate::components::{self, debian};
use crate::house::House;
use crate::process::{Failed, cargo, count, read, run as run_to_end};
use crate::tally::Tally;

/// One step; each can be run alone.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Step {
    /// The programs of the system are there.
    System,
    /// Every file is formatted.
    Format,
    /// No lint warns.
    Lint,
    /// The tests that need nothing from outside.
    Tests,
    /// The examples in the documentation, among them those that must not compile.
    Doctests,
    /// The real parts are fetched into `.components/`.
    Components,
    /// The fixtures of the real parts work by themselves.
    Fixtures,
    /// The built gateway between real clients and real servers.
    RealParts,
}

/// What a step came to.
enum Outcome {
    Passed(Tally),
    Skipped(&'static str),
    Failed(Tally, Failed),
}

/// Runs all steps, or one; a step that fails doesn't keep the next ones from running.
pub(crate) fn run(house: &House, only: Option<Step>) -> ExitCode {
    let steps = only.map_or_else(|| Step::value_variants().to_vec(), |step| vec![step]);
    let total = steps.len();
    let mut report = Vec::new();
    let mut sum = Tally::default();
    for (number, step) in steps.into_iter().enumerate() {
        println!("\n== {}/{total} {}", number + 1, step.name());
        let outcome = step.run(house);
        sum += outcome.tally();
        report.push(outcome.line(step));
    }
    println!(
        "\n{}\n\n{} passed, {} failed",
        report.join("\n"),
        sum.passed,
        sum.failed
    );
    if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Step {
    fn run(self, house: &House) -> Outcome {
        match self {
            Self::System => outcome(debian::fetch()),
            Self::Format => plain(house, &["fmt", "--all", "--check"]),
            Self::Lint => plain(
                house,
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ],
            ),
            Self::Tests => tests(house, &["--workspace", "--all-targets"]),
            Self::Doctests => tests(house, &["--workspace", "--doc"]),
            Self::Components => fetched(house, |_| Outcome::Passed(Tally::default())),
            Self::Fixtures => fetched(house, |house| {
                tests(
                    house,
                    &[
                        "--package",
                        "xtask",
                        "--test",
                        "fixtures",
                        "--",
                        "--ignored",
                    ],
                )
            }),
            Self::RealParts => fetched(house, real_parts),
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

fn plain(house: &House, arguments: &[&str]) -> Outcome {
    outcome(run_to_end(&mut cargo(house, arguments)))
}

fn outcome(done: Result<(), Failed>) -> Outcome {
    match done {
        Ok(()) => Outcome::Passed(Tally::default()),
        Err(failed) => Outcome::Failed(Tally::default(), failed),
    }
}

fn tests(house: &House, arguments: &[&str]) -> Outcome {
    let mut cargo = cargo(house, &["test", "--no-fail-fast"]);
    cargo.args(arguments);
    // Only a nightly rustdoc looks at the error code of `compile_fail`. The variable that makes a stable
    // one look is set for rustdoc alone: build scripts see it too, and everything would be built anew.
    cargo.env("RUSTDOC", house.root().join(".ci/rustdoc"));
    cargo.env("REMIT_COMPONENTS", house.components());
    let mut tally = Tally::default();
    match count(&mut cargo, &mut tally) {
        Ok(()) => Outcome::Passed(tally),
        Err(failed) => Outcome::Failed(tally, failed),
    }
}

/// Fetches the real parts, which costs nothing the second time, and goes on.
fn fetched(house: &House, then: impl FnOnce(&House) -> Outcome) -> Outcome {
    match components::fetch(house) {
        Ok(()) => then(house),
        Err(failed) => Outcome::Failed(Tally::default(), failed),
    }
}

fn real_parts(house: &House) -> Outcome {
    match has_real_parts(house) {
        Ok(true) => tests(
            house,
            &[
                "--package",
                "gateway",
                "--features",
                "real-parts",
                "--tests",
            ],
        ),
        Ok(false) => Outcome::Skipped("the crate `gateway` has no feature `real-parts`"),
        Err(failed) => Outcome::Failed(Tally::default(), failed),
    }
}

fn has_real_parts(house: &House) -> Result<bool, Failed> {
    let text = read(&mut cargo(
        house,
        &["metadata", "--no-deps", "--format-version", "1"],
    ))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| Failed::Lacks(error.to_string()))?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let gateway =
        packages.and_then(|packages| packages.iter().find(|package| package["name"] == "gateway"));
    Ok(gateway.is_some_and(|gateway| gateway["features"].get("real-parts").is_some()))
}

impl Outcome {
    /// A step that failed without a failed test (it did not compile, say) counts as one.
    fn tally(&self) -> Tally {
        match self {
            Self::Passed(tally) => *tally,
            Self::Skipped(_) => Tally::default(),
            Self::Failed(tally, _) => Tally {
                failed: tally.failed.max(1),
                ..*tally
            },
        }
    }

    fn line(&self, step: Step) -> String {
        let name = step.name();
        match self {
            Self::Passed(Tally { passed: 0, .. }) => format!("ok       {name}"),
            Self::Passed(tally) => format!("ok       {name}: {} passed", tally.passed),
            Self::Skipped(why) => format!("skipped  {name}: {why}"),
            Self::Failed(tally, failed) => {
                format!(
                    "FAILED   {name}: {failed}; {} passed, {} failed",
                    tally.passed, tally.failed
                )
            }
        }
    }
}
