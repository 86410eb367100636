//! What calls cost, how many bytes they move and what they touch: held before them, counted from the answers, exact, and
//! remembered.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const POLICY: &str = r#"package remit.all

allow if true

deny contains "tokens are dear" if {
	input.request.path == "/dear"
	input.history.spent.tokens > input.task.limits.budget.tokens / 2
}
"#;

const CHAT: &str = r#"access: { read: ["GET /**"], write: ["POST /**"] }
    usage:
      - { unit: tokens, json: [/usage/total_tokens], access: [write], reserve: 100 }
      - { unit: usd, header: x-cost, access: [write], reserve: 0.5 }
      - { unit: usd, json: [/usage/total_tokens], access: [write], price: 2, per: 1000000, reserve: 0.1 }"#;

struct World {
    site: Site,
    upstream: Upstream,
}

impl World {
    fn new(tool: &str) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::Echo));
        site.write("policy/all.rego", POLICY);
        let url = upstream.url();
        site.config(&format!(
            "tools:\n  llm:\n    upstream: {url}\n    {tool}\n"
        ));
        Self { site, upstream }
    }

    /// The tool says that a call cost this.
    fn costs(&self, tokens: u64, usd: &str) {
        let body = json!({ "usage": { "total_tokens": tokens } });
        self.upstream.answer(Answer::json(body).with("x-cost", usd));
    }
}

fn open(remit: &Remit, more: &[&str]) -> (String, String) {
    let tool = [
        "--tool",
        "llm",
        "--agent",
        "triage",
        "--access",
        "read,write",
    ];
    remit.open_task(&[&tool, more].concat())
}

fn post(remit: &Remit, token: &str, path: &str) -> Response {
    let request = testkit::http().post(remit.call(path));
    request.bearer_auth(token).json(&json!({})).send().unwrap()
}

fn used(remit: &Remit, id: &str) -> Value {
    let shown = remit.command(&["task", "show", id, "--json"]);
    let mut shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    shown["used"].take()
}

/// Waits until a task has used up this.
fn until_spent(remit: &Remit, id: &str, expect: &Value) {
    until("the cost is settled", || {
        used(remit, id)["spent"] == *expect
    });
}

#[track_caller]
fn check_refused(answer: Response, reason: &str) {
    assert_eq!(answer.status().as_u16(), 429);
    let refusal: Value = answer.json().unwrap();
    assert_eq!(
        (&refusal["code"], &refusal["reason"]),
        (&json!("limit_exhausted"), &json!(reason))
    );
}

#[test]
fn what_answers_cost_is_taken_from_the_budget() {
    let world = World::new(CHAT);
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--budget", "tokens=1000", "--budget", "usd=5"]);
    world.costs(400, "0.25");
    assert_eq!(post(&remit, &token, "/llm/chat").status(), 200);
    until_spent(&remit, &id, &json!({ "tokens": 400, "usd": 0.2508 }));
    // Reads cost nothing.
    assert!(
        testkit::http()
            .get(remit.call("/llm/x"))
            .bearer_auth(&token)
            .send()
            .unwrap()
            .status()
            .is_success()
    );
    world.costs(501, "0");
    assert_eq!(post(&remit, &token, "/llm/chat").status(), 200);
    until_spent(&remit, &id, &json!({ "tokens": 901, "usd": 0.251_802 }));
    // A hundred are held for each, and ninety-nine are left.
    check_refused(post(&remit, &token, "/llm/chat"), "budget.tokens");
    let (_, other) = open(&remit, &["--budget", "usd=0.59"]);
    check_refused(post(&remit, &other, "/llm/chat"), "budget.usd");
    let story = remit.command(&["task", "show", &id]);
    let story = String::from_utf8(story.stdout).unwrap();
    assert!(story.contains("99 of 1000 tokens"), "{story}");
    // The tool is not asked for a coding that hides what it cost.
    let asked = world.upstream.received();
    let write = asked
        .iter()
        .find(|request| request.method == "POST")
        .unwrap();
    assert_eq!(write.header("accept-encoding"), Some("identity"));
}

#[test]
fn policy_sees_what_was_spent_and_what_may_be() {
    let world = World::new(CHAT);
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--budget", "tokens=1000"]);
    world.costs(600, "0");
    assert_eq!(post(&remit, &token, "/llm/dear").status(), 200);
    until_spent(&remit, &id, &json!({ "tokens": 600, "usd": 0.0012 }));
    assert_eq!(post(&remit, &token, "/llm/dear").status(), 403);
}

