//! Where a key enters a call, and that nothing of the agent's is in its place.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Answer, Received, Upstream};

use crate::caller::{Wire, empty, read, whole};
use crate::world::{Plan, World};

const SECRET: &str = "sk_0123/456789+abcdef";

/// A tool that takes the key in one place.
async fn world(inject: Value, mut more: Value) -> (World, Upstream) {
    let upstream = Upstream::start(Answer::Echo).await;
    let plan = Plan::new();
    let path = plan.file("tool.key", SECRET);
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let secret = format!("file:{}", path.display());
    let key = json!({ "provider": "static", "secret": secret, "bridge_until": "2100-01-01" });
    more["credentials"] = json!({ "read": key, "write": key });
    more["inject"] = inject;
    let world = plan
        .rules("\ndeny contains \"seen\" if contains(json.marshal(input.request), \"sk_0123\")\n")
        .tool("tool", &upstream.url(), more)
        .start();
    (world, upstream)
}

struct Call {
    method: Method,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];

fn post(headers: &'static [(&'static str, &'static str)], body: &'static str) -> Call {
    Call {
        method: Method::POST,
        path: "/tool",
        headers,
        body,
    }
}

/// What arrives of a call at the tool, or with which code it is refused; whatever is answered is without the key.
async fn sent(inject: Value, more: Value, call: Call) -> Result<Received, String> {
    let (world, upstream) = world(inject, more).await;
    let mut answers = Vec::new();
    for wire in [Wire::Http1, Wire::Http2] {
        let mut caller = world.caller(wire).await;
        let mut request = caller.request(call.method.clone(), call.path);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let body = match call.body {
            "" => empty(),
            text => whole(text.as_bytes().to_vec()),
        };
        let response = caller.send(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let (answer, _) = read(response).await;
        let text = String::from_utf8(answer.to_vec()).unwrap();
        assert!(!text.contains("456789"), "{text}");
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        answers.push((
            status,
            problem["code"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    assert_eq!(answers[0].0, answers[1].0);
    let received = upstream.received();
    match (answers.pop().unwrap(), received.as_slice()) {
        ((StatusCode::OK, _), [first, second]) => {
            assert_eq!(first.body, second.body);
            Ok(first.clone())
        }
        ((_, code), []) => Err(code),
        (answer, received) => panic!("{answer:?}, {} arrived", received.len()),
    }
}

#[track_caller]
fn body(received: &Received) -> &str {
    assert_eq!(
        received.header("content-length"),
        Some(&*received.body.len().to_string())
    );
    for digest in ["content-digest", "content-md5", "digest", "repr-digest"] {
        assert_eq!(received.header(digest), None);
    }
    std::str::from_utf8(&received.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_cookie_is_the_only_one() {
    let call = Call {
        method: Method::GET,
        path: "/tool/a",
        headers: &[("cookie", "sid=mine; a=1"), ("cookie", "b=2")],
        body: "",
    };
    let inject = json!({ "cookie": "sid" });
    // The key has no character that a cookie can't have.
    let received = sent(inject, json!({}), call).await.unwrap();
    assert_eq!(received.header("cookie"), Some(&*format!("sid={SECRET}")));
    assert_eq!(received.header("authorization"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_json_has_the_key_and_not_the_agents() {
    let headers = &[
        ("content-type", "application/json"),
        ("content-md5", "mine"),
        ("content-digest", "sha-256=:mine:"),
    ];
    let inject = json!({ "json": "/auth/api_key" });
    for (text, expect) in [
        (r#"{"q":1.5}"#, r#"{"auth":{"api_key":"KEY"},"q":1.5}"#),
        (
            r#"{"auth":{"API_KEY":"mine","api_key_id":7}}"#,
            r#"{"auth":{"api_key":"KEY","api_key_id":7}}"#,
        ),
    ] {
        let received = sent(inject.clone(), json!({}), post(headers, text)).await;
        assert_eq!(body(&received.unwrap()), expect.replace("KEY", SECRET));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_json_has_no_place_for_it() {
    let inject = json!({ "json": "/api_key" });
    for call in [post(JSON, ""), post(FORM, "a=1")] {
        let refused = sent(inject.clone(), json!({}), call).await;
        assert_eq!(refused.unwrap_err(), "no_place_for_credential");
    }
    let get = Call {
        method: Method::GET,
        path: "/tool/a",
        headers: &[],
        body: "",
    };
    let refused = sent(inject.clone(), json!({}), get).await;
    assert_eq!(refused.unwrap_err(), "no_place_for_credential");
    let refused = sent(inject, json!({}), post(JSON, "[]")).await;
    assert_eq!(refused.unwrap_err(), "credential_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_form_has_the_key_once() {
    let inject = json!({ "form": "key" });
    let call = post(FORM, "a=1+2&key=mine&%6Bey2=x");
    let received = sent(inject.clone(), json!({}), call).await.unwrap();
    let expect = "a=1+2&key2=x&key=sk_0123%2F456789%2Babcdef";
    let text = body(&received).replace("%6Bey2", "key2");
    assert_eq!(text, expect);
    let refused = sent(inject, json!({}), post(JSON, "{}")).await;
    assert_eq!(refused.unwrap_err(), "no_place_for_credential");
}

/// What an agent writes where the key goes.
fn placeholder(places: &[&str]) -> Value {
    json!({ "placeholder": "REMIT_SECRET_KEY", "places": places })
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_placeholder_is_replaced_where_the_config_says() {
    let get = |headers| Call {
        method: Method::GET,
        path: "/tool/a?x=REMIT_SECRET_KEY",
        headers,
        body: "",
    };
    let inject = placeholder(&["header authorization", "header x-api-key", "query key"]);
    let received = sent(
        inject.clone(),
        json!({}),
        get(&[("x-api-key", "REMIT_SECRET_KEY")]),
    );
    let received = received.await.unwrap();
    assert_eq!(received.header("x-api-key"), Some(SECRET));
    // Elsewhere it is a text like others.
    assert_eq!(received.target, "/a?x=REMIT_SECRET_KEY");
    let bearer = get(&[("authorization", "bearer REMIT_SECRET_KEY")]);
    let received = sent(inject.clone(), json!({}), bearer).await.unwrap();
    let expect = format!("Bearer {SECRET}");
    assert_eq!(received.header("authorization"), Some(&*expect));
    // `bob:REMIT_SECRET_KEY`
    let basic = get(&[("authorization", "Basic Ym9iOlJFTUlUX1NFQ1JFVF9LRVk=")]);
    let received = sent(inject.clone(), json!({}), basic).await.unwrap();
    let expect = "Basic Ym9iOnNrXzAxMjMvNDU2Nzg5K2FiY2RlZg==";
    assert_eq!(received.header("authorization"), Some(expect));
    let query = Call {
        path: "/tool/a?key=REMIT_SECRET_KEY&b=1",
        ..get(&[])
    };
    let received = sent(inject, json!({}), query).await.unwrap();
    assert_eq!(received.target, "/a?b=1&key=sk_0123%2F456789%2Babcdef");
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_placeholder_in_a_body_is_replaced() {
    let inject = placeholder(&["json /auth/key", "form client_secret"]);
    let call = post(
        JSON,
        r#"{"auth":{"key":"REMIT_SECRET_KEY"},"q":"REMIT_SECRET_KEY"}"#,
    );
    let received = sent(inject.clone(), json!({}), call).await.unwrap();
    let expect = r#"{"auth":{"key":"sk_0123/456789+abcdef"},"q":"REMIT_SECRET_KEY"}"#;
    assert_eq!(body(&received), expect);
    let call = post(FORM, "client_secret=REMIT_SECRET_KEY&a=1");
    let received = sent(inject, json!({}), call).await.unwrap();
    assert_eq!(
        body(&received),
        "a=1&client_secret=sk_0123%2F456789%2Babcdef"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_placeholder_stands_there_once_and_by_itself() {
    let inject = placeholder(&["header authorization", "header x-api-key"]);
    const NONE: &[(&str, &str)] = &[("authorization", "Bearer sk-mine")];
    const TWO: &[(&str, &str)] = &[
        ("authorization", "Bearer REMIT_SECRET_KEY"),
        ("x-api-key", "REMIT_SECRET_KEY"),
    ];
    const WITH: &[(&str, &str)] = &[("authorization", "mine REMIT_SECRET_KEY")];
    for headers in [&[], NONE, TWO, WITH] {
        let call = Call {
            method: Method::GET,
            path: "/tool/a",
            headers,
            body: "",
        };
        let refused = sent(inject.clone(), json!({}), call).await;
        assert_eq!(refused.unwrap_err(), "placeholder_needed");
    }
}

const MCP: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
];

#[tokio::test(flavor = "multi_thread")]
async fn d1_an_mcp_tool_has_the_key_among_its_arguments() {
    let inject = json!({ "json": "/params/arguments/api_key" });
    let more = json!({ "protocol": "mcp", "access": { "read": ["find"] } });
    let call = post(
        MCP,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"find","arguments":{"q":"x","api_key":"mine"}}}"#,
    );
    let received = sent(inject.clone(), more.clone(), call).await.unwrap();
    let message: Value = serde_json::from_slice(&received.body).unwrap();
    let arguments = json!({ "q": "x", "api_key": SECRET });
    assert_eq!(message["params"]["arguments"], arguments);
    // What is no call of a tool has none.
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let received = sent(inject, more, post(MCP, list)).await.unwrap();
    assert_eq!(body(&received), list);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_placeholder_is_needed_by_the_calls_of_mcp_that_have_arguments() {
    let inject = placeholder(&["header x-api-key", "json /params/arguments/api_key"]);
    let more = json!({ "protocol": "mcp", "access": { "read": ["find"] } });
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let received = sent(inject.clone(), more.clone(), post(MCP, list)).await;
    let received = received.unwrap();
    assert_eq!(body(&received), list);
    assert_eq!(received.header("x-api-key"), None);
    const KEYED: &[(&str, &str)] = &[
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("x-api-key", "REMIT_SECRET_KEY"),
    ];
    let received = sent(inject.clone(), more.clone(), post(KEYED, list)).await;
    assert_eq!(received.unwrap().header("x-api-key"), Some(SECRET));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"find","arguments":{"q":"x"}}}"#;
    // What is said of it is a message of MCP, which has its code elsewhere.
    let refused = sent(inject, more, post(MCP, call)).await;
    assert!(refused.is_err());
}
