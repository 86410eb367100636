//! A token endpoint that an agent asks through the gateway hands it no token, and what it hands out works all the same.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Answer, Upstream};

use crate::caller::{Caller, Wire, empty, outcome, read, whole};
use crate::world::{Plan, World, in_time};

const ACCESS: &str = "ya29.real-access-token-0123456789";
const REFRESH: &str = "1//real-refresh-token-0123456789";
const ID: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IifQ.real-signature-0123456789";

fn tokens() -> Value {
    json!({
        "access_token": ACCESS, "refresh_token": REFRESH, "id_token": ID,
        "token_type": "Bearer", "expires_in": 3600, "scope": "read",
        "authed_user": { "id": "U1", "access_token": "xoxp-real-user-token" },
    })
}

fn server() -> Answer {
    Answer::by(|received| match received.target.as_str() {
        "/oauth/token" => {
            assert_eq!(received.header("accept"), Some("application/json"));
            Answer::json(tokens())
        }
        _ => Answer::json(json!({
            "authorization": received.header("authorization"),
            "body": String::from_utf8_lossy(&received.body),
        })),
    })
}

fn asking() -> Value {
    json!({ "token_endpoints": ["POST /oauth/token", "POST /oauth/revoke"] })
}

async fn world(answer: Answer, mut more: Value) -> (World, Upstream) {
    let upstream = Upstream::start(answer).await;
    more["token_endpoints"] = asking()["token_endpoints"].clone();
    let world = Plan::new()
        .tool("tool", &upstream.url(), more)
        .tool("other", &upstream.url(), asking())
        .start();
    (world, upstream)
}

fn form(text: &str) -> crate::caller::Body {
    whole(text.to_owned())
}

