//! Checks the heads of rules: what each name must be, and what would conflict when it is evaluated.

use std::collections::BTreeMap;

use regorus::Value;
use regorus::unstable::{Expr, Ref, Rule, RuleBody, RuleHead, Span};

use super::Parsed;
use super::names::{collect, path};
use crate::finding::Finding;
use crate::wanted_engine::WantedEngine;

/// The rules of a package that the library asks for: sets, and yes or no.
const SETS: [&str; 5] = ["deny", "escalate", "labels", "redact", "warnings"];
const ANSWERS: [&str; 2] = ["allow", "hide"];

/// The path that a rule's head defines, below its package.
pub(crate) fn head(rule: &Rule) -> Vec<String> {
    path(reference(rule))
}

fn reference(rule: &Rule) -> &Ref<Expr> {
    match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. }
            | RuleHead::Set { refr, .. }
            | RuleHead::Func { refr, .. } => refr,
        },
    }
}

/// Checks the heads of one file.
pub(super) fn check(module: &Parsed, engine: WantedEngine) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_for_machine = !module.is_test && engine == WantedEngine::Machine;
    for rule in module.rules() {
        let name = head(rule);
        let asked = name.first().map(String::as_str).unwrap_or_default();
        if !module.is_test && module.package.get(1).is_none_or(|word| word != "lib") {
            findings.extend(kind(rule, asked));
        }
        if !is_plain(reference(rule)) && is_for_machine {
            findings.push(Finding::at(
                "rule-head",
                rule.span(),
                "a rule's name is one word, with at most one key in brackets: `limits[tool] := …`",
            ));
        }
        if let Rule::Default {
            args, value, span, ..
        } = rule
            && (!args.is_empty() && engine == WantedEngine::Machine || !is_constant(value))
        {
            findings.push(Finding::at(
                "default",
                span,
                "a default is a constant, and never a function's; write `else := …` instead",
            ));
        }
    }
    findings
}

/// What the library reads must be what it takes it for: a `deny` of another kind would never deny.
fn kind(rule: &Rule, name: &str) -> Option<Finding> {
    if SETS.contains(&name) {
        let is_set = matches!(
            rule,
            Rule::Spec {
                head: RuleHead::Set { .. },
                ..
            }
        );
        return (!is_set).then(|| {
            let message = format!("`{name}` is a set; write `{name} contains … if {{ … }}`");
            Finding::at("rule-kind", rule.span(), message)
        });
    }
    if !ANSWERS.contains(&name) {
        return None;
    }
    let is_answer = match rule {
        Rule::Default { value, .. } => is_bool(value),
        Rule::Spec {
            head: RuleHead::Compr { refr, assign, .. },
            bodies,
            ..
        } => {
            let bodies = bodies.iter().map(|body| &body.assign);
            matches!(refr.as_ref(), Expr::Var { .. })
                && std::iter::once(assign)
                    .chain(bodies)
                    .flatten()
                    .all(|assign| is_bool(&assign.value))
        }
        Rule::Spec { .. } => false,
    };
    (!is_answer).then(|| {
        let message = format!("`{name}` is yes or no; write `{name} if {{ … }}`");
        Finding::at("rule-kind", rule.span(), message)
    })
}

fn is_bool(expression: &Expr) -> bool {
    matches!(expression, Expr::Bool { .. })
}

/// Whether a head is `name`, or `name[key]` with a key that is computed.
fn is_plain(expression: &Expr) -> bool {
    match expression {
        Expr::Var { .. } => true,
        Expr::RefBrack { refr, .. } => {
            matches!(refr.as_ref(), Expr::Var { .. }) && !collect(expression, &mut Vec::new())
        }
        _ => false,
    }
}

fn is_constant(expression: &Expr) -> bool {
    match expression {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. } => true,
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            items.iter().all(|item| is_constant(item))
        }
        Expr::Object { fields, .. } => fields
            .iter()
            .all(|(_, key, value)| is_constant(key) && is_constant(value)),
        _ => false,
    }
}

/// One definition of a rule that has one value.
struct Definition<'a> {
    span: &'a Span,
    /// The value, where it is a constant.
    value: Option<Value>,
    arguments: &'a [Ref<Expr>],
}

/// Finds rules whose definitions could give two values at once: the VM makes that "undefined", and a
/// `deny` that reads it silent.
pub(super) fn conflicts(modules: &[Parsed]) -> Vec<Finding> {
    let mut rules: BTreeMap<Vec<String>, Vec<Definition<'_>>> = BTreeMap::new();
    for module in modules.iter().filter(|module| !module.is_test) {
        for rule in module.rules() {
            if let Some(definition) = definition(rule) {
                let definitions = rules.entry(module.whole(rule)).or_default();
                definitions.push(definition);
            }
        }
    }
    let mut findings = Vec::new();
    for (name, definitions) in rules {
        let Some((first, others)) = definitions.split_first() else {
            continue;
        };
        for other in others {
            let all = definitions
                .iter()
                .take_while(|earlier| !std::ptr::eq(*earlier, other));
            let conflict = all
                .filter(|earlier| !agree(earlier, other) && !exclude(earlier, other))
                .count();
            if conflict > 0 {
                let name = name.last().map(String::as_str).unwrap_or_default();
                let message = format!(
                    "`{name}` could have two values at once (line {}); join its definitions by `else := …`",
                    first.span.line
                );
                findings.push(Finding::at("conflict", other.span, message));
                break;
            }
        }
    }
    findings
}

fn definition(rule: &Rule) -> Option<Definition<'_>> {
    let Rule::Spec { span, head, bodies } = rule else {
        return None;
    };
    let (assign, arguments): (_, &[Ref<Expr>]) = match head {
        RuleHead::Compr { refr, assign, .. } if matches!(refr.as_ref(), Expr::Var { .. }) => {
            (assign, &[])
        }
        RuleHead::Func { args, assign, .. } => (assign, args),
        RuleHead::Compr { .. } | RuleHead::Set { .. } => return None,
    };
    // Values of `else` follow in the bodies: with one of them the value is not one constant.
    let one_body = bodies.iter().all(|body: &RuleBody| body.assign.is_none());
    let value = match assign {
        None => Some(Value::Bool(true)),
        Some(assign) => constant(&assign.value),
    };
    Some(Definition {
        span,
        value: value.filter(|_| one_body),
        arguments,
    })
}

pub(super) fn constant(expression: &Expr) -> Option<Value> {
    match expression {
        Expr::String { value, .. }
        | Expr::RawString { value, .. }
        | Expr::Number { value, .. }
        | Expr::Bool { value, .. }
        | Expr::Null { value, .. } => Some(value.clone()),
        _ => None,
    }
}

/// Whether two definitions give the same constant.
fn agree(one: &Definition<'_>, other: &Definition<'_>) -> bool {
    one.value.is_some() && one.value == other.value
}

/// Whether two definitions take different constants as an argument, so that only one can hold.
fn exclude(one: &Definition<'_>, other: &Definition<'_>) -> bool {
    one.arguments
        .iter()
        .zip(other.arguments)
        .any(|(one, other)| match (constant(one), constant(other)) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        })
}
