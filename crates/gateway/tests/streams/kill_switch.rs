//! The kill switch, with streams open: an agent, a tool, an issuer or an owner is revoked as a whole.

use std::io::Read;
use std::path::Path;

use futures::SinkExt;
use futures::StreamExt;
use http::StatusCode;
use hyper::body::Incoming;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::issuer::Algorithm;
use testkit::remit::Remit;
use testkit::{Answer, Issuer, Upstream};
use tokio_tungstenite::tungstenite::Message;

use crate::caller::{Caller, Wire};
use crate::ends::{begun, endings};
use crate::flows::{Talk, web_socket};
use crate::world::{FAR, Plan, World, in_a_second, in_time};

/// A gateway with a stream of events and a WebSocket.
async fn world() -> (World, [Upstream; 2]) {
    let events = Upstream::start(Answer::Ticks(2, FAR)).await;
    let socket = Upstream::start(Answer::WebSocket).await;
    let world = Plan::new()
        .tool("events", &events.url(), json!({}))
        .tool("socket", &socket.url(), json!({}))
        .start();
    (world, [events, socket])
}

/// A stream of events and a WebSocket of one task.
struct Open {
    events: Incoming,
    talk: Talk,
    caller: Caller,
}

impl Open {
    async fn begin(world: &World, token: &str) -> Self {
        let mut caller = world.caller_with(Wire::Http2, token).await;
        let mut events = caller.get("/events/a").await.unwrap().into_body();
        begun(&mut events).await;
        let mut talk = web_socket(world, "/socket/a", token).await;
        echo(&mut talk).await;
        Self {
            events,
            talk,
            caller,
        }
    }

    async fn are_cut(&mut self) {
        self.events_are_cut().await;
        in_a_second(async {
            assert!(!matches!(self.talk.next().await, Some(Ok(_))));
        })
        .await;
    }

    async fn events_are_cut(&mut self) {
        use http_body_util::BodyExt;
        in_a_second(async {
            assert!(self.events.frame().await.unwrap().is_err());
        })
        .await;
    }
}

async fn echo(talk: &mut Talk) {
    talk.send(Message::text("here")).await.unwrap();
    in_time(talk.next()).await.unwrap().unwrap();
}

/// Asks the control API as this operator; answers with the status and the body.
async fn ask(remit: &Remit, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let url = remit.control(path);
    let token = remit.operator_token().to_owned();
    let method = method.parse().unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let request = testkit::http().request(method, url).bearer_auth(token);
        let answer = request.json(&body).send().unwrap();
        let status = answer.status();
        (status, answer.json().unwrap_or_default())
    });
    asked.await.unwrap()
}

