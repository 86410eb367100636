//! What a token endpoint answers an agent: the same, with phantoms in place of the tokens.
//!
//! The answer is held until it is whole. One that can't be read may hold a token anywhere, and is refused.

use std::borrow::Cow;

use bytes::Bytes;
use credentials::{Keeper, Unkept};
use http::StatusCode;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, SET_COOKIE, TRANSFER_ENCODING,
};
use pingora_core::BError;
use pingora_http::ResponseHeader;
use serde_json::{Map, Value};
use zeroize::Zeroize;

use crate::scrub::{Asked, DIGESTS, Decoder, Unscrubbable};

/// The most that such an answer has, in bytes: tokens are a few KiB.
const LONGEST: usize = 64 << 10;

/// One answer of a token endpoint.
pub(crate) struct TokenAnswer {
    keeper: Keeper,
    decoder: Option<Decoder>,
    text: Vec<u8>,
    /// Whether there is a body at all.
    is_awaited: bool,
}

/// An answer that may hold a token that nobody took out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untaken {
    /// It is something else.
    #[error("answer of the token endpoint is no JSON")]
    Type,
    /// Its coding can't be undone.
    #[error(transparent)]
    Coding(#[from] Unscrubbable),
    /// It leads elsewhere, perhaps with a token.
    #[error("token endpoint redirects")]
    Redirect,
    /// It is not what it says it is.
    #[error("answer of the token endpoint is not the JSON that it says it is")]
    Broken,
    /// It is too long.
    #[error("answer of the token endpoint is over 64 KiB")]
    TooLong,
    /// A token in it is not a text.
    #[error("answer of the token endpoint has a token that is no text")]
    Odd,
    /// It is a text or a number, and not a list of fields that say what it is.
    #[error("answer of the token endpoint has no fields")]
    Scalar,
    /// Something in it looks like a key, and stands where none is looked for.
    #[error("answer of the token endpoint has a key where it should have none")]
    Key,
    /// It can't be kept.
    #[error(transparent)]
    Unkept(#[from] Unkept),
    /// The head can't be changed.
    #[error("head of the answer can't be changed: {0}")]
    Head(BError),
}

impl TokenAnswer {
    pub(crate) fn new(keeper: Keeper) -> Self {
        Self {
            keeper,
            decoder: None,
            text: Vec::new(),
            is_awaited: false,
        }
    }

    /// Sees from the head how the body is to be read, and says of it what will be true.
    pub(crate) fn head(
        &mut self,
        response: &mut ResponseHeader,
        asked: Asked<'_>,
    ) -> Result<(), Untaken> {
        response.remove_header(&SET_COOKIE);
        let status = response.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Untaken::Type);
        }
        if status.is_redirection() && response.headers.contains_key(LOCATION) {
            return Err(Untaken::Redirect);
        }
        if asked.is_bodiless(status) {
            return Ok(());
        }
        let mut transfer = response.headers.get_all(TRANSFER_ENCODING).iter();
        if transfer.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Untaken::Coding(Unscrubbable::Coding));
        }
        if response
            .headers
            .get(CONTENT_LENGTH)
            .is_some_and(|it| it == "0")
        {
            return Ok(());
        }
        let kind = response.headers.get(CONTENT_TYPE);
        let is_json = kind.is_none_or(|kind| is_json(kind.as_bytes()));
        if !is_json {
            return Err(Untaken::Type);
        }
        self.is_awaited = true;
        self.decoder = Decoder::of(&response.headers)?;
        response.remove_header(&CONTENT_ENCODING);
        for digest in &DIGESTS {
            response.remove_header(digest);
        }
        if response.remove_header(&CONTENT_LENGTH).is_some() && !asked.is_http2 {
            response
                .insert_header(TRANSFER_ENCODING, "chunked")
                .map_err(Untaken::Head)?;
        }
        Ok(())
    }

    /// Takes a piece of the body; the whole stands there after the last.
    pub(crate) fn body(&mut self, body: &mut Option<Bytes>, is_last: bool) -> Result<(), Untaken> {
        let mut piece = body.take().unwrap_or_default();
        if let Some(decoder) = &mut self.decoder {
            piece = decoder.decode(&piece, is_last)?;
        }
        if self.text.len().saturating_add(piece.len()) > LONGEST {
            return Err(Untaken::TooLong);
        }
        if !piece.is_empty() && !self.is_awaited {
            return Err(Untaken::Type);
        }
        self.text.extend_from_slice(&piece);
        if is_last {
            let mut text = std::mem::take(&mut self.text);
            self.is_awaited = false;
            self.decoder = None;
            let taken = self.take(&text);
            text.zeroize();
            *body = taken?;
        }
        Ok(())
    }

    fn take(&mut self, text: &[u8]) -> Result<Option<Bytes>, Untaken> {
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let mut answer: Value = serde_json::from_slice(text).map_err(|_| Untaken::Broken)?;
        match answer {
            Value::Object(_) | Value::Array(_) => self.take_value(&mut answer, None)?,
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(Untaken::Scalar),
        }
        Ok(Some(answer.to_string().into()))
    }

    /// `within` is the token of which this is, or is a part.
    fn take_value(&mut self, value: &mut Value, within: Option<Within>) -> Result<(), Untaken> {
        match (value, within) {
            (Value::Object(fields), within) => self.take_fields(fields, within),
            (Value::Array(items), within) => items
                .iter_mut()
                .try_for_each(|item| self.take_value(item, within)),
            (Value::String(text), None) => self.take_text(text),
            (Value::String(text), Some(_)) if text.is_empty() => Ok(()),
            (Value::String(token), Some(within)) => {
                let phantom = match within.kind {
                    Kind::Id if is_jwt(token) => self.keeper.keep_claims(token)?,
                    Kind::Access => self.keeper.keep(token, within.lives)?,
                    Kind::Id | Kind::Other => self.keeper.keep(token, None)?,
                };
                token.zeroize();
                *token = phantom;
                Ok(())
            }
            (Value::Null, _) | (Value::Bool(_) | Value::Number(_), None) => Ok(()),
            (Value::Bool(_) | Value::Number(_), Some(_)) => Err(Untaken::Odd),
        }
    }

    fn take_fields(
        &mut self,
        fields: &mut Map<String, Value>,
        within: Option<Within>,
    ) -> Result<(), Untaken> {
        let lives = fields.get("expires_in").and_then(Value::as_i64);
        let lives = lives.or_else(|| within.and_then(|within| within.lives));
        for (key, value) in fields {
            check_text(key)?;
            let name = joined(key);
            let kind = Kind::of(&name, within.map(|within| within.kind));
            let is_scalar = !matches!(value, Value::Object(_) | Value::Array(_));
            let kind = kind.filter(|_| !(is_scalar && describes(&name)));
            let within = kind.map(|kind| Within { kind, lives });
            self.take_value(value, within)?;
        }
        Ok(())
    }

    /// A text that is no token; JSON in it is looked at as if it stood there.
    fn take_text(&mut self, text: &mut String) -> Result<(), Untaken> {
        if text.trim_start().starts_with(['{', '['])
            && let Ok(mut inner) = serde_json::from_str::<Value>(text)
        {
            self.take_value(&mut inner, None)?;
            text.zeroize();
            *text = inner.to_string();
            return Ok(());
        }
        check_text(text)
    }
}

