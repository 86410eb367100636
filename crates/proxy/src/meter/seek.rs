//! Numbers at pointers into JSON, found without keeping the rest of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What is looked for below a value: whose number it is, and the way to it.
type Wanted<'a> = Vec<(usize, &'a [Box<str>])>;

/// Looks for numbers in a document; each that is found is told with whose it is. In what is no JSON there are none.
pub(super) fn seek(text: &[u8], wanted: Wanted<'_>) -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut tell = |whose, number| found.push((whose, number));
    let seek = Seek {
        wanted,
        found: &mut tell,
    };
    let read = seek.deserialize(&mut reader).and_then(|()| reader.end());
    match read {
        Ok(()) => found,
        Err(_) => Vec::new(),
    }
}

struct Seek<'a, 'f> {
    wanted: Wanted<'a>,
    found: &'f mut dyn FnMut(usize, f64),
}

impl<'de> DeserializeSeed<'de> for Seek<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl Seek<'_, '_> {
    fn number(self, number: f64) {
        for (whose, _) in self.wanted.iter().filter(|(_, rest)| rest.is_empty()) {
            (self.found)(*whose, number);
        }
    }
}

/// What is looked for below a key.
fn below<'a>(wanted: &Wanted<'a>, key: &str) -> Wanted<'a> {
    let wanted = wanted.iter();
    wanted
        .filter_map(|(whose, way)| {
            let (first, rest) = way.split_first()?;
            (**first == *key).then_some((*whose, rest))
        })
        .collect()
}

impl<'de> Visitor<'de> for Seek<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "costs are smaller than 2^53")]
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.number(number as f64);
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let wanted = below(&self.wanted, &key);
            if wanted.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                let found = &mut *self.found;
                map.next_value_seed(Seek { wanted, found })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for index in 0_usize.. {
            let wanted = below(&self.wanted, &index.to_string());
            let more = if wanted.is_empty() {
                list.next_element::<IgnoredAny>()?.is_some()
            } else {
                let found = &mut *self.found;
                list.next_element_seed(Seek { wanted, found })?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}
