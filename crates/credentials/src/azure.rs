//! Access tokens of Microsoft Entra ID.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use identity::{InvalidKey, SigningKey, TaskTokens};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Map, json};
use tokio::time::Instant;
use url::Url;

use crate::endpoint::{Endpoint, oauth_reason};
use crate::federated::Federated;
use crate::oauth::answer::{Answer, Expected, Issued};
use crate::oauth::client::{ASSERTION_TYPE, Fields};
use crate::{
    LeaseView, Obtained, Provider, ProviderError, Revocation, Secret, SecretRef, Wish, narrowing,
};

/// How tokens are had of Entra ID.
#[derive(Clone, Debug)]
pub struct AzureConfig {
    /// Where Entra ID is: `https://login.microsoftonline.com`, or that of another cloud.
    pub authority: Url,
    /// Who vouches for it; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The directory, by its id or domain.
    pub tenant: String,
    /// The application, by its id.
    pub client_id: String,
    /// What shows that the gateway is it.
    pub shown: AzureIdentity,
    /// What a token is for: `…/.default`, all that the application was granted there.
    pub scope: String,
    /// How long all of one obtaining may take.
    pub timeout: Duration,
}

/// What shows that the gateway is an application.
#[derive(Clone, Debug)]
pub enum AzureIdentity {
    /// The key of its certificate (RFC 7523, section 2.2).
    Certificate {
        /// The certificate, PEM; the first of the file, which is read for each use.
        certificate: PathBuf,
        /// Its key, RSA, PEM.
        key: SecretRef,
    },
    /// What a federated credential of the application names.
    Federated(Federated),
}

/// Access tokens of Entra ID.
///
/// Entra ID gives them about an hour, whatever the task has, and takes none back: their leases end with `expires_at`.
#[derive(Debug)]
pub struct Azure {
    config: AzureConfig,
    tokens: Endpoint,
    signed_by: Arc<TaskTokens>,
}

/// How long an assertion lives, in seconds: it is used at once, by a clock that may differ. Entra ID advises five to ten minutes.
const ASSERTION_LIFE: i64 = 300;

/// How far Entra ID's clock may be behind ours, in seconds.
const DRIFT: i64 = 60;

impl Azure {
    /// Makes one; the gateway's statements are signed as `tokens` are.
    ///
    /// # Errors
    /// What is wrong with the address or authorities.
    pub fn new(config: AzureConfig, tokens: Arc<TaskTokens>) -> Result<Self, String> {
        let mut url = config.authority.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty()
                    .extend([config.tenant.as_str(), "oauth2", "v2.0", "token"])
            }
            Err(()) => return Err(format!("`{}` has no path", config.authority)),
        };
        let tokens_url = Endpoint::new(url, &config.authorities)?;
        Ok(Self {
            tokens: tokens_url.with_reason(reason),
            signed_by: tokens,
            config,
        })
    }
}

#[async_trait::async_trait]
impl Provider for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    /// Of what decides which tokens come: patience and authorities don't.
    fn digest(&self) -> String {
        let config = &self.config;
        let mut texts = vec![
            self.tokens.url().to_string(),
            config.client_id.clone(),
            config.scope.clone(),
        ];
        match &config.shown {
            AzureIdentity::Certificate { certificate, key } => {
                texts.extend([certificate.display().to_string(), key.to_string()]);
            }
            AzureIdentity::Federated(shown) => texts.extend(shown.texts()),
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::only(&wish.narrow, &[])?;
        // Entra ID knows no part of `.default`; a decision can name it, and nothing else.
        let scopes = narrowing::scopes(wish, std::slice::from_ref(&self.config.scope))?;
        let deadline = Instant::now() + self.config.timeout;
        let form = async || {
            let assertion = self.assertion(wish).await?;
            let mut fields = Fields::new();
            fields.put("grant_type", "client_credentials");
            fields.put("client_id", &self.config.client_id);
            fields.put("scope", &scopes.join(" "));
            fields.put("client_assertion_type", ASSERTION_TYPE);
            fields.put_secret("client_assertion", &assertion);
            Ok(fields.into_form())
        };
        let document = self.tokens.post(deadline, form).await?;
        let expected = Expected {
            scopes: &scopes,
            issued: Issued::Unsaid,
        };
        let answer = Answer::read(&document, expected)?;
        let objection = match (answer.objection, answer.expires_in) {
            (None, Some(life)) => {
                return Ok(Obtained {
                    material: answer.access_token.into(),
                    ttl_seconds: Some(life),
                    handle: None,
                });
            }
            (Some(objection), _) => objection,
            (None, None) => "it does not say how long its token lives",
        };
        tracing::warn!(url = %self.tokens.url(), "token that was not taken lives on until it expires");
        let unbelieved = format!("can't be believed: {objection}");
        Err(self.tokens.failed(&unbelieved).lost())
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

impl Azure {
    /// What shows that the gateway is the application, new for each use.
    async fn assertion(&self, wish: &Wish) -> Result<Secret, ProviderError> {
        match &self.config.shown {
            AzureIdentity::Federated(shown) => shown.shown(&self.signed_by, wish).await,
            AzureIdentity::Certificate { certificate, key } => {
                let certificate = read(certificate.clone()).await?;
                let pem = key.read_document().await?;
                let client_id = &self.config.client_id;
                let now = jiff::Timestamp::now().as_second();
                let claims = [
                    ("iss", json!(client_id)),
                    ("sub", json!(client_id)),
                    ("aud", json!(self.tokens.url().as_str())),
                    ("jti", json!(uuid::Uuid::new_v4().to_string())),
                    ("iat", json!(now)),
                    ("nbf", json!(now - DRIFT)),
                    ("exp", json!(now + ASSERTION_LIFE)),
                ];
                let claims = claims.map(|(name, value)| (name.to_owned(), value));
                let claims: Map<_, _> = claims.into_iter().collect();
                let signing = SigningKey::from_pem(&pem, None)
                    .and_then(|signing| signing.with_certificate(&certificate)?.sign(&claims));
                let signed = signing.map_err(|InvalidKey(problem)| {
                    ProviderError::Failed(format!("key `{key}`: {problem}"))
                })?;
                Secret::new(signed.into_bytes())
            }
        }
    }
}

/// The first certificate of a file.
async fn read(path: PathBuf) -> Result<CertificateDer<'static>, ProviderError> {
    let read = tokio::task::spawn_blocking(move || {
        CertificateDer::from_pem_file(&path).map_err(|error| {
            ProviderError::Failed(format!(
                "`{}` holds no certificate: {error}",
                path.display()
            ))
        })
    });
    read.await
        .unwrap_or_else(|_| Err(ProviderError::Failed("certificate was not read".to_owned())))
}

/// Why Entra ID says no: the code of the standard, and its own number, of which there are hundreds.
fn reason(document: &[u8]) -> Option<Cow<'static, str>> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        error_codes: Vec<u32>,
    }
    let code = oauth_reason(document);
    let refusal = serde_json::from_slice::<Refusal>(document).ok();
    let number = refusal.and_then(|refusal| refusal.error_codes.first().copied());
    match (code, number) {
        (code, None) => code,
        (None, Some(number)) => Some(format!("AADSTS{number}").into()),
        (Some(code), Some(number)) => Some(format!("{code} AADSTS{number}").into()),
    }
}

#[cfg(test)]
mod tests;
