//! Evaluates a compiled policy on the data path: one VM per thread, limited, watched, and dropped when it fails.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use regorus::Value;
use regorus::rvm::{Program, RegoVM};
use regorus::utils::limits::ExecutionTimerConfig;

use crate::watch;

/// How many instructions one evaluation may take: more than 100 times what a call of a small policy takes, and few
/// enough that a recursion which the checks missed ends within [`crate::STACK`].
const MOST_INSTRUCTIONS: usize = 25_000;

/// How long one evaluation may take by the clock on the wall. A busy machine keeps a thread waiting for more than
/// 50 ms (a flood of 20,000 reset streams on two cores did), and no call may be refused for its neighbours' work.
/// Instructions are what bounds the work; this is for builtins that are slow one by one.
const LONGEST: Duration = Duration::from_secs(1);

/// How many instructions pass between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(64).unwrap();

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
    /// Tells programs apart: an address could be used again.
    id: u64,
    program: Arc<Program>,
    data: Value,
    /// The entrypoints of the tools that have a decision of their own.
    tools: Arc<HashMap<String, usize>>,
}

/// Why an evaluation gave no answer. Its text holds nothing of the input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("policy took more than {MOST_INSTRUCTIONS} instructions")]
    Instructions,
    #[error("policy took more than {} ms", LONGEST.as_millis())]
    Time,
    #[error("a pattern of the policy is too large")]
    Regex,
    #[error("builtin `{0}` failed in the policy")]
    Builtin(&'static str),
    #[error("a number of the policy overflowed")]
    Overflow,
    #[error("policy panicked")]
    Panic,
    #[error("policy could not be run")]
    Internal,
}

thread_local! {
    static VM: RefCell<Option<(u64, RegoVM)>> = const { RefCell::new(None) };
}

impl Machine {
    /// `tools` are those whose entrypoints follow those of the phases, in their order.
    pub(crate) fn new(
        program: Program,
        data: Value,
        tools: impl IntoIterator<Item = String>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            program: Arc::new(program),
            data,
            tools: Arc::new(tools.into_iter().zip(Phase::ALL.len()..).collect()),
        }
    }

    /// The entrypoint of a phase, or of the called tool's own decision.
    fn entrypoint(&self, phase: Phase, input: &Value) -> usize {
        let own = match (phase, &input["tool"]["name"]) {
            (Phase::Call, Value::String(tool)) => self.tools.get(&**tool).copied(),
            _ => None,
        };
        own.unwrap_or(phase as usize)
    }

    /// Runs one phase on one input. `Undefined` is an answer too.
    pub(crate) fn run(&self, phase: Phase, input: Value) -> Result<Value, Failure> {
        let kept = VM.take().filter(|(id, _)| *id == self.id);
        let mut vm = match kept {
            Some((_, vm)) => vm,
            None => self.start()?,
        };
        watch::begin();
        let entrypoint = self.entrypoint(phase, &input);
        let answer = catch_unwind(AssertUnwindSafe(|| {
            vm.set_input(input);
            vm.execute_entry_point_by_index(entrypoint)
        }));
        let fault = watch::fault();
        let value = match answer {
            Err(_) => return Err(Failure::Panic),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(value)) => value,
        };
        // What the agent sent does not stay behind.
        vm.set_input(Value::Null);
        VM.set(Some((self.id, vm)));
        fault.map_or(Ok(value), |builtin| Err(Failure::Builtin(builtin)))
    }

    fn start(&self) -> Result<RegoVM, Failure> {
        let mut vm = RegoVM::new();
        vm.set_max_instructions(MOST_INSTRUCTIONS);
        vm.set_execution_timer_config(Some(ExecutionTimerConfig {
            limit: LONGEST,
            check_interval: CHECK_INTERVAL,
        }));
        // Strictness here would make `"1000" > 100` an error, which the VM takes for "does not hold".
        // Builtins are strict all the same: `watch` sees to it.
        vm.set_strict_builtin_errors(false);
        vm.load_program(Arc::clone(&self.program));
        vm.set_data(self.data.clone()).map_err(Failure::from)?;
        Ok(vm)
    }
}

