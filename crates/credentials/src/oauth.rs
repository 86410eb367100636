//! Tokens of an OAuth 2.0 authorization server.

pub(crate) mod answer;
pub(crate) mod client;
mod consent;
mod exchange;
mod refresh_token;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use identity::TaskTokens;
use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, sleep};
use url::Url;
use zeroize::Zeroizing;

use self::answer::{Answer, Expected, Issued};
use self::client::Fields;
use self::refresh_token::RefreshToken;
use crate::endpoint::{Endpoint, Form};
use crate::seal::Seal;
use crate::{
    LeaseView, Obtained, Provider, ProviderError, Revocation, Secret, Statement, Wish, narrowing,
};

pub use client::ClientAuthentication;
pub use consent::{IssuerInAnswers, TokenEnd, UserConsent};

/// How a token is had of an authorization server.
#[derive(Clone, Debug)]
pub struct OAuthConfig {
    /// The token endpoint; over https, or on this machine.
    pub token_url: Url,
    /// The revocation endpoint (RFC 7009), if there is one; the same holds for it.
    pub revocation_url: Option<Url>,
    /// Who vouches for both; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The gateway's name there. Only a grant that shows by itself who asks does without.
    pub client_id: Option<String>,
    /// How it shows that it is the one.
    pub authentication: ClientAuthentication,
    /// What it has to show for a token.
    pub grant: Grant,
    /// The most that is asked for; a decision narrows it.
    pub scopes: Vec<String>,
    /// For whom tokens are, where the server has it so.
    pub audience: Option<String>,
    /// For which resources tokens are, at most (RFC 8707); a decision narrows it.
    pub resources: Vec<String>,
    /// How long a token lives whose answer does not say.
    pub ttl: Option<Duration>,
    /// How long all of one obtaining may take, and all of taking one back.
    pub timeout: Duration,
}

/// What there is to show for a token.
#[derive(Clone, Debug)]
pub enum Grant {
    /// That the client is who it is (RFC 6749, section 4.4).
    ClientCredentials,
    /// A token, exchanged for another (RFC 8693).
    TokenExchange(SubjectToken),
    /// An assertion of an identity provider, which it gives for a token, shown to the server of the resource
    /// (draft-ietf-oauth-identity-assertion-authz-grant-03).
    IdJag(Box<IdJag>),
    /// A statement of somebody the server trusts (RFC 7523, section 2.1).
    JwtBearer(Statement),
    /// A refresh token in a file (RFC 6749, section 6), replaced there when the server gives another.
    RefreshToken(PathBuf),
    /// That the owner of the task consented (RFC 6749, section 4.1).
    UserConsent(UserConsent),
}

/// What is exchanged for a token.
#[derive(Clone, Debug)]
pub enum SubjectToken {
    /// A statement of the gateway's about the task.
    Statement(Statement),
    /// The token that the agent showed the gateway, of the issuer that is asked.
    Agent {
        /// The issuer. A token of any other is not shown: whoever has it can be the agent here.
        issuer: String,
        /// What kind of token it is there (RFC 8693, section 3).
        kind: TokenKind,
        /// Who acts by it: a statement of the gateway's.
        actor: Option<Statement>,
    },
}

/// What kind of token an agent has (RFC 8693, section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// An access token of the server's own.
    AccessToken,
    /// An ID token.
    IdToken,
    /// Another JWT.
    Jwt,
}

/// The identity provider that gives assertions for others' authorization servers.
#[derive(Clone, Debug)]
pub struct IdJag {
    /// Its token endpoint.
    pub token_url: Url,
    /// Who vouches for it; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The gateway's name there.
    pub client_id: Option<String>,
    /// How it shows that it is the one.
    pub authentication: ClientAuthentication,
    /// The issuer of the resource's authorization server, which the assertion is for.
    pub audience: String,
    /// What the assertion is given for.
    pub subject: SubjectToken,
}

/// Tokens of an OAuth 2.0 authorization server, each as narrow as its decision.
///
/// With a revocation endpoint they are taken back by it (`revoked`), after a crash too; else they expire.
#[derive(Debug)]
pub struct OAuth(Arc<Server>);

