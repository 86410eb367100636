//! Evaluates a compiled policy on the data path: one VM per thread, limited, watched, and dropped when it fails.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use regorus::Value;
use regorus::rvm::{Program, RegoVM};
use regorus::utils::limits::ExecutionTimerConfig;

use crate::watch;

/// How many instructions one evaluation may take: 1,000 times what a large policy takes, and few enough
/// that a recursion which the checks missed ends within a 64 MiB stack.
const MOST_INSTRUCTIONS: usize = 50_000;

/// How long one evaluation may take: 300 times what a 60-line policy takes.
const LONGEST: Duration = Duration::from_millis(5);

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
    pub(crate) fn new(program: Program, data: Value) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            program: Arc::new(program),
            data,
        }
    }

    /// Runs one phase on one input. `Undefined` is an answer too.
    pub(crate) fn run(&self, phase: Phase, input: Value) -> Result<Value, Failure> {
        let kept = VM.take().filter(|(id, _)| *id == self.id);
        let mut vm = match kept {
            Some((_, vm)) => vm,
            None => self.start()?,
        };
        watch::begin();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            vm.set_input(input);
            vm.execute_entry_point_by_index(phase as usize)
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
