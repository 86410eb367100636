//! Keys as AWS's own tools have a command print them.

use jiff::Timestamp;
use serde::Deserialize;

use super::Wiped;
use crate::sigv4::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN};
use crate::{Field, Fields, Material, ProviderError};

/// What a `credential_process` prints ("Process credential provider", AWS SDKs and tools reference guide).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AwsKeys {
    version: u64,
    access_key_id: Wiped,
    secret_access_key: Wiped,
    #[serde(default)]
    session_token: Option<Wiped>,
    #[serde(default)]
    expiration: Option<String>,
}

impl AwsKeys {
    /// The keys, and the seconds that they live, if they say.
    pub(super) fn read(self) -> Result<(Material, Option<u64>), ProviderError> {
        let failed = |problem: &str| ProviderError::Failed(problem.to_owned());
        if self.version != 1 {
            return Err(failed("stdout has AWS keys of another `Version` than 1"));
        }
        let end = self.expiration.as_deref().map(str::parse::<Timestamp>);
        let end = end.transpose();
        let end = end.map_err(|_| failed("stdout has an `Expiration` that is no time"))?;
        let life = end.map(|end| end.duration_since(Timestamp::now()).as_secs());
        let mut fields = vec![
            Field::public(ACCESS_KEY_ID, self.access_key_id.secret()?),
            Field::new(SECRET_ACCESS_KEY, self.secret_access_key.secret()?),
        ];
        if let Some(token) = self.session_token {
            fields.push(Field::new(SESSION_TOKEN, token.secret()?));
        }
        let life = life.map(|left| u64::try_from(left).unwrap_or(0));
        Ok((Material::Fields(Fields::new(fields)?), life))
    }
}
