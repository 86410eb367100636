//! What ends an evaluation without an answer, small enough to be handed on in a register.

use super::Code;
use super::builtins::Operator;
use crate::machine::Failure;

/// What every loop asks of its collection. A loop over a text where a list was meant would hold for nothing, and a
/// `deny` with such a loop would be silent, whatever the agent sends.
pub(crate) const LOOP: &str = "some … in";

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// More instructions than an evaluation may take.
    Instructions,
    /// Longer than it may take.
    Time,
    /// Rules that call each other deeper than they may.
    Depth,
    /// A pattern that is too large.
    Regex,
    /// A builtin of the program, by its index.
    Builtin(u16),
    /// Arithmetic.
    Operator(Operator),
    /// A loop over what is no collection.
    Loop,
    /// A rule that says two things, by its index.
    Conflict(Option<u16>),
    /// More in a value than is gone through.
    Weight,
    /// Something that no compiled policy does.
    Internal,
}

impl Fault {
    /// With the names that stand in the policy.
    pub(super) fn explained(self, code: &Code) -> Failure {
        match self {
            Self::Instructions => Failure::Instructions,
            Self::Time => Failure::Time,
            Self::Depth => Failure::Depth,
            Self::Regex => Failure::Regex,
            Self::Builtin(index) => match code.builtins.get(usize::from(index)) {
                Some(builtin) => Failure::Builtin(builtin.name),
                None => Failure::Internal,
            },
            Self::Operator(operator) => Failure::Builtin(operator.name()),
            Self::Loop => Failure::Builtin(LOOP),
            Self::Conflict(rule) => {
                let rules = &code.program.rule_infos;
                let rule = rule.and_then(|rule| rules.get(usize::from(rule)));
                Failure::Conflict(rule.map_or_else(String::new, |rule| rule.name.clone()))
            }
            Self::Weight => Failure::Weight,
            Self::Internal => Failure::Internal,
        }
    }
}
