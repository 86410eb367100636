//! That an upstream tells what came, and answers as told.

use super::*;
use crate::Authority;
use futures::SinkExt;
use reqwest::Client;
use tokio_tungstenite::tungstenite::Message;

fn client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider()
        .install_default()
        .is_ok();
    Client::builder().no_proxy()
}

async fn check(answer: Answer, expect: &str) {
    let upstream = Upstream::start(answer).await;
    let client = client().build().unwrap();
    let answer = client
        .post(format!("{}/a?b=c", upstream.url()))
        .body("hi")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), expect);
    let received = upstream.only();
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/a?b=c")
    );
    assert_eq!((&*received.body, received.complete), (&b"hi"[..], true));
}

#[tokio::test]
async fn json_is_answered() {
    check(Answer::json(json!({ "a": 1 })), r#"{"a":1}"#).await;
}
#[tokio::test]
async fn the_body_comes_back() {
    check(Answer::Mirror, "hi").await;
}
#[tokio::test]
async fn it_ticks() {
    check(Answer::Ticks(2, Duration::ZERO), "data: 0\n\ndata: 1\n\n").await;
}
#[tokio::test]
async fn it_can_be_large() {
    check(Answer::Large(20_000), &"x".repeat(20_000)).await;
}
#[tokio::test]
async fn it_decides_by_the_request() {
    check(
        Answer::by(|received| Answer::json(json!(received.target))),
        r#""/a?b=c""#,
    )
    .await;
}
#[tokio::test]
async fn it_echoes_what_came() {
    let upstream = Upstream::start(Answer::Echo.with("x-more", "1").slow(Duration::ZERO)).await;
    let answer = client()
        .build()
        .unwrap()
        .get(upstream.url())
        .header("x-key", "k")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-more"], "1");
    let echo: Value = answer.json().await.unwrap();
    assert!(
        echo["headers"]
            .as_array()
            .unwrap()
            .contains(&json!(["x-key", "k"]))
    );
}
#[tokio::test]
async fn it_speaks_http_2_in_plain_text() {
    let upstream = Upstream::start(Answer::Grpc(vec!["m".into()], 5)).await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let answer = client.get(upstream.url()).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), &b"\0\0\0\0\x01m"[..]);
    assert_eq!(upstream.only().version, Version::HTTP_2);
}
#[tokio::test]
async fn a_broken_answer_is_seen() {
    let upstream = Upstream::start(Answer::Broken("part".into())).await;
    let answer = client()
        .build()
        .unwrap()
        .get(upstream.url())
        .send()
        .await
        .unwrap();
    answer.bytes().await.unwrap_err();
}
#[tokio::test]
async fn a_socket_sends_messages_back() {
    let upstream = Upstream::start(Answer::WebSocket).await;
    let url = format!("ws://{}/socket", upstream.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send(Message::text("hi")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hi"));
}

async fn check_tls(client_authority: &Authority, demanded: &Authority, accepted: bool) {
    let authority = Authority::new("servers");
    let config = authority
        .server(&["127.0.0.1"])
        .server_config(Some(demanded));
    let upstream = Upstream::start_tls(Answer::Echo, config).await;
    let certified = client_authority.client("agent", 1);
    let config = authority.client_config(Some(&certified));
    let client = client().tls_backend_preconfigured(config).build().unwrap();
    let answer = client.get(upstream.url()).send().await;
    assert_eq!(answer.is_ok(), accepted, "{answer:?}");
    if accepted {
        assert!(upstream.only().client_certificate.is_some());
    } else {
        assert!(upstream.received().is_empty());
    }
}

#[tokio::test]
async fn a_client_of_the_right_authority_is_accepted() {
    let clients = Authority::new("clients");
    check_tls(&clients, &clients, true).await;
}
#[tokio::test]
async fn a_client_of_another_authority_is_not() {
    check_tls(
        &Authority::new("clients"),
        &Authority::new("clients"),
        false,
    )
    .await;
}
#[tokio::test]
async fn an_expired_server_is_not_believed() {
    let authority = Authority::new("servers");
    let config = authority.expired_server(&["127.0.0.1"]).server_config(None);
    let upstream = Upstream::start_tls(Answer::Echo, config).await;
    let client = client()
        .tls_backend_preconfigured(authority.client_config(None))
        .build()
        .unwrap();
    client.get(upstream.url()).send().await.unwrap_err();
}
