//! How the gateway shows a Vault who it is, and the token that it gets for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use identity::{Assertion, InvalidKey, TaskTokens};
use serde::Serialize;
use serde_json::Map;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::answer::{Auth, Wiped};
use crate::endpoint::Request;
use crate::{ProviderError, Secret, SecretRef, Signer};

/// How the gateway shows who it is.
#[derive(Clone, Debug)]
pub enum VaultLogin {
    /// By a token that somebody gave it.
    Token(SecretRef),
    /// By a role and, unless the role needs none, its secret id (`auth/approle`).
    AppRole {
        /// Where the method is mounted, such as `approle`.
        mount: String,
        /// The role.
        role_id: String,
        /// Its secret.
        secret_id: Option<SecretRef>,
    },
    /// By a JWT (`auth/jwt`).
    Jwt {
        /// Where the method is mounted, such as `jwt`.
        mount: String,
        /// The role; the method's default, unless given.
        role: Option<String>,
        /// The JWT.
        jwt: VaultJwt,
    },
    /// By the token of its Kubernetes service account (`auth/kubernetes`).
    Kubernetes {
        /// Where the method is mounted, such as `kubernetes`.
        mount: String,
        /// The role.
        role: String,
        /// The file with the token; read anew for each login.
        token: PathBuf,
    },
}

/// Which JWT is shown.
#[derive(Clone, Debug)]
pub enum VaultJwt {
    /// One that somebody keeps fresh in a file, such as a JWT-SVID or a projected token; read anew for each login.
    File(PathBuf),
    /// One that the gateway signs, about itself.
    Signed {
        /// Whom it is for (`aud`).
        audience: String,
        /// Whom it is about (`sub`).
        subject: String,
        /// Who says it.
        signer: Signer,
    },
}

/// How long a JWT that is signed for a login lives, in seconds: it is used at once.
const STATEMENT_LIFE: u64 = 60;

/// The longest token read from a file, in bytes.
const LONGEST: u64 = 64 * 1024;

impl VaultLogin {
    /// The request that logs in; none if there is a token already.
    pub(super) async fn request(
        &self,
        tokens: Option<&TaskTokens>,
    ) -> Result<Option<Request>, ProviderError> {
        let (mount, login) = match self {
            Self::Token(_) => return Ok(None),
            Self::AppRole {
                mount,
                role_id,
                secret_id,
            } => {
                let secret_id = match secret_id {
                    Some(secret_id) => Some(Wiped(text(&Box::pin(secret_id.read()).await?)?)),
                    None => None,
                };
                let login = Body {
                    role_id: Some(role_id),
                    secret_id,
                    ..Body::default()
                };
                (mount, login)
            }
            Self::Jwt { mount, role, jwt } => {
                let login = Body {
                    role: role.as_deref(),
                    jwt: Some(Wiped(jwt.read(tokens).await?)),
                    ..Body::default()
                };
                (mount, login)
            }
            Self::Kubernetes { mount, role, token } => {
                let login = Body {
                    role: Some(role),
                    jwt: Some(Wiped(read_token(token).await?)),
                    ..Body::default()
                };
                (mount, login)
            }
        };
        let request = Request::new(Method::POST).at(&["v1", "auth"]);
        let request = request.at(&mount.split('/').collect::<Vec<_>>());
        request.at(&["login"]).json(&login).map(Some)
    }

    /// What of it makes a config.
    pub(super) fn texts(&self) -> Vec<String> {
        let of = |name: &str, mount: &str, role: &str| {
            vec![name.to_owned(), mount.to_owned(), role.to_owned()]
        };
        match self {
            Self::Token(token) => vec!["token".to_owned(), token.to_string()],
            Self::AppRole { mount, role_id, .. } => of("approle", mount, role_id),
            Self::Jwt { mount, role, .. } => of("jwt", mount, role.as_deref().unwrap_or_default()),
            Self::Kubernetes { mount, role, .. } => of("kubernetes", mount, role),
        }
    }
}

/// What is posted; what is not there is left out.
#[derive(Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<Wiped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<Wiped>,
}

