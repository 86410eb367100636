//! A command that prints a credential.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::program::Program;
use crate::{LeaseView, Obtained, Provider, ProviderError, Revocation, Secret, Wish};

/// A command that prints a credential.
///
/// It can't take one back: a lease whose life the command told ends with `expires_at`, another with `drop_only`.
#[derive(Debug)]
pub struct Cmd {
    program: Program,
    ttl: Option<Duration>,
}

impl Cmd {
    /// Runs `argv` with the wish as JSON on stdin; takes `{"secret","ttl_seconds"?,"handle"?}` from stdout.
    ///
    /// There is no shell and no environment but `PATH` and `HOME`; stdout may have 64 KiB. After `timeout` the program
    /// and its children are killed. `ttl` is the life of a secret whose answer tells none.
    pub fn new(argv: Vec<String>, timeout: Duration, ttl: Option<Duration>) -> Self {
        Self {
            program: Program::new(argv, timeout),
            ttl,
        }
    }
}

/// What a command answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    #[serde(deserialize_with = "wiped")]
    secret: Zeroizing<String>,
    #[serde(default)]
    ttl_seconds: Option<u64>,
    #[serde(default)]
    handle: Option<String>,
}

fn wiped<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

#[async_trait::async_trait]
impl Provider for Cmd {
    fn name(&self) -> &'static str {
        "cmd"
    }

    fn digest(&self) -> String {
        let ttl = format!("{:?}", self.ttl);
        let argv = self.program.argv().iter().map(String::as_str);
        let texts: Vec<&str> = std::iter::once(ttl.as_str()).chain(argv).collect();
        crate::provider::digest(&texts)
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        let wish = serde_json::to_vec(wish)
            .map_err(|error| ProviderError::Failed(format!("wish can't be written: {error}")))?;
        let output = self.program.run(&wish).await?;
        // Only where it went wrong, since the parser's own words may quote the secret.
        let mut answer: Answer = serde_json::from_slice(&output).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            ProviderError::Failed(format!(
                "stdout is not the JSON asked for, at line {line} column {column}"
            ))
        })?;
        let secret = std::mem::take(&mut *answer.secret).into_bytes();
        Ok(Obtained {
            material: Secret::new(secret)?.into(),
            ttl_seconds: answer
                .ttl_seconds
                .or_else(|| self.ttl.map(|ttl| ttl.as_secs())),
            handle: answer.handle,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

#[cfg(test)]
mod tests;
