//! A command that prints a credential.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::program::Program;
use crate::sigv4::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN};
use crate::{
    Field, Fields, LeaseView, Material, Obtained, Provider, ProviderError, Revocation, Secret, Wish,
};

/// A command that prints a credential.
///
/// It can't take one back: a lease whose life the command told ends with `expires_at`, another with `drop_only`.
#[derive(Debug)]
pub struct Cmd {
    program: Program,
    ttl: Option<Duration>,
}

impl Cmd {
    /// Runs `argv` with the wish as JSON on stdin; takes `{"secret","ttl_seconds"?,"handle"?}` from stdout, or AWS keys as its
    /// own tools have them of a `credential_process`.
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
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    #[serde(deserialize_with = "wiped")]
    secret: Option<Zeroizing<String>>,
    ttl_seconds: Option<u64>,
    handle: Option<String>,
    /// Of AWS keys: "Sourcing credentials with an external process", AWS SDKs and tools reference guide.
    #[serde(rename = "Version")]
    version: Option<u64>,
    #[serde(rename = "AccessKeyId", deserialize_with = "wiped")]
    access_key_id: Option<Zeroizing<String>>,
    #[serde(rename = "SecretAccessKey", deserialize_with = "wiped")]
    secret_access_key: Option<Zeroizing<String>>,
    #[serde(rename = "SessionToken", deserialize_with = "wiped")]
    session_token: Option<Zeroizing<String>>,
    #[serde(rename = "Expiration")]
    expiration: Option<String>,
    /// Told, and of no use here.
    #[serde(rename = "AccountId")]
    _account_id: Option<String>,
}

impl Answer {
    /// The secret, or the keys.
    fn material(&mut self) -> Result<Material, ProviderError> {
        let secret = |mut text: Zeroizing<String>| Secret::new(std::mem::take(&mut *text).into());
        let keys = (
            self.version,
            self.access_key_id.take(),
            self.secret_access_key.take(),
            self.session_token.take(),
        );
        match (self.secret.take(), keys) {
            (Some(text), (None, None, None, None)) => Ok(secret(text)?.into()),
            (None, (Some(1), Some(id), Some(key), token)) => {
                let mut fields = vec![
                    Field::public(ACCESS_KEY_ID, secret(id)?),
                    Field::new(SECRET_ACCESS_KEY, secret(key)?),
                ];
                if let Some(token) = token {
                    fields.push(Field::new(SESSION_TOKEN, secret(token)?));
                }
                Ok(Material::Fields(Fields::new(fields)?))
            }
            (Some(_) | None, _) => Err(ProviderError::Failed(
                "stdout has neither a `secret` alone nor AWS keys of `Version` 1".to_owned(),
            )),
        }
    }

    /// The seconds that it lives, if it says.
    fn life(&self) -> Result<Option<u64>, ProviderError> {
        let Some(expiration) = &self.expiration else {
            return Ok(self.ttl_seconds);
        };
        let end: Timestamp = expiration.parse().map_err(|_| {
            ProviderError::Failed("stdout has an `Expiration` that is no time".to_owned())
        })?;
        let left = end.duration_since(Timestamp::now()).as_secs();
        Ok(Some(u64::try_from(left).unwrap_or(0)))
    }
}

fn wiped<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    String::deserialize(text).map(|text| Some(Zeroizing::new(text)))
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
        let life = answer.life()?;
        Ok(Obtained {
            material: answer.material()?,
            ttl_seconds: life.or_else(|| self.ttl.map(|ttl| ttl.as_secs())),
            handle: answer.handle,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

#[cfg(test)]
mod tests;
