//! What an engine answers to a case.

use std::sync::Arc;

use regorus::languages::rego::compiler::Compiler;
use regorus::{Engine, Value};

use super::Case;
use crate::builtins;
use crate::machine::Failure;
use crate::vm::{self, Buffers, Code};

/// The package of the rule that asks what a query asks.
const ASKING: &str = "conformance_query";

/// What an engine answers.
pub(super) enum Answer {
    /// What each of its answers binds, as JSON.
    Values(Vec<Value>),
    Error(Trouble, String),
}

/// Why an engine does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// It can't be parsed.
    Syntax,
    /// It calls a builtin that is not there.
    Builtin,
    /// It can't be compiled.
    Compile,
    /// A builtin fails, which OPA takes for undefined where it is not told otherwise.
    Strict,
    /// A loop over what is no collection, which holds for nothing in OPA and in the reference.
    Loop,
    /// Anything else.
    Error,
    /// It takes too long, or panics.
    Overrun,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// OPA says the same.
    Pass,
    /// A builtin fails, or a loop is over what is no collection: an error here, and undefined in OPA where it is
    /// not told otherwise.
    Strict,
    /// OPA says something else.
    Wrong,
    /// OPA says that it is an error.
    Silent,
    /// It is an error, and OPA answers.
    Error,
    /// It can't be parsed.
    Syntax,
    /// It calls a builtin that is not there.
    Builtin,
    /// It can't be compiled.
    Compile,
    /// It takes too long, or panics.
    Overrun,
}

impl Verdict {
    /// All of them, with the words that they are written as.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Pass, "pass"),
        (Self::Strict, "strict"),
        (Self::Wrong, "wrong"),
        (Self::Silent, "silent"),
        (Self::Error, "error"),
        (Self::Syntax, "syntax"),
        (Self::Builtin, "builtin"),
        (Self::Compile, "compile"),
        (Self::Overrun, "overrun"),
    ];
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = Self::ALL.iter();
        let word = all.find(|(verdict, _)| verdict == self);
        f.write_str(word.map_or("", |(_, word)| word))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Values(values) => write!(f, "says {}", Value::from(values.clone())),
            Self::Error(_, error) => {
                let error = error.lines().map(str::trim).rfind(|line| !line.is_empty());
                write!(f, "fails: {}", error.unwrap_or_default())
            }
        }
    }
}

impl Trouble {
    /// What an error of regorus is about: its text is all that there is of it.
    fn of(error: &anyhow::Error, otherwise: Self) -> Self {
        let text = error.to_string();
        let missing = [
            "could not find function",
            "Unknown function",
            "Unknown builtin",
            "there is no builtin",
        ];
        if missing.iter().any(|missing| text.contains(missing)) {
            Self::Builtin
        } else {
            otherwise
        }
    }
}

/// Whether two lists of answers are the same.
pub(super) fn equal(one: &[Value], other: &[Value]) -> bool {
    one == other
}

/// What the reference says to the query as it is.
pub(super) fn of_reference(case: &Case) -> Answer {
    let strict = evaluated(case, true);
    match strict {
        // Where it answers if it is not strict, it was a builtin that failed.
        Answer::Error(Trouble::Error, error) if !case.strict_error => {
            let trouble = match evaluated(case, false) {
                Answer::Values(_) => Trouble::Strict,
                Answer::Error(..) => Trouble::Error,
            };
            Answer::Error(trouble, error)
        }
        answer => answer,
    }
}

fn evaluated(case: &Case, is_strict: bool) -> Answer {
    let mut engine = match engine(case, None) {
        Ok(engine) => engine,
        Err(error) => return Answer::Error(Trouble::Syntax, error.to_string()),
    };
    engine.set_strict_builtin_errors(is_strict);
    let answers = (|| -> anyhow::Result<Vec<Value>> {
        if let Some(input) = input(case)? {
            engine.set_input(input);
        }
        let results = engine.eval_query(case.query.clone(), false)?;
        let bindings = results.result.into_iter().map(|result| result.bindings);
        bindings.map(|bindings| json(&bindings)).collect()
    })();
    answers.map_or_else(
        |error| Answer::Error(Trouble::of(&error, Trouble::Error), error.to_string()),
        Answer::Values,
    )
}

/// What the machine says to what the query asks for.
pub(super) fn of_machine(case: &Case) -> Answer {
    let Some((asked, name)) = case.asked() else {
        return Answer::Error(Trouble::Compile, "no rule can ask this".to_owned());
    };
    let mut engine = match engine(case, Some(asked)) {
        Ok(engine) => engine,
        Err(error) => return Answer::Error(Trouble::Syntax, error.to_string()),
    };
    let code = match code(&mut engine) {
        Ok(code) => code,
        Err(error) => {
            return Answer::Error(Trouble::of(&error, Trouble::Compile), error.to_string());
        }
    };
    let input = match input(case) {
        Ok(input) => input.unwrap_or(Value::Undefined),
        Err(error) => return Answer::Error(Trouble::Error, error.to_string()),
    };
    let answer = vm::evaluate(
        &code,
        &engine.get_data(),
        &input,
        0,
        &mut Buffers::default(),
    );
    match answer {
        Ok(Value::Undefined) => Answer::Values(Vec::new()),
        Ok(answer) => match json(&answer) {
            Ok(answer) => {
                let bound = std::collections::BTreeMap::from([(Value::from(name), answer)]);
                Answer::Values(vec![Value::from(bound)])
            }
            Err(error) => Answer::Error(Trouble::Error, error.to_string()),
        },
        Err(failure) => {
            let trouble = match &failure.failure {
                Failure::Builtin(vm::LOOP) => Trouble::Loop,
                Failure::Builtin(_) if !case.strict_error => Trouble::Strict,
                _ => Trouble::Error,
            };
            Answer::Error(trouble, failure.to_string())
        }
    }
}

/// An engine with a case's modules and data, and with a rule that asks for a reference.
fn engine(case: &Case, asked: Option<&str>) -> anyhow::Result<Engine> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    for (number, module) in case.modules.iter().enumerate() {
        engine.add_policy(format!("{number}.rego"), module.clone())?;
    }
    if let Some(asked) = asked {
        let asking = format!("package {ASKING}\nanswer := {asked}\n");
        engine.add_policy("query.rego".to_owned(), asking)?;
    }
    if let Some(data) = &case.data {
        engine.add_data(data.clone())?;
    }
    builtins::extend(&mut engine)?;
    Ok(engine)
}

fn code(engine: &mut Engine) -> anyhow::Result<Code> {
    let entrypoint = format!("data.{ASKING}.answer");
    let compiled = engine.compile_with_entrypoint(&entrypoint.as_str().into())?;
    let ours = builtins::unknown();
    let program = Compiler::compile_from_policy_with_host_await(&compiled, &[&entrypoint], &ours)?;
    Ok(Code::new(Arc::unwrap_or_clone(program))?)
}

fn input(case: &Case) -> anyhow::Result<Option<Value>> {
    let Some(term) = &case.input_term else {
        return Ok(case.input.clone());
    };
    let results = Engine::new().eval_query(term.clone(), false)?;
    let expressions = results
        .result
        .into_iter()
        .flat_map(|result| result.expressions);
    Ok(expressions.map(|expression| expression.value).next())
}

/// A value as JSON knows it: sets are arrays, and every key is a text.
fn json(value: &Value) -> anyhow::Result<Value> {
    Value::from_json_str(&value.to_json_str()?)
}
