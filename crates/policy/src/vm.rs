//! Evaluates a compiled policy on one input: regorus compiles Rego to instructions, this executes them.
//!
//! regorus 0.14.1 brings a machine of its own, which is not used: it takes an error inside a rule's body for "does
//! not hold", so a `deny` whose builtin fails would be silent and the call allowed; it binds what is undefined, lets
//! the last of two answers win, and forgets where a condition failed inside a comprehension. Here **every error ends
//! the evaluation**, and so does a second answer. It also takes a fifth of the time, since it copies nothing it only
//! reads.
//!
//! What its compiler promises is relied on nowhere: a register or an index that is not there is
//! [`Fault::Internal`], which denies.

use std::mem;
use std::time::Duration;

use regorus::Value;
use regorus::rvm::Instruction;
use regorus::rvm::instructions::GuardMode;

mod builtins;
mod calls;
mod code;
mod collections;
mod documents;
mod fault;
mod frames;
mod references;
mod weight;

pub(crate) use code::Code;
#[cfg(feature = "conformance")]
pub(crate) use fault::LOOP;
pub(crate) use weight::is_whole as is_bounded;

use crate::machine::{Failed, Failure};
use builtins::Operator;
use fault::Fault;
use frames::Frame;

/// How many instructions one evaluation may take: more than 100 times what a call of a small policy takes.
pub(crate) const MOST_INSTRUCTIONS: usize = 25_000;

/// How long one evaluation may take by the clock on the wall. A busy machine keeps a thread waiting for more than
/// 50 ms (a flood of 20,000 reset streams on two cores did), and no call may be refused for its neighbours' work.
/// Instructions are what bounds the work; this is for builtins that are slow one by one.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// Evaluation never waits, so no test wants to pause its clock.
#[expect(
    clippy::disallowed_types,
    reason = "the runtime's clock is for what waits"
)]
pub(crate) type Clock = std::time::Instant;

/// How many instructions pass between two looks at the clock.
const CHECK_INTERVAL: usize = 64;

/// How deep rules may call each other, so that a recursion which the checks missed ends within [`crate::STACK`].
const DEEPEST: usize = 1_000;

/// What an evaluation works with, kept from one to the next for its allocations alone.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The registers of every rule that is being evaluated, one window after the other.
    registers: Vec<Value>,
    /// The loops and comprehensions of every rule that is being evaluated.
    frames: Vec<Frame>,
    /// What rules said, by their index.
    answers: Vec<Option<Value>>,
    /// Which of `answers` are there.
    answered: Vec<u16>,
    /// What builtins that must say the same twice said.
    constant: Vec<(u16, Vec<Value>, Value)>,
    /// The arguments of a builtin.
    arguments: Vec<Value>,
}

impl Buffers {
    /// Forgets everything that was evaluated: what an agent sent does not stay behind.
    fn clear(&mut self) {
        self.registers.clear();
        self.frames.clear();
        for rule in self.answered.drain(..) {
            if let Some(answer) = self.answers.get_mut(usize::from(rule)) {
                *answer = None;
            }
        }
        self.constant.clear();
        self.arguments.clear();
    }
}

/// Evaluates one entrypoint. `Undefined` is an answer too.
pub(crate) fn evaluate(
    code: &Code,
    data: &Value,
    input: &Value,
    entrypoint: usize,
    buffers: &mut Buffers,
) -> Result<Value, Failed> {
    let mut run = Run::new(code, data, input, buffers);
    let answer = run.entrypoint(entrypoint);
    let rule = run.rule;
    buffers.clear();
    answer.map_err(|fault| Failed {
        failure: fault.explained(code),
        rule: rule.and_then(|rule| code.named(rule)),
    })
}

/// How many instructions an evaluation takes.
pub(crate) fn instructions(
    code: &Code,
    data: &Value,
    input: &Value,
    entrypoint: usize,
) -> Result<usize, Failure> {
    let mut buffers = Buffers::default();
    let mut run = Run::new(code, data, input, &mut buffers);
    let answer = run.entrypoint(entrypoint);
    let left = run.left;
    answer.map_err(|fault| fault.explained(code))?;
    Ok(MOST_INSTRUCTIONS - left)
}

/// One evaluation.
struct Run<'p> {
    code: &'p Code,
    data: &'p Value,
    input: &'p Value,
    buffers: &'p mut Buffers,
    /// Where the registers of the rule that is evaluated begin.
    base: usize,
    /// Where its frames begin.
    floor: usize,
    /// Which it is.
    rule: Option<u16>,
    /// Whether a body of it was run, and left something in its registers.
    used: bool,
    /// How many rules called each other to get here.
    depth: usize,
    /// How many instructions are left.
    left: usize,
    started: Clock,
}

