//! The whole control API over a real socket, with the real crates below it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on fails"
)]

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use control::{
    Client, ClientError, ConfigStatus, Control, EndRequest, EndingWish, ExplainAnswer,
    ExplainError, ExplainRequest, Live, OpenRequest, Operator, Operators, Options, ReloadError,
    Reloaded, Role, Signals, Status,
};
use credentials::{Credentials, Leases};
use futures::FutureExt;
use futures::future::ready;
use http::{HeaderMap, Method};
use identity::{Identity, KeyKind, TaskTokens};
use policy::{DecisionPoint, Policy, Source};
use serde_json::{Value, json};
use tasks::{Approvals, ApprovalsConfig, DeclarationHeaders, Embedded, Store, TaskId, Tasks};
use telemetry::{Recorder, Telemetry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Without a slash at the end, as tokens spell it.
const ISSUER: &str = "http://127.0.0.1:4190";

const UNKNOWN: &str = "0190a1b2-0000-7000-8000-000000000000";

/// A control API on a free port; stops when dropped.
struct Gateway {
    address: SocketAddr,
    draining: CancellationToken,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _telemetry: Telemetry,
    _folder: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn token(role: Role) -> String {
    format!("{}-token-0123456789", role.as_str())
}

fn operators() -> Operators {
    let roles = [
        Role::Viewer,
        Role::Approver,
        Role::Orchestrator,
        Role::Operator,
    ];
    let operators = roles.map(|role| Operator {
        name: format!("the-{}", role.as_str()),
        token: token(role).into_bytes(),
        role,
    });
    Operators::new(operators.into()).unwrap()
}

/// Compiled and tested once for all tests here.
static EXAMPLE: LazyLock<Arc<Policy>> = LazyLock::new(|| load(Policy::example()));

fn load(sources: Vec<Source>) -> Arc<Policy> {
    let (policy, _) = Policy::load(sources).unwrap();
    Arc::new(policy)
}

async fn start() -> Gateway {
    start_with(EXAMPLE.clone()).await
}

async fn start_with(policy: Arc<Policy>) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path()).unwrap());
    let config = tasks::Config {
        ttl_default: Duration::from_secs(900),
        ttl_max: Duration::from_secs(3600),
        headers: DeclarationHeaders {
            task: "agent-task".parse().unwrap(),
            tool: "agent-tool".parse().unwrap(),
            context: "agent-context".parse().unwrap(),
        },
        delegation: tasks::DelegationBounds::default(),
        agents: tasks::GateBounds::default(),
        units: Vec::new(),
        own: 1000,
        adoption: Vec::new(),
    };
    let tasks = Tasks::load(config, store.clone()).await.unwrap();
    let asking = ApprovalsConfig {
        ttl: Duration::from_secs(900),
        hold: Duration::ZERO,
        link: "http://127.0.0.1:4190/v1/approvals/".into(),
    };
    let approvals = Approvals::load(asking, store.clone(), |_| true);
    let approvals = approvals.await.unwrap();
    let leases = Leases::load(store, |_| true).await.unwrap();
    let key = TaskTokens::generate(KeyKind::P256).unwrap();
    let tokens = TaskTokens::from_pem(key.as_bytes(), ISSUER).unwrap();
    let tokens = Arc::new(tokens);
    let identity = identity::Config {
        issuers: Vec::new(),
        transaction_issuers: Vec::new(),
        tokens: Arc::clone(&tokens),
        dpop: identity::DpopConfig::default(),
        certificates: None,
        clusters: Vec::new(),
        wit_issuers: Vec::new(),
        spiffe: None,
    };
    let (recorder, telemetry) = Recorder::start(telemetry::Config {
        otlp: None,
        audit: None,
        queue: 16,
        service_name: "remit".into(),
    })
    .unwrap();
    let signals = Signals::new(Arc::clone(&tasks), Arc::clone(&leases), recorder.clone());
    let live = Live {
        policy: Arc::new(DecisionPoint::enforcing(policy)),
        credentials: Arc::new(Credentials::new(vec![], leases)),
        identity: Arc::new(Identity::new(identity, None)),
        tokens,
        operators: Arc::new(operators()),
        owners_of_record: Arc::default(),
        resources: [].into(),
        bundles: Arc::default(),
        status: Status {
            version: "1.2.3".into(),
            revision: 1,
            config: Some(ConfigStatus {
                path: "remit.yaml".into(),
                hash: "abc".into(),
                applied_at: "2026-01-01T00:00:00Z".into(),
            }),
            ..Status::default()
        },
    };
    let draining = CancellationToken::new();
    let control = Control {
        signals: Arc::new(signals),
        live: Arc::new(ArcSwap::from_pointee(live)),
        tasks,
        approvals,
        recorder,
        explain: Arc::new(|request| ready(explain(request)).boxed()),
        reload: Arc::new(|| ready(reload()).boxed()),
        promote: Arc::new(|| ready(reload()).boxed()),
        draining: draining.clone(),
        options: Options {
            default_agent: Some("demo".parse().unwrap()),
            issuer: Some(ISSUER.parse().unwrap()),
            ..Options::default()
        },
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = control.serve(listener, stop.clone());
    Gateway {
        address,
        draining,
        stop,
        serving: tokio::spawn(async { serving.await.unwrap() }),
        _telemetry: telemetry,
        _folder: folder,
    }
}

