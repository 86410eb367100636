//! Which headers make a message ambiguous.

use http::Request;

use super::{check, is_websocket};

fn parts(headers: &[(&str, &str)]) -> http::request::Parts {
    let mut request = Request::builder().uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[track_caller]
fn allowed(headers: &[(&str, &str)]) {
    check(&parts(headers).headers).unwrap();
}

#[track_caller]
fn refused(headers: &[(&str, &str)]) {
    assert!(check(&parts(headers).headers).is_err(), "{headers:?}");
}

#[test]
fn ordinary_headers_are_allowed() {
    allowed(&[
        ("content-length", "12"),
        ("content-type", "application/json"),
        ("connection", "Keep-Alive, TE"),
    ]);
}
#[test]
fn method_overrides_are_refused() {
    for name in [
        "x-http-method-override",
        "x-http-method",
        "X-Method-Override",
        "x_http_method_override",
    ] {
        refused(&[(name, "DELETE")]);
    }
}
#[test]
fn path_overrides_are_refused() {
    for name in ["x-original-url", "x-rewrite-url"] {
        refused(&[(name, "/admin")]);
    }
}
#[test]
fn connection_may_not_name_end_to_end_headers() {
    for value in [
        "authorization",
        "close, Authorization",
        "x-anything",
        "traceparent",
        "host",
    ] {
        refused(&[("connection", value)]);
    }
}
#[test]
fn lengths_are_plain_numbers() {
    for value in ["+5", "0x5", "-1", "5, 5", "", "5 5", "99999999999999999999"] {
        refused(&[("content-length", value)]);
    }
}
#[test]
fn lengths_stand_once() {
    refused(&[("content-length", "5"), ("content-length", "5")]);
    refused(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
}
#[test]
fn codings_are_chunked_alone() {
    for value in ["gzip, chunked", "xchunked", "chunked, chunked", "identity"] {
        refused(&[("transfer-encoding", value)]);
    }
}
#[test]
fn underscored_framing_is_refused() {
    for name in ["content_length", "transfer_encoding", "content_type"] {
        refused(&[(name, "1")]);
    }
}
#[test]
fn content_type_stands_once() {
    refused(&[
        ("content-type", "application/json"),
        ("content-type", "text/plain"),
    ]);
}
#[test]
fn a_websocket_handshake_is_known() {
    assert!(is_websocket(&parts(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ])));
}
#[test]
fn another_upgrade_is_no_websocket() {
    assert!(!is_websocket(&parts(&[
        ("connection", "upgrade"),
        ("upgrade", "h2c"),
        ("sec-websocket-key", "x"),
    ])));
    assert!(!is_websocket(&parts(&[("upgrade", "websocket")])));
}
