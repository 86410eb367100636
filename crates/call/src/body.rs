//! A request body, and the arguments in it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, header};
use memchr::memchr_iter;
use serde_json::{Map, Value};

use crate::call::Unobservable;
use crate::head::{Pair, pairs};
use crate::phantom::is_phantom;
use crate::placeholder::Placeholder;
use crate::tools::BodyKeys;
use crate::{json, keys};

/// A request body as far as it was read.
#[derive(Clone)]
pub enum Body {
    /// There is none.
    Empty,
    /// All of it.
    Whole(Bytes),
    /// It streams.
    Streamed,
}

impl Body {
    /// The bytes that were read, if there are any.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Whole(bytes) if !bytes.is_empty() => Some(bytes),
            Self::Empty | Self::Whole(_) | Self::Streamed => None,
        }
    }
}

// By hand, since a body may be large and private.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Streamed => f.write_str("Streamed"),
        }
    }
}

/// What a body's arguments are written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Language {
    Json,
    Form,
}

/// Reads a JSON body, or the fields of a form. A body without a type is taken for JSON: whoever
/// guesses, guesses that.
pub(crate) fn arguments(
    headers: &HeaderMap,
    bytes: &[u8],
    body_keys: BodyKeys,
    placeholders: &[Placeholder],
) -> Result<Value, Unobservable> {
    match language(headers)? {
        Language::Json => parse(bytes, body_keys),
        Language::Form => form(bytes, body_keys, placeholders),
    }
}

/// Reads a body that must be JSON.
pub(crate) fn json(
    headers: &HeaderMap,
    bytes: &[u8],
    body_keys: BodyKeys,
) -> Result<Value, Unobservable> {
    if language(headers)? != Language::Json {
        return Err(Unobservable::BodyType("a form, not JSON".to_owned()));
    }
    parse(bytes, body_keys)
}

fn parse(bytes: &[u8], body_keys: BodyKeys) -> Result<Value, Unobservable> {
    let value = json::parse(bytes).map_err(|error| Unobservable::Body(error.to_string()))?;
    if may_hold_key(bytes) {
        check_keys(&value, body_keys)?;
    }
    Ok(value)
}

/// Whether some text in a JSON text may hold a key of a known format. One look at all of it tells most: no escape but
/// `\u` stands for a character that the prefixes of keys are made of, so without one they stand there as they are.
fn may_hold_key(json: &[u8]) -> bool {
    keys::may_hold(json) || memchr_iter(b'\\', json).any(|at| json.get(at + 1) == Some(&b'u'))
}

/// Whether a body is a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    language(headers).is_ok_and(|language| language == Language::Form)
}

fn language(headers: &HeaderMap) -> Result<Language, Unobservable> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Language::Json);
    };
    let Ok(text) = value.to_str() else {
        return Err(Unobservable::BodyType("it is not ASCII".to_owned()));
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let is_utf8 = ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|charset| value.trim().trim_matches('"').eq_ignore_ascii_case(charset));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(Unobservable::BodyType(
                "a charset other than UTF-8".to_owned(),
            ));
        }
    }
    match essence.as_str() {
        "application/json" => Ok(Language::Json),
        "application/x-www-form-urlencoded" => Ok(Language::Form),
        suffixed if suffixed.ends_with("+json") => Ok(Language::Json),
        other => Err(Unobservable::BodyType(format!("`{other}`"))),
    }
}

fn form(
    bytes: &[u8],
    body_keys: BodyKeys,
    placeholders: &[Placeholder],
) -> Result<Value, Unobservable> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Unobservable::Body("form is not ASCII".to_owned()))?;
    let pairs = pairs(text).map_err(|problem| Unobservable::Body(format!("form: {problem}")))?;
    let is_none = |text: &str| {
        is_phantom(text)
            || placeholders
                .iter()
                .any(|placeholder| placeholder.text == *text)
    };
    let is_key = |pair: &Pair| keys::is_form_field(&pair.key) && !is_none(&pair.value);
    let has_key = pairs.iter().any(is_key);
    if has_key && body_keys == BodyKeys::Refuse {
        return Err(Unobservable::KeyRefused("body".to_owned()));
    }
    let fields: Map<String, Value> = pairs
        .into_iter()
        .map(|pair| (pair.key, Value::String(pair.value)))
        .collect();
    let value = Value::Object(fields);
    check_keys(&value, body_keys)?;
    Ok(value)
}

/// Refuses arguments that hold a key of a known format: a body is never edited, and a key of the
/// agent's is never forwarded.
fn check_keys(value: &Value, body_keys: BodyKeys) -> Result<(), Unobservable> {
    if body_keys == BodyKeys::Refuse && holds_key(value) {
        return Err(Unobservable::KeyRefused("body".to_owned()));
    }
    Ok(())
}

/// Recursion is bounded by the depth that [`json::parse`] allows.
fn holds_key(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => keys::find(text.as_bytes()).is_some(),
        Value::Array(values) => values.iter().any(holds_key),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| keys::find(key.as_bytes()).is_some() || holds_key(value)),
    }
}

#[cfg(test)]
mod tests;