/// How a body came to its end.
enum Ended {
    Holds,
    Fails,
    Returned(Value),
}

/// What an instruction says of the conditions of its body: they hold so far, or one does not.
type Holds = Result<bool, Fault>;

impl<'p> Run<'p> {
    fn new(code: &'p Code, data: &'p Value, input: &'p Value, buffers: &'p mut Buffers) -> Self {
        buffers.clear();
        let rules = code.program.rule_infos.len();
        if buffers.answers.len() < rules {
            buffers.answers.resize(rules, None);
        }
        let window = usize::from(code.program.dispatch_window_size);
        buffers.registers.resize(window, Value::Undefined);
        Self {
            code,
            data,
            input,
            buffers,
            base: 0,
            floor: 0,
            rule: None,
            used: false,
            depth: 0,
            left: MOST_INSTRUCTIONS,
            started: Clock::now(),
        }
    }

    fn entrypoint(&mut self, entrypoint: usize) -> Result<Value, Fault> {
        let start = self.code.entrypoint(entrypoint)?;
        match self.body(start)? {
            // Whoever reads the answer goes through all of it.
            Ended::Returned(value) if weight::is_bounded([&value]) => Ok(value),
            Ended::Returned(_) => Err(Fault::Weight),
            Ended::Holds | Ended::Fails => Err(Fault::Internal),
        }
    }

    /// Executes instructions from one on, until the body that they are of ends.
    fn body(&mut self, start: usize) -> Result<Ended, Fault> {
        use Instruction as I;
        let code = self.code;
        let mut at = start;
        loop {
            let instruction = code.program.instructions.get(at).ok_or(Fault::Internal)?;
            self.tick()?;
            at += 1;
            let holds = match *instruction {
                I::Load { dest, literal_idx } => self.set(dest, code.literal(literal_idx)?.clone()),
                I::LoadTrue { dest } => self.set(dest, Value::Bool(true)),
                I::LoadFalse { dest } => self.set(dest, Value::Bool(false)),
                I::LoadNull { dest } => self.set(dest, Value::Null),
                I::LoadBool { dest, value } => self.set(dest, Value::Bool(value)),
                I::LoadData { dest } => self.set(dest, self.data.clone()),
                I::LoadInput { dest } => self.set(dest, self.input.clone()),
                I::Move { dest, src } => self.bind(dest, src),
                I::Add { dest, left, right } => self.calculate(Operator::Add, dest, left, right),
                I::Sub { dest, left, right } => self.calculate(Operator::Sub, dest, left, right),
                I::Mul { dest, left, right } => self.calculate(Operator::Mul, dest, left, right),
                I::Div { dest, left, right } => self.calculate(Operator::Div, dest, left, right),
                I::Mod { dest, left, right } => self.calculate(Operator::Mod, dest, left, right),
                I::Eq { dest, left, right } => self.compare(dest, left, right, |a, b| a == b),
                I::Ne { dest, left, right } => self.compare(dest, left, right, |a, b| a != b),
                I::Lt { dest, left, right } => self.compare(dest, left, right, |a, b| a < b),
                I::Le { dest, left, right } => self.compare(dest, left, right, |a, b| a <= b),
                I::Gt { dest, left, right } => self.compare(dest, left, right, |a, b| a > b),
                I::Ge { dest, left, right } => self.compare(dest, left, right, |a, b| a >= b),
                I::Not { dest, operand } => self.negate(dest, operand),
                I::AssertEq { left, right } => self.equal(left, right),
                I::Guard { register, mode } => self.guard(register, mode),
                I::BuiltinCall { params_index } => self.call_builtin(params_index),
                I::FunctionCall { params_index } => self.call_function(params_index),
                I::CallRule { dest, rule_index } => self.call_rule(dest, rule_index),
                I::RuleInit { .. } => Ok(true),
                I::VirtualDataDocumentLookup { params_index } => self.look_up(params_index),
                I::Index {
                    dest,
                    container,
                    key,
                } => self.index(dest, container, key),
                I::IndexLiteral {
                    dest,
                    container,
                    literal_idx,
                } => {
                    let found = &self.get(container)?[code.literal(literal_idx)?];
                    let found = found.clone();
                    self.set(dest, found)
                }
                I::ChainedIndex { params_index } => self.follow(params_index),
                I::ObjectSet { obj, key, value } => self.insert(obj, key, value),
                I::ObjectCreate { params_index } => self.create_object(params_index),
                I::ArrayNew { dest } => self.set(dest, Value::new_array()),
                I::ArrayPush { arr, value } => self.push(arr, value),
                I::ArrayCreate { params_index } => self.create_array(params_index),
                I::SetNew { dest } => self.set(dest, Value::new_set()),
                I::SetAdd { set, value } => self.add(set, value),
                I::SetCreate { params_index } => self.create_set(params_index),
                I::Contains {
                    dest,
                    collection,
                    value,
                } => self.contains(dest, collection, value),
                I::Count { dest, collection } => self.count(dest, collection),
                I::LoopStart { params_index } => self.start_loop(params_index, &mut at),
                I::LoopNext { .. } => self.next_round(&mut at),
                I::ComprehensionBegin { params_index } => self.begin_comprehension(params_index),
                I::ComprehensionYield { value_reg, key_reg } => self.collect(value_reg, key_reg),
                I::ComprehensionEnd {} => self.end_comprehension(),
                I::Return { value } => return Ok(Ended::Returned(self.get(value)?.clone())),
                I::DestructuringSuccess {} | I::RuleReturn {} => return Ok(Ended::Holds),
                // What other languages compile to.
                _ => Err(Fault::Internal),
            }?;
            if !holds && !self.give_up(&mut at)? {
                return Ok(Ended::Fails);
            }
        }
    }

