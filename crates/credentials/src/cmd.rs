//! A command that prints a credential.

mod aws_keys;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use self::aws_keys::AwsKeys;
use crate::program::Program;
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
    /// Runs `argv` with the wish as JSON on stdin; takes `{"secret" | "fields","public"?,"ttl_seconds"?,"handle"?}` from
    /// stdout: `fields` are several secrets by name, of which answers may show those that `public` names.
    /// Keys of AWS are taken as well, as AWS's own tools have them of a `credential_process`.
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
    #[serde(default)]
    secret: Option<Wiped>,
    #[serde(default)]
    fields: BTreeMap<String, Wiped>,
    #[serde(default)]
    public: Vec<String>,
    #[serde(default)]
    ttl_seconds: Option<u64>,
    #[serde(default)]
    handle: Option<String>,
}

/// A text that is wiped.
struct Wiped(Zeroizing<String>);

impl<'de> Deserialize<'de> for Wiped {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(text)?.into()))
    }
}

impl Wiped {
    fn secret(mut self) -> Result<Secret, ProviderError> {
        Secret::new(std::mem::take(&mut *self.0).into_bytes())
    }
}

impl Answer {
    /// The secret, or the secrets, that it holds.
    fn material(self) -> Result<Material, ProviderError> {
        let failed = |problem: &str| Err(ProviderError::Failed(problem.to_owned()));
        let Some(secret) = self.secret else {
            if self.fields.is_empty() {
                return failed("stdout holds neither `secret` nor `fields`");
            }
            if self
                .public
                .iter()
                .any(|name| !self.fields.contains_key(name))
            {
                return failed("stdout says that a field is `public` which it does not hold");
            }
            let fields = self.fields.into_iter().map(|(name, text)| {
                Ok(Field {
                    secret: text.secret()?,
                    is_public: self.public.contains(&name),
                    name,
                })
            });
            let fields: Result<Vec<Field>, ProviderError> = fields.collect();
            return Ok(Material::Fields(Fields::new(fields?)?));
        };
        if !self.fields.is_empty() || !self.public.is_empty() {
            return failed("stdout holds `secret` beside `fields` or `public`");
        }
        Ok(secret.secret()?.into())
    }
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
        let ttl = self.ttl.map(|ttl| ttl.as_secs());
        if let Ok(keys) = serde_json::from_slice::<AwsKeys>(&output) {
            let (material, life) = keys.read().map_err(ProviderError::lost)?;
            return Ok(Obtained {
                material,
                ttl_seconds: life.or(ttl),
                handle: None,
            });
        }
        // Only where it went wrong, since the parser's own words may quote the secret.
        let answer: Answer = serde_json::from_slice(&output).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            ProviderError::Lost(format!(
                "stdout is not the JSON asked for, at line {line} column {column}"
            ))
        })?;
        Ok(Obtained {
            ttl_seconds: answer.ttl_seconds.or(ttl),
            handle: answer.handle.clone(),
            material: answer.material().map_err(ProviderError::lost)?,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

#[cfg(test)]
mod tests;
