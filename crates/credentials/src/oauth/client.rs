//! How a client of an authorization server shows who it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use identity::Assertion;
use serde_json::Map;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::endpoint::Form;
use crate::{KeyRef, ProviderError, Secret, SecretRef};

/// How a client shows who it is (RFC 6749, section 2.3; RFC 7523, section 2.2).
#[derive(Clone, Debug)]
pub enum ClientAuthentication {
    /// It does not, or what it asks with says it.
    None,
    /// Its secret is the password of HTTP basic authentication.
    SecretBasic(SecretRef),
    /// Its secret is in the form.
    SecretPost(SecretRef),
    /// An assertion signed by its key.
    PrivateKeyJwt {
        /// The key.
        key: KeyRef,
        /// Whom the assertion is for: the server's issuer; its token endpoint unless given.
        audience: Option<String>,
    },
}

/// How long a client's assertion lives, in seconds: it is used at once.
const ASSERTION_LIFE: u64 = 60;

/// RFC 7523, section 2.2.
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A form, while it is written.
pub(crate) struct Fields(Zeroizing<String>);

impl Fields {
    pub(crate) fn new() -> Self {
        // Room for all of it, since a text that grows leaves copies behind.
        Self(Zeroizing::new(String::with_capacity(32 * 1024)))
    }

    pub(crate) fn put(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
    }

    /// The form, for those who are not shown anything beside it.
    pub(crate) fn into_form(self) -> Form {
        Form {
            body: self.0,
            authorization: None,
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "to send it where it came from, or where it belongs"
    )]
    pub(crate) fn put_secret(&mut self, name: &str, secret: &Secret) {
        self.put(name, &String::from_utf8_lossy(secret.expose()));
    }
}

impl ClientAuthentication {
    /// Completes a form with who asks. `token_url` is whom an assertion is for, unless the config says otherwise.
    pub(super) async fn complete(
        &self,
        mut fields: Fields,
        client_id: Option<&str>,
        token_url: &str,
    ) -> Result<Form, ProviderError> {
        let id = client_id.unwrap_or_default();
        let mut authorization = None;
        match self {
            Self::None => {
                if let Some(id) = client_id {
                    fields.put("client_id", id);
                }
            }
            Self::SecretBasic(secret) => authorization = Some(basic(id, &secret.read().await?)?),
            Self::SecretPost(secret) => {
                fields.put("client_id", id);
                fields.put_secret("client_secret", &secret.read().await?);
            }
            Self::PrivateKeyJwt { key, audience } => {
                let assertion = Assertion {
                    subject: id.to_owned(),
                    audience: audience.as_deref().unwrap_or(token_url).to_owned(),
                    life: ASSERTION_LIFE,
                    claims: Map::new(),
                };
                let assertion = Zeroizing::new(key.sign(id, &assertion).await?);
                fields.put("client_id", id);
                fields.put("client_assertion_type", ASSERTION_TYPE);
                fields.put("client_assertion", &assertion);
            }
        }
        Ok(Form {
            body: fields.0,
            authorization,
        })
    }

    /// What of it makes a config.
    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::None => vec!["none".to_owned()],
            Self::SecretBasic(secret) => vec!["basic".to_owned(), secret.to_string()],
            Self::SecretPost(secret) => vec!["post".to_owned(), secret.to_string()],
            Self::PrivateKeyJwt { key, audience } => {
                let audience = audience.clone().unwrap_or_default();
                let mut texts = vec!["private_key_jwt".to_owned(), audience];
                texts.extend(key.texts());
                texts
            }
        }
    }
}

/// RFC 6749, section 2.3.1: each of both is encoded as in a form first.
#[expect(
    clippy::disallowed_methods,
    reason = "the client's own secret, for its authorization server"
)]
fn basic(id: &str, secret: &Secret) -> Result<HeaderValue, ProviderError> {
    let mut pair = Zeroizing::new(String::with_capacity(
        (id.len() + secret.expose().len()) * 3 + 1,
    ));
    pair.extend(byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(byte_serialize(secret.expose()));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    let value = HeaderValue::from_str(&Zeroizing::new(format!("Basic {}", *encoded)));
    let mut value = value
        .map_err(|_| ProviderError::Failed("client's secret does not fit a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
