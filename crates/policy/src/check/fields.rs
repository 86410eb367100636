//! Checks references: fields of `input` that do not exist would be silent, and so would others' rules.

use super::Parsed;
use super::reading::{Reading, Reference};
use crate::fields::{CALL, Fields};
use crate::finding::Finding;

/// The fields of `input` when a task is to be opened. What `task` holds is the task book's to say.
const ADMISSION: [(&str, &[&str]); 5] = [
    ("agent", &["id", "method", "issuer", "claims"]),
    ("operator", &["name", "role"]),
    ("owner", &["subject", "issuer", "claims", "actor"]),
    ("task", &[]),
    ("transaction", &["issuer", "txn", "claims", "actor"]),
];

/// The fields of a call's input that one file reads.
pub(super) fn read(reading: &Reading) -> Fields {
    let references = reading.rules.iter().flat_map(|rule| &rule.references);
    references
        .map(|reference| Fields::of(&reference.path))
        .fold(Fields::NONE, Fields::and)
}

/// Checks the references of one file. Helpers and tests may read any input.
pub(super) fn check(module: &Parsed, reading: &Reading, all: &[Parsed]) -> Vec<Finding> {
    let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
    let fields: &[(&str, &[&str])] = match package.as_slice() {
        _ if module.is_test => return Vec::new(),
        ["remit", "admit", ..] => &ADMISSION,
        // The first is given whatever its callers have, the second an event.
        ["remit", "lib", ..] | ["system", ..] => &[],
        _ => &CALL,
    };
    let references = reading.rules.iter().flat_map(|rule| &rule.references);
    references
        .filter_map(|reference| {
            field(reference, fields).or_else(|| foreign(module, reference, all))
        })
        .collect()
}

fn field(reference: &Reference, fields: &[(&str, &[&str])]) -> Option<Finding> {
    let mut path = reference.path.iter().map(String::as_str);
    if fields.is_empty() || path.next()? != "input" {
        return None;
    }
    let first = path.next()?;
    let unknown = |name: &str, known: Vec<&str>| {
        let last = name.rsplit('.').next().unwrap_or(name);
        let nearest = super::nearest(last, &known);
        let meant = nearest.map(|meant| format!("; did you mean `{meant}`?"));
        let message = format!(
            "`input` has no `{name}` here{} There is `{}`",
            meant.unwrap_or_else(|| ".".to_owned()),
            known.join("`, `")
        );
        Some(Finding::at("unknown-field", &reference.span, message))
    };
    let Some((_, inner)) = fields.iter().find(|(field, _)| *field == first) else {
        return unknown(first, fields.iter().map(|(field, _)| *field).collect());
    };
    let second = path.next()?;
    if inner.is_empty() || inner.contains(&second) {
        return None;
    }
    unknown(&format!("{first}.{second}"), inner.to_vec())
}

/// A package reads data, helpers and its own rules: one tool's mistake can't fail another's call.
fn foreign(module: &Parsed, reference: &Reference, all: &[Parsed]) -> Option<Finding> {
    let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
    let ["data", rest @ ..] = path.as_slice() else {
        return None;
    };
    let own = rest.len() > module.package.len()
        && module
            .package
            .iter()
            .zip(rest)
            .all(|(one, other)| one == other);
    let is_package = all.iter().any(|other| {
        let mut package = other.package.iter();
        rest.len() <= other.package.len()
            && rest
                .iter()
                .all(|word| package.next().is_some_and(|part| part == word))
    });
    let allowed = match rest {
        _ if is_package => false,
        [] => false,
        ["remit", "lib", _, _, ..] => true,
        ["remit" | "system", ..] => own,
        _ => true,
    };
    (!allowed).then(|| {
        let message = "a package reads data, `data.remit.lib.<name>.<rule>` and its own rules; never a package as a whole";
        Finding::at("foreign-package", &reference.span, message)
    })
}
