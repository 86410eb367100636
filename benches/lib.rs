//! What does a step cost? Micro benchmarks of the way of one call, and the world they share.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a benchmark that can't be set up has nothing to say"
)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use call::{Body, BodyMode, Call, Head, Protocol, Route, StripMode, Tool, Tools};
use credentials::{
    Binding, Credentials, Injection, Leases, Place, Seal, SealedStore, SecretRef, Static,
};
use futures::future::join_all;
use http::request::Parts;
use http::{HeaderValue, Method, Request};
use identity::{Identity, KeyKind, TaskClaims, TaskTokens};
use policy::{Opener, Permit, Policy, Ruling, Source};
use serde_json::{Map, Value, json};
use tasks::{Access, DeclarationHeaders, Embedded, Store, Task, TaskId, Tasks};
use telemetry::DecisionId;
use tokio::runtime::{Builder, Runtime};

/// A JSON-RPC message of 340 bytes, as `cargo xtask bench` sends it.
pub const MCP_CALL: &str = include_str!("mcp_call.json");

/// A JSON-RPC message of 2 KiB.
pub const MCP_CALL_2KIB: &str = include_str!("mcp_call_2kib.json");

/// The policy of 60 lines that looks at arguments.
pub const TICKETS: &str = include_str!("policy/tickets.rego");

/// A body for `POST /notes`.
const NOTE: &str =
    r#"{"text": "The customer was charged twice; the second charge was refunded today."}"#;

/// An agent with an open task, two tools, and everything a call meets but the network.
#[derive(Debug)]
pub struct World {
    /// Who asks?
    pub identity: Identity,
    /// What for?
    pub tasks: Arc<Tasks>,
    /// Which tools there are: `notes` (HTTP) and `tickets` (MCP).
    pub tools: Tools,
    /// May it?
    pub policy: Policy,
    /// With what?
    pub credentials: Credentials,
    /// Where the counters are written behind, and steps are waited for.
    pub runtime: Runtime,
    token: HeaderValue,
    claims: TaskClaims,
    folder: tempfile::TempDir,
}

/// One request, as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Sent {
    /// `GET /notes/notes`
    Get,
    /// `POST /notes/notes` with JSON.
    Post,
    /// `POST /tickets` with a `tools/call`.
    McpCall,
    /// The same with 2 KiB of arguments.
    LargeMcpCall,
}

impl Sent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Get, Self::Post, Self::McpCall, Self::LargeMcpCall];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "json_post",
            Self::McpCall => "mcp_call",
            Self::LargeMcpCall => "mcp_call_2kib",
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post | Self::McpCall | Self::LargeMcpCall => Method::POST,
        }
    }

    fn uri(self) -> &'static str {
        match self {
            Self::Get | Self::Post => "/notes/notes",
            Self::McpCall | Self::LargeMcpCall => "/tickets",
        }
    }

    fn body(self) -> &'static str {
        match self {
            Self::Get => "",
            Self::Post => NOTE,
            Self::McpCall => MCP_CALL,
            Self::LargeMcpCall => MCP_CALL_2KIB,
        }
    }
}

