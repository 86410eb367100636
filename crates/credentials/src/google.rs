//! Access tokens of Google Cloud.

mod boundary;
mod key_file;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use identity::{InvalidKey, SigningKey, TaskTokens};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Map, json};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use self::key_file::KeyFile;
use crate::endpoint::{Endpoint, Request, known_code};
use crate::federated::Federated;
use crate::oauth::answer::{Answer, Expected, Issued, secret, wiped};
use crate::oauth::client::Fields;
use crate::{
    LeaseView, Obtained, Provider, ProviderError, Revocation, Secret, SecretRef, Wish, narrowing,
};

pub use boundary::BoundaryRule;

/// How tokens are had of Google Cloud.
#[derive(Clone, Debug)]
pub struct GoogleConfig {
    /// As whom the gateway comes.
    pub identity: GoogleIdentity,
    /// As whom it goes on, if that is somebody else.
    pub impersonation: Option<Impersonation>,
    /// The most scopes; a decision narrows them.
    pub scopes: Vec<String>,
    /// On what a token may be used, at most; on all that its account may, if there are none. A decision narrows it.
    pub access_boundary: Vec<BoundaryRule>,
    /// The security token service: `https://sts.googleapis.com/v1/token`.
    pub sts_url: Url,
    /// The IAM credentials API: `https://iamcredentials.googleapis.com`.
    pub iam_url: Url,
    /// Who vouches for all of them; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How long all of one obtaining may take.
    pub timeout: Duration,
}

/// As whom the gateway comes to Google.
#[derive(Clone, Debug)]
pub enum GoogleIdentity {
    /// As a service account whose key it has (RFC 7523, section 2.1).
    ServiceAccount {
        /// The key file, JSON.
        key: SecretRef,
        /// The token endpoint: `https://oauth2.googleapis.com/token`. A key file that names another is refused.
        token_url: Url,
        /// The person of the domain that the account acts for, where an administrator delegated that to it.
        subject: Option<String>,
    },
    /// As somebody whom a workload identity pool knows (RFC 8693).
    Federated {
        /// The pool's provider: `//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/NAME`.
        audience: String,
        /// What is shown to it.
        shown: Federated,
    },
}

/// A service account that the gateway goes on as.
#[derive(Clone, Debug)]
pub struct Impersonation {
    /// Its address.
    pub account: String,
    /// The accounts in between, in their order.
    pub delegates: Vec<String>,
}

/// Access tokens of Google Cloud, each for as few scopes and resources as its decision says.
///
/// Google takes none of them back: their leases end with `expires_at`. Only with an impersonation do they end with the
/// task; else Google gives them an hour.
#[derive(Debug)]
pub struct Google {
    config: GoogleConfig,
    /// The token endpoint of a service account with a key.
    tokens: Option<Endpoint>,
    sts: Endpoint,
    iam: Endpoint,
    signed_by: Arc<TaskTokens>,
}

/// A token on its way.
#[derive(Debug)]
struct Token {
    secret: Secret,
    /// Its life, in seconds.
    life: u64,
}

/// The longest life that Google gives without an exception by the organization, in seconds.
const LONGEST_LIFE: u64 = 3600;

/// By how much Google's clock may differ from ours, in seconds, before a life counts as longer than asked.
const DRIFT: i64 = 60;

/// All that a token is good for that is used to ask for another.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";

/// RFC 8693, section 3.
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Why an API of Google's says no (`google.rpc.Code`).
const REASONS: [&str; 7] = [
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
];

impl Google {
    /// Makes one; the gateway's statements are signed as `tokens` are.
    ///
    /// # Errors
    /// What is wrong with the addresses or authorities.
    pub fn new(config: GoogleConfig, tokens: Arc<TaskTokens>) -> Result<Self, String> {
        let endpoint = |url: &Url| Endpoint::new(url.clone(), &config.authorities);
        let of_account = match &config.identity {
            GoogleIdentity::ServiceAccount { token_url, .. } => Some(endpoint(token_url)?),
            GoogleIdentity::Federated { .. } => None,
        };
        Ok(Self {
            tokens: of_account,
            sts: endpoint(&config.sts_url)?,
            iam: endpoint(&config.iam_url)?
                .with_reason(|document| known_code(document, "/error/status", &REASONS)),
            signed_by: tokens,
            config,
        })
    }
}

