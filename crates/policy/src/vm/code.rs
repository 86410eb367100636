//! A compiled policy as the machine reads it: its program, with every builtin found beforehand.

use std::sync::Arc;

use regorus::Value;
use regorus::rvm::instructions::{BuiltinCallParams, InstructionData};
use regorus::rvm::program::BuiltinInfo;
use regorus::rvm::{Instruction, Program};

use super::Fault;
use super::builtins::{self, Builtin, Unknown};

/// A program that can be run.
pub(crate) struct Code {
    pub(super) program: Program,
    /// By the program's own indices.
    pub(super) builtins: Vec<Builtin>,
    /// Where rules are in `data`: their indices, below the names of their packages.
    pub(super) rules: Value,
    /// Where each entrypoint begins.
    entrypoints: Vec<usize>,
}

impl Code {
    /// Finds what the program calls.
    pub(crate) fn new(mut program: Program) -> Result<Self, Unknown> {
        call_own(&mut program)?;
        let names = program.builtin_info_table.iter();
        let builtins = names.map(|builtin| builtins::find(&builtin.name));
        Ok(Self {
            builtins: builtins.collect::<Result<_, _>>()?,
            rules: program.rule_tree["data"].clone(),
            entrypoints: program.entry_points.values().copied().collect(),
            program,
        })
    }

    pub(super) fn entrypoint(&self, index: usize) -> Result<usize, Fault> {
        let at = self.entrypoints.get(index).copied();
        at.ok_or(Fault::Internal)
    }

    /// The name of a rule. What is composed for a tool goes by the name of what it stands for.
    pub(super) fn named(&self, rule: u16) -> Option<Arc<str>> {
        let name = self
            .program
            .rule_infos
            .get(usize::from(rule))?
            .name
            .as_str();
        let is_composed = name.starts_with("data.remit.composed.");
        Some(
            if is_composed {
                "data.remit.decision"
            } else {
                name
            }
            .into(),
        )
    }

    pub(super) fn literal(&self, index: u16) -> Result<&Value, Fault> {
        let literal = self.program.literals.get(usize::from(index));
        literal.ok_or(Fault::Internal)
    }

    /// What instructions with many operands refer to.
    pub(super) fn data(&self) -> &InstructionData {
        &self.program.instruction_data
    }
}

/// Turns the six instructions that ask a host, which is how builtins are called that regorus does not know, into
/// a call of the builtin and nothing else.
fn call_own(program: &mut Program) -> Result<(), Unknown> {
    for at in 0..program.instructions.len() {
        let Some(asked) = program.instructions.get(at..).and_then(asked) else {
            continue;
        };
        let arguments = program
            .instruction_data
            .get_array_create_params(asked.arguments);
        let elements = arguments.map(|arguments| arguments.elements.clone());
        let name = program.literals.get(usize::from(asked.name));
        let (Some(elements), Some(Value::String(name))) = (elements, name.cloned()) else {
            return Err(Unknown::new("?"));
        };
        let unknown = || Unknown::new(&name);
        let mut args = [0; 8];
        let places = args.get_mut(..elements.len()).ok_or_else(unknown)?;
        places.copy_from_slice(&elements);
        let builtin_index = declare(program, &name).ok_or_else(unknown)?;
        let params_index = program.add_builtin_call_params(BuiltinCallParams {
            dest: asked.dest,
            builtin_index,
            num_args: u8::try_from(elements.len()).map_err(|_| unknown())?,
            args,
        });
        let places = program.instructions.iter_mut().skip(at).take(6);
        for (number, place) in places.enumerate() {
            *place = match number {
                0 => Instruction::BuiltinCall { params_index },
                // Its register is free.
                _ => Instruction::LoadNull {
                    dest: asked.scratch,
                },
            };
        }
    }
    Ok(())
}

/// What a host is asked.
struct Asked {
    arguments: u16,
    name: u16,
    dest: u8,
    scratch: u8,
}

fn asked(instructions: &[Instruction]) -> Option<Asked> {
    use Instruction as I;
    match *instructions.first_chunk()? {
        [
            I::ArrayCreate { params_index },
            I::Move { .. },
            I::Not { .. },
            I::AnyOfNext { .. },
            I::Load { literal_idx, .. },
            I::HostAwait { dest, id, .. },
        ] => Some(Asked {
            arguments: params_index,
            name: literal_idx,
            dest,
            scratch: id,
        }),
        _ => None,
    }
}

/// The index of a builtin in the program's own table, where it is added if it is new.
fn declare(program: &mut Program, name: &str) -> Option<u16> {
    let table = &mut program.builtin_info_table;
    let known = table.iter().position(|builtin| builtin.name == name);
    let index = known.unwrap_or_else(|| {
        table.push(BuiltinInfo {
            name: name.to_owned(),
            num_args: 0,
        });
        table.len() - 1
    });
    u16::try_from(index).ok()
}
