//! Whole calls: a real agent on a real task asks a tool, and a call comes of it or a refusal.

mod limits;

use std::sync::Arc;

use crate::{
    Body, BodyMode, BodyPlan, Call, FoundKey, Head, Protocol, StripMode, Tool, Tools, Unobservable,
};
use bytes::Bytes;
use http::Request;
use identity::{Identity, KeyKind, TaskClaims, TaskTokens};
use serde_json::{Value, json};
use tasks::{Access, DeclarationHeaders, Embedded, OpeningRequest, Tasks};

const KEY: &str = concat!("ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");

/// An agent with one open task, and one tool to call.
struct World {
    identity: Identity,
    tasks: Arc<Tasks>,
    token: String,
    tools: Tools,
    _folder: tempfile::TempDir,
}

impl World {
    /// `grant` is added to `{"tool": "x"}`.
    async fn new(tool: Tool, grant: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = tasks::Config {
            ttl_default: std::time::Duration::from_mins(1),
            ttl_max: std::time::Duration::from_hours(1),
            headers: DeclarationHeaders::default(),
            delegation: tasks::DelegationBounds::default(),
            agents: tasks::GateBounds::default(),
            units: Vec::new(),
            own: 1000,
            adoption: Vec::new(),
        };
        let store = Arc::new(Embedded::open(folder.path()).unwrap());
        let tasks = Tasks::load(config, store).await.unwrap();
        let mut grant = grant;
        grant["tool"] = json!("x");
        let request: OpeningRequest =
            serde_json::from_value(json!({"agent": "a", "owner": "o", "grants": [grant]})).unwrap();
        let opening = tasks.opening(request).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no policy here to admit it"
        )]
        let view = tasks.open(opening).await.unwrap();
        let pem = TaskTokens::generate(KeyKind::Ed25519).unwrap();
        let tokens = Arc::new(TaskTokens::from_pem(pem.as_bytes(), "http://remit.test").unwrap());
        let claims = TaskClaims {
            txn: view.id.as_str().to_owned(),
            owner: "o".to_owned(),
            agent: "a".parse().unwrap(),
            chain: Vec::new(),
            scope: String::new(),
            authorization_details: json!([]),
            expires_at: i64::from(u32::MAX),
        };
        let token = tokens.mint(&claims).unwrap();
        let config = identity::Config {
            issuers: Vec::new(),
            transaction_issuers: Vec::new(),
            tokens,
            dpop: identity::DpopConfig::default(),
            certificates: None,
            clusters: Vec::new(),
            wit_issuers: Vec::new(),
            spiffe: None,
        };
        Self {
            identity: Identity::new(config, None),
            tasks,
            token,
            tools: Tools::new(vec![tool]).unwrap(),
            _folder: folder,
        }
    }

    async fn ask(&self, request: Request<()>, body: Body) -> Result<Call, Unobservable> {
        self.ask_noting(request, body, &mut Vec::new()).await
    }

    async fn ask_noting(
        &self,
        mut request: Request<()>,
        body: Body,
        keys: &mut Vec<FoundKey>,
    ) -> Result<Call, Unobservable> {
        let proof = format!("Bearer {}", self.token).parse().unwrap();
        request.headers_mut().insert("authorization", proof);
        let head = Head::canonical(request.into_parts().0, None)?;
        let agent = self.identity.authenticate(&head.presented()).await.unwrap();
        let task = self.tasks.bind(agent, head.headers()).unwrap();
        let route = self.tools.route(&head).unwrap();
        Call::observe_noting(task, route, head, body, keys)
    }
}

fn tool(protocol: Protocol, access: &[(Access, &str)]) -> Tool {
    Tool {
        name: "x".parse().unwrap(),
        upstream: "https://api.example/v1".parse().unwrap(),
        protocol,
        hosts: vec!["X.example".to_owned()],
        access: access
            .iter()
            .map(|(access, pattern)| (*access, pattern.parse().unwrap()))
            .collect(),
        environment: None,
        attributes: serde_json::Map::new(),
        labels: Vec::new(),
        marks: Vec::new(),
        meters: Vec::new(),
        resource: crate::ResourceRule::default(),
        gate: tasks::GateBounds::default(),
        body: BodyMode::Inspect { limit: 1024 },
        strip: StripMode::Strip,
    }
}