/// A token that is gone into.
#[derive(Clone, Copy)]
struct Within {
    kind: Kind,
    /// Seconds.
    lives: Option<i64>,
}

/// What a token is, as far as it makes a difference.
#[derive(Clone, Copy)]
enum Kind {
    /// `expires_in` is said of it.
    Access,
    /// Its claims are for the agent.
    Id,
    Other,
}

impl Kind {
    /// What stands in a field of this name, which may itself be a part of a token.
    fn of(name: &str, within: Option<Self>) -> Option<Self> {
        match name {
            "idtoken" => Some(Self::Id),
            "id" if within.is_some() => Some(Self::Id),
            "accesstoken" | "token" | "access" => Some(Self::Access),
            "refresh" => Some(Self::Other),
            name if ["token", "tokens", "jwt"]
                .iter()
                .any(|end| name.ends_with(end)) =>
            {
                Some(Self::Other)
            }
            _ => within,
        }
    }
}

/// Whether a field beside a token says something of it: `token_type`, `expires_in`, `scope` (RFC 6749, section 5.1),
/// and what is like them.
fn describes(name: &str) -> bool {
    matches!(
        name,
        "scope" | "scopes" | "exp" | "iat" | "nbf" | "ttl" | "createdat" | "issuedat"
    ) || name.starts_with("expire")
        || name.ends_with("type")
        || name.ends_with("expiresin")
        || name.ends_with("expiresat")
}

/// What is left is no key of a known format.
fn check_text(text: &str) -> Result<(), Untaken> {
    match call::masked(text) {
        Cow::Borrowed(_) => Ok(()),
        Cow::Owned(_) => Err(Untaken::Key),
    }
}

impl Drop for TokenAnswer {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// A name without what joins its words: `access_token`, `accessToken`.
fn joined(key: &str) -> String {
    let letters = key.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

fn is_jwt(token: &str) -> bool {
    token.starts_with("eyJ") && token.split('.').count() == 3
}

fn is_json(kind: &[u8]) -> bool {
    let kind = String::from_utf8_lossy(kind).to_ascii_lowercase();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}
