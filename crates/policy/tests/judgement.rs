//! What the data path answers, by the policy and the call: doubt denies.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::path::PathBuf;

use policy::{Judgement, Policy, STACK, Source};
use serde_json::{Value, json};

/// A policy of one tool, `t`.
fn policy(rules: &str) -> Policy {
    load(&[("t.rego", &format!("package remit.tools.t\n{rules}"))])
}

fn load(files: &[(&str, &str)]) -> Policy {
    let sources = files.iter().map(|(path, text)| Source {
        path: PathBuf::from(path),
        text: (*text).to_owned(),
    });
    let loaded = Policy::load(sources.collect());
    loaded.unwrap_or_else(|findings| panic!("{findings:#?}")).0
}

fn input(arguments: &Value) -> Value {
    json!({
        "tool": { "name": "t", "operation": "POST /x", "access": "write" },
        "task": { "labels": [] },
        "request": { "arguments": arguments },
    })
}

/// Judges where the stack is as large as the gateway's workers have it.
fn judge(policy: Policy, input: Value) -> Judgement {
    let thread = std::thread::Builder::new().stack_size(STACK);
    let work = move || policy.judge(&input);
    thread.spawn(work).unwrap().join().unwrap()
}

/// `allow`, or the kind of the denial with the policy's reason.
fn verdict(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Deny { kind, reason, .. } => match reason {
            Some(reason) => format!("{kind:?} {reason}"),
            None => format!("{kind:?}"),
        },
        _ => match judgement.reason() {
            Some(reason) => format!("{} {reason}", judgement.verdict()),
            None => judgement.verdict().to_owned(),
        },
    }
}

#[track_caller]
fn check(rules: &str, arguments: &Value, expect: &str) {
    let judgement = judge(policy(rules), input(arguments));
    assert_eq!(verdict(&judgement), expect, "{judgement:?}");
}

