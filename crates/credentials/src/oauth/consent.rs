//! Tokens in the name of a person who consented (RFC 6749, section 4.1; RFC 7636; RFC 9207).

use std::sync::Arc;

use http::StatusCode;
use reqwest::Url;

use super::answer::{self, Answer, Expected, Issued};
use super::client::Fields;
use super::{Asked, Grant, Server};
use crate::consents::{Consents, Flow, Given, Subject, Wanted};
use crate::endpoint::oauth_reason;
use crate::{ProviderError, Secret, Wish};

/// How a person is asked for its consent.
#[derive(Clone, Debug)]
pub struct UserConsent {
    /// The authorization endpoint; a query that it has is kept.
    pub authorization_url: Url,
    /// The server's issuer, where it is known: an answer that names another is refused (RFC 9207).
    pub issuer: Option<String>,
    /// Whether one that names none is, too.
    pub issuer_in_answers: IssuerInAnswers,
    /// The claim of the ID token that has to name the owner, where there is to be one.
    pub owner_claim: Option<String>,
    /// What becomes of the access tokens of a task that ended.
    pub access_tokens: TokenEnd,
    /// Where consents are kept.
    pub consents: Arc<Consents>,
}

/// Whether a browser that comes back has to name the server's issuer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssuerInAnswers {
    /// It has to.
    Required,
    /// The server names it or not; an ID token binds what comes to it.
    Optional,
}

/// What becomes of access tokens that came by a consent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenEnd {
    /// They expire: a server may end the consent with any of its tokens (RFC 7009, section 2.1).
    Expire,
    /// They are taken back: the server keeps the consent.
    Revoke,
}

impl UserConsent {
    /// What of it makes a config: where a person is asked, and what is made sure of.
    pub(super) fn texts(&self) -> [String; 4] {
        let issuer_in_answers = match self.issuer_in_answers {
            IssuerInAnswers::Required => "required",
            IssuerInAnswers::Optional => "optional",
        };
        [
            issuer_in_answers.to_owned(),
            self.authorization_url.to_string(),
            said(self.issuer.as_deref()),
            said(self.owner_claim.as_deref()),
        ]
    }
}

fn note(taken_back: Result<(), ProviderError>) {
    if let Err(error) = taken_back {
        tracing::warn!(%error, "tokens of a consent that was not kept live on");
    }
}

/// One that is said and empty is another than one that is not said.
fn said(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!("={text}"))
}

impl Server {
    /// Whether the server is asked to take access tokens back.
    pub(super) fn takes_tokens_back(&self) -> bool {
        self.consent()
            .is_none_or(|(consent, _, _)| consent.access_tokens == TokenEnd::Revoke)
    }

    /// Obtains a token in the name of whom the task is done for.
    pub(super) async fn ask_by_consent(
        self: &Arc<Self>,
        wish: &Wish,
        asked: Asked,
        consents: &Arc<Consents>,
    ) -> Result<Answer, ProviderError> {
        let wanted = Wanted {
            subject: Subject {
                owner: wish.owner.clone(),
                tool: wish.tool.clone(),
                server: self.subject(),
            },
            agent: wish.agent.clone(),
        };
        let required = |wanted| match consents.ask(wanted) {
            Ok(link) => ProviderError::ConsentRequired(link),
            Err(error) => error,
        };
        let Some(given) = consents.find(&wanted.subject) else {
            return Err(required(wanted));
        };
        let (server, consents_used) = (Arc::clone(self), Arc::clone(consents));
        // It goes on when nobody waits any more: a token that was replaced is written down.
        let refreshing =
            async move { server.refresh_consent(&given, &consents_used, &asked).await };
        let refreshed = tokio::spawn(refreshing).await;
        match refreshed {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(required(wanted)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ProviderError::Failed("refresh broke off".into())),
        }
    }

    /// None if the consent is over.
    async fn refresh_consent(
        &self,
        given: &Given,
        consents: &Consents,
        asked: &Asked,
    ) -> Result<Option<Answer>, ProviderError> {
        let Some(mut held) = given.hold().await else {
            return Ok(None);
        };
        consents.save(given, &mut held).await?;
        let request = async || {
            let mut fields = Fields::new();
            fields.put("grant_type", "refresh_token");
            fields.put_secret("refresh_token", held.token());
            Ok(self.complete(fields, asked).await?.request())
        };
        let answered = self.tokens.ask(self.deadline(), request).await?;
        // RFC 6749, section 5.2: it has expired, or was taken back.
        if answered.status == StatusCode::BAD_REQUEST
            && oauth_reason(&answered.document).as_deref() == Some("invalid_grant")
        {
            consents.forget(given, &mut held).await;
            return Ok(None);
        }
        let document = self.tokens.accept(answered, &[StatusCode::OK])?;
        if let Some(new) = answer::refresh_token(&document) {
            consents.replace(given, &mut held, new).await?;
        }
        let expected = Expected {
            scopes: &asked.scopes,
            issued: Issued::Unsaid,
        };
        Answer::read(&document, expected).map(Some)
    }