impl VaultJwt {
    async fn read(&self, tokens: Option<&TaskTokens>) -> Result<Zeroizing<String>, ProviderError> {
        let (audience, subject, signer) = match self {
            Self::File(path) => return read_token(path).await,
            Self::Signed {
                audience,
                subject,
                signer,
            } => (audience, subject, signer),
        };
        let assertion = Assertion {
            subject: subject.clone(),
            audience: audience.clone(),
            life: STATEMENT_LIFE,
            claims: Map::new(),
        };
        match signer {
            Signer::Gateway => {
                let tokens = tokens
                    .ok_or_else(|| failed("gateway's own key is not there yet".to_owned()))?;
                let signed = tokens.assert(&assertion);
                signed.map_err(|InvalidKey(problem)| {
                    failed(format!("statement can't be signed: {problem}"))
                })
            }
            Signer::Own { issuer, key } => Box::pin(key.sign(issuer, &assertion)).await,
        }
        .map(Zeroizing::new)
    }
}

/// A token of a file that others keep fresh. Its mode is theirs: a projected token may be read by all of its pod.
pub(crate) async fn read_token(path: &Path) -> Result<Zeroizing<String>, ProviderError> {
    let problem =
        |error: &dyn std::fmt::Display| failed(format!("file `{}`: {error}", path.display()));
    let file = tokio::fs::File::open(path).await;
    let file = file.map_err(|error| problem(&error))?;
    // With room for all of it, since a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(64 * 1024));
    let read = file.take(LONGEST).read_to_string(&mut text).await;
    read.map_err(|error| problem(&error))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(problem(&"it holds no token"));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "to log in with it")]
fn text(secret: &Secret) -> Result<Zeroizing<String>, ProviderError> {
    let text = std::str::from_utf8(secret.expose());
    let text = text.map_err(|_| failed("secret id is no text".to_owned()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A login that is good: its token, and how long it lives.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: Secret,
    pub(super) renewable: bool,
    /// None if it never expires.
    dies_at: Option<Instant>,
    /// How long it lived when it was new.
    full: Duration,
    /// For how long it was to be renewed, if it was: whoever wants no more is not helped by another renewal.
    asked: Option<Duration>,
}

/// What a token must have left to be used at all: room for a request to arrive.
const MARGIN: Duration = Duration::from_secs(10);

/// The longest life that is counted with, in seconds: a hundred years. Beyond the end of time there is no clock.
const LONGEST_LIFE: u64 = 100 * 366 * 86_400;

impl Session {
    /// A new one.
    pub(super) fn new(auth: Auth) -> Self {
        let life = Duration::from_secs(auth.seconds.min(LONGEST_LIFE));
        Self {
            token: auth.token,
            renewable: auth.renewable,
            dies_at: (auth.seconds > 0).then(|| Instant::now() + life),
            full: life,
            asked: None,
        }
    }

    /// What it was renewed to, when so much was asked for.
    pub(super) fn renewed(&self, auth: Auth, asked: Duration) -> Self {
        Self {
            full: self.full,
            asked: Some(asked),
            ..Self::new(auth)
        }
    }

    pub(super) fn full(&self) -> Duration {
        self.full
    }

    /// What is left of it; none if it never expires.
    pub(super) fn left(&self) -> Option<Duration> {
        let dies_at = self.dies_at?;
        Some(dies_at.saturating_duration_since(Instant::now()))
    }

    /// Whether it needs no renewal for a lease of so long: what is leased with a token ends with the token.
    pub(super) fn covers(&self, wanted: Duration) -> bool {
        let covers = |left| left >= wanted.max(MARGIN);
        let no_more = !self.renewable || self.asked.is_some_and(|asked| asked >= wanted);
        self.left().is_none_or(covers) || (no_more && self.lasts(wanted))
    }

    /// Whether it is good for a lease of so long, as far as the server's rules let one be.
    ///
    /// Half of its own life is always enough, or a token that is short by these rules would be good for nothing.
    pub(super) fn lasts(&self, wanted: Duration) -> bool {
        let enough = wanted.max(MARGIN).min(self.full / 2);
        self.left().is_none_or(|left| left >= enough)
    }
}

fn failed(cause: String) -> ProviderError {
    ProviderError::Failed(cause)
}