fn http_tool() -> Tool {
    tool(
        Protocol::Http,
        &[
            (Access::Read, "GET /**"),
            (Access::Write, "POST /**"),
            (Access::Execute, "* /run/**"),
        ],
    )
}

fn mcp_tool() -> Tool {
    let access = [(Access::Read, "get_*"), (Access::Write, "*_note")];
    tool(Protocol::Mcp, &access)
}

fn grpc_tool() -> Tool {
    let access = [
        (Access::Read, "pkg.Notes/Get*"),
        (Access::Write, "POST /pkg.Notes/*"),
    ];
    tool(Protocol::Grpc, &access)
}

fn all() -> Value {
    json!({"access": ["read", "write", "execute"]})
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "gateway.example");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

async fn http(line: &str, headers: &[(&str, &str)], body: &str) -> Result<Call, Unobservable> {
    let (method, path) = line.split_once(' ').unwrap();
    let world = World::new(http_tool(), all()).await;
    world.ask(request(method, path, headers), whole(body)).await
}

fn whole(body: &str) -> Body {
    if body.is_empty() {
        Body::Empty
    } else {
        Body::Whole(Bytes::copy_from_slice(body.as_bytes()))
    }
}

async fn mcp(grant: Value, message: &Value) -> Result<Call, Unobservable> {
    let world = World::new(mcp_tool(), grant).await;
    let headers = [("content-type", "application/json")];
    let body = whole(&message.to_string());
    world.ask(request("POST", "/x", &headers), body).await
}

fn tool_call(name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": name, "arguments": {"a": 1}}})
}

