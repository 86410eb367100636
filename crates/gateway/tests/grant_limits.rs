//! Grants that limit arguments and labels, over a served gateway: calls outside of them are out of remit before policy is asked, and
//! nobody hands on more than it has (row C3).
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// All that the grants cover, as long as policy sees their limits.
const POLICY: &str = r#"package remit.all

allow if {
	some grant in input.task.grants
	grant.tool == input.tool.name
	is_object(grant.arguments)
	is_array(grant.unless_labels)
}

deny contains "seen_by_policy" if {
	input.request.path == "/shown"
	some grant in input.task.grants
	grant.arguments["/repo"].pattern == "acme/*"
	grant.unless_labels == ["untrusted"]
}
"#;

struct World {
    site: Site,
    remit: Remit,
    upstream: Upstream,
}

impl World {
    fn start() -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::Echo));
        site.write("policy/all.rego", POLICY);
        let url = upstream.url();
        site.config(&format!(
            "audit: {{ path: audit.jsonl }}
tools:
  web:
    upstream: {url}
    access: {{ read: [\"GET /**\"] }}
    marks: [{{ operations: [\"GET /pages/**\"], labels: [untrusted] }}]
  code:
    upstream: {url}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
  files:
    upstream: {url}
    body: stream
    access: {{ write: [\"POST /**\"] }}
"
        ));
        let remit = site.serve();
        Self {
            site,
            remit,
            upstream,
        }
    }

    /// A planner's task with these grants.
    fn open(&self, grants: &[Value]) -> (String, String) {
        let grants: Vec<String> = grants.iter().map(Value::to_string).collect();
        let mut arguments = vec!["--agent", "planner"];
        for grant in &grants {
            arguments.extend(["--grant", grant]);
        }
        self.remit.open_task(&arguments)
    }

    fn delegate(&self, (task, token): (&str, &str), grants: &Value) -> Response {
        let url = self.remit.control(&format!("/v1/tasks/{task}/delegate"));
        let request = json!({ "agent": "researcher", "grants": grants });
        let request = testkit::http().post(url).bearer_auth(token).json(&request);
        request.send().unwrap()
    }

    fn post(&self, token: &str, path: &str, body: &Value) -> Response {
        let request = testkit::http().post(self.remit.call(path));
        request.bearer_auth(token).json(body).send().unwrap()
    }

    fn get(&self, token: &str, path: &str) -> Response {
        let request = testkit::http().get(self.remit.call(path));
        request.bearer_auth(token).send().unwrap()
    }
}

fn code_grant() -> Value {
    json!({ "tool": "code", "access": ["read", "write"], "operations": ["POST /**"],
        "arguments": { "/repo": { "pattern": "acme/*" }, "/amount": { "max": 100 }, "/force": { "absent": true } },
        "unless_labels": ["untrusted"] })
}

fn web_grant() -> Value {
    json!({ "tool": "web", "access": ["read"] })
}

#[track_caller]
fn out_of_remit(answer: Response, reason: &str, message: &str) {
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], "out_of_remit", "{problem}");
    assert_eq!(problem["reason"], reason, "{problem}");
    assert_eq!(problem["message"], message, "{problem}");
}

#[test]
fn c3_a_call_keeps_to_the_arguments_of_its_grant() {
    let world = World::start();
    let files =
        json!({ "tool": "files", "access": ["write"], "arguments": { "/a": { "absent": true } } });
    let (id, token) = world.open(&[code_grant(), files]);
    let fine = json!({ "repo": "acme/x", "amount": 100.0 });
    assert!(world.post(&token, "/code/a", &fine).status().is_success());
    let repo = "the grant limits the argument `/repo`";
    for body in [
        json!({ "repo": "acme/../evil/secret-of-mine", "amount": 1 }),
        json!({ "repo": "evil/x", "amount": 1 }),
        json!({ "Repo": "acme/x", "amount": 1 }),
        json!({ "amount": 1 }),
    ] {
        out_of_remit(world.post(&token, "/code/a", &body), "argument_limit", repo);
    }
    let twice = world.post(&token, "/code/a?REPO=evil", &fine);
    out_of_remit(twice, "argument_limit", repo);
    let amount = json!({ "repo": "acme/x", "amount": 101 });
    let problem = "the grant limits the argument `/amount`";
    out_of_remit(
        world.post(&token, "/code/a", &amount),
        "argument_limit",
        problem,
    );
    let forced = json!({ "repo": "acme/x", "amount": 1, "force": false });
    let problem = "the grant limits the argument `/force`";
    out_of_remit(
        world.post(&token, "/code/a", &forced),
        "argument_limit",
        problem,
    );
    let unread = "the grant limits arguments, and those of this call are not read in one way";
    let streamed = world.post(&token, "/files/a", &json!({}));
    out_of_remit(streamed, "arguments_unknown", unread);
    assert_eq!(world.upstream.received().len(), 1);
    // Policy sees the limits, and explain tells them as the call does.
    let shown: Value = world.post(&token, "/code/shown", &fine).json().unwrap();
    assert_eq!(shown["reason"], "seen_by_policy");
    let body = r#"{"repo":"evil/x","amount":1}"#;
    let command = [
        "explain", "POST", "/code/a", "--task", &id, "-d", body, "--json",
    ];
    let explained = world.remit.command(&command);
    let explained = String::from_utf8(explained.stdout).unwrap();
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["code"], "out_of_remit", "{explained}");
    assert_eq!(explained["reason"], "argument_limit");
    // No value of a call is in what is told of it.
    let refused = || {
        let audit = std::fs::read_to_string(world.site.path("audit.jsonl")).unwrap();
        assert!(!audit.contains("secret-of-mine"), "{audit}");
        audit.matches("\"argument_limit\"").count() > 6
    };
    until("the refusals are audited", refused);
}

#[test]
fn c3_a_label_ends_a_grant_whoever_brought_it() {
    let world = World::start();
    let (id, token) = world.open(&[code_grant(), web_grant()]);
    let fine = json!({ "repo": "acme/x", "amount": 1 });
    assert!(world.post(&token, "/code/a", &fine).status().is_success());
    let child = world.delegate((&id, &token), &json!([code_grant(), web_grant()]));
    let child: Value = child.json().unwrap();
    let child_token = child["token"].as_str().unwrap();
    assert!(
        world
            .post(child_token, "/code/a", &fine)
            .status()
            .is_success()
    );
    let reader = world.delegate((&id, &token), &json!([web_grant()]));
    let reader: Value = reader.json().unwrap();
    let read = world.get(reader["token"].as_str().unwrap(), "/web/pages/a");
    assert!(read.status().is_success());
    // What one child read the parent and its other child carry.
    let problem = "the grant is for a task without the label `untrusted`";
    for token in [token.as_str(), child_token] {
        out_of_remit(world.post(token, "/code/a", &fine), "label_limit", problem);
        assert!(world.get(token, "/web/pages/a").status().is_success());
    }
}

#[test]
fn c3_a_child_has_no_wider_arguments_or_labels_than_its_parent() {
    let world = World::start();
    let (id, token) = world.open(&[code_grant(), web_grant()]);
    let change = |key: &str, value: Value| {
        let mut grant = code_grant();
        match key {
            "unless_labels" => grant[key] = value,
            pointer => grant["arguments"][pointer] = value,
        }
        grant
    };
    let mut without = code_grant();
    without.as_object_mut().unwrap().remove("arguments");
    let mut less = code_grant();
    less["arguments"].as_object_mut().unwrap().remove("/force");
    for grant in [
        without,
        less,
        change("/repo", json!({ "pattern": "*" })),
        change("/repo", json!({ "one_of": ["acme/x", "evil/x"] })),
        change("/repo", json!({ "one_of": ["acme/../evil"] })),
        change("/repo", json!({ "max_length": 10 })),
        change("/amount", json!({ "max": 100.5 })),
        change("/amount", json!({ "min": 0 })),
        change("/force", json!({ "one_of": [false] })),
        change("unless_labels", json!([])),
        change("unless_labels", json!(["secret"])),
    ] {
        let refused = world.delegate((&id, &token), &json!([web_grant(), grant]));
        assert_eq!(refused.status().as_u16(), 403);
        let problem: Value = refused.json().unwrap();
        assert_eq!(problem["code"], "wider_than_parent", "{grant}");
    }
    assert_eq!(world.remit.status()["counts"]["open_tasks"], 1);
    let mut narrower = change("/repo", json!({ "one_of": ["acme/x", "acme/y"] }));
    narrower["arguments"]["/amount"] = json!({ "min": 1, "max": 5 });
    narrower["unless_labels"] = json!(["secret", "untrusted"]);
    let child = world.delegate((&id, &token), &json!([narrower]));
    assert_eq!(child.status().as_u16(), 201);
    let child: Value = child.json().unwrap();
    let child_token = child["token"].as_str().unwrap();
    let call = |amount: u64| {
        let body = json!({ "repo": "acme/y", "amount": amount });
        world.post(child_token, "/code/a", &body)
    };
    assert!(call(5).status().is_success());
    let problem = "the grant limits the argument `/amount`";
    out_of_remit(call(6), "argument_limit", problem);
}

#[test]
fn limits_are_told_and_outlive_the_gateway() {
    let mut world = World::start();
    let (id, token) = world.remit.open_task(&[
        "--agent",
        "planner",
        "--tool",
        "code",
        "--access",
        "write",
        "--argument",
        r#"/repo={"pattern":"acme/*"}"#,
        "--unless-label",
        "untrusted",
    ]);
    let shown = |remit: &Remit| {
        let shown = remit.command(&["task", "show", &id]);
        String::from_utf8(shown.stdout).unwrap()
    };
    let story = "may       write code; /repo is like \"acme/*\"; unless it is untrusted";
    assert!(shown(&world.remit).contains(story));
    world.remit.kill();
    world.remit = world.site.serve();
    assert!(shown(&world.remit).contains(story));
    let refused = world.post(&token, "/code/a", &json!({ "repo": "evil" }));
    out_of_remit(
        refused,
        "argument_limit",
        "the grant limits the argument `/repo`",
    );
}

#[test]
fn odd_limits_open_nothing() {
    let world = World::start();
    let url = world.remit.control("/v1/tasks");
    for (limits, code) in [
        (
            json!({ "arguments": { "repo": { "max": 1 } } }),
            "invalid_body",
        ),
        (
            json!({ "arguments": { "/~2": { "max": 1 } } }),
            "invalid_body",
        ),
        (
            json!({ "arguments": { "/a": { "like": "x" } } }),
            "invalid_body",
        ),
        (json!({ "arguments": { "/a": {} } }), "invalid_body"),
        (
            json!({ "arguments": { "/a": { "max": 1e300 } } }),
            "invalid_body",
        ),
        (
            json!({ "arguments": { "/a": { "one_of": [["x"]] } } }),
            "invalid_body",
        ),
        (
            json!({ "unless_labels": ["Not A Label"] }),
            "invalid_opening",
        ),
    ] {
        let mut grant = json!({ "tool": "code", "access": ["write"] });
        for (key, value) in limits.as_object().unwrap() {
            grant[key] = value.clone();
        }
        let request = testkit::http().post(&url);
        let request = request.bearer_auth(world.remit.operator_token());
        let request = request.json(&json!({ "agent": "planner", "grants": [grant] }));
        let refused: Value = request.send().unwrap().json().unwrap();
        assert_eq!(refused["code"], code, "{refused}");
    }
    // Of two conditions on one argument none may be lost.
    let twice = r#"{"agent":"planner","grants":[{"tool":"code","access":["write"],"arguments":{"/a":{"max":1},"/a":{"max":9}}}]}"#;
    let request = testkit::http().post(&url).body(twice);
    let request = request.bearer_auth(world.remit.operator_token());
    let request = request.header("content-type", "application/json");
    let refused: Value = request.send().unwrap().json().unwrap();
    assert_eq!(refused["code"], "invalid_body", "{refused}");
    assert_eq!(world.remit.status()["counts"]["open_tasks"], 0);
}
