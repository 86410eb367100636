//! A policy that takes too long in use: the call is refused with a reason of its own, and metrics name the rule.

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::Site;
use testkit::remit::until;

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// As slow as the agent's list is long, times itself.
const SLOW: &str = "package remit.tools.notes

allow if true

deny contains \"pairs\" if {
	some one in input.request.arguments.list
	some other in input.request.arguments.list
	one + other == -1
}
";

#[test]
fn a_slow_policy_refuses_and_is_counted_by_rule() {
    let site = Site::new(REMIT);
    site.write("policy/notes.rego", SLOW);
    site.config("tools: { notes: { upstream: \"http://127.0.0.1:9\", access: { write: [\"POST /**\"] } } }\n");
    let remit = site.serve();
    let flags = ["--tool", "notes", "--access", "write", "--agent", "triage"];
    let (_, token) = remit.open_task(&flags);
    let list: Vec<u32> = (0..1_000).collect();
    let request = testkit::http().post(remit.call("/notes/a"));
    let request = request.bearer_auth(&token).json(&json!({ "list": list }));
    let refused = request.send().unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let told: Value = refused.json().unwrap();
    assert_eq!(told.get("code").unwrap(), "policy_too_slow");
    // The agent is not told which rule it was, operators are.
    assert!(!told.to_string().contains("remit.tools"));
    until("the log tells the rule", || {
        remit.logged().contains("data.remit.tools.notes.deny")
    });
    let metrics = testkit::http().get(remit.control("/metrics"));
    let metrics = metrics.bearer_auth(remit.operator_token()).send().unwrap();
    let expect = r#"remit_policy_failures_total{rule="data.remit.tools.notes.deny",reason="instructions"} 1"#;
    let metrics = metrics.text().unwrap();
    assert!(metrics.contains(expect), "{metrics}");
}
