//! What was read before the decision is what the upstream gets, byte for byte.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use testkit::{Answer, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::caller::{Body, Wire, empty, outcome, pieces, whole};
use crate::world::{Plan, World};

/// Around the 64 KiB of pingora's retry buffer, and up to the limit.
const SIZES: [usize; 9] = [
    0,
    1,
    300,
    65_535,
    65_536,
    65_537,
    100_000,
    300_000,
    1024 * 1024,
];

/// How a body is told to end.
#[derive(Clone, Copy, Debug)]
enum Told {
    Length,
    Pieces(usize),
}

struct Gate {
    world: World,
    upstreams: Vec<(&'static str, Upstream)>,
}

impl Gate {
    async fn new(tls: bool) -> Self {
        let ok = || Answer::json(json!("ok"));
        let plan = Plan::new();
        let upstreams = vec![
            ("plain1", Upstream::start(ok()).await),
            ("plain2", Upstream::start(ok()).await),
            ("tls1", plan.tls_upstream(ok(), &["http/1.1"]).await),
            ("tls2", plan.tls_upstream(ok(), &["h2", "http/1.1"]).await),
        ];
        let plan = if tls { plan.over_tls() } else { plan };
        let world = plan
            .tool("plain1", &upstreams[0].1.url(), json!({}))
            .tool(
                "plain2",
                &upstreams[1].1.url(),
                json!({ "http2": "always" }),
            )
            .tls_tool("tls1", &upstreams[2].1.url(), json!({}))
            .tls_tool("tls2", &upstreams[3].1.url(), json!({}))
            .start();
        Self { world, upstreams }
    }

