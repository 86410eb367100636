//! Which `allow` was the closest, and which of its conditions did not hold?
//!
//! Of each body of each `allow` rules are made that hold for its first condition, its first two, and so on; the
//! reference says how far each body gets. What a condition alone would say is no answer: it may need the ones before.

use regorus::Value;
use regorus::unstable::{Rule, RuleBody, Span};
use serde::Serialize;

use crate::check::{self, Parsed};
use crate::policy::Policy;
use crate::source::Source;

/// How many bodies are looked at, and how many conditions of each.
const MOST: usize = 100;

/// One condition of the closest `allow`, in the order it is written.
#[derive(Clone, Debug, Serialize)]
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
}

/// A body of an `allow`: the names of the rules that hold for its first conditions.
struct Body {
    conditions: Vec<Condition>,
    names: Vec<String>,
}

impl Policy {
    /// The conditions of the `allow` that gets farthest on an input, of the called tool's package and `remit.all`.
    /// Empty where no `allow` has any.
    pub(crate) fn closest(&self, input: &Value, tool: Option<&str>) -> Vec<Condition> {
        let mut bodies = Vec::new();
        let mut extra = Vec::new();
        for module in self.files.parsed.iter().filter(|module| !module.is_test) {
            let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
            let is_asked = match package.as_slice() {
                ["remit", "all"] => true,
                ["remit", "tools", name] => Some(*name) == tool,
                _ => false,
            };
            if is_asked {
                let (found, source) = self.taken_apart(module, extra.len());
                bodies.extend(found);
                extra.push(source);
            }
        }
        let names: Vec<String> = bodies.iter().flat_map(|body| body.names.clone()).collect();
        let answers = self.files.ask(tool, input.clone(), names, extra);
        let Ok(answers) = answers else {
            return Vec::new();
        };
        let mut answers = answers.into_iter();
        let reached = bodies.into_iter().map(|body| {
            let own: Vec<_> = answers.by_ref().take(body.names.len()).collect();
            let holds = |answer: &Result<Value, String>| matches!(answer, Ok(Value::Bool(true)));
            let reached = own.iter().take_while(|answer| holds(answer)).count();
            (reached, body)
        });
        // Of two that get as far the shorter one is closer.
        let closest = reached
            .max_by_key(|(reached, body)| (*reached, std::cmp::Reverse(body.conditions.len())));
        let Some((reached, mut body)) = closest else {
            return Vec::new();
        };
        for (at, condition) in body.conditions.iter_mut().enumerate() {
            condition.holds = (at <= reached).then_some(at < reached);
        }
        body.conditions
    }

    /// The bodies of a file's `allow`, and a file of rules that hold for their first conditions.
    fn taken_apart(&self, module: &Parsed, number: usize) -> (Vec<Body>, Source) {
        let text = self
            .files
            .sources
            .iter()
            .find(|source| source.name() == module.file);
        let text = text.map(|source| source.text.as_str()).unwrap_or_default();
        let mut rules = format!("package {}\n", module.package.join("."));
        for import in text
            .lines()
            .filter(|line| line.trim_start().starts_with("import "))
        {
            rules.push_str(import);
            rules.push('\n');
        }
        let mut found = Vec::new();
        for rule in module.rules() {
            let Rule::Spec { bodies, .. } = rule else {
                continue;
            };
            if check::head(rule).first().map(String::as_str) != Some("allow") {
                continue;
            }
            for body in bodies.iter().take(MOST.saturating_sub(found.len())) {
                found.push(written(module, body, (number, found.len()), &mut rules));
            }
        }
        let source = Source {
            path: format!("closest_{number}.rego").into(),
            text: rules,
        };
        (found, source)
    }
}

/// Writes the rules that hold for a body's first conditions.
fn written(module: &Parsed, body: &RuleBody, number: (usize, usize), rules: &mut String) -> Body {
    let package = module.package.join(".");
    let mut conditions = Vec::new();
    let mut names = Vec::new();
    let mut so_far = String::new();
    for statement in body.query.stmts.iter().take(MOST) {
        let text = whole(&statement.span);
        so_far.push_str(&format!("\t{text}\n"));
        let name = format!("closest_{}_{}_{}", number.0, number.1, names.len());
        rules.push_str(&format!("\n{name} if {{\n{so_far}}}\n"));
        names.push(format!("data.{package}.{name}"));
        conditions.push(Condition {
            rule: format!("data.{package}.allow"),
            file: module.file.clone(),
            line: statement.span.line,
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            holds: None,
        });
    }
    Body { conditions, names }
}

/// The text of a span; the engine leaves out the quote that ends a string.
fn whole(span: &Span) -> &str {
    let text = span.source.contents().as_str();
    let end = span.end as usize;
    let quote = text
        .get(end..)
        .is_some_and(|rest| rest.starts_with(['"', '`']));
    let whole = text.get(span.start as usize..end + usize::from(quote));
    whole.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Policy, Source};

    const RULES: &str = "package remit.tools.t

allow if input.tool.access == \"read\"

allow if {
	input.tool.operation == \"refund\"
	some label in input.task.labels
	label == \"billing\"
	input.request.arguments.amount <= limit
	input.task.owner == \"alice\"
}

limit := 100
";

    /// The conditions of the closest rule, each with what it said.
    fn closest(arguments: &serde_json::Value) -> Vec<(u32, Option<bool>)> {
        let sources = vec![Source {
            path: "t.rego".into(),
            text: RULES.to_owned(),
        }];
        let (policy, _) = Policy::load(sources).unwrap();
        let explanation = policy.explain_json(&json!({
            "tool": { "name": "t", "operation": "refund", "access": "write" },
            "task": { "labels": ["a", "billing"], "owner": "alice" },
            "request": { "arguments": arguments },
        }));
        let conditions = explanation.unwrap().conditions;
        conditions
            .iter()
            .map(|condition| (condition.line, condition.holds))
            .collect()
    }

    #[test]
    fn the_condition_that_fails_is_named() {
        let expect = [
            (6, Some(true)),
            (7, Some(true)),
            (8, Some(true)),
            (9, Some(false)),
            (10, None),
        ];
        assert_eq!(closest(&json!({ "amount": 260 })), expect);
    }
    #[test]
    fn a_condition_on_what_is_missing_fails() {
        assert_eq!(closest(&json!({}))[3], (9, Some(false)));
    }
    #[test]
    fn all_conditions_of_what_allows_hold() {
        let all = closest(&json!({ "amount": 60 }));
        assert!(all.iter().all(|(_, holds)| *holds == Some(true)), "{all:?}");
    }
}
