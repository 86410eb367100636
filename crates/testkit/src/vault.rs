//! A fake HashiCorp Vault, speaking its HTTP API: logins, KV of both versions, leases that are renewed and revoked.
//!
//! A real OpenBao stands in `tests/components`; this one can be made to answer anything.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::{Answer, Received, Upstream};

/// A token that is always good and never expires.
pub const TOKEN: &str = "fake-vault-token";
/// The role that `auth/approle` knows.
pub const ROLE_ID: &str = "fake-role-id";
/// Its secret.
pub const SECRET_ID: &str = "fake-secret-id";
/// The service account token that `auth/kubernetes` takes.
pub const SERVICE_ACCOUNT: &str = "fake-service-account-token";

/// A fake Vault. It keeps `secret/` (version 2) and `kv1/` (version 1), and makes `database/`, `aws/` and `otp/`.
#[derive(Debug)]
pub struct Vault {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// How long what is logged in lives, in seconds, and what is leased.
    token_ttl: u64,
    lease_ttl: u64,
    /// The longest life that a renewal gives.
    max_ttl: u64,
    made: usize,
    tokens: Vec<String>,
    leases: Vec<String>,
    revoked: Vec<String>,
    renewed: Vec<(String, u64)>,
    secrets: BTreeMap<String, Value>,
    next: HashMap<String, VecDeque<Answer>>,
}

impl Vault {
    /// Starts one in plain text, on this machine.
    pub async fn start() -> Self {
        Self::of(Upstream::start(Answer::json(json!({}))).await)
    }

    /// Starts one over TLS.
    pub async fn start_tls(config: ServerConfig) -> Self {
        Self::of(Upstream::start_tls(Answer::json(json!({})), config).await)
    }

    fn of(upstream: Upstream) -> Self {
        let state = Arc::new(Mutex::new(State {
            token_ttl: 3600,
            lease_ttl: 300,
            max_ttl: 86_400,
            made: 0,
            tokens: Vec::new(),
            leases: Vec::new(),
            revoked: Vec::new(),
            renewed: Vec::new(),
            secrets: BTreeMap::new(),
            next: HashMap::new(),
        }));
        let answering = Arc::clone(&state);
        upstream.answer(Answer::by(move |received| answer(&answering, received)));
        Self { upstream, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.upstream.url()
    }

    /// Keeps a secret: of version 2 beneath `secret/`, of version 1 beneath `kv1/`.
    pub fn keep(&self, path: &str, fields: Value) {
        self.state.lock().secrets.insert(path.to_owned(), fields);
    }

    /// How long what is logged in lives from now on, in seconds.
    pub fn tokens_live(&self, seconds: u64) {
        self.state.lock().token_ttl = seconds;
    }

    /// How long what is leased lives from now on, in seconds, and how long it may be renewed to.
    pub fn leases_live(&self, seconds: u64, longest: u64) {
        let mut state = self.state.lock();
        (state.lease_ttl, state.max_ttl) = (seconds, longest);
    }

    /// Answers the next request for a path like this; the path begins after `v1/`.
    pub fn next(&self, path: &str, answer: Answer) {
        let mut state = self.state.lock();
        state
            .next
            .entry(path.to_owned())
            .or_default()
            .push_back(answer);
    }

    /// Revokes every token that was logged in.
    pub fn forget_logins(&self) {
        self.state.lock().tokens.clear();
    }

    /// What was asked beneath a path, in order.
    pub fn asked(&self, path: &str) -> Vec<Received> {
        let beneath = format!("/v1/{path}");
        let mut received = self.upstream.received();
        received.retain(|received| received.target.starts_with(&beneath));
        received
    }

    /// The ids of the leases that live.
    pub fn leases(&self) -> Vec<String> {
        self.state.lock().leases.clone()
    }

    /// The ids of the leases that were revoked.
    pub fn revoked(&self) -> Vec<String> {
        self.state.lock().revoked.clone()
    }

    /// The leases that were renewed, and by how many seconds.
    pub fn renewed(&self) -> Vec<(String, u64)> {
        self.state.lock().renewed.clone()
    }
}

fn answer(state: &Mutex<State>, received: &Received) -> Answer {
    let path = received.target.strip_prefix("/v1/").unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let mut state = state.lock();
    let next = state.next.get_mut(path).and_then(VecDeque::pop_front);
    if let Some(answer) = next {
        return answer;
    }
    let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    if path.starts_with("auth/") && path.ends_with("/login") {
        return state.log_in(path, &body);
    }
    let token = received.header("x-vault-token").unwrap_or_default();
    if token != TOKEN && !state.tokens.iter().any(|known| known == token) {
        return refused(StatusCode::FORBIDDEN, &["permission denied"]);
    }
    match (&received.method, path) {
        (&Method::GET, "auth/token/lookup-self") => {
            let ttl = if token == TOKEN { 0 } else { state.token_ttl };
            data(&json!({ "ttl": ttl, "renewable": token != TOKEN, "num_uses": 0, "id": token }))
        }
        (&Method::POST, "auth/token/renew-self") => state.renew_token(token, &body),
        (&Method::POST, "sys/leases/renew") => state.renew(&body),
        (&Method::POST, "sys/leases/revoke") => state.revoke(&body),
        (&Method::GET, _) if path.starts_with("sys/internal/ui/mounts/") => mounted(path),
        (&Method::GET, _) if path.starts_with("secret/data/") || path.starts_with("kv1/") => {
            state.kept(path)
        }
        _ => state.make(path),
    }
}

impl State {
    fn log_in(&mut self, path: &str, body: &Value) -> Answer {
        let is_good = match path {
            "auth/approle/login" => body["role_id"] == ROLE_ID && body["secret_id"] == SECRET_ID,
            "auth/kubernetes/login" => body["role"] == "remit" && body["jwt"] == SERVICE_ACCOUNT,
            // Whose signature it is looked at by the test.
            "auth/jwt/login" => body["role"] == "remit" && body["jwt"].is_string(),
            _ => return refused(StatusCode::NOT_FOUND, &["no handler for route"]),
        };
        if !is_good {
            return refused(StatusCode::BAD_REQUEST, &["invalid role or secret ID"]);
        }
        self.made += 1;
        let token = format!("s.login-{}", self.made);
        self.tokens.push(token.clone());
        auth(&token, self.token_ttl)
    }

