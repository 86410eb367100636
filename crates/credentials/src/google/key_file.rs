//! The key file of a service account.

use serde::{Deserialize, Deserializer};
use url::Url;
use zeroize::Zeroizing;

use crate::oauth::answer::wiped;
use crate::{ProviderError, SecretRef};

/// A key file of a service account, as Google gives it.
#[derive(Deserialize)]
pub(super) struct KeyFile {
    pub(super) client_email: String,
    #[serde(deserialize_with = "wiped")]
    pub(super) private_key: Zeroizing<String>,
    #[serde(default)]
    pub(super) private_key_id: Option<String>,
    #[serde(rename = "type", deserialize_with = "service_account")]
    _kind: (),
    #[serde(default)]
    token_uri: Option<String>,
}

impl KeyFile {
    /// Reads it. What it says where to send what it signs must be what the config says: a file is not asked where to.
    pub(super) async fn read(key: &SecretRef, token_url: &Url) -> Result<Self, ProviderError> {
        let document = key.read_document().await?;
        let file: Self = serde_json::from_slice(&document).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            ProviderError::Failed(format!(
                "`{key}` is no key file of a service account, at line {line} column {column}"
            ))
        })?;
        let named = file.token_uri.as_deref().map(Url::parse);
        if named.is_some_and(|named| named.as_ref() != Ok(token_url)) {
            return Err(ProviderError::Failed(format!(
                "`{key}` has another `token_uri` than the config's `token_url`"
            )));
        }
        Ok(file)
    }
}

/// That it is a key and not, say, the `external_account` of a federation, which names addresses and programs to run.
fn service_account<'de, D: Deserializer<'de>>(text: D) -> Result<(), D::Error> {
    let kind = String::deserialize(text)?;
    if kind != "service_account" {
        return Err(serde::de::Error::custom("not a service account"));
    }
    Ok(())
}
