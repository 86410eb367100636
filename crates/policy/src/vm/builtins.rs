//! What a policy may call: OPA's builtins as regorus has them, strict and bounded.

use std::mem;

use regorus::unstable::{BUILTINS, must_cache};
use regorus::{LimitError, Value};

use crate::builtins::{OfEngine, of_engine};

use super::{Fault, Holds, Run, weight};

/// What a builtin does: as regorus has it, or as we do.
#[derive(Clone, Copy)]
enum Function {
    Engine(OfEngine),
    Own(fn(&[Value]) -> anyhow::Result<Value>),
}

/// The longest text that a builtin may make, in bytes: that of the longest body that is read.
const LONGEST_TEXT: usize = 1 << 20;

/// A builtin of a program.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    function: Function,
    /// How it grows its arguments, if it does.
    growth: Growth,
    /// Whether it says the same for the whole of an evaluation: what time it is, for one.
    constant: bool,
}

/// A builtin that there is none of.
#[derive(Debug, thiserror::Error)]
#[error("there is no builtin `{0}`")]
pub(crate) struct Unknown(String);

impl Unknown {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
}

pub(super) fn find(name: &str) -> Result<Builtin, Unknown> {
    let own = crate::builtins::find(name);
    let own = own.map(|own| (own.name, Function::Own(own.function)));
    let engine = || {
        let (name, (function, _)) = BUILTINS.get_key_value(name)?;
        Some((*name, Function::Engine(*function)))
    };
    let (name, function) = own.or_else(engine).ok_or_else(|| Unknown::new(name))?;
    Ok(Builtin {
        name,
        function,
        growth: Growth::of(name),
        constant: must_cache(name).is_some(),
    })
}

impl Builtin {
    /// Calls it, strictly; `failed` is how its failure is told.
    fn call(&self, arguments: &[Value], failed: Fault) -> Result<Value, Fault> {
        if !self.growth.is_bounded(arguments) {
            return Err(failed);
        }
        let answer = match self.function {
            Function::Own(function) => function(arguments),
            Function::Engine(function) => of_engine(function, arguments),
        };
        match answer {
            Ok(Value::String(text)) if text.len() > LONGEST_TEXT => Err(failed),
            Ok(value) => Ok(value),
            Err(error) => match error.downcast_ref::<LimitError>() {
                Some(LimitError::RegexSizeLimitExceeded { .. }) => Err(Fault::Regex),
                _ => Err(failed),
            },
        }
    }
}

impl Run<'_> {
    /// A builtin of nothing says nothing.
    pub(super) fn call_builtin(&mut self, params: u16) -> Holds {
        let code = self.code;
        let params = code.data().get_builtin_call_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let builtin = code.builtins.get(usize::from(params.builtin_index));
        let builtin = builtin.ok_or(Fault::Internal)?;
        let mut arguments = mem::take(&mut self.buffers.arguments);
        for register in params.arg_registers() {
            arguments.push(self.get(*register)?.clone());
        }
        let answer = if arguments.contains(&Value::Undefined) {
            Value::Undefined
        } else if builtin.constant {
            self.call_once(params.builtin_index, builtin, &arguments)?
        } else {
            builtin.call(&arguments, Fault::Builtin(params.builtin_index))?
        };
        arguments.clear();
        self.buffers.arguments = arguments;
        self.set(params.dest, answer)
    }

    /// What it said before for these arguments.
    fn call_once(
        &mut self,
        index: u16,
        builtin: &Builtin,
        arguments: &[Value],
    ) -> Result<Value, Fault> {
        let said = self.buffers.constant.iter();
        let said = said
            .into_iter()
            .find(|(of, with, _)| *of == index && with == arguments);
        if let Some((_, _, answer)) = said {
            return Ok(answer.clone());
        }
        let answer = builtin.call(arguments, Fault::Builtin(index))?;
        let said = (index, arguments.to_vec(), answer.clone());
        self.buffers.constant.push(said);
        Ok(answer)
    }

    /// `+ - * / %`. Of nothing it is nothing.
    pub(super) fn calculate(&mut self, operator: Operator, dest: u8, left: u8, right: u8) -> Holds {
        let (left, right) = (self.get(left)?, self.get(right)?);
        let answer = match (left, right) {
            (Value::Undefined, _) | (_, Value::Undefined) => Some(Value::Undefined),
            _ => calculated(operator, left, right),
        };
        self.set(dest, answer.ok_or(Fault::Operator(operator))?)
    }
}

