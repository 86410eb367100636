//! What one argument of a call must be, for a grant to cover it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::pattern::covers_name;
use crate::pointer::Found;

// Our own bounds.
const MAX_CHOICES: usize = 100;
const MAX_TEXT: usize = 1024;

/// What one argument must be: one thing of `{"one_of": […]}` (texts, numbers, booleans, null), `{"pattern": "repo-*"}`,
/// `{"min": 1, "max": 10}` (either may be left out), `{"max_length": 80}` and `{"absent": true}`.
///
/// Values are compared as they are: texts by their code points, numbers by what they are worth (1 and 1.0 are one), and no text is a
/// number. A number that readers don't agree on (of 2^53 and more) is none that is allowed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Condition(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Scalars, their numbers exact.
    OneOf(Box<[Value]>),
    Pattern(TextPattern),
    /// Both inclusive and exact; at least one is there.
    Range {
        min: Option<Number>,
        max: Option<Number>,
    },
    /// A text, in characters (Unicode scalar values).
    MaxLength(u64),
    Absent,
}

/// A text in which `*` stands for any characters, none included, but for control characters and for what makes a path lead elsewhere.
#[derive(Clone, Debug)]
struct TextPattern {
    text: Box<str>,
    /// The text between the stars.
    pieces: Box<[Box<str>]>,
}

/// A condition as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_length: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absent: Option<bool>,
}

impl Condition {
    /// Whether it holds for what stands where it is asked for.
    pub(crate) fn holds(&self, found: Found<'_>) -> bool {
        match (&self.0, found) {
            (_, Found::Doubtful) => false,
            (Kind::Absent, Found::Missing) => true,
            (Kind::Absent, Found::Value(_)) | (_, Found::Missing) => false,
            (Kind::OneOf(choices), Found::Value(value)) => {
                choices.iter().any(|choice| is_same(choice, value))
            }
            (Kind::Pattern(pattern), Found::Value(value)) => {
                value.as_str().is_some_and(|text| pattern.covers(text))
            }
            (Kind::Range { min, max }, Found::Value(value)) => {
                value.as_number().is_some_and(|number| {
                    let (min, max) = (min.as_ref(), max.as_ref());
                    is_exact(number)
                        && min.is_none_or(|min| is_at_most(min, number))
                        && max.is_none_or(|max| is_at_most(number, max))
                })
            }
            (Kind::MaxLength(most), Found::Value(value)) => {
                value.as_str().is_some_and(|text| length(text) <= *most)
            }
        }
    }

    /// Whether the other one holds wherever this one does. It may say no where it does hold; never yes where it doesn't.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::OneOf(choices), _) => choices
                .iter()
                .all(|choice| other.holds(Found::Value(choice))),
            (Kind::Pattern(pattern), Kind::Pattern(wider)) => pattern.within(wider),
            (Kind::Pattern(pattern), Kind::OneOf(_) | Kind::MaxLength(_)) => pattern
                .literal()
                .is_some_and(|text| other.holds(Found::Value(&Value::from(text)))),
            (
                Kind::Range { min, max },
                Kind::Range {
                    min: low,
                    max: high,
                },
            ) => {
                let is_above = |low: &Number| min.as_ref().is_some_and(|min| is_at_most(low, min));
                let is_below =
                    |high: &Number| max.as_ref().is_some_and(|max| is_at_most(max, high));
                low.as_ref().is_none_or(is_above) && high.as_ref().is_none_or(is_below)
            }
            (
                Kind::Range {
                    min: Some(min),
                    max: Some(max),
                },
                Kind::OneOf(_),
            ) => {
                // A single number.
                is_at_most(max, min) && other.holds(Found::Value(&Value::Number(min.clone())))
            }
            (Kind::MaxLength(most), Kind::MaxLength(other)) => most <= other,
            (Kind::Absent, Kind::Absent) => true,
            (Kind::Pattern(_), Kind::Range { .. } | Kind::Absent)
            | (
                Kind::Range { .. },
                Kind::OneOf(_) | Kind::Pattern(_) | Kind::MaxLength(_) | Kind::Absent,
            )
            | (
                Kind::MaxLength(_),
                Kind::OneOf(_) | Kind::Pattern(_) | Kind::Range { .. } | Kind::Absent,
            )
            | (
                Kind::Absent,
                Kind::OneOf(_) | Kind::Pattern(_) | Kind::Range { .. } | Kind::MaxLength(_),
            ) => false,
        }
    }
}

/// 2^53, from where on doubles leave whole numbers out: readers differ over what is written.
const COARSE: f64 = 9_007_199_254_740_992.0;

/// Whether every reader takes a number for the same one, and a double holds it.
fn is_exact(number: &Number) -> bool {
    number.as_f64().is_some_and(|double| double.abs() < COARSE)
}

/// Exact where both are.
fn is_at_most(one: &Number, other: &Number) -> bool {
    match (one.as_i64(), other.as_i64()) {
        (Some(one), Some(other)) => one <= other,
        _ => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => one <= other,
            _ => false,
        },
    }
}

fn is_same(choice: &Value, value: &Value) -> bool {
    match (choice, value) {
        (Value::Number(choice), Value::Number(number)) => {
            is_exact(number) && is_at_most(choice, number) && is_at_most(number, choice)
        }
        _ => choice == value,
    }
}

fn length(text: &str) -> u64 {
    u64::try_from(text.chars().count()).unwrap_or(u64::MAX)
}

