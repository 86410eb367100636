//! A compiled policy as the machine reads it: its program, with every builtin found beforehand.

use regorus::Value;
use regorus::rvm::Program;
use regorus::rvm::instructions::InstructionData;

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
    pub(crate) fn new(program: Program) -> Result<Self, Unknown> {
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

    pub(super) fn literal(&self, index: u16) -> Result<&Value, Fault> {
        let literal = self.program.literals.get(usize::from(index));
        literal.ok_or(Fault::Internal)
    }

    /// What instructions with many operands refer to.
    pub(super) fn data(&self) -> &InstructionData {
        &self.program.instruction_data
    }
}