    /// Counts an instruction, and looks at the clock now and then.
    fn tick(&mut self) -> Result<(), Fault> {
        self.left = self.left.checked_sub(1).ok_or(Fault::Instructions)?;
        if self.left.is_multiple_of(CHECK_INTERVAL) && self.started.elapsed() > LONGEST {
            return Err(Fault::Time);
        }
        Ok(())
    }

    fn get(&self, register: u8) -> Result<&Value, Fault> {
        let at = self.base + usize::from(register);
        self.buffers.registers.get(at).ok_or(Fault::Internal)
    }

    fn slot(&mut self, register: u8) -> Result<&mut Value, Fault> {
        let at = self.base + usize::from(register);
        self.buffers.registers.get_mut(at).ok_or(Fault::Internal)
    }

    fn set(&mut self, register: u8, value: Value) -> Holds {
        *self.slot(register)? = value;
        Ok(true)
    }

    /// Takes a value out, so that it can be changed where it is.
    fn take(&mut self, register: u8) -> Result<Value, Fault> {
        Ok(mem::replace(self.slot(register)?, Value::Undefined))
    }

    /// `x := y`, and what a body of a rule says. Nothing undefined is bound.
    fn bind(&mut self, dest: u8, source: u8) -> Holds {
        let value = self.get(source)?.clone();
        if value == Value::Undefined {
            return Ok(false);
        }
        // The first register holds what the rule says: a loop must not say two things.
        let said = self.get(dest)?;
        if dest == 0 && *said != Value::Undefined {
            self.agree(said, &value)?;
        }
        self.set(dest, value)
    }

    /// That two things which a rule says are the same.
    fn agree(&self, one: &Value, other: &Value) -> Result<(), Fault> {
        if !weight::are_comparable(one, other) {
            return Err(Fault::Weight);
        }
        if one == other {
            Ok(())
        } else {
            Err(self.conflict())
        }
    }

    fn compare(
        &mut self,
        dest: u8,
        left: u8,
        right: u8,
        holds: fn(&Value, &Value) -> bool,
    ) -> Holds {
        let (left, right) = (self.get(left)?, self.get(right)?);
        let answer = match (left, right) {
            (Value::Undefined, _) | (_, Value::Undefined) => Value::Undefined,
            _ if !weight::are_comparable(left, right) => return Err(Fault::Weight),
            _ => Value::Bool(holds(left, right)),
        };
        self.set(dest, answer)
    }

    fn negate(&mut self, dest: u8, operand: u8) -> Holds {
        let negated = !is_true(self.get(operand)?);
        self.set(dest, Value::Bool(negated))
    }

    fn equal(&self, left: u8, right: u8) -> Holds {
        let (left, right) = (self.get(left)?, self.get(right)?);
        if !weight::are_comparable(left, right) {
            return Err(Fault::Weight);
        }
        Ok(*left != Value::Undefined && left == right)
    }

    fn guard(&self, register: u8, mode: GuardMode) -> Holds {
        let value = self.get(register)?;
        Ok(match mode {
            GuardMode::Not => !is_true(value),
            GuardMode::Condition => is_true(value),
            GuardMode::NotUndefined => *value != Value::Undefined,
        })
    }
}

/// Neither false nor undefined.
fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Bool(false) | Value::Undefined)
}
