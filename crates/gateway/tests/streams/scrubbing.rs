//! A tool leaks the key that was injected, in every way it can: the agent never gets it.

use std::fs::{Permissions, set_permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use testkit::remit::until;
use testkit::{Answer, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::caller::{Wire, empty, outcome, read, whole};
use crate::flows::{message, next, web_socket};
use crate::world::{FAR, Plan, World, in_time};

const SECRET: &str = "ghp_0123/456789+abcdefABCDEF";
const STARS: &str = "****************************";

/// A tool with the key for reading and writing.
fn tool(plan: Plan, name: &str, upstream: &str, mut more: Value) -> Plan {
    let path = plan.file(&format!("{name}.key"), SECRET);
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let secret = format!("file:{}", path.display());
    let key = json!({ "provider": "static", "secret": secret, "bridge_until": "2100-01-01" });
    more["credentials"] = json!({ "read": key, "write": key });
    plan.tool(name, upstream, more)
}

async fn world(answer: Answer, more: Value) -> (World, Upstream) {
    let upstream = Upstream::start(answer).await;
    let world = tool(Plan::new(), "tool", &upstream.url(), more).start();
    (world, upstream)
}

fn each(spell: impl Fn(char) -> String) -> String {
    SECRET.chars().map(spell).collect()
}

/// The ways in which a body may spell the key.
fn spelled(way: &str) -> String {
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    match way {
        "plain" => SECRET.to_owned(),
        "base64-0" => STANDARD.encode(SECRET),
        "base64-1" => STANDARD.encode(format!("a{SECRET}")),
        "base64-2" => STANDARD.encode(format!("ab{SECRET}")),
        "base64url" => URL_SAFE_NO_PAD.encode(format!("ab{SECRET}")),
        "hex" => hex,
        "upper-hex" => hex.to_uppercase(),
        "percent" => SECRET.replace('/', "%2F").replace('+', "%2b"),
        "percent-all" => each(|letter| format!("%{:02X}", letter as u32)),
        "json" => SECRET.replace('/', "\\/"),
        "json-all" => each(|letter| format!("\\u{:04x}", letter as u32)),
        "html" => each(|letter| format!("&#x{:x};", letter as u32)),
        _ => panic!("no such way: {way}"),
    }
}

const WAYS: [&str; 12] = [
    "plain",
    "base64-0",
    "base64-1",
    "base64-2",
    "base64url",
    "hex",
    "upper-hex",
    "percent",
    "percent-all",
    "json",
    "json-all",
    "html",
];

/// Leaks what it was sent with, as the path says.
fn leak() -> Answer {
    Answer::by(|received| {
        let sent = received.header("authorization").unwrap();
        assert_eq!(sent, format!("Bearer {SECRET}"));
        assert_eq!(received.header("accept-encoding"), Some("identity"));
        assert_eq!(received.header("range"), None);
        let way = received.target.strip_prefix("/").unwrap();
        let body = format!("{{\"way\": \"{way}\", \"key\": \"{}\"}}", spelled(way));
        Answer::Bytes(StatusCode::OK, body.into())
    })
}

const WIRES: [(Wire, &str); 4] = [
    (Wire::Http1, "never"),
    (Wire::Http2, "never"),
    (Wire::Http1, "always"),
    (Wire::Http2, "always"),
];

/// How much of the middle of a body is masked; the rest is as it was.
#[track_caller]
fn check_masked(body: &[u8], way: &str) {
    let body = std::str::from_utf8(body).unwrap();
    let key = spelled(way);
    let (before, after) = (format!("{{\"way\": \"{way}\", \"key\": \""), "\"}");
    let masked = body
        .strip_prefix(&before)
        .and_then(|left| left.strip_suffix(after));
    let masked = masked.unwrap_or_else(|| panic!("{way}: {body}"));
    assert_eq!(masked.len(), key.len(), "{way}: {body}");
    // The first and last characters of Base64 hold bits of what is beside the key.
    let shown = masked.chars().filter(|letter| *letter != '*').count();
    let most = if way.starts_with("base64") { 6 } else { 0 };
    assert!(shown <= most, "{way}: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_key_that_is_leaked_in_twelve_ways_does_not_arrive() {
    for (wire, http2) in WIRES {
        let (world, _upstream) = world(leak(), json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        for way in WAYS {
            let request = caller
                .request(Method::GET, &format!("/tool/{way}"))
                .header("accept-encoding", "gzip, br")
                .header("range", "bytes=0-9");
            let response = caller.send(request.body(empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{way}");
            let (body, _) = in_time(read(response)).await;
            check_masked(&body, way);
        }
        told(&world, WAYS.len()).await;
    }
}

/// The record says how often, and nothing says what.
async fn told(world: &World, calls: usize) {
    let closed = || -> Vec<Value> {
        let audit = world.audit().into_iter();
        audit.filter(|line| line["kind"] == "closed").collect()
    };
    until("every call is closed", || closed().len() >= calls);
    for line in closed() {
        assert_eq!(line["secrets_scrubbed"], 1, "{line}");
        assert!(!line.to_string().contains(SECRET));
    }
    until("it is logged", || {
        world
            .remit
            .logged()
            .contains("answer held the injected secret")
    });
    assert!(!world.remit.logged().contains(SECRET));
    let metrics = world.remit.control("/metrics");
    let metrics = tokio::task::spawn_blocking(move || {
        testkit::http().get(metrics).send().unwrap().text().unwrap()
    });
    let metrics = metrics.await.unwrap();
    let counted = format!("remit_secrets_scrubbed_total {calls}");
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_key_that_is_split_anywhere_does_not_arrive() {
    for (wire, http2) in WIRES {
        let answer = Answer::by(|received| {
            let at: usize = received.target.strip_prefix("/").unwrap().parse().unwrap();
            let (first, second) = SECRET.split_at(at);
            let pieces = vec![format!("<{first}").into(), format!("{second}>").into()];
            Answer::Pieces("text/plain", pieces, Duration::from_millis(10))
        });
        let (world, _upstream) = world(answer, json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        for at in 0..=SECRET.len() {
            let response = caller.get(&format!("/tool/{at}")).await.unwrap();
            let (body, _) = in_time(read(response)).await;
            assert_eq!(body, format!("<{STARS}>"), "{wire:?} {http2} at {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_key_in_the_head_does_not_arrive() {
    for (wire, http2) in WIRES {
        let location = format!("https://a.example/?key={}", spelled("percent"));
        let answer = Answer::Json(StatusCode::FOUND, json!({}))
            .with("location", &location)
            .with("set-cookie", "a=b")
            .with("set-cookie", &format!("key={SECRET}; Path=/"))
            .with("x-basic", &STANDARD.encode(format!("user:{SECRET}")));
        let (world, _upstream) = world(answer, json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        // Over HTTP/2 hyper answers HEAD with a body, which is an error.
        let head = (http2 == "never").then_some(Method::HEAD);
        for method in [Method::GET].into_iter().chain(head) {
            let request = caller.request(method, "/tool/a").body(empty()).unwrap();
            let response = in_time(caller.send(request)).await.unwrap();
            let headers = response.headers();
            let stars = "*".repeat(spelled("percent").len());
            assert_eq!(
                headers["location"],
                format!("https://a.example/?key={stars}")
            );
            let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
            assert_eq!(cookies, [&format!("key={STARS}; Path=/"), "a=b"]);
            assert!(headers["x-basic"].to_str().unwrap().contains("**********"));
            in_time(read(response)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_key_in_the_reason_does_not_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        let answer = format!("HTTP/1.1 200 key {SECRET}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let world = tool(Plan::new(), "tool", &url, json!({})).start();
    let (_, token) = world.task();
    let mut stream = TcpStream::connect(world.remit.calls_address())
        .await
        .unwrap();
    let request = format!(
        "GET /tool/a HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n",
        world.remit.calls_address()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains(SECRET), "{answer}");
}

fn coded(coding: &str) -> Vec<u8> {
    let text = format!("<{SECRET}>");
    match coding {
        "gzip" => {
            let mut coder = GzEncoder::new(Vec::new(), Compression::default());
            coder.write_all(text.as_bytes()).unwrap();
            coder.finish().unwrap()
        }
        "deflate" => {
            let mut coder = ZlibEncoder::new(Vec::new(), Compression::default());
            coder.write_all(text.as_bytes()).unwrap();
            coder.finish().unwrap()
        }
        "br" => {
            let mut coder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            coder.write_all(text.as_bytes()).unwrap();
            coder.into_inner()
        }
        _ => zstd::encode_all(text.as_bytes(), 3).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_key_in_a_coded_answer_does_not_arrive() {
    for (wire, http2) in WIRES {
        let answer = Answer::by(|received| {
            let coding = received.target.strip_prefix("/").unwrap();
            Answer::Bytes(StatusCode::OK, coded(coding).into()).with("content-encoding", coding)
        });
        let (world, _upstream) = world(answer, json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let response = caller.get(&format!("/tool/{coding}")).await.unwrap();
            assert!(!response.headers().contains_key("content-encoding"));
            let (body, _) = in_time(read(response)).await;
            assert_eq!(body, format!("<{STARS}>"), "{wire:?} {http2} {coding}");
        }
        let refused = outcome(caller.get("/tool/compress").await.unwrap()).await;
        let expect = (StatusCode::BAD_GATEWAY, "unscrubbable".to_owned());
        assert_eq!(refused, expect);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_coded_answer_that_is_broken_is_broken_off() {
    // The first piece is the head of a gzip, and leaves nothing to say; what comes then is none.
    let pieces = ["\x1f\u{8b}\x08", "\0\0\0\0\0\0\0", "neither this nor that"];
    let pieces = pieces.map(|piece| piece.chars().map(|byte| byte as u8).collect());
    for (wire, http2) in WIRES {
        let pause = Duration::from_millis(50);
        let answer = Answer::Pieces("text/plain", pieces.to_vec(), pause);
        let (world, _upstream) = world(
            answer.with("content-encoding", "gzip"),
            json!({ "http2": http2 }),
        )
        .await;
        let mut caller = world.caller(wire).await;
        let response = in_time(caller.get("/tool/a")).await.unwrap();
        let status = response.status();
        let body = in_time(response.into_body().collect()).await;
        // Where its head has not left yet, there is a refusal instead.
        let is_refused = status == StatusCode::BAD_GATEWAY && body.is_ok();
        assert!(body.is_err() || is_refused, "{wire:?} {http2} {status}");
        until("it is told", || {
            world
                .audit()
                .iter()
                .any(|line| line["code"] == "unscrubbable" && line["kind"] == "closed")
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_an_event_is_masked_and_not_waited_for() {
    for (wire, http2) in WIRES {
        // It ends as the key begins.
        let event = format!("data: {SECRET}\ndata: ghp_0\n\n");
        let pieces = vec![event.into(), "data: later\n\n".into()];
        let answer = Answer::Pieces("text/event-stream", pieces, FAR);
        let (world, _upstream) = world(answer, json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        let mut body = caller.get("/tool/a").await.unwrap().into_body();
        let expect = format!("data: {STARS}\ndata: ghp_0\n\n");
        let mut came = Vec::new();
        while came.len() < expect.len() {
            came.extend_from_slice(&next(&mut body).await);
        }
        assert_eq!(came, expect.as_bytes(), "{wire:?} {http2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_web_socket_gives_no_key() {
    let (world, upstream) = world(Answer::WebSocket, json!({})).await;
    let (_, token) = world.task();
    let mut socket = web_socket(&world, "/tool/socket", &token).await;
    let long = format!("{}{SECRET}", "x".repeat(70_000));
    // The second is the beginning of the key: it is not waited for.
    for text in [SECRET, "ghp_0", "plain", &long] {
        socket.send(Message::text(text)).await.unwrap();
        let back = in_time(socket.next()).await.unwrap().unwrap();
        assert_eq!(back, Message::text(text.replace(SECRET, STARS)));
    }
    socket.send(Message::Ping(SECRET.into())).await.unwrap();
    // The upstream sends it back, and answers it.
    for _ in 0..2 {
        let back = in_time(socket.next()).await.unwrap().unwrap();
        assert!(back.is_ping() || back.is_pong(), "{back}");
        assert_eq!(back.into_data(), STARS);
    }
    assert_eq!(upstream.only().header("sec-websocket-extensions"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_grpc_messages_and_trailers_give_no_key() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("5"));
    let text = HeaderValue::from_str(&format!("no {}", spelled("percent"))).unwrap();
    trailers.insert("grpc-message", text);
    trailers.insert("x-key", HeaderValue::from_static(SECRET));
    // The second ends as the key begins, and the third goes on as it does.
    let (first, second) = SECRET.split_at(9);
    let messages = [SECRET, first, second].map(|text| Bytes::from_static(text.as_bytes()));
    let answer = Answer::Trailed(messages.to_vec(), trailers);
    let more = json!({
        "protocol": "grpc", "http2": "always", "access": { "read": ["shop.Shop/*"] },
    });
    let (world, upstream) = world(answer, more).await;
    let mut caller = world.caller(Wire::Http2).await;
    let request = caller
        .request(Method::POST, "/tool/shop.Shop/Get")
        .header("content-type", "application/grpc")
        .header("grpc-accept-encoding", "gzip")
        .header("te", "trailers")
        .body(whole(message(b"asked")))
        .unwrap();
    let response = in_time(caller.send(request)).await.unwrap();
    let (body, trailers) = in_time(read(response)).await;
    let expect = [STARS, first, second].map(|text| message(text.as_bytes()));
    assert_eq!(body, expect.concat());
    let stars = "*".repeat(spelled("percent").len());
    assert_eq!(trailers["grpc-message"], format!("no {stars}"));
    assert_eq!(trailers["x-key"], STARS);
    assert_eq!(trailers["grpc-status"], "5");
    let asked = upstream.only();
    assert_eq!(asked.header("grpc-accept-encoding"), Some("identity"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_key_is_passed_on_as_it_is() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new().tool("tool", &upstream.url(), json!({})).start();
    let mut caller = world.caller(Wire::Http1).await;
    let request = caller
        .request(Method::GET, "/tool/a")
        .header("accept-encoding", "gzip")
        .header("range", "bytes=0-9");
    let response = caller.send(request.body(empty()).unwrap()).await.unwrap();
    in_time(read(response)).await;
    let received = upstream.only();
    assert_eq!(received.header("accept-encoding"), Some("gzip"));
    assert_eq!(received.header("range"), Some("bytes=0-9"));
}
