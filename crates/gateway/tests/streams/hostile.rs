//! Agents that break the protocol or hold on to it: refused or bounded, and the gateway goes on.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use testkit::{Answer, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::caller::{Wire, outcome, tls};
use crate::world::{Plan, World, in_time};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

async fn world(limits: serde_json::Value) -> (World, Upstream) {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({}))
        .tool(
            "flow",
            &upstream.url(),
            json!({ "body": "stream", "timeouts": { "read": "1s" } }),
        )
        .limits(limits)
        .start();
    (world, upstream)
}

/// The gateway still serves.
async fn serves(world: &World) {
    for wire in [Wire::Http1, Wire::Http2] {
        let mut caller = world.caller(wire).await;
        let (status, code) = in_time(caller.outcome("/tool/a")).await;
        assert_eq!(status, StatusCode::OK, "{code}");
    }
}

/// A connection that speaks HTTP/2 by hand.
struct Raw(TcpStream);

impl Raw {
    async fn open(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.remit.calls_address())
            .await
            .unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let mut raw = Self(stream);
        assert!(raw.frame(SETTINGS, 0, 0, &[]).await);
        raw
    }

    /// Writes a frame; answers whether the gateway still takes any.
    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let frame = frame(kind, flags, stream, payload);
        self.0.write_all(&frame).await.is_ok()
    }

    /// What the gateway says, until it closes or has said this about a stream.
    async fn until(&mut self, kind: u8, stream: u32) -> Option<(u8, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let about = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if head[3] == kind && about == stream {
                return Some((head[4], payload));
            }
            if head[3] == GO_AWAY {
                return None;
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header as a literal that is not indexed, without Huffman (RFC 7541, section 6.2.2).
fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name.as_bytes(), value] {
        // A length of more than 126 goes on in a second byte.
        if text.len() < 127 {
            bytes.push(u8::try_from(text.len()).unwrap());
        } else {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128 + 128).unwrap());
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
        bytes.extend_from_slice(text);
    }
    bytes
}

/// A head of a GET, with these headers more.
fn head(authority: &str, token: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let proof = format!("Bearer {token}");
    let mut bytes = Vec::new();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", "/tool/a"),
        ("authorization", &proof),
    ] {
        bytes.extend(literal(name, value.as_bytes()));
    }
    for (name, value) in more {
        bytes.extend(literal(name, value));
    }
    bytes
}

