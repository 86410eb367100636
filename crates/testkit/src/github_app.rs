//! A fake GitHub, as far as an app meets it: it checks who asks, gives tokens of one installation, and takes them back.
#![expect(
    clippy::indexing_slicing,
    reason = "of JSON: what is not there is null"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::authorization_server::verified;
use crate::{Answer, Received, Upstream, rsa};

/// The app's client id.
pub const APP: &str = "Iv23liRemitTestApp";
/// The number of its installation.
pub const INSTALLATION: u64 = 4711;
/// Where it is installed.
pub const ACCOUNT: &str = "Acme";
/// The repositories that the installation has.
pub const REPOSITORIES: [&str; 3] = ["site", "docs", "ops"];
/// What the installation was granted.
pub const GRANTED: [(&str, &str); 3] = [
    ("contents", "write"),
    ("issues", "write"),
    ("metadata", "read"),
];

/// A fake GitHub. What it says no to, it says no to as GitHub does.
#[derive(Debug)]
pub struct GithubApp {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// The number of the installation.
    installation: u64,
    /// By how much its clock is ahead, in seconds.
    ahead: i64,
    /// What was asked for: the bodies of requests for tokens.
    asked: Vec<Value>,
    looked_up: Vec<String>,
    next: VecDeque<Answer>,
    next_revocation: VecDeque<Answer>,
    issued: usize,
    live: Vec<String>,
    revoked: Vec<String>,
}

impl GithubApp {
    /// Starts one.
    pub async fn start() -> Self {
        let upstream = Upstream::start(Answer::json(json!({}))).await;
        let state = Arc::new(Mutex::new(State {
            installation: INSTALLATION,
            ahead: 0,
            asked: Vec::new(),
            looked_up: Vec::new(),
            next: VecDeque::new(),
            next_revocation: VecDeque::new(),
            issued: 0,
            live: Vec::new(),
            revoked: Vec::new(),
        }));
        let answering = Arc::clone(&state);
        upstream.answer(Answer::by(move |received| {
            answering.lock().answer(received)
        }));
        Self { upstream, state }
    }

    /// Its API, as a GitHub Enterprise Server has it.
    pub fn url(&self) -> String {
        format!("{}/api/v3", self.upstream.url())
    }

    /// The app's private key, as GitHub gives it: PKCS#1, PEM. Known to everybody: it is in the repository.
    pub fn key() -> String {
        let der = rsa::pkcs1();
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
            lines.join("\n")
        )
    }

    /// Answers the next request for a token like this.
    pub fn next(&self, answer: Answer) {
        self.state.lock().next.push_back(answer);
    }

    /// Answers the next revocation like this.
    pub fn next_revocation(&self, answer: Answer) {
        self.state.lock().next_revocation.push_back(answer);
    }

    /// Its clock goes so many seconds ahead.
    pub fn clock(&self, ahead: i64) {
        self.state.lock().ahead = ahead;
    }

    /// The app is installed anew.
    pub fn reinstall(&self) {
        self.state.lock().installation += 1;
    }

    /// What was asked for.
    pub fn asked(&self) -> Vec<Value> {
        self.state.lock().asked.clone()
    }

    /// Where an installation was looked for.
    pub fn looked_up(&self) -> Vec<String> {
        self.state.lock().looked_up.clone()
    }

    /// The tokens that are good.
    pub fn live(&self) -> Vec<String> {
        self.state.lock().live.clone()
    }

    /// The tokens that it took back.
    pub fn revoked(&self) -> Vec<String> {
        self.state.lock().revoked.clone()
    }
}

impl State {
    fn answer(&mut self, received: &Received) -> Answer {
        let Some(path) = received.target.strip_prefix("/api/v3/") else {
            return no(StatusCode::NOT_FOUND, "Not Found");
        };
        if received.header("user-agent").is_none() {
            return no(
                StatusCode::FORBIDDEN,
                "Request forbidden by administrative rules.",
            );
        }
        let shown = received.header("authorization");
        let Some(shown) = shown.and_then(|shown| shown.strip_prefix("Bearer ")) else {
            return no(StatusCode::UNAUTHORIZED, "Requires authentication");
        };
        if (&received.method, path) == (&Method::DELETE, "installation/token") {
            return self.revoke(shown);
        }
        if let Err(message) = self.check(shown) {
            return no(StatusCode::UNAUTHORIZED, message);
        }
        let segments: Vec<&str> = path.split('/').collect();
        match (&received.method, segments.as_slice()) {
            (&Method::GET, ["repos", owner, repository, "installation"]) => {
                let found =
                    owner.eq_ignore_ascii_case(ACCOUNT) && REPOSITORIES.contains(repository);
                self.look_up(path, found)
            }
            (&Method::GET, ["orgs", owner, "installation"]) => {
                self.look_up(path, owner.eq_ignore_ascii_case(ACCOUNT))
            }
            (&Method::GET, ["users", _, "installation"]) => self.look_up(path, false),
            (&Method::POST, ["app", "installations", id, "access_tokens"]) => {
                self.asked
                    .push(serde_json::from_slice(&received.body).unwrap_or_default());
                if let Some(answer) = self.next.pop_front() {
                    return answer;
                }
                if *id != self.installation.to_string() {
                    return no(StatusCode::NOT_FOUND, "Not Found");
                }
                self.token()
            }
            _ => no(StatusCode::NOT_FOUND, "Not Found"),
        }
    }

