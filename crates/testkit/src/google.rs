//! A fake Google Cloud, as far as a workload meets it: tokens for a key, for a statement, for an impersonation, and bounded.
#![expect(
    clippy::indexing_slicing,
    reason = "of JSON: what is not there is null"
)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use reqwest::Url;
use serde_json::{Value, json};

use crate::authorization_server::{Posted, verified};
use crate::github_app::after;
use crate::{Answer, Received, Upstream, rsa};

/// A service account that has a key.
pub const ACCOUNT: &str = "remit@project.iam.gserviceaccount.com";
/// A service account that may be impersonated.
pub const OTHER_ACCOUNT: &str = "reader@project.iam.gserviceaccount.com";
/// A person that [`ACCOUNT`] may act for.
pub const PERSON: &str = "anna@example.org";
/// The provider of a workload identity pool.
pub const POOL: &str =
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/agents/providers/remit";

const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A fake Google Cloud.
#[derive(Debug)]
pub struct Google {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

/// What a token is good for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Granted {
    /// Who one is by it: an account, a person, or the subject of a statement.
    pub principal: String,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The access boundary, as it came.
    pub boundary: Option<Value>,
}

#[derive(Debug, Default)]
struct State {
    url: String,
    /// The public key of whoever signs statements.
    trusted: Option<Value>,
    /// The path of each request.
    asked: Vec<String>,
    /// The question of each impersonation.
    impersonations: Vec<Value>,
    next: HashMap<&'static str, VecDeque<Answer>>,
    tokens: HashMap<String, Granted>,
}

impl Google {
    /// Starts one.
    pub async fn start() -> Self {
        let upstream = Upstream::start(Answer::json(json!({}))).await;
        let state = Arc::new(Mutex::new(State {
            url: upstream.url(),
            ..State::default()
        }));
        let answering = Arc::clone(&state);
        upstream.answer(Answer::by(move |received| {
            answering.lock().answer(received)
        }));
        Self { upstream, state }
    }

    /// The token endpoint of accounts with a key.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.upstream.url())
    }

    /// The security token service.
    pub fn sts_url(&self) -> String {
        format!("{}/v1/token", self.upstream.url())
    }

    /// The IAM credentials API.
    pub fn iam_url(&self) -> String {
        self.upstream.url()
    }

    /// The key file of [`ACCOUNT`].
    pub fn key_file(&self) -> Value {
        json!({
            "type": "service_account", "project_id": "project", "private_key_id": "key-1",
            "private_key": rsa::pem(), "client_email": ACCOUNT, "client_id": "1", "token_uri": self.token_url(),
        })
    }

    /// The pool believes what is signed by this key (JWK).
    pub fn trust(&self, key: Value) {
        self.state.lock().trusted = Some(key);
    }

    /// Answers the next request to a path that ends like this.
    pub fn next(&self, end: &'static str, answer: Answer) {
        let mut state = self.state.lock();
        state.next.entry(end).or_default().push_back(answer);
    }

    /// The paths that were asked.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().asked.clone()
    }

    /// What was asked for in each impersonation.
    pub fn impersonations(&self) -> Vec<Value> {
        self.state.lock().impersonations.clone()
    }

    /// What a token is good for.
    pub fn granted(&self, token: &str) -> Option<Granted> {
        self.state.lock().tokens.get(token).cloned()
    }
}

impl State {
    fn answer(&mut self, received: &Received) -> Answer {
        let path = received.target.clone();
        self.asked.push(path.clone());
        let mut waiting = self.next.iter_mut();
        let next = waiting.find_map(|(end, next)| path.ends_with(end).then(|| next.pop_front())?);
        if let Some(answer) = next {
            return answer;
        }
        if let Some(account) = path
            .strip_prefix("/v1/projects/-/serviceAccounts/")
            .and_then(|rest| rest.strip_suffix(":generateAccessToken"))
        {
            return self.impersonate(received, account);
        }
        let posted = posted(received);
        match path.as_str() {
            "/token" => self.by_key(&posted),
            "/v1/token" => self.exchange(&posted),
            _ => no(StatusCode::NOT_FOUND, "NOT_FOUND"),
        }
    }

