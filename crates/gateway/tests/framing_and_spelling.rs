//! Section A of the threat model: framing and spelling, against the built gateway over raw sockets.
//!
//! Each test sends bytes that two parsers could read in two ways, and sees that the call is refused
//! or that policy and upstream saw one spelling.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use testkit::remit::Remit;

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// One gateway for all tests of this file: none of them changes it.
fn world() -> &'static (Remit, String) {
    static WORLD: OnceLock<(Remit, String)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let state = Box::leak(Box::new(tempfile::tempdir().unwrap()));
        let remit = Remit::up(REMIT, state.path());
        stop_with_tests(&remit);
        let (_, token) = remit.open_task(&[
            "--tool",
            "notes",
            "--tool",
            "desk",
            "--access",
            "read,write,execute",
            "--ttl",
            "50m",
        ]);
        (remit, token)
    })
}

/// A static is never dropped, so a watcher ends the gateway when the test process is gone.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
fn stop_with_tests(remit: &Remit) {
    let script = format!(
        "while kill -0 {} 2>/dev/null; do sleep 1; done; kill -9 {}",
        std::process::id(),
        remit.pid()
    );
    std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
}

/// Sends bytes and answers with everything that came back. `{token}` and `{host}` are filled in.
fn send(bytes: &[u8]) -> String {
    let (remit, token) = world();
    let mut filled = Vec::new();
    for part in split_keep(bytes) {
        match part {
            b"{token}" => filled.extend_from_slice(token.as_bytes()),
            b"{host}" => filled.extend_from_slice(remit.calls_address().as_bytes()),
            part => filled.extend_from_slice(part),
        }
    }
    let mut stream = TcpStream::connect(remit.calls_address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // The gateway may have answered and closed before the last byte was sent.
    stream.write_all(&filled).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn split_keep(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.iter().position(|byte| *byte == b'{') {
        let length = [&b"{token}"[..], b"{host}"]
            .iter()
            .find(|mark| bytes[at..].starts_with(mark))
            .map_or(1, |mark| mark.len());
        parts.push(&bytes[..at]);
        parts.push(&bytes[at..at + length]);
        bytes = &bytes[at + length..];
    }
    parts.push(bytes);
    parts
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0)
}

/// A head of `request line` and `headers` with host and proof.
fn head(line: &str, headers: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: {{host}}\r\nAuthorization: Bearer {{token}}\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

/// Sends bytes that must be refused with this status and this code, under a decision's id.
#[track_caller]
fn refused(bytes: &[u8], expect: u16, code: &str) {
    let answer = send(bytes);
    assert_eq!(
        status(&answer),
        expect,
        "{}\n{answer}",
        String::from_utf8_lossy(bytes)
    );
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        1,
        "one answer and no second request: {answer}"
    );
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    assert_eq!(problem["code"], code, "{answer}");
    assert_eq!(
        Some(problem["decision"].as_str().unwrap()),
        header(&answer, "remit-decision"),
        "{answer}"
    );
}

/// A header of an answer.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let lines = answer.split("\r\n").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": "))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
}

#[track_caller]
fn accepted(bytes: &[u8], expect: u16) -> String {
    let answer = send(bytes);
    assert_eq!(
        status(&answer),
        expect,
        "{}\n{answer}",
        String::from_utf8_lossy(bytes)
    );
    answer
}

const JSON: &str = "Content-Type: application/json\r\n";

