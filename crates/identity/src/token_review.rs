//! Service accounts of Kubernetes clusters: their API server is asked whose a token is (`TokenReview`).
//!
//! **Invariant.** A token is sent to the cluster that its `iss` or its configured prefix names, and nowhere else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;
use url::Url;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::unverified::{Unverified, seconds};
use crate::verified::{LONG_AGO, Verified, Voucher, issued_at};
use crate::{AgentTemplate, Unauthenticated, clock};

/// A Kubernetes cluster whose service accounts are agents.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// How its tokens begin that are no JWTs, if it has such.
    pub opaque_prefix: Option<String>,
    /// What a token must be for.
    pub audience: String,
    /// Its API server; over `https`, or on loopback.
    pub server: Url,
    /// Who vouches for the API server; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The file with the gateway's own token, which may ask; read anew for each question.
    pub token: PathBuf,
    /// How the agent id is made of `username`, `uid`, `namespace`, `service_account`, `pod`.
    pub agent: AgentTemplate,
    /// For how long a yes is believed, and never past the token's `exp`.
    pub cache: Duration,
}

/// For how long a no is believed, in seconds.
const NO: i64 = 5;

/// For how long an API server that does not answer is left alone for one token, in seconds.
const SILENCE: i64 = 1;

/// How many answers are kept.
const ANSWERS: usize = 10_000;

/// How many questions are open at a time, whoever sends how many tokens.
const AT_ONCE: usize = 16;

/// How many calls may wait for an answer; those beyond are refused at once.
const WAITING: usize = 1024;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes, and the largest token of the gateway's own.
const MAX_BYTES: usize = 64 * 1024;

/// A cluster that is asked.
#[derive(Debug)]
pub(crate) struct Cluster {
    config: ClusterConfig,
    client: Option<Client>,
    answers: Cache<Digest, Answer>,
    asking: Semaphore,
    waiting: Semaphore,
    /// The last failure that was told, so that each is told once.
    told: Mutex<String>,
}

/// What an API server said of a token.
#[derive(Clone, Debug)]
struct Answer {
    outcome: Outcome,
    /// Seconds since the epoch.
    until: i64,
}

#[derive(Clone, Debug)]
enum Outcome {
    Yes(Arc<Verified>),
    No(&'static str),
    Unknown,
}

/// Why an API server did not say whose a token is.
#[derive(Debug, thiserror::Error)]
enum Silent {
    #[error("no client can be made for it")]
    NoClient,
    #[error("the gateway's own token `{0}` can't be read")]
    NoToken(PathBuf),
    #[error("it does not answer: {0}")]
    Transport(String),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer is no TokenReview")]
    NoReview,
    #[error("it does not answer in time")]
    Late,
}

/// The `status` of a `TokenReview`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: Map<String, Value>,
    audiences: Vec<String>,
}

/// When a token was issued, and when it expires, as far as it tells.
type Times = (Option<i64>, Option<i64>);