    /// Sends every size to every upstream on one connection where that stays open.
    async fn check(&self, wire: Wire, told: Told) {
        let (_, token) = self.world.task();
        let mut caller = self.world.caller_with(wire, &token).await;
        for (tool, upstream) in &self.upstreams {
            for size in SIZES {
                let case = format!("{wire:?} {told:?} {size} bytes to {tool}");
                let text = json_of(size);
                let path = format!("/{tool}/echo");
                let response = caller.post(&path, body(&text, told)).await;
                let response = response.unwrap_or_else(|error| panic!("{case}: {error}"));
                let closes = response
                    .headers()
                    .get("connection")
                    .is_some_and(|it| it == "close");
                let answer = outcome(response).await;
                assert_eq!(answer.0, StatusCode::OK, "{case}: {}", answer.1);
                let received = upstream.only();
                upstream.forget();
                assert!(received.complete, "{case}");
                assert!(
                    received.body == text,
                    "{case}: {} bytes came",
                    received.body.len()
                );
                let is_http2 = received.version == http::Version::HTTP_2;
                assert_eq!(is_http2, tool.ends_with('2'), "{case}");
                assert_eq!(received.header("transfer-encoding"), None, "{case}");
                let length = received.header("content-length").unwrap();
                assert_eq!(length, size.to_string(), "{case}");
                if closes {
                    caller = self.world.caller_with(wire, &token).await;
                }
            }
        }
    }
}

/// A JSON document of so many bytes.
fn json_of(size: usize) -> Bytes {
    if size < 2 {
        return Bytes::from("1".repeat(size));
    }
    let mut text = String::from("\"");
    let mut number = 0;
    while text.len() < size {
        text.push_str(&format!("{number} "));
        number += 7;
    }
    text.truncate(size - 1);
    text.push('"');
    text.into()
}

fn body(bytes: &Bytes, told: Told) -> Body {
    match told {
        Told::Length if bytes.is_empty() => empty(),
        Told::Length => whole(bytes.clone()),
        Told::Pieces(length) => {
            let bytes = bytes.clone();
            let starts = (0..bytes.len()).step_by(length);
            let cut = starts.map(move |from| bytes.slice(from..bytes.len().min(from + length)));
            pieces(cut.collect::<Vec<_>>())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_in_plain_text_as_they_were_read() {
    let gate = Gate::new(false).await;
    gate.check(Wire::Http1, Told::Length).await;
    gate.check(Wire::Http1, Told::Pieces(10_000)).await;
    gate.check(Wire::Http1, Told::Pieces(200_000)).await;
    gate.check(Wire::Http2, Told::Length).await;
    gate.check(Wire::Http2, Told::Pieces(10_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_over_tls_as_they_were_read() {
    let gate = Gate::new(true).await;
    gate.check(Wire::TlsHttp1, Told::Length).await;
    gate.check(Wire::TlsHttp1, Told::Pieces(10_000)).await;
    gate.check(Wire::TlsHttp2, Told::Length).await;
    gate.check(Wire::TlsHttp2, Told::Pieces(10_000)).await;
}

/// Posts one byte too many, told in this way.
async fn check_too_large(wire: Wire, told: Told) {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({ "max_body": "1000" }))
        .start();
    let mut caller = world.caller(wire).await;
    let bytes = json_of(1001);
    let answer = outcome(caller.post("/tool/a", body(&bytes, told)).await.unwrap()).await;
    let expect = (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large".to_owned());
    assert_eq!(answer, expect, "{wire:?} {told:?}");
    assert_eq!(upstream.connections(), 0);
    let mut caller = world.caller(wire).await;
    let exactly = body(&json_of(1000), told);
    let answer = outcome(caller.post("/tool/a", exactly).await.unwrap()).await;
    assert_eq!(answer.0, StatusCode::OK, "{wire:?} {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_before_anything_is_sent() {
    check_too_large(Wire::Http1, Told::Length).await;
    check_too_large(Wire::Http1, Told::Pieces(100)).await;
    check_too_large(Wire::Http2, Told::Length).await;
    check_too_large(Wire::Http2, Told::Pieces(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_large_upload_is_seen() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({ "max_body": "64KiB" }))
        .start();
    for wire in [Wire::Http1, Wire::Http2] {
        let mut caller = world.caller(wire).await;
        let large = body(&json_of(2 * 1024 * 1024), Told::Pieces(16_384));
        let response = caller.post("/tool/a", large).await;
        let response = response.unwrap_or_else(|error| panic!("{wire:?}: {error:?}"));
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{wire:?}");
    }
}

/// Speaks HTTP/1.1 by hand, up to the first answer.
async fn begin(world: &World, length: usize) -> (TcpStream, String) {
    let (_, token) = world.task();
    let address = world.remit.calls_address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /tool/a HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = answer(&mut stream).await;
    (stream, answer)
}

/// Reads up to the end of a head.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_expects_a_continue_gets_one_if_the_body_will_be_read() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({ "max_body": "100KiB" }))
        .tool("flow", &upstream.url(), json!({ "body": "stream" }))
        .start();
    let (mut stream, first) = begin(&world, 80_000).await;
    assert!(first.starts_with("HTTP/1.1 100 "), "{first}");
    stream.write_all(&json_of(80_000)).await.unwrap();
    let second = answer(&mut stream).await;
    assert!(second.starts_with("HTTP/1.1 200 "), "{second}");
    assert_eq!(upstream.only().body, json_of(80_000));
    assert_eq!(upstream.only().header("expect"), None);

    let (_, refused) = begin(&world, 200_000).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_expects_a_continue_gets_one_where_bodies_stream() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({ "body": "stream" }))
        .start();
    let (mut stream, first) = begin(&world, 80_000).await;
    assert!(first.starts_with("HTTP/1.1 100 "), "{first}");
    stream.write_all(&json_of(80_000)).await.unwrap();
    let second = answer(&mut stream).await;
    assert!(second.starts_with("HTTP/1.1 200 "), "{second}");
    assert_eq!(upstream.only().body, json_of(80_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_that_was_framed_anew_ends_its_connection() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new().tool("tool", &upstream.url(), json!({})).start();
    let mut caller = world.caller(Wire::Http1).await;
    let request = caller
        .request(Method::POST, "/tool/a")
        .header("content-type", "application/json")
        .body(body(&json_of(300_000), Told::Pieces(300_000)))
        .unwrap();
    let response = caller.send(request).await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
}
