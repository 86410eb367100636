//! The reference: the engine's interpreter, strict and slow, for tests, samples and explanations.

use std::time::Duration;

use regorus::{Engine, Value};

use crate::bounded::{self, Overrun};
use crate::builtins;
use crate::coverage::Together;
use crate::source::{Kind, Source};
use crate::steps::Condition;

/// How long all tests of a policy may take.
const TESTS_DEADLINE: Duration = Duration::from_secs(30);

/// How long one question may take.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);

/// How one test of a policy went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TestResult {
    /// The whole name of the rule, such as `data.remit.tools.notes_test.test_reading`.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// Whether it held.
    pub passed: bool,
    /// Why it could not be evaluated, for authors.
    pub error: Option<String>,
    /// What it printed.
    pub output: Vec<String>,
    /// Of one that does not hold: its conditions, and what was compared in the one that fails.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An engine with these files and this data.
pub(crate) fn engine(sources: &[Source], data: Value) -> anyhow::Result<Engine> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    for source in sources {
        if matches!(source.kind(), Kind::Rules | Kind::Tests) {
            engine.add_policy(source.name(), source.text.clone())?;
        }
    }
    engine.add_data(data)?;
    builtins::extend(&mut engine)?;
    Ok(engine)
}

/// Runs every rule called `test_…` in the files called `*_test.rego`.
pub(crate) fn test(sources: Vec<Source>, data: Value) -> Result<Vec<TestResult>, Overrun> {
    bounded::run(TESTS_DEADLINE, move || {
        let Ok(mut engine) = engine(&sources, data) else {
            return Vec::new();
        };
        engine.set_gather_prints(true);
        tests(&mut engine)
            .into_iter()
            .map(|test| run(&engine, test))
            .collect()
    })
}

/// Which lines the tests evaluate, all files together.
pub(crate) fn coverage(sources: Vec<Source>, data: Value) -> Result<Together, Overrun> {
    bounded::run(TESTS_DEADLINE, move || {
        let mut together = Together::default();
        let Ok(mut engine) = engine(&sources, data) else {
            return together;
        };
        engine.set_enable_coverage(true);
        for test in tests(&mut engine) {
            let mut engine = engine.clone();
            // Whether it holds is not the question here.
            drop(engine.eval_rule(test.name));
            together.add(engine.get_coverage_report().unwrap_or_default());
        }
        together
    })
}

/// Every test, not yet run.
fn tests(engine: &mut Engine) -> Vec<TestResult> {
    let mut tests = Vec::new();
    for module in engine.get_modules() {
        let file = module.package.span.source.get_path();
        if !file.ends_with("_test.rego") {
            continue;
        }
        let package = crate::check::path(&module.package.refr).join(".");
        for rule in &module.policy {
            let name = crate::check::head(rule).join(".");
            let whole = format!("data.{package}.{name}");
            let known = tests.iter().any(|test: &TestResult| test.name == whole);
            if name.starts_with("test_") && !known {
                tests.push(TestResult {
                    name: whole,
                    file: file.clone(),
                    line: rule.span().line,
                    passed: false,
                    error: None,
                    output: Vec::new(),
                    conditions: Vec::new(),
                });
            }
        }
    }
    tests
}

fn run(engine: &Engine, test: TestResult) -> TestResult {
    let mut engine = engine.clone();
    let answer = engine.eval_rule(test.name.clone());
    TestResult {
        passed: matches!(answer, Ok(Value::Bool(true))),
        error: answer.err().map(|error| error.to_string()),
        output: engine.take_prints().unwrap_or_default(),
        ..test
    }
}

/// Evaluates rules on one input; each answers for itself.
pub(crate) fn ask(
    sources: Vec<Source>,
    data: Value,
    input: Value,
    rules: Vec<String>,
) -> Result<Vec<Result<Value, String>>, Overrun> {
    bounded::run(QUESTION_DEADLINE, move || {
        let base = match engine(&sources, data) {
            Ok(mut engine) => {
                engine.set_input(input);
                engine
            }
            Err(error) => return vec![Err(error.to_string()); rules.len()],
        };
        rules
            .into_iter()
            .map(|rule| {
                let answer = base.clone().eval_rule(rule);
                answer.map_err(|error| error.to_string())
            })
            .collect()
    })
}
