//! Warns of a `deny` that says nothing where a field is missing: what an agent leaves out would not be refused.
//!
//! `deny contains "too much" if input.request.arguments.amount > 100` does not hold without an `amount`. That is found
//! for what is compared by order or `!=`, calculated with, or put into a text. It is not where a call without the field
//! is seen to elsewhere: by `not`, by `object.get`, or because no `allow` holds without it. What is compared by `==` or
//! looked for in a list is taken to mean what it says.

use std::collections::BTreeMap;

use regorus::Value;
use regorus::unstable::{
    AssignOp, BoolOp, Expr, Literal, Query, Ref, Rule, RuleBody, RuleHead, Span,
};

use super::names::path;
use super::reading::imports;
use super::{Parsed, head};
use crate::finding::{Finding, Severity};

/// Fields of `input` whose own fields may be missing.
const OPEN: [&[&str]; 12] = [
    &["input", "request", "arguments"],
    &["input", "request", "headers"],
    &["input", "request", "query"],
    &["input", "agent", "claims"],
    &["input", "task", "attributes"],
    &["input", "tool", "attributes"],
    &["input", "declared", "context"],
    &["input", "history", "by_access"],
    &["input", "history", "by_tool"],
    &["input", "history", "spent"],
    &["input", "history", "rest"],
    &["input", "task", "limits"],
];

/// A field of `input`, as far as it is fixed.
type Path = Vec<String>;

/// What the rules of a package do about fields that may be missing.
#[derive(Default)]
struct Seen {
    /// Fields without which something holds: after `not`, or read with a default.
    handled: Vec<Path>,
    /// The bodies of `allow`.
    allows: Vec<Allow>,
}

/// A body of an `allow`.
struct Allow {
    /// What it can't hold without.
    needed: Vec<Path>,
    /// Which fields must be what.
    fixed: Vec<(Path, Value)>,
}

impl Allow {
    /// Whether it may hold together with a body that fixes these fields.
    fn meets(&self, fixed: &[(Path, Value)]) -> bool {
        let differs = |(field, value): &(Path, Value)| {
            let mut others = fixed.iter();
            others.any(|(other, asked)| other == field && asked != value)
        };
        !self.fixed.iter().any(differs)
    }

    fn needs(&self, field: &[String]) -> bool {
        self.needed.iter().any(|other| concern(other, field))
    }
}

/// Warns of all rules that refuse or escalate.
pub(super) fn check(modules: &[Parsed]) -> Vec<Finding> {
    let is_own = |module: &&Parsed| !module.is_test && !module.is_library;
    let mut packages: BTreeMap<&[String], Seen> = BTreeMap::new();
    for module in modules.iter().filter(is_own) {
        let seen = packages.entry(&module.package).or_default();
        seen.read(module);
    }
    let all = ["remit".to_owned(), "all".to_owned()];
    let shared = packages.get(&all[..]);
    let each: Vec<&Seen> = packages.values().collect();
    let mut findings = Vec::new();
    for module in modules.iter().filter(is_own) {
        let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
        if !matches!(package.as_slice(), ["remit", "tools", _] | ["remit", "all"]) {
            continue;
        }
        let own = packages.get(module.package.as_slice());
        let both: Vec<&Seen> = own.into_iter().chain(shared).collect();
        // What is refused for every tool is missing where any tool allows it.
        let allowing = if module.package == all { &each } else { &both };
        for rule in module.rules() {
            let name = head(rule);
            if matches!(name.first().map(String::as_str), Some("deny" | "escalate")) {
                findings.extend(silent(module, rule, &both, allowing));
            }
        }
    }
    findings
}

