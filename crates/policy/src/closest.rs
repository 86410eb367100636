//! Which `allow` was the closest, and which of its conditions did not hold?

use regorus::Value;
use regorus::unstable::Rule;

use crate::check::{self, Parsed};
use crate::policy::Policy;
use crate::source::Source;
use crate::steps::{self, Condition, Steps};

/// How many bodies of a file are looked at.
const MOST: usize = 100;

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
        let names: Vec<String> = bodies.iter().flat_map(Steps::asked).collect();
        let answers = self.files.ask(tool, input.clone(), names, extra);
        let Ok(answers) = answers else {
            return Vec::new();
        };
        let mut answers = answers.into_iter();
        let told = bodies.into_iter().map(|steps| steps.told(&mut answers));
        // Of two that get as far the shorter one is closer.
        let closest = told.max_by_key(|(reached, all)| (*reached, std::cmp::Reverse(all.len())));
        closest
            .map(|(_, conditions)| conditions)
            .unwrap_or_default()
    }

    /// The bodies of a file's `allow`, and the rules that they are taken apart by.
    fn taken_apart(&self, module: &Parsed, number: usize) -> (Vec<Steps>, Source) {
        let mut rules = steps::package(module, self.files.text(module));
        let mut found = Vec::new();
        for rule in module.rules() {
            let Rule::Spec { bodies, .. } = rule else {
                continue;
            };
            if check::head(rule).first().map(String::as_str) != Some("allow") {
                continue;
            }
            for body in bodies.iter().take(MOST.saturating_sub(found.len())) {
                let label = format!("closest_{number}_{}", found.len());
                found.push(steps::take_apart(module, "allow", body, &label, &mut rules));
            }
        }
        let source = Source {
            path: format!("closest_{number}.rego").into(),
            text: rules,
        };
        (found, source)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Condition, Policy, Source};

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

    /// The conditions of the closest rule.
    fn conditions(arguments: &serde_json::Value) -> Vec<Condition> {
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
        explanation.unwrap().conditions
    }

    /// Their lines, each with what it said.
    fn closest(arguments: &serde_json::Value) -> Vec<(u32, Option<bool>)> {
        let conditions = conditions(arguments);
        let told = conditions.iter();
        told.map(|condition| (condition.line, condition.holds))
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
    fn it_is_told_what_was_compared() {
        let conditions = conditions(&json!({ "amount": 260 }));
        assert_eq!(conditions[3].values, ["260", "100"]);
        assert!(conditions[0].values.is_empty() && conditions[4].values.is_empty());
    }
    #[test]
    fn what_is_missing_is_undefined() {
        assert_eq!(conditions(&json!({}))[3].values, ["undefined", "100"]);
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
