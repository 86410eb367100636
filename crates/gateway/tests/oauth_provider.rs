//! Tokens of an authorization server in a served gateway: narrowed, injected, taken back at the end and after a kill.
#![expect(clippy::unwrap_used, reason = "a failure here fails a test")]

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::authorization_server::{CLIENT, CLIENT_SECRET, verified};
use testkit::issuer::Algorithm;
use testkit::remit::{Remit, until};
use testkit::{Answer, AuthorizationServer, Issuer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Narrows every call to one scope; refuses one path.
const POLICY: &str = r#"package remit.tools.notes

allow if input.request.path != "/forbidden"

credential := {"scopes": ["notes:list"]} if input.request.path == "/list"

else := {"scopes": ["admin"]} if input.request.path == "/admin"
"#;

struct Ground {
    site: Site,
    upstream: Upstream,
    server: AuthorizationServer,
}

impl Ground {
    /// The keys of the credential, besides where the server is and what may be asked for.
    fn new(more: &str) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({}))));
        let server = site.run(AuthorizationServer::start());
        site.write("policy/notes.rego", POLICY);
        site.secret("secret", CLIENT_SECRET);
        let ground = Self {
            site,
            upstream,
            server,
        };
        ground.config(&format!(
            "{{ provider: oauth, token_url: \"{}\", revocation_url: \"{}\", client_id: \"{CLIENT}\", client_secret: file:secret, scopes: [\"notes:read\", \"notes:list\"], {more} }}",
            ground.server.token_url(),
            ground.server.revocation_url(),
        ));
        ground
    }

    fn config(&self, credential: &str) {
        let url = self.upstream.url();
        self.site.config(&format!(
            "audit: {{ path: audit.jsonl }}\ntools:\n  notes:\n    upstream: {url}\n    access: {{ read: [\"GET /**\"] }}\n    credentials:\n      read: {credential}\n"
        ));
    }

    /// The bearer token that reached the upstream last.
    fn bearer(&self) -> String {
        let received = self.upstream.received().pop().unwrap();
        let value = received.header("authorization").unwrap();
        value.strip_prefix("Bearer ").unwrap().to_owned()
    }
}

fn open(remit: &Remit) -> (String, String) {
    remit.open_task(&["--tool", "notes", "--agent", "triage"])
}

fn get(remit: &Remit, token: &str, path: &str) -> (StatusCode, Value) {
    let request = testkit::http().get(remit.call(path)).bearer_auth(token);
    let answer = request.send().unwrap();
    (answer.status(), answer.json().unwrap_or_default())
}

fn leases(remit: &Remit) -> Vec<Value> {
    let output = remit.command(&["lease", "list", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_token_is_narrowed_injected_and_taken_back_with_its_task() {
    let ground = Ground::new("grant: client_credentials");
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/notes/list").0, StatusCode::OK);
    assert_eq!(ground.server.only().field("scope"), Some("notes:list"));
    assert_eq!(ground.bearer(), "token-1");
    assert!(remit.command(&["task", "end", &task]).status.success());
    assert_eq!(ground.server.revoked(), ["token-1"]);
    assert_eq!(leases(&remit)[0]["outcome"], "revoked");
    let written = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
    assert!(!written.contains("token-1") && !remit.logged().contains("token-1"));
}

#[test]
fn c7_a_token_is_taken_back_after_a_kill() {
    let ground = Ground::new("grant: client_credentials");
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    remit.signal("-KILL");
    remit.kill();
    let remit = ground.site.serve();
    until("the token is taken back", || {
        ground.server.revoked() == ["token-1"]
    });
    until("its lease has ended", || {
        leases(&remit)[0]["outcome"] == "revoked"
    });
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    assert_eq!(ground.bearer(), "token-2");
}

#[test]
fn d8_d10_a_hundred_calls_ask_once_and_refused_ones_never() {
    let ground = Ground::new("grant: client_credentials");
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    assert_eq!(
        get(&remit, &token, "/notes/forbidden").0,
        StatusCode::FORBIDDEN
    );
    assert!(ground.server.asked().is_empty());
    let (_, problem) = get(&remit, &token, "/notes/admin");
    assert_eq!(problem["code"], "credential_unavailable");
    assert!(ground.server.asked().is_empty());
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK));
        }
    });
    assert_eq!(ground.server.asked().len(), 1);
}

