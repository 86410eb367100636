//! Masks what stands at pointers into a JSON text; every other byte stays as it is.

use std::ops::Range;

use serde::de::IgnoredAny;
use tasks::ArgumentPointer;

/// What stands where something was taken out.
pub(super) const MASK: &str = "\"[redacted]\"";

/// The ways that are still to go, from where one stands.
type Wanted<'p> = Vec<&'p [Box<str>]>;

/// A text of which parts were masked.
pub(super) struct Masked {
    pub(super) text: String,
    /// How many parts.
    pub(super) times: usize,
}

/// Masks what stands at the pointers; none where the text is no JSON.
///
/// `*` stands for every key and every index. A way that goes on into a string goes on into the JSON in it, and a
/// string there that is no JSON is masked whole. In a list of messages each is looked at as if it stood alone. A key
/// that stands twice is masked twice.
pub(super) fn mask(text: &str, pointers: &[ArgumentPointer]) -> Option<Masked> {
    let wanted: Wanted<'_> = pointers.iter().map(ArgumentPointer::tokens).collect();
    mask_wanted(text, &wanted)
}

fn mask_wanted(text: &str, wanted: &Wanted<'_>) -> Option<Masked> {
    // From here on the text is known to be well formed.
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut walk = Walk {
        text,
        at: 0,
        copied: 0,
        masked: Masked {
            text: String::with_capacity(text.len()),
            times: 0,
        },
    };
    walk.skip_space();
    if walk.peek() == Some(b'[') {
        walk.batch(wanted)?;
    } else {
        walk.value(wanted)?;
    }
    let rest = text.get(walk.copied..)?;
    walk.masked.text.push_str(rest);
    Some(walk.masked)
}

/// What is wanted below a key or an index.
fn below<'p>(wanted: &Wanted<'p>, key: &str) -> Wanted<'p> {
    let ways = wanted.iter();
    ways.filter_map(|way| {
        let (first, rest) = way.split_first()?;
        (**first == *key || **first == *"*").then_some(rest)
    })
    .collect()
}

