//! What is taken out of answers, whatever their pieces.

use bytes::Bytes;
use http::{Method, StatusCode};
use pingora_http::ResponseHeader;

use super::{Redact, Unredactable};
use crate::body::Budget;
use crate::meter::LONGEST;
use crate::scrub::Asked;

const GET: Asked<'_> = Asked {
    method: &Method::GET,
    is_http2: false,
};

fn redact() -> Redact {
    let pointers = ["/result/ssn", "/rows/*/ssn"].map(|text| text.parse().unwrap());
    Redact::new(pointers.to_vec(), &Budget::new(8 * LONGEST)).unwrap()
}

fn head(fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(StatusCode::OK, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    head
}

/// What arrives of a body that comes in pieces of so many bytes.
fn arrives(kind: &str, body: &[u8], piece: usize) -> Result<String, Unredactable> {
    let mut redact = redact();
    redact.head(&mut head(&[("content-type", kind)]), GET)?;
    let mut arrived = Vec::new();
    for piece in body.chunks(piece) {
        let mut piece = Some(Bytes::copy_from_slice(piece));
        redact.body(&mut piece, false)?;
        arrived.extend_from_slice(&piece.unwrap_or_default());
    }
    let mut last = None;
    redact.body(&mut last, true)?;
    arrived.extend_from_slice(&last.unwrap_or_default());
    Ok(String::from_utf8(arrived).unwrap())
}

#[track_caller]
fn check(kind: &str, body: &str, expect: &str) {
    for piece in 1..=body.len().max(1) {
        let arrived = arrives(kind, body.as_bytes(), piece).unwrap();
        assert_eq!(arrived, expect, "in pieces of {piece}");
    }
}

#[track_caller]
fn check_refused(kind: &str, body: &[u8], expect: &str) {
    let refused = arrives(kind, body, 7).map_err(|error| error.to_string());
    let refused = refused.unwrap_err();
    assert!(refused.contains(expect), "{kind}: {refused}");
}

const PLAIN: &str = r#"{"result":{"ssn":"078-05-1120","n":1}}"#;
const MASKED: &str = r#"{"result":{"ssn":"[redacted]","n":1}}"#;

#[test]
fn a_document_is_redacted_wherever_it_is_cut() {
    for kind in [
        "application/json",
        "application/json; charset=UTF-8",
        "application/problem+json",
    ] {
        check(kind, PLAIN, MASKED);
    }
    check("application/json", "", "");
}

#[test]
fn so_is_each_line() {
    let body = format!("{PLAIN}\n\n{{\"n\":2}}\n{PLAIN}");
    let expect = format!("{MASKED}\n\n{{\"n\":2}}\n{MASKED}");
    check("application/x-ndjson", &body, &expect);
}

#[test]
fn so_is_each_event_however_its_lines_end() {
    for end in ["\n", "\r\n", "\r"] {
        let lines = [
            ": alive",
            "",
            "event: message",
            "id: 7",
            &format!("data: {PLAIN}"),
            "",
            "data:{\"result\":",
            "data:{\"ssn\":1}}",
            "",
            "data: [DONE]",
            "",
            "",
        ];
        let expect = format!(
            ":\n\nevent: message\ndata: {MASKED}\n\n\
             data: {{\"result\":\ndata: {{\"ssn\":\"[redacted]\"}}}}\n\ndata: [DONE]\n\n"
        );
        check("text/event-stream", &lines.join(end), &expect);
    }
}

#[test]
fn an_event_that_is_not_ended_is_redacted_too() {
    let body = format!("\u{feff}data: {PLAIN}");
    check("text/event-stream", &body, &format!("data: {MASKED}\n\n"));
    check("text/event-stream", "data\nid: 1\n\n", "data: \n\n");
}

#[test]
fn of_an_event_only_what_is_known_passes() {
    let body = format!("event: e\nretry: 5\nData: {PLAIN}\nDATA:{PLAIN}\n data: x\nx\n\n");
    check("text/event-stream", &body, "event: e\nretry: 5\n\n");
}

#[test]
fn what_is_no_json_is_broken_off() {
    check_refused("text/html", b"<p>", "neither JSON");
    check_refused("application/grpc", b"x", "neither JSON");
    check_refused("application/json; charset=utf-16", b"{}", "neither JSON");
    check_refused("application/json", b"{\"result\":", "not the JSON");
    check_refused("application/json", b"\xff", "not the JSON");
    check_refused("application/x-ndjson", b"{}\nx\n", "not the JSON");
    check_refused("text/event-stream", b"data: hello\n\n", "not the JSON");
}

#[test]
fn what_is_too_long_is_broken_off() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST));
    let refused = arrives("application/json", long.as_bytes(), 1 << 16);
    assert!(matches!(refused, Err(Unredactable::TooLong)));
    let refused = arrives("text/event-stream", long.as_bytes(), 1 << 16);
    assert!(matches!(refused, Err(Unredactable::TooLong)));
}

#[test]
fn a_body_without_a_type_is_none() {
    let mut redact = redact();
    redact.head(&mut head(&[]), GET).unwrap();
    redact.body(&mut None, false).unwrap();
    let refused = redact.body(&mut Some(Bytes::from_static(b"{}")), true);
    assert!(matches!(refused, Err(Unredactable::Type)));
}

#[test]
fn an_answer_without_a_body_may_be_of_any_type() {
    let mut empty = head(&[("content-type", "text/html"), ("content-length", "0")]);
    redact().head(&mut empty, GET).unwrap();
    let asked = Asked {
        method: &Method::HEAD,
        is_http2: false,
    };
    let mut page = head(&[("content-type", "text/html"), ("content-length", "9")]);
    redact().head(&mut page, asked).unwrap();
    assert!(page.headers.contains_key("content-length"));
}

#[test]
fn a_part_or_another_protocol_is_refused() {
    for (status, field) in [
        (206, ("content-range", "bytes 0-1/10")),
        (200, ("content-range", "bytes 0-1/10")),
        (101, ("upgrade", "websocket")),
    ] {
        let mut head = head(&[("content-type", "application/json"), field]);
        head.set_status(status).unwrap();
        assert!(redact().head(&mut head, GET).is_err(), "{status}");
    }
}

#[test]
fn what_the_head_says_of_the_body_goes() {
    let mut head = head(&[
        ("content-type", "application/json"),
        ("content-length", "10"),
        ("content-digest", "sha-256=:x:"),
        ("content-md5", "x"),
        ("accept-ranges", "bytes"),
    ]);
    redact().head(&mut head, GET).unwrap();
    let names: Vec<_> = head.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["content-type", "transfer-encoding"]);
}

#[test]
fn a_coded_answer_is_decoded_first() {
    use std::io::Write;
    let mut redact = redact();
    let mut head = head(&[
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ]);
    redact.head(&mut head, GET).unwrap();
    assert!(!head.headers.contains_key("content-encoding"));
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(PLAIN.as_bytes()).unwrap();
    let mut body = Some(Bytes::from(coder.finish().unwrap()));
    redact.body(&mut body, true).unwrap();
    assert_eq!(body.unwrap(), MASKED);
    assert_eq!(redact.found(), 1);
}
