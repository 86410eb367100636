//! Secrets in the body of a request.

use bytes::Bytes;
use call::Body;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_encode;
use serde_json::{Map, Value};
use tasks::{ArgumentPointer, folded};

use super::{ENCODED, names};
use crate::Uninjectable;

/// Of a body that is changed none of these is true any more: RFC 9530, RFC 3230 and RFC 1864.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Puts a secret at a pointer into a JSON body. Whatever stands there goes, in any case of its last name; objects on the
/// way to it are made.
pub(super) fn put_json(
    head: &mut Parts,
    body: &mut Body,
    pointer: &ArgumentPointer,
    secret: &[u8],
) -> Result<(), Uninjectable> {
    const NO_JSON: Uninjectable = Uninjectable("a body that is no JSON");
    const NO_PLACE: Uninjectable = Uninjectable("the JSON body, which has no place for it");
    let secret = std::str::from_utf8(secret).map_err(|_| Uninjectable("JSON: it is not UTF-8"))?;
    let Body::Whole(bytes) = &*body else {
        return Err(NO_JSON);
    };
    if !is_json(&head.headers) {
        return Err(NO_JSON);
    }
    let mut value: Value = serde_json::from_slice(bytes).map_err(|_| NO_JSON)?;
    let (last, way) = pointer.tokens().split_last().ok_or(NO_PLACE)?;
    let mut parent = &mut value;
    for token in way {
        parent = match parent {
            Value::Object(fields) => {
                // Which of the two a reader takes that does not tell cases is not known.
                let mut keys = fields.keys();
                if keys.any(|key| **key != **token && folded(key) == folded(token)) {
                    return Err(Uninjectable(
                        "the JSON body: a parent stands in another case",
                    ));
                }
                fields
                    .entry(&**token)
                    .or_insert_with(|| Value::Object(Map::new()))
            }
            Value::Array(items) => {
                let item = token.parse().ok().and_then(|at: usize| items.get_mut(at));
                item.ok_or(NO_PLACE)?
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(NO_PLACE);
            }
        };
    }
    let Value::Object(fields) = parent else {
        return Err(NO_PLACE);
    };
    // Some readers don't tell cases, and would take the agent's.
    fields.retain(|key, _| folded(key) != folded(last));
    fields.insert(last.to_string(), Value::String(secret.to_owned()));
    let text = serde_json::to_vec(&value).map_err(|_| NO_JSON)?;
    replace(head, body, text);
    Ok(())
}

/// Puts a secret into a field of a form. Every field of that name goes, however it is spelled.
pub(super) fn put_form(
    head: &mut Parts,
    body: &mut Body,
    key: &str,
    secret: &[u8],
) -> Result<(), Uninjectable> {
    const NO_FORM: Uninjectable = Uninjectable("a body that is no form");
    let form = match &*body {
        Body::Whole(bytes) => std::str::from_utf8(bytes).map_err(|_| NO_FORM)?,
        Body::Empty => "",
        Body::Streamed => return Err(NO_FORM),
    };
    if !is_form(&head.headers) {
        return Err(NO_FORM);
    }
    let kept = form.split('&').filter(|pair| !pair.is_empty());
    let mut text = String::with_capacity(form.len() + key.len() + 3 * secret.len() + 2);
    for pair in kept.filter(|pair| !names(pair, key)) {
        text.push_str(pair);
        text.push('&');
    }
    text.extend(percent_encode(key.as_bytes(), ENCODED));
    text.push('=');
    text.extend(percent_encode(secret, ENCODED));
    replace(head, body, text.into_bytes());
    Ok(())
}

/// Another body, and a head that is true of it.
fn replace(head: &mut Parts, body: &mut Body, text: Vec<u8>) {
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    for digest in &DIGESTS {
        head.headers.remove(digest);
    }
    *body = Body::Whole(Bytes::from(text));
}

/// Whether a call has a JSON body, as bodies are read: one without a type is taken for JSON.
pub(super) fn has_json(headers: &HeaderMap, body: &Body) -> bool {
    matches!(body, Body::Whole(_)) && is_json(headers)
}

/// Whether a call has a form, or an empty one.
pub(super) fn has_form(headers: &HeaderMap, body: &Body) -> bool {
    !matches!(body, Body::Streamed) && is_form(headers)
}

fn is_form(headers: &HeaderMap) -> bool {
    essence(headers).as_deref() == Some("application/x-www-form-urlencoded")
}