/// Stands for the gateway's own walk of the way, which lives above this crate.
fn explain(request: ExplainRequest) -> Result<ExplainAnswer, ExplainError> {
    match request.method.as_str() {
        "GET" => Ok(ExplainAnswer {
            verdict: "allow".into(),
            ..ExplainAnswer::default()
        }),
        "POST" => Err(ExplainError::UnknownTask(request.task)),
        _ => Err(ExplainError::Malformed("method is not known".into())),
    }
}

fn reload() -> Result<Reloaded, ReloadError> {
    Err(ReloadError {
        mistakes: vec!["remit.yaml:1:1: unknown key".into()],
    })
}

impl Gateway {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn client(&self, role: Role) -> Client {
        Client::new(self.url("").parse().unwrap(), &token(role)).unwrap()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, HeaderMap, Value) {
        // A client of the API sets up TLS for reqwest.
        drop(self.client(Role::Viewer));
        let mut request = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .request(method, self.url(path))
            .body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, headers, body)
    }
}

fn wish() -> OpenRequest {
    serde_json::from_value(json!({
        "purpose": "demo",
        "grants": [{ "tool": "notes", "access": ["read"] }],
        "ttl_seconds": 600
    }))
    .unwrap()
}

#[track_caller]
fn code(error: &ClientError) -> &str {
    &error.problem().expect("the gateway says no").code
}