    /// Whether it is the app that asks.
    fn check(&self, jwt: &str) -> Result<(), &'static str> {
        let Some((header, claims)) = verified(jwt, &rsa::public()) else {
            return Err("A JSON web token could not be decoded");
        };
        let now = now() + self.ahead;
        let number = |name: &str| claims[name].as_i64().unwrap_or_default();
        if header["alg"] != "RS256" || claims["iss"] != APP {
            return Err("Integration not found");
        }
        if number("exp") - now > 600 {
            return Err("'Expiration time' claim ('exp') is too far in the future");
        }
        if number("exp") <= now || number("iat") > now {
            return Err("Bad credentials");
        }
        Ok(())
    }

    fn look_up(&mut self, path: &str, found: bool) -> Answer {
        self.looked_up.push(path.to_owned());
        if !found {
            return no(StatusCode::NOT_FOUND, "Not Found");
        }
        Answer::json(json!({
            "id": self.installation, "account": { "login": ACCOUNT, "type": "Organization" },
            "repository_selection": "selected",
        }))
    }

    fn token(&mut self) -> Answer {
        let asked = self.asked.last().cloned().unwrap_or_default();
        let permissions = asked["permissions"].as_object().cloned();
        let permissions = permissions.unwrap_or_else(|| {
            let granted = GRANTED.into_iter();
            granted
                .map(|(name, level)| (name.to_owned(), json!(level)))
                .collect()
        });
        let is_granted = |name: &str, level: &Value| {
            GRANTED
                .iter()
                .any(|(known, most)| *known == name && (level == "read" || level == most))
        };
        if !permissions
            .iter()
            .all(|(name, level)| is_granted(name, level))
        {
            let message = "The permissions requested are not granted to this installation.";
            return no(StatusCode::UNPROCESSABLE_ENTITY, message);
        }
        let mut permissions = permissions;
        permissions.insert("metadata".to_owned(), json!("read"));
        self.issued += 1;
        let token = format!("ghs_token{}", self.issued);
        let mut answer = json!({
            "token": token, "expires_at": after(3600), "permissions": permissions,
            "repository_selection": "selected",
        });
        if let Some(names) = asked["repositories"].as_array() {
            // Names have no case.
            let known = |name: &Value| {
                let name = name.as_str()?;
                let mut known = REPOSITORIES.into_iter();
                known.find(|known| known.eq_ignore_ascii_case(name))
            };
            let Some(names) = names.iter().map(known).collect::<Option<Vec<_>>>() else {
                let message = "There is at least one repository that does not exist or is not accessible to the parent installation.";
                return no(StatusCode::UNPROCESSABLE_ENTITY, message);
            };
            // It tells some five thousand bytes of each.
            let told = |name: &&str| json!({ "name": name, "padding": "x".repeat(5000) });
            answer["repositories"] = names.iter().map(told).collect();
        }
        self.live.push(token);
        Answer::Json(StatusCode::CREATED, answer)
    }

    fn revoke(&mut self, token: &str) -> Answer {
        if let Some(answer) = self.next_revocation.pop_front() {
            return answer;
        }
        // Those of answers that a test made are not among the live ones.
        if self.revoked.iter().any(|gone| gone == token) {
            return no(StatusCode::UNAUTHORIZED, "Bad credentials");
        }
        self.live.retain(|live| live != token);
        self.revoked.push(token.to_owned());
        Answer::Bytes(StatusCode::NO_CONTENT, Bytes::new())
    }
}

fn no(status: StatusCode, message: &str) -> Answer {
    Answer::Json(
        status,
        json!({ "message": message, "status": status.as_u16().to_string() }),
    )
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// So many seconds from now, as RFC 3339 has it.
pub fn after(seconds: i64) -> String {
    let at = jiff::Timestamp::from_second(now() + seconds).unwrap();
    at.to_string()
}