fn is_json(headers: &HeaderMap) -> bool {
    match essence(headers) {
        Some(essence) => essence == "application/json" || essence.ends_with("+json"),
        None => !headers.contains_key(CONTENT_TYPE),
    }
}

fn essence(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = kind.split(';').next()?.trim();
    Some(essence.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: Option<&str>, text: &str) -> (Parts, Body) {
        let mut request = http::Request::post("https://api.example/")
            .header("content-length", text.len())
            .header("content-md5", "x")
            .header("content-digest", "sha-256=:x:");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let body = match text {
            "" => Body::Empty,
            text => Body::Whole(Bytes::copy_from_slice(text.as_bytes())),
        };
        (head, body)
    }

    #[track_caller]
    fn checked(put: Result<(), Uninjectable>, (head, body): (Parts, Body), expect: Option<&str>) {
        let Some(expect) = expect else {
            assert!(put.is_err());
            return;
        };
        put.unwrap();
        let Body::Whole(text) = body else {
            panic!("{body:?}");
        };
        assert_eq!(std::str::from_utf8(&text).unwrap(), expect);
        assert_eq!(head.headers["content-length"], expect.len().to_string());
        assert!(!head.headers.contains_key("content-md5"));
        assert!(!head.headers.contains_key("content-digest"));
    }

    #[track_caller]
    fn check_json(pointer: &str, kind: Option<&str>, text: &str, expect: Option<&str>) {
        let (mut head, mut body) = request(kind, text);
        let pointer = pointer.parse().unwrap();
        let put = put_json(&mut head, &mut body, &pointer, br#"s"3"#);
        checked(put, (head, body), expect);
    }

    #[track_caller]
    fn check_form(kind: Option<&str>, text: &str, expect: Option<&str>) {
        let (mut head, mut body) = request(kind, text);
        let put = put_form(&mut head, &mut body, "api_key", b"s&3 t");
        checked(put, (head, body), expect);
    }

    #[test]
    fn json_has_it_at_the_pointer() {
        let json = Some("application/json; charset=utf-8");
        check_json("/key", json, "{}", Some(r#"{"key":"s\"3"}"#));
        check_json(
            "/key",
            None,
            r#"{"a":1.5}"#,
            Some(r#"{"a":1.5,"key":"s\"3"}"#),
        );
        check_json(
            "/a/b",
            json,
            r#"{"z":1}"#,
            Some(r#"{"a":{"b":"s\"3"},"z":1}"#),
        );
        check_json(
            "/l/0/k",
            json,
            r#"{"l":[{}]}"#,
            Some(r#"{"l":[{"k":"s\"3"}]}"#),
        );
    }
    #[test]
    fn what_stood_there_goes_in_any_case() {
        check_json(
            "/key",
            None,
            r#"{"key":{"x":1}}"#,
            Some(r#"{"key":"s\"3"}"#),
        );
        check_json("/key", None, r#"{"KEY":"mine"}"#, Some(r#"{"key":"s\"3"}"#));
        check_json("/key", None, r#"{"k\u0065y":1}"#, Some(r#"{"key":"s\"3"}"#));
    }
    #[test]
    fn a_parent_in_another_case_is_no_way() {
        for text in [
            r#"{"auth":{},"Auth":{"key":"mine"}}"#,
            r#"{"AUTH":{"key":"mine"}}"#,
        ] {
            check_json("/auth/key", None, text, None);
        }
        check_json(
            "/auth/key",
            None,
            r#"{"authority":{}}"#,
            Some(r#"{"auth":{"key":"s\"3"},"authority":{}}"#),
        );
    }
    #[test]
    fn without_a_place_there_is_none() {
        for text in ["", "[]", "1", r#"{"a":1}"#, r#"{"a":[]}"#, r#"{"a":null}"#] {
            check_json("/a/b", None, text, None);
        }
        check_json("/a", Some("text/plain"), "{}", None);
        check_json("/a", Some("application/x-www-form-urlencoded"), "{}", None);
    }

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    #[test]
    fn a_form_has_it_once() {
        check_form(FORM, "", Some("api_key=s%263%20t"));
        check_form(FORM, "a=1+2&b", Some("a=1+2&b&api_key=s%263%20t"));
        check_form(
            FORM,
            "api_key=mine&a=1&api%5Fkey=me&%61pi_key",
            Some("a=1&api_key=s%263%20t"),
        );
    }
    #[test]
    fn what_is_no_form_has_no_field() {
        check_form(Some("application/json"), "{}", None);
        check_form(None, "a=1", None);
    }
}
