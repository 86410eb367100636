//! Watches every builtin and every sum of a compiled program, so that no error goes unseen.
//!
//! The VM takes an error inside a rule's body for "does not hold": a `deny` whose
//! `startswith(5, "x")` fails would be silent, and the call allowed. So each builtin of a program is
//! replaced by a function that calls it, strictly, and remembers that it failed; arithmetic becomes
//! calls of such functions. What was remembered denies the call.
//! (regorus 0.14.1, `rvm/vm/rules.rs`, `execute_rule_definitions_common`.)

use std::cell::RefCell;
use std::sync::LazyLock;

use regorus::Value;
use regorus::rvm::instructions::BuiltinCallParams;
use regorus::rvm::program::BuiltinInfo;
use regorus::rvm::{Instruction, Program};
use regorus::unstable::{BUILTINS, BuiltinFcn, Expr, Ref, Span};

type Function = fn(&Span, &[Ref<Expr>], &[Value], bool) -> anyhow::Result<Value>;

/// The longest text that a builtin may make, in bytes: that of the longest body that is read.
const LONGEST_TEXT: usize = 1 << 20;

/// What every loop asks of its collection. Without it a loop over a text where a list was meant holds for nothing,
/// and a `deny` with such a loop is silent, whatever the agent sends.
pub(crate) const LOOP: &str = "some … in";

/// How many builtins can be watched. regorus 0.14.1 has 152 with `full-opa`.
const SLOTS: usize = 256;

/// Every function that can be watched, by slot. The order is the same for the life of the process.
static WATCHED: LazyLock<Vec<(&'static str, Function)>> = LazyLock::new(|| {
    let own: [(&'static str, Function); 6] = [
        (LOOP, looped),
        ("+", plus),
        ("-", minus),
        ("*", times),
        ("/", divided),
        ("%", modulo),
    ];
    BUILTINS
        .iter()
        .map(|(name, (function, _))| (*name, *function))
        .chain(own)
        .collect()
});

thread_local! {
    /// The first builtin that failed in the evaluation that this thread is at.
    static FAULT: RefCell<Option<&'static str>> = const { RefCell::new(None) };
}

/// Forgets what failed before.
pub(crate) fn begin() {
    FAULT.take();
}

/// The first builtin that failed since [`begin`].
pub(crate) fn fault() -> Option<&'static str> {
    FAULT.take()
}

/// A builtin that can't be watched.
#[derive(Debug, thiserror::Error)]
#[error("builtin `{0}` can't be watched")]
pub(crate) struct Unwatchable(String);

/// Puts watched functions in the place of a program's builtins and arithmetic.
pub(crate) fn watch(program: &mut Program) -> Result<(), Unwatchable> {
    for at in 0..program.instructions.len() {
        let Some((operator, dest, left, right)) = program.instructions.get(at).and_then(arithmetic)
        else {
            continue;
        };
        let builtin_index = declare(program, operator, 2)?;
        let params_index = program.add_builtin_call_params(BuiltinCallParams {
            dest,
            builtin_index,
            num_args: 2,
            args: [left, right, 0, 0, 0, 0, 0, 0],
        });
        if let Some(instruction) = program.instructions.get_mut(at) {
            *instruction = Instruction::BuiltinCall { params_index };
        }
    }
    program.resolved_builtins = program
        .builtin_info_table
        .iter()
        .map(|builtin| resolve(&builtin.name))
        .collect::<Result<_, _>>()?;
    Ok(())
}

/// The operator of an arithmetic instruction, where its result goes and what it reads.
fn arithmetic(instruction: &Instruction) -> Option<(&'static str, u8, u8, u8)> {
    match *instruction {
        Instruction::Add { dest, left, right } => Some(("+", dest, left, right)),
        Instruction::Sub { dest, left, right } => Some(("-", dest, left, right)),
        Instruction::Mul { dest, left, right } => Some(("*", dest, left, right)),
        Instruction::Div { dest, left, right } => Some(("/", dest, left, right)),
        Instruction::Mod { dest, left, right } => Some(("%", dest, left, right)),
        _ => None,
    }
}

/// The index of a builtin in the program's own table, where it is added if it is new.
pub(crate) fn declare(
    program: &mut Program,
    name: &str,
    num_args: u16,
) -> Result<u16, Unwatchable> {
    let known = program
        .builtin_info_table
        .iter()
        .position(|builtin| builtin.name == name);
    let index = known.unwrap_or(program.builtin_info_table.len());
    if known.is_none() {
        program.builtin_info_table.push(BuiltinInfo {
            name: name.to_owned(),
            num_args,
        });
    }
    u16::try_from(index).map_err(|_| Unwatchable(name.to_owned()))
}

fn resolve(name: &str) -> Result<BuiltinFcn, Unwatchable> {
    let slot = WATCHED.iter().position(|(watched, _)| *watched == name);
    let arguments = BUILTINS.get(name).map_or(2, |(_, arguments)| *arguments);
    slot.and_then(|slot| SLOT_FUNCTIONS.get(slot))
        .map(|function| (*function, arguments))
        .ok_or_else(|| Unwatchable(name.to_owned()))
}

