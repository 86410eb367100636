//! Tokens of a GitHub App's installation.

mod answer;
mod asked;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use identity::{InvalidKey, SigningKey};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tokio::time::Instant;
use url::Url;

use self::answer::{Answer, Found};
use self::asked::Asked;
use crate::endpoint::{Endpoint, Request, known_code};
use crate::seal::Seal;
use crate::{LeaseView, Obtained, Provider, ProviderError, Revocation, Secret, SecretRef, Wish};

/// How tokens are had of a GitHub App.
#[derive(Clone, Debug)]
pub struct GithubAppConfig {
    /// Where the API is: `https://api.github.com`, or `https://HOST/api/v3` of a GitHub Enterprise Server.
    pub api: Url,
    /// Who vouches for it; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The app's client id or app id.
    pub app: String,
    /// The app's private key, as GitHub gives it.
    pub key: SecretRef,
    /// Where the app is installed.
    pub installation: Installation,
    /// The most repositories, by name; none for all that the installation has.
    pub repositories: Vec<String>,
    /// The most permissions.
    pub permissions: BTreeMap<String, Level>,
    /// How long all of one obtaining may take.
    pub timeout: Duration,
}

/// Where an app is installed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Installation {
    /// By its number.
    Id(u64),
    /// That of a user or an organization, looked up.
    Account(String),
    /// That which has a repository, looked up.
    Repository {
        /// Whose.
        owner: String,
        /// Its name.
        name: String,
    },
}

/// How much a permission allows; each includes those before.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// To look.
    Read,
    /// To change.
    Write,
    /// To administrate.
    Admin,
}

impl Level {
    /// As GitHub has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// A text that is no level.
#[derive(Debug, thiserror::Error)]
#[error("expected `read`, `write` or `admin`")]
pub struct InvalidLevel;

impl FromStr for Level {
    type Err = InvalidLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        let levels = [Self::Read, Self::Write, Self::Admin];
        let mut levels = levels.into_iter();
        levels
            .find(|level| level.as_str() == text)
            .ok_or(InvalidLevel)
    }
}

/// Tokens of a GitHub App's installation, each for as few repositories and permissions as its decision says.
///
/// GitHub gives them an hour, whatever the task has; they are taken back with it (`revoked`), after a crash too.
#[derive(Debug)]
pub struct GithubApp {
    config: GithubAppConfig,
    api: Endpoint,
    seal: Arc<Seal>,
    /// The number of an installation that was looked up.
    found: Mutex<Option<u64>>,
}

/// How far GitHub's clock may be behind ours, in seconds, as GitHub advises.
const DRIFT: i64 = 60;

/// How long what the app shows lives, in seconds: it is used at once, by a clock that may be ahead. GitHub takes ten minutes.
const APP_LIFE: i64 = 240;

/// How long taking a token back may take: a little less than the end of a task waits for it.
const REVOKE_PATIENCE: Duration = Duration::from_secs(8);

/// How much GitHub tells of one repository, in bytes, with room to spare.
const REPOSITORY_BYTES: usize = 16 * 1024;

/// Why GitHub says no, of what it is known to say.
const REASONS: [&str; 10] = [
    "Bad credentials",
    "Not Found",
    "Integration not found",
    "A JSON web token could not be decoded",
    "'Issuer' claim ('iss') must be an Integer",
    "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
    "'Expiration time' claim ('exp') is too far in the future",
    "This installation has been suspended",
    "The permissions requested are not granted to this installation.",
    "There is at least one repository that does not exist or is not accessible to the parent installation.",
];

impl GithubApp {
    /// Makes one; what must outlive a crash is sealed by `seal`.
    ///
    /// # Errors
    /// What is wrong with the address or authorities.
    pub fn new(config: GithubAppConfig, seal: Arc<Seal>) -> Result<Self, String> {
        let api = Endpoint::new(config.api.clone(), &config.authorities)?;
        Ok(Self {
            api: api.with_reason(|document| known_code(document, "/message", &REASONS)),
            seal,
            found: Mutex::new(None),
            config,
        })
    }
}

#[async_trait::async_trait]
impl Provider for GithubApp {
    fn name(&self) -> &'static str {
        "github_app"
    }

    /// Of what decides which tokens come: patience and authorities don't.
    fn digest(&self) -> String {
        let config = &self.config;
        let installation = match &config.installation {
            Installation::Id(id) => id.to_string(),
            Installation::Account(account) => format!("account {account}"),
            Installation::Repository { owner, name } => format!("repository {owner}/{name}"),
        };
        let permissions = config.permissions.iter();
        let permissions: Vec<_> = permissions
            .map(|(name, level)| format!("{name}:{}", level.as_str()))
            .collect();
        crate::provider::digest(&[
            config.api.as_str(),
            &config.app,
            &config.key.to_string(),
            &installation,
            &config.repositories.join(" "),
            &permissions.join(" "),
        ])
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        let asked = Asked::new(wish, &self.config)?;
        let deadline = Instant::now() + self.config.timeout;
        let installation = self.installation(deadline).await?;
        let id = installation.to_string();
        let request = async || {
            let request = Request::new(Method::POST)
                .at(&["app", "installations", &id, "access_tokens"])
                .json(&asked)?;
            Self::complete(request, &self.app_token().await?)
        };
        let room = self.api.clone().with_max_bytes(asked.room());
        let answered = room.ask(deadline, request).await?;
        if answered.status == StatusCode::NOT_FOUND {
            // The app may have been installed anew: looked up the next time.
            *self.found.lock() = None;
        }
        let document = self.api.accept(answered, &[StatusCode::CREATED])?;
        let answer = Answer::read(&document, &asked).map_err(ProviderError::lost)?;
        self.accept(wish, answer).await
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }

    async fn revoke_by_handle(&self, lease: &LeaseView, handle: &str) -> Revocation {
        let Some(token) = self.seal.open(&lease.task, handle) else {
            tracing::warn!(lease = %lease.id, "token can't be taken back: it was sealed by another key");
            return Revocation::ExpiresAt;
        };
        match self.take_back(&token).await {
            Ok(()) => Revocation::Revoked,
            Err(error) => {
                tracing::warn!(lease = %lease.id, %error, "token could not be taken back");
                Revocation::Failed
            }
        }
    }
}