#[async_trait::async_trait]
impl Provider for Google {
    fn name(&self) -> &'static str {
        "google"
    }

    /// Of what decides which tokens come: patience and authorities don't.
    fn digest(&self) -> String {
        let config = &self.config;
        let mut texts = vec![
            config.sts_url.to_string(),
            config.iam_url.to_string(),
            config.scopes.join(" "),
        ];
        match &config.identity {
            GoogleIdentity::ServiceAccount {
                key,
                token_url,
                subject,
            } => texts.extend([
                "key".to_owned(),
                key.to_string(),
                token_url.to_string(),
                subject.clone().unwrap_or_default(),
            ]),
            GoogleIdentity::Federated { audience, shown } => {
                texts.extend(["federated".to_owned(), audience.clone()]);
                texts.extend(shown.texts());
            }
        }
        if let Some(Impersonation { account, delegates }) = &config.impersonation {
            texts.extend([account.clone(), delegates.join(" ")]);
        }
        texts.extend(config.access_boundary.iter().map(BoundaryRule::text));
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::only(&wish.narrow, &["access_boundary"])?;
        let scopes = narrowing::scopes(wish, &self.config.scopes)?;
        let asked = wish.narrow.get("access_boundary");
        let boundary = boundary::narrowed(asked, &self.config.access_boundary)?;
        let deadline = Instant::now() + self.config.timeout;
        let mut token = match &self.config.impersonation {
            None => self.first(wish, &scopes, deadline).await?,
            Some(to) => {
                let own = self.first(wish, &[IAM_SCOPE.to_owned()], deadline).await?;
                self.impersonate(&own, to, (&scopes, wish.ttl_seconds), deadline)
                    .await?
            }
        };
        if !boundary.is_empty() {
            token = self.bound(&token, &boundary, deadline).await?;
        }
        Ok(Obtained {
            material: token.secret.into(),
            ttl_seconds: Some(token.life),
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

impl Google {
    /// The token of who the gateway comes as.
    async fn first(
        &self,
        wish: &Wish,
        scopes: &[String],
        deadline: Instant,
    ) -> Result<Token, ProviderError> {
        match (&self.config.identity, &self.tokens) {
            (GoogleIdentity::ServiceAccount { key, subject, .. }, Some(tokens)) => {
                let life = wish.ttl_seconds.min(LONGEST_LIFE);
                let form = async || {
                    let file = KeyFile::read(key, tokens.url()).await?;
                    let assertion =
                        assertion(&file, scopes, (tokens.url(), life), subject.as_deref())?;
                    let mut fields = Fields::new();
                    fields.put("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                    fields.put("assertion", &assertion);
                    Ok(fields.into_form())
                };
                let document = tokens.post(deadline, form).await?;
                believed(tokens, &document, (scopes, Issued::Unsaid), None)
            }
            (GoogleIdentity::ServiceAccount { .. }, None) => Err(ProviderError::Failed(
                "there is no token endpoint".to_owned(),
            )),
            (GoogleIdentity::Federated { audience, shown }, _) => {
                let form = async || {
                    let shown = shown.shown(&self.signed_by, wish).await?;
                    let mut fields = exchange(&shown, JWT);
                    fields.put("audience", audience);
                    fields.put("scope", &scopes.join(" "));
                    Ok(fields.into_form())
                };
                let document = self.sts.post(deadline, form).await?;
                believed(&self.sts, &document, (scopes, Issued::Said), None)
            }
        }
    }

    /// A token of another service account, that lives as long as is asked for and no longer.
    async fn impersonate(
        &self,
        own: &Token,
        to: &Impersonation,
        (scopes, ttl_seconds): (&[String], u64),
        deadline: Instant,
    ) -> Result<Token, ProviderError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            #[serde(deserialize_with = "wiped")]
            access_token: Zeroizing<String>,
            expire_time: String,
        }
        let lifetime = ttl_seconds.min(LONGEST_LIFE);
        let resource = |account: &String| format!("projects/-/serviceAccounts/{account}");
        let delegates: Vec<_> = to.delegates.iter().map(resource).collect();
        let question = json!({
            "scope": scopes, "lifetime": format!("{lifetime}s"), "delegates": delegates,
        });
        let last = format!("{}:generateAccessToken", to.account);
        let request = async || {
            let place = ["v1", "projects", "-", "serviceAccounts", &last];
            let request = Request::new(Method::POST).at(&place).json(&question)?;
            request.bearer(&own.secret)
        };
        let answered = self.iam.ask(deadline, request).await?;
        let document = self.iam.accept(answered, &[StatusCode::OK])?;
        let raw: Raw = serde_json::from_slice(&document).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.iam.failed(&format!(
                "does not answer with a token, at line {line} column {column}"
            ))
        })?;
        let expires_at = raw.expire_time.parse::<jiff::Timestamp>();
        let expires_at = expires_at
            .map_err(|_| unbelieved(&self.iam, "it does not say when its token expires"))?;
        let life = expires_at.as_second() - jiff::Timestamp::now().as_second();
        let longest = i64::try_from(lifetime).unwrap_or(i64::MAX);
        if life > longest.saturating_add(DRIFT) {
            return Err(unbelieved(
                &self.iam,
                "its token lives longer than was asked for",
            ));
        }
        match u64::try_from(life) {
            Ok(life) if life > 0 => Ok(Token {
                secret: secret(&raw.access_token)?,
                life: life.min(lifetime),
            }),
            Ok(_) | Err(_) => Err(unbelieved(&self.iam, "its token was expired on arrival")),
        }
    }

    /// The same token, but for these resources only: a credential access boundary.
    async fn bound(
        &self,
        token: &Token,
        boundary: &[BoundaryRule],
        deadline: Instant,
    ) -> Result<Token, ProviderError> {
        let options = boundary::options(boundary);
        let form = async || {
            let mut fields = exchange(&token.secret, ACCESS_TOKEN);
            fields.put("options", &options);
            Ok(fields.into_form())
        };
        let document = self.sts.post(deadline, form).await?;
        // It does not say how long it lives where that is as long as the other.
        let bound = believed(&self.sts, &document, (&[], Issued::Said), Some(token.life))?;
        Ok(Token {
            life: bound.life.min(token.life),
            ..bound
        })
    }
}

