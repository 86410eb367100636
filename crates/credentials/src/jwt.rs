//! A JWT that the gateway signs, for an upstream that trusts it.

use std::time::Duration;

use crate::{
    LeaseView, Obtained, Provider, ProviderError, Revocation, Secret, Statement, Wish, narrowing,
};

/// A JWT that the gateway signs, for an upstream that trusts it. Nobody is asked for it.
///
/// It can't be taken back: its leases end with `expires_at`.
#[derive(Debug)]
pub struct Jwt {
    statement: Statement,
    scopes: Vec<String>,
    ttl: Duration,
}

impl Jwt {
    /// `scopes` are the most that a decision may ask for, `ttl` is the longest life.
    pub fn new(statement: Statement, scopes: Vec<String>, ttl: Duration) -> Self {
        Self {
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
        let token = self.statement.sign(wish, &scopes, life).await?;
        Ok(Obtained {
            secret: Secret::new(token.as_bytes().to_vec())?,
            ttl_seconds: Some(life),
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}
