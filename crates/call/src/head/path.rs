//! One spelling of a path.

use percent_encoding::percent_encode_byte;

use super::{Malformed, is_encoded_twice, is_unreserved, octet};

/// A path with one spelling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Path {
    /// As on the wire, with the leading `/`.
    pub(crate) wire: String,
    /// Decoded, without the leading `/`; a trailing `/` gives a last empty one, and `/` alone none.
    pub(crate) segments: Vec<String>,
}

impl Path {
    /// Gives a path one spelling.
    ///
    /// Each segment is decoded and encoded anew, so the decoded segments and the wire say the same.
    /// Refused is what servers are known to read in two ways: dot segments, empty segments,
    /// parameters after `;` (encoded too, since some servers decode before they split), and encoded
    /// `/`, `\`, `?`, `#`, controls and percent signs that would decode twice.
    pub(super) fn canonical(raw: &str) -> Result<Self, Malformed> {
        let Some(rest) = raw.strip_prefix('/') else {
            return Err(Malformed::Path("it does not start with `/`"));
        };
        let mut wire = String::with_capacity(raw.len() + 8);
        let mut segments = Vec::with_capacity(8);
        let mut texts = rest.split('/').peekable();
        while let Some(text) = texts.next() {
            let is_last = texts.peek().is_none();
            if text.is_empty() && !is_last {
                return Err(Malformed::Path("a segment is empty"));
            }
            let segment = decode(text)?;
            wire.push('/');
            encode(&segment, &mut wire);
            if !rest.is_empty() {
                segments.push(segment);
            }
        }
        Ok(Self { wire, segments })
    }

    /// The wire's bytes after the first `skip` segments: empty, or with a leading `/`.
    pub(crate) fn below(&self, skip: usize) -> &str {
        let mut rest = self.wire.as_str();
        for _ in 0..skip {
            let inner = rest.strip_prefix('/').unwrap_or(rest);
            rest = inner
                .find('/')
                .and_then(|slash| inner.get(slash..))
                .unwrap_or_default();
        }
        rest
    }
}

fn decode(text: &str) -> Result<String, Malformed> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => octet(&mut bytes).ok_or(Malformed::Path("`%` without two hex digits"))?,
            0x00..=0x20 | 0x7f => return Err(Malformed::Path("a space or control character")),
            0x80.. => return Err(Malformed::Path("a character that is not ASCII")),
            other => other,
        });
    }
    if decoded
        .iter()
        .any(|byte| matches!(byte, b'/' | b'\\' | b'?' | b'#' | b';'))
    {
        return Err(Malformed::Path("a separator inside a segment"));
    }
    if is_encoded_twice(&decoded) {
        return Err(Malformed::Path("it is encoded twice"));
    }
    let decoded = String::from_utf8(decoded).map_err(|_| Malformed::Path("it is not UTF-8"))?;
    if decoded.chars().any(char::is_control) {
        return Err(Malformed::Path("a space or control character"));
    }
    if decoded == "." || decoded == ".." {
        return Err(Malformed::Path("a dot segment"));
    }
    Ok(decoded)
}

fn encode(segment: &str, wire: &mut String) {
    for byte in segment.bytes() {
        if is_literal(byte) {
            wire.push(char::from(byte));
        } else {
            wire.push_str(percent_encode_byte(byte));
        }
    }
}

/// What a segment may hold as it is (RFC 3986 section 3.3), without `;`, which is refused, and
/// without `+`, which some servers read as a space: `%2B` has one reading.
fn is_literal(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b',' | b'=' | b':' | b'@'
        )
}

#[cfg(test)]
mod tests;