#[tokio::test]
async fn a_call_goes_to_the_upstream_below_its_base() {
    let call = http("GET /x/a%20b?q=1", &[], "").await.unwrap();
    assert_eq!(call.operation(), "GET /**");
    assert_eq!(call.request().path, "/a%20b");
    assert_eq!(call.request().segments, ["a b"]);
    assert_eq!(call.request().host, "gateway.example");
    let (parts, _, _) = call.into_wire();
    assert_eq!(parts.uri.to_string(), "https://api.example/v1/a%20b?q=1");
    assert_eq!(parts.headers["host"], "api.example");
}
#[tokio::test]
async fn a_call_by_host_has_the_whole_path() {
    let call = http("GET /x/a", &[("host", "x.EXAMPLE:443")], "")
        .await
        .unwrap();
    assert_eq!(call.request().path, "/x/a");
    assert_eq!(
        call.into_wire().0.uri.to_string(),
        "https://api.example/v1/x/a"
    );
}
#[tokio::test]
async fn an_agent_does_not_choose_the_upstream() {
    let headers = [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
    ];
    let (parts, _, _) = http("GET http://evil.example/x/a", &headers, "")
        .await
        .unwrap()
        .into_wire();
    assert_eq!(parts.uri.host(), Some("api.example"));
    assert!(!format!("{:?}", parts.headers).contains("evil"));
}
#[tokio::test]
async fn the_proof_comes_off_and_is_no_key() {
    let world = World::new(http_tool(), all()).await;
    let mut keys = Vec::new();
    let asked = request("GET", "/x/a", &[]);
    let call = world.ask_noting(asked, Body::Empty, &mut keys).await;
    let call = call.unwrap();
    assert_eq!(keys, []);
    assert!(!call.into_wire().0.headers.contains_key("authorization"));
}
#[tokio::test]
async fn the_agents_keys_come_off_everywhere() {
    let headers = [("x-api-key", "opaque"), ("cookie", "s=1"), ("x-note", KEY)];
    let world = World::new(http_tool(), all()).await;
    let path = format!("/x/a?api%5Fkey=v&q={KEY}&b=2");
    let mut keys = Vec::new();
    let asked = request("GET", &path, &headers);
    let call = world.ask_noting(asked, Body::Empty, &mut keys).await;
    let call = call.unwrap();
    let mut places: Vec<_> = keys.iter().map(|key| key.place.as_str()).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "cookie",
            "header:x-api-key",
            "header:x-note",
            "query:api_key",
            "query:q"
        ]
    );
    assert_eq!(call.request().query, [("b".to_owned(), "2".to_owned())]);
    let shown = format!("{call:?} {:?} {keys:?}", call.request().headers);
    assert!(!shown.contains(KEY) && !shown.contains("opaque"));
    let (parts, _, _) = call.into_wire();
    assert_eq!(parts.uri.query(), Some("b=2"));
    assert_eq!(parts.headers.len(), 1, "{:?}", parts.headers);
}
#[tokio::test]
async fn keys_are_refused_where_the_tool_says_so() {
    let mut tool = http_tool();
    tool.strip = StripMode::Refuse;
    let world = World::new(tool, all()).await;
    let headers = [("x-api-key", "opaque")];
    let refusal = world
        .ask(request("GET", "/x/a", &headers), Body::Empty)
        .await;
    assert!(matches!(refusal, Err(Unobservable::KeyRefused(place)) if place == "header:x-api-key"));
    drop(
        world
            .ask(request("GET", "/x/a", &[]), Body::Empty)
            .await
            .unwrap(),
    );
}
#[tokio::test]
async fn a_key_in_path_or_body_is_refused() {
    for (line, body) in [
        (format!("GET /x/{KEY}"), String::new()),
        ("POST /x/a".to_owned(), format!("{{\"a\": \"{KEY}\"}}")),
    ] {
        let refusal = http(&line, &[], &body).await;
        assert!(matches!(refusal, Err(Unobservable::KeyRefused(_))));
    }
}
#[tokio::test]
async fn a_key_passes_where_it_is_only_reported() {
    let reporting = || Tool {
        strip: StripMode::Report,
        ..http_tool()
    };
    let mut world = World::new(reporting(), all()).await;
    let name = "x".parse().unwrap();
    let tools = Tools::new(vec![reporting()]).unwrap();
    world.tools = tools.with_body_keys(&name, StripMode::Report);
    let body = whole(&format!("\"{KEY}\""));
    let mut keys = Vec::new();
    let asked = request("POST", &format!("/x/{KEY}"), &[("x-api-key", KEY)]);
    let call = world.ask_noting(asked, body, &mut keys).await.unwrap();
    let places: Vec<_> = keys.iter().map(|key| &*key.place).collect();
    assert_eq!(places, ["path", "header:x-api-key", "body:"]);
    let (parts, body, _) = call.into_wire();
    assert_eq!(parts.headers["x-api-key"], KEY);
    assert!(!parts.headers.contains_key("authorization"));
    assert!(matches!(body, Body::Whole(sent) if sent.len() == KEY.len() + 2));
}
#[tokio::test]
async fn keys_come_off_the_arguments_of_mcp() {
    let mut world = World::new(mcp_tool(), all()).await;
    let name = "x".parse().unwrap();
    let tools = Tools::new(vec![mcp_tool()]).unwrap();
    world.tools = tools.with_body_keys(&name, StripMode::Strip);
    let mut message = tool_call("get_it");
    message["params"]["arguments"] = json!({"token": KEY, "n": 1});
    let asked = request("POST", "/x", &[("content-type", "application/json")]);
    let body = whole(&message.to_string());
    let call = world.ask(asked, body).await.unwrap();
    let expect = json!({"token": "***", "n": 1});
    assert_eq!(call.request().arguments, Some(expect.clone()));
    let (parts, body, _) = call.into_wire();
    let Body::Whole(sent) = body else { panic!() };
    assert_eq!(parts.headers["content-length"], sent.len().to_string());
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["params"]["arguments"], expect);
}
#[tokio::test]
async fn keys_are_told_though_the_call_is_outside_the_task() {
    let world = World::new(http_tool(), json!({"access": ["read"]})).await;
    let mut keys = Vec::new();
    let asked = request("POST", "/x/a", &[("x-api-key", KEY)]);
    let refusal = world.ask_noting(asked, Body::Empty, &mut keys).await;
    assert!(matches!(refusal, Err(Unobservable::OutOfRemit { .. })));
    assert_eq!(keys.len(), 1);
}
#[tokio::test]
async fn a_body_is_sent_as_it_was_read() {
    let body = " {\"b\": 1,\n \"a\":\"\\u00e9\"} ";
    let headers = [
        ("content-type", "application/json"),
        ("transfer-encoding", "chunked"),
    ];
    let call = http("POST /x/a", &headers, body).await.unwrap();
    assert_eq!(call.request().arguments, Some(json!({"a": "é", "b": 1})));
    let (parts, sent, _) = call.into_wire();
    assert!(matches!(sent, Body::Whole(bytes) if bytes == body));
    assert_eq!(parts.headers["content-length"], body.len().to_string());
    assert!(!parts.headers.contains_key("transfer-encoding"));
}
#[tokio::test]
async fn a_body_that_is_not_understood_is_refused() {
    let text = [("content-type", "text/plain")];
    let gzip = [("content-encoding", "gzip")];
    for headers in [text, gzip] {
        let refusal = http("POST /x/a", &headers, "{}").await;
        assert!(matches!(refusal, Err(Unobservable::BodyType(_))));
    }
    let refusal = http("POST /x/a", &[], "{\"a\":1,\"a\":2}").await;
    assert!(matches!(refusal, Err(Unobservable::Body(_))));
}
#[tokio::test]
async fn a_body_that_was_not_read_is_refused() {
    let world = World::new(http_tool(), all()).await;
    let asked = request("POST", "/x/a", &[]);
    assert!(matches!(
        world.ask(asked, Body::Streamed).await,
        Err(Unobservable::Body(_))
    ));
}
#[tokio::test]
async fn a_streaming_tool_shows_no_arguments() {
    let mut tool = http_tool();
    tool.body = BodyMode::Stream;
    let world = World::new(tool, all()).await;
    let headers = [("content-length", "5000"), ("content-type", "text/plain")];
    let call = world
        .ask(request("POST", "/x/a", &headers), Body::Streamed)
        .await
        .unwrap();
    assert!(call.request().streamed && call.request().arguments.is_none());
    assert_eq!(call.request().size, Some(5000));
}
#[tokio::test]
async fn a_websocket_keeps_its_handshake() {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let world = World::new(http_tool(), all()).await;
    let head = Head::canonical(request("GET", "/x/a", &headers).into_parts().0, None).unwrap();
    let route = world.tools.route(&head).unwrap();
    assert_eq!(route.body_plan(&head).unwrap(), BodyPlan::Stream);
    let call = world
        .ask(request("GET", "/x/a", &headers), Body::Streamed)
        .await
        .unwrap();
    assert_eq!(call.into_wire().0.headers["upgrade"], "websocket");
}

