//! What is asked of a policy on the data path, and what keeps it from answering.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use regorus::Value;

use crate::interpreted::Interpreted;
use crate::vm::{self, Buffers, Code};

/// What can be asked of a policy; the order is that of the program's entrypoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// May this call be made?
    Call,
    /// May this task be opened?
    Admission,
    /// Is this tool shown?
    List,
}

impl Phase {
    pub(crate) const ALL: [Self; 3] = [Self::Call, Self::Admission, Self::List];

    /// The rule that answers.
    pub(crate) fn entrypoint(self) -> &'static str {
        match self {
            Self::Call => "data.remit.decision",
            Self::Admission => "data.remit.admission",
            Self::List => "data.remit.visible",
        }
    }
}

/// A compiled policy with its data, never changed.
#[derive(Clone)]
pub(crate) struct Machine {
    /// At least one; each answers for every phase, and for some tools.
    programs: Vec<Arc<Code>>,
    data: Value,
    /// The entrypoints of the tools that have a decision of their own.
    tools: Arc<HashMap<String, Entrypoint>>,
    /// What decides instead, where the policy asks for it.
    interpreted: Option<Arc<Interpreted>>,
}

/// Where an evaluation begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entrypoint {
    pub(crate) program: usize,
    pub(crate) index: usize,
}

/// Why an evaluation gave no answer. Its text holds nothing of the input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("policy took more than {} instructions", vm::MOST_INSTRUCTIONS)]
    Instructions,
    #[error("policy took more than {} ms", vm::LONGEST.as_millis())]
    Time,
    #[error("rules of the policy call each other too deep")]
    Depth,
    #[error("a value of the policy holds too much to be gone through")]
    Weight,
    #[error("a pattern of the policy is too large")]
    Regex,
    #[error("builtin `{0}` failed in the policy")]
    Builtin(&'static str),
    #[error("`{0}` has two different values")]
    Conflict(String),
    #[error("the interpreter could not evaluate the policy; `remit policy eval` says why")]
    Interpreter,
    #[error("policy panicked")]
    Panic,
    #[error("policy could not be run")]
    Internal,
}

impl Failure {
    /// Which of a few ways, for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Time => "time",
            Self::Depth => "depth",
            Self::Weight => "weight",
            Self::Regex => "regex",
            Self::Builtin(_) => "builtin",
            Self::Conflict(_) => "conflict",
            Self::Interpreter => "interpreter",
            Self::Panic => "panic",
            Self::Internal => "internal",
        }
    }
}

/// A failure, and the rule that was evaluated.
#[derive(Debug, thiserror::Error)]
#[error("{failure}{}", .rule.as_ref().map(|rule| format!(", in `{rule}`")).unwrap_or_default())]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) rule: Option<Arc<str>>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            rule: None,
        }
    }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

impl Machine {
    /// The same programs over other data.
    pub(crate) fn with_data(&self, data: Value) -> Self {
        Self {
            data,
            ..self.clone()
        }
    }

    pub(crate) fn new(
        programs: Vec<Arc<Code>>,
        data: Value,
        tools: HashMap<String, Entrypoint>,
    ) -> Self {
        Self {
            programs,
            data,
            tools: Arc::new(tools),
            interpreted: None,
        }
    }

    /// One without programs: the reference decides.
    pub(crate) fn interpreted(interpreted: Interpreted) -> Self {
        Self {
            interpreted: Some(Arc::new(interpreted)),
            ..Self::new(Vec::new(), Value::new_object(), HashMap::new())
        }
    }

    /// Whether the reference decides.
    pub(crate) fn is_interpreted(&self) -> bool {
        self.interpreted.is_some()
    }

    /// How many instructions a phase takes on an input.
    pub(crate) fn instructions(&self, phase: Phase, input: &Value) -> Result<usize, Failure> {
        let Entrypoint { program, index } = self.entrypoint(phase, input);
        let code = self.programs.get(program).ok_or(Failure::Internal)?;
        vm::instructions(code, &self.data, input, index)
    }

