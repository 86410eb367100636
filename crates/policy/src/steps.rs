//! Takes the body of a rule apart: how far does it get, and what stands on the two sides of what does not hold?
//!
//! Rules are made that hold for the body's first condition, its first two, and so on; the reference says how far it gets.
//! What a condition alone would say is no answer: it may need the ones before.

use regorus::Value;
use regorus::unstable::{Expr, Literal, LiteralStmt, RuleBody, Span};
use serde::{Deserialize, Serialize};

use crate::check::Parsed;

/// How many conditions of a body are looked at.
const MOST: usize = 100;

/// The longest value that is shown, in characters.
const LONGEST: usize = 200;

/// One condition of a rule, in the order they are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Condition {
    /// The rule it is of.
    pub rule: String,
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// As it is written.
    pub text: String,
    /// Whether it holds, after those before it; null after one that does not.
    pub holds: Option<bool>,
    /// Of one that does not hold: what stands left and right of its comparison, or what it is. `undefined` is one, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// A body, taken apart.
pub(crate) struct Steps {
    conditions: Vec<Condition>,
    /// The rules that hold for its first conditions.
    prefixes: Vec<String>,
    /// The rules that say what stands in each condition.
    operands: Vec<Vec<String>>,
}

/// A package for rules that are made of those of a file: it reads what the file reads.
pub(crate) fn package(module: &Parsed, text: &str) -> String {
    let mut package = format!("package {}\n", module.package.join("."));
    let is_import = |line: &&str| line.trim_start().starts_with("import ");
    for import in text.lines().filter(is_import) {
        package.push_str(import);
        package.push('\n');
    }
    package
}

/// Writes the rules that a body is taken apart by; `label` tells them from those of other bodies.
pub(crate) fn take_apart(
    module: &Parsed,
    rule: &str,
    body: &RuleBody,
    label: &str,
    rules: &mut String,
) -> Steps {
    let package = module.package.join(".");
    let mut steps = Steps {
        conditions: Vec::new(),
        prefixes: Vec::new(),
        operands: Vec::new(),
    };
    let mut so_far = String::new();
    for (number, statement) in body.query.stmts.iter().take(MOST).enumerate() {
        let text = whole(&statement.span);
        let mut operands = Vec::new();
        for (side, operand) in compared(statement).into_iter().enumerate() {
            let name = format!("{label}_{number}_{side}");
            let replaced = modifiers(statement);
            rules.push_str(&format!(
                "\n{name} := {label}_value if {{\n{so_far}\t{label}_value := {operand} {replaced}\n}}\n"
            ));
            operands.push(format!("data.{package}.{name}"));
        }
        steps.operands.push(operands);
        so_far.push_str(&format!("\t{text}\n"));
        let name = format!("{label}_{number}");
        rules.push_str(&format!("\n{name} if {{\n{so_far}}}\n"));
        steps.prefixes.push(format!("data.{package}.{name}"));
        steps.conditions.push(Condition {
            rule: format!("data.{package}.{rule}"),
            file: module.file.clone(),
            line: statement.span.line,
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            holds: None,
            values: Vec::new(),
        });
    }
    steps
}

/// What stands on both sides of a comparison; of another plain condition, all of it.
fn compared(statement: &LiteralStmt) -> Vec<&str> {
    let Literal::Expr { expr, .. } = &statement.literal else {
        return Vec::new();
    };
    match expr.as_ref() {
        Expr::BoolExpr { lhs, rhs, .. } => vec![whole(lhs.span()), whole(rhs.span())],
        Expr::AssignExpr { .. } => Vec::new(),
        expr => vec![whole(expr.span())],
    }
}

/// `with … as …`, as it is written.
fn modifiers(statement: &LiteralStmt) -> String {
    let with = |modifier: &regorus::unstable::WithModifier| {
        let (replaced, value) = (whole(modifier.refr.span()), whole(modifier.r#as.span()));
        format!("with {replaced} as {value}")
    };
    let written: Vec<String> = statement.with_mods.iter().map(with).collect();
    written.join(" ")
}

/// The text of a span; the engine leaves out the quotes around a string where a span begins or ends with one.
fn whole(span: &Span) -> &str {
    const QUOTES: [char; 2] = ['"', '`'];
    let text = span.source.contents().as_str();
    let (start, end) = (span.start as usize, span.end as usize);
    let before = text.get(..start).is_some_and(|text| text.ends_with(QUOTES));
    let after = text.get(end..).is_some_and(|text| text.starts_with(QUOTES));
    let whole = text.get(start - usize::from(before)..end + usize::from(after));
    whole.unwrap_or_default()
}

impl Steps {
    /// The rules to ask for.
    pub(crate) fn asked(&self) -> impl Iterator<Item = String> {
        self.prefixes
            .iter()
            .chain(self.operands.iter().flatten())
            .cloned()
    }

    /// What the answers say, in the order of [`Steps::asked`]: how many conditions hold, and each of them.
    pub(crate) fn told(
        mut self,
        answers: &mut impl Iterator<Item = Result<Value, String>>,
    ) -> (usize, Vec<Condition>) {
        let prefixes: Vec<_> = answers.by_ref().take(self.prefixes.len()).collect();
        let holds = |answer: &&Result<Value, String>| matches!(answer, Ok(Value::Bool(true)));
        let reached = prefixes.iter().take_while(holds).count();
        for (at, condition) in self.conditions.iter_mut().enumerate() {
            condition.holds = (at <= reached).then_some(at < reached);
        }
        for (at, operands) in self.operands.iter().enumerate() {
            let values: Vec<String> = answers.by_ref().take(operands.len()).map(shown).collect();
            if let Some(condition) = self.conditions.get_mut(at).filter(|_| at == reached) {
                condition.values = values;
            }
        }
        (reached, self.conditions)
    }
}

/// A value as text, not longer than can be read.
fn shown(answer: Result<Value, String>) -> String {
    let text = match answer {
        Ok(Value::Undefined) => return "undefined".to_owned(),
        Ok(value) => value.to_string(),
        Err(_) => return "error".to_owned(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
