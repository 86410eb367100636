//! The keys that agents bring, against the built gateway: in every place, whatever is done with them, and never told.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failure here fails a test"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::{Answer, Received};
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// A key of a known format, in two parts, so that no scanner takes it for real.
const KEY: &str = concat!("ghp_", "c4n4ryC4N4RYc4n4ryC4N4RYc4n4ryC4N4RY");

const POLICY: &str = "package remit.all\n\nallow if input.task.id\n";

/// What is done with keys in heads and bodies, by tool.
const TOOLS: [(&str, &str); 6] = [
    ("strips", "strip: strip, body_keys: strip"),
    ("refuses", "strip: refuse, body_keys: refuse"),
    ("reports", "strip: report, body_keys: report"),
    ("streams", "body: stream"),
    ("masks", "body: stream, body_keys: strip"),
    (
        "speaks",
        "protocol: mcp, body_keys: strip, access: { read: [\"*\"] }",
    ),
];

struct World {
    remit: Remit,
    http: Client,
    token: String,
    upstream: Upstream,
    site: Site,
}

impl World {
    fn new() -> Self {
        let site = Site::new(REMIT);
        site.write("policy/all.rego", POLICY);
        let upstream = site.run(Upstream::start(Answer::json(json!({"answered": true}))));
        let mut config = "audit: { path: audit.jsonl }\ntools:\n".to_owned();
        for (name, more) in TOOLS {
            let access = if more.contains("access") {
                ""
            } else {
                ", access: { read: [\"GET /**\"], write: [\"POST /**\"] }"
            };
            let url = upstream.url();
            config.push_str(&format!(
                "  {name}: {{ upstream: \"{url}\", {more}{access} }}\n"
            ));
        }
        site.config(&config);
        let remit = site.serve_with(&[("REMIT_LOG", "debug")]);
        let token = open(&remit, "triage");
        let http = testkit::http();
        Self {
            remit,
            http,
            token,
            upstream,
            site,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let call = self.http.get(self.remit.call(path));
        call.header("x-api-key", &self.token)
    }

    fn post(&self, path: &str, content_type: &str, body: String) -> RequestBuilder {
        let call = self.http.post(self.remit.call(path)).body(body);
        let call = call.header("x-api-key", &self.token);
        call.header("content-type", content_type)
    }

    /// A call on a tool for each place that a key may be in; the path last.
    fn calls(&self, tool: &str) -> Vec<(&'static str, RequestBuilder)> {
        let get = || self.get(&format!("/{tool}/a"));
        let post = |content_type, body| self.post(&format!("/{tool}/a"), content_type, body);
        let pair = STANDARD.encode(format!("git:{KEY}"));
        let form = "application/x-www-form-urlencoded";
        vec![
            (
                "bearer",
                get().header("authorization", format!("Bearer {KEY}")),
            ),
            (
                "userinfo",
                get().header("authorization", format!("Basic {pair}")),
            ),
            ("header", get().header("x-auth-token", KEY)),
            ("any header", get().header("x-note", format!("use {KEY}!"))),
            ("cookie", get().header("cookie", format!("a=b; c={KEY}"))),
            ("query", self.get(&format!("/{tool}/a?token={KEY}"))),
            ("any query key", self.get(&format!("/{tool}/a?q={KEY}&b=c"))),
            (
                "json",
                post("application/json", json!({"a": [{"b": KEY}]}).to_string()),
            ),
            (
                "text",
                post("application/json", json!(format!("use {KEY}")).to_string()),
            ),
            ("form", post(form, format!("a=1&client_secret={KEY}"))),
            ("path", self.get(&format!("/{tool}/{KEY}"))),
        ]
    }

    /// `remit keys`.
    fn keys(&self, more: &[&str]) -> Vec<Value> {
        keys(&self.remit, more)
    }

    /// Nothing that the gateway told anybody holds the key.
    #[track_caller]
    fn is_silent(&self) {
        let last = self.get("/strips/last").send().unwrap();
        let decision = last.headers()["remit-decision"]
            .to_str()
            .unwrap()
            .to_owned();
        let audit = || std::fs::read_to_string(self.site.path("audit.jsonl")).unwrap();
        until("all is told", || {
            self.remit.logged().contains(&decision) && audit().matches(&decision).count() == 2
        });
        let metrics = self.http.get(self.remit.control("/metrics")).send();
        let table = self.remit.command(&["keys"]).stdout;
        for told in [
            self.remit.logged(),
            audit(),
            metrics.unwrap().text().unwrap(),
            String::from_utf8(table).unwrap(),
            json!(self.keys(&[])).to_string(),
            self.remit.status().to_string(),
        ] {
            assert!(!told.contains(&KEY[4..]), "{told}");
        }
    }

    fn metric(&self, labels: &str) -> u64 {
        let metrics = self.http.get(self.remit.control("/metrics")).send();
        let metrics = metrics.unwrap().text().unwrap();
        let line = format!("remit_keys_found_total{{{labels}}} ");
        let found = metrics.lines().find_map(|found| found.strip_prefix(&line));
        found.map_or(0, |count| count.parse().unwrap())
    }
}

fn open(remit: &Remit, agent: &str) -> String {
    let mut asked = vec!["--agent", agent, "--access", "read,write"];
    for (tool, _) in TOOLS {
        asked.extend(["--tool", tool]);
    }
    remit.open_task(&asked).1
}

fn keys(remit: &Remit, more: &[&str]) -> Vec<Value> {
    let output = remit.command(&[&["keys", "--json"], more].concat());
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(answer: Response, place: &str) {
    let status = answer.status();
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], "key_refused", "{place}: {problem}");
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!problem.to_string().contains(&KEY[4..]));
}