fn silent(module: &Parsed, rule: &Rule, seen: &[&Seen], allowing: &[&Seen]) -> Vec<Finding> {
    let Rule::Spec { head, bodies, .. } = rule else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for body in bodies {
        let mut reader = Reader::new(module);
        reader.body(body);
        if let RuleHead::Set { key: Some(key), .. } = head {
            reader.operands(key);
        }
        let mut told: Vec<Path> = Vec::new();
        for (field, span) in &reader.operands {
            let is_meant = reader.meant.iter().any(|other| concern(other, field));
            let is_handled = seen.iter().any(|seen| seen.handles(field));
            let allows: Vec<&Allow> = allowing.iter().flat_map(|seen| &seen.allows).collect();
            let mut meeting = allows.iter().filter(|allow| allow.meets(&reader.fixed));
            // Where nothing is allowed yet, something will be.
            let is_needed = !allows.is_empty() && meeting.all(|allow| allow.needs(field));
            if is_meant || is_handled || is_needed || told.contains(field) {
                continue;
            }
            told.push(field.clone());
            let name = shown(field);
            let message = format!(
                "where `{name}` is missing this rule does not hold; add one for `not {name}`, or read it by `object.get(…, default)`"
            );
            findings.push(Finding {
                severity: Severity::Warning,
                ..Finding::at("deny-undefined", span, message)
            });
        }
    }
    findings
}