#[test]
fn an_answer_that_tells_nothing_costs_what_was_held() {
    let world = World::new(CHAT);
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--budget", "tokens=1000"]);
    for (answer, expect) in [
        (Answer::json(json!({})), 100),
        (Answer::Bytes(StatusCode::OK, "no JSON".into()), 200),
        (
            Answer::json(json!({"usage": {"total_tokens": 1}})).with("content-encoding", "gzip"),
            300,
        ),
        (
            Answer::Broken("{\"usage\":{\"total_tokens\":5}}".into()),
            400,
        ),
        // A failure costs nothing unless it says so.
        (Answer::Json(StatusCode::TOO_MANY_REQUESTS, json!({})), 400),
        // One of the server's may have cost it all.
        (Answer::Json(StatusCode::BAD_GATEWAY, json!({})), 500),
        (
            Answer::Json(
                StatusCode::BAD_REQUEST,
                json!({"usage": {"total_tokens": 7}}),
            ),
            507,
        ),
    ] {
        world.upstream.answer(answer);
        drop(post(&remit, &token, "/llm/chat").bytes());
        until("the cost is settled", || {
            used(&remit, &id)["spent"]["tokens"] == expect
        });
    }
    let text = remit.logged();
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_hundred_at_once_never_pass_a_budget() {
    let world = World::new(CHAT);
    let remit = Arc::new(world.site.serve());
    let (id, token) = open(&remit, &["--budget", "tokens=1000"]);
    world.upstream.answer(
        Answer::json(json!({ "usage": { "total_tokens": 90 } })).slow(Duration::from_millis(50)),
    );
    let calls = (0..100).map(|_| {
        let (remit, token) = (Arc::clone(&remit), token.clone());
        std::thread::spawn(move || post(&remit, &token, "/llm/chat").status().as_u16())
    });
    let calls: Vec<_> = calls.collect();
    let passed = calls.into_iter().map(|call| call.join().unwrap());
    let passed = u64::try_from(passed.filter(|status| *status == 200).count()).unwrap();
    assert!((10..=11).contains(&passed), "{passed}");
    until_spent(
        &remit,
        &id,
        &json!({ "tokens": 90 * passed, "usd": used(&remit, &id)["spent"]["usd"] }),
    );
}

#[test]
fn a_stream_tells_what_it_cost_in_its_events() {
    let world = World::new(
        r#"access: { write: ["POST /**"] }
    usage:
      - { unit: tokens, json: [/message/usage/input_tokens, /usage/input_tokens], reserve: 50 }
      - { unit: tokens, json: [/usage/output_tokens], reserve: 50 }"#,
    );
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--budget", "tokens=1000"]);
    let events = "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n\
                  event: message_delta\ndata: {\"usage\":{\"output_tokens\":15}}\n\n";
    let answer = Answer::Bytes(StatusCode::OK, events.into());
    world
        .upstream
        .answer(answer.with("content-type", "text/event-stream"));
    let body = post(&remit, &token, "/llm/messages").text().unwrap();
    assert_eq!(body, events);
    until_spent(&remit, &id, &json!({ "tokens": 40 }));
}

#[test]
fn bytes_end_a_stream_in_the_middle() {
    let world = World::new(r#"access: { read: ["GET /**"], write: ["POST /**"] }"#);
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--bytes", "300000"]);
    world.upstream.answer(Answer::Large(100_000));
    let answer = testkit::http()
        .get(remit.call("/llm/x"))
        .bearer_auth(&token)
        .send()
        .unwrap();
    assert_eq!(answer.bytes().unwrap().len(), 100_000);
    world.upstream.answer(Answer::Large(1_000_000));
    let mut answer = testkit::http()
        .get(remit.call("/llm/x"))
        .bearer_auth(&token)
        .send()
        .unwrap();
    assert_eq!(answer.status(), 200);
    let mut got = Vec::new();
    assert!(std::io::Read::read_to_end(&mut answer, &mut got).is_err());
    assert!(got.len() <= 200_000, "{}", got.len());
    until("the bytes are counted", || {
        used(&remit, &id)["bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 100_000)
    });
    let (_, brief) = open(&remit, &["--bytes", "1"]);
    check_refused(post(&remit, &brief, "/llm/a"), "bytes");
    // The record says why it was cut.
    until("the record is told", || {
        remit.logged().contains("limit_exhausted")
    });
}

#[test]
fn a_body_that_streams_up_is_counted_too() {
    let world = World::new("access: { write: [\"POST /**\"] }\n    body: stream");
    let remit = world.site.serve();
    let (_, token) = open(&remit, &["--bytes", "100000"]);
    world.upstream.answer(Answer::json(json!({})));
    let body = |size| {
        testkit::http()
            .post(remit.call("/llm/x"))
            .bearer_auth(&token)
            .body("x".repeat(size))
    };
    assert_eq!(body(50_000).send().unwrap().status(), 200);
    check_refused(body(60_000).send().unwrap(), "bytes");
}

#[test]
fn distinct_resources_are_counted() {
    let world =
        World::new("access: { read: [\"GET /**\"] }\n    resource: { paths: [\"/repos/*/*\"] }");
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--resources", "2"]);
    let get = |path: &str| {
        testkit::http()
            .get(remit.call(path))
            .bearer_auth(&token)
            .send()
            .unwrap()
    };
    for path in [
        "/llm/repos/a/x/issues",
        "/llm/repos/a/x/pulls/1",
        "/llm/repos/a/y",
    ] {
        assert_eq!(get(path).status(), 200, "{path}");
    }
    check_refused(get("/llm/repos/a/z/issues"), "resources");
    assert_eq!(get("/llm/repos/a/y/tags").status(), 200);
    assert_eq!(
        used(&remit, &id)["resources"],
        json!(["llm/repos/a/x", "llm/repos/a/y"])
    );
}

#[test]
fn the_handshake_of_mcp_is_made_on_nothing() {
    let world = World::new("access: { read: [find, look] }\n    protocol: mcp");
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--resources", "1"]);
    let answer = json!({ "jsonrpc": "2.0", "id": 1, "result": {} });
    world.upstream.answer(Answer::json(answer));
    let send = |method: &str, params: Value| {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = testkit::http().post(remit.call("/llm")).bearer_auth(&token);
        request
            .json(&message)
            .send()
            .unwrap()
            .json::<Value>()
            .unwrap()
    };
    for (method, params) in [
        ("initialize", json!({})),
        ("tools/list", json!({})),
        ("tools/call", json!({ "name": "find" })),
        ("ping", json!({})),
    ] {
        assert!(send(method, params)["error"].is_null(), "{method}");
    }
    assert_eq!(
        send("tools/call", json!({ "name": "look" }))["error"]["data"]["reason"],
        "resources"
    );
    assert_eq!(used(&remit, &id)["resources"], json!(["llm/find"]));
}

#[test]
fn a_budget_of_what_nobody_tells_is_refused() {
    let world = World::new(CHAT);
    let remit = world.site.serve();
    let opened = remit.command(&[
        "task", "open", "--agent", "a", "--tool", "llm", "--access", "write", "--budget", "token=5",
    ]);
    let said = String::from_utf8_lossy(&opened.stderr).into_owned();
    assert!(
        !opened.status.success() && said.contains("no tool tells what its calls cost in `token`"),
        "{said}"
    );
}

#[test]
fn a_crash_and_a_restart_forget_nothing_that_was_spent() {
    let world = World::new(CHAT);
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--budget", "tokens=1000", "--resources", "5"]);
    world.costs(400, "0");
    assert_eq!(post(&remit, &token, "/llm/chat").status(), 200);
    until_spent(&remit, &id, &json!({ "tokens": 400, "usd": 0.0008 }));
    remit.kill();
    let remit = world.site.serve();
    let spent = used(&remit, &id);
    let tokens = spent["spent"]["tokens"].as_u64().unwrap();
    assert!((400..=410).contains(&tokens), "{spent}");
    assert_eq!(spent["resources"], json!(["llm/chat"]));
    assert!(remit.stop());
    let remit = world.site.serve();
    assert_eq!(used(&remit, &id), spent);
}

#[test]
fn a_child_spends_its_parents_budget() {
    let world = World::new(CHAT);
    let remit = world.site.serve();
    let (id, token) = open(&remit, &["--budget", "tokens=1000"]);
    let delegate = |budget: u64| {
        let part = json!({
            "agent": "reader", "grants": [{ "tool": "llm", "access": ["write"] }],
            "limits": { "budget": { "tokens": budget } },
        });
        let url = remit.control(&format!("/v1/tasks/{id}/delegate"));
        let request = testkit::http().post(url).bearer_auth(&token).json(&part);
        request.send().unwrap().json::<Value>().unwrap()
    };
    let wider = delegate(1001);
    assert_eq!(
        (&wider["code"], &wider["field"]),
        (&json!("wider_than_parent"), &json!("limits.budget"))
    );
    let child = delegate(1000);
    world.costs(950, "0");
    assert_eq!(
        post(&remit, child["token"].as_str().unwrap(), "/llm/chat").status(),
        200
    );
    until("the parent pays", || {
        used(&remit, &id)["spent"]["tokens"] == 950
    });
    check_refused(post(&remit, &token, "/llm/chat"), "budget.tokens");
}