/// An authorization server.
#[derive(Debug)]
pub(crate) struct Server {
    config: OAuthConfig,
    tokens: Endpoint,
    /// Of the identity provider.
    assertions: Option<Endpoint>,
    revocation: Option<Endpoint>,
    seal: Arc<Seal>,
    /// By which the gateway's own statements are signed.
    signed_by: Arc<TaskTokens>,
}

/// How long a statement to the server lives, in seconds: it is used at once.
const STATEMENT_LIFE: u64 = 60;

/// How long taking a token back may take: a little less than the end of a task waits for it.
const REVOKE_PATIENCE: Duration = Duration::from_secs(8);

/// RFC 8693, section 3.
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

impl OAuth {
    /// Makes one; what must outlive a crash is sealed by a key that is derived from that of `tokens`.
    ///
    /// # Errors
    /// What is wrong with the addresses or authorities.
    pub fn new(config: OAuthConfig, tokens: Arc<TaskTokens>) -> Result<Self, String> {
        let seal = Seal::new(&tokens).map_err(|error| error.to_string())?;
        Self::sealed_by(Arc::new(seal), config, tokens)
    }

    /// Makes one; what must outlive a crash is sealed by this.
    ///
    /// # Errors
    /// What is wrong with the addresses or authorities.
    pub fn sealed_by(
        seal: Arc<Seal>,
        config: OAuthConfig,
        tokens: Arc<TaskTokens>,
    ) -> Result<Self, String> {
        let endpoint = |url: &Url| Endpoint::new(url.clone(), &config.authorities);
        let server = Arc::new(Server {
            tokens: endpoint(&config.token_url)?,
            assertions: match &config.grant {
                Grant::IdJag(jag) => Some(Endpoint::new(jag.token_url.clone(), &jag.authorities)?),
                _ => None,
            },
            revocation: config.revocation_url.as_ref().map(endpoint).transpose()?,
            seal,
            signed_by: tokens,
            config,
        });
        if let Grant::UserConsent(consent) = &server.config.grant {
            consent.consents.register(server.subject(), &server);
        }
        Ok(Self(server))
    }
}

#[cfg(test)]
impl OAuth {
    pub(crate) fn subject(&self) -> String {
        self.0.subject()
    }

    pub(crate) fn config(&self) -> OAuthConfig {
        self.0.config.clone()
    }
}

