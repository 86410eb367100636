//! What a token endpoint answers, as far as it is believed.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::{ProviderError, Secret};

/// The longest life that is believed, in seconds: a year. What lives longer is a static key.
const LONGEST_LIFE: u64 = 366 * 86_400;

/// A token, as RFC 6749, section 5.1 has it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) access_token: Secret,
    pub(crate) refresh_token: Option<Secret>,
    /// Who consented, where a person did.
    pub(crate) id_token: Option<Zeroizing<String>>,
    /// What it is for, where it says so.
    pub(crate) scopes: Option<Vec<String>>,
    /// Why it may not be used all the same; it can be taken back.
    pub(crate) objection: Option<&'static str>,
    pub(crate) expires_in: Option<u64>,
}

/// What it must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// The scopes asked for; if none were, whatever comes is the server's choice.
    pub(crate) scopes: &'a [String],
    /// Whether it must say what kind of token it is (RFC 8693, section 2.2.1).
    pub(crate) issued: Issued,
}

/// Whether an answer says what kind of token was issued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Issued {
    Said,
    Unsaid,
}

/// Keys that are not known here are the server's own; one that stands twice is refused.
#[derive(Deserialize)]
struct Raw {
    #[serde(deserialize_with = "wiped")]
    access_token: Zeroizing<String>,
    token_type: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default, deserialize_with = "wiped_if_there")]
    refresh_token: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "wiped_if_there")]
    id_token: Option<Zeroizing<String>>,
    #[serde(default)]
    issued_token_type: Option<String>,
}

/// Reads a text that is wiped.
pub(crate) fn wiped<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

fn wiped_if_there<'de, D: Deserializer<'de>>(
    text: D,
) -> Result<Option<Zeroizing<String>>, D::Error> {
    Option::<String>::deserialize(text).map(|text| text.map(Zeroizing::new))
}

impl Answer {
    /// Reads an answer; nothing of it is repeated in an error.
    pub(crate) fn read(document: &[u8], expected: Expected<'_>) -> Result<Self, ProviderError> {
        // There is a token, and nobody can take it back.
        Self::parse(document, expected).map_err(ProviderError::lost)
    }

    fn parse(document: &[u8], expected: Expected<'_>) -> Result<Self, ProviderError> {
        let raw: Raw = serde_json::from_slice(document).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            failed(&format!(
                "token endpoint's answer is not one with a token, at line {line} column {column}"
            ))
        })?;
        let objection = raw.objection(expected);
        Ok(Self {
            access_token: secret(&raw.access_token)?,
            refresh_token: raw.refresh_token.as_ref().map(secret).transpose()?,
            objection,
            expires_in: raw.expires_in,
            scopes: raw.scope.as_deref().map(scopes),
            id_token: raw.id_token,
        })
    }
}

/// The refresh token of an answer, whatever becomes of the rest: with it, the one of before is worth nothing any more.
pub(crate) fn refresh_token(document: &[u8]) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Replacing {
        #[serde(deserialize_with = "wiped")]
        refresh_token: Zeroizing<String>,
    }
    let replacing: Replacing = serde_json::from_slice(document).ok()?;
    secret(&replacing.refresh_token).ok()
}

impl Raw {
    fn objection(&self, expected: Expected<'_>) -> Option<&'static str> {
        if !self.token_type.eq_ignore_ascii_case("bearer") {
            return Some("its token is not a bearer token");
        }
        match self.expires_in {
            Some(0) => return Some("its token was expired on arrival"),
            Some(life) if life > LONGEST_LIFE => return Some("its token lives for over a year"),
            Some(_) | None => {}
        }
        // RFC 8693, section 3.
        let issued = self.issued_token_type.as_deref();
        let kinds = [
            "urn:ietf:params:oauth:token-type:access_token",
            "urn:ietf:params:oauth:token-type:jwt",
        ];
        match issued {
            Some(kind) if !kinds.contains(&kind) => {
                return Some("its token is not an access token");
            }
            None if expected.issued == Issued::Said => {
                return Some("it does not say which kind of token it is");
            }
            Some(_) | None => {}
        }
        let granted = self.scope.as_deref().unwrap_or_default();
        let mut granted = granted.split_ascii_whitespace();
        let is_asked = |one: &str| expected.scopes.iter().any(|asked| asked == one);
        if !expected.scopes.is_empty() && !granted.all(is_asked) {
            return Some("its token has a scope that was not asked for");
        }
        None
    }
}

fn scopes(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// RFC 6749, appendix A.12: visible characters.
pub(crate) fn secret(text: &Zeroizing<String>) -> Result<Secret, ProviderError> {
    if !text
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic())
    {
        return Err(failed(
            "token endpoint's answer has a token with characters that no token has",
        ));
    }
    Secret::new(text.as_bytes().to_vec())
}

fn failed(cause: &str) -> ProviderError {
    ProviderError::Failed(cause.to_owned())
}
