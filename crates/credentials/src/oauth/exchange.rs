//! Tokens that are exchanged for others (RFC 8693), across applications too.

use serde::Deserialize;

use super::client::Fields;
use super::{
    ACCESS_TOKEN, Answer, Asked, Expected, IdJag, Issued, JWT, Server, SubjectToken, TokenKind,
};
use crate::{ProviderError, Secret, Wish};

/// RFC 8693, section 2.1.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693, section 3.
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// draft-ietf-oauth-identity-assertion-authz-grant-03.
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

impl Server {
    /// Writes what is exchanged into a form.
    pub(super) async fn put_subject(
        &self,
        fields: &mut Fields,
        subject: &SubjectToken,
        (wish, asked): (&Wish, &Asked),
        token: Option<&Secret>,
    ) -> Result<(), ProviderError> {
        fields.put("grant_type", EXCHANGE);
        match subject {
            SubjectToken::Statement(statement) => {
                let subject = self.sign(statement, wish, asked).await?;
                fields.put("subject_token", &subject);
                fields.put("subject_token_type", JWT);
            }
            SubjectToken::Agent {
                issuer,
                kind,
                actor,
            } => {
                let token = token.ok_or_else(|| {
                    ProviderError::Failed(format!(
                        "agent showed no bearer token of `{issuer}` that can be exchanged"
                    ))
                })?;
                fields.put_secret("subject_token", token);
                fields.put("subject_token_type", kind.urn());
                if let Some(actor) = actor {
                    let actor = self.sign(actor, wish, asked).await?;
                    fields.put("actor_token", &actor);
                    fields.put("actor_token_type", JWT);
                }
            }
        }
        Ok(())
    }

    /// Has the identity provider say whom it is for, and shows that to the resource's own server.
    pub(super) async fn ask_by_assertion(
        &self,
        jag: &IdJag,
        wish: &Wish,
        asked: &Asked,
        token: Option<&Secret>,
    ) -> Result<Answer, ProviderError> {
        let deadline = self.deadline();
        let provider = self
            .assertions
            .as_ref()
            .ok_or_else(|| ProviderError::Failed("there is no identity provider".to_owned()))?;
        let form = async || {
            let mut fields = Fields::new();
            self.put_subject(&mut fields, &jag.subject, (wish, asked), token)
                .await?;
            fields.put("requested_token_type", ID_JAG);
            fields.put("audience", &jag.audience);
            for resource in &asked.resources {
                fields.put("resource", resource);
            }
            if !asked.scopes.is_empty() {
                fields.put("scope", &asked.scopes.join(" "));
            }
            let (id, url) = (jag.client_id.as_deref(), provider.url().as_str());
            jag.authentication.complete(fields, id, url).await
        };
        let assertion = assertion(&provider.post(deadline, form).await?)
            .map_err(|problem| provider.failed(problem))?;
        let form = async || {
            let mut fields = Fields::new();
            fields.put("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
            fields.put_secret("assertion", &assertion);
            self.complete(fields, asked).await
        };
        let document = self.tokens.post(deadline, form).await?;
        let expected = Expected {
            scopes: &asked.scopes,
            issued: Issued::Unsaid,
        };
        Answer::read(&document, expected)
    }
}

/// The assertion in an answer; nothing of it is repeated in an error. Whether it is good is for the other server to tell.
fn assertion(document: &[u8]) -> Result<Secret, &'static str> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        // Borrowed, so that no copy is left behind: a JWT needs no escapes.
        access_token: &'a str,
        issued_token_type: &'a str,
    }
    let raw: Raw<'_> =
        serde_json::from_slice(document).map_err(|_| "does not answer with an assertion")?;
    if raw.issued_token_type != ID_JAG {
        return Err("answers with another kind of token than an ID-JAG");
    }
    let is_jwt = raw
        .access_token
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let secret = Secret::new(raw.access_token.as_bytes().to_vec());
    match (is_jwt, secret) {
        (true, Ok(secret)) => Ok(secret),
        _ => Err("answers with an assertion that is no JWT"),
    }
}

impl SubjectToken {
    /// What of it makes a config.
    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::Statement(statement) => statement.texts(),
            Self::Agent {
                issuer,
                kind,
                actor,
            } => {
                let mut texts = vec!["agent".to_owned(), issuer.clone(), kind.urn().to_owned()];
                texts.extend(actor.iter().flat_map(|actor| actor.texts()));
                texts
            }
        }
    }
}

impl TokenKind {
    fn urn(self) -> &'static str {
        match self {
            Self::AccessToken => ACCESS_TOKEN,
            Self::IdToken => ID_TOKEN,
            Self::Jwt => JWT,
        }
    }
}