impl From<regorus::rvm::vm::VmError> for Failure {
    fn from(error: regorus::rvm::vm::VmError) -> Self {
        use regorus::rvm::vm::VmError;
        match error {
            VmError::InstructionLimitExceeded { .. } => Self::Instructions,
            VmError::TimeLimitExceeded { .. } => Self::Time,
            VmError::RegexSizeLimitExceeded { .. } => Self::Regex,
            VmError::NumericOverflow { .. } => Self::Overflow,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use regorus::languages::rego::compiler::Compiler;
    use regorus::rvm::RegoVM;
    use regorus::rvm::vm::VmError;
    use regorus::{Engine, Value};

    use super::{Machine, Phase};
    use crate::{Policy, STACK, Source, bounded, repair, watch};

    /// A program of one file, as it is, without any check.
    fn unchecked(rules: &str) -> Machine {
        let mut engine = Engine::new();
        let rest = "admission := 1\nvisible := 1";
        let text = format!("package remit\n{rules}\n{rest}");
        engine.add_policy("p.rego".to_owned(), text).unwrap();
        let entrypoints = Phase::ALL.map(Phase::entrypoint);
        let compiled = engine
            .compile_with_entrypoint(&entrypoints[0].into())
            .unwrap();
        let program = Compiler::compile_from_policy(&compiled, &entrypoints).unwrap();
        let mut program = Arc::unwrap_or_clone(program);
        repair::repair(&mut program).unwrap();
        watch::watch(&mut program).unwrap();
        Machine::new(program, Value::new_object(), [])
    }

    #[track_caller]
    fn check(rules: &str, expect: &str) {
        let machine = unchecked(rules);
        let run = move || machine.run(Phase::Call, Value::new_object());
        let answer = bounded::run(std::time::Duration::from_secs(60), run).unwrap();
        let found = match answer {
            Ok(value) => value.to_string(),
            Err(failure) => failure.to_string(),
        };
        assert!(found.contains(expect), "{found}");
    }

    #[test]
    fn a_recursion_that_was_missed_ends_within_the_stack() {
        let machine = unchecked("decision := f(1)\nf(x) := f(x)");
        // Without the clock, which would end it sooner on a slow machine.
        let run = move || {
            let mut vm = RegoVM::new();
            vm.set_max_instructions(super::MOST_INSTRUCTIONS);
            vm.load_program(machine.program);
            vm.execute_entry_point_by_index(0)
        };
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(run);
        let error = thread.unwrap().join().unwrap().unwrap_err();
        assert!(
            matches!(error, VmError::InstructionLimitExceeded { .. }),
            "{error}"
        );
    }
    #[test]
    fn a_panic_in_a_builtin_is_a_failure() {
        check("decision := strings.count(\"x\", \"\")", "panicked");
    }
    #[test]
    fn a_failure_names_the_builtin() {
        check(
            "decision := 1 if not startswith(7, \"x\")",
            "builtin `startswith` failed",
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
        let enough = |most: usize| {
            let mut vm = RegoVM::new();
            vm.set_max_instructions(most);
            vm.load_program(Arc::clone(&machine.program));
            vm.set_data(machine.data.clone()).unwrap();
            vm.set_input(input.clone());
            match vm.execute_entry_point_by_index(machine.entrypoint(Phase::Call, &input)) {
                Ok(value) => value != Value::Undefined,
                Err(VmError::InstructionLimitExceeded { .. }) => false,
                Err(error) => panic!("{error}"),
            }
        };
        (1..10_000).find(|most| enough(*most)).unwrap()
    }

    #[test]
    fn a_call_costs_the_same_with_ten_and_two_hundred_tools() {
        let (few, many) = (instructions(10), instructions(200));
        assert_eq!(few, many);
        assert!(many < 200, "{many} instructions");
    }
}