/// Whether a request that reached the upstream holds the key, as it is or in Base64.
fn holds_key(received: &Received) -> bool {
    let encoded = STANDARD.encode(format!("git:{KEY}"));
    let text = format!(
        "{} {:?} {}",
        received.target,
        received.headers,
        String::from_utf8_lossy(&received.body)
    );
    text.contains(&KEY[4..]) || text.contains(&encoded)
}

#[test]
fn d1_keys_come_off_in_every_place() {
    let world = World::new();
    for (place, call) in world.calls("strips") {
        world.upstream.forget();
        let answer = call.send().unwrap();
        if place == "path" {
            refused(answer, place);
            assert!(world.upstream.received().is_empty());
            continue;
        }
        assert_eq!(answer.status(), StatusCode::OK, "{place}");
        let received = world.upstream.only();
        assert!(!holds_key(&received), "{place}: {received:?}");
        match place {
            "json" => assert_eq!(received.body, r#"{"a":[{"b":"***"}]}"#),
            "text" => assert_eq!(received.body, r#""use ***""#),
            "form" => assert_eq!(received.body, "a=1&client_secret=%2A%2A%2A"),
            "any query key" => assert!(received.target.ends_with("/a?b=c")),
            _ => {}
        }
    }
    world.is_silent();
    let places = [("header", 4), ("cookie", 1), ("query", 2), ("body", 3)];
    for (place, count) in places {
        let labels = format!("kind=\"github\",place=\"{place}\",action=\"stripped\"");
        assert_eq!(world.metric(&labels), count, "{place}");
    }
    // However it was brought, it is one key.
    let keys = world.keys(&[]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(keys[0]["kind"], "github");
    assert_eq!(keys[0]["count"], 11);
    assert_eq!(keys[0]["agents"], json!(["triage"]));
    assert_eq!(keys[0]["actions"], json!(["refused", "stripped"]));
}

#[test]
fn d1_keys_are_refused_in_every_place() {
    let world = World::new();
    for (place, call) in world.calls("refuses") {
        refused(call.send().unwrap(), place);
    }
    assert!(world.upstream.received().is_empty());
    world.is_silent();
    assert_eq!(world.keys(&[])[0]["actions"], json!(["refused"]));
    let audit = std::fs::read_to_string(world.site.path("audit.jsonl")).unwrap();
    assert!(
        audit.contains("\"place\":\"body:/a/0/b\",\"kind\":\"github\""),
        "{audit}"
    );
}

#[test]
fn d1_keys_that_are_reported_reach_the_tool_and_nobody_else() {
    let world = World::new();
    for (place, call) in world.calls("reports") {
        world.upstream.forget();
        assert_eq!(call.send().unwrap().status(), StatusCode::OK, "{place}");
        assert!(holds_key(&world.upstream.only()), "{place}");
    }
    world.is_silent();
    assert_eq!(world.keys(&[])[0]["actions"], json!(["reported"]));
    assert_eq!(
        world.metric("kind=\"github\",place=\"path\",action=\"reported\""),
        1
    );
    // The proof of the agent goes nowhere, though it looks like a key and stands where one may.
    world.upstream.forget();
    let call = world.get("/reports/a").header("x-auth-token", &world.token);
    assert_eq!(call.send().unwrap().status(), StatusCode::OK);
    let received = format!("{:?}", world.upstream.only().headers);
    assert!(!received.contains(&world.token), "{received}");
}

#[test]
fn d1_keys_come_off_the_arguments_of_mcp() {
    let world = World::new();
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "add", "arguments": { "text": format!("use {KEY}"), "token": KEY } },
    });
    let call = world.post("/speaks", "application/json", message.to_string());
    let call = call.header("accept", "application/json, text/event-stream");
    assert_eq!(call.send().unwrap().status(), StatusCode::OK);
    let received: Value = serde_json::from_slice(&world.upstream.only().body).unwrap();
    let expect = json!({ "text": "use ***", "token": "***" });
    assert_eq!(received["params"]["arguments"], expect);
    world.is_silent();
    let places = &world.keys(&[])[0]["places"];
    let expect = [
        "body:/params/arguments/text",
        "body:/params/arguments/token",
    ];
    assert_eq!(*places, json!(expect));
}