/// A walk through a text that is well formed.
struct Walk<'t> {
    text: &'t str,
    at: usize,
    /// How much of the text has been copied, or masked.
    copied: usize,
    masked: Masked,
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// One step past a byte.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// A list at the top: messages, or one of them.
    fn batch(&mut self, wanted: &Wanted<'_>) -> Option<()> {
        self.list(|index| {
            let mut inner = below(wanted, index);
            inner.extend(wanted.iter().filter(|way| !way.is_empty()));
            inner
        })
    }

    fn value(&mut self, wanted: &Wanted<'_>) -> Option<()> {
        self.skip_space();
        if wanted.iter().any(|way| way.is_empty()) {
            let part = self.skip()?;
            return self.replace(&part, MASK, 1);
        }
        match self.peek()? {
            b'{' => self.object(wanted),
            b'[' => self.list(|index| below(wanted, index)),
            b'"' if !wanted.is_empty() => self.string(wanted),
            _ => self.skip().map(drop),
        }
    }

    fn object(&mut self, wanted: &Wanted<'_>) -> Option<()> {
        self.take(b'{')?;
        while self.take(b'}').is_none() {
            self.take(b',');
            self.skip_space();
            let key = self.skip()?;
            let key: String = serde_json::from_str(self.text.get(key)?).ok()?;
            self.take(b':')?;
            self.inner(&below(wanted, &key))?;
        }
        Some(())
    }

    fn list<'p>(&mut self, below: impl Fn(&str) -> Wanted<'p>) -> Option<()> {
        self.take(b'[')?;
        let mut index = 0_usize;
        while self.take(b']').is_none() {
            self.take(b',');
            self.inner(&below(&index.to_string()))?;
            index += 1;
        }
        Some(())
    }

    fn inner(&mut self, wanted: &Wanted<'_>) -> Option<()> {
        if wanted.is_empty() {
            self.skip_space();
            self.skip().map(drop)
        } else {
            self.value(wanted)
        }
    }

    /// A string into which a way goes on.
    fn string(&mut self, wanted: &Wanted<'_>) -> Option<()> {
        let part = self.skip()?;
        let inner: String = serde_json::from_str(self.text.get(part.clone())?).ok()?;
        // A number or a word is what the way leads to as well, spelled without its place.
        let leads_on = inner.trim_start().starts_with(['{', '[', '"']);
        match mask_wanted(&inner, wanted).filter(|_| leads_on) {
            Some(masked) if masked.times == 0 => Some(()),
            Some(masked) => {
                let text = serde_json::to_string(&masked.text).ok()?;
                self.replace(&part, &text, masked.times)
            }
            None => self.replace(&part, MASK, 1),
        }
    }

    fn replace(&mut self, part: &Range<usize>, with: &str, times: usize) -> Option<()> {
        let before = self.text.get(self.copied..part.start)?;
        self.masked.text.push_str(before);
        self.masked.text.push_str(with);
        self.masked.times += times;
        self.copied = part.end;
        Some(())
    }

    /// One step past a value; answers where it stands.
    fn skip(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                byte if byte.is_ascii_whitespace() || matches!(byte, b',' | b':') => self.at += 1,
                _ => self.skip_word(),
            }
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 1,
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn skip_word(&mut self) {
        let is_end = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']');
        while self.peek().is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use serde_json::{Value, json};

    use super::*;

    fn pointers(texts: &[&str]) -> Vec<ArgumentPointer> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(texts: &[&str], text: &str, expect: &str) {
        let masked = mask(text, &pointers(texts)).unwrap();
        assert_eq!(masked.text, expect);
        assert_eq!(masked.times > 0, text != expect);
    }

    #[test]
    fn what_a_pointer_points_at_is_masked_and_nothing_else_changes() {
        let text = r#" { "ssn" : "1-2" , "n": 1.50, "big": 12345678901234567890123 } "#;
        let expect = r#" { "ssn" : "[redacted]" , "n": 1.50, "big": 12345678901234567890123 } "#;
        check(&["/ssn"], text, expect);
    }
    #[test]
    fn whatever_it_is() {
        for value in [
            "null",
            "true",
            "-1e9",
            "{}",
            "[]",
            r#"{"a":[1,{"b":"}"}]}"#,
            r#""a\"b\\""#,
        ] {
            let text = format!(r#"{{"a":{value},"b":{value}}}"#);
            let expect = format!(r#"{{"a":"[redacted]","b":{value}}}"#);
            check(&["/a"], &text, &expect);
        }
    }
    #[test]
    fn a_star_stands_for_every_one() {
        check(
            &["/rows/*/ssn"],
            r#"{"rows":[{"ssn":1,"n":1},{"n":2},{"ssn":3}]}"#,
            r#"{"rows":[{"ssn":"[redacted]","n":1},{"n":2},{"ssn":"[redacted]"}]}"#,
        );
        check(
            &["/by/*/ssn"],
            r#"{"by":{"bob":{"ssn":1}}}"#,
            r#"{"by":{"bob":{"ssn":"[redacted]"}}}"#,
        );
        check(
            &["/rows/1"],
            r#"{"rows":[1,2,3]}"#,
            r#"{"rows":[1,"[redacted]",3]}"#,
        );
    }
    #[test]
    fn a_key_may_be_spelled_with_escapes_or_stand_twice() {
        check(
            &["/ssn", "/a~1b"],
            r#"{"s\u0073n":1,"ssn":2,"a\/b":3}"#,
            r#"{"s\u0073n":"[redacted]","ssn":"[redacted]","a\/b":"[redacted]"}"#,
        );
    }
    #[test]
    fn what_is_not_there_is_not_masked() {
        for text in [
            r#"{"ssns":1,"a":{"ssn":1}}"#,
            "1",
            "null",
            "[]",
            "{}",
            r#"{"result":{}}"#,
        ] {
            check(&["/ssn", "/result/ssn"], text, text);
        }
    }
    #[test]
    fn a_way_goes_on_into_json_in_a_string() {
        check(
            &["/result/content/*/text/ssn"],
            r#"{"result":{"content":[{"type":"text","text":"{\"ssn\":\"1\",\"n\":2}"}]}}"#,
            r#"{"result":{"content":[{"type":"text","text":"{\"ssn\":\"[redacted]\",\"n\":2}"}]}}"#,
        );
    }
    #[test]
    fn a_string_that_is_no_json_is_masked_whole() {
        check(
            &["/text/ssn"],
            r#"{"text":"ssn: 1"}"#,
            r#"{"text":"[redacted]"}"#,
        );
        for bare in ["178051120", "-1", "true", "null", " 178051120 "] {
            let text = format!(r#"{{"text":"{bare}"}}"#);
            check(&["/text/ssn"], &text, r#"{"text":"[redacted]"}"#);
        }
    }
    #[test]
    fn a_text_in_a_text_is_gone_into_as_well() {
        check(
            &["/text/ssn"],
            r#"{"text":"\"178051120\""}"#,
            r#"{"text":"\"[redacted]\""}"#,
        );
    }
    #[test]
    fn each_message_of_a_batch_is_looked_at() {
        check(
            &["/result/ssn"],
            r#"[{"result":{"ssn":1}},{"result":{"ssn":2}}]"#,
            r#"[{"result":{"ssn":"[redacted]"}},{"result":{"ssn":"[redacted]"}}]"#,
        );
        check(&["/*/ssn"], r#"[{"ssn":1}]"#, r#"[{"ssn":"[redacted]"}]"#);
        check(&["/0"], "[1,2]", r#"["[redacted]",2]"#);
    }
    #[test]
    fn what_is_no_json_is_told() {
        for text in ["", "{", "{} x", "nul", "{\"a\":1,}", "[1 2]", "\u{feff}{}"] {
            assert!(mask(text, &pointers(&["/a"])).is_none(), "{text}");
        }
    }

    /// The same, by a parsed document.
    fn masked(value: &mut Value, way: &[&str]) {
        let Some((first, rest)) = way.split_first() else {
            *value = json!("[redacted]");
            return;
        };
        match value {
            Value::Object(fields) => {
                let fields = fields.iter_mut().filter(|(key, _)| key.as_str() == *first);
                fields.for_each(|(_, inner)| masked(inner, rest));
            }
            Value::Array(items) => {
                let item = first.parse().ok().and_then(|at: usize| items.get_mut(at));
                if let Some(item) = item {
                    masked(item, rest);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            mask(&text, &pointers(&["/a/b", "/*"]));
        }

        #[test]
        fn it_is_as_if_it_were_parsed(a in any::<f64>(), b in any::<String>(), c in any::<Vec<u32>>()) {
            let value = json!({ "x": { "a": a, "b": b, "c": c }, "": [[b], { "a": b }] });
            for way in [&["x", "a"][..], &["x", "b"], &["x", "c", "1"], &["x"], &["", "1", "a"], &["", "0"]] {
                let pointer = format!("/{}", way.join("/"));
                let text = mask(&value.to_string(), &pointers(&[&pointer])).unwrap().text;
                let mut expect = value.clone();
                masked(&mut expect, way);
                let read: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(read.to_string(), expect.to_string());
            }
        }
    }
}
