//! How tools are reached, how they fail, and whose connection a call goes out on.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use testkit::{Answer, Authority, Upstream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::caller::{Wire, empty, outcome, whole};
use crate::world::{FAR, Plan, in_time};

/// A port on which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_down_is_unreachable() {
    let url = nobody().await;
    let world = Plan::new()
        .tool("tool", &url, json!({}))
        .tool("h2", &url, json!({ "http2": "always" }))
        .tls_tool("tls", &url.replace("http", "https"), json!({}))
        .start();
    for wire in [Wire::Http1, Wire::Http2] {
        for tool in ["tool", "h2", "tls"] {
            let mut caller = world.caller(wire).await;
            let expect = (StatusCode::BAD_GATEWAY, "upstream_unreachable".to_owned());
            assert_eq!(
                caller.outcome(&format!("/{tool}/a")).await,
                expect,
                "{tool}"
            );
        }
    }
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
    assert_eq!(answer.1, "upstream_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_with_a_wrong_certificate_is_not_trusted_and_sent_nothing() {
    let plan = Plan::new();
    let stranger = Authority::new("test");
    let wrong = [
        ("ca", stranger.server(&["127.0.0.1"])),
        ("name", plan.authority().server(&["other.example"])),
        ("expired", plan.authority().expired_server(&["127.0.0.1"])),
    ];
    let mut upstreams = Vec::new();
    for (name, certified) in &wrong {
        let upstream = Upstream::start_tls(Answer::Echo, certified.server_config(None)).await;
        upstreams.push((*name, upstream));
    }
    let right = plan.tls_upstream(Answer::Echo, &["h2", "http/1.1"]).await;
    let mut plan = plan.tls_tool("right", &right.url(), json!({}));
    for (name, upstream) in &upstreams {
        plan = plan.tls_tool(name, &upstream.url(), json!({}));
    }
    // The system's own authorities know nothing of the test's.
    let world = plan.tool("system", &right.url(), json!({})).start();
    let mut caller = world.caller(Wire::Http2).await;
    assert_eq!(caller.outcome("/right/a").await.0, StatusCode::OK);
    for name in ["ca", "name", "expired", "system"] {
        let path = format!("/{name}/a");
        let response = caller.post(&path, whole("\"x\"")).await.unwrap();
        let expect = (StatusCode::BAD_GATEWAY, "upstream_untrusted".to_owned());
        assert_eq!(outcome(response).await, expect, "{name}");
    }
    for (name, upstream) in &upstreams {
        assert!(upstream.received().is_empty(), "{name}");
    }
    assert_eq!(right.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_speaks_no_tls_is_not_trusted() {
    let plain = Upstream::start(Answer::Echo).await;
    let url = plain.url().replace("http", "https");
    let world = Plan::new().tls_tool("tool", &url, json!({})).start();
    let mut caller = world.caller(Wire::Http1).await;
    assert_eq!(caller.outcome("/tool/a").await.1, "upstream_untrusted");
    assert!(plain.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_stays_silent_is_given_up() {
    let slow = Upstream::start(Answer::Echo.slow(FAR)).await;
    // It takes connections and says nothing at all, not even in TLS.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = format!("https://{}", mute.local_addr().unwrap());
    let timeouts = json!({ "timeouts": { "connect": "1s", "read": "1s" } });
    let mut http2 = timeouts.clone();
    http2["http2"] = json!("always");
    let world = Plan::new()
        .tool("tool", &slow.url(), timeouts.clone())
        .tool("h2", &slow.url(), http2)
        .tls_tool("mute", &mute, timeouts)
        .start();
    for wire in [Wire::Http1, Wire::Http2] {
        for tool in ["tool", "h2", "mute"] {
            let mut caller = world.caller(wire).await;
            let expect = (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout".to_owned());
            let answer = in_time(caller.outcome(&format!("/{tool}/a"))).await;
            assert_eq!(answer, expect, "{wire:?} {tool}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_breaks_off_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            assert!(stream.read(&mut bytes).await.unwrap() > 0);
        }
    });
    let world = Plan::new().tool("tool", &url, json!({})).start();
    let mut caller = world.caller(Wire::Http1).await;
    let response = caller.post("/tool/a", whole("1")).await.unwrap();
    assert_eq!(outcome(response).await.1, "upstream_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_returned_and_no_other_way_is_advertised() {
    let answer = Answer::Json(StatusCode::FOUND, json!("elsewhere"))
        .with("location", "https://elsewhere.example/a")
        .with("alt-svc", "h3=\":443\"");
    let upstream = Upstream::start(answer).await;
    let world = Plan::new()
        .tool("tool", &upstream.url(), json!({}))
        .tool("h2", &upstream.url(), json!({ "http2": "always" }))
        .start();
    for (wire, tool) in [
        (Wire::Http1, "tool"),
        (Wire::Http2, "tool"),
        (Wire::Http1, "h2"),
        (Wire::Http2, "h2"),
    ] {
        let mut caller = world.caller(wire).await;
        let response = caller.get(&format!("/{tool}/a")).await.unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
        let headers = response.headers();
        assert_eq!(headers["location"], "https://elsewhere.example/a");
        assert_eq!(headers.get("alt-svc"), None);
        assert!(headers.contains_key("remit-decision"));
    }
    assert_eq!(upstream.received().len(), 4);
}

/// Two tools at one address, with certificates that only their keys tell apart.
async fn check_certificates(alpn: &[&str]) {
    let plan = Plan::new();
    let clients = Authority::new("clients");
    let (alice, bob) = (clients.client("tool", 7), clients.client("tool", 7));
    let certified = plan.authority().server(&["127.0.0.1"]);
    let mut config = certified.server_config(Some(&clients));
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let upstream = Upstream::start_tls(Answer::Echo, config).await;
    let alice_pair = json!({ "client_certificate": plan.pair("alice", &alice) });
    let bob_pair = json!({ "client_certificate": plan.pair("bob", &bob) });
    let world = plan
        .tls_tool("alice", &upstream.url(), alice_pair)
        .tls_tool("bob", &upstream.url(), bob_pair)
        .tls_tool("nobody", &upstream.url(), json!({}))
        .start();
    let mut caller = world.caller(Wire::Http2).await;
    for tool in ["alice", "bob", "bob", "alice"] {
        let answer = caller.outcome(&format!("/{tool}/a")).await;
        assert_eq!(answer.0, StatusCode::OK, "{tool}: {}", answer.1);
    }
    let received = upstream.received();
    let shown: Vec<_> = received
        .iter()
        .map(|received| received.client_certificate.clone().unwrap())
        .collect();
    assert_eq!(shown[0], shown[3]);
    assert_eq!(shown[1], shown[2]);
    assert_ne!(shown[0], shown[1]);
    // Each has a connection of its own, and uses it again.
    let connections: Vec<_> = received.iter().map(|each| each.connection).collect();
    assert_eq!(connections[0], connections[3]);
    assert_eq!(connections[1], connections[2]);
    assert_ne!(connections[0], connections[1]);
    // Without a certificate nothing is sent.
    assert_ne!(caller.outcome("/nobody/a").await.0, StatusCode::OK);
    assert_eq!(upstream.received().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_not_shared_between_client_certificates() {
    check_certificates(&["http/1.1"]).await;
    check_certificates(&["h2"]).await;
}

async fn check_authorities(alpn: &[&str]) {
    let plan = Plan::new();
    let upstream = plan.tls_upstream(Answer::Echo, alpn).await;
    let stranger = plan.file("stranger.pem", &Authority::new("test").pem());
    let world = plan
        .tls_tool("right", &upstream.url(), json!({}))
        .tool("wrong", &upstream.url(), json!({ "ca": stranger }))
        .start();
    let mut caller = world.caller(Wire::Http2).await;
    for _ in 0..2 {
        assert_eq!(caller.outcome("/right/a").await.0, StatusCode::OK);
        assert_eq!(caller.outcome("/wrong/a").await.1, "upstream_untrusted");
    }
    assert_eq!(upstream.received().len(), 2);
    let connections: Vec<_> = upstream.received().iter().map(|it| it.connection).collect();
    assert_eq!(connections[0], connections[1], "the right one is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_not_shared_between_authorities() {
    check_authorities(&["http/1.1"]).await;
    check_authorities(&["h2"]).await;
}

/// A tool that closes idle connections: the next call must not fail for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_connection_is_replaced() {
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            assert!(stream.read(&mut bytes).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            // It seems to be kept, and is closed.
        }
    });
    let world = Plan::new().tool("tool", &url, json!({})).start();
    let mut caller = world.caller(Wire::Http1).await;
    for _ in 0..5 {
        assert_eq!(caller.outcome("/tool/a").await.0, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