async fn revoke(remit: &Remit, mut body: Value) -> Value {
    body["reason"] = json!("INC-7");
    let (status, revoked) = ask(remit, "POST", "/v1/revocations", body.clone()).await;
    let expected = if body["block"] == false {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    assert_eq!(status, expected, "{revoked}");
    revoked
}

async fn lift(remit: &Remit, revoked: &Value) {
    let path = format!("/v1/revocations/{}", revoked["id"].as_str().unwrap());
    let (status, _) = ask(remit, "DELETE", &path, json!({})).await;
    assert_eq!(status, StatusCode::OK);
}

fn opening(agent: &str, owner: &str) -> Value {
    json!({
        "agent": agent, "owner": owner, "ttl_seconds": 3000,
        "grants": [{"tool": "events", "access": ["read"]}, {"tool": "socket", "access": ["read"]}],
    })
}

/// Opens a task; its id and token, or the code of the refusal.
async fn open(remit: &Remit, agent: &str, owner: &str) -> Result<(String, String), String> {
    let (status, opened) = ask(remit, "POST", "/v1/tasks", opening(agent, owner)).await;
    let text = |key: &str| opened[key].as_str().unwrap_or_default().to_owned();
    if status == StatusCode::CREATED {
        Ok((text("id"), text("token")))
    } else {
        Err(text("code"))
    }
}

async fn state(remit: &Remit, task: &str) -> String {
    let (_, task) = ask(remit, "GET", &format!("/v1/tasks/{task}"), json!({})).await;
    task["state"].as_str().unwrap().to_owned()
}

fn refused(code: &str) -> (StatusCode, String) {
    (StatusCode::FORBIDDEN, code.to_owned())
}

/// The lines of the audit that tell of revocations, once there are so many.
async fn told(world: &World, count: usize) -> Vec<Value> {
    in_time(async {
        loop {
            let mut lines = world.audit();
            lines.retain(|line| line["kind"] == "revocation");
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_c6_a_revoked_agent_is_cut_in_a_second_with_all_below_and_opens_nothing_until_that_is_lifted()
 {
    let (world, _upstreams) = world().await;
    let remit = &world.remit;
    let (id, token) = open(remit, "rogue", "anna").await.unwrap();
    let mut open_calls = Open::begin(&world, &token).await;
    let path = format!("/v1/tasks/{id}/delegate");
    let part = json!({ "agent": "helper", "grants": [{"tool": "events", "access": ["read"]}] });
    let (_, child) = ask(remit, "POST", &path, part.clone()).await;
    let child_token = child["token"].as_str().unwrap();
    let mut child_caller = world.caller_with(Wire::Http1, child_token).await;
    let mut child_events = child_caller.get("/events/a").await.unwrap().into_body();
    begun(&mut child_events).await;
    let (_, other) = open(remit, "honest", "anna").await.unwrap();
    let mut others = Open::begin(&world, &other).await;

    let revoked = revoke(remit, json!({ "agent": "rogue" })).await;
    open_calls.are_cut().await;
    in_a_second(async {
        use http_body_util::BodyExt;
        assert!(child_events.frame().await.unwrap().is_err());
    })
    .await;
    assert_eq!(revoked["tasks_ended"], 2, "{revoked}");
    assert_eq!(
        (&revoked["calls_cut"], &revoked["calls_left"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(endings(&world, &id, 2).await, ["cut"; 2]);
    echo(&mut others.talk).await;

    let mut caller = open_calls.caller;
    assert_eq!(caller.outcome("/events/b").await, refused("agent_revoked"));
    let mut child_caller = world.caller_with(Wire::Http2, child_token).await;
    assert_eq!(
        child_caller.outcome("/events/b").await,
        refused("task_ended")
    );
    assert_eq!(
        open(remit, "rogue", "anna").await.unwrap_err(),
        "agent_revoked"
    );
    let (parent, _) = open(remit, "planner", "anna").await.unwrap();
    let path = format!("/v1/tasks/{parent}/delegate");
    let part = json!({ "agent": "rogue", "grants": [{"tool": "events", "access": ["read"]}] });
    let (status, problem) = ask(remit, "POST", &path, part).await;
    assert_eq!(
        (status, problem["code"].as_str().unwrap()),
        (StatusCode::FORBIDDEN, "agent_revoked")
    );

    lift(remit, &revoked).await;
    assert_eq!(state(remit, &id).await, "ended");
    let (_, token) = open(remit, "rogue", "anna").await.unwrap();
    Open::begin(&world, &token).await;
    let lines = told(&world, 2).await;
    assert_eq!(
        (&lines[0]["event"], &lines[1]["event"]),
        (&json!("revoked"), &json!("lifted"))
    );
    assert_eq!(
        (&lines[0]["tasks"], &lines[0]["name"]),
        (&json!(2), &json!("rogue"))
    );
    assert_eq!(
        (&lines[0]["reason"], &lines[0]["calls_cut"]),
        (&json!("INC-7"), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_a_revoked_tool_is_cut_and_refused_and_its_tasks_go_on() {
    let (world, _upstreams) = world().await;
    let remit = &world.remit;
    let (id, token) = open(remit, "flow", "anna").await.unwrap();
    let mut calls = Open::begin(&world, &token).await;
    let revoked = revoke(remit, json!({ "tool": "events" })).await;
    calls.events_are_cut().await;
    assert_eq!(
        (&revoked["tasks_ended"], &revoked["calls_cut"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(
        calls.caller.outcome("/events/b").await,
        refused("tool_revoked")
    );
    echo(&mut calls.talk).await;
    assert_eq!(state(remit, &id).await, "open");
    let (_, another) = open(remit, "flow", "anna").await.unwrap();
    let mut another = world.caller_with(Wire::Http1, &another).await;
    assert_eq!(another.outcome("/events/b").await, refused("tool_revoked"));
    lift(remit, &revoked).await;
    Open::begin(&world, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_what_is_done_for_a_revoked_owner_ends() {
    let (world, _upstreams) = world().await;
    let remit = &world.remit;
    let (id, token) = open(remit, "flow", "anna").await.unwrap();
    let mut calls = Open::begin(&world, &token).await;
    let (kept, _) = open(remit, "flow", "bert").await.unwrap();
    let revoked = revoke(remit, json!({ "owner": "anna" })).await;
    calls.are_cut().await;
    assert_eq!(revoked["tasks"], json!([id]));
    assert_eq!(
        calls.caller.outcome("/events/b").await,
        refused("owner_revoked")
    );
    assert_eq!(
        open(remit, "flow", "anna").await.unwrap_err(),
        "owner_revoked"
    );
    assert_eq!(state(remit, &kept).await, "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_end_at_once_and_may_begin_anew_without_a_block() {
    let (world, _upstreams) = world().await;
    let remit = &world.remit;
    let (id, token) = open(remit, "flow", "anna").await.unwrap();
    let mut calls = Open::begin(&world, &token).await;
    let revoked = revoke(remit, json!({ "agent": "flow", "block": false })).await;
    calls.are_cut().await;
    assert_eq!(revoked["tasks"], json!([id]));
    assert_eq!(
        calls.caller.outcome("/events/b").await,
        refused("task_ended")
    );
    let (_, listed) = ask(remit, "GET", "/v1/revocations", json!({})).await;
    assert_eq!(listed["revocations"], json!([]));
    let (_, token) = open(remit, "flow", "anna").await.unwrap();
    Open::begin(&world, &token).await;
}

/// Starts a gateway on these files, which outlive it.
fn start(folder: &Path, upstream: &str, issuers: &Value) -> Remit {
    let policy = folder.join("policy");
    std::fs::create_dir_all(&policy).unwrap();
    std::fs::write(
        policy.join("all.rego"),
        "package remit.all\n\nallow if input.task.id\n",
    )
    .unwrap();
    let config = json!({
        "listen": { "calls": "127.0.0.1:0", "control": "127.0.0.1:0" },
        "tools": { "events": { "upstream": upstream, "access": { "read": ["GET /**"] } } },
        "policy": { "path": policy },
        "identity": { "issuers": issuers },
    });
    let path = folder.join("remit.yaml");
    std::fs::write(&path, config.to_string()).unwrap();
    Remit::serve(env!("CARGO_BIN_EXE_remit"), &folder.join("state"), &path)
}

fn plain(remit: &Remit, agent: &str) -> (String, String) {
    remit.open_task(&["--agent", agent, "--tool", "events", "--ttl", "50m"])
}

/// What a command prints.
fn run(remit: &Remit, arguments: &[&str]) -> String {
    let output = remit.command(arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn code(remit: &Remit, token: &str) -> String {
    let url = format!("http://{}/events/a", remit.calls_address());
    let answer = testkit::http().get(url).bearer_auth(token).send().unwrap();
    let problem: Value = answer.json().unwrap_or_default();
    problem["code"].as_str().unwrap_or("ok").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_a_crash_keeps_what_is_revoked() {
    let upstream = Upstream::start(Answer::Echo).await;
    let url = upstream.url();
    let done = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let remit = start(folder.path(), &url, &json!([]));
        let (_, token) = plain(&remit, "rogue");
        let (_, other) = plain(&remit, "honest");
        assert_eq!(code(&remit, &token), "ok");
        let told = run(&remit, &["revoke", "agent", "rogue", "--reason", "INC-7"]);
        assert!(told.contains("a task has ended"), "{told}");
        remit.kill();
        let remit = start(folder.path(), &url, &json!([]));
        assert_eq!(code(&remit, &token), "agent_revoked");
        assert_eq!(code(&remit, &other), "ok");
        let listed = run(&remit, &["revocation", "list"]);
        assert!(
            listed.contains("rogue") && listed.contains("INC-7"),
            "{listed}"
        );
        let listed: Value =
            serde_json::from_str(&run(&remit, &["revocation", "list", "--json"])).unwrap();
        let id = listed[0]["id"].as_str().unwrap().to_owned();
        let lifted = run(&remit, &["revocation", "lift", &id]);
        assert!(
            lifted.contains("agent `rogue` is revoked no more"),
            "{lifted}"
        );
        assert_eq!(code(&remit, &token), "task_ended");
        let (_, token) = plain(&remit, "rogue");
        assert_eq!(code(&remit, &token), "ok");
    });
    done.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_calls_by_proofs_of_a_revoked_issuer_are_cut() {
    let upstream = Upstream::start(Answer::Ticks(2, FAR)).await;
    let issuer = Issuer::start().await;
    let url = upstream.url();
    let done = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let issuers = json!([{ "issuer": issuer.url(), "audience": "remit" }]);
        let remit = start(folder.path(), &url, &issuers);
        let (id, token) = plain(&remit, "job");
        let workload = issuer.mint(Algorithm::ES256, &issuer.claims("job", "remit"));
        let listen = |proof: &str| {
            let url = format!("http://{}/events/a", remit.calls_address());
            let request = testkit::http().get(url).bearer_auth(proof);
            request.header("agent-task", &id).send().unwrap()
        };
        let first = |stream: &mut Response| {
            let mut event = [0; 9];
            stream.read_exact(&mut event).unwrap();
            assert_eq!(&event, b"data: 0\n\n");
        };
        let [mut by_workload, mut by_task_token] = [&workload, &token].map(|proof| listen(proof));
        first(&mut by_workload);
        first(&mut by_task_token);
        let told = run(
            &remit,
            &[
                "revoke",
                "issuer",
                issuer.url(),
                "--reason",
                "INC-8",
                "--json",
            ],
        );
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (
                &told["tasks_ended"],
                &told["calls_cut"],
                &told["calls_left"]
            ),
            (&json!(0), &json!(1), &json!(0))
        );
        assert!(by_workload.read(&mut [0; 1]).is_err());
        let refused: Value = listen(&workload).json().unwrap();
        assert_eq!(refused["code"], "issuer_revoked");
        // Nobody of that issuer speaks by the task token.
        let mut again = listen(&token);
        first(&mut again);
        drop(by_task_token);
    });
    done.await.unwrap();
}