#[tokio::test]
async fn a_task_is_opened_shown_listed_and_ended() {
    let gateway = start().await;
    let client = gateway.client(Role::Orchestrator);
    let opened = client.open(&wish()).await.unwrap();
    assert_eq!(opened.task.agent, "demo");
    assert_eq!(opened.task.owner, "the-orchestrator");
    assert_eq!(opened.token.split('.').count(), 3);
    assert_eq!(opened.expires_at, opened.task.expires_at);

    let shown = client.show(&opened.id).await.unwrap();
    assert_eq!(shown.state, "open");
    assert_eq!(client.list(Some("open")).await.unwrap().len(), 1);
    assert_eq!(client.list(Some("ended")).await.unwrap().len(), 0);

    let ended = client.end(&opened.id, EndRequest::default()).await.unwrap();
    assert_eq!(ended.task.state, "ended");
    assert_eq!(ended.task.ended_because.as_deref(), Some("completed"));
    assert!(ended.leases.is_empty());
    assert_eq!(client.list(Some("open")).await.unwrap().len(), 0);
    assert_eq!(client.list(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn ending_twice_answers_the_same() {
    let gateway = start().await;
    let client = gateway.client(Role::Operator);
    let opened = client.open(&wish()).await.unwrap();
    let revoked = EndRequest {
        ending: EndingWish::Revoked,
    };
    client.end(&opened.id, revoked).await.unwrap();
    let again = client.end(&opened.id, EndRequest::default()).await.unwrap();
    assert_eq!(again.task.ended_because.as_deref(), Some("revoked"));
}

#[tokio::test]
async fn the_token_is_bound_to_task_and_agent_and_is_told_once() {
    use base64::Engine as _;
    let gateway = start().await;
    let opened = gateway
        .client(Role::Operator)
        .open(&OpenRequest {
            agent: Some("spiffe://example.org/triage".into()),
            owner: Some("alice@example.org".into()),
            ..wish()
        })
        .await
        .unwrap();
    let claims = opened.token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["txn"], opened.id.as_str());
    assert_eq!(claims["sub"], "alice@example.org");
    assert_eq!(claims["act"]["sub"], "spiffe://example.org/triage");
    assert_eq!(claims["scope"], "notes:read");
    assert_eq!(claims["authorization_details"][0]["tool"], "notes");
    assert!(!format!("{opened:?}").contains(&opened.token));
}

#[tokio::test]
async fn an_opening_answers_with_what_the_command_line_prints() {
    let gateway = start().await;
    let bearer = format!("Bearer {}", token(Role::Operator));
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = serde_json::to_string(&wish()).unwrap();
    let (status, headers, body) = gateway
        .ask(Method::POST, "/v1/tasks", &headers, &body)
        .await;
    assert_eq!(status, 201);
    assert_eq!(headers["cache-control"], "no-store");
    assert!(body["id"].is_string() && body["token"].is_string() && body["expires_at"].is_string());
}

#[tokio::test]
async fn an_opening_that_can_not_be_is_named_by_field() {
    let gateway = start().await;
    let client = gateway.client(Role::Operator);
    let too_long = OpenRequest {
        ttl_seconds: Some(1_000_000),
        ..wish()
    };
    let error = client.open(&too_long).await.unwrap_err();
    assert_eq!(code(&error), "invalid_opening");
    let field = error.problem().unwrap().field.as_deref();
    assert_eq!(field, Some("ttl_seconds"));

    let spaced = OpenRequest {
        agent: Some("not an agent".into()),
        ..wish()
    };
    let error = client.open(&spaced).await.unwrap_err();
    assert_eq!(error.problem().unwrap().field.as_deref(), Some("agent"));

    for cnf in [
        json!({}),
        json!({"jkt": "x"}),
        json!({"kid": "1"}),
        json!("x"),
    ] {
        let unprovable = OpenRequest {
            cnf: Some(cnf),
            ..wish()
        };
        let error = client.open(&unprovable).await.unwrap_err();
        assert_eq!(error.problem().unwrap().field.as_deref(), Some("cnf"));
    }
    assert!(client.list(None).await.unwrap().is_empty());
}

/// Operators may open tasks, but none that executes.
const ADMISSION: &str = r#"
package remit.admit

allow if input.operator.role == "operator"

deny contains {"reason": "too_wide", "message": "Ask for less."} if {
	some grant in input.task.grants
	"execute" in grant.access
}
"#;

#[track_caller]
fn refused_opening(error: &ClientError, status: u16, code: &str, reason: Option<&str>) {
    let problem = error.problem().expect("the gateway says no");
    let told = (
        problem.status,
        problem.code.as_str(),
        problem.reason.as_deref(),
    );
    assert_eq!(told, (status, code, reason));
}

#[tokio::test]
async fn admission_policy_decides_who_opens_what() {
    let gateway = start_with(load(vec![Source {
        path: "admit.rego".into(),
        text: ADMISSION.into(),
    }]))
    .await;
    let client = gateway.client(Role::Operator);
    client.open(&wish()).await.unwrap();

    let mut wide = wish();
    wide.grants[0].access.push(tasks::Access::Execute);
    let error = client.open(&wide).await.unwrap_err();
    refused_opening(&error, 403, "admission_denied", Some("too_wide"));
    assert_eq!(error.problem().unwrap().detail, "Ask for less.");

    let orchestrator = gateway.client(Role::Orchestrator);
    let error = orchestrator.open(&wish()).await.unwrap_err();
    refused_opening(&error, 403, "admission_undefined", None);
    assert_eq!(error.problem().unwrap().cause, None);
    assert_eq!(client.list(None).await.unwrap().len(), 1);
}

/// Sends bytes as they are and answers with the status line.
async fn raw(gateway: &Gateway, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_with_no_host_or_two_is_not_answered() {
    let gateway = start().await;
    let misdirected = "HTTP/1.1 421 Misdirected Request";
    let none = "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&gateway, none).await, misdirected);
    let two =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&gateway, two).await, misdirected);
    let whole =
        "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&gateway, whole).await, misdirected);
}

#[tokio::test]
async fn a_long_head_is_refused() {
    let gateway = start().await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "a".repeat(17 * 1024)
    );
    let answer = raw(&gateway, &long).await;
    assert_eq!(answer, "HTTP/1.1 431 Request Header Fields Too Large");
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_name() {
    let gateway = start().await;
    let bearer = format!("Bearer {}", token(Role::Operator));
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = r#"{"grants":[{"tool":"notes","access":["read"],"acess":1}]}"#;
    let (status, _, body) = gateway.ask(Method::POST, "/v1/tasks", &headers, body).await;
    assert_eq!(status, 400);
    assert_eq!(body["code"], "invalid_body");
    assert!(body["detail"].as_str().unwrap().contains("acess"));
}

#[tokio::test]
async fn a_task_that_is_not_there_is_not_found() {
    let gateway = start().await;
    let client = gateway.client(Role::Operator);
    let unknown: TaskId = UNKNOWN.parse().unwrap();
    let error = client.show(&unknown).await.unwrap_err();
    assert_eq!(code(&error), "unknown_task");
    let error = client
        .end(&unknown, EndRequest::default())
        .await
        .unwrap_err();
    assert_eq!(code(&error), "unknown_task");
}

/// What each route answers nobody, a viewer, an approver, an orchestrator, and an operator.
#[tokio::test]
async fn who_may_ask_what() {
    let gateway = start().await;
    let task = format!("/v1/tasks/{UNKNOWN}");
    let end = format!("{task}/end");
    let (pause, resume) = (format!("{task}/pause"), format!("{task}/resume"));
    let (token_of, delegate) = (format!("{task}/token"), format!("{task}/delegate"));
    let part = r#"{"agent":"b","grants":[]}"#;
    let approval = format!("/v1/approvals/{UNKNOWN}");
    let grant = format!("{approval}/grant");
    let refuse = format!("{approval}/refuse");
    let explain = format!(r#"{{"method":"GET","url":"/notes/notes","task":"{UNKNOWN}"}}"#);
    let [introspect, revoke, exchange] = ["/oauth2/introspect", "/oauth2/revoke", "/oauth2/token"];
    let table = [
        (Method::POST, "/v1/tasks", "{}", [401, 403, 403, 400, 400]),
        (Method::GET, "/v1/tasks", "", [401, 200, 200, 200, 200]),
        (Method::GET, &task, "", [401, 404, 404, 404, 404]),
        (Method::POST, &end, "", [401, 403, 403, 404, 404]),
        (Method::POST, &pause, "", [401, 403, 403, 404, 404]),
        (Method::POST, &resume, "", [401, 403, 403, 404, 404]),
        (Method::POST, &token_of, "", [401, 403, 403, 404, 404]),
        (Method::POST, &delegate, part, [401, 403, 403, 404, 404]),
        (Method::GET, "/v1/approvals", "", [401, 200, 200, 200, 200]),
        (Method::GET, &approval, "", [401, 404, 404, 404, 404]),
        (Method::POST, &grant, "", [401, 403, 404, 403, 404]),
        (Method::POST, &refuse, "", [401, 403, 404, 403, 404]),
        (Method::GET, "/v1/leases", "", [401, 200, 200, 200, 200]),
        (
            Method::GET,
            "/v1/leases/none",
            "",
            [401, 404, 404, 404, 404],
        ),
        (
            Method::POST,
            "/v1/leases/none/revoke",
            "",
            [401, 403, 403, 403, 404],
        ),
        (
            Method::POST,
            "/v1/explain",
            &explain,
            [401, 200, 200, 200, 200],
        ),
        (Method::GET, "/v1/status", "", [401, 200, 200, 200, 200]),
        (
            Method::GET,
            "/v1/policy/shadow",
            "",
            [401, 200, 200, 200, 200],
        ),
        (
            Method::POST,
            "/v1/policy/promote",
            "",
            [401, 403, 403, 403, 422],
        ),
        (Method::POST, "/v1/reload", "", [401, 403, 403, 403, 422]),
        // What is no form gets as far as whoever may send one.
        (Method::POST, introspect, "", [401, 400, 400, 400, 400]),
        (Method::POST, revoke, "", [401, 403, 403, 400, 400]),
        (Method::POST, exchange, "", [400, 400, 400, 400, 400]),
        (
            Method::GET,
            "/.well-known/oauth-authorization-server",
            "",
            [200, 200, 200, 200, 200],
        ),
        (
            Method::GET,
            "/.well-known/jwks.json",
            "",
            [200, 200, 200, 200, 200],
        ),
        (Method::GET, "/healthz", "", [200, 200, 200, 200, 200]),
        (Method::GET, "/readyz", "", [200, 200, 200, 200, 200]),
        (Method::GET, "/metrics", "", [200, 200, 200, 200, 200]),
        (Method::GET, "/", "", [404, 404, 404, 404, 404]),
        (Method::DELETE, "/v1/tasks", "", [405, 405, 405, 405, 405]),
    ];
    check_rights(&gateway, table).await;
}

#[tokio::test]
async fn who_may_revoke_everything() {
    let gateway = start().await;
    let wish = r#"{"reason":"INC-7"}"#;
    let table = [
        (
            Method::POST,
            "/v1/revocations",
            wish,
            [401, 403, 403, 403, 400],
        ),
        (
            Method::GET,
            "/v1/revocations",
            "",
            [401, 200, 200, 200, 200],
        ),
        (
            Method::DELETE,
            "/v1/revocations/none",
            "",
            [401, 403, 403, 403, 404],
        ),
    ];
    check_rights(&gateway, table).await;
}

/// What a route answers nobody, a viewer, an approver, an orchestrator, and an operator.
type Row<'a> = (Method, &'a str, &'a str, [u16; 5]);

#[expect(clippy::indexing_slicing, reason = "a failure here fails a test")]
async fn check_rights<const N: usize>(gateway: &Gateway, table: [Row<'_>; N]) {
    let callers = [
        None,
        Some(Role::Viewer),
        Some(Role::Approver),
        Some(Role::Orchestrator),
        Some(Role::Operator),
    ];
    for (method, path, body, expect) in table {
        for (role, expect) in callers.into_iter().zip(expect) {
            let bearer = role.map(|role| format!("Bearer {}", token(role)));
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
            let (status, headers, body) = gateway.ask(method.clone(), path, &headers, body).await;
            assert_eq!(status, expect, "{method} {path} {role:?} {body}");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            if status >= 400 {
                let kind = if path.starts_with("/oauth2/") {
                    "application/json"
                } else {
                    "application/problem+json"
                };
                assert_eq!(headers["content-type"], kind);
                assert!(body["hint"].is_string(), "{body}");
            }
            if status == 401 {
                assert_eq!(headers["www-authenticate"], "Bearer realm=\"remit\"");
            }
        }
    }
}

#[tokio::test]
async fn a_task_token_is_no_operator_token() {
    let gateway = start().await;
    let opened = gateway.client(Role::Operator).open(&wish()).await.unwrap();
    let agent = Client::new(gateway.url("").parse().unwrap(), &opened.token).unwrap();
    let error = agent.status().await.unwrap_err();
    assert_eq!(code(&error), "invalid_token");
}

#[tokio::test]
async fn metrics_asked_through_a_proxy_need_a_token() {
    let gateway = start().await;
    let forwarded = [("x-forwarded-for", "203.0.113.7")];
    let (status, _, _) = gateway.ask(Method::GET, "/metrics", &forwarded, "").await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_rebound_host_is_not_answered() {
    let gateway = start().await;
    for path in ["/healthz", "/metrics", "/v1/status"] {
        let rebound = [("host", "evil.example")];
        let (status, _, body) = gateway.ask(Method::GET, path, &rebound, "").await;
        assert_eq!((status, &body["code"]), (421, &json!("wrong_host")));
    }
}

#[tokio::test]
async fn another_origin_is_not_let_in() {
    let gateway = start().await;
    let preflight = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    let (status, headers, _) = gateway
        .ask(Method::OPTIONS, "/v1/tasks", &preflight, "")
        .await;
    assert_eq!(status, 405);
    let cors = headers
        .keys()
        .any(|name| name.as_str().starts_with("access-control"));
    assert!(!cors);
}

#[tokio::test]
async fn a_body_that_a_form_could_send_is_refused() {
    let gateway = start().await;
    let bearer = format!("Bearer {}", token(Role::Operator));
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "text/plain"),
    ];
    let (status, _, body) = gateway.ask(Method::POST, "/v1/tasks", &headers, "{}").await;
    assert_eq!((status, &body["code"]), (415, &json!("json_required")));
}

#[tokio::test]
async fn a_long_body_is_refused() {
    let gateway = start().await;
    let bearer = format!("Bearer {}", token(Role::Operator));
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let long = " ".repeat(64 * 1024 + 1);
    let (status, _, body) = gateway
        .ask(Method::POST, "/v1/tasks", &headers, &long)
        .await;
    assert_eq!((status, &body["code"]), (413, &json!("body_too_large")));
}

#[tokio::test]
async fn an_unknown_query_key_is_refused() {
    let gateway = start().await;
    let bearer = format!("Bearer {}", token(Role::Viewer));
    for path in [
        "/v1/tasks?stat=open",
        "/v1/tasks?state=closed",
        "/v1/leases?t=1",
    ] {
        let headers = [("authorization", bearer.as_str())];
        let (status, _, body) = gateway.ask(Method::GET, path, &headers, "").await;
        assert_eq!((status, &body["code"]), (400, &json!("invalid_query")));
    }
}

#[tokio::test]
async fn the_key_set_is_public_and_holds_no_private_key() {
    let gateway = start().await;
    let (status, headers, body) = gateway
        .ask(Method::GET, "/.well-known/jwks.json", &[], "")
        .await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/jwk-set+json");
    assert_eq!(body["keys"][0]["alg"], "ES256");
    assert!(body["keys"][0].get("d").is_none());
}

#[tokio::test]
async fn the_status_tells_of_the_gateway() {
    let gateway = start().await;
    let client = gateway.client(Role::Viewer);
    gateway.client(Role::Operator).open(&wish()).await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!(status.status.version, "1.2.3");
    assert_eq!(status.status.config.unwrap().hash, "abc");
    assert_eq!((status.counts.open_tasks, status.counts.operators), (1, 4));
    assert!(!status.policy_revision.is_empty());
}

#[tokio::test]
async fn a_broken_configuration_tells_its_mistakes() {
    let gateway = start().await;
    let error = gateway.client(Role::Operator).reload().await.unwrap_err();
    assert_eq!(code(&error), "reload_failed");
    let mistakes = &error.problem().unwrap().mistakes;
    assert_eq!(mistakes, &["remit.yaml:1:1: unknown key"]);
}

#[tokio::test]
async fn a_call_is_explained() {
    let gateway = start().await;
    let client = gateway.client(Role::Viewer);
    let request = |method: &str| ExplainRequest {
        method: method.into(),
        url: "/notes/notes".into(),
        task: UNKNOWN.parse().unwrap(),
        headers: [].into(),
        body: None,
    };
    let answer = client.explain(&request("GET")).await.unwrap();
    assert_eq!(answer.verdict, "allow");
    let error = client.explain(&request("POST")).await.unwrap_err();
    assert_eq!(code(&error), "unknown_task");
    let error = client.explain(&request("FOO")).await.unwrap_err();
    assert_eq!(code(&error), "unexplainable");
}

#[tokio::test]
async fn a_gateway_that_drains_is_alive_but_not_ready() {
    let gateway = start().await;
    gateway.draining.cancel();
    let (status, _, body) = gateway.ask(Method::GET, "/readyz", &[], "").await;
    assert_eq!((status, &body["code"]), (503, &json!("draining")));
    let (status, _, _) = gateway.ask(Method::GET, "/healthz", &[], "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_gateway_that_is_told_to_stop_stops() {
    let mut gateway = start().await;
    gateway.client(Role::Viewer).status().await.unwrap();
    gateway.stop.cancel();
    (&mut gateway.serving).await.unwrap();
    let error = gateway.client(Role::Viewer).status().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
}
