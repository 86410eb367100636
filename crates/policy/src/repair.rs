//! Puts into a compiled program the guards that its compiler leaves out: nothing undefined is bound, collected
//! or passed, and nothing but a collection is looped over.
//!
//! Without them `allow if { owner := input.task.none; not owner == "eve" }` holds on the data path, since
//! `:=` takes "undefined" for a value; so do comprehensions, keyed rules and arguments called `_`.
//! (regorus 0.14.1, `compiler/destructuring.rs`, `PlanContext::require_defined_values`, and `queries.rs`, `emit_context_yield`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use regorus::rvm::instructions::{BuiltinCallParams, GuardMode};
use regorus::rvm::{Instruction, Program};

use crate::watch;

/// A program that is too large for the guards it needs.
#[derive(Debug, thiserror::Error)]
#[error(
    "the policy has more than {} instructions; split it",
    Program::MAX_INSTRUCTIONS
)]
pub(crate) struct TooLarge;

/// Adds the guards, and moves every jump along.
pub(crate) fn repair(program: &mut Program) -> Result<(), TooLarge> {
    let mut guards = missing(program);
    for (at, question) in questions(program)? {
        guards.entry(at).or_default().push(question);
    }
    let old = std::mem::take(&mut program.instructions);
    let spans = std::mem::take(&mut program.instruction_spans);
    let mut spans = spans.into_iter();
    // Where each old instruction went: to the first guard before it, if it has any.
    let mut moved = Vec::with_capacity(old.len().saturating_add(1));
    for (at, instruction) in old.into_iter().enumerate() {
        moved.push(program.instructions.len());
        let span = spans.next().flatten();
        for guard in guards.get(&at).into_iter().flatten() {
            program.instructions.push(*guard);
            program.instruction_spans.push(span.clone());
        }
        program.instructions.push(instruction);
        program.instruction_spans.push(span);
    }
    moved.push(program.instructions.len());
    relocate(program, &Moved(moved))?;
    lighten(program);
    Ok(())
}

/// Empties what the VM copies at every call of a rule and never reads: names, and lists that say nothing.
/// (regorus 0.14.1, `rvm/vm/rules.rs`: `rule_infos.get(…).clone()`; what is not in a list is `None` and `false`.)
fn lighten(program: &mut Program) {
    for rule in &mut program.rule_infos {
        rule.name = String::new();
        if let Some(function) = &mut rule.function_info {
            function.param_names = Vec::new();
        }
        if rule.destructuring_blocks.iter().all(Option::is_none) {
            rule.destructuring_blocks = Vec::new();
        }
        if !rule.else_bodies.iter().flatten().any(|is_else| *is_else) {
            rule.else_bodies = Vec::new();
        }
    }
}

/// What every loop asks of its collection, before it starts.
fn questions(program: &mut Program) -> Result<Vec<(usize, Instruction)>, TooLarge> {
    let loops: Vec<(usize, u16)> = program
        .instructions
        .iter()
        .enumerate()
        .filter_map(|(at, instruction)| match *instruction {
            Instruction::LoopStart { params_index } => Some((at, params_index)),
            _ => None,
        })
        .collect();
    let builtin_index = watch::declare(program, watch::LOOP, 1).map_err(|_| TooLarge)?;
    let mut questions = Vec::with_capacity(loops.len());
    for (at, params_index) in loops {
        let params = program.instruction_data.get_loop_params(params_index);
        let (collection, result) = params
            .map(|params| (params.collection, params.result_reg))
            .ok_or(TooLarge)?;
        // The loop itself clears the register of its result as it starts: the answer may stand there until then.
        let params_index = program.add_builtin_call_params(BuiltinCallParams {
            dest: result,
            builtin_index,
            num_args: 1,
            args: [collection, 0, 0, 0, 0, 0, 0, 0],
        });
        questions.push((at, Instruction::BuiltinCall { params_index }));
    }
    Ok(questions)
}

/// The guards to put before each instruction.
fn missing(program: &Program) -> BTreeMap<usize, Vec<Instruction>> {
    let mut guards: BTreeMap<usize, Vec<Instruction>> = BTreeMap::new();
    let mut guard = |at: usize, registers: &[u8]| {
        let guard = |register: &u8| Instruction::Guard {
            register: *register,
            mode: GuardMode::NotUndefined,
        };
        let guards = guards.entry(at).or_default();
        guards.extend(registers.iter().map(guard));
    };
    for rule in &program.rule_infos {
        let arguments = rule
            .function_info
            .as_ref()
            .map_or(0, |info| info.num_params);
        // A function's arguments stand in the registers after the first.
        let arguments: Vec<u8> = (1..=arguments)
            .filter_map(|register| u8::try_from(register).ok())
            .collect();
        for body in rule.definitions.iter().flatten() {
            guard(*body as usize, &arguments);
        }
    }
    for (at, instruction) in program.instructions.iter().enumerate() {
        match *instruction {
            Instruction::Move { dest, .. } => guard(at.saturating_add(1), &[dest]),
            Instruction::ObjectSet { key, value, .. } => guard(at, &[key, value]),
            Instruction::ComprehensionYield { value_reg, key_reg } => {
                guard(at, &[value_reg]);
                guard(at, key_reg.as_slice());
            }
            _ => {}
        }
    }
    guards
}

/// Where the old instructions went.
struct Moved(Vec<usize>);

impl Moved {
    fn to<T: TryFrom<usize>>(&self, old: usize) -> Result<T, TooLarge> {
        let new = self.0.get(old).ok_or(TooLarge)?;
        T::try_from(*new).map_err(|_| TooLarge)
    }
}

/// Moves everything along that points at an instruction.
fn relocate(program: &mut Program, moved: &Moved) -> Result<(), TooLarge> {
    for instruction in &mut program.instructions {
        if let Instruction::LoopNext {
            body_start,
            loop_end,
        } = instruction
        {
            *body_start = moved.to(usize::from(*body_start))?;
            *loop_end = moved.to(usize::from(*loop_end))?;
        }
    }
    for params in &mut program.instruction_data.loop_params {
        params.body_start = moved.to(usize::from(params.body_start))?;
        params.loop_end = moved.to(usize::from(params.loop_end))?;
    }
    for params in &mut program.instruction_data.comprehension_begin_params {
        params.body_start = moved.to(usize::from(params.body_start))?;
        params.comprehension_end = moved.to(usize::from(params.comprehension_end))?;
    }
    for entrypoint in program.entry_points.values_mut() {
        *entrypoint = moved.to(*entrypoint)?;
    }
    program.main_entry_point = moved.to(program.main_entry_point as usize)?;
    for rule in &mut program.rule_infos {
        let definitions = rule.definitions.iter().map(|bodies| {
            let bodies = bodies.iter().map(|body| moved.to(*body as usize));
            bodies.collect::<Result<Vec<u32>, _>>()
        });
        rule.definitions = Arc::new(definitions.collect::<Result<_, _>>()?);
        for block in rule.destructuring_blocks.iter_mut().flatten() {
            *block = moved.to(*block as usize)?;
        }
    }
    Ok(())
}
