//! How often and how many at once: of a task, of what it was delegated from, of an agent, of a tool.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::time::Duration;

use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const POLICY: &str = r#"package remit.all

allow if input.request.path != "/denied"
"#;

struct World {
    site: Site,
    upstream: Upstream,
}

impl World {
    /// One tool with this limit, and more of the config.
    fn new(limits: &str, more: &str) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::Echo));
        site.write("policy/all.rego", POLICY);
        site.config(&format!(
            "tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"] }}
    limits: {limits}
{more}",
            upstream.url()
        ));
        Self { site, upstream }
    }
}

fn open(remit: &Remit, more: &[&str]) -> (String, String) {
    remit.open_task(&[&["--tool", "notes", "--agent", "triage"], more].concat())
}

fn get(remit: &Remit, token: &str, path: &str) -> Response {
    let request = testkit::http().get(remit.call(path));
    request.bearer_auth(token).send().unwrap()
}

/// How many of so many calls are let through, and the refusal of the last.
fn passed(remit: &Remit, token: &str, calls: usize) -> (usize, Value) {
    let mut passed = 0;
    let mut refusal = Value::Null;
    for _ in 0..calls {
        let answer = get(remit, token, "/notes/a");
        if answer.status().is_success() {
            passed += 1;
            continue;
        }
        assert_eq!(answer.status().as_u16(), 429);
        let after = answer.headers()["retry-after"].to_str().unwrap().to_owned();
        refusal = answer.json().unwrap();
        assert_eq!(refusal["retry_after"].to_string(), after);
    }
    (passed, refusal)
}

#[test]
fn a_task_calls_so_often() {
    let world = World::new("{}", "");
    let remit = world.site.serve();
    let (_, token) = open(&remit, &["--per-minute", "3"]);
    let (count, refusal) = passed(&remit, &token, 5);
    assert_eq!(count, 3);
    assert_eq!(refusal["code"], "rate_limited");
    assert_eq!(refusal["reason"], "task");
    // 20 s bring one of them back.
    assert!(refusal["retry_after"].as_u64().unwrap() <= 20);
    let (_, other) = open(&remit, &["--per-minute", "3"]);
    assert_eq!(passed(&remit, &other, 1).0, 1);
}

#[test]
fn what_is_denied_counts_too() {
    let world = World::new("{}", "");
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--per-minute", "3"]);
    for _ in 0..2 {
        assert_eq!(get(&remit, &token, "/notes/denied").status().as_u16(), 403);
    }
    assert_eq!(passed(&remit, &token, 2).0, 1);
    // It uses up no calls.
    let shown = remit.command(&["task", "show", &id, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["used"]["calls"], 1);
}

#[test]
fn the_calls_of_a_child_are_its_parents_too() {
    let world = World::new("{}", "");
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--per-minute", "3"]);
    let delegate = |limits: Value| {
        let part = json!({ "agent": "reader", "grants": [{ "tool": "notes", "access": ["read"] }], "limits": limits });
        let url = remit.control(&format!("/v1/tasks/{id}/delegate"));
        let request = testkit::http().post(url).bearer_auth(&token).json(&part);
        request.send().unwrap()
    };
    let wider: Value = delegate(json!({ "rate": { "per_minute": 4 } }))
        .json()
        .unwrap();
    assert_eq!(
        (&wider["code"], &wider["field"]),
        (&json!("wider_than_parent"), &json!("limits.rate"))
    );
    let child: Value = delegate(json!({})).json().unwrap();
    let child = child["token"].as_str().unwrap();
    assert_eq!(passed(&remit, child, 2).0, 2);
    assert_eq!(passed(&remit, &token, 2).0, 1);
    let (count, refusal) = passed(&remit, child, 1);
    assert_eq!((count, &refusal["reason"]), (0, &json!("parent")));
}

#[test]
fn an_agent_calls_so_often_whatever_its_tasks() {
    let world = World::new("{}", "tasks: { agents: { per_minute: 60, burst: 4 } }\n");
    let remit = world.site.serve();
    let (_, first) = open(&remit, &[]);
    let (_, second) = open(&remit, &[]);
    assert_eq!(passed(&remit, &first, 3).0, 3);
    let (count, refusal) = passed(&remit, &second, 5);
    assert!(count <= 2, "{count}");
    assert_eq!(refusal["reason"], "agent");
    let other = remit
        .open_task(&["--tool", "notes", "--agent", "another"])
        .1;
    assert_eq!(passed(&remit, &other, 1).0, 1);
}

#[test]
fn a_tool_is_called_so_often_whoever_calls() {
    let world = World::new("{ per_minute: 2 }", "");
    let remit = world.site.serve();
    let (_, first) = open(&remit, &[]);
    let second = remit
        .open_task(&["--tool", "notes", "--agent", "another"])
        .1;
    assert_eq!(passed(&remit, &first, 1).0, 1);
    let (count, refusal) = passed(&remit, &second, 3);
    assert_eq!((count, &refusal["reason"]), (1, &json!("tool")));
    assert_eq!(world.upstream.received().len(), 2);
}

#[test]
fn so_many_calls_are_under_way_at_once() {
    let world = World::new("{}", "");
    world
        .upstream
        .answer(Answer::Ticks(2, Duration::from_secs(600)));
    let remit = world.site.serve();
    let (_, token) = open(&remit, &["--concurrency", "2"]);
    let streams = [0, 1].map(|_| {
        let answer = get(&remit, &token, "/notes/a");
        assert!(answer.status().is_success());
        answer
    });
    let (count, refusal) = passed(&remit, &token, 1);
    assert_eq!((count, &refusal["code"]), (0, &json!("too_many_at_once")));
    assert_eq!(refusal["reason"], "task");
    // One that is over makes room for another, however it ended.
    drop(streams);
    until("there is room", || {
        get(&remit, &token, "/notes/a").status().is_success()
    });
}

#[test]
fn a_hundred_at_once_are_no_more_than_may_be() {
    let world = World::new("{ concurrency: 5 }", "");
    world
        .upstream
        .answer(Answer::Ticks(2, Duration::from_secs(600)));
    let remit = world.site.serve();
    let (_, token) = open(&remit, &[]);
    let passed = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| get(&remit, &token, "/notes/a")))
            .collect();
        let answers: Vec<Response> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        answers
            .iter()
            .filter(|answer| answer.status().is_success())
            .count()
    });
    assert_eq!(passed, 5);
    assert_eq!(world.upstream.received().len(), 5);
}

#[test]
fn limits_that_say_nothing_are_refused() {
    let world = World::new("{}", "");
    let remit = world.site.serve();
    for limits in [
        json!({ "rate": { "per_minute": 0 } }),
        json!({ "rate": { "per_minute": 1, "burst": 0 } }),
        json!({ "concurrency": 0 }),
    ] {
        let task = json!({ "agent": "a", "grants": [{ "tool": "notes", "access": ["read"] }], "limits": limits });
        let request = testkit::http().post(remit.control("/v1/tasks")).json(&task);
        let answer = request.bearer_auth(remit.operator_token()).send().unwrap();
        let problem: Value = answer.json().unwrap();
        assert_eq!(problem["code"], "invalid_opening", "{problem}");
    }
}
