//! What ends a stream: its task, its agent, its gateway.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;
use testkit::{Answer, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use crate::caller::{Wire, empty, outcome};
use crate::flows::web_socket;
use crate::world::{FAR, Plan, World, in_a_second, in_time};

/// The first event of a stream is in.
pub(crate) async fn begun(body: &mut Incoming) {
    let first = in_time(body.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: 0\n\n");
}

/// Ends a task as an operator would.
async fn end_task(world: &World, id: &str) {
    let url = world.remit.control(&format!("/v1/tasks/{id}/end"));
    let token = world.remit.operator_token().to_owned();
    let ended = tokio::task::spawn_blocking(move || {
        let request = testkit::http().post(url).bearer_auth(token);
        request.send().unwrap().status()
    });
    assert_eq!(ended.await.unwrap(), StatusCode::OK);
}

/// Waits until the audit tells how every call of a task ended.
pub(crate) async fn endings(world: &World, task: &str, count: usize) -> Vec<String> {
    for _ in 0..500 {
        let lines = world.audit();
        let closed = lines.iter().filter(|line| line["kind"] == "closed");
        let mine = closed.filter(|line| line["task"] == task);
        let endings: Vec<_> = mine
            .map(|line| line["ending"].as_str().unwrap_or_default().to_owned())
            .collect();
        if endings.len() == count {
            return endings;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("calls of `{task}` were not closed: {:#?}", world.audit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_end_with_their_task() {
    let events = Upstream::start(Answer::Ticks(2, FAR)).await;
    let plan = Plan::new().tool("events", &events.url(), json!({ "http2": "always" }));
    let world = plan.start();
    let (task, token) = world.task();
    let (other, other_token) = world.task();
    let mut kept = world.caller_with(Wire::Http2, &other_token).await;
    let mut kept = kept.get("/events/kept").await.unwrap().into_body();
    begun(&mut kept).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut caller = world.caller_with(Wire::Http2, &token).await;
        for _ in 0..50 {
            let mut stream = caller.get("/events/a").await.unwrap().into_body();
            begun(&mut stream).await;
            streams.push(stream);
        }
    }
    end_task(&world, &task).await;
    in_a_second(async {
        for stream in &mut streams {
            assert!(stream.frame().await.unwrap().is_err());
        }
    })
    .await;
    assert_eq!(endings(&world, &task, 1000).await, ["cut"; 1000]);
    assert!(endings(&world, &other, 0).await.is_empty());
}

/// A task of so many bytes.
fn brief_task(world: &World, bytes: &str) -> (String, String) {
    let mut flags = vec!["--agent", "a", "--access", "read,write", "--bytes", bytes];
    for tool in &world.tools {
        flags.extend(["--tool", tool]);
    }
    world.remit.open_task(&flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_ends_with_the_bytes_of_its_task_whoever_sends_them() {
    let socket = Upstream::start(Answer::WebSocket).await;
    let world = Plan::new().tool("socket", &socket.url(), json!({})).start();
    let (task, token) = brief_task(&world, "100000");
    let mut talk = web_socket(&world, "/socket/c", &token).await;
    let mut passed = 0;
    in_time(async {
        // Each goes up and comes back.
        while talk.send(Message::text("x".repeat(10_000))).await.is_ok() {
            match talk.next().await {
                Some(Ok(Message::Text(_))) => passed += 1,
                _ => break,
            }
        }
    })
    .await;
    assert_eq!(passed, 4);
    assert_eq!(endings(&world, &task, 1).await, ["cut"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_over_http2_ends_with_the_bytes_of_its_task() {
    let mirror = Upstream::start(Answer::Mirror).await;
    let more = json!({ "body": "stream", "http2": "always" });
    let world = Plan::new().tool("mirror", &mirror.url(), more).start();
    let (task, token) = brief_task(&world, "100000");
    let mut caller = world.caller_with(Wire::Http2, &token).await;
    let (mut send, sent) = mpsc::channel::<Bytes>(1);
    let body = StreamBody::new(sent.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
    let answer = tokio::spawn(async move {
        let answer = caller.post("/mirror/d", body).await;
        match answer {
            Ok(answer) => answer.into_body().collect().await.map(drop),
            Err(error) => Err(error),
        }
    });
    in_time(async {
        for _ in 0..20 {
            if send.send("x".repeat(10_000).into()).await.is_err() {
                break;
            }
        }
    })
    .await;
    assert!(in_time(answer).await.unwrap().is_err());
    assert_eq!(endings(&world, &task, 1).await, ["cut"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_cuts_its_streams_and_no_others() {
    let events = Upstream::start(Answer::Ticks(2, FAR)).await;
    let mirror = Upstream::start(Answer::Mirror).await;
    let socket = Upstream::start(Answer::WebSocket).await;
    let world = Plan::new()
        .tool("events", &events.url(), json!({}))
        .tool(
            "mirror",
            &mirror.url(),
            json!({ "body": "stream", "http2": "always" }),
        )
        .tool("socket", &socket.url(), json!({}))
        .start();
    let (ended, token) = world.task();
    let (other, other_token) = world.task();

    let mut first = world.caller_with(Wire::Http1, &token).await;
    let mut first = first.get("/events/a").await.unwrap().into_body();
    begun(&mut first).await;
    let mut shared = world.caller_with(Wire::Http2, &token).await;
    let mut second = shared.get("/events/b").await.unwrap().into_body();
    begun(&mut second).await;
    let mut talk = web_socket(&world, "/socket/c", &token).await;
    talk.send(Message::text("here")).await.unwrap();
    in_time(talk.next()).await.unwrap().unwrap();
    let mut waiting = shared.beside(&token);
    let waiting = tokio::spawn(async move {
        let (never, sent) = mpsc::channel::<Bytes>(1);
        let body = StreamBody::new(sent.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
        let answer = waiting.post("/mirror/d", body).await;
        let answer = match answer {
            Ok(response) => response.into_body().collect().await.map(drop),
            Err(error) => Err(error),
        };
        drop(never);
        answer
    });
    mirror_has(&mirror, 1).await;

    let mut beside = shared.beside(&other_token);
    let (mut send, sent) = mpsc::channel::<Bytes>(1);
    let body = StreamBody::new(sent.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
    send.send("one".into()).await.unwrap();
    let mut kept = beside.post("/mirror/e", body).await.unwrap().into_body();
    let piece = in_time(kept.frame()).await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "one");

    end_task(&world, &ended).await;
    in_a_second(async {
        assert!(first.frame().await.unwrap().is_err());
        assert!(second.frame().await.unwrap().is_err());
        assert!(!matches!(talk.next().await, Some(Ok(_))));
        assert!(waiting.await.unwrap().is_err());
    })
    .await;
    assert_eq!(endings(&world, &ended, 4).await, ["cut"; 4]);

    send.send("two".into()).await.unwrap();
    let piece = in_time(kept.frame()).await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "two");
    drop(send);
    kept.collect().await.unwrap();
    assert_eq!(endings(&world, &other, 1).await, ["complete"]);

    let refused = shared.outcome("/events/f").await;
    assert_eq!(refused, (StatusCode::FORBIDDEN, "task_ended".to_owned()));
}

async fn mirror_has(mirror: &Upstream, count: usize) {
    in_time(async {
        while mirror.received().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_cuts_calls_that_wait_for_their_body_or_their_upstream() {
    let slow = Upstream::start(Answer::Echo.slow(FAR)).await;
    let world = Plan::new().tool("tool", &slow.url(), json!({})).start();
    for wire in [Wire::Http1, Wire::Http2] {
        let (id, token) = world.task();
        let mut caller = world.caller_with(wire, &token).await;
        let upstream = tokio::spawn(async move { caller.get("/tool/a").await.map(drop) });
        let mut caller = world.caller_with(wire, &token).await;
        let (mut send, sent) = mpsc::channel::<Bytes>(1);
        send.send("\"begun".into()).await.unwrap();
        let body = StreamBody::new(sent.map(|piece| Ok(Frame::data(piece)))).boxed_unsync();
        let inspected = tokio::spawn(async move { caller.post("/tool/b", body).await.map(drop) });
        mirror_has(&slow, 1).await;
        slow.forget();
        // The inspected call has reached nobody; it is given the time to be bound to its task.
        tokio::time::sleep(Duration::from_millis(300)).await;
        end_task(&world, &id).await;
        in_a_second(async {
            assert!(upstream.await.unwrap().is_err(), "{wire:?}");
            assert!(inspected.await.unwrap().is_err(), "{wire:?}");
        })
        .await;
        assert_eq!(endings(&world, &id, 2).await, ["cut"; 2]);
        drop(send);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_loses_no_call_in_flight() {
    let upstream = Upstream::start(Answer::Echo.slow(Duration::from_secs(2))).await;
    let world = Plan::new().tool("tool", &upstream.url(), json!({})).start();
    let (_, token) = world.task();
    let mut calls = Vec::new();
    for number in 0..40 {
        let wire = [Wire::Http1, Wire::Http2][number % 2];
        let mut caller = world.caller_with(wire, &token).await;
        calls.push(tokio::spawn(async move {
            outcome(caller.get("/tool/a").await.unwrap()).await.0
        }));
    }
    in_time(async {
        while upstream.received().len() < calls.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let World { remit, .. } = world;
    let stopped = tokio::task::spawn_blocking(move || remit.stop());
    for call in calls {
        assert_eq!(in_time(call).await.unwrap(), StatusCode::OK);
    }
    assert!(in_time(stopped).await.unwrap());
}

/// Reads until the peer closes.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_closes_connections_on_which_nothing_happens() {
    let upstream = Upstream::start(Answer::Echo).await;
    let world = Plan::new().tool("tool", &upstream.url(), json!({})).start();
    let address = world.remit.calls_address().to_owned();
    let mut silent = TcpStream::connect(&address).await.unwrap();
    let mut preface = TcpStream::connect(&address).await.unwrap();
    preface.write_all(b"PRI * HTTP").await.unwrap();
    let mut head = TcpStream::connect(&address).await.unwrap();
    head.write_all(b"GET /tool/a HTTP/1.1\r\nhost: a\r\n")
        .await
        .unwrap();
    let mut kept1 = world.caller(Wire::Http1).await;
    let mut kept2 = world.caller(Wire::Http2).await;
    assert_eq!(kept1.outcome("/tool/a").await.0, StatusCode::OK);
    assert_eq!(kept2.outcome("/tool/a").await.0, StatusCode::OK);
    let World { remit, .. } = world;
    let stopped = tokio::task::spawn_blocking(move || remit.stop());
    // Far below the 30 s that calls in flight are given.
    let patience = Duration::from_secs(10);
    let all = async {
        closed(&mut silent).await;
        closed(&mut preface).await;
        closed(&mut head).await;
        assert!(stopped.await.unwrap());
    };
    tokio::time::timeout(patience, all).await.unwrap();
    assert!(kept1.get("/tool/a").await.is_err());
    assert!(kept2.get("/tool/a").await.is_err());
}

/// An HTTP/1.1 upstream that answers a head and a piece, and then tells when the gateway is gone.
async fn first_upstream() -> (String, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (gone, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).await.unwrap();
        assert!(length > 0);
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
        stream.write_all(answer).await.unwrap();
        closed(&mut stream).await;
        gone.send(()).unwrap();
    });
    (url, told)
}

/// The same over HTTP/2.
async fn second_upstream() -> (String, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (gone, told) = oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let driven = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let head = http::Response::new(());
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"x"), false).unwrap();
        std::future::poll_fn(|context| body.poll_reset(context))
            .await
            .ok();
        gone.send(()).unwrap();
        driven.await.unwrap();
    });
    (url, told)
}

async fn check_abort(wire: Wire, url: &str, http2: &str, gone: oneshot::Receiver<()>) {
    let world = Plan::new()
        .tool("tool", url, json!({ "http2": http2 }))
        .start();
    let (id, token) = world.task();
    let mut caller = world.caller_with(wire, &token).await;
    let request = caller
        .request(Method::GET, "/tool/a")
        .body(empty())
        .unwrap();
    let mut response = caller.send(request).await.unwrap();
    let piece = in_time(response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "x");
    drop(response);
    let kept = (wire == Wire::Http2).then_some(caller);
    let told = tokio::time::timeout(Duration::from_secs(10), gone).await;
    told.unwrap_or_else(|_| panic!("{wire:?} to {http2}: the upstream was not told"))
        .unwrap();
    drop(kept);
    assert_eq!(
        endings(&world, &id, 1).await,
        ["client_gone"],
        "{wire:?} {http2}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_goes_cancels_the_request() {
    for wire in [Wire::Http1, Wire::Http2] {
        let (url, gone) = first_upstream().await;
        check_abort(wire, &url, "never", gone).await;
        let (url, gone) = second_upstream().await;
        check_abort(wire, &url, "always", gone).await;
    }
}