#[test]
fn a_refresh_token_goes_on_after_a_kill() {
    let ground = Ground::new("grant: refresh_token, refresh_token: refresh");
    ground.site.secret("refresh", "first");
    ground.server.refresh_token("first");
    let remit = ground.site.serve();
    let (_, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    remit.signal("-KILL");
    remit.kill();
    let remit = ground.site.serve();
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    assert_eq!(ground.bearer(), "token-2");
}

#[test]
fn an_upstream_that_trusts_the_gateway_reads_who_calls() {
    let ground = Ground::new("grant: client_credentials");
    ground.config("{ provider: jwt, audience: \"https://notes.example\", ttl: 1m }");
    let remit = ground.site.serve();
    let (task, token) = open(&remit);
    assert_eq!(get(&remit, &token, "/notes/a").0, StatusCode::OK);
    let keys = testkit::http()
        .get(remit.control("/.well-known/jwks.json"))
        .send();
    let keys: Value = keys.unwrap().json().unwrap();
    let (_, claims) = verified(&ground.bearer(), &keys["keys"][0]).unwrap();
    assert_eq!(
        (&claims["sub"], &claims["task"]),
        (&json!("triage"), &json!(task))
    );
    // It opens nothing here.
    assert_eq!(
        get(&remit, &ground.bearer(), "/notes/a").0,
        StatusCode::UNAUTHORIZED
    );
    remit.command(&["task", "end", &task]);
    assert_eq!(leases(&remit)[0]["outcome"], "expires_at");
}

#[test]
fn an_agents_own_token_goes_to_its_issuer_and_nowhere_else() {
    let ground = Ground::new("grant: client_credentials");
    let issuer = ground.site.run(Issuer::start());
    let (url, name) = (ground.upstream.url(), issuer.url());
    let (tokens, revocation) = (ground.server.token_url(), ground.server.revocation_url());
    ground.site.config(&format!(
        "audit: {{ path: audit.jsonl }}\nidentity:\n  issuers: [{{ issuer: {name}, audience: remit, algorithms: [ES256], agent: \"{{sub}}\" }}]\ntools:\n  notes:\n    upstream: {url}\n    access: {{ read: [\"GET /**\"] }}\n    credentials:\n      read: {{ provider: oauth, token_url: \"{tokens}\", revocation_url: \"{revocation}\", client_id: \"{CLIENT}\", client_secret: file:secret, scopes: [\"notes:list\"], grant: token_exchange, subject: agent_token, issuer: {name}, statement: {{ audience: \"{name}\" }} }}\n"
    ));
    ground.site.write(
        "policy/notes.rego",
        "package remit.tools.notes\n\nallow := true\n",
    );
    let remit = ground.site.serve();
    let (task, task_token) = open(&remit);
    let own = issuer.mint(Algorithm::ES256, &issuer.claims("triage", "remit"));
    // The gateway's own token is shown to nobody.
    let (_, problem) = get(&remit, &task_token, "/notes/list");
    assert_eq!(problem["code"], "credential_unavailable", "{problem}");
    assert!(ground.server.asked().is_empty());
    let request = testkit::http().get(remit.call("/notes/list"));
    let request = request.bearer_auth(&own).header("agent-task", &task);
    let answer = request.send().unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{}", remit.logged());
    let posted = ground.server.only();
    assert_eq!(posted.field("subject_token"), Some(own.as_str()));
    assert!(posted.field("actor_token").is_some());
    assert_eq!(ground.bearer(), "token-1");
    let received = ground.upstream.received().pop().unwrap();
    assert!(!format!("{received:?}").contains(&own));
    let written = std::fs::read_to_string(ground.site.path("audit.jsonl")).unwrap();
    assert!(!written.contains(&own) && !remit.logged().contains(&own));
}
