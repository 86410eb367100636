//! Calls of rules and functions: which bodies are tried, and what they say together.

use std::mem;

use regorus::Value;
use regorus::rvm::program::{RuleInfo, RuleType};

use super::{DEEPEST, Ended, Fault, Holds, Run};

/// What the caller of a rule goes on with.
struct Caller {
    base: usize,
    floor: usize,
    rule: Option<u16>,
}

impl<'p> Run<'p> {
    pub(super) fn call_rule(&mut self, dest: u8, index: u16) -> Holds {
        let answer = self.rule(index)?;
        self.set(dest, answer)
    }

    /// What a rule says: evaluated once, then remembered.
    pub(super) fn rule(&mut self, index: u16) -> Result<Value, Fault> {
        let answered = self.buffers.answers.get(usize::from(index));
        if let Some(answer) = answered.ok_or(Fault::Internal)? {
            return Ok(answer.clone());
        }
        let answer = self.evaluate(index, &[])?;
        if let Some(place) = self.buffers.answers.get_mut(usize::from(index)) {
            *place = Some(answer.clone());
            self.buffers.answered.push(index);
        }
        Ok(answer)
    }

    /// A function of nothing says nothing.
    pub(super) fn call_function(&mut self, params: u16) -> Holds {
        let params = self.code.data().get_function_call_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let arguments = params.arg_registers();
        let function = self.info(params.func_rule_index)?.function_info.as_ref();
        if function.is_none_or(|function| function.num_params as usize != arguments.len()) {
            return Err(Fault::Internal);
        }
        let answer = if self.any_undefined(arguments)? {
            Value::Undefined
        } else {
            self.evaluate(params.func_rule_index, arguments)?
        };
        self.set(params.dest, answer)
    }

    pub(super) fn any_undefined(&self, registers: &[u8]) -> Holds {
        for register in registers {
            if *self.get(*register)? == Value::Undefined {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn info(&self, index: u16) -> Result<&'p RuleInfo, Fault> {
        let info = self.code.program.rule_infos.get(usize::from(index));
        info.ok_or(Fault::Internal)
    }

    /// Evaluates a rule in a window of registers of its own: the first is for what it says, its arguments follow.
    fn evaluate(&mut self, index: u16, arguments: &[u8]) -> Result<Value, Fault> {
        let info = self.info(index)?;
        let caller = self.enter(index, info, arguments)?;
        let said = match info.rule_type {
            RuleType::Complete => self.one(info, arguments.len() + 1)?,
            RuleType::PartialSet | RuleType::PartialObject => Some(self.all(info)?),
        };
        self.leave(&caller);
        let default = || info.default_literal_index.map(|at| self.code.literal(at));
        match said {
            Some(said) => Ok(said),
            None => default()
                .transpose()
                .map(|value| value.cloned().unwrap_or(Value::Undefined)),
        }
    }

    fn enter(&mut self, index: u16, info: &RuleInfo, arguments: &[u8]) -> Result<Caller, Fault> {
        if self.depth == DEEPEST {
            return Err(Fault::Depth);
        }
        self.depth += 1;
        let base = self.buffers.registers.len();
        self.buffers.registers.push(Value::Undefined);
        for argument in arguments {
            let argument = self.get(*argument)?.clone();
            self.buffers.registers.push(argument);
        }
        let window = usize::from(info.num_registers).max(arguments.len() + 1);
        self.buffers
            .registers
            .resize(base + window, Value::Undefined);
        self.used = false;
        Ok(Caller {
            base: mem::replace(&mut self.base, base),
            floor: mem::replace(&mut self.floor, self.buffers.frames.len()),
            rule: self.rule.replace(index),
        })
    }

    fn leave(&mut self, caller: &Caller) {
        self.buffers.registers.truncate(self.base);
        self.buffers.frames.truncate(self.floor);
        self.base = caller.base;
        self.floor = caller.floor;
        self.rule = caller.rule;
        self.used = true;
        self.depth -= 1;
    }

    /// What a rule of one answer says: two different answers are none. Of a chain of `else` the first body that
    /// says something counts.
    fn one(&mut self, info: &RuleInfo, kept: usize) -> Result<Option<Value>, Fault> {
        let mut answer: Option<Value> = None;
        for (at, bodies) in info.definitions.iter().enumerate() {
            let said = self.first(info, at, bodies, kept)?;
            match (&answer, said) {
                (_, None) => {}
                (None, said) => answer = said,
                (Some(answer), Some(said)) => self.agree(answer, &said)?,
            }
            if answer.is_some() && info.early_exit_on_first_success {
                break;
            }
        }
        Ok(answer)
    }

    fn first(
        &mut self,
        info: &RuleInfo,
        definition: usize,
        bodies: &[u32],
        kept: usize,
    ) -> Result<Option<Value>, Fault> {
        for body in bodies {
            if !self.attempt(info, definition, *body, kept)? {
                continue;
            }
            let said = self.take(0)?;
            // A loop that found nothing holds, and says nothing.
            if said != Value::Undefined {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// What a rule of many answers says: all that its bodies add to.
    fn all(&mut self, info: &RuleInfo) -> Result<Value, Fault> {
        let empty = match info.rule_type {
            RuleType::PartialObject => Value::new_object(),
            RuleType::PartialSet | RuleType::Complete => Value::new_set(),
        };
        self.set(0, empty)?;
        for (at, bodies) in info.definitions.iter().enumerate() {
            for body in bodies {
                self.attempt(info, at, *body, 1)?;
            }
        }
        self.take(0)
    }

    /// Runs one body, with the first registers as they are and nothing in the others.
    fn attempt(&mut self, info: &RuleInfo, definition: usize, body: u32, kept: usize) -> Holds {
        if self.used {
            let registers = &mut self.buffers.registers;
            let window = registers.len();
            registers.truncate(self.base + kept);
            registers.resize(window, Value::Undefined);
        }
        self.used = true;
        let parameters = info.destructuring_blocks.get(definition).copied().flatten();
        for start in parameters.into_iter().chain([body]) {
            let ended = self.body(start as usize)?;
            self.buffers.frames.truncate(self.floor);
            if matches!(ended, Ended::Fails) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// That the rule which is evaluated says two things.
    pub(super) fn conflict(&self) -> Fault {
        Fault::Conflict(self.rule)
    }
}
