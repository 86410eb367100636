//! Why does a test of a policy not hold?

use regorus::Value;
use regorus::unstable::Rule;

use crate::check;
use crate::policy::Files;
use crate::reference::{self, TestResult};
use crate::source::Source;
use crate::steps::{self, Condition, Steps};

/// The conditions of a test, of the body that gets farthest.
pub(crate) fn conditions(files: &Files, test: &TestResult) -> Vec<Condition> {
    let Some(module) = files.parsed.iter().find(|module| module.file == test.file) else {
        return Vec::new();
    };
    let mut rules = steps::package(module, files.text(module));
    let mut bodies = Vec::new();
    for rule in module.rules() {
        let name = check::head(rule).join(".");
        let Rule::Spec { bodies: found, .. } = rule else {
            continue;
        };
        if test.name != format!("data.{}.{name}", module.package.join(".")) {
            continue;
        }
        for body in found {
            let label = format!("failing_{}", bodies.len());
            bodies.push(steps::take_apart(module, &name, body, &label, &mut rules));
        }
    }
    let names = bodies.iter().flat_map(Steps::asked).collect();
    let mut sources = files.sources.clone();
    sources.push(Source {
        path: "failing.rego".into(),
        text: rules,
    });
    let asked = reference::ask(sources, files.data.clone(), Value::new_object(), names);
    let mut answers = asked.unwrap_or_default().into_iter();
    let told = bodies.into_iter().map(|steps| steps.told(&mut answers));
    let farthest = told.max_by_key(|(reached, _)| *reached);
    farthest
        .map(|(_, conditions)| conditions)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::{Policy, Source};

    const RULES: &str =
        "package remit.tools.t\n\nallow if input.request.arguments.n < limit\n\nlimit := 5\n";

    /// The finding of a test.
    #[track_caller]
    fn check(test: &str, expect: &str) {
        let source = |path: &str, text: String| Source {
            path: path.into(),
            text,
        };
        let test = format!("package remit.t_test\n\nimport data.remit.tools.t\n\n{test}\n");
        let sources = vec![
            source("t.rego", RULES.to_owned()),
            source("t_test.rego", test),
        ];
        let findings = Policy::load(sources).unwrap_err();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].message, expect);
    }

    #[test]
    fn it_is_told_what_was_compared() {
        check(
            "test_limit if {\n\tn := 2\n\tt.limit == n + 4\n}",
            "`data.remit.t_test.test_limit` does not hold: `t.limit == n + 4` in line 7: left is 5, right is 6",
        );
    }
    #[test]
    fn what_is_replaced_stays_replaced() {
        check(
            "test_small if t.allow with input as {\"request\": {\"arguments\": {\"n\": 7}}}",
            "`data.remit.t_test.test_small` does not hold: `t.allow with input as {\"request\": {\"arguments\": {\"n\": 7}}}` in line 5: it is undefined",
        );
        check(
            "test_no if t.limit == \"5\" with data.remit.tools.t.limit as 6",
            "`data.remit.t_test.test_no` does not hold: `t.limit == \"5\" with data.remit.tools.t.limit as 6` in line 5: left is 6, right is \"5\"",
        );
    }
    #[test]
    fn what_is_not_compared_is_named() {
        check(
            "test_none if not t.limit",
            "`data.remit.t_test.test_none` does not hold: `not t.limit` in line 5",
        );
    }
}