#[tokio::test]
async fn the_deepest_class_wins() {
    let call = http("GET /x/run/it", &[], "").await.unwrap();
    assert_eq!(
        (call.operation(), call.access()),
        ("* /run/**", Access::Execute)
    );
}
#[tokio::test]
async fn head_is_judged_as_get() {
    let call = http("HEAD /x/a", &[], "").await.unwrap();
    assert_eq!((call.operation(), call.access()), ("GET /**", Access::Read));
    assert_eq!(call.request().method, "HEAD");
}
#[tokio::test]
async fn what_no_pattern_covers_is_unknown() {
    for line in ["DELETE /x/a", "OPTIONS /x/run/it"] {
        let refusal = http(line, &[], "").await;
        assert!(
            matches!(refusal, Err(Unobservable::UnknownOperation { .. })),
            "{line}"
        );
    }
}
#[tokio::test]
async fn what_the_task_does_not_cover_is_outside_its_remit() {
    let world = World::new(
        http_tool(),
        json!({"access": ["read"], "operations": ["GET /a"]}),
    )
    .await;
    drop(
        world
            .ask(request("GET", "/x/a", &[]), Body::Empty)
            .await
            .unwrap(),
    );
    for (method, path) in [("POST", "/x/a"), ("GET", "/x/b"), ("GET", "/x/run/it")] {
        let refusal = world.ask(request(method, path, &[]), Body::Empty).await;
        assert!(
            matches!(refusal, Err(Unobservable::OutOfRemit { .. })),
            "{path}"
        );
    }
}
#[tokio::test]
async fn a_declaration_must_not_contradict() {
    for (declared, agrees) in [
        ("x", true),
        ("x/GET /**", true),
        ("x/GET /a", true),
        ("y", false),
        ("x/POST /**", false),
        ("x/GET /b", false),
    ] {
        let result = http("GET /x/a", &[("agent-tool", declared)], "").await;
        match result {
            Ok(call) => {
                assert!(agrees, "{declared}");
                assert!(!call.into_wire().0.headers.contains_key("agent-tool"));
            }
            Err(Unobservable::Contradiction(_)) => assert!(!agrees, "{declared}"),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn an_mcp_call_is_known_by_its_body() {
    let call = mcp(all(), &tool_call("add_note")).await.unwrap();
    assert_eq!(
        (call.operation(), call.access()),
        ("add_note", Access::Write)
    );
    assert_eq!(call.request().arguments, Some(json!({"a": 1})));
    assert_eq!(call.mcp().unwrap().method, "tools/call");
    assert_eq!(call.into_wire().0.uri.to_string(), "https://api.example/v1");
}
#[tokio::test]
async fn an_mcp_tool_in_no_class_is_unknown() {
    let refusal = mcp(all(), &tool_call("drop_all")).await;
    assert!(
        matches!(refusal, Err(Unobservable::UnknownOperation { id: Some(id), .. }) if id == json!(9))
    );
}
#[tokio::test]
async fn an_mcp_call_must_be_covered() {
    let grant = json!({"access": ["read"], "operations": ["get_note"]});
    let refusal = mcp(grant, &tool_call("add_note")).await;
    assert!(matches!(
        refusal,
        Err(Unobservable::OutOfRemit { id: Some(_), .. })
    ));
}
#[tokio::test]
async fn the_lifecycle_needs_a_grant_on_the_tool_alone() {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let grant = json!({"access": ["write"], "operations": ["add_note"]});
    let call = mcp(grant, &message).await.unwrap();
    assert_eq!(
        (call.operation(), call.access()),
        ("tools/list", Access::Read)
    );
    let elsewhere = json!({"access": ["read"], "environment": "prod"});
    let refusal = mcp(elsewhere, &message).await;
    assert!(matches!(refusal, Err(Unobservable::OutOfRemit { .. })));
}
#[tokio::test]
async fn mcp_streams_and_sessions_are_read_operations() {
    let world = World::new(mcp_tool(), all()).await;
    for (method, operation) in [("GET", "stream/open"), ("DELETE", "session/end")] {
        let call = world
            .ask(request(method, "/x/", &[]), Body::Empty)
            .await
            .unwrap();
        assert_eq!((call.operation(), call.access()), (operation, Access::Read));
    }
    for (method, path) in [("PUT", "/x"), ("GET", "/x/other")] {
        let refusal = world.ask(request(method, path, &[]), Body::Empty).await;
        assert!(matches!(
            refusal,
            Err(Unobservable::UnknownOperation { .. })
        ));
    }
    let refusal = world.ask(request("POST", "/x", &[]), Body::Empty).await;
    assert!(matches!(refusal, Err(Unobservable::Body(_))));
}
#[tokio::test]
async fn a_key_in_mcp_arguments_is_refused() {
    let mut message = tool_call("add_note");
    message["params"]["arguments"] = json!({"text": KEY});
    let refusal = mcp(all(), &message).await;
    assert!(matches!(refusal, Err(Unobservable::KeyRefused(_))));
}

#[tokio::test]
async fn a_grpc_method_is_known_by_name_or_route() {
    let world = World::new(
        grpc_tool(),
        json!({"access": ["read", "write"], "operations": ["pkg.Notes/*"]}),
    )
    .await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    for (path, operation, access) in [
        ("/x/pkg.Notes/GetAll", "POST /pkg.Notes/*", Access::Write),
        ("/x/pkg.Notes/Add", "POST /pkg.Notes/*", Access::Write),
    ] {
        let call = world
            .ask(request("POST", path, &headers), Body::Streamed)
            .await
            .unwrap();
        assert_eq!((call.operation(), call.access()), (operation, access));
        assert_eq!(call.into_wire().0.headers["te"], "trailers");
    }
}
#[tokio::test]
async fn what_is_no_grpc_is_refused() {
    let world = World::new(grpc_tool(), all()).await;
    let grpc = [("content-type", "application/grpc")];
    let json = [("content-type", "application/json")];
    for (asked, is_type) in [
        (request("POST", "/x/pkg.Notes/Add", &json), true),
        (request("GET", "/x/pkg.Notes/Add", &grpc), false),
        (request("POST", "/x/pkg.Notes/Add/more", &grpc), false),
        (request("POST", "/x/pkg.Other/Add", &grpc), false),
    ] {
        match world.ask(asked, Body::Streamed).await {
            Err(Unobservable::BodyType(_)) => assert!(is_type),
            Err(Unobservable::UnknownOperation { .. }) => assert!(!is_type),
            other => panic!("{other:?}"),
        }
    }
}

/// The digest of a call of a tool, or why it has none.
async fn digest(world: &World, request: Request<()>, body: &str) -> String {
    let body = match body {
        "" => Body::Empty,
        "(streams)" => Body::Streamed,
        body => Body::Whole(Bytes::copy_from_slice(body.as_bytes())),
    };
    let call = world.ask(request, body).await.unwrap();
    match call.digest() {
        Ok(digest) => digest.as_str().to_owned(),
        Err(indistinct) => indistinct.to_string(),
    }
}

fn post(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(uri).header("host", "gw.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

#[tokio::test]
async fn the_same_call_has_the_same_digest() {
    let world = World::new(http_tool(), all()).await;
    let plain = digest(&world, post("/x/notes?a=1", &[]), r#"{"n": 1, "t": "x"}"#).await;
    assert_eq!(plain.len(), 64);
    let headers = [
        ("user-agent", "another"),
        ("traceparent", "00-1"),
        ("x-stainless-retry-count", "2"),
        ("idempotency-key", "another"),
        ("x-api-key", KEY),
    ];
    let again = post("/x/notes?a=1", &headers);
    assert_eq!(digest(&world, again, r#"{"t":"x","n":1.0}"#).await, plain);
}

#[tokio::test]
async fn another_call_has_another_digest() {
    let world = World::new(http_tool(), all()).await;
    let mut seen = Vec::new();
    for (uri, headers, body) in [
        ("/x/notes?a=1&b=2", &[][..], "{}"),
        ("/x/notes?b=2&a=1", &[], "{}"),
        ("/x/notes?a=1", &[], "{}"),
        ("/x/notes/", &[], "{}"),
        ("/x/notes", &[], ""),
        ("/x/notes", &[], "null"),
        ("/x/notes", &[], r#"{"n": 1}"#),
        ("/x/notes", &[], r#"{"n": "1"}"#),
        ("/x/notes", &[], r#"{"n": 2}"#),
        (
            "/x/notes",
            &[("content-type", "application/json")],
            r#"{"n": "1"}"#,
        ),
        (
            "/x/notes",
            &[("content-type", "application/x-www-form-urlencoded")],
            "n=1",
        ),
        ("/x/notes", &[("x-account", "1")], "{}"),
        ("/x/notes", &[("x-account", "2")], "{}"),
        ("/x/run/notes", &[], "{}"),
    ] {
        seen.push(digest(&world, post(uri, headers), body).await);
    }
    let other = World::new(http_tool(), all()).await;
    seen.push(digest(&other, post("/x/notes", &[]), "{}").await);
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    // `null` and no body at all are told apart by no argument: neither asks for anything.
    assert_eq!(seen.len(), count - 1);
}

#[tokio::test]
async fn a_call_that_is_not_read_whole_has_no_digest() {
    let unread = "its body is not read";
    let streamed = Tool {
        body: BodyMode::Stream,
        ..http_tool()
    };
    let world = World::new(streamed, all()).await;
    assert_eq!(
        digest(&world, post("/x/notes", &[]), "(streams)").await,
        unread
    );
    let world = World::new(grpc_tool(), all()).await;
    let rpc = || {
        post(
            "/x/pkg.Notes/GetNote",
            &[("content-type", "application/grpc")],
        )
    };
    assert_eq!(digest(&world, rpc(), "(streams)").await, unread);
    assert_eq!(digest(&world, rpc(), "").await, unread);
    let world = World::new(http_tool(), all()).await;
    let handshake = Request::get("/x/live")
        .header("host", "gw.example")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let handshake = handshake.body(()).unwrap();
    assert_eq!(digest(&world, handshake, "").await, unread);
}

#[tokio::test]
async fn a_number_that_readers_differ_over_has_no_digest() {
    let world = World::new(http_tool(), all()).await;
    let large = digest(&world, post("/x/notes", &[]), r#"{"n": 9007199254740993}"#).await;
    assert_eq!(large, "a number in it has over 53 bits");
}

#[tokio::test]
async fn a_call_is_shown_whole_and_without_keys() {
    let world = World::new(http_tool(), all()).await;
    let headers = [("x-account", "7"), ("x-api-key", KEY)];
    let request = post("/x/notes?a=1&access_token=secret-in-query", &headers);
    let body = Body::Whole(Bytes::from_static(br#"{"text": "hello"}"#));
    let call = world.ask(request, body).await.unwrap();
    let shown = call.shown();
    assert_eq!(
        shown,
        json!({
            "tool": "x", "environment": null, "operation": "POST /**", "access": "write",
            "method": "POST", "path": "/notes", "query": { "a": "1" },
            "headers": { "x-account": "7" }, "arguments": { "text": "hello" },
        })
    );
}

#[tokio::test]
async fn mcp_calls_are_told_apart_by_their_parameters() {
    let world = World::new(mcp_tool(), all()).await;
    let ask = |id: u64, text: &str, meta: Value| {
        let message = json!({
            "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "add_note", "arguments": { "text": text }, "_meta": meta },
        });
        let request = post("/x", &[("content-type", "application/json")]);
        let world = &world;
        async move { digest(world, request, &message.to_string()).await }
    };
    let one = ask(1, "one", json!({})).await;
    assert_eq!(ask(2, "one", json!({ "progressToken": 7 })).await, one);
    assert_ne!(ask(1, "two", json!({})).await, one);
    assert_ne!(
        ask(1, "one", json!({ "example.org/account": 2 })).await,
        one
    );
}

#[tokio::test]
async fn what_stands_beside_mcp_arguments_is_shown() {
    let world = World::new(mcp_tool(), all()).await;
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "add_note", "arguments": { "text": "x" }, "_meta": { "a": 1, "progressToken": 7 } },
    });
    let request = post("/x", &[("content-type", "application/json")]);
    let body = Body::Whole(Bytes::from(message.to_string()));
    let shown = world.ask(request, body).await.unwrap().shown();
    assert_eq!(shown["arguments"], json!({ "text": "x" }));
    assert_eq!(shown["params"], json!({ "_meta": { "a": 1 } }));
}
