//! One spelling of a query, and of a form that is written like one.

use percent_encoding::percent_encode_byte;

use super::{Malformed, is_encoded_twice, is_unreserved, octet};

/// One `key=value`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pair {
    /// As on the wire.
    pub(crate) wire: String,
    /// Decoded.
    pub(crate) key: String,
    /// Decoded; empty if there is no `=`.
    pub(crate) value: String,
}

/// Gives a query one spelling.
pub(super) fn canonical(raw: &str) -> Result<Vec<Pair>, Malformed> {
    pairs(raw).map_err(Malformed::Query)
}

/// Reads `key=value` pairs separated by `&` alone, in their order.
///
/// Unreserved characters are decoded, hex digits become upper case; `+` and `%20` stay as they are,
/// and are both a space once decoded. A key that stands twice (also in another case: some servers
/// don't tell), that is empty, or that could be read as another is refused; so is `_method`, by
/// which frameworks let a POST become something else.
pub(crate) fn pairs(raw: &str) -> Result<Vec<Pair>, &'static str> {
    let mut pairs = Vec::new();
    for text in raw.split('&').filter(|text| !text.is_empty()) {
        let mut wire = String::with_capacity(text.len() + 8);
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => {
                let key = component(key, &mut wire)?;
                wire.push('=');
                (key, component(value, &mut wire)?)
            }
            None => (component(text, &mut wire)?, String::new()),
        };
        check_key(&key)?;
        if value.contains('\0') {
            return Err("a value holds NUL");
        }
        pairs.push(Pair { wire, key, value });
    }
    check_unique(&pairs)?;
    Ok(pairs)
}

fn component(text: &str, wire: &mut String) -> Result<String, &'static str> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let octet = octet(&mut bytes).ok_or("`%` without two hex digits")?;
                if is_unreserved(octet) {
                    wire.push(char::from(octet));
                } else {
                    wire.push_str(percent_encode_byte(octet));
                }
                decoded.push(octet);
            }
            b';' => return Err("`;` separates for some servers"),
            0x00..=0x20 | 0x7f => return Err("a space or control character"),
            0x80.. => return Err("a character that is not ASCII"),
            b'+' => {
                wire.push('+');
                decoded.push(b' ');
            }
            literal if is_literal(literal) => {
                wire.push(char::from(literal));
                decoded.push(literal);
            }
            other => {
                wire.push_str(percent_encode_byte(other));
                decoded.push(other);
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| "it is not UTF-8")
}

/// What a query may hold as it is (RFC 3986 section 3.4), and brackets, which are widely sent raw.
fn is_literal(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b','
                | b'='
                | b':'
                | b'@'
                | b'/'
                | b'?'
                | b'['
                | b']'
        )
}

fn check_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("a key is empty");
    }
    if key.trim() != key || key.chars().any(char::is_control) {
        return Err("a key holds spaces around it, or control characters");
    }
    if is_encoded_twice(key.as_bytes()) {
        return Err("a key is encoded twice");
    }
    if key.eq_ignore_ascii_case("_method") {
        return Err("`_method` overrides the method");
    }
    Ok(())
}

fn check_unique(pairs: &[Pair]) -> Result<(), &'static str> {
    if pairs.len() < 2 {
        return Ok(());
    }
    let mut keys: Vec<String> = pairs.iter().map(|pair| pair.key.to_lowercase()).collect();
    keys.sort_unstable();
    if keys
        .windows(2)
        .any(|window| matches!(window, [one, other] if one == other))
    {
        return Err("a key stands twice");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