async fn ask(caller: &mut Caller, path: &str, fields: &str) -> (StatusCode, Vec<u8>) {
    let request = caller
        .request(Method::POST, path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("content-length", fields.len())
        .header("accept-encoding", "gzip");
    let response = caller.send(request.body(form(fields)).unwrap()).await;
    let response = response.unwrap();
    let status = response.status();
    let (body, _) = in_time(read(response)).await;
    (status, body.to_vec())
}

async fn phantoms(caller: &mut Caller) -> Value {
    let (status, body) = ask(caller, "/tool/oauth/token", "grant_type=client_credentials").await;
    assert_eq!(status, StatusCode::OK);
    let text = String::from_utf8(body).unwrap();
    assert!(!text.contains("real"), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn text<'a>(answer: &'a Value, pointer: &str) -> &'a str {
    answer.pointer(pointer).unwrap().as_str().unwrap()
}

/// What a call with a phantom is answered.
async fn call(caller: &mut Caller, path: &str, token: &str) -> (StatusCode, String) {
    let request = caller
        .request(Method::GET, path)
        .header("authorization", format!("Bearer {token}"));
    let response = caller.send(request.body(empty()).unwrap()).await.unwrap();
    let status = response.status();
    let (body, _) = in_time(read(response)).await;
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_an_agent_has_phantoms_that_work_where_the_tokens_would() {
    for (wire, http2) in [
        (Wire::Http1, "never"),
        (Wire::Http2, "never"),
        (Wire::Http1, "always"),
        (Wire::Http2, "always"),
    ] {
        let (world, upstream) = world(server(), json!({ "http2": http2 })).await;
        let mut caller = world.caller(wire).await;
        let answer = phantoms(&mut caller).await;
        assert_eq!(answer["expires_in"], 3600);
        assert_eq!(answer["scope"], "read");
        assert_eq!(answer["authed_user"]["id"], "U1");
        let claims = ID.rsplit_once('.').unwrap().0;
        assert!(text(&answer, "/id_token").starts_with(claims));

        upstream.forget();
        let access = text(&answer, "/access_token").to_owned();
        let (status, echo) = call(&mut caller, "/tool/mail", &access).await;
        assert_eq!(status, StatusCode::OK, "{echo}");
        // What it was is masked even if the tool says it again.
        assert!(!echo.contains("real"), "{echo}");
        let sent = upstream.only();
        assert_eq!(
            sent.header("authorization"),
            Some(&*format!("Bearer {ACCESS}"))
        );

        upstream.forget();
        let fields = format!(
            "grant_type=refresh_token&refresh_token={}",
            text(&answer, "/refresh_token")
        );
        let (status, _) = ask(&mut caller, "/tool/oauth/token", &fields).await;
        assert_eq!(status, StatusCode::OK);
        let sent = upstream.only();
        assert_eq!(
            std::str::from_utf8(&sent.body).unwrap(),
            "grant_type=refresh_token&refresh_token=1%2F%2Freal-refresh-token-0123456789"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_a_phantom_is_worth_nothing_elsewhere() {
    let (world, upstream) = world(server(), json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    let answer = phantoms(&mut caller).await;
    let access = text(&answer, "/access_token").to_owned();
    upstream.forget();
    // At another tool, in another task, or changed.
    let mut another = world.caller(Wire::Http1).await;
    let changed = format!("{}A", access.split_at(access.len() - 1).0);
    let refused = [
        call(&mut caller, "/other/mail", &access).await,
        call(&mut another, "/tool/mail", &access).await,
        call(&mut caller, "/tool/mail", &changed).await,
    ];
    for (status, body) in refused {
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
        assert!(body.contains("unknown_phantom"), "{body}");
    }
    assert!(upstream.received().is_empty());
    // As any other text it is only that.
    let fields = format!("comment={access}");
    let (status, _) = ask(&mut caller, "/tool/oauth/revoke", &fields).await;
    assert_eq!(status, StatusCode::OK);
    let fields = format!("text={access}");
    let (status, _) = ask(&mut caller, "/tool/notes", &fields).await;
    assert_eq!(status, StatusCode::OK);
    for sent in upstream.received() {
        assert!(!String::from_utf8_lossy(&sent.body).contains("real"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_a_token_endpoint_is_one_in_any_spelling() {
    let (world, _upstream) = world(Answer::json(tokens()), json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    for path in [
        "/oauth/token",
        "/oauth/token/",
        "/OAuth/%54oken",
        "/oauth/token?a=b",
    ] {
        let (status, body) = ask(&mut caller, &format!("/tool{path}"), "a=1").await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(!String::from_utf8(body).unwrap().contains("real"), "{path}");
        let (status, body) = call(&mut caller, &format!("/tool{path}"), "x").await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(!body.contains("real"), "{path}");
    }
}

async fn check_refused(answer: Answer) {
    let (world, _upstream) = world(answer, json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    let request = caller.request(Method::POST, "/tool/oauth/token");
    let response = caller.send(request.body(empty()).unwrap()).await.unwrap();
    let expect = (StatusCode::BAD_GATEWAY, "unreadable_tokens".to_owned());
    assert_eq!(outcome(response).await, expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_an_answer_that_cannot_be_read_is_refused() {
    let body = Bytes::from(format!("access_token={ACCESS}"));
    let form = Answer::Bytes(StatusCode::OK, body);
    check_refused(form.with("content-type", "application/x-www-form-urlencoded")).await;
    let json = Answer::json(tokens());
    check_refused(json.clone().with("content-encoding", "compress")).await;
    let moved = Answer::Json(StatusCode::FOUND, json!({}));
    check_refused(moved.with("location", "/#access_token=real")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_a_token_is_found_in_whatever_holds_it() {
    for answer in [
        json!({ "token": ["real"] }),
        json!([{ "access_token": { "value": "real", "type": "bearer", "expires_in": 60 } }]),
        json!({ "access": "real", "refresh": "real" }),
        json!({ "tokens": { "access": "real", "other": { "deep": ["", "real"] } } }),
        json!({ "jwt": "real", "sessionJwt": "real" }),
        json!({ "body": json!({ "access_token": "real" }).to_string() }),
        json!({ "body": json!([json!({ "token": ["real"] }).to_string()]).to_string() }),
    ] {
        let answer = Answer::json(answer).with("set-cookie", "session=real");
        let (world, _upstream) = world(answer, json!({})).await;
        let mut caller = world.caller(Wire::Http1).await;
        let request = caller.request(Method::POST, "/tool/oauth/token");
        let response = caller.send(request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("set-cookie"));
        let (body, _) = in_time(read(response)).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            !text.contains("real") && text.contains("remitphantom_"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_what_says_something_of_a_token_stays() {
    let said = json!({ "token_type": "Bearer", "scope": "read", "expires_in": 60, "expiresAt": "2030-01-01" });
    let mut answer = said.clone();
    answer["value"] = "real".into();
    let (world, _upstream) = world(Answer::json(json!({ "token": answer })), json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    let mut answer = phantoms(&mut caller).await;
    let token = answer["token"].as_object_mut().unwrap();
    assert!(token.remove("value").is_some());
    assert_eq!(answer["token"], said);
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_an_id_token_may_be_a_hint() {
    let (world, upstream) = world(Answer::json(tokens()), json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    let answer = phantoms(&mut caller).await;
    upstream.forget();
    let fields = format!("id_token_hint={}", text(&answer, "/id_token"));
    let (status, body) = ask(&mut caller, "/tool/oauth/revoke", &fields).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let sent = upstream.only();
    assert_eq!(sent.body, format!("id_token_hint={ID}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_a_key_that_no_field_announces_is_not_passed_on() {
    let key = format!("ghp_{}", "a1B2c3D4e5".repeat(4).split_at(36).0);
    for answer in [
        json!({ "result": key }),
        json!({ "result": { &key: 1 } }),
        json!({ "result": format!("it is {key}") }),
    ] {
        let (world, _upstream) = world(Answer::json(answer), json!({})).await;
        let mut caller = world.caller(Wire::Http1).await;
        let (_, body) = ask(&mut caller, "/tool/oauth/token", "a=1").await;
        assert!(!String::from_utf8_lossy(&body).contains("ghp_"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_a_compressed_answer_is_read() {
    let mut coder = GzEncoder::new(Vec::new(), Compression::default());
    coder.write_all(tokens().to_string().as_bytes()).unwrap();
    let body = coder.finish().unwrap();
    let answer = Answer::Bytes(StatusCode::OK, body.into())
        .with("content-type", "application/json")
        .with("content-encoding", "gzip");
    let (world, _upstream) = world(answer, json!({})).await;
    let mut caller = world.caller(Wire::Http1).await;
    phantoms(&mut caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_what_turns_out_to_be_no_json_does_not_arrive() {
    for text in [
        format!("{{\"access_token\":\"{ACCESS}\""),
        ACCESS.to_owned(),
        format!("\"{ACCESS}\""),
        format!("{{\"access_token\":{{\"value\":1234567}},\"n\":\"{ACCESS}\"}}"),
        "x".repeat(70_000),
    ] {
        let pieces = vec![Bytes::from(text)];
        let answer = Answer::Pieces("application/json", pieces, Duration::ZERO);
        let (world, _upstream) = world(answer, json!({})).await;
        let mut caller = world.caller(Wire::Http1).await;
        let request = caller.request(Method::POST, "/tool/oauth/token");
        if let Ok(response) = caller.send(request.body(empty()).unwrap()).await {
            use http_body_util::BodyExt;
            let body = in_time(response.into_body().collect()).await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let body = String::from_utf8_lossy(&body);
            assert!(
                body.is_empty() || body.contains("unreadable_tokens"),
                "{body}"
            );
        }
    }
}