    /// Exchanges a code for tokens.
    pub(crate) async fn redeem(&self, code: &str, flow: &Flow) -> Result<Answer, ProviderError> {
        let code = Secret::new(code.as_bytes().to_vec())?;
        let verifier = flow.verifier()?;
        let form = async || {
            let mut fields = Fields::new();
            fields.put("grant_type", "authorization_code");
            fields.put_secret("code", &code);
            fields.put("redirect_uri", &flow.redirect_uri);
            fields.put_secret("code_verifier", &verifier);
            for resource in &self.config.resources {
                fields.put("resource", resource);
            }
            self.authenticate(fields).await
        };
        let document = self.tokens.post(self.deadline(), form).await?;
        let expected = Expected {
            scopes: &self.config.scopes,
            issued: Issued::Unsaid,
        };
        let answer = match Answer::read(&document, expected) {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(token) = answer::refresh_token(&document) {
                    note(self.take_back_refresh(&token).await);
                }
                return Err(error);
            }
        };
        match answer.objection {
            None => Ok(answer),
            Some(objection) => {
                self.discard(&answer).await;
                Err(self
                    .tokens
                    .failed(&format!("can't be believed: {objection}")))
            }
        }
    }

    /// Takes back what came for a code, where it is not kept. With a refresh token goes what came beside it (RFC 7009,
    /// section 2.1).
    pub(crate) async fn discard(&self, answer: &Answer) {
        note(match &answer.refresh_token {
            Some(token) => self.take_back_refresh(token).await,
            None => self.take_back(&answer.access_token, "access_token").await,
        });
    }

    /// Where the person is asked.
    pub(crate) fn authorization_url(&self, flow: &Flow) -> Option<Url> {
        let (consent, scopes, resources) = self.consent()?;
        let mut url = consent.authorization_url.clone();
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", self.client_id())
                .append_pair("redirect_uri", &flow.redirect_uri)
                .append_pair("state", &flow.state)
                .append_pair("code_challenge", &flow.challenge())
                .append_pair("code_challenge_method", "S256");
            if !scopes.is_empty() {
                query.append_pair("scope", &scopes.join(" "));
            }
            if consent.owner_claim.is_some() {
                query.append_pair("nonce", &flow.nonce);
            }
            for resource in resources {
                query.append_pair("resource", resource);
            }
        }
        Some(url)
    }

    /// How a person is asked, and for what at most; none where no person is.
    pub(crate) fn consent(&self) -> Option<(&UserConsent, &[String], &[String])> {
        let Grant::UserConsent(consent) = &self.config.grant else {
            return None;
        };
        Some((consent, &self.config.scopes, &self.config.resources))
    }

    pub(crate) fn client_id(&self) -> &str {
        self.config.client_id.as_deref().unwrap_or_default()
    }

    pub(crate) fn scopes(&self) -> Vec<String> {
        self.config.scopes.clone()
    }

    /// The host where the person is asked.
    pub(crate) fn host(&self) -> String {
        let consent = self.consent();
        let url = consent.map_or_else(|| self.tokens.url(), |(it, _, _)| &it.authorization_url);
        url.host_str().unwrap_or_default().to_owned()
    }

    /// What a consent is of, besides owner and tool: with another server, client or scope, or where something else is
    /// made sure of, it has to be given anew.
    pub(super) fn subject(&self) -> String {
        let config = &self.config;
        let revocation_url = config.revocation_url.as_ref().map(Url::to_string);
        let mut texts = vec![
            config.token_url.to_string(),
            revocation_url.unwrap_or_default(),
            self.client_id().to_owned(),
            config.scopes.join(" "),
            config.audience.clone().unwrap_or_default(),
            config.resources.join(" "),
        ];
        texts.extend(config.authentication.texts());
        if let Grant::UserConsent(consent) = &config.grant {
            texts.extend(consent.texts());
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }
}