#[async_trait::async_trait]
impl Provider for OAuth {
    fn name(&self) -> &'static str {
        "oauth"
    }

    /// Of what decides which tokens come: patience and authorities don't.
    fn digest(&self) -> String {
        let config = &self.0.config;
        let url = |url: Option<&Url>| url.map(Url::to_string).unwrap_or_default();
        let mut texts = vec![
            url(Some(&config.token_url)),
            url(config.revocation_url.as_ref()),
            config.client_id.clone().unwrap_or_default(),
            config.scopes.join(" "),
            config.audience.clone().unwrap_or_default(),
            config.resources.join(" "),
        ];
        texts.extend(config.authentication.texts());
        match &config.grant {
            Grant::ClientCredentials => {}
            Grant::TokenExchange(subject) => {
                texts.push("exchange".to_owned());
                texts.extend(subject.texts());
            }
            Grant::IdJag(jag) => {
                texts.extend(["id_jag".to_owned(), jag.token_url.to_string()]);
                texts.push(jag.client_id.clone().unwrap_or_default());
                texts.extend(jag.authentication.texts());
                texts.push(jag.audience.clone());
                texts.extend(jag.subject.texts());
            }
            Grant::JwtBearer(statement) => {
                texts.push("jwt_bearer".to_owned());
                texts.extend(statement.texts());
            }
            Grant::RefreshToken(path) => texts.push(format!("refresh {}", path.display())),
            Grant::UserConsent(consent) => {
                texts.push("user_consent".to_owned());
                texts.extend(consent.texts());
            }
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    fn exchanges(&self) -> Option<&str> {
        let subject = match &self.0.config.grant {
            Grant::TokenExchange(subject) => subject,
            Grant::IdJag(jag) => &jag.subject,
            _ => return None,
        };
        match subject {
            SubjectToken::Agent { issuer, .. } => Some(issuer),
            SubjectToken::Statement(_) => None,
        }
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        self.obtain_for(wish, None).await
    }

    async fn obtain_for(
        &self,
        wish: &Wish,
        token: Option<&Secret>,
    ) -> Result<Obtained, ProviderError> {
        let asked = Asked {
            scopes: narrowing::scopes(wish, &self.0.config.scopes)?,
            resources: narrowing::resources(wish, &self.0.config.resources)?,
        };
        let answer = match &self.0.config.grant {
            Grant::RefreshToken(path) => {
                let (server, path) = (Arc::clone(&self.0), path.clone());
                // It goes on when nobody waits any more: a token that was replaced is written down.
                let refreshed = tokio::spawn(async move { server.refresh(path, &asked).await });
                refreshed
                    .await
                    .unwrap_or_else(|_| Err(ProviderError::Failed("refresh broke off".into())))?
            }
            Grant::UserConsent(consent) => {
                let consents = &consent.consents;
                self.0.ask_by_consent(wish, asked, consents).await?
            }
            Grant::IdJag(jag) => self.0.ask_by_assertion(jag, wish, &asked, token).await?,
            Grant::ClientCredentials | Grant::TokenExchange(_) | Grant::JwtBearer(_) => {
                self.0.ask(wish, &asked, token).await?
            }
        };
        self.0.accept(wish, answer).await
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }

    async fn revoke_by_handle(&self, lease: &LeaseView, handle: &str) -> Revocation {
        let Some(token) = self.0.seal.open(&lease.task, handle) else {
            tracing::warn!(lease = %lease.id, "token can't be taken back: it was sealed by another key");
            return Revocation::ExpiresAt;
        };
        if self.0.revocation.is_none() {
            return Revocation::ExpiresAt;
        }
        match self.0.take_back(&token, "access_token").await {
            Ok(()) => Revocation::Revoked,
            Err(error) => {
                tracing::warn!(lease = %lease.id, %error, "token could not be taken back");
                Revocation::Failed
            }
        }
    }
}

/// What is asked for, narrowed.
#[derive(Debug)]
struct Asked {
    scopes: Vec<String>,
    resources: Vec<String>,
}

impl Server {
    /// Asks by what the gateway can say itself.
    async fn ask(
        &self,
        wish: &Wish,
        asked: &Asked,
        token: Option<&Secret>,
    ) -> Result<Answer, ProviderError> {
        let form = async || {
            let mut fields = Fields::new();
            match &self.config.grant {
                Grant::TokenExchange(subject) => {
                    self.put_subject(&mut fields, subject, (wish, asked), token)
                        .await?;
                    fields.put("requested_token_type", ACCESS_TOKEN);
                }
                Grant::JwtBearer(statement) => {
                    let assertion = self.sign(statement, wish, asked).await?;
                    fields.put("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                    fields.put("assertion", &assertion);
                }
                Grant::ClientCredentials
                | Grant::RefreshToken(_)
                | Grant::UserConsent(_)
                | Grant::IdJag(_) => {
                    fields.put("grant_type", "client_credentials");
                }
            }
            self.complete(fields, asked).await
        };
        let document = self.tokens.post(self.deadline(), form).await?;
        let issued = match &self.config.grant {
            Grant::TokenExchange(_) => Issued::Said,
            Grant::ClientCredentials
            | Grant::JwtBearer(_)
            | Grant::RefreshToken(_)
            | Grant::UserConsent(_)
            | Grant::IdJag(_) => Issued::Unsaid,
        };
        Answer::read(
            &document,
            Expected {
                scopes: &asked.scopes,
                issued,
            },
        )
    }

    /// Asks by the refresh token of a file, and writes down what replaces it.
    async fn refresh(&self, path: PathBuf, asked: &Asked) -> Result<Answer, ProviderError> {
        let shared = RefreshToken::of(&path);
        let mut refreshing = shared.lock().await;
        let token = refreshing.current().await?;
        let form = async || {
            let mut fields = Fields::new();
            fields.put("grant_type", "refresh_token");
            fields.put_secret("refresh_token", &token);
            self.complete(fields, asked).await
        };
        let document = self.tokens.post(self.deadline(), form).await?;
        if let Some(new) = answer::refresh_token(&document) {
            refreshing.replace(token, new).await?;
        }
        Answer::read(
            &document,
            Expected {
                scopes: &asked.scopes,
                issued: Issued::Unsaid,
            },
        )
    }

    async fn sign(
        &self,
        statement: &Statement,
        wish: &Wish,
        asked: &Asked,
    ) -> Result<Zeroizing<String>, ProviderError> {
        let life = STATEMENT_LIFE.min(wish.ttl_seconds);
        let signed = statement.sign(&self.signed_by, wish, &asked.scopes, life);
        signed.await
    }

    /// Adds what is the same for all grants.
    async fn complete(&self, mut fields: Fields, asked: &Asked) -> Result<Form, ProviderError> {
        if !asked.scopes.is_empty() {
            fields.put("scope", &asked.scopes.join(" "));
        }
        if let Some(audience) = &self.config.audience {
            fields.put("audience", audience);
        }
        for resource in &asked.resources {
            fields.put("resource", resource);
        }
        self.authenticate(fields).await
    }

    async fn authenticate(&self, fields: Fields) -> Result<Form, ProviderError> {
        let client_id = self.config.client_id.as_deref();
        let token_url = self.tokens.url().as_str();
        let authentication = &self.config.authentication;
        authentication.complete(fields, client_id, token_url).await
    }

    /// Takes a token, or takes it back where it may not be used.
    async fn accept(&self, wish: &Wish, answer: Answer) -> Result<Obtained, ProviderError> {
        let life = answer
            .expires_in
            .or_else(|| self.config.ttl.map(|ttl| ttl.as_secs()));
        let objection = match (answer.objection, life) {
            (Some(objection), _) => objection,
            (None, None) => "it does not say how long its token lives, and neither does `ttl`",
            (None, Some(life)) => {
                let sealed = self
                    .revocation
                    .as_ref()
                    .filter(|_| self.takes_tokens_back());
                let sealed = sealed.map(|_| self.seal.seal(&wish.task, &answer.access_token));
                return Ok(Obtained {
                    material: answer.access_token.into(),
                    ttl_seconds: Some(life),
                    handle: sealed.transpose()?,
                });
            }
        };
        let unbelieved = self
            .tokens
            .failed(&format!("can't be believed: {objection}"));
        if !self.takes_tokens_back() {
            return Err(unbelieved.lost());
        }
        match self.take_back(&answer.access_token, "access_token").await {
            Ok(()) => Err(unbelieved),
            Err(error) => {
                tracing::warn!(%error, "token that was not taken lives on");
                Err(unbelieved.lost())
            }
        }
    }

    /// Takes a token back (RFC 7009), again and again while there is time.
    async fn take_back(&self, token: &Secret, hint: &str) -> Result<(), ProviderError> {
        let Some(endpoint) = &self.revocation else {
            let cause = "there is no `revocation_url`".to_owned();
            return Err(ProviderError::Failed(cause));
        };
        let deadline = Instant::now() + REVOKE_PATIENCE.min(self.config.timeout);
        let form = async || {
            let mut fields = Fields::new();
            fields.put_secret("token", token);
            fields.put("token_type_hint", hint);
            self.authenticate(fields).await
        };
        let mut pause = Duration::from_millis(200);
        loop {
            let Err(error) = endpoint.post(deadline, form).await else {
                return Ok(());
            };
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
            pause *= 3;
        }
    }

    /// Takes a refresh token back, and with it all that came by it where the server has it so (RFC 7009, section 2.1).
    pub(crate) async fn take_back_refresh(&self, token: &Secret) -> Result<(), ProviderError> {
        self.take_back(token, "refresh_token").await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }
}

#[cfg(test)]
mod tests;
