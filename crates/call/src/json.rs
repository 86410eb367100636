//! JSON that has one reading (RFC 8259, with the strictness of RFC 7493).

use std::cell::Cell;
use std::fmt;

use memchr::memchr2;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
pub(crate) use tasks::folded;

/// How deep arrays and objects may nest: far more than tools ask for, far less than a stack holds.
const DEPTH: usize = 64;

/// The digits that a double keeps (IEEE 754 binary64); readers differ over what comes after.
const SIGNIFICANT: usize = 17;

/// Why a text is not JSON that has one reading. It never quotes the text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Ambiguous(String);

/// Reads JSON that every reader reads alike.
///
/// Refused are what is not UTF-8, a byte order mark, trailing data, a key that stands twice in one
/// object (also in another case, since some readers don't tell), numbers that don't survive a
/// 64-bit integer or double, lone surrogates, and nesting deeper than 64.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Ambiguous> {
    let text = std::str::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8"))?;
    if text.starts_with('\u{feff}') {
        return Err(refuse("it starts with a byte order mark"));
    }
    let has_double = Cell::new(false);
    let strict = Strict {
        depth: 0,
        has_double: &has_double,
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Ambiguous(error.to_string()))?;
    // What was read as a 64-bit integer survived; anything else came as a double.
    if has_double.get() {
        check_numbers(text.as_bytes()).map_err(refuse)?;
    }
    Ok(value)
}

fn refuse(problem: &'static str) -> Ambiguous {
    Ambiguous(problem.to_owned())
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    /// Whether some number was no 64-bit integer.
    has_double: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH {
            return Err(E::custom("it nests too deep"));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.has_double.set(true);
        let number = serde_json::Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(self.deeper()?)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut is_lower = true;
        while let Some(key) = access.next_key::<String>()? {
            // serde_json gives these keys a meaning of its own.
            if key.starts_with("$serde_json::private") {
                return Err(A::Error::custom("a key is reserved"));
            }
            is_lower &= is_lower_ascii(&key);
            let value = access.next_value_seed(self.deeper()?)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
        }
        if !is_lower && has_folded_twin(&map) {
            return Err(A::Error::custom(
                "two keys of one object differ by their case only",
            ));
        }
        Ok(Value::Object(map))
    }
}

/// Whether a key is spelled as every reader spells it. It looks at all bytes, several at once.
fn is_lower_ascii(key: &str) -> bool {
    key.bytes().fold(true, |is_lower, byte| {
        is_lower & byte.is_ascii() & !byte.is_ascii_uppercase()
    })
}

fn has_folded_twin(map: &Map<String, Value>) -> bool {
    let mut keys: Vec<String> = map.keys().map(|key| folded(key)).collect();
    keys.sort_unstable();
    keys.windows(2)
        .any(|window| matches!(window, [one, other] if one == other))
}

/// Checks every number of a JSON text; what is no JSON otherwise is left for the parser to refuse.
fn check_numbers(text: &[u8]) -> Result<(), &'static str> {
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = match byte {
            b'"' => after_string(after),
            b'-' | b'0'..=b'9' => {
                let length = rest
                    .iter()
                    .take_while(|byte| {
                        byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
                    })
                    .count();
                let (number, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                check_number(number)?;
                after
            }
            _ => after,
        };
    }
    Ok(())
}

fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        rest = match rest.get(at..) {
            Some([b'"', after @ ..]) => return after,
            Some([_, _, after @ ..]) => after,
            _ => return &[],
        };
    }
    &[]
}

fn check_number(number: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(number).unwrap_or_default();
    if number
        .iter()
        .all(|byte| byte.is_ascii_digit() || *byte == b'-')
    {
        let survives = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
        return survives.then_some(()).ok_or("an integer has over 64 bits");
    }
    let mantissa = number
        .split(|byte| matches!(byte, b'e' | b'E'))
        .next()
        .unwrap_or_default();
    let digits: Vec<u8> = mantissa
        .iter()
        .copied()
        .filter(u8::is_ascii_digit)
        .skip_while(|digit| *digit == b'0')
        .collect();
    let zeros = digits
        .iter()
        .rev()
        .take_while(|digit| **digit == b'0')
        .count();
    if digits.len() - zeros > SIGNIFICANT {
        return Err("a number has more digits than a double keeps");
    }
    let value: f64 = text.parse().map_err(|_| "a number is malformed")?;
    if !value.is_finite() || (value == 0.0 && !digits.is_empty()) {
        return Err("a number is out of a double's range");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