/// What an arithmetic instruction does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
}

impl Operator {
    /// As it is written in Rego.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
        }
    }
}

fn calculated(operator: Operator, left: &Value, right: &Value) -> Option<Value> {
    let (left, right) = match (left, right) {
        (Value::Number(left), Value::Number(right)) => (left, right),
        (Value::Set(left), Value::Set(right)) if operator == Operator::Sub => {
            return Some(left.difference(right).into_value());
        }
        _ => return None,
    };
    let is_zero = Value::from(right.clone()) == Value::from(0_u64);
    let answer = match operator {
        Operator::Add => left.add(right),
        Operator::Sub => left.sub(right),
        Operator::Mul => left.mul(right),
        Operator::Div if !is_zero => left.clone().divide(right),
        Operator::Mod if !is_zero && left.is_integer() && right.is_integer() => {
            left.clone().modulo(right)
        }
        _ => return None,
    };
    answer.ok().map(Value::from)
}

/// How much longer than its arguments may be what a builtin makes, or how long it may take: no limit reaches inside it.
#[derive(Clone, Copy)]
enum Growth {
    /// Not much.
    Little,
    /// As long as two of its arguments multiplied.
    Product(usize, usize),
    /// As long as the second argument, with the first between its items.
    Joined,
    /// As long as the second argument, with every character of it replaced by what is in the first.
    Replaced,
    /// As long as its arguments in a row.
    Listed,
    /// It goes through all that is in its arguments.
    Weighed,
}

impl Growth {
    fn of(name: &str) -> Self {
        match name {
            "replace" | "regex.replace" => Self::Product(0, 2),
            "concat" => Self::Joined,
            "strings.replace_n" => Self::Replaced,
            "array.concat" => Self::Listed,
            "sprintf"
            | "json.marshal"
            | "json.marshal_with_options"
            | "yaml.marshal"
            | "sort"
            | "max"
            | "min"
            | "union"
            | "intersection"
            | "json.match_schema"
            | "json.patch"
            | "json.filter"
            | "json.remove"
            | "object.union"
            | "object.union_n"
            | "object.subset"
            | "object.filter"
            | "object.remove"
            | "graph.reachable"
            | "graph.reachable_paths"
            | "__builtin_sets.union"
            | "__builtin_sets.intersection" => Self::Weighed,
            _ => Self::Little,
        }
    }

    /// Whether what is made of these arguments has an end in sight.
    fn is_bounded(self, arguments: &[Value]) -> bool {
        let length = |at: usize| match arguments.get(at) {
            Some(Value::String(text)) => text.len(),
            Some(Value::Array(items)) => items.len(),
            Some(Value::Set(items)) => items.len(),
            _ => 1,
        };
        // A quarter of each is what a real text is replaced by at the very most.
        let product = |one: usize, other: usize| one.saturating_mul(other) <= weight::MOST;
        match self {
            Self::Little => true,
            Self::Product(one, other) => product(length(one), length(other)),
            Self::Joined => {
                product(length(0), length(1)) && weight::is_bounded(arguments.iter().skip(1))
            }
            Self::Replaced => {
                let longest = match arguments.first() {
                    Some(Value::Object(pairs)) => pairs.values().map(|text| match text {
                        Value::String(text) => text.len(),
                        _ => 1,
                    }),
                    _ => return true,
                };
                product(longest.max().unwrap_or(1), length(1))
            }
            Self::Listed => length(0).saturating_add(length(1)) <= LONGEST_TEXT,
            Self::Weighed => weight::is_bounded(arguments),
        }
    }
}