    fn by_key(&mut self, posted: &Posted) -> Answer {
        let assertion = posted.field("assertion").unwrap_or_default();
        let Some((header, claims)) = verified(assertion, &rsa::public()) else {
            return refusal("invalid_grant");
        };
        let life = claims["exp"].as_i64().unwrap_or(0) - claims["iat"].as_i64().unwrap_or(0);
        let is_right = posted.field("grant_type") == Some(JWT_BEARER)
            && header["kid"] == "key-1"
            && claims["iss"] == ACCOUNT
            && claims["aud"] == format!("{}/token", self.url)
            && (1..=3600).contains(&life);
        if !is_right {
            return refusal("invalid_grant");
        }
        let principal = match claims.get("sub").map(|subject| subject.as_str()) {
            None => ACCOUNT,
            Some(Some(PERSON)) => PERSON,
            // Whoever is not delegated, the account itself among them.
            Some(_) => return refusal("unauthorized_client"),
        };
        let granted = Granted {
            principal: principal.to_owned(),
            scopes: words(claims["scope"].as_str().unwrap_or_default()),
            boundary: None,
        };
        let token = self.issue(granted);
        Answer::json(json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" }))
    }

    fn exchange(&mut self, posted: &Posted) -> Answer {
        let subject = posted.field("subject_token").unwrap_or_default();
        if posted.field("grant_type") != Some(EXCHANGE)
            || posted.field("requested_token_type") != Some(ACCESS_TOKEN)
        {
            return refusal("invalid_request");
        }
        let mut answer = json!({ "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer" });
        let granted = match posted.field("subject_token_type") {
            Some(JWT) => {
                let trusted = self.trusted.clone().unwrap_or_default();
                let Some((_, claims)) = verified(subject, &trusted) else {
                    return refusal("invalid_grant");
                };
                if posted.field("audience") != Some(POOL)
                    || claims["aud"] != format!("https:{POOL}")
                {
                    return refusal("invalid_target");
                }
                answer["expires_in"] = json!(3599);
                Granted {
                    principal: claims["sub"].as_str().unwrap_or_default().to_owned(),
                    scopes: words(posted.field("scope").unwrap_or_default()),
                    boundary: None,
                }
            }
            Some(ACCESS_TOKEN) => {
                let options = posted.field("options").unwrap_or_default();
                let options: Option<Value> = serde_json::from_str(options).ok();
                let Some((granted, options)) = self.tokens.get(subject).cloned().zip(options)
                else {
                    return refusal("invalid_grant");
                };
                // Only for tokens of accounts does it say how long.
                Granted {
                    boundary: Some(options),
                    ..granted
                }
            }
            _ => return refusal("invalid_request"),
        };
        answer["access_token"] = json!(self.issue(granted));
        Answer::json(answer)
    }

    fn impersonate(&mut self, received: &Received, account: &str) -> Answer {
        let shown = received.header("authorization");
        let shown = shown.and_then(|shown| shown.strip_prefix("Bearer "));
        let Some(by) = shown.and_then(|shown| self.tokens.get(shown)) else {
            return no(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED");
        };
        if account != OTHER_ACCOUNT || by.scopes != [IAM_SCOPE] {
            return no(StatusCode::FORBIDDEN, "PERMISSION_DENIED");
        }
        let question: Value = serde_json::from_slice(&received.body).unwrap_or_default();
        self.impersonations.push(question.clone());
        let lifetime = question["lifetime"].as_str().unwrap_or_default();
        let lifetime = lifetime
            .strip_suffix('s')
            .and_then(|life| life.parse::<i64>().ok());
        let Some(lifetime) = lifetime.filter(|life| (1..=3600).contains(life)) else {
            return no(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
        };
        let scopes = question["scope"].as_array().cloned().unwrap_or_default();
        let granted = Granted {
            principal: account.to_owned(),
            scopes: scopes
                .iter()
                .filter_map(|scope| scope.as_str().map(str::to_owned))
                .collect(),
            boundary: None,
        };
        let token = self.issue(granted);
        Answer::json(json!({ "accessToken": token, "expireTime": after(lifetime) }))
    }

    fn issue(&mut self, granted: Granted) -> String {
        let token = format!("ya29.token-{}", self.tokens.len() + 1);
        self.tokens.insert(token.clone(), granted);
        token
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// A form that was posted.
pub(crate) fn posted(received: &Received) -> Posted {
    let body = String::from_utf8_lossy(&received.body);
    let fields = Url::parse(&format!("http://form/?{body}")).unwrap();
    Posted {
        path: received.target.clone(),
        authorization: received.header("authorization").map(str::to_owned),
        fields: fields.query_pairs().into_owned().collect(),
    }
}

fn refusal(code: &str) -> Answer {
    Answer::Json(StatusCode::BAD_REQUEST, json!({ "error": code }))
}

fn no(status: StatusCode, code: &str) -> Answer {
    let error = json!({ "code": status.as_u16(), "status": code, "message": "no" });
    Answer::Json(status, json!({ "error": error }))
}
