//! A request body, and the arguments in it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, header};
use memchr::memchr_iter;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::call::Unobservable;
use crate::found_key::{KeyFate, Notes};
use crate::head::{Pair, pairs};
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

/// The arguments that a body was read for.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) arguments: Value,
    /// The body without the keys that were in it, where some came off.
    pub(crate) rewritten: Option<Bytes>,
}

/// Reads a JSON body, or the fields of a form. A body without a type is taken for JSON: whoever
/// guesses, guesses that.
pub(crate) fn arguments(
    headers: &HeaderMap,
    bytes: &[u8],
    notes: &mut Notes<'_>,
) -> Result<Read, Unobservable> {
    match language(headers)? {
        Language::Json => parse(bytes, notes),
        Language::Form => form(bytes, notes),
    }
}

/// Reads a body that must be JSON.
pub(crate) fn json(
    headers: &HeaderMap,
    bytes: &[u8],
    notes: &mut Notes<'_>,
) -> Result<Read, Unobservable> {
    if language(headers)? != Language::Json {
        return Err(Unobservable::BodyType("a form, not JSON".to_owned()));
    }
    parse(bytes, notes)
}

fn parse(bytes: &[u8], notes: &mut Notes<'_>) -> Result<Read, Unobservable> {
    let unreadable = |error: &dyn fmt::Display| Unobservable::Body(error.to_string());
    let mut arguments = json::parse(bytes).map_err(|error| unreadable(&error))?;
    let mut rewritten = None;
    if may_hold_key(bytes) && take_keys(&mut arguments, notes)? {
        let text = serde_json::to_vec(&arguments).map_err(|error| unreadable(&error))?;
        rewritten = Some(text.into());
    }
    Ok(Read {
        arguments,
        rewritten,
    })
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

fn form(bytes: &[u8], notes: &mut Notes<'_>) -> Result<Read, Unobservable> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Unobservable::Body("form is not ASCII".to_owned()))?;
    let mut pairs =
        pairs(text).map_err(|problem| Unobservable::Body(format!("form: {problem}")))?;
    let rewritten = take_pairs(&mut pairs, notes)?.then(|| {
        let wire: Vec<&str> = pairs.iter().map(|pair| &*pair.wire).collect();
        wire.join("&").into()
    });
    let fields: Map<String, Value> = pairs
        .into_iter()
        .map(|pair| (pair.key, Value::String(pair.value)))
        .collect();
    Ok(Read {
        arguments: Value::Object(fields),
        rewritten,
    })
}

/// Takes every key out of a form that does not pass; answers whether it was changed.
fn take_pairs(pairs: &mut [Pair], notes: &mut Notes<'_>) -> Result<bool, Unobservable> {
    let mut taking = Taking::new(notes);
    for pair in pairs {
        taking.name(&pair.key);
        taking.enter(&pair.key);
        let is_named = keys::is_form_field(&pair.key);
        if let Some(masked) = taking.text(&pair.value, is_named) {
            let name = pair.wire.split_once('=').map_or("", |(name, _)| name);
            let value = utf8_percent_encode(&masked, NON_ALPHANUMERIC);
            pair.wire = format!("{name}={value}");
            pair.value = masked;
        }
        taking.leave();
    }
    taking.end()
}

/// Takes every key out of arguments that does not pass; answers whether they were changed.
fn take_keys(arguments: &mut Value, notes: &mut Notes<'_>) -> Result<bool, Unobservable> {
    let mut taking = Taking::new(notes);
    taking.value(arguments);
    taking.end()
}

/// A walk through arguments, on which keys are taken out of them.
struct Taking<'n, 'k> {
    notes: &'n mut Notes<'k>,
    /// How many keys were known before.
    before: usize,
    /// Where it is: a JSON pointer (RFC 6901).
    place: String,
    /// Where the names end of what it is in.
    outer: Vec<usize>,
    has_changed: bool,
    /// There is a key that may not go on, where none can be taken out.
    is_refused: bool,
}

impl<'n, 'k> Taking<'n, 'k> {
    fn new(notes: &'n mut Notes<'k>) -> Self {
        Self {
            before: notes.keys.len(),
            notes,
            place: "body:".to_owned(),
            outer: Vec::new(),
            has_changed: false,
            is_refused: false,
        }
    }

    /// Recursion is bounded by the depth that [`json::parse`] allows.
    fn value(&mut self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => {
                if let Some(masked) = self.text(text, false) {
                    *text = masked;
                }
            }
            Value::Array(values) => {
                for (at, value) in values.iter_mut().enumerate() {
                    self.enter(&at.to_string());
                    self.value(value);
                    self.leave();
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    self.name(name);
                    self.enter(name);
                    self.value(value);
                    self.leave();
                }
            }
        }
    }

    /// A text, and what is to stand in its place, if something is. `is_key`: its name says that it is one.
    fn text(&mut self, text: &str, is_key: bool) -> Option<String> {
        if (!is_key && !keys::may_hold(text.as_bytes())) || self.notes.is_none(text) {
            return None;
        }
        let passes = self.notes.passes(text.as_bytes());
        let fate = self.notes.fate(passes);
        let is_known = self.notes.note_known(&self.place, text.as_bytes(), fate);
        if is_key && !is_known {
            let (place, key) = (&self.place, text.as_bytes());
            self.notes.note(place, keys::UNKNOWN, key, fate);
        }
        if !is_key && !is_known {
            return None;
        }
        match fate {
            KeyFate::Reported => None,
            KeyFate::Refused => {
                self.is_refused = true;
                None
            }
            KeyFate::Stripped => {
                self.has_changed = true;
                Some(if is_key {
                    keys::MASK.to_owned()
                } else {
                    keys::masked(text).into_owned()
                })
            }
        }
    }

    /// The name of a member: another can't be given to it.
    fn name(&mut self, name: &str) {
        if !keys::may_hold(name.as_bytes()) {
            return;
        }
        let passes = self.notes.passes(name.as_bytes());
        let fate = match self.notes.fate(passes) {
            KeyFate::Reported => KeyFate::Reported,
            KeyFate::Stripped | KeyFate::Refused => KeyFate::Refused,
        };
        let is_key = self.notes.note_known(&self.place, name.as_bytes(), fate);
        self.is_refused |= is_key && fate == KeyFate::Refused;
    }

    fn enter(&mut self, name: &str) {
        self.outer.push(self.place.len());
        self.place.push('/');
        // A name may itself be the secret.
        let shown = keys::masked(name);
        self.place
            .push_str(&shown.replace('~', "~0").replace('/', "~1"));
    }

    fn leave(&mut self) {
        if let Some(end) = self.outer.pop() {
            self.place.truncate(end);
        }
    }

    /// Refuses arguments with keys that may not go on.
    fn end(self) -> Result<bool, Unobservable> {
        if !self.is_refused {
            return Ok(self.has_changed);
        }
        // With the call nothing of it goes on.
        for key in self.notes.keys.iter_mut().skip(self.before) {
            key.fate = KeyFate::Refused;
        }
        Err(Unobservable::KeyRefused("body".to_owned()))
    }
}

#[cfg(test)]
mod tests;
