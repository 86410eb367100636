//! What patterns and references look like that an engine takes for something else.

use regorus::Value;
use regorus::unstable::{Expr, Ref, RuleAssign, RuleBody, Span};

use super::language::Oddity;
use super::scopes::{parts, variable};

/// What is odd about the keys of an object.
pub(super) fn keys(fields: &[(Span, Ref<Expr>, Ref<Expr>)]) -> Option<Oddity> {
    let mut known: Vec<&Value> = Vec::new();
    for (_, key, _) in fields {
        match key.as_ref() {
            Expr::String { value, .. }
            | Expr::RawString { value, .. }
            | Expr::Number { value, .. }
            | Expr::Bool { value, .. }
            | Expr::Null { value, .. } => {
                if known.contains(&value) {
                    return Some(Oddity::RepeatedKey);
                }
                known.push(value);
            }
            _ if fields.len() > 1 => return Some(Oddity::ComputedKeys),
            _ => {}
        }
    }
    None
}

/// Whether there is an object in a pattern.
pub(super) fn has_object(pattern: &Expr) -> bool {
    match pattern {
        Expr::Object { .. } => true,
        Expr::Array { items, .. } => items.iter().any(|item| has_object(item)),
        _ => false,
    }
}

/// Whether a side of `=` is a pattern with an object: one that has something to find, or one in a list.
pub(super) fn is_object_pattern(side: &Expr, is_bound: &dyn Fn(&str) -> bool) -> bool {
    match side {
        Expr::Object { .. } => has_free(side, is_bound),
        Expr::Array { .. } => has_object(side) && has_free(side, is_bound),
        _ => false,
    }
}

/// Whether a name in it is not bound.
fn has_free(expression: &Expr, is_bound: &dyn Fn(&str) -> bool) -> bool {
    match variable(expression) {
        Some(name) => !is_bound(name) && name != "input" && name != "data",
        None => parts(expression)
            .into_iter()
            .any(|part| has_free(part, is_bound)),
    }
}

/// Whether the last key of a reference is looked for: nothing else names it.
pub(super) fn seeks(reference: &Expr, is_named: &dyn Fn(&str) -> bool) -> bool {
    let Expr::RefBrack { index, .. } = reference else {
        return false;
    };
    is_sought(index, is_named)
}

fn is_sought(index: &Expr, is_known: &dyn Fn(&str) -> bool) -> bool {
    match index {
        // A pattern may look for a part of a key.
        Expr::Array { items, .. } => items.iter().any(|item| is_sought(item, is_known)),
        _ => variable(index).is_some_and(|name| name == "_" || !is_known(name)),
    }
}

/// Whether a reference into `data` has a key that could be a number after one that is looked for.
pub(super) fn is_keyed_after_search(reference: &Expr, is_bound: &dyn Fn(&str) -> bool) -> bool {
    let Expr::RefBrack { refr, index, .. } = reference else {
        return false;
    };
    let is_text = matches!(index.as_ref(), Expr::String { .. } | Expr::RawString { .. });
    if is_text || is_sought(index, is_bound) {
        return false;
    }
    let mut searched = false;
    let mut rest = refr.as_ref();
    let mut last = None;
    loop {
        match rest {
            Expr::RefBrack { refr, index, .. } => {
                searched |= is_sought(index, is_bound);
                last = None;
                rest = refr;
            }
            Expr::RefDot { refr, field, .. } => {
                last = Some(&field.1);
                rest = refr;
            }
            _ => break,
        }
    }
    // Below `remit` there are rules, whose keys are what they are.
    let is_rule = matches!(last, Some(Value::String(name)) if name.as_ref() == "remit");
    searched && variable(rest) == Some("data") && !is_rule
}

/// The values of a function that an `else` follows.
pub(super) fn values_before_else<'r>(
    head: Option<&'r RuleAssign>,
    bodies: &'r [RuleBody],
) -> Vec<&'r Expr> {
    let before = bodies.len().saturating_sub(1);
    let own = bodies.iter().map(|body| body.assign.as_ref());
    // The first body has the value of the head.
    let values = own
        .enumerate()
        .map(|(at, value)| value.or(if at == 0 { head } else { None }));
    let values = values.take(before).flatten();
    values.map(|assign| assign.value.as_ref()).collect()
}

/// Whether a value may be undefined where its body holds: it refers to something, or calls it.
pub(super) fn may_be_undefined(value: &Expr, is_other: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Expr::RefDot { .. } | Expr::RefBrack { .. } | Expr::Call { .. } => true,
        _ => match variable(value) {
            Some(name) => name == "input" || name == "data" || is_other(name),
            None => parts(value)
                .into_iter()
                .any(|part| may_be_undefined(part, is_other)),
        },
    }
}