/// What becomes of a head: its status, or nothing if the stream or the connection was reset.
async fn fate(world: &World, token: &str, more: &[(&str, &[u8])]) -> Option<Vec<u8>> {
    let mut raw = Raw::open(world).await;
    let head = head(world.remit.calls_address(), token, more);
    raw.frame(HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    // A reset in place of an answer ends the wait.
    raw.frame(SETTINGS, 0, 0, &[]).await;
    tokio::time::timeout(Duration::from_secs(2), raw.until(HEADERS, 1))
        .await
        .ok()
        .flatten()
        .map(|(_, payload)| payload)
}

/// `:status: 200` in the static table of RFC 7541.
const OK: u8 = 0x88;

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_http2_with_two_readings_reach_no_tool() {
    let (world, upstream) = world(json!({})).await;
    let (_, token) = world.task();
    let good = fate(&world, &token, &[("x-harmless", b"1")]).await;
    assert_eq!(good.unwrap()[0], OK);
    upstream.forget();
    let bad: [&[(&str, &[u8])]; 14] = [
        &[("host", b"other.example")],
        &[(":authority", b"other.example")],
        &[(":path", b"/tool/b")],
        &[("x-a", b"1"), (":path", b"/tool/b")],
        &[("connection", b"close")],
        &[("transfer-encoding", b"chunked")],
        &[("upgrade", b"websocket")],
        &[("keep-alive", b"1")],
        &[("proxy-connection", b"close")],
        &[("te", b"gzip")],
        &[("X-Upper", b"1")],
        &[("x-break", b"a\r\nb: c")],
        &[("x-nul", b"a\0b")],
        &[("content-length", b"5")],
    ];
    for more in bad {
        let fate = fate(&world, &token, more).await;
        let status = fate.and_then(|fate| fate.first().copied());
        assert_ne!(status, Some(OK), "{more:?}");
    }
    assert!(upstream.received().is_empty(), "{:?}", upstream.received());
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_continuations_is_cut_off() {
    let (world, upstream) = world(json!({})).await;
    let (_, token) = world.task();
    let before = world.memory("VmRSS");
    for size in [0, 1, 16_000] {
        let mut raw = Raw::open(&world).await;
        let head = head(world.remit.calls_address(), &token, &[]);
        raw.frame(HEADERS, END_STREAM, 1, &head).await;
        let more = if size == 0 {
            Vec::new()
        } else {
            literal("x", &vec![b'a'; size])
        };
        let mut sent = 0;
        while sent < 200_000 && raw.frame(CONTINUATION, 0, 1, &more).await {
            sent += 1;
        }
        assert!(
            sent < 200_000,
            "the gateway still listens ({size} bytes each)"
        );
    }
    let grown = world.memory("VmHWM").saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    assert!(upstream.received().is_empty());
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_are_bounded() {
    let (world, _upstream) = world(json!({})).await;
    let (_, token) = world.task();
    let before = world.memory("VmRSS");
    let head = head(world.remit.calls_address(), &token, &[]);
    let mut raw = Raw::open(&world).await;
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
        both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        if raw.0.write_all(&both).await.is_err() {
            break;
        }
    }
    serves(&world).await;
    let grown = world.memory("VmHWM").saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
}

/// A second for everything.
fn short() -> serde_json::Value {
    json!({ "idle": "1s", "body": "1s", "write": "1s" })
}

/// Reads until the gateway closes.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut rest = Vec::new();
    in_time(stream.read_to_end(&mut rest)).await.ok();
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_bring_nothing_are_closed() {
    let (world, _upstream) = world(short()).await;
    let address = world.remit.calls_address();
    let begins: [&[u8]; 6] = [
        b"",
        b"G",
        b"PRI * HT",
        PREFACE,
        b"GET /tool/a HTTP/1.1\r\nhost: a\r\nx-slow: ",
        b"GET /tool/a HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for begin in begins {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        closed(&mut stream).await;
    }
    // One byte at a time is no way to stay.
    let mut stream = TcpStream::connect(address).await.unwrap();
    in_time(async {
        while stream.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // A head over HTTP/2 that never ends.
    let mut raw = Raw::open(&world).await;
    raw.frame(HEADERS, END_STREAM, 1, &literal(":method", b"GET"))
        .await;
    closed(&mut raw.0).await;
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_connections_that_bring_nothing_are_closed() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .over_tls()
        .limits(short())
        .tool("tool", &upstream.url(), json!({}))
        .start();
    let connect = || TcpStream::connect(world.remit.calls_address());
    let mut silent = connect().await.unwrap();
    closed(&mut silent).await;
    let mut first = tls(connect().await.unwrap(), &world.authority, "http/1.1").await;
    closed(&mut first).await;
    let mut second = tls(connect().await.unwrap(), &world.authority, "h2").await;
    closed(&mut second).await;
    let mut caller = world.caller(Wire::TlsHttp2).await;
    assert_eq!(caller.outcome("/tool/a").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_tls_that_nobody_can_read_is_refused_in_words() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .over_tls()
        .tool("tool", &upstream.url(), json!({}))
        .start();
    let stream = TcpStream::connect(world.remit.calls_address());
    let mut stream = tls(stream.await.unwrap(), &world.authority, "http/1.1").await;
    let head = b"GET /tool/a HTTP/1.1\r\nHost : x\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    // Whether the connection ends with or without a goodbye is not what is asked here.
    in_time(stream.read_to_end(&mut answer)).await.ok();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("\r\nremit-decision: "), "{answer}");
    assert!(answer.contains("\"malformed_request\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let (world, upstream) = world(short()).await;
    for wire in [Wire::Http1, Wire::Http2] {
        let mut caller = world.caller(wire).await;
        upstream.answer(Answer::Echo.slow(Duration::from_secs(3)));
        let answer = in_time(caller.outcome("/tool/a")).await;
        assert_eq!(answer.0, StatusCode::OK, "{wire:?}");
        upstream.answer(Answer::Echo);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(caller.get("/tool/a").await.is_err(), "{wire:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_are_given_up() {
    let (world, upstream) = world(short()).await;
    for wire in [Wire::Http1, Wire::Http2] {
        for length in [None, Some("100000")] {
            let mut caller = world.caller(wire).await;
            let (mut send, sent) = mpsc::channel::<Bytes>(1);
            let body = StreamBody::new(sent.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
            let mut request = caller
                .request(Method::POST, "/tool/a")
                .header("content-type", "application/json");
            if let Some(length) = length {
                request = request.header("content-length", length);
            }
            let slowly = tokio::spawn(async move {
                while send.send("1".into()).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            let request: Request<crate::caller::Body> = request.body(body).unwrap();
            let response = in_time(caller.send(request)).await.unwrap();
            let expect = (StatusCode::REQUEST_TIMEOUT, "body_timeout".to_owned());
            assert_eq!(outcome(response).await, expect, "{wire:?} {length:?}");
            slowly.abort();
        }
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_streams_and_stops_is_given_up() {
    let (world, _upstream) = world(short()).await;
    for wire in [Wire::Http1, Wire::Http2] {
        let mut caller = world.caller(wire).await;
        let (mut send, sent) = mpsc::channel::<Bytes>(1);
        send.send("begun".into()).await.unwrap();
        let body = StreamBody::new(sent.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
        let response = in_time(caller.post("/flow/a", body)).await.unwrap();
        assert_eq!(outcome(response).await.1, "upstream_timeout", "{wire:?}");
        drop(send);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_read_is_cut_off() {
    let (world, upstream) = world(short()).await;
    upstream.answer(Answer::Large(64 * 1024 * 1024));
    for wire in [Wire::Http1, Wire::Http2] {
        let (id, token) = world.task();
        let mut caller = world.caller_with(wire, &token).await;
        let response = caller.get("/tool/a").await.unwrap();
        let closed = || {
            let lines = world.audit();
            lines
                .iter()
                .any(|line| line["kind"] == "closed" && line["task"] == id)
        };
        in_time(async {
            while !closed() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        drop(response);
    }
    upstream.answer(Answer::Echo);
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_at_a_time_are_served() {
    let (world, _upstream) = world(json!({})).await;
    let (_, token) = world.task();
    let mut callers = Vec::new();
    for _ in 0..1000 {
        callers.push(world.caller_with(Wire::Http1, &token).await);
    }
    for round in 0..2 {
        let calls = callers.drain(..).map(|mut caller| {
            tokio::spawn(async move {
                let answer = in_time(caller.outcome("/tool/a")).await;
                (caller, answer.0)
            })
        });
        let mut kept = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            let (caller, status) = call.await.unwrap();
            assert_eq!(status, StatusCode::OK, "round {round}");
            kept.push(caller);
        }
        callers = kept;
    }
    let held = world.memory("VmHWM");
    assert!(held < 128 * 1024, "{held} KiB with 1,000 connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_wait_and_are_served() {
    let (world, _upstream) = world(json!({ "connections": 2 })).await;
    let (_, token) = world.task();
    let first = world.caller_with(Wire::Http1, &token).await;
    let second = world.caller_with(Wire::Http1, &token).await;
    let mut third = world.caller_with(Wire::Http1, &token).await;
    let waiting = tokio::spawn(async move { third.outcome("/tool/a").await.0 });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop((first, second));
    assert_eq!(in_time(waiting).await.unwrap(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_shorter_than_the_preface_is_answered() {
    let (world, _upstream) = world(json!({})).await;
    for short in ["GET / HTTP/1.0\r\n\r\n", "P / HTTP/1.1\r\n\r\n"] {
        assert!(short.len() < PREFACE.len());
        let mut stream = TcpStream::connect(world.remit.calls_address())
            .await
            .unwrap();
        stream.write_all(short.as_bytes()).await.unwrap();
        let mut answer = [0; 9];
        in_time(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 ", "{short:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preface_in_pieces_is_http2() {
    let (world, _upstream) = world(json!({})).await;
    let (_, token) = world.task();
    let mut stream = TcpStream::connect(world.remit.calls_address())
        .await
        .unwrap();
    for piece in PREFACE.chunks(5) {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut raw = Raw(stream);
    raw.frame(SETTINGS, 0, 0, &[]).await;
    let head = head(world.remit.calls_address(), &token, &[]);
    raw.frame(HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    let (_, payload) = in_time(raw.until(HEADERS, 1)).await.unwrap();
    assert_eq!(payload[0], OK);
    assert!(in_time(raw.until(DATA, 1)).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_after_a_refused_one_is_served_on_the_same_connection() {
    let (world, _upstream) = world(json!({})).await;
    for wire in [Wire::Http1, Wire::Http2] {
        let mut caller = world.caller(wire).await;
        assert_eq!(caller.outcome("/nothing/a").await.1, "unknown_tool");
        assert_eq!(
            caller.outcome("/tool/a").await.0,
            StatusCode::OK,
            "{wire:?}"
        );
    }
}
