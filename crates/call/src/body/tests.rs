//! Which bodies are understood.

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::json;

use super::{arguments, check_keys};
use crate::{BodyKeys, Unobservable};

fn read(content_type: Option<&'static str>, body: &str) -> Result<serde_json::Value, Unobservable> {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    arguments(&headers, body.as_bytes(), BodyKeys::Refuse, &[])
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
    let key = concat!("ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    for value in [
        json!(key),
        json!({"a": [1, {"b": format!("use {key}")}]}),
        json!({key: 1}),
        serde_json::from_str(&format!("\"{}\"", key.replacen('g', "\\u0067", 1))).unwrap(),
    ] {
        let error = check_keys(&value, BodyKeys::Refuse).unwrap_err();
        assert!(!error.to_string().contains(key));
        check_keys(&value, BodyKeys::Allow).unwrap();
    }
}
#[test]
fn no_escape_hides_a_key() {
    let key = concat!("ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
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
    check_keys(
        &json!({"a": ["x", 1, null, true], "b": {"c": "the ghp_ prefix"}}),
        BodyKeys::Refuse,
    )
    .unwrap();
}
