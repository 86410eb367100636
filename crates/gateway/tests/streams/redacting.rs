//! What a decision takes out of an answer does not arrive, in whatever form the answer comes.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Answer, Upstream};

use crate::caller::{Wire, empty, outcome, read};
use crate::world::{Plan, World, in_time};

const RULES: &str = "\nredact contains \"/result/ssn\"\nredact contains \"/rows/*/ssn\"\n";
const SAID: &str =
    r#"{"result": {"ssn": "078-05-1120", "n": 1.50}, "rows": [{"ssn": 1}, {"n": 2}]}"#;
const ARRIVES: &str =
    r#"{"result": {"ssn": "[redacted]", "n": 1.50}, "rows": [{"ssn": "[redacted]"}, {"n": 2}]}"#;

const WIRES: [(Wire, &str); 4] = [
    (Wire::Http1, "never"),
    (Wire::Http2, "never"),
    (Wire::Http1, "always"),
    (Wire::Http2, "always"),
];

fn gzip(text: &str) -> Bytes {
    let mut coder = GzEncoder::new(Vec::new(), Compression::default());
    coder.write_all(text.as_bytes()).unwrap();
    coder.finish().unwrap().into()
}

async fn world(answer: Answer, more: Value) -> (World, Upstream) {
    let upstream = Upstream::start(answer).await;
    let plan = Plan::new().rules(RULES);
    let world = plan.tool("tool", &upstream.url(), more).start();
    (world, upstream)
}

/// What arrives of an answer, over all wires.
async fn check(answer: Answer, expect: &str) {
    let upstream = Upstream::start(answer).await;
    for (wire, http2) in WIRES {
        let plan = Plan::new().rules(RULES);
        let more = json!({ "http2": http2 });
        let world = plan.tool("tool", &upstream.url(), more).start();
        let mut caller = world.caller(wire).await;
        let request = caller
            .request(Method::GET, "/tool/a")
            .header("accept-encoding", "gzip, br")
            .header("range", "bytes=0-9");
        let response = caller.send(request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("content-encoding"));
        let (body, _) = in_time(read(response)).await;
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            expect,
            "{wire:?} {http2}"
        );
    }
    for received in upstream.received() {
        assert_eq!(received.header("accept-encoding"), Some("identity"));
        assert_eq!(received.header("range"), None);
    }
}

fn json_answer(body: impl Into<Bytes>) -> Answer {
    Answer::Bytes(StatusCode::OK, body.into()).with("content-type", "application/json")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_redacted() {
    check(json_answer(SAID), ARRIVES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coded_one_is_decoded_and_redacted() {
    let answer = json_answer(gzip(SAID)).with("content-encoding", "gzip");
    check(answer, ARRIVES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_redacted_one_by_one() {
    let event = format!("event: message\r\nid: 7\r\ndata: {SAID}\r\n\r\n");
    let stream = [event.as_bytes(), event.as_bytes(), b"data: [DONE]\n\n"].concat();
    let pieces = stream.chunks(11).map(Bytes::copy_from_slice).collect();
    let answer = Answer::Pieces("text/event-stream", pieces, Duration::ZERO);
    let arrives = format!("event: message\ndata: {ARRIVES}\n\n");
    check(answer, &format!("{arrives}{arrives}data: [DONE]\n\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_redacted_one_by_one() {
    let pieces = [SAID, "\n", SAID]
        .map(|text| Bytes::from_static(text.as_bytes()))
        .to_vec();
    let answer = Answer::Pieces("application/x-ndjson", pieces, Duration::ZERO);
    check(answer, &format!("{ARRIVES}\n{ARRIVES}")).await;
}

async fn check_refused(answer: Answer) {
    for (wire, http2) in WIRES {
        let (world, _upstream) = world(answer.clone(), json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        let expect = (StatusCode::BAD_GATEWAY, "unredactable".to_owned());
        assert_eq!(in_time(caller.outcome("/tool/a")).await, expect);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_refused() {
    let page = Answer::Bytes(StatusCode::OK, SAID.into());
    check_refused(page.clone().with("content-type", "text/html")).await;
    let part = json_answer(SAID).with("content-range", "bytes 0-9/100");
    check_refused(part).await;
    check_refused(json_answer(SAID).with("content-encoding", "compress")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_out_to_be_no_json_is_broken_off() {
    for (wire, http2) in WIRES {
        let answer = json_answer(format!("{SAID}}}"));
        let (world, _upstream) = world(answer, json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        let arrived = match caller.get("/tool/a").await {
            Ok(response) if response.status() == StatusCode::OK => {
                use http_body_util::BodyExt;
                let body = in_time(response.into_body().collect()).await;
                body.map(|body| body.to_bytes()).unwrap_or_default()
            }
            Ok(response) => {
                assert_eq!(outcome(response).await.1, "unredactable");
                Bytes::new()
            }
            Err(_) => Bytes::new(),
        };
        assert!(arrived.is_empty(), "{wire:?} {http2}: {arrived:?}");
        testkit::remit::until("it is written down", || {
            let mut lines = world.audit().into_iter();
            lines.any(|line| line["code"] == "unredactable" && line["kind"] == "closed")
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_often_is_audited() {
    let (world, _upstream) = world(json_answer(SAID), json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    assert_eq!(caller.outcome("/tool/a").await.0, StatusCode::OK);
    testkit::remit::until("it is written down", || {
        let mut lines = world.audit().into_iter();
        lines.any(|line| line["values_redacted"] == 2)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_alone_passes() {
    let (world, _upstream) = world(json_answer(SAID), json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    let request = caller.request(Method::HEAD, "/tool/a");
    let response = caller.send(request.body(empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_redacted_is_not_even_sent() {
    let (world, upstream) = world(Answer::WebSocket, json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    let request = caller
        .request(Method::GET, "/tool/socket")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(empty())
        .unwrap();
    let answer = outcome(caller.send(request).await.unwrap()).await;
    assert_eq!(answer, (StatusCode::BAD_GATEWAY, "unredactable".to_owned()));
    assert!(upstream.received().is_empty());
}