    fn renew_token(&mut self, token: &str, body: &Value) -> Answer {
        let increment = body["increment"].as_u64().unwrap();
        auth(token, increment.min(self.token_ttl))
    }

    fn renew(&mut self, body: &Value) -> Answer {
        let id = body["lease_id"].as_str().unwrap().to_owned();
        let increment = body["increment"].as_u64().unwrap();
        if !self.leases.contains(&id) {
            return refused(StatusCode::BAD_REQUEST, &["lease not found"]);
        }
        self.renewed.push((id.clone(), increment));
        Answer::json(json!({
            "lease_id": id, "renewable": true, "lease_duration": increment.min(self.max_ttl),
            "data": null, "wrap_info": null, "warnings": null, "auth": null,
        }))
    }

    fn revoke(&mut self, body: &Value) -> Answer {
        let id = body["lease_id"].as_str().unwrap();
        self.leases.retain(|lease| lease != id);
        self.revoked.push(id.to_owned());
        Answer::Bytes(StatusCode::NO_CONTENT, bytes::Bytes::new())
    }

    fn kept(&self, path: &str) -> Answer {
        let key = path.replacen("/data/", "/", 1);
        let Some(fields) = self.secrets.get(&key) else {
            return refused(StatusCode::NOT_FOUND, &[]);
        };
        if path.starts_with("kv1/") {
            return data(fields);
        }
        data(&json!({
            "data": fields,
            "metadata": {
                "created_time": "2026-01-01T00:00:00Z", "custom_metadata": null, "deletion_time": "",
                "destroyed": false, "version": 3,
            },
        }))
    }

    /// Makes a secret with a lease, as the engine does that usually stands there.
    fn make(&mut self, path: &str) -> Answer {
        let number = self.made + 1;
        let (fields, renewable) = match path.split('/').next().unwrap_or_default() {
            "database" => (
                json!({ "username": format!("v-user-{number}"), "password": format!("password-{number}") }),
                true,
            ),
            "aws" => (
                json!({
                    "access_key": format!("AKIA-{number}"), "secret_key": format!("aws-secret-{number}"),
                    "security_token": format!("aws-session-{number}"), "arn": "arn:aws:sts::1:assumed-role/r/s",
                    "ttl": 3599,
                }),
                false,
            ),
            "otp" => (json!({ "key": format!("otp-{number}"), "port": 22 }), false),
            _ => {
                return refused(
                    StatusCode::FORBIDDEN,
                    &["1 error occurred:\n\t* permission denied\n\n"],
                );
            }
        };
        self.made = number;
        let id = format!("{path}/lease-{number}");
        self.leases.push(id.clone());
        Answer::json(json!({
            "request_id": "6b5d6c8a", "lease_id": id, "renewable": renewable, "lease_duration": self.lease_ttl,
            "data": fields, "wrap_info": null, "warnings": null, "auth": null,
        }))
    }
}

fn mounted(path: &str) -> Answer {
    let asked = path.trim_start_matches("sys/internal/ui/mounts/");
    let (mount, kind, options) = match asked.split('/').next().unwrap_or_default() {
        "secret" => ("secret/", "kv", json!({ "version": "2" })),
        "kv1" => ("kv1/", "kv", json!({ "version": "1" })),
        "database" => ("database/", "database", Value::Null),
        _ => {
            return refused(
                StatusCode::FORBIDDEN,
                &["preflight capability check returned 403"],
            );
        }
    };
    data(&json!({ "path": mount, "type": kind, "options": options, "accessor": "kv_1" }))
}

fn data(data: &Value) -> Answer {
    Answer::json(json!({
        "request_id": "6b5d6c8a", "lease_id": "", "renewable": false, "lease_duration": 0, "data": data,
        "wrap_info": null, "warnings": null, "auth": null,
    }))
}

fn auth(token: &str, seconds: u64) -> Answer {
    Answer::json(json!({
        "request_id": "6b5d6c8a", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null,
        "wrap_info": null, "warnings": null,
        "auth": {
            "client_token": token, "accessor": "X2tEJ7", "policies": ["default"], "lease_duration": seconds,
            "renewable": true, "token_type": "service", "orphan": true, "mfa_requirement": null, "num_uses": 0,
        },
    }))
}

/// What a Vault answers that says no.
pub fn refused(status: StatusCode, errors: &[&str]) -> Answer {
    Answer::Json(status, json!({ "errors": errors }))
}
