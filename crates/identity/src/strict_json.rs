//! JSON in whose objects no key stands twice, at any depth.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads an object, or `None` where it is not one or a key stands twice.
///
/// RFC 7515 section 4 and RFC 7519 section 4 let a reader refuse duplicates or take the last; two
/// readers that choose differently see two tokens, so they are refused.
pub fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice::<Unique>(bytes).ok()?;
    serde_json::from_slice(bytes).ok()
}

/// Reads any value, or `None` where it is none or a key stands twice.
pub fn value(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Unique>(bytes).ok()?;
    serde_json::from_slice(bytes).ok()
}

/// Any JSON value whose objects have no key twice; holds nothing.
///
/// It walks the text beside [`Value`] instead of making one: numbers reach a visitor as maps if
/// any crate of the build turns `serde_json/arbitrary_precision` on.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(A::Error::custom("a key stands twice"));
            }
            entries.next_value::<Self>()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{object, value};

    #[track_caller]
    fn check(text: &str, expect: bool) {
        assert_eq!(object(text.as_bytes()).is_some(), expect, "{text}");
    }

    #[test]
    fn an_object_is_read() {
        check(r#"{"a":1,"b":[1.5,-2,"x",null,true,{"a":{}}]}"#, true);
    }
    #[test]
    fn a_list_may_be_asked_for() {
        assert!(value(br#"[{"a":1}]"#).is_some());
        assert!(value(br#"[{"a":1,"a":1}]"#).is_none());
    }
    #[test]
    fn a_key_twice_is_refused() {
        check(r#"{"a":1,"a":1}"#, false);
    }
    #[test]
    fn a_key_twice_in_two_spellings_is_refused() {
        check(r#"{"a":1,"\u0061":1}"#, false);
    }
    #[test]
    fn a_key_twice_inside_is_refused() {
        check(r#"{"a":[{"b":1,"b":2}]}"#, false);
    }
    #[test]
    fn what_follows_the_object_is_refused() {
        check("{} {}", false);
    }
    #[test]
    fn a_list_is_no_object() {
        check("[]", false);
    }
    #[test]
    fn depth_has_a_limit() {
        check(
            &format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000)),
            false,
        );
    }
    #[test]
    fn invalid_utf8_is_refused() {
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
    }
}
