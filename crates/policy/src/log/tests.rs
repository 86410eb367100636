//! What is told of a decision, and what of it is masked.

use std::collections::BTreeMap;
use std::sync::Arc;

use regorus::Value;
use serde_json::{Value as Json, json};

use super::{DecisionLog, DecisionLogConfig, Event, Log};
use crate::decision::{Judgement, Terms};
use crate::{DenialKind, Policy, Source};

fn told(rules: &str, judged: &Judgement) -> (Option<Json>, u64) {
    let source = Source {
        path: "log.rego".into(),
        text: format!("package system.log\n{rules}"),
    };
    let sources = if rules.is_empty() {
        Vec::new()
    } else {
        vec![source]
    };
    let (policy, _) = Policy::load(sources).unwrap();
    let queue = Arc::new(DecisionLog::new(10_000));
    let log = Log::new(DecisionLogConfig {
        log: Arc::clone(&queue),
        labels: BTreeMap::from([("app".to_owned(), "remit".to_owned())]),
        bundles: BTreeMap::from([("company".to_owned(), "7".to_owned())]),
        mask: vec!["request.headers.*".to_owned()],
    });
    let input = json!({ "tool": { "name": "notes" }, "request": { "headers": { "x": "secret" }, "arguments": { "card": "4111" } } });
    let event = Event {
        id: "d1",
        at: "2026-01-01T00:00:00Z".to_owned(),
        revision: "r1",
        input: Some(&Value::from_json_str(&input.to_string()).unwrap()),
        judged,
    };
    log.tell(&event, policy.log.as_ref());
    let event = queue.take(1).pop();
    (
        event.map(|event| serde_json::from_slice(&event).unwrap()),
        queue.failed(),
    )
}

fn allowed() -> Judgement {
    Judgement::Allow(Terms {
        labels: vec!["seen".to_owned()],
        ..Terms::default()
    })
}

#[track_caller]
fn check(rules: &str, pointer: &str, expect: &Json) {
    let (event, failed) = told(rules, &allowed());
    let event = event.unwrap();
    assert_eq!(failed, 0);
    let found = event.pointer(pointer).unwrap_or(&Json::Null);
    assert_eq!(found, expect, "{event:#}");
}

#[test]
fn an_event_has_the_names_that_opa_gives() {
    let (event, _) = told("", &allowed());
    assert_eq!(
        event.unwrap(),
        json!({
            "labels": { "app": "remit" },
            "decision_id": "d1",
            "bundles": { "company": { "revision": "7" } },
            "path": "remit/decision",
            "input": { "tool": { "name": "notes" }, "request": { "headers": { "x": "(masked)" }, "arguments": { "card": "4111" } } },
            "result": { "verdict": "allow", "labels": ["seen"] },
            "timestamp": "2026-01-01T00:00:00Z",
        })
    );
}
#[test]
fn a_failure_is_an_error_and_no_result() {
    let (event, _) = told("", &Judgement::no(DenialKind::Failed, "too slow"));
    let event = event.unwrap();
    assert_eq!(event["error"]["message"], "too slow");
    assert_eq!(event["result"], Json::Null);
}
#[test]
fn a_rule_masks() {
    let rules =
        "mask contains \"/input/request/arguments/card\" if input.input.tool.name == \"notes\"";
    check(rules, "/input/request/arguments", &json!({}));
    check(rules, "/erased", &json!(["/input/request/arguments/card"]));
}
#[test]
fn a_rule_that_does_not_hold_masks_nothing() {
    let rules = "mask contains \"/input/request\" if input.input.tool.name == \"desk\"";
    check(rules, "/input/request/arguments/card", &json!("4111"));
}
#[test]
fn a_rule_puts_another_value() {
    let rules = r#"mask contains {"op": "upsert", "path": "/input/request/arguments/card", "value": "****"}"#;
    check(rules, "/input/request/arguments/card", &json!("****"));
}
#[test]
fn a_rule_sees_the_result() {
    let rules = "mask contains \"/result/labels\" if input.result.verdict == \"allow\"";
    check(rules, "/result", &json!({ "verdict": "allow" }));
}
#[test]
fn a_rule_drops() {
    let (event, failed) = told(
        "drop if input.result.verdict == \"allow\"\nmask contains \"/input\"",
        &allowed(),
    );
    assert!(event.is_none());
    assert_eq!(failed, 0);
}
#[test]
fn a_rule_that_drops_needs_none_that_masks() {
    let rules = "drop if input.result.verdict == \"deny\"";
    check(rules, "/result/verdict", &json!("allow"));
}
#[test]
fn what_can_not_be_masked_is_not_told() {
    for rules in [
        "mask contains \"/labels\"",
        "mask contains \"/input/x\" if startswith(input.input.tool, \"x\")",
        "drop := 7",
    ] {
        let (event, failed) = told(rules, &allowed());
        assert!(event.is_none(), "{rules}");
        assert_eq!(failed, 1, "{rules}");
    }
}
#[test]
fn what_is_too_long_is_told_without_its_input() {
    let event = json!({ "decision_id": "d1", "input": { "a": 1 }, "erased": ["/input/b"] });
    let told = super::without_input(event.to_string().as_bytes()).unwrap();
    let expect = json!({ "decision_id": "d1", "erased": ["/input/b", "/input"] });
    assert_eq!(serde_json::from_slice::<Json>(&told).unwrap(), expect);
    assert_eq!(super::without_input(&told), None);
}
