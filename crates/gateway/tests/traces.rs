//! What a served gateway tells of its calls: one decision in span, log, audit and reply, and no key of the agent's.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failure here fails a test"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Map, Value, json};
use testkit::collector::{Mood, attributes};
use testkit::opentelemetry_proto::tonic::trace::v1::Span;
use testkit::opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use testkit::remit::{Remit, until};
use testkit::upstream::{Answer, Received};
use testkit::{Collector, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// All but one path and one MCP tool.
const POLICY: &str = r#"package remit.all

allow if true

deny contains "forbidden" if input.request.path == "/forbidden"

deny contains "forbidden" if input.tool.operation == "purge"
"#;

/// An agent's own key: of a known format, so that it is known wherever it stands.
const CANARY: &str = "ghp_c4n4ry56789abcdefghijABCDEFGHIJ01234";

/// How the gateway speaks to the collector.
#[derive(Clone, Copy)]
enum Protocol {
    Http,
    Grpc,
}

struct World {
    remit: Remit,
    http: Client,
    upstream: Upstream,
    collector: Collector,
    task: String,
    token: String,
    site: Site,
}

impl World {
    fn new() -> Self {
        Self::speaking(Protocol::Http, "")
    }

    fn speaking(protocol: Protocol, more: &str) -> Self {
        let site = Site::new(REMIT);
        let collector = site.run(Collector::start());
        let upstream = site.run(Upstream::start(Answer::by(answer)));
        let (url, protocol) = match protocol {
            Protocol::Http => (collector.http(), "http/protobuf"),
            Protocol::Grpc => (collector.grpc(), "grpc"),
        };
        site.write("policy/all.rego", POLICY);
        site.config(&format!(
            "audit: {{ path: audit.jsonl }}
telemetry: {{ otlp: \"{url}\", protocol: {protocol}{more} }}
tools:
  notes:
    upstream: {upstream}/base
    environment: test
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
  desk:
    upstream: {upstream}/mcp
    protocol: mcp
    access: {{ read: [find_ticket], write: [refund], execute: [purge] }}
",
            upstream = upstream.url()
        ));
        let remit = site.serve();
        let (task, token) = remit.open_task(&[
            "--tool",
            "notes",
            "--tool",
            "desk",
            "--access",
            "read,write,execute",
            "--agent",
            "triage",
            "--owner",
            "alice@example.org",
        ]);
        Self {
            remit,
            http: testkit::http(),
            upstream,
            collector,
            task,
            token,
            site,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let request = self.http.get(self.remit.call(path));
        request.bearer_auth(&self.token)
    }

    fn mcp(&self, tool: &str, arguments: &Value) -> Response {
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
        let request = self.http.post(self.remit.call("/desk"));
        let request = request.bearer_auth(&self.token).json(&call);
        let accept = request.header("accept", "application/json, text/event-stream");
        accept.send().unwrap()
    }

    /// Waits for all spans of one decision's trace.
    #[track_caller]
    fn spans(&self, decision: &str) -> Spans {
        let server = || {
            let all = self.collector.spans();
            all.into_iter().find(|span| {
                span.kind() == SpanKind::Server && of(span)["remit.decision.id"] == decision
            })
        };
        until("the server span is exported", || server().is_some());
        let server = server().unwrap();
        let all = self.collector.spans().into_iter();
        let of_trace: Vec<_> = all
            .filter(|span| span.trace_id == server.trace_id)
            .collect();
        let find = |kind| of_trace.iter().find(|span| span.kind() == kind).cloned();
        Spans {
            client: find(SpanKind::Client),
            decision: find(SpanKind::Internal),
            server,
        }
    }

    /// Nothing that left the gateway holds the key or the token, and nothing that it wrote.
    #[track_caller]
    fn held_back(&self, key: &str) {
        for received in self.upstream.received() {
            let whole = format!("{received:?}");
            assert!(!whole.contains(key), "{whole}");
            assert!(!whole.contains(&self.token), "{whole}");
        }
        for told in [
            self.remit.logged(),
            self.audit(),
            self.metrics(),
            format!("{:?}", self.collector.spans()),
            format!("{:?}", self.collector.logs()),
            self.remit.status().to_string(),
        ] {
            assert!(!told.contains(key), "{told}");
            assert!(!told.contains(&self.token));
        }
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.site.path("audit.jsonl")).unwrap()
    }

    fn metrics(&self) -> String {
        let answer = self.http.get(self.remit.control("/metrics")).send();
        answer.unwrap().text().unwrap()
    }
}

/// The spans of one call.
struct Spans {
    server: Span,
    decision: Option<Span>,
    client: Option<Span>,
}

fn answer(received: &Received) -> Answer {
    let id = serde_json::from_slice::<Value>(&received.body)
        .map_or(Value::Null, |call| call["id"].clone());
    Answer::json(
        json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [], "isError": false } }),
    )
}