#[test]
fn nothing_is_no() {
    check("", &json!({}), "Undefined");
}
#[test]
fn allow_that_does_not_hold_is_no() {
    check(
        "allow if input.tool.access == \"read\"",
        &json!({}),
        "Undefined",
    );
}
#[test]
fn allow_is_yes() {
    check(
        "allow if input.tool.access == \"write\"",
        &json!({}),
        "allow",
    );
}
#[test]
fn allow_that_is_false_is_no() {
    check("default allow := false", &json!({}), "Undefined");
}
#[test]
fn deny_wins_over_allow() {
    check(
        "allow if true\ndeny contains \"no\" if true",
        &json!({}),
        "Denied no",
    );
}
#[test]
fn deny_wins_over_escalate() {
    check(
        "escalate contains \"ask\" if true\ndeny contains \"no\" if true",
        &json!({}),
        "Denied no",
    );
}
#[test]
fn escalate_wins_over_allow() {
    check(
        "allow if true\nescalate contains \"ask\" if true",
        &json!({}),
        "escalate ask",
    );
}
/// Judges with this as `input.approval`.
#[track_caller]
fn check_approved(rules: &str, approval: &Value, expect: &str) {
    let mut input = input(&json!({}));
    input["approval"] = approval.clone();
    let judgement = judge(policy(rules), input);
    assert_eq!(verdict(&judgement), expect, "{judgement:?}");
}
#[test]
fn an_approval_stands_for_every_escalate_and_no_allow() {
    let approved = json!({ "granted": true, "by": ["anna"] });
    let escalates = "escalate contains \"ask\" if true\nescalate contains \"twice\" if true";
    check_approved(&format!("allow if true\n{escalates}"), &approved, "allow");
    check_approved(escalates, &approved, "Undefined");
}
#[test]
fn deny_wins_over_an_approval() {
    check_approved(
        "allow if true\nescalate contains \"ask\" if true\ndeny contains \"no\" if true",
        &json!({ "granted": true }),
        "Denied no",
    );
}
#[test]
fn what_is_no_approval_is_none() {
    let rules = "allow if true\nescalate contains \"ask\" if true";
    for approval in [
        json!(null),
        json!(true),
        json!({}),
        json!({ "granted": false }),
        json!({ "granted": "true" }),
        json!([{ "granted": true }]),
    ] {
        check_approved(rules, &approval, "escalate ask");
    }
}
#[test]
fn an_approval_is_read_by_rules() {
    let rules = "allow if \"anna\" in input.approval.by\nescalate contains \"ask\" if true";
    let by = |name: &str| json!({ "granted": true, "by": [name] });
    check_approved(rules, &by("anna"), "allow");
    check_approved(rules, &by("bert"), "Undefined");
}
#[test]
fn all_that_escalates_is_demanded() {
    let rules = "escalate contains {\"reason\": \"money\", \"approvers\": {\"roles\": [\"operator\"], \"count\": 2}} if true
escalate contains {\"reason\": \"law\", \"approvers\": {\"names\": [\"anna\"]}} if true";
    let judgement = judge(policy(rules), input(&json!({})));
    let Judgement::Escalate { demands, .. } = judgement else {
        panic!("{judgement:?}");
    };
    let mut told: Vec<String> = demands
        .iter()
        .map(|demand| format!("{:?} {:?} {}", demand.names, demand.roles, demand.count))
        .collect();
    told.sort();
    assert_eq!(told, [r#"["anna"] [] 1"#, r#"[] ["operator"] 2"#]);
}
#[test]
fn a_demand_that_is_no_demand_fails() {
    for entry in [
        r#"{"reason": "x", "approvers": {"cuont": 2}}"#,
        r#"{"reason": "x", "approver": {"count": 2}}"#,
        r#"{"reason": "x", "approvers": {"names": [], "count": 1}}"#,
        "7",
    ] {
        let rules = format!("allow if true\nescalate contains {entry} if true");
        check(&rules, &json!({}), "Failed");
    }
}
#[test]
fn deny_takes_a_reason_and_a_message() {
    let rules = "deny contains {\"reason\": \"big\", \"message\": \"Too big.\"} if true";
    let judgement = judge(policy(rules), input(&json!({})));
    assert_eq!(verdict(&judgement), "Denied big");
    assert_eq!(judgement.message(), Some("Too big."));
}
#[test]
fn deny_takes_a_text() {
    let judgement = judge(
        policy("deny contains \"It is too big.\" if true"),
        input(&json!({})),
    );
    assert_eq!(verdict(&judgement), "Denied unnamed");
    assert_eq!(judgement.message(), Some("It is too big."));
}
#[test]
fn deny_of_any_shape_denies() {
    check(
        "allow if true\ndeny contains 7 if true",
        &json!({}),
        "Denied unnamed",
    );
}
#[test]
fn deny_of_an_empty_object_denies() {
    check(
        "allow if true\ndeny contains {} if true",
        &json!({}),
        "Denied unnamed",
    );
}
#[test]
fn deny_of_false_denies() {
    check(
        "allow if true\ndeny contains false if true",
        &json!({}),
        "Denied unnamed",
    );
}
#[test]
fn terms_come_with_the_allow() {
    let rules = "allow if true
        labels contains \"untrusted\"
        redact contains \"/ssn\"
        warnings contains \"old\"
        credential := {\"scopes\": [\"b\", \"a\"], \"ttl_seconds\": 60}";
    let Judgement::Allow(terms) = judge(policy(rules), input(&json!({}))) else {
        panic!("not allowed");
    };
    assert_eq!(terms.labels, ["untrusted"]);
    assert_eq!(terms.redact, ["/ssn"]);
    assert_eq!(terms.warnings, ["old"]);
    assert_eq!(terms.narrowing.scopes, ["a", "b"]);
    assert_eq!(terms.narrowing.ttl_seconds, Some(60));
}
#[test]
fn a_label_that_is_no_text_fails() {
    check("allow if true\nlabels contains 7", &json!({}), "Failed");
}
#[test]
fn a_credential_of_the_wrong_shape_fails() {
    check(
        "allow if true\ncredential := {\"scope\": \"a\"}",
        &json!({}),
        "Failed",
    );
}
#[test]
fn another_tool_is_no() {
    let policy = policy("allow if true");
    let mut input = input(&json!({}));
    input["tool"]["name"] = json!("other");
    assert_eq!(verdict(&judge(policy, input)), "Undefined");
}
#[test]
fn what_holds_for_all_holds_for_tools_without_a_package() {
    let policy = load(&[(
        "all.rego",
        "package remit.all\nallow if input.tool.access == \"write\"",
    )]);
    assert_eq!(verdict(&judge(policy, input(&json!({})))), "allow");
}
#[test]
fn a_deny_for_all_wins() {
    let policy = load(&[
        ("t.rego", "package remit.tools.t\nallow if true"),
        (
            "all.rego",
            "package remit.all\ndeny contains \"closed\" if true",
        ),
    ]);
    assert_eq!(verdict(&judge(policy, input(&json!({})))), "Denied closed");
}
#[test]
fn an_input_that_is_no_object_is_no() {
    assert_eq!(
        verdict(&judge(policy("allow if true"), json!([1]))),
        "Undefined"
    );
}
#[test]
fn an_input_that_nests_too_deep_fails() {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    check("allow if true", &json!({ "x": deep }), "Failed");
}

// E1: an error in a rule that would deny must not be taken for "does not hold".

const DENY_LONG: &str =
    "allow if true\ndeny contains \"long\" if startswith(input.request.arguments.text, \"x\")";

#[test]
fn a_builtin_that_holds_denies() {
    check(DENY_LONG, &json!({ "text": "xy" }), "Denied long");
}
#[test]
fn a_builtin_that_does_not_hold_does_not_deny() {
    check(DENY_LONG, &json!({ "text": "y" }), "allow");
}
#[test]
fn a_builtin_on_nothing_does_not_hold() {
    check(DENY_LONG, &json!({}), "allow");
}
#[test]
fn a_builtin_on_the_wrong_type_fails() {
    check(DENY_LONG, &json!({ "text": ["xy"] }), "Failed");
}
#[test]
fn a_builtin_that_fails_in_a_helper_fails() {
    let rules = "allow if true
        deny contains \"long\" if helper(input.request.arguments.text)
        helper(text) if count(text) > 3";
    check(rules, &json!({ "text": 7 }), "Failed");
}
#[test]
fn a_builtin_that_fails_in_a_comprehension_fails() {
    let rules = "allow if true
        deny contains \"x\" if count([1 | some _ in [1]; startswith(input.request.arguments.text, \"x\")]) > 0";
    check(rules, &json!({ "text": 7 }), "Failed");
}
#[test]
fn a_builtin_that_fails_below_not_fails() {
    check(
        "allow if not startswith(input.request.arguments.text, \"x\")",
        &json!({ "text": 7 }),
        "Failed",
    );
}
#[test]
fn the_next_call_after_a_failure_is_judged_anew() {
    let policy = policy(DENY_LONG);
    let judge = move || {
        let failed = policy.judge(&input(&json!({ "text": 7 })));
        (failed, policy.judge(&input(&json!({ "text": "y" }))))
    };
    let thread = std::thread::Builder::new().stack_size(STACK);
    let (failed, next) = thread.spawn(judge).unwrap().join().unwrap();
    assert_eq!(
        (verdict(&failed), verdict(&next)),
        ("Failed".to_owned(), "allow".to_owned())
    );
}

const DENY_TAG: &str = "allow if true\ndeny contains \"tag\" if { some tag in input.request.arguments.tags; tag == \"bad\" }";

#[test]
fn a_loop_over_a_list_denies() {
    check(DENY_TAG, &json!({ "tags": ["good", "bad"] }), "Denied tag");
}
#[test]
fn a_loop_over_nothing_does_not_hold() {
    check(DENY_TAG, &json!({}), "allow");
}
#[test]
fn a_loop_over_a_text_fails() {
    check(DENY_TAG, &json!({ "tags": "bad" }), "Failed");
}
#[test]
fn a_loop_over_an_index_of_a_text_fails() {
    check(
        "allow if true\ndeny contains \"tag\" if input.request.arguments.tags[_] == \"bad\"",
        &json!({ "tags": "bad" }),
        "Failed",
    );
}
#[test]
fn every_of_a_text_fails() {
    check(
        "allow if { every tag in input.request.arguments.tags { tag != \"bad\" } }",
        &json!({ "tags": "bad" }),
        "Failed",
    );
}

const DENY_SUM: &str = "allow if true\ndeny contains \"sum\" if input.request.arguments.a + 1 > 10";

#[test]
fn a_sum_is_a_sum() {
    check(DENY_SUM, &json!({ "a": 9.5 }), "Denied sum");
}
#[test]
fn a_small_sum_passes() {
    check(DENY_SUM, &json!({ "a": 9 }), "allow");
}
#[test]
fn a_sum_of_nothing_does_not_hold() {
    check(DENY_SUM, &json!({}), "allow");
}
#[test]
fn a_sum_with_a_text_fails() {
    check(DENY_SUM, &json!({ "a": "100" }), "Failed");
}
#[test]
fn a_division_by_zero_fails() {
    check(
        "allow if true\ndeny contains \"x\" if 10 / input.request.arguments.a > 1",
        &json!({ "a": 0 }),
        "Failed",
    );
}
#[test]
fn a_remainder_of_a_fraction_fails() {
    check(
        "allow if true\ndeny contains \"x\" if input.request.arguments.a % 2 == 1",
        &json!({ "a": 1.5 }),
        "Failed",
    );
}
#[test]
fn a_remainder_is_a_remainder() {
    check(
        "allow if true\ndeny contains \"odd\" if input.request.arguments.a % 2 == 1",
        &json!({ "a": 3 }),
        "Denied odd",
    );
}
#[test]
fn differences_of_sets_work() {
    let rules =
        "allow if count({\"a\", \"b\"} - {x | some x in input.request.arguments.have}) == 0";
    check(rules, &json!({ "have": ["a", "b"] }), "allow");
}
#[test]
fn differences_products_and_quotients_work() {
    check(
        "allow if (input.request.arguments.a - 1) * 6 / 4 == 3",
        &json!({ "a": 3 }),
        "allow",
    );
}

// E5: what is compared across types is decided as OPA does, in both engines.

const DENY_MUCH: &str =
    "allow if true\ndeny contains \"much\" if input.request.arguments.amount > 100";

#[test]
fn a_number_in_text_is_more_than_any_number() {
    check(DENY_MUCH, &json!({ "amount": "1" }), "Denied much");
}
#[test]
fn a_list_is_more_than_any_number() {
    check(DENY_MUCH, &json!({ "amount": [1] }), "Denied much");
}
#[test]
fn one_and_one_point_nought_are_one() {
    check(
        "allow if input.request.arguments.n == 1",
        &json!({ "n": 1.0 }),
        "allow",
    );
}

// E2: what grows without limit is stopped, and the process lives.

#[test]
fn a_loop_over_much_is_stopped() {
    let many: Vec<u32> = (0..3_000).collect();
    let rules = "allow if count([1 | some a in input.request.arguments.many; some b in input.request.arguments.many; a == b]) > 0";
    check(rules, &json!({ "many": many }), "TooSlow");
}
#[test]
fn a_text_that_would_grow_without_limit_is_stopped() {
    let long = "a".repeat(20_000);
    check(
        "allow if count(replace(input.request.arguments.t, \"a\", input.request.arguments.t)) > 0",
        &json!({ "t": long }),
        "Failed",
    );
}
#[test]
fn a_replacement_in_a_long_text_works() {
    let long = "a".repeat(20_000);
    check(
        "allow if count(replace(input.request.arguments.t, \"a\", \"bc\")) == 40000",
        &json!({ "t": long }),
        "allow",
    );
}
#[test]
fn a_pattern_from_the_agent_that_is_none_fails() {
    check(
        "allow if true\ndeny contains \"x\" if regex.match(input.request.arguments.p, \"x\")",
        &json!({ "p": "(" }),
        "Failed",
    );
}
#[test]
fn a_pattern_from_the_agent_that_is_huge_fails() {
    check(
        "allow if true\ndeny contains \"x\" if regex.match(input.request.arguments.p, \"x\")",
        &json!({ "p": "(a{1000}){1000}" }),
        "Failed",
    );
}
