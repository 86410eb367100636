//! A JSON object, written member by member into a buffer, without a map or a struct in between.
//!
//! A call writes three of them, the log line and two audit lines: formatting by way of `serde` costs it more
//! than all else that telemetry does. Texts that need escapes, and numbers, are still `serde_json`'s.

use serde::Serialize;

/// An object in the making.
///
/// **Invariant.** Keys are ours and need no escape; texts are anyone's and get theirs.
#[derive(Debug)]
pub(crate) struct Object<'b> {
    buffer: &'b mut Vec<u8>,
}

impl<'b> Object<'b> {
    /// Begins an object at the buffer's end.
    pub(crate) fn open(buffer: &'b mut Vec<u8>) -> Self {
        buffer.push(b'{');
        Self { buffer }
    }

    /// Begins members that will be put into an object later; the buffer is empty.
    pub(crate) fn members_of(buffer: &'b mut Vec<u8>) -> Self {
        Self { buffer }
    }

    /// Ends the object.
    pub(crate) fn close(self) {
        self.buffer.push(b'}');
    }

    /// Puts in members that were made before.
    pub(crate) fn put(&mut self, members: &[u8]) {
        self.separate();
        self.buffer.extend_from_slice(members);
    }

    /// Anyone's text.
    #[inline]
    pub(crate) fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        write_text(text, self.buffer);
    }

    #[inline]
    pub(crate) fn maybe(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A word of ours, which needs no escape.
    #[inline]
    pub(crate) fn word(&mut self, key: &'static str, word: &'static str) {
        self.plain(key, |buffer| buffer.extend_from_slice(word.as_bytes()));
    }

    /// What needs no escape, written by the caller: digits, a time, an address.
    #[inline]
    pub(crate) fn plain(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.buffer.push(b'"');
        write(self.buffer);
        self.buffer.push(b'"');
    }

    /// A number, a bool, or nothing.
    pub(crate) fn value(&mut self, key: &'static str, value: impl Serialize) {
        self.key(key);
        // Writing a number into memory can't fail.
        drop(serde_json::to_writer(&mut *self.buffer, &value));
    }

    pub(crate) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut object = Object::open(self.buffer);
        fill(&mut object);
        object.close();
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, key: &'static str, texts: &[String]) {
        self.key(key);
        self.buffer.push(b'[');
        for (number, item) in texts.iter().enumerate() {
            if number > 0 {
                self.buffer.push(b',');
            }
            write_text(item, self.buffer);
        }
        self.buffer.push(b']');
    }

    /// A list of objects, each filled from one item.
    pub(crate) fn objects<T>(
        &mut self,
        key: &'static str,
        items: impl IntoIterator<Item = T>,
        fill: impl Fn(&mut Object<'_>, T),
    ) {
        self.key(key);
        self.buffer.push(b'[');
        for (number, item) in items.into_iter().enumerate() {
            if number > 0 {
                self.buffer.push(b',');
            }
            let mut object = Object::open(self.buffer);
            fill(&mut object, item);
            object.close();
        }
        self.buffer.push(b']');
    }

    /// Inlined, so that a key is a few moves and no call of `memcpy`.
    #[inline(always)]
    fn key(&mut self, key: &'static str) {
        self.separate();
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(b"\":");
    }

    /// No member is empty or ends in an opening brace, so that one is seen by what the buffer ends in.
    #[inline]
    fn separate(&mut self) {
        if !matches!(self.buffer.last(), None | Some(b'{')) {
            self.buffer.push(b',');
        }
    }
}

/// Writes a text in its quotes. Most texts need no escape and are copied.
fn write_text(text: &str, buffer: &mut Vec<u8>) {
    if needs_escape(text.as_bytes()) {
        // Writing a text into memory can't fail.
        drop(serde_json::to_writer(buffer, text));
    } else {
        buffer.push(b'"');
        buffer.extend_from_slice(text.as_bytes());
        buffer.push(b'"');
    }
}