/// Calls the builtin of a slot, strictly, and remembers if it failed.
fn watched<const SLOT: usize>(
    span: &Span,
    expressions: &[Ref<Expr>],
    arguments: &[Value],
    _strict: bool,
) -> anyhow::Result<Value> {
    let Some((name, function)) = WATCHED.get(SLOT) else {
        anyhow::bail!("no builtin in this slot");
    };
    let answer = bounded(name, arguments)
        .and_then(|()| function(span, expressions, arguments, true))
        .and_then(|value| match &value {
            Value::String(text) if text.len() > LONGEST_TEXT => {
                anyhow::bail!("text is longer than {LONGEST_TEXT} bytes")
            }
            _ => Ok(value),
        });
    if answer.is_err() {
        FAULT.with_borrow_mut(|fault| {
            fault.get_or_insert(name);
        });
    }
    answer
}

/// Refuses what would make a text far longer than its arguments: neither limit nor timer reaches inside a builtin.
fn bounded(name: &str, arguments: &[Value]) -> anyhow::Result<()> {
    let length = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.len(),
        Some(Value::Array(items)) => items.len(),
        Some(Value::Set(items)) => items.len(),
        _ => 1,
    };
    let longest = match name {
        "replace" | "regex.replace" => {
            length(arguments.first()).saturating_mul(length(arguments.get(2)))
        }
        "concat" => length(arguments.first()).saturating_mul(length(arguments.get(1))),
        _ => 0,
    };
    // A quarter of each is what a real text is replaced by at the very most.
    anyhow::ensure!(
        longest <= LONGEST_TEXT.saturating_mul(4),
        "text is too long"
    );
    Ok(())
}

fn looped(_: &Span, _: &[Ref<Expr>], arguments: &[Value], _: bool) -> anyhow::Result<Value> {
    match arguments {
        [Value::Array(_) | Value::Set(_) | Value::Object(_)] => Ok(Value::from(true)),
        _ => anyhow::bail!("not a collection"),
    }
}

fn plus(_: &Span, _: &[Ref<Expr>], arguments: &[Value], _: bool) -> anyhow::Result<Value> {
    match arguments {
        [Value::Number(left), Value::Number(right)] => Ok(Value::from(left.add(right)?)),
        _ => anyhow::bail!("not numbers"),
    }
}

fn minus(_: &Span, _: &[Ref<Expr>], arguments: &[Value], _: bool) -> anyhow::Result<Value> {
    match arguments {
        [Value::Number(left), Value::Number(right)] => Ok(Value::from(left.sub(right)?)),
        [Value::Set(left), Value::Set(right)] => Ok(Value::from(left.difference(right))),
        _ => anyhow::bail!("neither numbers nor sets"),
    }
}

fn times(_: &Span, _: &[Ref<Expr>], arguments: &[Value], _: bool) -> anyhow::Result<Value> {
    match arguments {
        [Value::Number(left), Value::Number(right)] => Ok(Value::from(left.mul(right)?)),
        _ => anyhow::bail!("not numbers"),
    }
}

fn divided(_: &Span, _: &[Ref<Expr>], arguments: &[Value], _: bool) -> anyhow::Result<Value> {
    match arguments {
        [Value::Number(_), right] if is_zero(right) => anyhow::bail!("division by zero"),
        [Value::Number(left), Value::Number(right)] => Ok(Value::from(left.clone().divide(right)?)),
        _ => anyhow::bail!("not numbers"),
    }
}

fn modulo(_: &Span, _: &[Ref<Expr>], arguments: &[Value], _: bool) -> anyhow::Result<Value> {
    match arguments {
        [Value::Number(_), right] if is_zero(right) => anyhow::bail!("division by zero"),
        [Value::Number(left), Value::Number(right)] if left.is_integer() && right.is_integer() => {
            Ok(Value::from(left.clone().modulo(right)?))
        }
        _ => anyhow::bail!("not whole numbers"),
    }
}

fn is_zero(value: &Value) -> bool {
    *value == Value::from(0_u64)
}

/// Sixteen slots from a number on.
macro_rules! sixteen {
    ($from:expr) => {
        [
            watched::<{ $from }>,
            watched::<{ $from + 1 }>,
            watched::<{ $from + 2 }>,
            watched::<{ $from + 3 }>,
            watched::<{ $from + 4 }>,
            watched::<{ $from + 5 }>,
            watched::<{ $from + 6 }>,
            watched::<{ $from + 7 }>,
            watched::<{ $from + 8 }>,
            watched::<{ $from + 9 }>,
            watched::<{ $from + 10 }>,
            watched::<{ $from + 11 }>,
            watched::<{ $from + 12 }>,
            watched::<{ $from + 13 }>,
            watched::<{ $from + 14 }>,
            watched::<{ $from + 15 }>,
        ]
    };
}

/// A function pointer can't carry which builtin it stands for, so each slot has a function of its own.
static SLOT_FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let rows: [[Function; 16]; SLOTS / 16] = [
        sixteen!(0),
        sixteen!(16),
        sixteen!(32),
        sixteen!(48),
        sixteen!(64),
        sixteen!(80),
        sixteen!(96),
        sixteen!(112),
        sixteen!(128),
        sixteen!(144),
        sixteen!(160),
        sixteen!(176),
        sixteen!(192),
        sixteen!(208),
        sixteen!(224),
        sixteen!(240),
    ];
    rows.concat()
});
