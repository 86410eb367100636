//! A JWT that the gateway signs, for an upstream that trusts it.

use std::sync::Arc;
use std::time::Duration;

use identity::TaskTokens;

use crate::{
    LeaseView, Obtained, Provider, ProviderError, Revocation, Secret, Statement, Wish, narrowing,
};

/// A JWT that the gateway signs, for an upstream that trusts it. Nobody is asked for it.
///
/// It can't be taken back: its leases end with `expires_at`.
#[derive(Debug)]
pub struct Jwt {
    tokens: Arc<TaskTokens>,
    statement: Statement,
    scopes: Vec<String>,
    ttl: Duration,
}

impl Jwt {
    /// `scopes` are the most that a decision may ask for, `ttl` is the longest life; the gateway signs as `tokens` are signed.
    pub fn new(
        statement: Statement,
        scopes: Vec<String>,
        ttl: Duration,
        tokens: Arc<TaskTokens>,
    ) -> Self {
        Self {
            tokens,
            statement,
            scopes,
            ttl,
        }
    }
}

#[async_trait::async_trait]
impl Provider for Jwt {
    fn name(&self) -> &'static str {
        "jwt"
    }

    fn digest(&self) -> String {
        let mut texts = self.statement.texts();
        texts.push(self.scopes.join(" "));
        texts.push(self.ttl.as_secs().to_string());
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::only(&wish.narrow, &[])?;
        let scopes = narrowing::scopes(wish, &self.scopes)?;
        let life = self.ttl.as_secs().min(wish.ttl_seconds);
        let token = self
            .statement
            .sign(&self.tokens, wish, &scopes, life)
            .await?;
        Ok(Obtained {
            material: Secret::new(token.as_bytes().to_vec())?.into(),
            ttl_seconds: Some(life),
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

#[cfg(test)]
mod tests {
    use identity::KeyKind;
    use serde_json::{Map, Value, json};
    use testkit::authorization_server::verified;

    use super::*;
    use crate::{Signer, Subject};

    fn wish() -> Wish {
        Wish {
            agent: "triage".to_owned(),
            task: "0190a2b4-7f00-7000-8000-000000000001".parse().unwrap(),
            owner: "alice".to_owned(),
            tool: "notes".parse().unwrap(),
            access: tasks::Access::Write,
            scopes: Vec::new(),
            narrow: Map::new(),
            ttl_seconds: 600,
        }
    }

    fn provider() -> Jwt {
        let pem = TaskTokens::generate(KeyKind::Ed25519).unwrap();
        let tokens = TaskTokens::from_pem(pem.as_bytes(), "https://gateway.example").unwrap();
        let statement = Statement {
            audience: "https://notes.example".to_owned(),
            subject: Subject::Owner,
            signer: Signer::Gateway,
        };
        let scopes = vec!["read".to_owned(), "write".to_owned()];
        Jwt::new(
            statement,
            scopes,
            Duration::from_secs(300),
            Arc::new(tokens),
        )
    }

    #[expect(clippy::disallowed_methods, reason = "to read its claims")]
    async fn claims(wish: &Wish) -> Value {
        let provider = provider();
        let obtained = provider.obtain(wish).await.unwrap();
        let secret = obtained.material.secret(None).unwrap();
        let jwt = std::str::from_utf8(secret.expose()).unwrap();
        assert_eq!(provider.tokens.claims_of(jwt), None);
        let (_, claims) = verified(jwt, &provider.tokens.jwks()["keys"][0]).unwrap();
        let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(obtained.ttl_seconds, Some(life));
        claims
    }

    #[tokio::test]
    async fn an_upstream_learns_who_acts_for_whom_on_what() {
        let claims = claims(&wish()).await;
        assert_eq!(claims["sub"], "alice");
        assert_eq!(claims["act"], json!({ "sub": "triage" }));
        assert_eq!(claims["aud"], "https://notes.example");
        assert_eq!(claims["scope"], "read write");
        assert_eq!(
            (&claims["tool"], &claims["access"]),
            (&json!("notes"), &json!("write"))
        );
    }
    #[tokio::test]
    async fn it_lives_no_longer_than_the_config_and_the_task_say() {
        let life =
            |claims: Value| claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(life(claims(&wish()).await), 300);
        let mut short = wish();
        short.ttl_seconds = 20;
        assert_eq!(life(claims(&short).await), 20);
    }
    #[tokio::test]
    async fn a_decision_narrows_it() {
        let mut narrow = wish();
        narrow.scopes = vec!["read".to_owned()];
        assert_eq!(claims(&narrow).await["scope"], "read");
        narrow.scopes = vec!["admin".to_owned()];
        provider().obtain(&narrow).await.unwrap_err();
    }
    #[tokio::test]
    async fn a_narrowing_that_it_can_not_say_is_refused() {
        let mut narrow = wish();
        narrow.narrow.insert("resource".to_owned(), json!("x"));
        provider().obtain(&narrow).await.unwrap_err();
    }
}
