//! What a token of ours is bound to when it is minted.

use serde_json::{Map, Value};

use crate::confirmation::Confirmation;
use crate::digest::Digest;

/// What a token is bound to: a `cnf` (RFC 7800) of `jkt` (RFC 9449), `x5t#S256` (RFC 8705), or both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding(Map<String, Value>);

/// A `cnf` that nobody could satisfy here.
#[derive(Debug, thiserror::Error)]
#[error("a binding has `jkt`, `x5t#S256` or both, each a SHA-256 in base64url without padding")]
pub struct InvalidBinding;

impl Binding {
    /// Reads the value of a `cnf`.
    ///
    /// # Errors
    /// [`InvalidBinding`] for what this gateway would refuse in a token.
    pub fn read(cnf: &Value) -> Result<Self, InvalidBinding> {
        let members = cnf.as_object().ok_or(InvalidBinding)?;
        Confirmation::read(members).map_err(|_| InvalidBinding)?;
        Ok(Self(members.clone()))
    }

    /// To the key with this thumbprint.
    pub(crate) fn to_key(thumbprint: Digest) -> Self {
        let jkt = ("jkt".to_owned(), Value::from(thumbprint.to_text()));
        Self(Map::from_iter([jkt]))
    }

    /// The value of `cnf`.
    pub fn into_cnf(self) -> Value {
        Value::Object(self.0)
    }
}
