//! What streams: it comes piece by piece, in both directions, and none of it is kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Method, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use testkit::{Answer, Upstream};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::caller::{Wire, empty, pieces, read, whole};
use crate::world::{FAR, Plan, World, in_time};

const MIB: usize = 1024 * 1024;

/// The next piece of a body.
pub(crate) async fn next(body: &mut hyper::body::Incoming) -> Bytes {
    loop {
        let frame = in_time(body.frame()).await.unwrap().unwrap();
        let data = frame.into_data().unwrap();
        if !data.is_empty() {
            return data;
        }
    }
}

/// The second event is an hour away: what arrives was not waited for.
async fn check_events(wire: Wire, http2: &str) {
    let upstream = Upstream::start(Answer::Ticks(2, FAR)).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({ "http2": http2 }))
        .start();
    let mut caller = world.caller(wire).await;
    let response = caller.get("/tool/events").await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await, "data: 0\n\n", "{wire:?} {http2}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one() {
    check_events(Wire::Http1, "never").await;
    check_events(Wire::Http2, "never").await;
    check_events(Wire::Http1, "always").await;
    check_events(Wire::Http2, "always").await;
}

/// Each piece is sent when the one before has come back: a pipe that kept one would stand still.
async fn check_ping_pong(wire: Wire, http2: &str) {
    let case = format!("{wire:?} {http2}");
    let upstream = Upstream::start(Answer::Mirror).await;
    let world = Plan::new()
        .tool(
            "tool",
            &upstream.url(),
            json!({ "body": "stream", "http2": http2 }),
        )
        .start();
    let mut caller = world.caller(wire).await;
    let (mut send, sent) = mpsc::channel::<Bytes>(1);
    let body = StreamBody::new(sent.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
    send.send("piece 0".into()).await.unwrap();
    let mut answer = caller.post("/tool/a", body).await.unwrap().into_body();
    assert_eq!(next(&mut answer).await, "piece 0", "{case}");
    for number in 1..20 {
        let piece = format!("piece {number}");
        send.send(piece.clone().into()).await.unwrap();
        assert_eq!(next(&mut answer).await, piece, "{case}");
    }
    drop(send);
    assert!(
        answer.collect().await.unwrap().to_bytes().is_empty(),
        "{case}"
    );
    assert!(upstream.only().complete, "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_stream_are_passed_on_piece_by_piece() {
    check_ping_pong(Wire::Http1, "never").await;
    check_ping_pong(Wire::Http2, "never").await;
    check_ping_pong(Wire::Http1, "always").await;
    check_ping_pong(Wire::Http2, "always").await;
}

/// 64 MiB up and 64 MiB down, and how much the gateway grew at most, in KiB.
async fn check_large(wire: Wire, http2: &str) {
    let case = format!("{wire:?} {http2}");
    let upstream = Upstream::start(Answer::by(|received| {
        if received.method == Method::GET {
            Answer::Large(64 * MIB)
        } else {
            Answer::json(json!(received.body.len()))
        }
    }))
    .await;
    let world = Plan::new()
        .tool(
            "tool",
            &upstream.url(),
            json!({ "body": "stream", "http2": http2 }),
        )
        .start();
    let mut caller = world.caller(wire).await;
    let warm = caller.get("/tool/warm").await.unwrap();
    drop(warm);
    let mut caller = world.caller(wire).await;
    let before = world.memory("VmRSS");
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let body = pieces(vec![piece; 64 * MIB / (64 * 1024)]);
    let response = caller.post("/tool/up", body).await.unwrap();
    let (came, _) = read(response).await;
    assert_eq!(came, (64 * MIB).to_string(), "{case}");
    let mut body = caller.get("/tool/down").await.unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(length, 64 * MIB, "{case}");
    let grown = world.memory("VmHWM").saturating_sub(before);
    assert!(grown < 64 * 1024, "{case}: {grown} KiB more");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_bounded_memory() {
    check_large(Wire::Http1, "never").await;
    check_large(Wire::Http2, "never").await;
    check_large(Wire::Http1, "always").await;
    check_large(Wire::Http2, "always").await;
}

/// An agent's end of a WebSocket.
pub(crate) type Talk = WebSocketStream<TcpStream>;

/// A WebSocket of an agent, through the gateway.
pub(crate) async fn web_socket(world: &World, path: &str, token: &str) -> Talk {
    let address = world.remit.calls_address();
    let mut request = format!("ws://{address}{path}")
        .into_client_request()
        .unwrap();
    let proof = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", proof);
    let stream = TcpStream::connect(address).await.unwrap();
    let (socket, response) = in_time(client_async(request, stream)).await.unwrap();
    assert!(response.headers().contains_key("remit-decision"));
    socket
}

async fn check_web_socket(world: &World, tool: &str) {
    let (_, token) = world.task();
    let mut socket = web_socket(world, &format!("/{tool}/socket"), &token).await;
    let large = "x".repeat(200_000);
    for text in ["one", "two", &large, ""] {
        socket.send(Message::text(text)).await.unwrap();
        let back = in_time(socket.next()).await.unwrap().unwrap();
        assert_eq!(back, Message::text(text), "{tool}");
    }
    let bytes = Bytes::from_static(&[0, 159, 146, 150]);
    socket.send(Message::binary(bytes.clone())).await.unwrap();
    let back = in_time(socket.next()).await.unwrap().unwrap();
    assert_eq!(back, Message::binary(bytes), "{tool}");
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = in_time(socket.next()).await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_talks_both_ways() {
    let plan = Plan::new();
    let plain = Upstream::start(Answer::WebSocket).await;
    let first = plan.tls_upstream(Answer::WebSocket, &["http/1.1"]).await;
    let both = plan
        .tls_upstream(Answer::WebSocket, &["h2", "http/1.1"])
        .await;
    let world = plan
        .tool("plain", &plain.url(), json!({}))
        .tls_tool("first", &first.url(), json!({}))
        .tls_tool("both", &both.url(), json!({}))
        .start();
    for (tool, upstream) in [("plain", &plain), ("first", &first), ("both", &both)] {
        check_web_socket(&world, tool).await;
        let received = upstream.only();
        assert_eq!(received.version, Version::HTTP_11);
        assert_eq!(received.header("authorization"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_may_be_silent_for_longer_than_a_body() {
    let upstream = Upstream::start(Answer::WebSocket).await;
    let patient = json!({ "timeouts": { "read": "5m" } });
    let world = Plan::new().tool("tool", &upstream.url(), patient).start();
    let (_, token) = world.task();
    let mut socket = web_socket(&world, "/tool/socket", &token).await;
    tokio::time::sleep(Duration::from_secs(62)).await;
    socket.send(Message::text("still here")).await.unwrap();
    let back = in_time(socket.next()).await.unwrap().unwrap();
    assert_eq!(back, Message::text("still here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_anything_else_is_not_passed_on() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new().tool("tool", &upstream.url(), json!({})).start();
    let mut caller = world.caller(Wire::Http1).await;
    let request = caller
        .request(Method::GET, "/tool/a")
        .header("connection", "upgrade")
        .header("upgrade", "h2c")
        .body(empty())
        .unwrap();
    let response = caller.send(request).await.unwrap();
    assert_ne!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    for received in upstream.received() {
        assert_eq!(received.header("upgrade"), None);
    }
}

/// An uncompressed gRPC message.
pub(crate) fn message(bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(bytes.len()).unwrap());
    frame.extend_from_slice(bytes);
    frame.freeze()
}

struct Grpc {
    world: World,
    plain: Upstream,
    tls: Upstream,
}

impl Grpc {
    async fn new(tls: bool) -> Self {
        let plan = Plan::new();
        let answer = || {
            Answer::by(|received| {
                if received.target.ends_with("/List") {
                    let many = (0..100).map(|number| Bytes::from(format!("item {number}")));
                    Answer::Grpc(many.collect(), 0)
                } else if received.target.ends_with("/Get") {
                    Answer::Grpc(vec![Bytes::from_static(b"got")], 0)
                } else {
                    Answer::Grpc(Vec::new(), 5)
                }
            })
        };
        let plain = Upstream::start(answer()).await;
        let over_tls = plan.tls_upstream(answer(), &["h2"]).await;
        let access =
            json!({ "read": ["shop.Shop/Get", "shop.Shop/List"], "write": ["shop.Shop/*"] });
        let plan = if tls { plan.over_tls() } else { plan };
        let grpc = json!({ "protocol": "grpc", "http2": "always", "access": access });
        let world = plan
            .tool("plain", &plain.url(), grpc.clone())
            .tls_tool("tls", &over_tls.url(), grpc)
            .start();
        Self {
            world,
            plain,
            tls: over_tls,
        }
    }

    async fn check(&self, wire: Wire) {
        let (_, token) = self.world.task();
        let mut caller = self.world.caller_with(wire, &token).await;
        for (tool, upstream) in [("plain", &self.plain), ("tls", &self.tls)] {
            let mut call = async |method: &str| {
                let request = caller
                    .request(Method::POST, &format!("/{tool}/shop.Shop/{method}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(whole(message(b"asked")))
                    .unwrap();
                let response = in_time(caller.send(request)).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                in_time(read(response)).await
            };
            let (body, trailers) = call("Get").await;
            assert_eq!(body, message(b"got"), "{wire:?} {tool}");
            assert_eq!(trailers["grpc-status"], "0");
            let (body, trailers) = call("List").await;
            let all = (0..100).map(|number| message(format!("item {number}").as_bytes()));
            assert_eq!(body, all.collect::<Vec<_>>().concat(), "{wire:?} {tool}");
            assert_eq!(trailers["grpc-status"], "0");
            let (body, trailers) = call("Lose").await;
            assert!(body.is_empty());
            assert_eq!(trailers["grpc-status"], "5");
            for received in upstream.received() {
                assert_eq!(received.version, Version::HTTP_2);
                assert_eq!(received.body, message(b"asked"));
                assert_eq!(received.header("te"), Some("trailers"));
            }
            upstream.forget();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_with_its_trailers() {
    Grpc::new(false).await.check(Wire::Http2).await;
    Grpc::new(true).await.check(Wire::TlsHttp2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_grpc_call_is_answered_with_trailers_only() {
    let grpc = Grpc::new(false).await;
    let task = ["--agent", "flow", "--tool", "plain", "--access", "read"];
    let (_, token) = grpc.world.remit.open_task(&task);
    let mut caller = grpc.world.caller_with(Wire::Http2, &token).await;
    let refused = |caller: &crate::caller::Caller, path: &str| {
        caller
            .request(Method::POST, path)
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(whole(message(b"asked")))
            .unwrap()
    };
    let cases = [
        ("/plain/shop.Shop/Lose", "7", "out_of_remit"),
        ("/plain/shop.Shop/a/b", "7", "unknown_operation"),
        ("/nothing/shop.Shop/Get", "12", "unknown_tool"),
    ];
    for (path, status, code) in cases {
        let request = refused(&caller, path);
        let response = in_time(caller.send(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["grpc-status"], status, "{path}");
        assert_eq!(response.headers()["grpc-message"], code, "{path}");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert!(response.headers().contains_key("remit-decision"));
        assert!(hyper::body::Body::is_end_stream(response.body()), "{path}");
    }
    let mut stranger = grpc.world.caller_with(Wire::Http2, "stranger").await;
    let request = refused(&stranger, "/plain/shop.Shop/Get");
    let response = in_time(stranger.send(request)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "16");
    assert_eq!(grpc.plain.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_share_a_connection() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({ "http2": "always" }))
        .start();
    let (_, token) = world.task();
    let caller = Arc::new(world.caller_with(Wire::Http2, &token).await);
    let calls = (0..100).map(|number| {
        let mut caller = caller.beside(&token);
        tokio::spawn(async move {
            let (body, _) = read(caller.get(&format!("/tool/{number}")).await.unwrap()).await;
            let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(echo["target"], format!("/{number}"));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        in_time(call).await.unwrap();
    }
}
