//! A HashiCorp Vault or OpenBao: who the gateway is there, and what is asked of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use identity::TaskTokens;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use super::answer::{Answer, Auth, Data, Mounted, TokenFacts, Versioned, refusal};
use super::login::{Session, VaultLogin};
use crate::endpoint::{Answered, Endpoint, Request};
use crate::{ProviderError, Secret};

/// Where a Vault is, and how the gateway shows it who it is.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// Its address; over https, or on this machine.
    pub address: Url,
    /// The namespace, where it has such.
    pub namespace: Option<String>,
    /// Who vouches for it; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How the gateway shows who it is.
    pub login: VaultLogin,
    /// How long all of one obtaining may take, the login included.
    pub timeout: Duration,
}

/// A HashiCorp Vault or OpenBao, where the gateway is logged in once for all who ask.
#[derive(Debug)]
pub struct Vault {
    config: VaultConfig,
    endpoint: Endpoint,
    /// By which the gateway signs what it logs in with.
    signed_by: Option<Arc<TaskTokens>>,
    /// Held while somebody logs in, so that the others wait for that.
    pub(super) held: tokio::sync::Mutex<Held>,
    /// What is mounted where, by path.
    mounts: Mutex<HashMap<String, Arc<Mount>>>,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) session: Option<Arc<Session>>,
    /// A login that failed, and when.
    failed: Option<(Instant, String)>,
}

/// Where a secret of a KV engine is kept.
#[derive(Debug)]
struct Mount {
    path: String,
    rest: String,
    version: u8,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Option<Value>,
}

/// How long a login that failed counts for those who waited for it.
const FAILURE: Duration = Duration::from_secs(1);

/// How often a server is asked that has not caught up with its own writes.
const CATCHING_UP: u32 = 3;

/// How long to wait for that.
const PAUSE: Duration = Duration::from_millis(150);

