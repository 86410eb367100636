//! `remit policy`: checks, tests and evaluates policies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use policy::{Finding, Severity};
use serde_json::{Value, json};

use crate::command::outcome::{Failure, Screen, pretty};
use crate::command::{policy_bundle, policy_new, policy_trial};

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check a policy as the gateway does before it takes it.
    Check {
        /// The folder of Rego and data.
        #[arg(default_value = "policies")]
        folder: PathBuf,
    },
    /// Run a policy's tests: rules named `test_…` in files named `…_test.rego`.
    Test {
        /// The folder of Rego and data.
        #[arg(default_value = "policies")]
        folder: PathBuf,
    },
    /// Write a policy to begin with: reading is allowed, everything else is refused by name.
    New(policy_new::PolicyNew),
    /// Make, sign, verify and show policies as one file, in OPA's bundle format.
    #[command(subcommand)]
    Bundle(policy_bundle::PolicyBundle),
    #[command(flatten)]
    Trial(policy_trial::Trial),
    /// Evaluate an entrypoint over an input, and print the decision.
    Eval {
        /// The folder of Rego and data.
        folder: PathBuf,
        /// The input: a JSON file, or `-` for standard input.
        #[arg(long, short)]
        input: PathBuf,
        /// The rule to evaluate.
        #[arg(long, default_value = "data.remit.decision")]
        entrypoint: String,
    },
}

impl Policy {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::Check { folder } => check(&folder, screen),
            Self::Test { folder } => test(&folder, screen),
            Self::New(new) => new.run(screen),
            Self::Bundle(bundle) => bundle.run(screen),
            Self::Trial(trial) => trial.run(screen),
            Self::Eval {
                folder,
                input,
                entrypoint,
            } => eval(&folder, &input, &entrypoint, screen),
        }
    }
}

fn check(folder: &Path, screen: &Screen) -> Result<ExitCode, Failure> {
    let findings = policy::Policy::check(read(folder)?);
    let broken = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    screen.show(&json!({ "ok": !broken, "findings": findings }), |screen| {
        let mut text: String = findings
            .iter()
            .map(|finding| line(screen, finding))
            .collect();
        if !broken {
            text.push_str(&screen.good("ok"));
        }
        text
    })?;
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn line(screen: &Screen, finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => screen.bad("error"),
        Severity::Warning => "warning".to_owned(),
    };
    let place = match (finding.file.as_str(), finding.line) {
        ("", _) => String::new(),
        (file, 0) => format!("{file}: "),
        (file, line) => format!("{file}:{line}:{}: ", finding.column),
    };
    format!("{place}{severity} {}: {}\n", finding.code, finding.message)
}

fn test(folder: &Path, screen: &Screen) -> Result<ExitCode, Failure> {
    let results =
        policy::Policy::test(read(folder)?).map_err(|findings| broken(&findings, screen))?;
    let failed = results.iter().filter(|result| !result.passed).count();
    let passed = results.len() - failed;
    screen.show(
        &json!({ "passed": passed, "failed": failed, "tests": results }),
        |screen| {
            let mut text = String::new();
            for result in &results {
                let mark = if result.passed {
                    screen.good("pass")
                } else {
                    screen.bad("FAIL")
                };
                text.push_str(&format!(
                    "{mark}  {}  {}\n",
                    result.name,
                    screen.dim(&result.file)
                ));
                if let Some(error) = &result.error {
                    text.push_str(&format!("      {error}\n"));
                }
            }
            text.push_str(&format!("{passed} passed, {failed} failed"));
            text
        },
    )?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn eval(
    folder: &Path,
    input: &Path,
    entrypoint: &str,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    let text = if input == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(input)
    };
    let of_input = |error: &dyn std::fmt::Display| {
        Failure::new("input", format!("input `{}`: {error}", input.display()))
            .hint("`remit explain --json …` prints the input of a call, as its `input`")
    };
    let text = text.map_err(|error| of_input(&error))?;
    let input: Value = serde_json::from_str(&text).map_err(|error| of_input(&error))?;
    let (policy, _) =
        policy::Policy::load(read(folder)?).map_err(|findings| broken(&findings, screen))?;
    let value = policy
        .eval(entrypoint, &input)
        .map_err(|error| Failure::new("eval", error))?;
    screen.line(&pretty(&value))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn broken(findings: &[Finding], screen: &Screen) -> Failure {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| line(screen, finding))
        .collect();
    Failure::new("policy_broken", lines.concat().trim_end())
}

pub(crate) fn read(folder: &Path) -> Result<Vec<policy::Source>, Failure> {
    policy::Policy::read(folder).map_err(|error| {
        Failure::new(
            "unreadable",
            format!("`{}` can't be read: {error}", folder.display()),
        )
    })
}