impl TextPattern {
    fn covers(&self, text: &str) -> bool {
        covers_name(&self.pieces, text) && (self.literal().is_some() || is_plain(text))
    }

    fn within(&self, other: &Self) -> bool {
        match self.literal() {
            Some(text) => other.covers(text),
            // A star is none of the other's letters, so only a star of the other takes it.
            None => covers_name(&other.pieces, &self.text),
        }
    }

    /// The one text that it covers, if it has no star.
    fn literal(&self) -> Option<&str> {
        match &*self.pieces {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// Whether a text, taken for a path, leads where it says, also once it is decoded: no dot segments, no encoded dots, separators or
/// percent signs. Control characters, which end texts and lines for some readers, are not plain either.
fn is_plain(text: &str) -> bool {
    let is_dots = |segment: &str| {
        // Servers cut parameters off: `..;x`.
        let name = segment.split(';').next().unwrap_or_default().trim();
        name == "." || name == ".."
    };
    let is_encoded = |after: &str| {
        let octet = after.get(..2).map(str::to_ascii_lowercase);
        octet.is_some_and(|octet| matches!(octet.as_str(), "25" | "2e" | "2f" | "5c"))
    };
    !text.chars().any(char::is_control)
        && !text.split(['/', '\\']).any(is_dots)
        && !text.split('%').skip(1).any(is_encoded)
}

impl TryFrom<Raw> for Condition {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, &'static str> {
        let kinds = [
            raw.one_of.is_some(),
            raw.pattern.is_some(),
            raw.min.is_some() || raw.max.is_some(),
            raw.max_length.is_some(),
            raw.absent.is_some(),
        ];
        if kinds.into_iter().filter(|kind| *kind).count() != 1 {
            return Err(
                "a condition is one of `one_of`, `pattern`, `min` and `max`, `max_length`, `absent`",
            );
        }
        let kind = match raw {
            Raw {
                one_of: Some(choices),
                ..
            } => Kind::OneOf(check_choices(choices)?),
            Raw {
                pattern: Some(text),
                ..
            } => Kind::Pattern(text_pattern(&text)?),
            Raw {
                max_length: Some(most),
                ..
            } => Kind::MaxLength(most),
            Raw {
                absent: Some(true), ..
            } => Kind::Absent,
            Raw {
                absent: Some(false),
                ..
            } => return Err("`absent` is `true`, or left out"),
            Raw { min, max, .. } => range(min, max)?,
        };
        Ok(Self(kind))
    }
}

fn check_choices(choices: Vec<Value>) -> Result<Box<[Value]>, &'static str> {
    let is_choice = |choice: &Value| match choice {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => is_exact(number),
        Value::String(text) => text.len() <= MAX_TEXT,
        Value::Array(_) | Value::Object(_) => false,
    };
    if (1..=MAX_CHOICES).contains(&choices.len()) && choices.iter().all(is_choice) {
        Ok(choices.into())
    } else {
        Err(
            "`one_of` is 1 to 100 texts of at most 1024 bytes, numbers of at most 53 bits, booleans or null",
        )
    }
}

fn text_pattern(text: &str) -> Result<TextPattern, &'static str> {
    if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err("`pattern` is 1 to 1024 bytes without control characters");
    }
    Ok(TextPattern {
        text: text.into(),
        pieces: text.split('*').map(Into::into).collect(),
    })
}

fn range(min: Option<Number>, max: Option<Number>) -> Result<Kind, &'static str> {
    if ![&min, &max].into_iter().flatten().all(is_exact) {
        return Err("`min` and `max` are numbers of at most 53 bits");
    }
    if let (Some(min), Some(max)) = (&min, &max)
        && !is_at_most(min, max)
    {
        return Err("`min` is more than `max`");
    }
    Ok(Kind::Range { min, max })
}

impl From<Condition> for Raw {
    fn from(Condition(kind): Condition) -> Self {
        let mut raw = Self {
            one_of: None,
            pattern: None,
            min: None,
            max: None,
            max_length: None,
            absent: None,
        };
        match kind {
            Kind::OneOf(choices) => raw.one_of = Some(choices.into()),
            Kind::Pattern(pattern) => raw.pattern = Some(pattern.text.into()),
            Kind::Range { min, max } => (raw.min, raw.max) = (min, max),
            Kind::MaxLength(most) => raw.max_length = Some(most),
            Kind::Absent => raw.absent = Some(true),
        }
        raw
    }
}

/// As a person reads it, behind the argument's name: `is one of "a", "b"`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::OneOf(choices) => {
                let choices: Vec<String> = choices.iter().map(Value::to_string).collect();
                write!(f, "is one of {}", choices.join(", "))
            }
            Kind::Pattern(pattern) => write!(f, "is like {}", Value::from(&*pattern.text)),
            Kind::Range {
                min: Some(min),
                max: Some(max),
            } => write!(f, "is {min} to {max}"),
            Kind::Range {
                min: Some(min),
                max: None,
            } => write!(f, "is at least {min}"),
            Kind::Range {
                min: None,
                max: Some(max),
            } => write!(f, "is at most {max}"),
            Kind::Range {
                min: None,
                max: None,
            } => write!(f, "is a number"),
            Kind::MaxLength(most) => write!(f, "has at most {most} characters"),
            Kind::Absent => write!(f, "is absent"),
        }
    }
}

#[cfg(test)]
mod tests;
