//! Whether a task's grants cover what a call asks for.

use serde_json::Value;

use crate::{Access, ArgumentPointer, Asked, Grant, ToolName};

/// What a call asks for, as far as grants go.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The tool.
    pub tool: &'a ToolName,
    /// Its environment.
    pub environment: Option<&'a str>,
    /// None for a tool's lifecycle: without it a tool can't be used at all, so a grant covers it whatever operations, access
    /// classes and arguments it is for.
    pub operation: Option<WantedOperation<'a>>,
}

/// One thing a tool can do.
#[derive(Clone, Copy, Debug)]
pub struct WantedOperation<'a> {
    /// Its access class.
    pub access: Access,
    /// It, in each form that patterns may be written in.
    pub forms: &'a [Asked<'a>],
    /// With what.
    pub arguments: Arguments<'a>,
}

/// What is known of a call's arguments.
#[derive(Clone, Copy, Debug)]
pub enum Arguments<'a> {
    /// They were not read, or readers may take them from elsewhere.
    Unknown,
    /// All of them.
    Known {
        /// None if there are none.
        value: Option<&'a Value>,
        /// Keys that stand elsewhere, where a reader might look for arguments, too.
        elsewhere: &'a [&'a str],
    },
}

impl Arguments<'_> {
    /// The first of some limits that does not hold.
    fn unmet(self, grant: &Grant) -> Option<Unmet> {
        let Self::Known { value, elsewhere } = self else {
            return (!grant.arguments.is_empty()).then_some(Unmet::Unknown);
        };
        let none = Value::Object(serde_json::Map::new());
        let value = value.unwrap_or(&none);
        let mut limits = grant.arguments.iter();
        let broken = limits.find(|(pointer, condition)| {
            elsewhere.iter().any(|key| pointer.is_named_by(key))
                || !condition.holds(pointer.find(value))
        });
        broken.map(|(pointer, _)| Unmet::Argument(pointer.clone()))
    }
}

/// Why no grant covers a call that one would cover but for its limits. It quotes the grant, nothing of the call.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unmet {
    /// An argument is not what it must be, or is said in more than one way.
    #[error("the grant limits the argument `{0}`")]
    Argument(ArgumentPointer),
    /// The arguments are not known.
    #[error("the grant limits arguments, and those of this call are not read in one way")]
    Unknown,
    /// The task carries a label.
    #[error("the grant is for a task without the label `{0}`")]
    Label(String),
}

impl Unmet {
    /// The code of it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Argument(_) => "argument_limit",
            Self::Unknown => "arguments_unknown",
            Self::Label(_) => "label_limit",
        }
    }
}

/// The grants that cover a call as long as its task carries none of their labels.
#[derive(Debug)]
#[must_use]
pub struct Cover {
    /// Their places; none where one of them holds whatever the labels.
    places: Vec<usize>,
}

impl Cover {
    /// Finds what covers a call. None in the error where nothing would, whatever arguments and labels.
    pub(crate) fn find(
        grants: &[Grant],
        wanted: &Wanted<'_>,
        carries: impl Fn(&str) -> bool,
    ) -> Result<Self, Option<Unmet>> {
        let mut places = Vec::new();
        let mut first = None;
        for (place, grant) in grants.iter().enumerate() {
            if !grant.reaches(wanted) {
                continue;
            }
            let arguments = wanted.operation.map(|operation| operation.arguments);
            let unmet = arguments
                .and_then(|arguments| arguments.unmet(grant))
                .or_else(|| unmet_label(grant, &carries));
            match unmet {
                Some(unmet) => first = first.or(Some(unmet)),
                None if grant.unless_labels.is_empty() => return Ok(Self { places: Vec::new() }),
                None => places.push(place),
            }
        }
        if places.is_empty() {
            return Err(first);
        }
        Ok(Self { places })
    }

    /// Whether it still holds, by the labels that the task carries by now.
    pub(crate) fn check(
        &self,
        grants: &[Grant],
        carries: impl Fn(&str) -> bool,
    ) -> Result<(), Unmet> {
        let mut first = None;
        for grant in self.places.iter().filter_map(|place| grants.get(*place)) {
            match unmet_label(grant, &carries) {
                None => return Ok(()),
                Some(unmet) => first = first.or(Some(unmet)),
            }
        }
        first.map_or(Ok(()), Err)
    }
}

fn unmet_label(grant: &Grant, carries: impl Fn(&str) -> bool) -> Option<Unmet> {
    let mut labels = grant.unless_labels.iter();
    let carried = labels.find(|label| carries(label));
    carried.map(|label| Unmet::Label(label.clone()))
}

#[cfg(test)]
mod tests;