impl World {
    /// The example policy, which judges `notes`, and beside it the one of 60 lines, which judges `tickets`.
    pub fn new() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let built = Self::build(folder.path());
        let (policy, tasks, leases, claims) = runtime.block_on(built);
        let pem = TaskTokens::generate(KeyKind::P256).unwrap();
        let tokens = Arc::new(TaskTokens::from_pem(pem.as_bytes(), "urn:remit:bench").unwrap());
        let token = format!("Bearer {}", tokens.mint(&claims).unwrap());
        let identity = identity::Config {
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
            identity: Identity::new(identity, None),
            tasks,
            tools: Tools::new(vec![notes(), tickets()]).unwrap(),
            policy,
            credentials: credentials(folder.path(), leases),
            runtime,
            token: token.parse().unwrap(),
            claims,
            folder,
        }
    }

    async fn build(folder: &Path) -> (Policy, Arc<Tasks>, Arc<Leases>, TaskClaims) {
        let mut sources = Policy::example();
        sources.push(Source {
            path: "tickets.rego".into(),
            text: TICKETS.to_owned(),
        });
        let (policy, _) = Policy::load(sources).unwrap();
        let config = tasks::Config {
            ttl_default: Duration::from_mins(15),
            ttl_max: Duration::from_hours(1),
            headers: DeclarationHeaders::default(),
            delegation: tasks::DelegationBounds::default(),
            agents: tasks::GateBounds::default(),
            units: Vec::new(),
            own: 1000,
            adoption: Vec::new(),
        };
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&folder.join("store")).unwrap());
        let tasks = Tasks::load(config, Arc::clone(&store)).await.unwrap();
        let grants = json!([
            { "tool": "notes", "access": ["read", "write"] },
            { "tool": "tickets", "access": ["write"], "operations": ["update_*"] },
        ]);
        let wish = json!({
            "agent": "bench", "owner": "alice@example.org", "purpose": "close OPS-1234",
            "grants": grants, "ttl_seconds": 3600,
        });
        let id = open_task(&policy, &tasks, wish).await;
        let open = Arc::clone(&tasks);
        let seal = Arc::new(Seal::from_secret(&[7; 32]).unwrap());
        let store = Arc::new(SealedStore::new(store, seal));
        let leases = Leases::load(store, move |task| open.is_open(task))
            .await
            .unwrap();
        let claims = TaskClaims {
            txn: id.to_string(),
            owner: "alice@example.org".to_owned(),
            agent: "bench".parse().unwrap(),
            chain: Vec::new(),
            scope: String::new(),
            authorization_details: grants,
            expires_at: i64::from(u32::MAX),
        };
        (policy, tasks, leases, claims)
    }

    /// Opens more tasks that may read notes.
    pub fn open_tasks(&self, count: usize) -> Vec<TaskId> {
        let wish = json!({
            "agent": "bench", "owner": "alice@example.org", "purpose": "close OPS-1234",
            "grants": [{ "tool": "notes", "access": ["read"] }], "ttl_seconds": 3600,
        });
        let opening = (0..count).map(|_| open_task(&self.policy, &self.tasks, wish.clone()));
        self.runtime.block_on(join_all(opening))
    }

    /// A permit for `GET /notes/notes` of one of these.
    pub fn permit_of(&self, task: &TaskId) -> Permit {
        let claims = TaskClaims {
            txn: task.to_string(),
            ..self.claims.clone()
        };
        let token = self.identity.tokens().mint(&claims).unwrap();
        let mut request = self.request(Sent::Get);
        let token = format!("Bearer {token}").parse().unwrap();
        request.headers.insert("authorization", token);
        let head = Head::canonical(request, None).unwrap();
        let (task, route, head, body) = self.bind(Sent::Get, head);
        let call = Call::observe(task, route, head, body).unwrap();
        self.permitted(call)
    }

    /// A folder that goes with the world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A token that was never seen before.
    pub fn fresh_token(&self) -> HeaderValue {
        let token = self.identity.tokens().mint(&self.claims).unwrap();
        format!("Bearer {token}").parse().unwrap()
    }

    /// A request as a client sends it.
    pub fn request(&self, sent: Sent) -> Parts {
        let request = Request::builder()
            .method(sent.method())
            .uri(sent.uri())
            .header("host", "127.0.0.1:4180")
            .header("user-agent", "python-httpx/0.28.1")
            .header("accept", "application/json, text/event-stream")
            .header("accept-encoding", "gzip, deflate")
            .header("authorization", &self.token)
            .header("content-length", sent.body().len())
            .header("content-type", "application/json");
        request.body(()).unwrap().into_parts().0
    }

    /// Its canonical head.
    pub fn head(&self, sent: Sent) -> Head {
        Head::canonical(self.request(sent), None).unwrap()
    }

    /// Its head, bound and routed.
    pub fn bound(&self, sent: Sent) -> (Task, Route, Head, Body) {
        self.bind(sent, self.head(sent))
    }

    fn bind(&self, sent: Sent, head: Head) -> (Task, Route, Head, Body) {
        let agent = self
            .runtime
            .block_on(self.identity.authenticate(&head.presented()));
        let task = self.tasks.bind(agent.unwrap(), head.headers()).unwrap();
        let route = self.tools.route(&head).unwrap();
        let body = match sent.body() {
            "" => Body::Empty,
            body => Body::Whole(Bytes::from_static(body.as_bytes())),
        };
        (task, route, head, body)
    }

    /// It, observed.
    pub fn call(&self, sent: Sent) -> Call {
        let (task, route, head, body) = self.bound(sent);
        Call::observe(task, route, head, body).unwrap()
    }

    /// It, permitted.
    pub fn permit(&self, sent: Sent) -> Permit {
        self.permitted(self.call(sent))
    }

    fn permitted(&self, call: Call) -> Permit {
        let deciding = self.policy.decide(call, DecisionId::new());
        match self.runtime.block_on(deciding).unwrap() {
            Ruling::Allow(permit) => permit,
            Ruling::Escalate(pending) => panic!("{pending:?} escalates"),
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

async fn open_task(policy: &Policy, tasks: &Arc<Tasks>, wish: Value) -> TaskId {
    let wish = serde_json::from_value(wish).unwrap();
    let opening = tasks.opening(wish).unwrap();
    let opener = Opener::Operator {
        name: "bench".to_owned(),
        role: "operator".to_owned(),
    };
    let admitted = policy.admit(opening, &opener).unwrap();
    admitted.open(tasks).await.unwrap().id
}

fn notes() -> Tool {
    let access = [
        (Access::Read, "GET /notes"),
        (Access::Read, "GET /notes/*"),
        (Access::Write, "POST /notes"),
        (Access::Execute, "DELETE /notes/*"),
    ];
    tool("notes", Protocol::Http, &access)
}

fn tickets() -> Tool {
    let access = [
        (Access::Read, "find_ticket"),
        (Access::Write, "update_ticket"),
    ];
    tool("tickets", Protocol::Mcp, &access)
}

fn tool(name: &str, protocol: Protocol, access: &[(Access, &str)]) -> Tool {
    Tool {
        name: name.parse().unwrap(),
        upstream: "https://api.example/v1".parse().unwrap(),
        protocol,
        hosts: Vec::new(),
        access: access
            .iter()
            .map(|(access, pattern)| (*access, pattern.parse().unwrap()))
            .collect(),
        environment: Some("prod".into()),
        attributes: Map::new(),
        labels: Vec::new(),
        marks: Vec::new(),
        meters: Vec::new(),
        resource: call::ResourceRule::default(),
        gate: tasks::GateBounds::default(),
        body: BodyMode::Inspect { limit: 1 << 20 },
        strip: StripMode::Strip,
    }
}

/// Where most tools want their key.
pub fn bearer() -> Injection {
    Place::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".to_owned(),
    }
    .into()
}

fn credentials(folder: &Path, leases: Arc<Leases>) -> Credentials {
    let secret = folder.join("secret");
    std::fs::write(&secret, "the-upstream-s-own-key").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let bindings = [
        ("notes", Access::Read),
        ("notes", Access::Write),
        ("tickets", Access::Write),
    ];
    let bindings = bindings.map(|(tool, access)| Binding {
        tool: tool.parse().unwrap(),
        access,
        provider: Arc::new(Static::new(
            SecretRef::File(secret.clone()),
            "9999-12-31".parse().unwrap(),
        )),
        injections: vec![bearer()],
    });
    Credentials::new(bindings.into(), leases)
}