fn of(span: &Span) -> Map<String, Value> {
    attributes(&span.attributes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decision(answer: &Response) -> String {
    let header = answer.headers()["remit-decision"].to_str();
    header.unwrap().to_owned()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn an_allowed_call_is_told_everywhere(protocol: Protocol) {
    let world = World::speaking(protocol, "");
    let call = world
        .get("/notes/a?q=private")
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "vendor=1");
    let answer = call.send().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let decision = decision(&answer);
    let spans = world.spans(&decision);
    let client = spans.client.unwrap();
    let ruling = spans.decision.unwrap();

    assert_eq!(hex(&spans.server.trace_id), TRACE);
    assert_eq!(hex(&spans.server.parent_span_id), PARENT);
    assert_eq!(client.parent_span_id, spans.server.span_id);
    assert_eq!(ruling.parent_span_id, spans.server.span_id);
    for span in [&spans.server, &client, &ruling] {
        assert_eq!(of(span)["remit.decision.id"], decision);
    }
    let server = of(&spans.server);
    assert_eq!(server["url.scheme"], "http");
    assert_eq!(server["remit.task.id"], world.task);
    assert_eq!(server["gen_ai.agent.id"], "triage");
    assert_eq!(server["enduser.id"], "alice@example.org");
    assert_eq!(server["http.response.status_code"], 200);
    assert!(ruling_has_revision(&server) || ruling_has_revision(&of(&ruling)));
    assert_eq!(
        of(&client)["url.full"],
        format!("{}/base/a", world.upstream.url())
    );

    let sent = world.upstream.only();
    let next = format!("00-{TRACE}-{}-01", hex(&client.span_id));
    assert_eq!(sent.header("traceparent"), Some(&*next));
    assert_eq!(sent.header("tracestate"), Some("vendor=1"));

    until("log and audit tell", || {
        world.remit.logged().contains(&decision) && world.audit().matches(&decision).count() == 2
    });
    until("the event is exported", || {
        let mut logs = world.collector.logs().into_iter();
        logs.any(|log| {
            attributes(&log.attributes).get("remit.decision.id") == Some(&json!(decision))
        })
    });
    for told in [
        world.remit.logged(),
        world.audit(),
        format!("{:?}", world.collector.spans()),
    ] {
        assert!(!told.contains("private"), "{told}");
        assert!(!told.contains(&world.token), "{told}");
    }
}

fn ruling_has_revision(of: &Map<String, Value>) -> bool {
    of.get("remit.policy.revision")
        .is_some_and(|revision| revision.as_str().is_some_and(|text| !text.is_empty()))
}

#[test]
fn an_allowed_call_is_told_everywhere_over_http() {
    an_allowed_call_is_told_everywhere(Protocol::Http);
}

#[test]
fn an_allowed_call_is_told_everywhere_over_grpc() {
    an_allowed_call_is_told_everywhere(Protocol::Grpc);
}

#[test]
fn a_trace_that_is_not_continued_keeps_no_state() {
    let world = World::new();
    for parent in [None, Some("00-0-0-01"), Some("garbage")] {
        world.upstream.forget();
        let mut call = world.get("/notes/a").header("tracestate", "vendor=1");
        if let Some(parent) = parent {
            call = call.header("traceparent", parent);
        }
        let answer = call.send().unwrap();
        let spans = world.spans(&decision(&answer));
        assert!(spans.server.parent_span_id.is_empty());
        let sent = world.upstream.only();
        assert_eq!(sent.headers.get("tracestate"), None);
        let trace = hex(&spans.server.trace_id);
        assert!(sent.header("traceparent").unwrap().contains(&trace));
    }
}

#[test]
fn a_denied_call_has_no_client_span() {
    let world = World::new();
    let answer = world.get("/notes/forbidden").send().unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let spans = world.spans(&decision(&answer));
    assert!(spans.client.is_none());
    let server = of(&spans.server);
    assert_eq!(server["remit.refusal.code"], "denied");
    assert_eq!(server["remit.decision.outcome"], "deny");
    assert_eq!(server["remit.decision.reason"], "forbidden");
    assert!(world.upstream.received().is_empty());
}

#[test]
fn a_head_that_nobody_can_read_leaves_a_record() {
    let world = World::speaking(Protocol::Http, "");
    let mut stream = TcpStream::connect(world.remit.calls_address()).unwrap();
    stream
        .write_all(b"GET /notes/a HTTP/1.1\r\nHost : x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    let (_, after) = answer.split_once("remit-decision: ").unwrap();
    let (decision, _) = after.split_once("\r\n").unwrap();

    let spans = world.spans(decision);
    assert!(spans.client.is_none());
    assert_eq!(of(&spans.server)["remit.refusal.code"], "malformed_request");
    assert_eq!(of(&spans.server)["http.response.status_code"], 400);
    until("the log has it", || world.remit.logged().contains(decision));
    let audit = world.audit();
    let lines: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["decision"] == decision)
        .collect();
    let kinds: Vec<_> = lines.iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["decided", "closed"]);
    assert!(lines.iter().all(|line| line["code"] == "malformed_request"));
    assert!(world.metrics().contains("code=\"malformed_request\""));
    assert!(world.upstream.received().is_empty());
}

#[test]
fn an_mcp_call_is_told_in_its_own_words() {
    let world = World::new();
    let answer = world.mcp("refund", &json!({ "ticket": "T-1" }));
    assert_eq!(answer.status(), StatusCode::OK);
    let spans = world.spans(&decision(&answer));
    assert_eq!(spans.server.name, "tools/call refund");
    for span in [&spans.server, &spans.client.unwrap()] {
        let of = of(span);
        assert_eq!(of["mcp.method.name"], "tools/call");
        assert_eq!(of["gen_ai.operation.name"], "execute_tool");
        assert_eq!(of["gen_ai.tool.name"], "refund");
        assert_eq!(of["jsonrpc.request.id"], "7");
    }
    let denied = world.mcp("purge", &json!({}));
    let spans = world.spans(&decision(&denied));
    assert!(spans.client.is_none());
    assert_eq!(of(&spans.server)["remit.refusal.code"], "denied");
}

/// How many records of a signal an output lost.
fn dropped(metrics: &str, signal: &str) -> u64 {
    let name = format!("remit_telemetry_dropped_total{{signal=\"{signal}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

#[test]
fn f1_a_collector_in_trouble_costs_records_and_no_call() {
    for mood in [Mood::Down, Mood::Slow(Duration::from_secs(60))] {
        let world = World::speaking(Protocol::Http, ", queue: 8");
        world.collector.mood(mood);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let answer = world.get("/notes/a").send().unwrap();
                        assert_eq!(answer.status(), StatusCode::OK);
                    }
                });
            }
        });
        until("what was lost is counted", || {
            let metrics = world.metrics();
            dropped(&metrics, "traces") > 0 && dropped(&metrics, "logs") > 0
        });
        assert!(world.collector.requests() > 0);
        assert_eq!(world.upstream.received().len(), 200);
    }
}

