//! Which names carry keys, and what a fingerprint tells.

use super::{fingerprint, is_form_field, is_header, is_query_key};

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
fn a_fingerprint_tells_keys_apart_and_nothing_else() {
    assert_eq!(fingerprint(b"one"), fingerprint(b"one"));
    assert_ne!(fingerprint(b"one"), fingerprint(b"two"));
    assert_eq!(fingerprint(b"one").len(), 16);
}