fn post(headers: &str, body: &str) -> Vec<u8> {
    let mut bytes = head("POST /notes/notes", &format!("{JSON}{headers}"));
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

#[test]
fn a0_the_plain_request_is_accepted() {
    accepted(&head("GET /notes/notes", ""), 200);
    accepted(&post("Content-Length: 12\r\n", r#"{"text":"a"}"#), 201);
    accepted(
        &post(
            "Transfer-Encoding: chunked\r\n",
            "c\r\n{\"text\":\"a\"}\r\n0\r\n\r\n",
        ),
        201,
    );
}

#[test]
fn a1_content_length_has_one_reading() {
    refused(
        &post(
            "Content-Length: 12\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        400,
        "malformed_request",
    );
    refused(
        &post(
            "Content-Length: 12\r\nContent-Length: 12\r\n",
            r#"{"text":"a"}"#,
        ),
        400,
        "malformed_request",
    );
    refused(
        &post(
            "Content-Length: 12\r\nContent-Length: 13\r\n",
            r#"{"text":"a"}"#,
        ),
        400,
        "malformed_request",
    );
    for odd in ["+12", "0x0c", "-12", "12, 12", "12 12", ""] {
        refused(
            &post(&format!("Content-Length: {odd}\r\n"), r#"{"text":"a"}"#),
            400,
            "malformed_request",
        );
    }
}

#[test]
fn a2_transfer_encoding_has_one_spelling() {
    for odd in [
        "xchunked",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        refused(
            &post(&format!("Transfer-Encoding: {odd}\r\n"), "0\r\n\r\n"),
            400,
            "malformed_request",
        );
    }
    refused(
        &post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        400,
        "malformed_request",
    );
    let mut old = head("POST /notes/notes", "Transfer-Encoding: chunked\r\n");
    let at = old
        .windows(8)
        .position(|window| window == b"HTTP/1.1")
        .unwrap();
    old.splice(at..at + 8, *b"HTTP/1.0");
    old.extend_from_slice(b"0\r\n\r\n");
    refused(&old, 400, "malformed_request");
}

#[test]
fn a3_lines_end_in_one_way() {
    refused(
        b"GET /notes/notes HTTP/1.1\nHost: {host}\nAuthorization: Bearer {token}\n\n",
        400,
        "malformed_request",
    );
    refused(
        &head("GET /notes/notes", "X-A: b\rX-C: d\r\n"),
        400,
        "malformed_request",
    );
    refused(
        &head("GET /notes/notes", "X-A: b\r\n c\r\n"),
        400,
        "malformed_request",
    );
    refused(
        &head("GET /notes/notes", "X-A: b\0c\r\n"),
        400,
        "malformed_request",
    );
    refused(
        &post(
            "Transfer-Encoding: chunked\r\n",
            "ffffffffffffffffff\r\n{\"text\":\"a\"}\r\n0\r\n\r\n",
        ),
        400,
        "malformed_body",
    );
}

#[test]
fn a4_the_host_has_one_reading() {
    refused(
        b"GET /notes/notes HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n",
        400,
        "malformed_request",
    );
    for host in [
        "a\r\nHost: b",
        "user@{host}",
        "localhost.",
        "b\u{fc}cher.example",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "a b",
        "[::1",
        "localhost:99999",
    ] {
        refused(format!("GET /notes/notes HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {{token}}\r\n\r\n").as_bytes(), 400, "malformed_request");
    }
    refused(b"GET http://other.example/notes/notes HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n", 400, "malformed_request");
}

#[test]
fn a5_the_path_has_one_spelling() {
    let odd = [
        "/notes/../desk",
        "/notes/%2e%2e/desk",
        "/notes/.%2E/desk",
        "/notes/./notes",
        "/notes//notes",
        "/notes/notes%2f1",
        "/notes/notes%5c1",
        "/notes/notes\\1",
        "/notes/notes%00",
        "/notes/notes%0a",
        "/notes/n%c0%afotes",
        "/notes/%ff",
        "/notes/notes%3fx",
        "/notes/%252e%252e/desk",
        "/notes/notes;a=1",
        "/notes/notes%",
        "/notes/notes%4",
        "/notes/notes%zz",
        "/notes/notes#fragment",
    ];
    for path in odd {
        refused(&head(&format!("GET {path}"), ""), 400, "malformed_request");
    }
    refused(
        "GET /notes/n\u{f6}tes HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
            .as_bytes(),
        400,
        "malformed_request",
    );
    accepted(&head("GET /notes/%6eotes", ""), 200);
    // A space is escaped before anything is judged, so it has one spelling too; no operation covers it.
    refused(&head("GET /notes/no tes", ""), 403, "unknown_operation");
}

#[test]
fn a6_the_query_has_one_reading() {
    refused(
        &head("GET /notes/notes?a=1&a=2", ""),
        400,
        "malformed_request",
    );
    refused(
        &head("GET /notes/notes?a=1&%61=2", ""),
        400,
        "malformed_request",
    );
    refused(
        &head("GET /notes/notes?a=1;b=2", ""),
        400,
        "malformed_request",
    );
    refused(
        &head("GET /notes/notes?a=%ff", ""),
        400,
        "malformed_request",
    );
    accepted(&head("GET /notes/notes?api%5Fkey=sk-own", ""), 200);
}

#[test]
fn a7_methods_are_the_known_ones() {
    for method in ["get", "TRACE", "TRACK", "PROPFIND", "G\u{e9}T"] {
        let answer = send(&head(&format!("{method} /notes/notes"), ""));
        assert!(matches!(status(&answer), 400 | 405), "{method}: {answer}");
    }
    let answer = send(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nAuthorization: Bearer {token}\r\n\r\n");
    assert!(matches!(status(&answer), 400 | 405), "{answer}");
    for header in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ] {
        let answer = send(&head("GET /notes/notes", &format!("{header}: DELETE\r\n")));
        assert!(matches!(status(&answer), 400 | 405), "{header}: {answer}");
    }
}

#[test]
fn a8_connection_can_not_name_what_the_gateway_sets() {
    for named in ["authorization", "host", "traceparent", "x-anything"] {
        let bytes = format!(
            "GET /notes/echo HTTP/1.1\r\nHost: {{host}}\r\nAuthorization: Bearer {{token}}\r\nConnection: close, {named}\r\n\r\n"
        );
        refused(bytes.as_bytes(), 400, "malformed_request");
    }
}

#[test]
fn a10_heads_and_bodies_have_limits() {
    let large = format!("X-Large: {}\r\n", "a".repeat(2 * 1024 * 1024));
    let answer = send(&head("GET /notes/notes", &large));
    assert_ne!(status(&answer), 200);
    let many: String = (0..400).map(|index| format!("X-H{index}: a\r\n")).collect();
    let answer = send(&head("GET /notes/notes", &many));
    assert_ne!(status(&answer), 200);
    refused(
        &post("Content-Length: 2000000\r\n", ""),
        413,
        "body_too_large",
    );
    let expect = send(&post(
        "Content-Length: 2000000\r\nExpect: 100-continue\r\n",
        "",
    ));
    assert_eq!(status(&expect), 413, "{expect}");
}

#[test]
fn a10_expect_is_answered_before_the_body() {
    let answer = accepted(
        &post(
            "Content-Length: 12\r\nExpect: 100-continue\r\n",
            r#"{"text":"a"}"#,
        ),
        100,
    );
    assert!(answer.contains("HTTP/1.1 201"), "{answer}");
}

#[test]
fn a11_bodies_have_one_reading() {
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let odd = [
        r#"{"text":"a","text":"b"}"#,
        r#"{"text":"a","tags":[{"x":1,"x":2}]}"#,
        &nested,
        r#"{"text":1e999}"#,
        "{\"text\":\"a\"} {}",
        "\u{feff}{\"text\":\"a\"}",
        r#"{"text":"a""#,
        "not json",
        r#"{"text":"\ud800"}"#,
    ];
    for body in odd {
        refused(
            &post(&format!("Content-Length: {}\r\n", body.len()), body),
            400,
            "malformed_body",
        );
    }
    let mut bytes = post("Content-Length: 13\r\n", "");
    bytes.extend_from_slice(b"{\"text\":\"\xff\"}}");
    refused(&bytes, 400, "malformed_body");
    for kind in [
        "text/plain",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
    ] {
        let mut bytes = head(
            "POST /notes/notes",
            &format!("Content-Type: {kind}\r\nContent-Length: 12\r\n"),
        );
        bytes.extend_from_slice(br#"{"text":"a"}"#);
        refused(&bytes, 415, "unsupported_body");
    }
    refused(
        &post(
            "Content-Encoding: gzip\r\nContent-Length: 12\r\n",
            r#"{"text":"a"}"#,
        ),
        415,
        "unsupported_body",
    );
}

fn mcp(headers: &str, body: &str) -> Vec<u8> {
    let mut bytes = head(
        "POST /desk",
        &format!(
            "{JSON}Accept: application/json, text/event-stream\r\n{headers}Content-Length: {}\r\n",
            body.len()
        ),
    );
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

const FIND: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"find_ticket","arguments":{"query":"a"}}}"#;

#[test]
fn a11_json_rpc_batches_are_refused() {
    accepted(&mcp("", FIND), 200);
    let answer = send(&mcp("", &format!("[{FIND},{FIND}]")));
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.contains("malformed_body"), "{answer}");
}

#[test]
fn a12_mcp_headers_say_what_the_body_says() {
    accepted(
        &mcp("Mcp-Method: tools/call\r\nMcp-Name: find_ticket\r\n", FIND),
        200,
    );
    for headers in [
        "Mcp-Method: tools/list\r\n",
        "Mcp-Name: refund\r\n",
        "Mcp-Name: =?base64?cmVmdW5k?=\r\n",
    ] {
        let answer = send(&mcp(headers, FIND));
        assert_eq!(status(&answer), 400, "{answer}");
        assert!(answer.contains("-32020"), "{answer}");
    }
}

#[test]
fn a_second_request_is_not_smuggled_in_a_body() {
    let inner = "GET /notes/echo HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = send(&post(
        &format!("Content-Length: {}\r\n", inner.len()),
        inner,
    ));
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(status(&answer), 400);
}