impl Cluster {
    pub(crate) fn new(config: ClusterConfig) -> Self {
        let client = client(&config);
        if let Err(error) = &client {
            warn!(server = %config.server, %error, "cluster can't be asked");
        }
        Self {
            client: client.ok(),
            config,
            answers: Cache::new(ANSWERS),
            asking: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING),
            told: Mutex::default(),
        }
    }

    /// Whether `name` is the `iss` of its tokens.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.config.issuer == name
    }

    /// Whether a token that is no JWT is one of its.
    pub(crate) fn is_opaque(&self, token: &str) -> bool {
        let prefix = self.config.opaque_prefix.as_deref();
        prefix.is_some_and(|prefix| token.starts_with(prefix))
    }

    /// Verifies a JWT that claims to be of this cluster. What it says of itself is only believed against it: one that
    /// has expired or is for others is not asked about.
    pub(crate) async fn verify(
        &self,
        token: &str,
        unverified: &Unverified<'_>,
        digest: Digest,
    ) -> Result<Arc<Verified>, Unauthenticated> {
        let claims = unverified.claims()?;
        let expires_at = seconds(&claims, "exp")?;
        if expires_at.is_some_and(|expires_at| expires_at <= clock::now()) {
            return Err(Unauthenticated::Expired);
        }
        if !claims.get("aud").is_none_or(|aud| self.is_meant(aud)) {
            return Err(Unauthenticated::Invalid("it is meant for another audience"));
        }
        let times = (Some(issued_at(&claims)), expires_at);
        self.review(token, times, digest).await
    }

    /// Verifies a token that is no JWT.
    pub(crate) async fn verify_opaque(
        &self,
        token: &str,
        digest: Digest,
    ) -> Result<Arc<Verified>, Unauthenticated> {
        self.review(token, (Some(LONG_AGO), None), digest).await
    }

    fn is_meant(&self, aud: &Value) -> bool {
        let ours = |aud: &Value| aud == self.config.audience.as_str();
        ours(aud) || aud.as_array().is_some_and(|all| all.iter().any(ours))
    }

    /// Whose a token is: as it was answered not long ago, or as it is answered now. Calls that ask the same wait for one
    /// answer.
    async fn review(
        &self,
        token: &str,
        times: Times,
        digest: Digest,
    ) -> Result<Arc<Verified>, Unauthenticated> {
        let silent = || Unauthenticated::ClusterSilent(self.config.server.to_string());
        let _place = self.waiting.try_acquire().map_err(|_| silent())?;
        let answer = loop {
            let stale = |answer: &Answer| answer.until <= clock::now();
            match self.answers.get_value_or_guard_async(&digest).await {
                Ok(answer) if !stale(&answer) => break answer,
                Ok(_) => drop(self.answers.remove_if(&digest, stale)),
                Err(guard) => {
                    let answer = self.ask(token, times, digest).await;
                    // Where it was taken out meanwhile, the answer is good for this call all the same.
                    drop(guard.insert(answer.clone()));
                    break answer;
                }
            }
        };
        match answer.outcome {
            Outcome::Yes(verified) => Ok(verified),
            Outcome::No(why) => Err(Unauthenticated::Invalid(why)),
            Outcome::Unknown => Err(silent()),
        }
    }

    async fn ask(&self, token: &str, times: Times, digest: Digest) -> Answer {
        let asked = timeout(PATIENCE, self.status_of(token)).await;
        let now = clock::now();
        let (outcome, until) = match asked.unwrap_or(Err(Silent::Late)) {
            Ok(status) => match self.agent(status, times, digest) {
                Ok(verified) => {
                    let until = verified.expires_at;
                    (Outcome::Yes(Arc::new(verified)), until)
                }
                Err(why) => (Outcome::No(why), now.saturating_add(NO)),
            },
            Err(error) => {
                self.tell(&error);
                (Outcome::Unknown, now.saturating_add(SILENCE))
            }
        };
        Answer { outcome, until }
    }

    fn tell(&self, error: &Silent) {
        let text = error.to_string();
        let mut told = self.told.lock();
        if *told != text {
            warn!(server = %self.config.server, %error, "cluster does not say whose a token is");
            *told = text;
        }
    }

    /// Asks the API server, as `authentication.k8s.io/v1` has it.
    async fn status_of(&self, token: &str) -> Result<Status, Silent> {
        let transport = |error: reqwest::Error| Silent::Transport(error.without_url().to_string());
        let client = self.client.as_ref().ok_or(Silent::NoClient)?;
        // The semaphore is never closed, so there is a permit in the end, or no time left.
        let _permit = self.asking.acquire().await;
        let own = own_token(&self.config.token).await;
        let own = own.ok_or_else(|| Silent::NoToken(self.config.token.clone()))?;
        let mut url = self.config.server.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!(
            "{base}/apis/authentication.k8s.io/v1/tokenreviews"
        ));
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [self.config.audience] },
        });
        let request = client.post(url).header(AUTHORIZATION, own);
        let request = request.header(ACCEPT, "application/json").json(&question);
        let mut response = request.send().await.map_err(transport)?;
        if !matches!(response.status(), StatusCode::OK | StatusCode::CREATED) {
            return Err(Silent::Status(response.status()));
        }
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if document.len() + chunk.len() > MAX_BYTES {
                return Err(Silent::NoReview);
            }
            document.extend_from_slice(&chunk);
        }
        *self.told.lock() = String::new();
        status(&document).ok_or(Silent::NoReview)
    }

    fn agent(
        &self,
        status: Status,
        (issued_at, expires_at): Times,
        digest: Digest,
    ) -> Result<Verified, &'static str> {
        if !status.authenticated {
            return Err("its cluster does not know it");
        }
        // Whoever does not look at audiences answers without any: then the token is for the cluster alone.
        if !status.audiences.contains(&self.config.audience) {
            return Err("it is meant for another audience");
        }
        let claims = claims(status.user);
        let agent = self.config.agent.resolve(&claims);
        let cache = i64::try_from(self.config.cache.as_secs()).unwrap_or(i64::MAX);
        let until = clock::now().saturating_add(cache);
        Ok(Verified {
            digest,
            agent: agent.map_err(|_| "its user makes no agent id")?,
            issuer: self.config.issuer.clone(),
            claims,
            expires_at: expires_at.map_or(until, |expires_at| expires_at.min(until)),
            confirmations: Vec::new(),
            issued_at,
            voucher: Voucher::Cluster,
            prepared: OnceLock::new(),
        })
    }
}

