//! Warns of rules that nothing asks for: most of them are called almost like one that is asked for.

use std::collections::BTreeSet;

use regorus::unstable::Span;

use super::Parsed;
use super::graph::Graph;
use super::reading::Reading;
use crate::finding::{Finding, Severity};

/// What is asked of each kind of package.
const ASKED: [(&[&str], &[&str]); 5] = [
    (
        &["remit", "tools", "*"],
        &[
            "allow",
            "deny",
            "escalate",
            "credential",
            "labels",
            "redact",
            "warnings",
        ],
    ),
    (
        &["remit", "all"],
        &["allow", "deny", "escalate", "labels", "redact", "warnings"],
    ),
    (&["remit", "admit"], &["allow", "deny"]),
    (&["remit", "list"], &["hide"]),
    (&["system", "log"], &["mask", "drop"]),
];

/// Warns of rules that are reached neither from what is asked for nor, helpers, from a test.
pub(super) fn check(modules: &[Parsed], readings: &[Reading]) -> Vec<Finding> {
    let graph = Graph::new(modules, readings);
    let mut roots: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut tested: BTreeSet<Vec<String>> = BTreeSet::new();
    // What the library asks for stands above: by itself it asks for all that any tool has.
    for module in modules.iter().filter(|module| !module.is_library) {
        for rule in module.rules() {
            let whole = module.whole(rule);
            let asked = asked(module);
            let name = whole.get(module.package.len());
            if name.is_some_and(|name| asked.contains(&name.as_str())) {
                roots.insert(whole);
            } else if module.is_test {
                tested.insert(whole);
            }
        }
    }
    let reached = graph.reached(roots.clone());
    let reached_by_tests = graph.reached(roots.union(&tested).cloned().collect());
    let mut findings = Vec::new();
    let mut told = BTreeSet::new();
    for module in modules
        .iter()
        .filter(|module| !module.is_test && !module.is_library)
    {
        // A helper is for whoever writes the next rule, as long as somebody tried it.
        let is_helper = module.package.get(1).is_some_and(|word| word == "lib");
        let reached = if is_helper {
            &reached_by_tests
        } else {
            &reached
        };
        for rule in module.rules() {
            let whole = module.whole(rule);
            if !reached.contains(&whole) && told.insert(whole.clone()) {
                findings.push(finding(module, &whole, rule.span()));
            }
        }
    }
    findings
}

/// The names that are asked for in a package.
fn asked(module: &Parsed) -> &'static [&'static str] {
    let fits = |kind: &[&str]| {
        let pairs = kind.iter().zip(&module.package);
        kind.len() == module.package.len()
            && pairs
                .clone()
                .all(|(one, other)| *one == "*" || *one == other)
    };
    let found = ASKED.iter().find(|(kind, _)| fits(kind));
    found.map(|(_, names)| *names).unwrap_or_default()
}

fn finding(module: &Parsed, whole: &[String], span: &Span) -> Finding {
    let name = whole
        .get(module.package.len()..)
        .unwrap_or_default()
        .join(".");
    let message = match super::nearest(&name, asked(module)) {
        Some(meant) => format!("nothing asks for `{name}`; did you mean `{meant}`?"),
        None => format!("nothing asks for `{name}`; take it away, or use it"),
    };
    Finding {
        severity: Severity::Warning,
        ..Finding::at("unreached-rule", span, message)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Policy, Source};

    /// The lines of the rules that are warned of, with what is said.
    #[track_caller]
    fn check(files: &[(&str, &str)], expect: &[(u32, &str)]) {
        let source = |(path, text): &(&str, &str)| Source {
            path: path.into(),
            text: (*text).to_owned(),
        };
        let (_, findings) = Policy::load(files.iter().map(source).collect()).unwrap();
        let found: Vec<_> = findings
            .iter()
            .filter(|finding| finding.code == "unreached-rule")
            .map(|finding| (finding.line, finding.message.as_str()))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn what_is_asked_for_is_what_the_library_asks() {
        let library = crate::source::library();
        let text: String = library.iter().map(|source| source.text.as_str()).collect();
        for (package, names) in super::ASKED {
            let prefix = match package {
                ["remit", "tools", "*"] => "data.remit.tools[input.tool.name]".to_owned(),
                ["system", ..] => continue,
                words => format!("data.{}", words.join(".")),
            };
            for name in names {
                assert!(
                    text.contains(&format!("{prefix}.{name}")),
                    "{prefix}.{name}"
                );
            }
        }
    }
    #[test]
    fn a_slip_of_the_pen_is_told() {
        check(
            &[(
                "t.rego",
                "package remit.tools.t\nallow if true\ndenny contains \"x\" if input.tool.access == \"write\"",
            )],
            &[(3, "nothing asks for `denny`; did you mean `deny`?")],
        );
    }
    #[test]
    fn a_helper_that_is_used_is_reached() {
        check(
            &[(
                "t.rego",
                "package remit.tools.t\nallow if ok\nok if f(1)\nf(x) if x > 0\nlimits[a] := 1 if some a in [\"a\"]\ndeny contains \"x\" if limits.a > 5",
            )],
            &[],
        );
    }
    #[test]
    fn a_helper_that_only_a_test_uses_is_not() {
        check(
            &[
                (
                    "t.rego",
                    "package remit.tools.t\nallow if true\nspare if true",
                ),
                (
                    "t_test.rego",
                    "package remit.t_test\ntest_spare if data.remit.tools.t.spare",
                ),
            ],
            &[(3, "nothing asks for `spare`; take it away, or use it")],
        );
    }
    #[test]
    fn a_library_may_have_what_only_its_tests_use() {
        let library = "package remit.lib.money\nsmall(x) if x < 5\nlarge(x) if x > 5";
        let test = "package remit.money_test\ntest_small if data.remit.lib.money.small(1)";
        check(
            &[("money.rego", library), ("money_test.rego", test)],
            &[(3, "nothing asks for `large`; take it away, or use it")],
        );
    }
    #[test]
    fn each_kind_of_package_has_its_own() {
        check(
            &[
                (
                    "a.rego",
                    "package remit.admit\nallow if true\nescalate contains \"x\" if true",
                ),
                ("l.rego", "package remit.list\nhide if false"),
                (
                    "s.rego",
                    "package system.log\ndrop if false\nmasks contains \"/input\"",
                ),
            ],
            &[
                (3, "nothing asks for `escalate`; take it away, or use it"),
                (3, "nothing asks for `masks`; did you mean `mask`?"),
            ],
        );
    }
}