/// Whether what is done about one field is about the other: it is the same, or lies in it.
fn concern(one: &[String], other: &[String]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// `input.request.headers["x-size"]`
fn shown(field: &[String]) -> String {
    let is_word = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    field.iter().fold(String::new(), |shown, name| match name {
        name if shown.is_empty() => name.clone(),
        name if is_word(name) => format!("{shown}.{name}"),
        name => format!("{shown}[\"{name}\"]"),
    })
}

impl Seen {
    fn read(&mut self, module: &Parsed) {
        for rule in module.rules() {
            let Rule::Spec { bodies, .. } = rule else {
                continue;
            };
            let name = head(rule);
            let name = name.first().map(String::as_str).unwrap_or_default();
            let is_allow = name == "allow";
            let refuses = matches!(name, "deny" | "escalate");
            for body in bodies {
                let mut reader = Reader::new(module);
                reader.body(body);
                self.handled.append(&mut reader.handled);
                // `not x > 100` refuses without an `x`; in an `allow` it lets it pass.
                if refuses {
                    self.handled.append(&mut reader.negated);
                }
                if is_allow {
                    let operands = reader.operands.into_iter().map(|(field, _)| field);
                    self.allows.push(Allow {
                        needed: reader.meant.into_iter().chain(operands).collect(),
                        fixed: reader.fixed,
                    });
                }
            }
        }
    }

    fn handles(&self, field: &[String]) -> bool {
        self.handled.iter().any(|other| concern(other, field))
    }
}

/// Reads one body.
struct Reader {
    imports: BTreeMap<String, Path>,
    /// Local names for fields.
    names: BTreeMap<String, Path>,
    /// What is compared by order, calculated with, or put into a text.
    operands: Vec<(Path, Span)>,
    /// What is asked for as it is: it is there, it is equal, it is in a list.
    meant: Vec<Path>,
    /// `not x`, or read with a default.
    handled: Vec<Path>,
    /// In a condition after `not`.
    negated: Vec<Path>,
    /// Which fields must be what.
    fixed: Vec<(Path, Value)>,
}

impl Reader {
    fn new(module: &Parsed) -> Self {
        Self {
            imports: imports(module),
            names: BTreeMap::new(),
            operands: Vec::new(),
            meant: Vec::new(),
            handled: Vec::new(),
            negated: Vec::new(),
            fixed: Vec::new(),
        }
    }

    fn body(&mut self, body: &RuleBody) {
        self.query(&body.query);
        if let Some(assign) = &body.assign {
            self.operands(&assign.value);
        }
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::Expr { expr, .. } => self.condition(expr),
                Literal::NotExpr { expr, .. } => {
                    self.handled.extend(self.field(expr));
                    let mut negated = Vec::new();
                    self.fields(expr, &mut |field, _| negated.push(field));
                    self.negated.extend(negated);
                }
                // A loop over nothing finds nothing.
                Literal::SomeIn { collection, .. } => self.defaults(collection),
                Literal::Every { domain, .. } => self.defaults(domain),
                Literal::SomeVars { .. } => {}
            }
        }
    }

    fn condition(&mut self, expression: &Ref<Expr>) {
        self.defaults(expression);
        match expression.as_ref() {
            Expr::BoolExpr {
                op: BoolOp::Eq,
                lhs,
                rhs,
                ..
            }
            | Expr::AssignExpr {
                op: AssignOp::Eq,
                lhs,
                rhs,
                ..
            } => {
                for (field, value) in [(lhs, rhs), (rhs, lhs)] {
                    let pair = self.known(field).zip(super::heads::constant(value));
                    self.fixed.extend(pair);
                }
                self.mean([lhs, rhs]);
            }
            Expr::BoolExpr { lhs, rhs, .. } => {
                self.operands(lhs);
                self.operands(rhs);
            }
            Expr::AssignExpr { lhs, rhs, .. } => match (lhs.as_ref(), self.known(rhs)) {
                (Expr::Var { .. }, Some(field)) => {
                    self.names.extend(path(lhs).pop().map(|name| (name, field)));
                }
                _ => self.operands(rhs),
            },
            Expr::Membership {
                value, collection, ..
            } => self.mean([value, collection]),
            // Of which type it is says nothing of where there is none.
            Expr::Call { fcn, .. } if is_type_check(fcn) => {}
            other => {
                let mut meant = Vec::new();
                self.fields(other, &mut |field, _| meant.push(field));
                self.meant.extend(meant);
            }
        }
    }

    fn mean<'e>(&mut self, sides: impl IntoIterator<Item = &'e Ref<Expr>>) {
        let mut meant = Vec::new();
        for side in sides {
            self.fields(side, &mut |field, _| meant.push(field));
        }
        self.meant.extend(meant);
    }

    fn operands(&mut self, expression: &Expr) {
        let mut operands = Vec::new();
        self.fields(expression, &mut |field, span| {
            operands.push((field, span.clone()));
        });
        self.operands.extend(operands);
    }

    /// What is read with a default.
    fn defaults(&mut self, expression: &Expr) {
        if let Expr::Call { fcn, params, .. } = expression
            && path(fcn) == ["object", "get"]
            && let [object, key, ..] = params.as_slice()
            && let Some(mut field) = self.known(object)
        {
            let names = texts(key);
            if !names.is_empty() {
                field.extend(names);
                self.handled.push(field);
            }
        }
        for part in super::scopes::parts(expression) {
            self.defaults(part);
        }
    }

    /// The fields that may be missing and make an expression undefined where they are.
    fn fields(&self, expression: &Expr, found: &mut dyn FnMut(Path, &Span)) {
        match expression {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                if let Some(field) = self.field(expression) {
                    found(field, expression.span());
                }
            }
            // What they collect is there, and may be empty.
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {}
            // It is there whatever is missing.
            Expr::Call { fcn, .. } if path(fcn) == ["object", "get"] => {}
            other => {
                for part in super::scopes::parts(other) {
                    self.fields(part, found);
                }
            }
        }
    }

    /// A field that may be missing.
    fn field(&self, expression: &Expr) -> Option<Path> {
        let field = self.known(expression)?;
        let is_open = |open: &&&[&str]| {
            field.len() > open.len() && field.iter().zip(**open).all(|(one, other)| one == other)
        };
        OPEN.iter().any(|open| is_open(&open)).then_some(field)
    }

    /// The path of a reference into `input`.
    fn known(&self, expression: &Expr) -> Option<Path> {
        let words = path(expression);
        let (first, rest) = words.split_first()?;
        let start = match first.as_str() {
            "input" => vec![first.clone()],
            name => self
                .names
                .get(name)
                .or_else(|| self.imports.get(name))?
                .clone(),
        };
        let whole: Path = start.into_iter().chain(rest.iter().cloned()).collect();
        whole
            .first()
            .is_some_and(|first| first == "input")
            .then_some(whole)
    }
}