impl GithubApp {
    /// The number of the installation, looked up once.
    async fn installation(&self, deadline: Instant) -> Result<u64, ProviderError> {
        if let Some(id) = *self.found.lock() {
            return Ok(id);
        }
        let id = match &self.config.installation {
            Installation::Id(id) => return Ok(*id),
            Installation::Repository { owner, name } => {
                let found = self.look_up(deadline, &["repos", owner, name]).await?;
                self.of_account(&found.ok_or_else(|| self.not_installed())?, owner)?
            }
            Installation::Account(account) => {
                let found = match self.look_up(deadline, &["orgs", account]).await? {
                    Some(found) => Some(found),
                    None => self.look_up(deadline, &["users", account]).await?,
                };
                self.of_account(&found.ok_or_else(|| self.not_installed())?, account)?
            }
        };
        *self.found.lock() = Some(id);
        Ok(id)
    }

    /// The installation at a place, if there is one.
    async fn look_up(
        &self,
        deadline: Instant,
        place: &[&str],
    ) -> Result<Option<Found>, ProviderError> {
        let request = async || {
            let request = Request::new(Method::GET).at(place).at(&["installation"]);
            Self::complete(request, &self.app_token().await?)
        };
        let answered = self.api.ask(deadline, request).await?;
        if answered.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let document = self.api.accept(answered, &[StatusCode::OK])?;
        Found::read(&document).map(Some)
    }

    fn of_account(&self, found: &Found, account: &str) -> Result<u64, ProviderError> {
        if !found.account.login.eq_ignore_ascii_case(account) {
            return Err(self
                .api
                .failed("answers with another account's installation"));
        }
        Ok(found.id)
    }

    fn not_installed(&self) -> ProviderError {
        self.api.failed("says that the app is not installed there")
    }

    /// What shows that the gateway is the app: a JWT, new for each use.
    async fn app_token(&self) -> Result<Secret, ProviderError> {
        let pem = self.config.key.read_document().await?;
        let now = jiff::Timestamp::now().as_second();
        let claims = [
            ("iss", json!(self.config.app)),
            ("iat", json!(now - DRIFT)),
            ("exp", json!(now + APP_LIFE)),
        ];
        let claims: Map<_, _> = claims
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect();
        let signed = SigningKey::from_pem(&pem, None).and_then(|key| {
            key.rsa()?;
            key.sign(&claims)
        });
        let signed = signed.map_err(|InvalidKey(problem)| {
            ProviderError::Failed(format!("key `{}`: {problem}", self.config.key))
        })?;
        Secret::new(signed.into_bytes())
    }

    /// What is the same for all requests.
    fn complete(request: Request, token: &Secret) -> Result<Request, ProviderError> {
        let version = HeaderName::from_static("x-github-api-version");
        request
            .header(
                ACCEPT,
                HeaderValue::from_static("application/vnd.github+json"),
            )
            .header(version, HeaderValue::from_static("2022-11-28"))
            // GitHub turns away who has no name.
            .header(USER_AGENT, HeaderValue::from_static("remit"))
            .bearer(token)
    }

    /// Takes a token, or takes it back where it may not be used.
    async fn accept(&self, wish: &Wish, answer: Answer) -> Result<Obtained, ProviderError> {
        let objection = match answer.life {
            Ok(life) => {
                return Ok(Obtained {
                    handle: Some(self.seal.seal(&wish.task, &answer.token)?),
                    material: answer.token.into(),
                    ttl_seconds: Some(life),
                });
            }
            Err(objection) => objection,
        };
        let unbelieved = self.api.failed(&format!("can't be believed: {objection}"));
        match self.take_back(&answer.token).await {
            Ok(()) => Err(unbelieved),
            Err(error) => {
                tracing::warn!(%error, "token that was not taken lives on");
                Err(unbelieved.lost())
            }
        }
    }

    /// Takes a token back, again and again while there is time. GitHub knows one no more that is gone: that is good too.
    async fn take_back(&self, token: &Secret) -> Result<(), ProviderError> {
        let deadline = Instant::now() + REVOKE_PATIENCE.min(self.config.timeout);
        let request = async || {
            let request = Request::new(Method::DELETE).at(&["installation", "token"]);
            Self::complete(request, token)
        };
        let good = [StatusCode::NO_CONTENT, StatusCode::UNAUTHORIZED];
        self.api.insist(deadline, request, &good).await
    }
}

#[cfg(test)]
mod tests;
