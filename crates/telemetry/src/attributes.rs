//! Attributes of spans, events and the resource, written as OTLP's `KeyValue` messages.

use std::sync::Arc;
use std::time::Duration;

use prost::encoding::encoded_len_varint;

use crate::protobuf::{Message, with_length};

/// The attributes of one message, in the making.
#[derive(Debug)]
pub(crate) struct Attributes<'m> {
    message: &'m mut Message,
    field: u32,
}

impl<'m> Attributes<'m> {
    /// The attributes of a message that has them in this field.
    pub(crate) fn new(message: &'m mut Message, field: u32) -> Self {
        Self { message, field }
    }

    pub(crate) fn put<'v>(&mut self, key: &str, value: impl Into<Any<'v>>) {
        let value = value.into();
        let size = value.size();
        // Each of the two fields begins with one byte that says which it is.
        let pair = 1 + with_length(key.len()) + 1 + with_length(size);
        self.message.head(self.field, pair);
        self.message.text(KEY, key);
        self.message.head(VALUE, size);
        value.write(self.message);
    }

    pub(crate) fn maybe<'v>(&mut self, key: &str, value: Option<impl Into<Any<'v>>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    pub(crate) fn shared(&mut self, key: &str, value: Option<&Arc<str>>) {
        self.maybe(key, value.map(|text| &**text));
    }

    /// A text that a peer may have made as long as it likes.
    pub(crate) fn text(&mut self, key: &str, value: Option<&str>) {
        self.maybe(key, value.map(cut));
    }

    /// A list of texts.
    pub(crate) fn texts<'v>(&mut self, key: &str, values: impl Iterator<Item = &'v str>) {
        self.message.message(self.field, |pair| {
            pair.text(KEY, key);
            pair.message(VALUE, |value| {
                value.message(LIST, |list| {
                    for text in values {
                        list.message(LISTED, |value| value.text(TEXT, text));
                    }
                });
            });
        });
    }

    pub(crate) fn number(&mut self, key: &str, value: impl TryInto<i64>) {
        self.put(key, value.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn seconds(&mut self, key: &str, value: Option<Duration>) {
        self.maybe(key, value.map(|time| time.as_secs_f64()));
    }
}

/// The first 1,024 bytes: what peers say must not fill the collector. The audit has all of it.
pub(crate) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(1024)).unwrap_or(text)
}

/// The fields of `KeyValue`, and of `ArrayValue`.
const KEY: u32 = 1;
const VALUE: u32 = 2;
const LISTED: u32 = 1;

/// The kinds of `AnyValue` that an attribute of ours may be, by their fields.
const TEXT: u32 = 1;
const BOOL: u32 = 2;
const NUMBER: u32 = 3;
const DOUBLE: u32 = 4;
const LIST: u32 = 5;

/// An `AnyValue` of known size.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Any<'v> {
    Text(&'v str),
    Bool(bool),
    Number(i64),
    Double(f64),
}

impl Any<'_> {
    fn size(self) -> usize {
        match self {
            Self::Text(text) => 1 + with_length(text.len()),
            Self::Bool(_) => 1 + 1,
            Self::Number(number) => 1 + encoded_len_varint(number.cast_unsigned()),
            Self::Double(_) => 1 + 8,
        }
    }

    /// Written even where it is a default: an `AnyValue` without a field is no value.
    fn write(self, message: &mut Message) {
        match self {
            Self::Text(text) => message.text(TEXT, text),
            Self::Bool(bool) => message.varint(BOOL, bool.into()),
            Self::Number(number) => message.varint(NUMBER, number.cast_unsigned()),
            Self::Double(double) => message.double(DOUBLE, double),
        }
    }
}

impl<'v> From<&'v str> for Any<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Any<'_> {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<i64> for Any<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<f64> for Any<'_> {
    fn from(double: f64) -> Self {
        Self::Double(double)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message as _;

    use super::Attributes;
    use crate::protobuf::Message;

    #[track_caller]
    fn check(write: impl FnOnce(&mut Attributes<'_>), expect: Value) {
        let mut message = Message::default();
        write(&mut Attributes::new(&mut message, 1));
        let pair = KeyValue {
            key: "k".into(),
            value: Some(AnyValue {
                value: Some(expect),
            }),
            ..KeyValue::default()
        };
        let expect = Resource {
            attributes: vec![pair],
            ..Resource::default()
        };
        assert_eq!(Resource::decode(message.as_bytes()).unwrap(), expect);
        assert_eq!(message.as_bytes(), expect.encode_to_vec());
    }

    #[test]
    fn texts_of_any_length_are_texts() {
        for length in [0, 1, 115, 127, 128, 1024] {
            let text = "x".repeat(length);
            check(|it| it.put("k", &*text), Value::StringValue(text.clone()));
        }
    }
    #[test]
    fn a_default_is_a_value() {
        check(|it| it.put("k", false), Value::BoolValue(false));
        check(|it| it.put("k", 0), Value::IntValue(0));
        check(|it| it.put("k", 0.0), Value::DoubleValue(0.0));
    }
    #[test]
    fn numbers_are_as_long_as_they_need() {
        check(|it| it.put("k", true), Value::BoolValue(true));
        check(|it| it.put("k", 1.5), Value::DoubleValue(1.5));
        for number in [1, 127, 128, i64::MAX, -1] {
            check(|it| it.put("k", number), Value::IntValue(number));
        }
    }
    #[test]
    fn a_number_too_large_is_the_largest() {
        check(|it| it.number("k", u64::MAX), Value::IntValue(i64::MAX));
    }
    #[test]
    fn a_list_has_its_texts() {
        let list = |texts: &[&str]| {
            let values = texts.iter().map(|text| AnyValue {
                value: Some(Value::StringValue((*text).to_owned())),
            });
            Value::ArrayValue(ArrayValue {
                values: values.collect(),
            })
        };
        for texts in [&[][..], &["a", ""], &["0123456789abcdef"; 40]] {
            check(|it| it.texts("k", texts.iter().copied()), list(texts));
        }
    }
    #[test]
    fn a_long_text_is_cut_between_letters() {
        let text = format!("/{}", "ü".repeat(4000));
        let expect = format!("/{}", "ü".repeat(511));
        check(|it| it.text("k", Some(&text)), Value::StringValue(expect));
    }
}
