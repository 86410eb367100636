//! What a task has done decides what it may do: labels by the config and by policy, and the last calls.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::remit::Remit;
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const POLICY: &str = r#"package remit.all

allow if true

labels contains "wrote" if input.tool.access == "write"

labels contains "Not A Label" if input.request.path == "/odd"

deny contains "untrusted" if {
	input.tool.name == "mail"
	"untrusted" in input.task.labels
}

deny contains "same_again" if {
	input.request.path == "/once"
	some done in input.history.recent
	done.tool == "mail"
	done.operation == "POST /**"
}
"#;

struct World {
    site: Site,
    upstream: Upstream,
}

impl World {
    fn new() -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::Echo));
        site.write("policy/all.rego", POLICY);
        let url = upstream.url();
        site.config(&format!(
            "tools:
  web:
    upstream: {url}
    access: {{ read: [\"GET /**\"] }}
    marks: [{{ operations: [\"GET /pages/**\"], access: [read], labels: [untrusted] }}]
  mail:
    upstream: {url}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
"
        ));
        Self { site, upstream }
    }
}

fn open(remit: &Remit) -> (String, String) {
    let tools = ["--tool", "web", "--tool", "mail", "--access", "read,write"];
    remit.open_task(&[&tools[..], &["--agent", "triage"]].concat())
}

fn get(remit: &Remit, token: &str, path: &str) -> Response {
    let request = testkit::http().get(remit.call(path));
    request.bearer_auth(token).send().unwrap()
}

fn send(remit: &Remit, token: &str, path: &str) -> Response {
    let request = testkit::http().post(remit.call(path));
    request.bearer_auth(token).json(&json!({})).send().unwrap()
}

#[track_caller]
fn refused(answer: Response, code: &str, reason: &Value) {
    let problem: Value = answer.json().unwrap();
    assert_eq!(
        (&problem["code"], &problem["reason"]),
        (&json!(code), reason)
    );
}

fn task(remit: &Remit, id: &str) -> Value {
    let shown = remit.command(&["task", "show", id, "--json"]);
    serde_json::from_slice(&shown.stdout).unwrap()
}

#[test]
fn what_a_task_has_read_decides_what_it_may_send() {
    let world = World::new();
    let remit = world.site.serve();
    let (id, token) = open(&remit);
    assert!(get(&remit, &token, "/web/help").status().is_success());
    assert!(send(&remit, &token, "/mail/a").status().is_success());
    assert_eq!(task(&remit, &id)["labels"], json!(["wrote"]));
    assert!(get(&remit, &token, "/web/pages/a").status().is_success());
    refused(
        send(&remit, &token, "/mail/a"),
        "denied",
        &json!("untrusted"),
    );
    assert_eq!(task(&remit, &id)["labels"], json!(["wrote", "untrusted"]));
    // Another task has not read it.
    let (_, other) = open(&remit);
    assert!(send(&remit, &other, "/mail/a").status().is_success());
    // Nothing forgets it.
    remit.kill();
    let remit = world.site.serve();
    refused(
        send(&remit, &token, "/mail/a"),
        "denied",
        &json!("untrusted"),
    );
}

#[test]
fn a_child_begins_with_the_labels_of_its_parent_and_reports_its_own() {
    let world = World::new();
    let remit = world.site.serve();
    let (id, token) = open(&remit);
    let part = json!({ "agent": "reader", "grants": [
        { "tool": "web", "access": ["read"] },
        { "tool": "mail", "access": ["write"] },
    ]});
    let delegate = || -> String {
        let url = remit.control(&format!("/v1/tasks/{id}/delegate"));
        let answer = testkit::http().post(url).bearer_auth(&token).json(&part);
        let opened: Value = answer.send().unwrap().json().unwrap();
        opened["token"].as_str().unwrap().to_owned()
    };
    let child = delegate();
    assert!(get(&remit, &child, "/web/pages/a").status().is_success());
    refused(
        send(&remit, &token, "/mail/a"),
        "denied",
        &json!("untrusted"),
    );
    let second = delegate();
    refused(
        send(&remit, &second, "/mail/a"),
        "denied",
        &json!("untrusted"),
    );
    assert_eq!(world.upstream.received().len(), 1);
}

#[test]
fn policy_sees_the_last_calls() {
    let world = World::new();
    let remit = world.site.serve();
    let (id, token) = open(&remit);
    assert!(send(&remit, &token, "/mail/once").status().is_success());
    refused(
        send(&remit, &token, "/mail/once"),
        "denied",
        &json!("same_again"),
    );
    let recent = &task(&remit, &id)["recent"];
    let expect = json!([{ "tool": "mail", "operation": "POST /**", "access": "write", "labels": ["wrote"] }]);
    assert_eq!(recent, &expect);
}

#[test]
fn what_is_no_label_denies() {
    let world = World::new();
    let remit = world.site.serve();
    let (_, token) = open(&remit);
    refused(
        get(&remit, &token, "/web/odd"),
        "policy_failed",
        &Value::Null,
    );
    assert!(world.upstream.received().is_empty());
}
