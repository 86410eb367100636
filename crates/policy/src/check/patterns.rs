//! Checks patterns that are written as texts: one that does not compile would fail each call it is asked for.

use regorus::Value;

use super::reading::{Call, Reading};
use crate::builtins;
use crate::finding::Finding;

/// Builtins with a pattern, and which argument it is.
const PATTERNS: [(&str, usize); 6] = [
    ("regex.match", 0),
    ("regex.find_n", 0),
    ("regex.find_all_string_submatch_n", 0),
    ("regex.split", 0),
    ("regex.replace", 1),
    ("glob.match", 0),
];

/// The longest pattern, in bytes.
const LONGEST: usize = 16 << 10;

/// Checks the calls of one file.
pub(super) fn check(reading: &Reading) -> Vec<Finding> {
    let calls = reading.rules.iter().flat_map(|rule| &rule.calls);
    calls.filter_map(broken).collect()
}

fn broken(call: &Call) -> Option<Finding> {
    let name = call.path.join(".");
    let (_, at) = PATTERNS.iter().find(|(builtin, _)| *builtin == name)?;
    let pattern = call.texts.get(*at)?.as_deref()?;
    if pattern.len() > LONGEST {
        let message = format!("a pattern has at most {LONGEST} bytes; split it");
        return Some(Finding::at("pattern", &call.span, message));
    }
    let text = Value::from(pattern);
    let nothing = Value::from("");
    // The engine's own limits hold, whatever the pattern is asked about.
    let asked = match name.as_str() {
        "glob.match" => builtins::named("glob.match", &[text, Value::new_array(), nothing]),
        _ => builtins::named("regex.match", &[text, nothing]),
    };
    let error = asked.err()?.to_string();
    // The last line says what is wrong; the others draw the place.
    let why = error
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    let why = why
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned();
    let message = format!(
        "this pattern can't be used: {why}; make it shorter, `[0-9A-Za-z_]` for `\\w`, or split it"
    );
    Some(Finding::at("pattern", &call.span, message))
}

#[cfg(test)]
mod tests {
    use crate::{Policy, Source};

    #[track_caller]
    fn check(condition: &str, expect: Option<&str>) {
        let source = Source {
            path: "t.rego".into(),
            text: format!("package remit.tools.t\nallow if {condition}"),
        };
        let findings = Policy::check(vec![source]);
        let found = findings.iter().find(|finding| finding.code != "no-tests");
        assert_eq!(found.map(|finding| finding.code), expect, "{findings:#?}");
    }

    #[test]
    fn a_pattern_is_one() {
        check("regex.match(`^[a-z]+$`, input.request.path)", None);
        check("glob.match(\"/a/*\", [\"/\"], input.request.path)", None);
    }
    #[test]
    fn a_bracket_that_is_not_closed_is_found() {
        check(
            "regex.match(`^[a-z+$`, input.request.path)",
            Some("pattern"),
        );
        check(
            "regex.replace(input.request.path, `(`, \"\") == \"x\"",
            Some("pattern"),
        );
    }
    #[test]
    fn one_that_grows_too_large_is_found() {
        check(
            "regex.match(`(\\w{500}){100}`, input.request.path)",
            Some("pattern"),
        );
    }
    #[test]
    fn one_that_is_too_long_is_found() {
        let long = format!("{}\n", "a".repeat(500)).repeat(40);
        check(
            &format!("glob.match(`{long}`, [\"/\"], input.request.path)"),
            Some("pattern"),
        );
    }
    #[test]
    fn whether_one_is_valid_may_be_asked() {
        check("not regex.is_valid(`(`)", None);
    }
    #[test]
    fn one_that_is_computed_is_left_to_the_call() {
        check(
            "regex.match(concat(\"\", [\"(\"]), input.request.path)",
            None,
        );
    }
}