/// The user that an API server tells of, and what its name and `extra` say of a pod.
fn claims(mut user: Map<String, Value>) -> Map<String, Value> {
    let mut told = Map::new();
    let username = user.get("username").and_then(Value::as_str);
    let account = username.and_then(|name| name.strip_prefix("system:serviceaccount:"));
    if let Some((namespace, name)) = account.and_then(|account| account.split_once(':')) {
        told.insert("namespace".to_owned(), namespace.into());
        told.insert("service_account".to_owned(), name.into());
    }
    let extra = user.get("extra");
    let pods = extra.and_then(|extra| extra.get("authentication.kubernetes.io/pod-name"));
    if let Some([pod]) = pods.and_then(Value::as_array).map(Vec::as_slice) {
        told.insert("pod".to_owned(), pod.clone());
    }
    user.extend(told);
    user
}

fn status(document: &[u8]) -> Option<Status> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let is = |name: &str, expected: &str| document.get(name).is_some_and(|value| value == expected);
    let is_review = is("kind", "TokenReview") && is("apiVersion", "authentication.k8s.io/v1");
    let status = is_review.then(|| document.get("status"))??;
    Status::deserialize(status).ok()
}

/// The gateway's own token, as `Authorization` has it.
async fn own_token(path: &Path) -> Option<HeaderValue> {
    let file = tokio::fs::File::open(path).await.ok()?;
    // With room for all of it, since a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES));
    let mut first = file.take(MAX_BYTES as u64);
    first.read_to_string(&mut text).await.ok()?;
    let token = Some(text.trim()).filter(|token| !token.is_empty())?;
    let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {token}"))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A client for one API server; it follows no redirects and goes by no proxy.
fn client(config: &ClusterConfig) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        // A connection kept open would belong to whichever runtime asked first.
        .pool_max_idle_per_host(0);
    if config.authorities.is_empty() && config.server.scheme() == "https" {
        return builder.build();
    }
    let authorities = config.authorities.iter();
    let authorities = authorities.map(|authority| Certificate::from_der(authority));
    let authorities = authorities.collect::<reqwest::Result<Vec<_>>>()?;
    builder.tls_certs_only(authorities).build()
}