impl Vault {
    /// `tokens` is the key of task tokens; without it no login by the gateway's own signature is possible.
    ///
    /// # Errors
    /// What is wrong with the address or authorities.
    pub fn new(config: VaultConfig, tokens: Option<Arc<TaskTokens>>) -> Result<Self, String> {
        let endpoint = Endpoint::new(config.address.clone(), &config.authorities)?;
        Ok(Self {
            endpoint,
            config,
            signed_by: tokens,
            held: tokio::sync::Mutex::default(),
            mounts: Mutex::default(),
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// What of it makes a config: where it is, and who the gateway is there.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut texts = vec![
            self.config.address.to_string(),
            self.config.namespace.clone().unwrap_or_default(),
        ];
        texts.extend(self.config.login.texts());
        texts
    }

    /// Asks as whoever the gateway is there. The login lasts for a lease of `wanted`, or as long as one can.
    pub(super) async fn ask(
        &self,
        deadline: Instant,
        wanted: Duration,
        question: &Question,
    ) -> Result<(Answered, Arc<Session>), ProviderError> {
        let (session, is_new) = self.session(deadline, wanted).await?;
        let answered = self.ask_as(deadline, &session, question).await?;
        if answered.status != StatusCode::FORBIDDEN || is_new {
            return Ok((answered, session));
        }
        // Either it may not, or the login is over: somebody revoked its token.
        let facts = self.ask_as(deadline, &session, &lookup()).await?;
        if facts.status != StatusCode::FORBIDDEN {
            return Ok((answered, session));
        }
        self.forget(&session).await;
        let (session, _) = self.session(deadline, wanted).await?;
        let answered = self.ask_as(deadline, &session, question).await?;
        Ok((answered, session))
    }

    /// Asks for what the server keeps, or makes.
    pub(super) async fn read<D: DeserializeOwned>(
        &self,
        deadline: Instant,
        wanted: Duration,
        question: &Question,
    ) -> Result<(Answer<D>, Arc<Session>), ProviderError> {
        let (answered, session) = self.ask(deadline, wanted, question).await?;
        let answer = self.answer(&question.path, &answered)?;
        Ok((answer, session))
    }

    /// The fields of a KV secret.
    pub(super) async fn kv(&self, deadline: Instant, path: &str) -> Result<Data, ProviderError> {
        let mount = self.mount(deadline, path).await?;
        let read = self.kv_of(deadline, &mount).await;
        // What is mounted elsewhere by now is looked for again.
        read.inspect_err(|_| drop(self.mounts.lock().remove(path)))
    }

    async fn kv_of(&self, deadline: Instant, mount: &Mount) -> Result<Data, ProviderError> {
        let Mount { path, rest, .. } = mount;
        let nothing = || self.failed(path, &format!("holds no secret at `{rest}`"));
        if mount.version == 1 {
            let question = Question::get(format!("{path}/{rest}"));
            let (answer, _) = self.read::<Data>(deadline, MARGIN, &question).await?;
            return answer.data.ok_or_else(nothing);
        }
        let question = Question::get(format!("{path}/data/{rest}"));
        let (answered, _) = self.ask(deadline, MARGIN, &question).await?;
        if answered.status == StatusCode::NOT_FOUND {
            let answer = Answer::<Versioned>::read(&answered.document).ok();
            let metadata = answer.and_then(|answer| answer.data.map(|data| data.metadata));
            return Err(metadata.map_or_else(nothing, |metadata| {
                let version = metadata.version;
                let fate = if metadata.destroyed {
                    "destroyed".to_owned()
                } else {
                    format!("deleted at {}", printable(&metadata.deletion_time))
                };
                let cause = format!("had its version {version} {fate}");
                self.failed(&question.path, &cause)
            }));
        }
        let answer = self.answer::<Versioned>(&question.path, &answered)?;
        let versioned = answer.data.ok_or_else(nothing)?;
        versioned.data.ok_or_else(nothing)
    }

    /// Finds out of which engine a path is, as the server's own command line does.
    async fn mount(&self, deadline: Instant, path: &str) -> Result<Arc<Mount>, ProviderError> {
        if let Some(known) = self.mounts.lock().get(path) {
            return Ok(Arc::clone(known));
        }
        let question = Question::get(format!("sys/internal/ui/mounts/{path}"));
        let (answer, _) = self.read::<Mounted>(deadline, MARGIN, &question).await?;
        let mounted = answer.data;
        let mounted = mounted.ok_or_else(|| self.failed(path, "is mounted nowhere"))?;
        if !matches!(mounted.kind.as_str(), "kv" | "generic") {
            let cause =
                "is not of a KV engine: what it gives has a lease, and is had by `provider: vault`";
            return Err(self.failed(path, cause));
        }
        let rest = path.strip_prefix(mounted.path.as_str());
        let rest = rest.filter(|rest| !rest.is_empty());
        let rest = rest.ok_or_else(|| self.failed(path, "names an engine, and no secret of it"))?;
        let version = mounted.options.and_then(|options| options.version);
        let mount = Arc::new(Mount {
            path: mounted.path.trim_end_matches('/').to_owned(),
            rest: rest.to_owned(),
            version: if version.as_deref() == Some("2") {
                2
            } else {
                1
            },
        });
        let known = Arc::clone(&mount);
        self.mounts.lock().insert(path.to_owned(), known);
        Ok(mount)
    }

    /// The login that is used, new where the last one is no more or ends too early; and whether it is new.
    pub(super) async fn session(
        &self,
        deadline: Instant,
        wanted: Duration,
    ) -> Result<(Arc<Session>, bool), ProviderError> {
        let held = timeout_at(deadline, self.held.lock()).await;
        let mut held = held.map_err(|_| self.endpoint.failed("lets nobody log in in time"))?;
        if let Some(session) = &held.session {
            if session.covers(wanted) {
                return Ok((Arc::clone(session), false));
            }
            let renewed = self.renewed(deadline, wanted, session).await;
            let longer = renewed.map_or_else(|| Arc::clone(session), Arc::new);
            if longer.lasts(wanted) {
                held.session = Some(Arc::clone(&longer));
                return Ok((longer, false));
            }
        }
        if let Some((at, cause)) = &held.failed
            && at.elapsed() < FAILURE
        {
            return Err(ProviderError::Failed(cause.clone()));
        }
        held.failed = None;
        let session = match self.log_in(deadline).await {
            Ok(session) => session,
            Err(error) => {
                held.failed = Some((Instant::now(), error.to_string()));
                return Err(error);
            }
        };
        let longer = if session.covers(wanted) {
            None
        } else {
            self.renewed(deadline, wanted, &session).await
        };
        let session = Arc::new(longer.unwrap_or(session));
        held.session = Some(Arc::clone(&session));
        Ok((session, true))
    }

    async fn forget(&self, session: &Arc<Session>) {
        let mut held = self.held.lock().await;
        if held
            .session
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, session))
        {
            held.session = None;
        }
    }

    async fn log_in(&self, deadline: Instant) -> Result<Session, ProviderError> {
        let login = &self.config.login;
        let auth = if let VaultLogin::Token(token) = login {
            self.looked_up(deadline, Box::pin(token.read()).await?)
                .await?
        } else {
            let request = async || {
                let request = login.request(self.signed_by.as_deref()).await?;
                let request = request.unwrap_or_else(|| Request::new(Method::POST));
                self.headed(request)
            };
            let answered = self.endpoint.ask(deadline, request).await?;
            let answer = self.answer::<Data>("login", &answered)?;
            let auth = answer.auth;
            auth.ok_or_else(|| self.failed("login", "is answered without a token"))?
        };
        // With its last use such a token is revoked, and all that was leased by it.
        if auth.uses > 0 {
            let cause = "gives a token that may be used only so often: set `token_num_uses` of its role to 0";
            return Err(self.failed("login", cause));
        }
        Ok(Session::new(auth))
    }

    /// What a token that somebody gave is worth.
    async fn looked_up(&self, deadline: Instant, token: Secret) -> Result<Auth, ProviderError> {
        let known = Session::new(Auth {
            token,
            seconds: 0,
            renewable: false,
            uses: 0,
        });
        let answered = self.ask_as(deadline, &known, &lookup()).await?;
        let answer = self.answer::<TokenFacts>("auth/token/lookup-self", &answered)?;
        let facts = answer
            .data
            .ok_or_else(|| self.failed("auth/token/lookup-self", "is answered with nothing"))?;
        Ok(Auth {
            token: known.token,
            seconds: facts.ttl,
            renewable: facts.renewable,
            uses: facts.num_uses,
        })
    }

    /// A login that goes on, for as long as is wanted or the server lets it; none where it does not.
    async fn renewed(
        &self,
        deadline: Instant,
        wanted: Duration,
        session: &Session,
    ) -> Option<Session> {
        if !session.renewable || session.left()? < PAUSE {
            return None;
        }
        let wanted = wanted.max(session.full());
        let question = Question {
            method: Method::POST,
            path: "auth/token/renew-self".to_owned(),
            query: Vec::new(),
            body: Some(json!({ "increment": wanted.as_secs() })),
        };
        let answered = self.ask_as(deadline, session, &question).await.ok()?;
        let answer = self.answer::<Data>(&question.path, &answered).ok()?;
        Some(session.renewed(answer.auth?, wanted))
    }

    /// Asks with one login, again while the server has not caught up.
    async fn ask_as(
        &self,
        deadline: Instant,
        session: &Session,
        question: &Question,
    ) -> Result<Answered, ProviderError> {
        let request = async || {
            let segments: Vec<&str> = question.path.split('/').collect();
            let mut request = Request::new(question.method.clone())
                .at(&["v1"])
                .at(&segments);
            for (name, value) in &question.query {
                request = request.query(name, value);
            }
            if let Some(body) = &question.body {
                request = request.json(body)?;
            }
            let name = HeaderName::from_static("x-vault-token");
            self.headed(request.secret_header(name, "", &session.token)?)
        };
        let mut pause = PAUSE;
        for _ in 1..CATCHING_UP {
            let answered = self.endpoint.ask(deadline, request).await?;
            if answered.status != StatusCode::PRECONDITION_FAILED {
                return Ok(answered);
            }
            sleep(pause).await;
            pause *= 3;
        }
        self.endpoint.ask(deadline, request).await
    }

    /// With the headers that every request has.
    fn headed(&self, request: Request) -> Result<Request, ProviderError> {
        let name = HeaderName::from_static("x-vault-request");
        let request = request.header(name, HeaderValue::from_static("true"));
        let Some(namespace) = &self.config.namespace else {
            return Ok(request);
        };
        let value = HeaderValue::from_str(namespace);
        let value = value.map_err(|_| self.endpoint.failed("has no such namespace"))?;
        Ok(request.header(HeaderName::from_static("x-vault-namespace"), value))
    }

    fn answer<D: DeserializeOwned>(
        &self,
        path: &str,
        answered: &Answered,
    ) -> Result<Answer<D>, ProviderError> {
        if answered.status != StatusCode::OK {
            let cause = refusal(answered.status, &answered.document);
            return Err(self.failed(path, &cause));
        }
        let answer = Answer::read(&answered.document);
        let answer: Answer<D> = answer.map_err(|cause| self.failed(path, &cause).lost())?;
        if answer.warnings > 0 {
            tracing::debug!(path, warnings = answer.warnings, "vault warns");
        }
        Ok(answer)
    }

    /// An error about a path; no secret in it.
    pub(super) fn failed(&self, path: &str, problem: &str) -> ProviderError {
        let address = self.endpoint.url();
        ProviderError::Failed(format!("`{path}` of `{address}` {problem}"))
    }

    /// One field of a KV secret, as it is kept.
    pub(super) async fn field(
        &self,
        path: &str,
        field: &str,
    ) -> Result<Zeroizing<String>, ProviderError> {
        let deadline = self.deadline();
        let mut data = self.kv(deadline, path).await?;
        match data.take(field) {
            Some(super::answer::Datum::Text(text)) => Ok(text.0),
            Some(super::answer::Datum::Other) => {
                Err(self.failed(path, &format!("has a field `{field}` that is no text")))
            }
            None => Err(self.failed(path, &format!("has no field `{field}`"))),
        }
    }
}

/// What a login must be good for to read something that has no lease.
const MARGIN: Duration = Duration::from_secs(10);

impl Question {
    pub(super) fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            query: Vec::new(),
            body: None,
        }
    }
}

fn lookup() -> Question {
    Question::get("auth/token/lookup-self".to_owned())
}

/// A time as a server spells it, and nothing else.
fn printable(time: &str) -> String {
    let is_of_time = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '-' | ':' | '.');
    time.chars().filter(is_of_time).take(40).collect()
}
