//! `remit policy`: checks, tests and evaluates policies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use policy::{Document, Explanation, Finding, Severity};
use serde_json::{Value, json};

use crate::command::outcome::{Failure, Screen, pretty};
use crate::command::{
    policy_bench, policy_bundle, policy_matrix, policy_new, policy_test, policy_trial,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check a policy as the gateway does before it takes it.
    Check {
        /// The folder of Rego and data.
        #[arg(default_value = "policies")]
        folder: PathBuf,
    },
    /// Run a policy's tests: rules named `test_…` in files named `…_test.rego`.
    Test(policy_test::PolicyTest),
    /// Write a policy to begin with: reading is allowed, everything else is refused by name.
    New(policy_new::PolicyNew),
    /// Make, sign, verify and show policies as one file, in OPA's bundle format.
    #[command(subcommand)]
    Bundle(policy_bundle::PolicyBundle),
    /// Show what a policy says of its samples, keep it as a file, and compare it with another policy.
    Matrix(policy_matrix::PolicyMatrix),
    /// Tell what decisions on samples cost, in both engines.
    Bench(policy_bench::PolicyBench),
    /// Print the JSON Schema of what policy sees or answers, for editors and `opa check --schema`.
    Schema {
        /// Which document.
        #[arg(default_value = "input")]
        document: SchemaOf,
    },
    /// Print what of Rego there is here, as OPA's tools read it: `opa check --capabilities`, Regal.
    Capabilities,
    #[command(flatten)]
    Trial(policy_trial::Trial),
    /// Say what would be decided on an input, and why: which rules held, and which condition of the closest `allow` did not.
    Explain {
        /// The folder of Rego and data.
        folder: PathBuf,
        /// The input: a JSON file, or `-` for standard input.
        #[arg(long, short, required_unless_present = "call")]
        input: Option<PathBuf>,
        /// A recorded call instead, by its decision id.
        #[arg(long, value_name = "ID", conflicts_with = "input")]
        call: Option<String>,
        #[command(flatten)]
        recorded: policy_trial::RecordedCalls,
    },
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
        /// By which engine: the reference evaluates any rule, the data path those that calls and tasks are judged by.
        #[arg(long, default_value = "reference")]
        engine: Engine,
        /// More data: a JSON or YAML file, an object beside what the folder has; may be repeated.
        #[arg(long, short, value_name = "FILE")]
        data: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Engine {
    Reference,
    DataPath,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum SchemaOf {
    /// `input` of a call.
    Input,
    /// `input` of a wish to open a task.
    Admission,
    /// What `data.remit.decision` answers.
    Decision,
}

impl Policy {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::Check { folder } => check(&folder, screen),
            Self::Test(test) => test.run(screen),
            Self::New(new) => new.run(screen),
            Self::Bundle(bundle) => bundle.run(screen),
            Self::Matrix(matrix) => matrix.run(screen),
            Self::Bench(bench) => bench.run(screen),
            Self::Schema { document } => {
                let document = match document {
                    SchemaOf::Input => Document::Input,
                    SchemaOf::Admission => Document::Admission,
                    SchemaOf::Decision => Document::Decision,
                };
                screen.line(&pretty(&document.schema()))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Capabilities => {
                screen.line(&pretty(&policy::capabilities()))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Trial(trial) => trial.run(screen),
            Self::Explain {
                folder,
                input,
                call,
                recorded,
            } => {
                let input = match (input, call) {
                    (_, Some(id)) => recorded.input(&id)?,
                    (Some(path), None) => json_of(&path)?,
                    // The parser sees to it.
                    (None, None) => Value::Null,
                };
                explain(&folder, &input, screen)
            }
            Self::Eval {
                folder,
                input,
                entrypoint,
                engine,
                data,
            } => {
                let sources = with_data(read(&folder)?, &data)?;
                eval(sources, &input, (&entrypoint, engine), screen)
            }
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
        (file, line) if finding.column == 0 => format!("{file}:{line}: "),
        (file, line) => format!("{file}:{line}:{}: ", finding.column),
    };
    format!("{place}{severity} {}: {}\n", finding.code, finding.message)
}

/// The files with more data beside theirs.
fn with_data(
    mut sources: Vec<policy::Source>,
    data: &[PathBuf],
) -> Result<Vec<policy::Source>, Failure> {
    for path in data {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new("data", format!("`{}`: {error}", path.display())))?;
        let is_json = path.extension().is_some_and(|kind| kind == "json");
        let name = if is_json { "data.json" } else { "data.yaml" };
        sources.push(policy::Source {
            path: name.into(),
            text,
        });
    }
    Ok(sources)
}

fn eval(
    sources: Vec<policy::Source>,
    input: &Path,
    (entrypoint, engine): (&str, Engine),
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    let input = json_of(input)?;
    let (policy, _) =
        policy::Policy::load(sources).map_err(|findings| broken(&findings, screen))?;
    let value = match engine {
        Engine::Reference => policy.eval(entrypoint, &input),
        Engine::DataPath => policy.eval_quick(entrypoint, &input),
    };
    let value = value.map_err(|error| Failure::new("eval", error))?;
    screen.line(&pretty(&value))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what would be decided on an input, and why.
fn explain(folder: &Path, input: &Value, screen: &Screen) -> Result<ExitCode, Failure> {
    let (policy, _) =
        policy::Policy::load(read(folder)?).map_err(|findings| broken(&findings, screen))?;
    let explanation = policy
        .explain_json(input)
        .map_err(|error| Failure::new("explain", error))?;
    screen.show(&explanation, |screen| explained(&explanation, screen))?;
    Ok(if explanation.verdict == "allow" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn explained(explanation: &Explanation, screen: &Screen) -> String {
    let verdict = match explanation.verdict.as_str() {
        "allow" => screen.good("allow"),
        verdict => screen.bad(verdict),
    };
    let mut text = format!("verdict    {verdict}\n");
    for (name, value) in [
        ("reason", &explanation.reason),
        ("message", &explanation.message),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("{name:<10} {value}\n"));
        }
    }
    for rule in &explanation.rules {
        text.push_str(&format!("rule       {}\n", super::explain::held(rule)));
    }
    text.push_str(&super::explain::closest(screen, &explanation.conditions));
    text
}

/// The JSON of a file, or of standard input.
pub(crate) fn json_of(input: &Path) -> Result<Value, Failure> {
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
    serde_json::from_str(&text).map_err(|error| of_input(&error))
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
