//! JSON in the one spelling that a bundle's digests are made over: sorted keys, no space, numbers as written.

use std::collections::BTreeMap;

/// How deep values may nest; the parser's own limit.
const DEEPEST: usize = 128;

/// The one spelling, or why the text is not JSON.
pub(super) fn canonical(text: &str) -> Result<Vec<u8>, String> {
    // It is checked as a whole first: below, only the spelling is left to do.
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| error.to_string())?;
    let mut rest = text.trim_start();
    let mut out = Vec::new();
    value(&mut rest, &mut out, 0)?;
    Ok(out)
}

fn value(rest: &mut &str, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err("nests too deep".to_owned());
    }
    *rest = rest.trim_start();
    match rest.chars().next() {
        Some('{') => object(rest, out, depth),
        Some('[') => array(rest, out, depth),
        Some('"') => {
            let text = string(rest)?;
            write_string(&text, out);
            Ok(())
        }
        _ => {
            let ends = |c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace();
            let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
            out.extend(word.as_bytes());
            *rest = after;
            Ok(())
        }
    }
}

fn object(rest: &mut &str, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    let mut members = BTreeMap::new();
    take(rest, '{');
    while !take(rest, '}') {
        let key = string(rest)?;
        take(rest, ':');
        let mut inner = Vec::new();
        value(rest, &mut inner, depth.saturating_add(1))?;
        if members.insert(key.clone(), inner).is_some() {
            return Err(format!("the key `{key}` is there twice"));
        }
        take(rest, ',');
    }
    out.push(b'{');
    for (index, (key, inner)) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        out.extend(inner);
    }
    out.push(b'}');
    Ok(())
}

fn array(rest: &mut &str, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    take(rest, '[');
    out.push(b'[');
    let mut first = true;
    while !take(rest, ']') {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        value(rest, out, depth.saturating_add(1))?;
        take(rest, ',');
    }
    out.push(b']');
    Ok(())
}

fn take(rest: &mut &str, expected: char) -> bool {
    *rest = rest.trim_start();
    let after = rest.strip_prefix(expected);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

/// The next string, its escapes resolved.
fn string(rest: &mut &str) -> Result<String, String> {
    *rest = rest.trim_start();
    let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let text = strings
        .next()
        .ok_or("a text is missing")?
        .map_err(|error| error.to_string())?;
    let (_, after) = rest
        .split_at_checked(strings.byte_offset())
        .ok_or("a text is not closed")?;
    *rest = after;
    Ok(text)
}

/// As Go's `encoding/json` writes it: as the parser's crate does, but the two line separators are escaped.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    let spelled = serde_json::Value::from(text).to_string();
    let spelled = spelled
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    out.extend(spelled.into_bytes());
}
