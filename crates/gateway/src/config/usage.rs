//! `tools.N.usage` and `tools.N.resource`: what calls cost, and what they are made on.

use call::{Meter, MeterSource, PathStart, ResourceRule};
use http::HeaderName;
use serde_json::{Value, json};
use tasks::{Access, Amount, ArgumentPointer, OperationPattern, Unit};

use super::mistake::{At, Notes};
use super::node::Kind;
use super::scalar::{Count, parse_said};
use super::shape::{Here, Shape, section};

section! {
    /// How what some calls of a tool cost is read from their answers.
    struct RawUsage {
        /// What is counted, such as `tokens` or `usd`: budgets of tasks name it.
        unit: Unit = required;
        /// The operations, as in grants; all unless given.
        operations: Vec<At<OperationPattern>> = default([]);
        /// The access classes; all unless given.
        access: Vec<At<Access>> = default([]);
        /// Pointers (RFC 6901) to a number in a JSON answer, or in the JSON of the events or lines that it streams. The largest number found at one of them counts.
        json: Vec<At<Pointer>> = optional;
        /// The header of the answer that says the number.
        header: HeaderName = optional;
        /// What `per` of the number found cost.
        price: Amount = default(1);
        /// How many of the number found cost `price`.
        per: Count = default(1);
        /// The most that one call is expected to cost. It is held of the budget before the call, and counts where the answer does not say what it cost. With neither `json` nor `header` each call costs this.
        reserve: Amount = required;
    }
}

section! {
    /// What calls are made on, as `limits.resources` of a task counts it: the tool and the whole path, or the operation's name, unless said otherwise.
    struct RawResource {
        /// Beginnings of paths such as `/repos/*/*`: a call below one is made on what it matched.
        paths: Vec<At<PathStart>> = default([]);
        /// Pointers (RFC 6901) into the arguments, whose values tell resources apart, too.
        arguments: Vec<At<Pointer>> = default([]);
        /// Keys of the query, whose values tell resources apart, too.
        query: Vec<At<String>> = default([]);
    }
}

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug)]
pub(super) struct Pointer(pub(super) ArgumentPointer);

impl Shape for Pointer {
    fn schema() -> Value {
        json!({ "type": "string", "title": "JSON pointer", "format": "json-pointer",
                "examples": ["/usage/total_tokens"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "a JSON pointer such as `/usage/total_tokens`";
        let text = here.text(expects, notes)?;
        match text.parse() {
            Ok(pointer) => Some(Self(pointer)),
            Err(_) => here.wrong_value(format!("expected {expects}"), notes),
        }
    }
}

impl Shape for Unit {
    fn schema() -> Value {
        json!({ "type": "string", "title": "unit", "pattern": "^[a-z][a-z0-9_]{0,31}$",
                "examples": ["tokens", "usd"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "a unit such as `tokens`", notes)
    }
}

impl Shape for PathStart {
    fn schema() -> Value {
        json!({ "type": "string", "title": "beginning of a path", "examples": ["/repos/*/*"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        parse_said(here, "the beginning of a path such as `/repos/*/*`", notes)
    }
}

impl Shape for Amount {
    fn schema() -> Value {
        json!({ "type": "number", "title": "amount", "minimum": 0, "maximum": 1_000_000_000,
                "multipleOf": 0.000_001 })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let Kind::Scalar(Value::Number(number)) = &here.node.kind else {
            return here.wrong_type("a number", notes);
        };
        let number = number.as_f64().unwrap_or(f64::NAN);
        match Self::try_from(number) {
            Ok(amount) => Some(amount),
            Err(error) => here.wrong_value(error.to_string(), notes),
        }
    }
}

impl RawUsage {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<Meter> {
        let source = match (self.json, self.header) {
            (Some(json), Some(_)) => {
                let message = "an answer tells it in `json` or in a `header`, not in both";
                notes.mistake(&json.place, "wrong_value", message);
                return None;
            }
            (Some(json), None) => {
                let pointers = json.value.into_iter().map(|pointer| pointer.value.0);
                MeterSource::Json(pointers.collect())
            }
            (None, Some(header)) => MeterSource::Header(header.value),
            (None, None) => MeterSource::Fixed,
        };
        #[expect(clippy::cast_precision_loss, reason = "it is a u32")]
        let per = self.per?.value.0 as f64;
        let operations = self.operations?.value.into_iter();
        let access = self.access?.value.into_iter();
        let reserve = self.reserve?;
        if reserve.value == Amount::ZERO {
            let message = "a call that may cost something has at least a little held for it";
            notes.mistake(&reserve.place, "wrong_value", message);
        }
        Some(Meter {
            unit: self.unit?.value,
            operations: operations.map(|pattern| pattern.value).collect(),
            access: access.map(|access| access.value).collect(),
            source,
            price: self.price?.value.as_f64() / per,
            reserve: reserve.value,
        })
    }
}

impl RawResource {
    /// `is_read`: whether the arguments of the tool's calls are.
    pub(super) fn parse(self, is_read: bool, notes: &mut Notes) -> Option<ResourceRule> {
        let paths = self.paths?.value.into_iter();
        let arguments = self.arguments?;
        if !is_read && !arguments.value.is_empty() {
            let message = "the arguments of this tool's calls are not read: write `body: inspect`, and no `grpc`";
            notes.mistake(&arguments.place, "body_needed", message);
        }
        let arguments = arguments.value.into_iter();
        let query = self.query?.value.into_iter();
        Some(ResourceRule {
            paths: paths.map(|path| path.value).collect(),
            arguments: arguments.map(|pointer| pointer.value.0).collect(),
            query: query.map(|key| key.value).collect(),
        })
    }
}
