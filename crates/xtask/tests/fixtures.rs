//! The fixtures of the real parts work by themselves, so that what fails behind the gateway is the gateway's.
//!
//! `cargo xtask test --only fixtures` fetches the parts and runs these.
#![expect(clippy::indexing_slicing, reason = "a test may panic, its helpers too")]

use serde_json::{Value, json};
use testkit::parts::{Part, ask, curl, fixtures};

#[test]
fn the_identity_provider_signs_workload_tokens() {
    let idp = Part::start("idp.mjs", &[]);
    let reply = curl(&[
        "-u",
        "triage:triage-secret",
        "-d",
        "grant_type=client_credentials",
        "-d",
        "resource=urn:remit",
        &format!("{}/token", idp.ready),
    ]);
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply["token_type"], "Bearer");
    assert_eq!(
        reply["access_token"].as_str().unwrap().split('.').count(),
        3
    );
    let discovery = curl(&[&format!("{}/.well-known/openid-configuration", idp.ready)]);
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    assert_eq!(discovery["issuer"], idp.ready);
}

#[test]
fn the_typescript_client_calls_a_tool() {
    mcp("mcp_client.mjs", &[]);
}

#[test]
fn the_python_client_calls_a_tool() {
    mcp("mcp_client.py", &[]);
}

#[test]
fn the_python_client_calls_a_tool_after_initialize() {
    mcp("mcp_client.py", &["--mode", "legacy"]);
}

#[track_caller]
fn mcp(client: &str, flags: &[&str]) {
    let server = Part::start("mcp_server.mjs", &[("MCP_KEY", "right")]);
    let arguments = [flags, &[&server.ready, "echo", r#"{"message":"hi"}"#]].concat();
    let reply = ask(client, &arguments, &[("TOKEN", "right")]);
    assert_eq!(reply["result"]["content"][0]["text"], "Echo: hi");
    let seen = server.line(|line| line.starts_with("request ") && line.contains("tools/call"));
    assert!(seen.contains("Bearer right"), "{seen}");

    let refused = ask(client, &arguments, &[("TOKEN", "wrong")]);
    assert!(refused["error"]["message"].is_string(), "{refused}");
}

#[test]
fn the_openai_client_asks_a_model() {
    let server = Part::start("llm_server.mjs", &[("LLM_KEY", "right")]);
    let base = ("OPENAI_BASE_URL", &*server.ready);
    let reply = ask(
        "openai_client.py",
        &[],
        &[base, ("OPENAI_API_KEY", "right")],
    );
    let answer = "hello from the model";
    assert_eq!(
        reply,
        json!({ "content": answer, "streamed": answer, "decision": null })
    );
    let refused = ask(
        "openai_client.py",
        &[],
        &[base, ("OPENAI_API_KEY", "wrong")],
    );
    assert_eq!(refused["error"]["status"], 401);
}

#[test]
fn a_unary_call_ends_with_trailers() {
    grpc(
        "right",
        "Unary",
        &json!({ "code": "OK", "messages": ["hi"], "trailers": { "echo-length": "2" } }),
    );
}

#[test]
fn a_stream_ends_with_trailers() {
    grpc(
        "right",
        "Stream",
        &json!({ "code": "OK", "messages": ["hi", "hi", "hi"], "trailers": { "echo-count": "3" } }),
    );
}

#[test]
fn a_stream_may_end_with_an_error() {
    grpc(
        "right",
        "Fail",
        &json!({ "code": "FAILED_PRECONDITION", "messages": ["hi"], "trailers": {} }),
    );
}

#[test]
fn a_call_without_the_key_is_unauthenticated() {
    grpc(
        "wrong",
        "Unary",
        &json!({ "code": "UNAUTHENTICATED", "messages": [], "trailers": {} }),
    );
}

#[track_caller]
fn grpc(token: &str, method: &str, expected: &Value) {
    let server = Part::start("grpc_server.py", &[("GRPC_KEY", "right")]);
    let reply = ask(
        "grpc_client.py",
        &[&server.ready, method, "hi"],
        &[("TOKEN", token)],
    );
    for name in ["code", "messages", "trailers"] {
        assert_eq!(reply[name], expected[name], "{reply}");
    }
}

#[test]
fn nginx_demands_its_key_and_takes_large_bodies() {
    let server = Part::start("nginx_server.py", &[("NGINX_KEY", "right")]);
    let with_key = ["-H", "authorization: Bearer right"];
    let code = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
    let url = |path: &str| format!("{}{path}", server.ready);
    assert_eq!(
        curl(&[&code[..], &[&url("/")]].concat()).split(' ').next(),
        Some("401")
    );
    let large = curl(&[&code[..], &with_key, &[&url("/files/large")]].concat());
    assert_eq!(large, format!("200 {}", 64 << 20));
    let manifest = fixtures().join("package-lock.json");
    let length = manifest.metadata().unwrap().len().to_string();
    let upload = format!("@{}", manifest.display());
    let reply = curl(&[&with_key[..], &["--data-binary", &upload, &url("/upload")]].concat());
    assert_eq!(reply, json!({ "length": length }).to_string());
    server.line(|line| line.starts_with("request ") && line.contains("/upload"));
}

#[test]
fn aws_checks_who_signs() {
    let server = Part::start("aws_server.py", &[]);
    let ready: Value = serde_json::from_str(&server.ready).unwrap();
    let arguments = [&ready["url"], &ready["bucket"]].map(|value| value.as_str().unwrap());
    let reply = ask(
        "aws_client.py",
        &[&arguments[..], &["put", "key"]].concat(),
        &[("TOKEN", "nobodys")],
    );
    assert_eq!(reply["error"]["status"], 403, "{reply}");
}

#[test]
fn the_collector_prints_spans() {
    let collector = Part::start("collector.py", &[]);
    let http = collector.ready.rsplit("http=").next().unwrap();
    let span = json!({
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "a call", "kind": 2,
        "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000000",
        "attributes": [{ "key": "some.attribute", "value": { "stringValue": "its value" } }],
    });
    let spans =
        json!({ "resourceSpans": [{ "resource": {}, "scopeSpans": [{ "spans": [span] }] }] });
    curl(&[
        "-H",
        "content-type: application/json",
        "-d",
        &spans.to_string(),
        &format!("{http}/v1/traces"),
    ]);
    collector.line(|line| line.contains("5b8efff798038103d269b633813fc60c"));
    collector.line(|line| line.contains("some.attribute") && line.contains("its value"));
}