#[test]
fn f1_a_collector_that_is_not_there_costs_no_call() {
    let world = World::new();
    let World {
        remit,
        http,
        upstream,
        collector,
        token,
        site,
        ..
    } = world;
    drop(collector);
    for _ in 0..20 {
        let call = http.get(remit.call("/notes/a")).bearer_auth(&token);
        assert_eq!(call.send().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(upstream.received().len(), 20);
    drop(site);
}

#[test]
fn metrics_count_calls_and_name_no_task() {
    let world = World::new();
    for path in ["/notes/a", "/notes/b", "/notes/forbidden"] {
        world.get(path).send().unwrap();
    }
    let count = |verdict: &str, code: &str| {
        let line = format!(
            "remit_calls_total{{tool=\"notes\",access=\"read\",verdict=\"{verdict}\",code=\"{code}\"}} "
        );
        let metrics = world.metrics();
        let found = metrics.lines().find_map(|found| found.strip_prefix(&line));
        found.map_or(0, |count| count.parse().unwrap())
    };
    until("all are counted", || {
        (count("allow", ""), count("deny", "denied")) == (2, 1)
    });
    let metrics = world.metrics();
    for word in [&*world.task, "triage", "alice", "/notes/a"] {
        assert!(!metrics.contains(word), "{word}");
    }
}

#[test]
fn d1_an_agents_own_keys_go_nowhere() {
    let world = World::new();
    let get = |path: &str| world.http.get(world.remit.call(path));
    let headers = [
        ("authorization", format!("Bearer {CANARY}")),
        ("authorization", format!("token {CANARY}")),
        ("proxy-authorization", format!("Bearer {CANARY}")),
        ("x-goog-api-key", CANARY.to_owned()),
        ("api-key", CANARY.to_owned()),
        ("x-auth-token", CANARY.to_owned()),
        ("x_api_key", CANARY.to_owned()),
        ("x-vault-token", CANARY.to_owned()),
        ("cookie", format!("session={CANARY}")),
        ("x-note", format!("use {CANARY} please")),
        ("user-agent", CANARY.to_owned()),
        ("referer", format!("https://x.example/?token={CANARY}")),
    ];
    let mut decisions = Vec::new();
    for (name, value) in &headers {
        let call = get("/notes/a").header("x-api-key", &world.token);
        let answer = call.header(*name, value).send().unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        decisions.push(decision(&answer));
    }
    for query in [
        "api_key",
        "access_token",
        "key",
        "api%5Fkey",
        "X-Amz-Signature",
        "q",
        "token",
    ] {
        let call = get(&format!("/notes/a?{query}={CANARY}&page=2"));
        let answer = call.bearer_auth(&world.token).send().unwrap();
        decisions.push(decision(&answer));
    }
    let posts = [
        json!({ "api_key": CANARY }).to_string(),
        json!({ "text": format!("my key is {CANARY}") }).to_string(),
        json!({ "deep": [{ "er": { "token": CANARY } }] }).to_string(),
        json!({ CANARY: 1 }).to_string(),
        // Spelled with escapes.
        format!("{{\"text\":\"\\u0067hp_{}\"}}", &CANARY[4..]),
    ];
    for body in posts {
        let call = world.http.post(world.remit.call("/notes/a"));
        let call = call.bearer_auth(&world.token).body(body.clone());
        let answer = call
            .header("content-type", "application/json")
            .send()
            .unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{body}");
        decisions.push(decision(&answer));
        let problem: Value = answer.json().unwrap();
        assert_eq!(problem["code"], "key_refused");
        assert!(!problem.to_string().contains(&CANARY[4..]));
    }
    let form = world
        .http
        .post(world.remit.call("/notes/a"))
        .bearer_auth(&world.token);
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let answer = form
        .body(format!("a=1&client_secret={CANARY}"))
        .send()
        .unwrap();
    decisions.push(decision(&answer));
    for arguments in [
        json!({ "ticket": CANARY }),
        json!({ "auth": { "password": CANARY } }),
        json!({ "list": ["a", CANARY] }),
    ] {
        let answer = world.mcp("refund", &arguments);
        decisions.push(decision(&answer));
        let error: Value = answer.json().unwrap();
        assert_eq!(error["error"]["data"]["code"], "key_refused", "{error}");
    }
    let last = decisions.pop().unwrap();
    world.spans(&last);
    until("all is told", || {
        let audit = world.audit();
        world.remit.logged().contains(&last)
            && decisions
                .iter()
                .all(|one| audit.matches(one.as_str()).count() == 2)
    });
    let key = &CANARY[4..];
    // Keys in headers come off, and the calls go on.
    assert!(world.upstream.received().len() >= headers.len());
    world.held_back(key);
    // It is told that they came, by fingerprint.
    assert!(world.audit().contains("\"keys\":[{"));
}
