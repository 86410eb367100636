//! The example policy loads, and says of each case what the matrix says.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::path::Path;

use policy::Policy;

#[test]
fn the_example_loads() {
    let findings = Policy::check(Policy::example());
    assert!(findings.is_empty(), "{findings:#?}");
}

use policy::{DenialKind, Judgement, Opener, Source};
use serde_json::{Value, json};

fn example() -> Policy {
    Policy::load(Policy::example()).unwrap().0
}

fn without(path: &str) -> Vec<Source> {
    let sources = Policy::example().into_iter();
    let stem = path.trim_end_matches(".rego");
    sources
        .filter(|source| !source.path.to_string_lossy().starts_with(stem))
        .collect()
}

fn opener(role: &str) -> Opener {
    Opener::Operator {
        name: "ops".to_owned(),
        role: role.to_owned(),
    }
}

fn refund(amount: &Value) -> Value {
    json!({
        "tool": { "name": "desk", "operation": "refund", "access": "write" },
        "task": { "labels": [] },
        "request": { "arguments": { "ticket": "T-1", "amount": amount } },
    })
}

#[test]
fn what_is_built_in_is_what_lies_in_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/example");
    let mut built_in: Vec<_> = Policy::example();
    built_in.sort_by(|one, other| one.path.cmp(&other.path));
    let read = Policy::read(&folder).unwrap();
    let names = |sources: &[Source]| -> Vec<_> {
        let sources = sources.iter();
        sources
            .map(|source| (source.path.clone(), source.text.clone()))
            .collect()
    };
    assert_eq!(names(&read), names(&built_in));
}

#[test]
fn reading_passes_over_hidden_and_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    };
    for path in [
        "a.rego",
        "deep/b.rego",
        "data.json",
        "samples/s.json",
        ".git/c.rego",
        "README.md",
        "other.json",
    ] {
        write(path);
    }
    let sources = Policy::read(folder.path()).unwrap().into_iter();
    let names: Vec<_> = sources
        .map(|source| source.path.display().to_string())
        .collect();
    assert_eq!(
        names,
        ["a.rego", "data.json", "deep/b.rego", "samples/s.json"]
    );
}

#[test]
fn reading_what_is_not_there_fails() {
    assert!(Policy::read(Path::new("/nowhere/at/all")).is_err());
}

#[test]
fn the_revision_is_the_sources() {
    let one = example();
    assert_eq!(one.revision(), example().revision());
    let mut sources = Policy::example();
    sources[0].text.push('\n');
    let (other, _) = Policy::load(sources).unwrap();
    assert_ne!(one.revision(), other.revision());
}

#[test]
fn its_tests_are_listed_with_their_places() {
    let results = Policy::test(Policy::example()).unwrap();
    assert!(results.iter().all(|result| result.passed), "{results:#?}");
    let purging = results
        .iter()
        .find(|result| result.name == "data.remit.desk_test.test_purging_is_denied");
    assert_eq!(purging.unwrap().file, "desk_test.rego");
}

#[test]
fn a_test_prints_and_fails_by_itself() {
    let mut sources = Policy::example();
    sources.push(Source {
        path: "x_test.rego".into(),
        text: "package remit.x_test\ntest_no if { print(\"here\", 1); false }\ntest_error if startswith(1, \"x\")".to_owned(),
    });
    let results = Policy::test(sources).unwrap();
    let of = |name: &str| {
        results
            .iter()
            .find(|result| result.name.ends_with(name))
            .unwrap()
    };
    assert_eq!(
        (of("test_no").passed, of("test_no").error.as_deref()),
        (false, None)
    );
    assert!(
        of("test_no").output[0].contains("here 1"),
        "{:?}",
        of("test_no").output
    );
    assert!(
        of("test_error")
            .error
            .as_deref()
            .unwrap()
            .contains("startswith")
    );
    assert!(of("test_purging_is_denied").passed);
}

#[test]
fn eval_answers_with_the_rule() {
    let decision = example()
        .eval("data.remit.decision", &refund(&json!(101)))
        .unwrap();
    assert_eq!(decision["reason"], "amount_too_high");
}

#[test]
fn eval_of_what_is_undefined_is_null() {
    assert_eq!(
        example().eval("data.remit.decision", &json!({})),
        Ok(Value::Null)
    );
}

#[test]
fn eval_of_what_is_no_rule_says_so() {
    assert!(example().eval("data.remit.nothing", &json!({})).is_err());
}

#[test]
fn tools_are_shown_by_default() {
    assert_eq!(
        example().eval("data.remit.visible", &json!({})),
        Ok(json!(true))
    );
}

#[test]
fn tools_are_hidden_where_the_policy_hides_them() {
    let mut sources = Policy::example();
    sources.push(Source {
        path: "list.rego".into(),
        text: "package remit.list\nhide if input.tool.name == \"desk\"".to_owned(),
    });
    let (policy, _) = Policy::load(sources).unwrap();
    assert_eq!(
        policy.eval("data.remit.visible", &refund(&json!(1))),
        Ok(json!(false))
    );
}

#[test]
fn an_explanation_names_the_rules_that_held() {
    let explanation = example().explain_json(&refund(&json!(101))).unwrap();
    assert_eq!(explanation.verdict, "deny");
    assert_eq!(explanation.reason.as_deref(), Some("amount_too_high"));
    assert_eq!(
        explanation.message.as_deref(),
        Some("A refund is at most 100.")
    );
    let rules: Vec<_> = explanation
        .rules
        .iter()
        .map(|rule| rule["rule"].as_str().unwrap())
        .collect();
    assert_eq!(
        rules,
        ["data.remit.tools.desk.allow", "data.remit.tools.desk.deny"]
    );
    assert_eq!(explanation.rules[1]["file"], "desk.rego");
    assert_eq!(explanation.decision["verdict"], "deny");
    assert_eq!(explanation.input["request"]["arguments"]["amount"], 101);
}

#[test]
fn an_explanation_of_nothing_says_so() {
    let explanation = example().explain_json(&json!({})).unwrap();
    assert_eq!(explanation.verdict, "deny");
    assert_eq!(explanation.decision, Value::Null);
    assert_eq!(
        explanation.message.as_deref(),
        Some("policy says nothing about this")
    );
}

#[test]
fn without_a_package_for_it_operators_and_orchestrators_open_tasks() {
    let (policy, _) = Policy::load(without("admit")).unwrap();
    let judge = |role| policy.judge_opening(&json!({ "grants": [] }), &opener(role));
    assert_eq!(judge("operator").verdict(), "allow");
    assert_eq!(judge("orchestrator").verdict(), "allow");
    assert_eq!(judge("approver").verdict(), "deny");
    assert_eq!(judge("viewer").verdict(), "deny");
}

#[test]
fn a_package_for_it_decides_alone_who_opens_tasks() {
    let mut sources = without("admit");
    sources.push(Source {
        path: "admit.rego".into(),
        text: "package remit.admit # ours\nallow if input.operator.name == \"root\"".to_owned(),
    });
    let (policy, _) = Policy::load(sources).unwrap();
    let judgement = policy.judge_opening(&json!({ "grants": [] }), &opener("operator"));
    assert!(matches!(
        judgement,
        Judgement::Deny {
            kind: DenialKind::Undefined,
            ..
        }
    ));
}

#[test]
fn an_admission_that_fails_denies() {
    let judgement = example().judge_opening(
        &json!({ "grants": [{ "tool": { "x": 1 } }], "n": 1 }),
        &opener("viewer"),
    );
    assert!(matches!(judgement, Judgement::Deny { .. }));
}