/// Is there a control character, a quote or a backslash (RFC 8259, section 7)? Eight bytes are looked at in one
/// go; the last eight overlap those before.
fn needs_escape(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        let special = |byte: &u8| matches!(byte, 0..b' ' | b'"' | b'\\');
        return bytes.iter().any(special);
    };
    let (eights, _) = bytes.as_chunks();
    eights.iter().any(has_special) || has_special(last)
}

/// As `hasless` of Sean Eron Anderson's Bit Twiddling Hacks, which says for sure whether there is such a byte,
/// though not which.
fn has_special(eight: &[u8; 8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(*eight);
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let zero_where = |byte: u8| word ^ (ONES * u64::from(byte));
    let special = below(word, b' ') | below(zero_where(b'"'), 1) | below(zero_where(b'\\'), 1);
    special & (ONES << 7) != 0
}

#[cfg(test)]
mod tests {
    use proptest::proptest;

    use super::{Object, needs_escape, write_text};

    #[track_caller]
    fn check(fill: impl FnOnce(&mut Object<'_>), expect: &str) {
        let mut buffer = Vec::new();
        let mut object = Object::open(&mut buffer);
        fill(&mut object);
        object.close();
        assert_eq!(String::from_utf8(buffer).unwrap(), expect);
    }

    #[test]
    fn an_object_of_nothing() {
        check(|_| {}, "{}");
    }
    #[test]
    fn members_are_in_the_order_of_writing() {
        check(
            |it| {
                it.value("n", 7_u64);
                it.maybe("t", Some("{"));
                it.maybe("none", None);
                it.plain("p", |buffer| buffer.extend_from_slice(b"0f"));
            },
            r#"{"n":7,"t":"{","p":"0f"}"#,
        );
    }
    #[test]
    fn values_are_as_serde_writes_them() {
        check(
            |it| {
                it.value("f", 1.0);
                it.value("nan", f64::NAN);
                it.value("none", None::<u16>);
                it.value("b", true);
            },
            r#"{"f":1.0,"nan":null,"none":null,"b":true}"#,
        );
    }
    #[test]
    fn objects_in_an_object() {
        check(
            |it| {
                it.object("o", |o| o.text("a", "b"));
                it.object("empty", |_| {});
                it.objects("l", ["x", "y"], |o, text| o.text("t", text));
                it.objects("none", [(); 0], |_, ()| {});
            },
            r#"{"o":{"a":"b"},"empty":{},"l":[{"t":"x"},{"t":"y"}],"none":[]}"#,
        );
    }
    #[test]
    fn texts_in_a_list() {
        let texts = ["a".to_owned(), "\"".to_owned()];
        check(
            |it| {
                it.texts("l", &texts);
                it.texts("none", &[]);
            },
            r#"{"l":["a","\""],"none":[]}"#,
        );
    }
    #[test]
    fn members_made_before_are_put_in() {
        let mut members = Vec::new();
        let mut early = Object::members_of(&mut members);
        early.text("b", "{");
        early.value("c", 1_u8);
        check(
            |it| {
                it.value("a", 0_u8);
                it.put(&members);
            },
            r#"{"a":0,"b":"{","c":1}"#,
        );
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_writes_it(text: String) {
            let mut buffer = Vec::new();
            write_text(&text, &mut buffer);
            assert_eq!(String::from_utf8(buffer).unwrap(), serde_json::to_string(&text).unwrap());
        }
        #[test]
        fn what_needs_an_escape_is_seen_wherever_it_is(mut bytes: Vec<u8>, quiet: bool, at: usize, byte: u8) {
            if quiet {
                bytes.fill(b'~');
            }
            let length = bytes.len().max(1);
            if let Some(place) = bytes.get_mut(at % length) {
                *place = byte;
            }
            let special = |byte: &u8| *byte < b' ' || b"\"\\".contains(byte);
            assert_eq!(needs_escape(&bytes), bytes.iter().any(special));
        }
    }
}
