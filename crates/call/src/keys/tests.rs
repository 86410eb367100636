//! Which names carry keys, and how a text with keys in it is told.

use super::{is_form_field, is_header, is_query_key, masked};

#[test]
fn headers_that_carry_keys() {
    for name in [
        "authorization",
        "proxy-authorization",
        "x-serverless-authorization",
        "cookie",
        "cookie2",
        "x-api-key",
        "api-key",
        "apikey",
        "x-goog-api-key",
        "x-auth-token",
        "x-access-token",
        "x-amz-security-token",
        "private-token",
        "x-gitlab-token",
        "x-vault-token",
        "x-functions-key",
        "ocp-apim-subscription-key",
        "x-client-secret",
        "dpop",
        "txn-token",
        "workload-identity-token",
        "workload-proof-token",
        "signature",
    ] {
        assert!(is_header(name), "{name}");
    }
}

#[test]
fn headers_that_carry_none() {
    for name in [
        "accept",
        "content-type",
        "x-csrf-token",
        "idempotency-key",
        "sec-websocket-key",
        "mcp-session-id",
        "traceparent",
        "if-match",
        "user-agent",
        "x-github-api-version",
        "anthropic-version",
    ] {
        assert!(!is_header(name), "{name}");
    }
}

#[test]
fn query_keys_that_carry_keys() {
    for key in [
        "api_key",
        "API-KEY",
        "apiKey",
        "key",
        "access_token",
        "token",
        "auth",
        "client_secret",
        "sig",
        "signature",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "x-goog-signature",
        "access_token[]",
        "x_api_key",
    ] {
        assert!(is_query_key(key), "{key}");
    }
}

#[test]
fn query_keys_that_carry_none() {
    for key in [
        "page",
        "page_token",
        "nextToken",
        "keyword",
        "author",
        "q",
        "signed",
        "keys",
    ] {
        assert!(!is_query_key(key), "{key}");
    }
}

#[test]
fn form_fields_that_carry_keys() {
    assert!(is_form_field("client_secret"));
    assert!(is_form_field("apiKey"));
    assert!(!is_form_field("key"));
    assert!(!is_form_field("token"));
}

#[test]
fn a_text_is_told_without_its_keys() {
    let key = concat!("ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let pem = "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----";
    for (text, told) in [
        ("nothing in it", "nothing in it".to_owned()),
        (key, "***".to_owned()),
        (&format!("ä {key} ö {key}!"), "ä *** ö ***!".to_owned()),
        (&format!("ä{pem} ö"), "ä*** ö".to_owned()),
        ("-----BEGIN PRIVATE KEY-----\nMII ä", "***".to_owned()),
    ] {
        assert_eq!(masked(text), told);
    }
}