#[test]
fn d1_a_body_that_streams_is_looked_at_as_it_passes() {
    let world = World::new();
    let part = format!("--x\r\ncontent-disposition: form-data; name=a\r\n\r\n{KEY} b\r\n--x--\r\n");
    for (content_type, body) in [
        ("text/plain", format!("use {KEY}, please")),
        ("multipart/form-data; boundary=x", part),
        (
            "application/octet-stream",
            format!("{}\0{KEY}\0", "x".repeat(100_000)),
        ),
    ] {
        world.upstream.forget();
        let call = world.post("/streams/a", content_type, body.clone());
        refused(call.send().unwrap(), content_type);
        let mut received = world.upstream.received();
        assert!(!received.iter().any(holds_key), "{content_type}");
        world.upstream.forget();
        let call = world.post("/masks/a", content_type, body.clone());
        assert_eq!(call.send().unwrap().status(), StatusCode::OK);
        received = world.upstream.received();
        // What came of the call that was refused may be seen only now.
        received.retain(|received| received.complete);
        let expect = body.replace(KEY, &"*".repeat(KEY.len()));
        assert_eq!(received[0].body, expect, "{content_type}");
    }
    let plain = world.post("/streams/a", "text/plain", "nothing".repeat(50_000));
    assert_eq!(plain.send().unwrap().status(), StatusCode::OK);
    world.is_silent();
}

#[test]
fn a_key_of_several_agents_is_known_for_reused_also_after_a_restart() {
    let world = World::new();
    let other = open(&world.remit, "writer");
    let bring = |remit: &Remit, token: &str, key: &str| {
        let call = world.http.get(remit.call("/strips/a"));
        let call = call.bearer_auth(token).header("x-api-key", key);
        assert_eq!(call.send().unwrap().status(), StatusCode::OK);
    };
    bring(&world.remit, &world.token, KEY);
    bring(&world.remit, &world.token, "opaque-and-its-own");
    bring(&world.remit, &other, KEY);
    until("all are told", || {
        world.keys(&[]).iter().any(|key| key["reused"] == true)
    });
    let reused = world.keys(&["--reused"]);
    assert_eq!(reused.len(), 1, "{reused:?}");
    assert_eq!(reused[0]["agents"], json!(["triage", "writer"]));
    assert_eq!(reused[0]["tools"], json!(["strips"]));
    assert_eq!(world.keys(&[]).len(), 2);
    let table = world.remit.command(&["keys"]).stdout;
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("github") && table.contains("reused") && table.contains("unknown"));

    let World { remit, site, .. } = world;
    assert!(remit.stop());
    let remit = site.serve();
    assert_eq!(keys(&remit, &[]), [] as [Value; 0]);
    let call = testkit::http().get(remit.call("/strips/a"));
    let call = call.bearer_auth(&other).header("x-api-key", KEY);
    call.send().unwrap();
    until("it is told", || !keys(&remit, &[]).is_empty());
    assert_eq!(
        keys(&remit, &[])[0]["fingerprint"],
        reused[0]["fingerprint"]
    );
}