/// What a service account signs for a token (Google has no `sub` but that of a person it acts for).
fn assertion(
    file: &KeyFile,
    scopes: &[String],
    (audience, life): (&Url, u64),
    subject: Option<&str>,
) -> Result<Zeroizing<String>, ProviderError> {
    let now = jiff::Timestamp::now().as_second();
    let life = i64::try_from(life).unwrap_or(0);
    let mut claims = Map::new();
    let mut put = |name: &str, value| claims.insert(name.to_owned(), value);
    put("iss", json!(file.client_email));
    put("aud", json!(audience.as_str()));
    put("scope", json!(scopes.join(" ")));
    put("iat", json!(now));
    put("exp", json!(now.saturating_add(life)));
    if let Some(subject) = subject {
        put("sub", json!(subject));
    }
    let key = SigningKey::from_pem(file.private_key.as_bytes(), file.private_key_id.as_deref());
    let signed = key.and_then(|key| {
        key.rsa()?;
        key.sign(&claims)
    });
    let signed = signed.map_err(|InvalidKey(problem)| {
        ProviderError::Failed(format!("key of `{}`: {problem}", file.client_email))
    })?;
    Ok(Zeroizing::new(signed))
}

/// What every exchange has (RFC 8693, section 2.1).
fn exchange(subject: &Secret, kind: &str) -> Fields {
    let mut fields = Fields::new();
    fields.put(
        "grant_type",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    );
    fields.put("requested_token_type", ACCESS_TOKEN);
    fields.put_secret("subject_token", subject);
    fields.put("subject_token_type", kind);
    fields
}

/// The token of an answer. `unsaid` is how long it lives where it does not say.
fn believed(
    endpoint: &Endpoint,
    document: &[u8],
    (scopes, issued): (&[String], Issued),
    unsaid: Option<u64>,
) -> Result<Token, ProviderError> {
    let answer = Answer::read(document, Expected { scopes, issued })?;
    match (answer.objection, answer.expires_in.or(unsaid)) {
        (Some(objection), _) => Err(unbelieved(endpoint, objection)),
        (None, None) => Err(unbelieved(
            endpoint,
            "it does not say how long its token lives",
        )),
        (None, Some(life)) => Ok(Token {
            secret: answer.access_token,
            life,
        }),
    }
}

fn unbelieved(endpoint: &Endpoint, objection: &str) -> ProviderError {
    tracing::warn!(url = %endpoint.url(), "token that was not taken lives on until it expires");
    let unbelieved = endpoint.failed(&format!("can't be believed: {objection}"));
    unbelieved.lost()
}

#[cfg(test)]
mod tests;