    /// Whether nothing was compiled for it.
    #[cfg(test)]
    pub(crate) fn shares_programs_of(&self, other: &Self) -> bool {
        let mut pairs = self.programs.iter().zip(&other.programs);
        pairs.all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The entrypoint of a phase, or of the called tool's own decision.
    fn entrypoint(&self, phase: Phase, input: &Value) -> Entrypoint {
        let own = match phase {
            Phase::Call => called(input).and_then(|tool| self.tools.get(tool).copied()),
            Phase::Admission | Phase::List => None,
        };
        own.unwrap_or(Entrypoint {
            program: 0,
            index: phase as usize,
        })
    }

    /// Runs one phase on one input. `Undefined` is an answer too.
    pub(crate) fn run(&self, phase: Phase, input: &Value) -> Result<Value, Failed> {
        if let Some(interpreted) = &self.interpreted {
            return Ok(interpreted.run(phase.entrypoint(), called(input), input)?);
        }
        self.run_at(self.entrypoint(phase, input), input)
    }

    /// Runs what begins there.
    pub(crate) fn run_at(&self, entrypoint: Entrypoint, input: &Value) -> Result<Value, Failed> {
        let Entrypoint { program, index } = entrypoint;
        let code = self.programs.get(program).ok_or(Failure::Internal)?;
        // A panic leaves no buffers behind.
        let mut buffers = BUFFERS.take();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            vm::evaluate(code, &self.data, input, index, &mut buffers)
        }));
        if answer.is_ok() {
            BUFFERS.set(buffers);
        }
        answer.unwrap_or_else(|_| Err(Failure::Panic.into()))
    }
}

/// The name of the called tool.
fn called(input: &Value) -> Option<&str> {
    static TOOL: LazyLock<Value> = LazyLock::new(|| Value::from("tool"));
    static NAME: LazyLock<Value> = LazyLock::new(|| Value::from("name"));
    match &input[&*TOOL][&*NAME] {
        Value::String(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use regorus::languages::rego::compiler::Compiler;
    use regorus::{Engine, Value};

    use super::{Machine, Phase};
    use crate::vm::Code;
    use crate::{Policy, Source, bounded, builtins};

    /// A program of one file, as it is, without any check.
    fn unchecked(rules: &str) -> Machine {
        let mut engine = Engine::new();
        let rest = "admission := 1\nvisible := 1";
        let text = format!("package remit\n{rules}\n{rest}");
        engine.add_policy("p.rego".to_owned(), text).unwrap();
        let entrypoints = Phase::ALL.map(Phase::entrypoint);
        builtins::extend(&mut engine).unwrap();
        let compiled = engine
            .compile_with_entrypoint(&entrypoints[0].into())
            .unwrap();
        let ours = builtins::unknown();
        let program = Compiler::compile_from_policy_with_host_await(&compiled, &entrypoints, &ours);
        let program = program.unwrap();
        let code = Code::new(Arc::unwrap_or_clone(program)).unwrap();
        Machine::new(vec![Arc::new(code)], Value::new_object(), HashMap::new())
    }

    #[track_caller]
    fn check(rules: &str, expect: &str) {
        let machine = unchecked(rules);
        let run = move || machine.run(Phase::Call, &Value::new_object());
        let answer = bounded::run(std::time::Duration::from_secs(60), run).unwrap();
        let found = match answer {
            Ok(value) => value.to_string(),
            Err(failure) => failure.to_string(),
        };
        assert!(found.contains(expect), "{found}");
    }

    #[test]
    fn a_recursion_that_was_missed_ends_within_the_stack() {
        check("decision := f(1)\nf(x) := f(x)", "too deep");
    }
    #[test]
    fn a_panic_in_a_builtin_is_a_failure() {
        check("decision := test.panic()", "panicked");
    }
    #[test]
    fn a_failure_names_the_builtin() {
        check(
            "decision := 1 if not startswith(7, \"x\")",
            "builtin `startswith` failed",
        );
    }
    #[test]
    fn a_failure_names_the_rule() {
        check(
            "decision := 1 if slow\nslow if startswith(7, \"x\")",
            "in `data.remit.slow`",
        );
    }
    #[test]
    fn a_result_that_grows_too_long_is_a_failure() {
        let doubled: Vec<String> = (1..40)
            .map(|n| format!("t{n} := concat(\"\", [t{p}, t{p}])", p = n - 1))
            .collect();
        let rules = format!(
            "t0 := \"xxxxxxxx\"\n{}\ndecision := t39",
            doubled.join("\n")
        );
        check(&rules, "builtin `concat` failed");
    }

    /// How many instructions a call of one of so many tools takes.
    fn instructions(tools: usize) -> usize {
        let sources = (0..tools).map(|tool| Source {
            path: format!("t{tool}.rego").into(),
            text: format!(
                "package remit.tools.t{tool}
                allow if input.tool.access == \"read\"
                deny contains \"long\" if count(input.request.path) > 100
                deny contains \"deep\" if count(input.request.segments) > {tool}"
            ),
        });
        let (policy, _) = Policy::load(sources.collect()).unwrap();
        let machine = policy.machine;
        let input = r#"{"tool": {"name": "t5", "access": "read"}, "request": {"path": "/", "segments": []}}"#;
        let input = Value::from_json_str(input).unwrap();
        machine.instructions(Phase::Call, &input).unwrap()
    }

    #[test]
    fn a_call_costs_the_same_with_ten_and_a_thousand_tools() {
        let (few, many) = (instructions(10), instructions(1_000));
        assert_eq!(few, many);
        assert!(many < 200, "{many} instructions");
    }
}