/// `is_number` and the like.
fn is_type_check(function: &Expr) -> bool {
    matches!(path(function).as_slice(), [name] if name.starts_with("is_"))
}

/// A key of `object.get`, or its path.
fn texts(key: &Expr) -> Vec<String> {
    match key {
        Expr::String { value, .. } | Expr::RawString { value, .. } => value
            .as_string()
            .map(|text| text.to_string())
            .into_iter()
            .collect(),
        Expr::Array { items, .. } => items.iter().flat_map(|item| texts(item)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Policy, Severity, Source};

    /// The fields that a tool's rules are warned of, besides that they have no tests.
    #[track_caller]
    fn check(rules: &str, expect: &[(u32, &str)]) {
        check_with("", rules, expect);
    }

    #[track_caller]
    fn check_with(all: &str, rules: &str, expect: &[(u32, &str)]) {
        let source = |path: &str, text: String| Source {
            path: path.into(),
            text,
        };
        let sources = vec![
            source("t.rego", format!("package remit.tools.t\n{rules}")),
            source("all.rego", format!("package remit.all\n{all}")),
        ];
        let (_, findings) = Policy::load(sources).unwrap();
        let found: Vec<_> = findings
            .iter()
            .filter(|finding| finding.code == "deny-undefined")
            .map(|finding| {
                assert_eq!(finding.severity, Severity::Warning);
                let field = finding.message.split('`').nth(1).unwrap();
                (finding.line, field)
            })
            .collect();
        assert_eq!(found, expect, "{findings:#?}");
    }

    const AMOUNT: &str = "input.request.arguments.amount";

    #[test]
    fn an_amount_that_is_left_out_is_not_too_large() {
        check(
            "allow if true\ndeny contains \"much\" if input.request.arguments.amount > 100",
            &[(3, AMOUNT)],
        );
    }
    #[test]
    fn nor_is_it_under_another_name() {
        check(
            "allow if true\ndeny contains \"much\" if {\n\targs := input.request.arguments\n\tamount := args.amount\n\tamount > 100\n}",
            &[(6, AMOUNT)],
        );
        check_with(
            "",
            "import input.request.arguments as args\nallow if true\ndeny contains \"much\" if args.amount > 100",
            &[(4, AMOUNT)],
        );
    }
    #[test]
    fn what_is_calculated_with_or_put_into_a_text_is_found() {
        check(
            "allow if true\nescalate contains \"much\" if to_number(input.request.headers[\"x-size\"]) + 1 > 100",
            &[(3, "input.request.headers[\"x-size\"]")],
        );
        check(
            "allow if true\ndeny contains msg if {\n\tinput.tool.access == \"write\"\n\tmsg := sprintf(\"not %v\", [input.task.attributes.ticket])\n}",
            &[(5, "input.task.attributes.ticket")],
        );
    }
    #[test]
    fn what_is_not_equal_is_found() {
        check(
            "allow if true\ndeny contains \"env\" if input.agent.claims.env != \"dev\"",
            &[(3, "input.agent.claims.env")],
        );
    }
    #[test]
    fn what_is_equal_is_meant() {
        check(
            "allow if true\ndeny contains \"main\" if input.request.arguments.branch == \"main\"\ndeny contains \"b\" if input.request.arguments.branch in {\"x\"}\ndeny contains \"force\" if input.request.arguments.force\ndeny contains \"c\" if startswith(input.request.arguments.branch, \"release\")",
            &[],
        );
    }
    #[test]
    fn where_it_is_asked_for_it_may_be_compared() {
        check(
            "allow if true\ndeny contains \"much\" if {\n\tinput.request.arguments.amount\n\tinput.request.arguments.amount > 100\n}",
            &[],
        );
    }
    #[test]
    fn where_a_rule_is_for_its_absence_it_is_seen_to() {
        check(
            "allow if true\ndeny contains \"much\" if input.request.arguments.amount > 100\ndeny contains \"none\" if not input.request.arguments.amount",
            &[],
        );
        check_with(
            "deny contains \"none\" if not input.request.arguments.amount",
            "allow if true\ndeny contains \"much\" if input.request.arguments.amount > 100",
            &[],
        );
    }
    #[test]
    fn where_it_has_a_default_it_is_there() {
        check(
            "allow if true\ndeny contains \"much\" if object.get(input.request.arguments, \"amount\", 1000) > 100",
            &[],
        );
        check(
            "allow if true\ndeny contains \"much\" if object.get(input, [\"request\", \"arguments\", \"amount\"], 1000) > 100\nescalate contains \"some\" if input.request.arguments.amount > 50",
            &[],
        );
    }
    #[test]
    fn where_nothing_is_allowed_without_it_nothing_is_missing() {
        check(
            "allow if input.request.arguments.amount > 0\ndeny contains \"much\" if input.request.arguments.amount > 100",
            &[],
        );
        check(
            "allow if input.request.arguments.amount > 0\nallow if input.tool.access == \"read\"\ndeny contains \"much\" if input.request.arguments.amount > 100",
            &[(4, AMOUNT)],
        );
        check_with(
            "allow if true",
            "allow if input.request.arguments.amount > 0\ndeny contains \"much\" if input.request.arguments.amount > 100",
            &[(3, AMOUNT)],
        );
    }
    #[test]
    fn an_allow_of_something_else_allows_nothing_here() {
        check(
            "allow if input.tool.operation == \"list\"\nallow if {\n\tinput.tool.operation == \"refund\"\n\tinput.request.arguments.amount > 0\n}\ndeny contains \"much\" if {\n\tinput.tool.operation == \"refund\"\n\tinput.request.arguments.amount > 100\n}",
            &[],
        );
    }
    #[test]
    fn of_which_type_it_is_does_not_say_that_it_is_there() {
        check(
            "allow if true\ndeny contains \"much\" if {\n\tis_number(input.request.arguments.amount)\n\tinput.request.arguments.amount > 100\n}",
            &[(5, AMOUNT)],
        );
    }
    #[test]
    fn a_not_that_lets_it_pass_does_not_see_to_it() {
        check(
            "allow if not input.request.arguments.amount > 1000\ndeny contains \"much\" if input.request.arguments.amount > 100",
            &[(3, AMOUNT)],
        );
        check(
            "allow if true\ndeny contains \"much\" if not input.request.arguments.amount <= 100\nescalate contains \"some\" if input.request.arguments.amount > 50",
            &[],
        );
    }
    #[test]
    fn a_default_for_some_other_field_does_not_see_to_it() {
        check(
            "allow if true\ndeny contains \"any\" if object.get(input.request.arguments, input.tool.name, 0) > 1\ndeny contains \"much\" if input.request.arguments.amount > 100",
            &[(4, AMOUNT)],
        );
    }
    #[test]
    fn what_holds_for_every_tool_is_measured_by_what_each_allows() {
        check_with(
            "deny contains \"much\" if input.request.arguments.amount > 100",
            "allow if input.tool.access == \"read\"",
            &[(2, AMOUNT)],
        );
        check_with(
            "deny contains \"much\" if input.request.arguments.amount > 100",
            "allow if input.request.arguments.amount > 0",
            &[],
        );
        check_with(
            "deny contains \"much\" if input.request.arguments.amount > 100",
            "",
            &[(2, AMOUNT)],
        );
    }
    #[test]
    fn what_is_always_there_is_not_missing() {
        check(
            "allow if true\ndeny contains \"long\" if count(input.request.path) > 100\ndeny contains \"many\" if input.history.calls > 5\ndeny contains \"each\" if count([x | some x in input.request.arguments.list]) > 5",
            &[],
        );
    }
}
