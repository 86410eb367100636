//! What do both engines say to OPA's own cases?
//!
//! A case is modules, data and input, a query, and what OPA answers. The reference evaluates the query as it is; the
//! machine evaluates a rule that says what the query asks for.

mod answer;
mod case;

use std::time::Duration;

pub use answer::Verdict;
use answer::{Answer, Trouble};
use case::{Case, Want};

use crate::bounded;
use crate::check;
use crate::source::Source;
use crate::wanted_engine::WantedEngine;

/// How long one engine may take for one case.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a policy of the gateway must be called and may read, which a case of OPA's can't know.
const CONVENTIONS: [&str; 3] = ["package", "rule-kind", "unknown-field"];

/// What became of one case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// What OPA calls the case.
    pub note: String,
    /// What the reference made of it.
    pub reference: Verdict,
    /// What the machine made of it; none, if the query is of a form that no rule can answer.
    pub machine: Option<Verdict>,
    /// The code of what `policy check` refuses the modules for.
    pub refused: Option<String>,
    /// How the engines differ, where both can run the case.
    pub difference: Option<String>,
}

/// Runs every case of a file.
///
/// # Errors
///
/// Says why the file is no file of cases.
pub fn run(text: &str) -> Result<Vec<Outcome>, String> {
    let cases = case::read(text).map_err(|error| error.to_string())?;
    Ok(cases.iter().map(judge).collect())
}

fn judge(case: &Case) -> Outcome {
    let reference = answer(case, answer::of_reference);
    let machine = case.asked().map(|_| answer(case, answer::of_machine));
    let difference = machine
        .as_ref()
        .and_then(|machine| difference(&reference, machine));
    Outcome {
        note: case.note.clone(),
        reference: case.verdict(&reference),
        refused: refused(case).or_else(|| match &machine {
            Some(Answer::Error(Trouble::Compile, _)) => Some("compile".to_owned()),
            _ => None,
        }),
        machine: machine.map(|machine| case.verdict(&machine)),
        difference,
    }
}

/// Asks one engine, which may panic or never end.
fn answer(case: &Case, ask: fn(&Case) -> Answer) -> Answer {
    let case = case.clone();
    bounded::run(DEADLINE, move || ask(&case))
        .unwrap_or_else(|overrun| Answer::Error(Trouble::Overrun, overrun.to_string()))
}

/// How two answers differ. Which error it is does not matter, and what was not compiled was not answered. That the
/// machine is strict about loops is meant: a `deny` would be silent else, whatever an agent sends for a list.
fn difference(reference: &Answer, machine: &Answer) -> Option<String> {
    let untold = [Trouble::Compile, Trouble::Builtin, Trouble::Loop];
    match (reference, machine) {
        (_, Answer::Error(trouble, _)) if untold.contains(trouble) => None,
        (Answer::Values(one), Answer::Values(other)) if answer::equal(one, other) => None,
        (Answer::Error(..), Answer::Error(..)) => None,
        _ => Some(format!("reference {reference}, machine {machine}")),
    }
}

/// The code of the first finding that is about the language and not about what a policy is called.
fn refused(case: &Case) -> Option<String> {
    let sources = case
        .modules
        .iter()
        .enumerate()
        .map(|(number, text)| Source {
            path: format!("case/{number}.rego").into(),
            text: text.clone(),
        });
    let sources: Vec<Source> = sources.collect();
    let findings = bounded::run(DEADLINE, move || {
        check::check(&[], &sources, WantedEngine::Machine).err()
    });
    let findings = match findings {
        Ok(findings) => findings.unwrap_or_default(),
        Err(_) => return Some("overrun".to_owned()),
    };
    let mut codes = findings.iter().map(|finding| finding.code);
    let code = codes.find(|code| !CONVENTIONS.contains(code));
    code.map(str::to_owned)
}

impl Case {
    /// What an answer is worth by what OPA says.
    fn verdict(&self, answer: &Answer) -> Verdict {
        match (&self.want(), answer) {
            (_, Answer::Error(Trouble::Overrun, _)) => Verdict::Overrun,
            (Want::Error, Answer::Values(_)) => Verdict::Silent,
            (Want::Defined(defined), Answer::Values(values)) if values.is_empty() == *defined => {
                Verdict::Wrong
            }
            (Want::Defined(_), Answer::Values(_)) => Verdict::Pass,
            (Want::Values(want), Answer::Values(values)) => {
                let mut sorted = (want.clone(), values.clone());
                if self.sort_bindings {
                    sorted.0.sort();
                    sorted.1.sort();
                }
                if answer::equal(&sorted.0, &sorted.1) {
                    Verdict::Pass
                } else {
                    Verdict::Wrong
                }
            }
            (_, Answer::Error(Trouble::Syntax, _)) if !self.wants_static_error() => Verdict::Syntax,
            (_, Answer::Error(Trouble::Builtin, _)) => Verdict::Builtin,
            (_, Answer::Error(Trouble::Compile, _)) if !self.wants_static_error() => {
                Verdict::Compile
            }
            (Want::Error, Answer::Error(..)) => Verdict::Pass,
            (_, Answer::Error(Trouble::Strict | Trouble::Loop, _)) => Verdict::Strict,
            (_, Answer::Error(..)) => Verdict::Error,
        }
    }
}
