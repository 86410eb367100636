//! Which bodies are understood.

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::json;

use super::{Read, arguments};
use crate::found_key::{FoundKey, KeyFate, Notes};
use crate::keys::Fingerprints;
use crate::{StripMode, Unobservable};

const KEY: &str = concat!("ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");

const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

fn read(content_type: Option<&'static str>, body: &str) -> Result<serde_json::Value, Unobservable> {
    let (read, _) = read_as(StripMode::Refuse, content_type, body);
    read.map(|read| read.arguments)
}

fn read_as(
    mode: StripMode,
    content_type: Option<&'static str>,
    body: &str,
) -> (Result<Read, Unobservable>, Vec<FoundKey>) {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let mut keys = Vec::new();
    let mut notes = Notes {
        mode,
        prints: &Fingerprints::random(),
        proofs: &[HeaderValue::from_static("the-proof-of-the-agent")],
        placeholders: &[],
        keys: &mut keys,
    };
    (arguments(&headers, body.as_bytes(), &mut notes), keys)
}

#[track_caller]
fn check(content_type: Option<&'static str>, body: &str, expect: &serde_json::Value) {
    assert_eq!(&read(content_type, body).unwrap(), expect);
}

#[track_caller]
fn unknown_type(content_type: &'static str) {
    let error = read(Some(content_type), "{}").unwrap_err();
    assert!(matches!(error, Unobservable::BodyType(_)), "{error}");
}

#[test]
fn json_is_read() {
    for content_type in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/merge-patch+json",
        "application/json;charset=\"utf-8\"",
    ] {
        check(Some(content_type), "{\"a\":1}", &json!({"a": 1}));
    }
}
#[test]
fn a_body_without_a_type_is_json() {
    check(None, "[1]", &json!([1]));
}
#[test]
fn a_form_is_an_object() {
    check(
        Some("application/x-www-form-urlencoded"),
        "a=1+2&b%5Fc=%26",
        &json!({"a": "1 2", "b_c": "&"}),
    );
}
#[test]
fn other_types_are_refused() {
    for content_type in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/octet-stream",
        "application/json, text/plain",
        "application/jsonp",
        "",
        "application/json; charset=utf-16",
        "application/json; charset=shift_jis",
    ] {
        unknown_type(content_type);
    }
}
#[test]
fn a_form_with_a_key_twice_is_refused() {
    let form = Some("application/x-www-form-urlencoded");
    for body in ["a=1&a=2", "a=1;b=2", "_method=DELETE", "a=%ff", "a=1&A=2"] {
        assert!(
            matches!(read(form, body), Err(Unobservable::Body(_))),
            "{body}"
        );
    }
}
#[test]
fn a_form_with_a_client_secret_is_refused() {
    let form = Some("application/x-www-form-urlencoded");
    assert!(matches!(
        read(form, "grant_type=x&client_secret=y"),
        Err(Unobservable::KeyRefused(_))
    ));
}
#[test]
fn arguments_that_hold_a_key_are_refused() {
    for (value, place) in [
        (json!(KEY), "body:"),
        (
            json!({"a": [1, {"b/c": format!("use {KEY}")}]}),
            "body:/a/1/b~1c",
        ),
        (json!({"x": {KEY: 1}}), "body:/x"),
    ] {
        let (read, keys) = read_as(StripMode::Refuse, None, &value.to_string());
        assert!(!read.unwrap_err().to_string().contains(KEY));
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let told = (&*key.place, key.kind, key.fate);
        assert_eq!(told, (place, "github", KeyFate::Refused));
        assert!(!format!("{keys:?}").contains(KEY));
    }
}

/// A body, what it becomes where keys come off, and where they were.
#[track_caller]
fn stripped(content_type: Option<&'static str>, body: &str, expect: &str, places: &[&str]) {
    let (read, keys) = read_as(StripMode::Strip, content_type, body);
    let read = read.unwrap();
    let found: Vec<_> = keys.iter().map(|key| &*key.place).collect();
    assert_eq!(found, places);
    assert!(keys.iter().all(|key| key.fate == KeyFate::Stripped));
    let sent = read
        .rewritten
        .map(|sent| String::from_utf8(sent.to_vec()).unwrap());
    assert_eq!(sent.as_deref().unwrap_or(body), expect);
    // What policy judges is what is sent.
    let again = read_as(StripMode::Report, content_type, expect).0;
    assert_eq!(again.unwrap().arguments, read.arguments);
}

#[test]
fn keys_come_off_arguments() {
    let body = json!({"a": ["x", format!("use {KEY}, or {KEY}")], "n": 1.5}).to_string();
    let expect = r#"{"a":["x","use ***, or ***"],"n":1.5}"#;
    stripped(None, &body, expect, &["body:/a/1", "body:/a/1"]);
    let escaped = format!("\"\\n{}\"", KEY.replacen('g', "\\u0067", 1));
    stripped(None, &escaped, r#""\n***""#, &["body:"]);
    stripped(None, " [1, 2.50]", " [1, 2.50]", &[]);
}
#[test]
fn keys_come_off_a_form() {
    let body = format!("a=1+2&b={KEY}%21&client_secret=opaque&c%5F=%26");
    let expect = "a=1+2&b=%2A%2A%2A%21&client_secret=%2A%2A%2A&c_=%26";
    stripped(FORM, &body, expect, &["body:/b", "body:/client_secret"]);
}
#[test]
fn a_name_that_is_a_key_can_not_come_off() {
    for (content_type, body) in [
        (None, json!({"a": KEY, KEY: 1}).to_string()),
        (FORM, format!("{KEY}=1")),
    ] {
        let (read, keys) = read_as(StripMode::Strip, content_type, &body);
        assert!(matches!(read, Err(Unobservable::KeyRefused(_))));
        assert!(keys.iter().all(|key| key.fate == KeyFate::Refused) && !keys.is_empty());
    }
}
#[test]
fn keys_that_are_reported_go_on_and_proofs_do_not() {
    let body = json!({"a": KEY, KEY: 1}).to_string();
    let (read, keys) = read_as(StripMode::Report, None, &body);
    assert_eq!(read.unwrap().rewritten, None);
    assert!(keys.iter().all(|key| key.fate == KeyFate::Reported) && keys.len() == 2);
    let body = "id_token=the-proof-of-the-agent";
    let (read, _) = read_as(StripMode::Report, FORM, body);
    assert_eq!(read.unwrap().rewritten.unwrap(), "id_token=%2A%2A%2A");
}
#[test]
fn thousands_of_keys_are_not_all_written_down() {
    let body = json!(vec![KEY; 5000]).to_string();
    let (read, keys) = read_as(StripMode::Strip, None, &body);
    assert_eq!(keys.len(), 64);
    assert_eq!(read.unwrap().arguments, json!(vec!["***"; 5000]));
}
#[test]
fn no_escape_hides_a_key() {
    let key = KEY;
    let escaped = key.replacen('p', "\\u0070", 1);
    for body in [
        format!("\"{key}\""),
        format!("\"{escaped}\""),
        format!(r#"["\n{key}"]"#),
        format!(r#"["\\{escaped}"]"#),
        format!(r#"{{"{escaped}": 1}}"#),
    ] {
        let refusal = read(None, &body);
        assert!(
            matches!(refusal, Err(Unobservable::KeyRefused(_))),
            "{body}"
        );
    }
}
#[test]
fn ordinary_arguments_pass() {
    let arguments = json!({"a": ["x", 1, null, true], "b": {"c": "the ghp_ prefix"}});
    check(None, &arguments.to_string(), &arguments);
}
