//! What MCP messages ask, and which are refused.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Kind, Message, read, without_body};
use crate::Unobservable;

fn headers(headers: &[(&str, &str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

fn message(message: Value) -> Result<Message, Unobservable> {
    read(&HeaderMap::new(), message)
}

fn call(arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "note", "arguments": arguments}})
}

/// A call as revision 2026-07-28 wants it.
fn mirrored() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "note", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    }})
}

#[track_caller]
fn refused(value: Value) {
    assert!(matches!(message(value), Err(Unobservable::Body(_))));
}

#[track_caller]
fn lifecycle(value: Value) {
    assert_eq!(message(value).unwrap().kind, Kind::Lifecycle);
}

#[track_caller]
fn mismatch(sent: &[(&str, &str)], value: Value, header: &str) {
    match read(&headers(sent), value) {
        Err(Unobservable::HeaderMismatch { header: found, .. }) => assert_eq!(found, header),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tool_call_has_name_and_arguments() {
    let message = message(call(&json!({"a": 1}))).unwrap();
    assert_eq!(
        message.kind,
        Kind::ToolCall {
            name: "note".to_owned(),
            arguments: Some(json!({"a": 1}))
        }
    );
    assert_eq!(message.call.id, Some(json!(1)));
    assert_eq!(message.call.name.as_deref(), Some("note"));
}
#[test]
fn a_tool_call_may_have_no_arguments() {
    let value =
        json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": {"name": "note"}});
    assert!(matches!(
        message(value).unwrap().kind,
        Kind::ToolCall {
            arguments: None,
            ..
        }
    ));
}
#[test]
fn lifecycle_and_lists_are_known() {
    for method in [
        "initialize",
        "ping",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
        "server/discover",
    ] {
        lifecycle(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}));
    }
}
#[test]
fn notifications_are_known() {
    for method in ["initialized", "cancelled", "progress"] {
        lifecycle(json!({"jsonrpc": "2.0", "method": format!("notifications/{method}")}));
    }
}
#[test]
fn a_response_of_the_client_is_known() {
    lifecycle(json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    lifecycle(json!({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}}));
}
#[test]
fn other_methods_are_unknown() {
    for method in [
        "resources/subscribe",
        "logging/setLevel",
        "completion/complete",
        "tasks/get",
        "tools/Call",
        "notifications/other",
        "",
    ] {
        let value = json!({"jsonrpc": "2.0", "id": 7, "method": method});
        match message(value).unwrap_err() {
            Unobservable::UnknownMethod { id, .. } => assert_eq!(id, Some(json!(7))),
            other => panic!("{other:?}"),
        }
    }
}
#[test]
fn batches_are_refused() {
    refused(json!([call(&json!({}))]));
    refused(json!([]));
}
#[test]
fn what_is_no_message_is_refused() {
    refused(json!("x"));
    refused(json!({}));
    refused(json!({"jsonrpc": "1.0", "id": 1, "method": "ping"}));
    refused(json!({"id": 1, "method": "ping"}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": 1}));
    refused(json!({"jsonrpc": "2.0", "id": 1}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "result": 1, "error": 1}));
    refused(json!({"jsonrpc": "2.0", "result": 1}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "result": 1}));
}
#[test]
fn ids_are_text_or_integers() {
    for id in [json!(null), json!(1.5), json!({}), json!([1]), json!(true)] {
        refused(json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
    }
}
#[test]
fn requests_have_ids_and_notifications_have_none() {
    refused(json!({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "note"}}));
    refused(json!({"jsonrpc": "2.0", "method": "ping"}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "notifications/initialized"}));
}
#[test]
fn params_and_arguments_are_objects() {
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": null}));
    refused(call(&json!([1])));
    refused(call(&json!("x")));
}
#[test]
fn a_tool_call_names_its_tool() {
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 1}}));
}
#[test]
fn names_methods_and_ids_are_short() {
    let long = "x".repeat(257);
    refused(json!({"jsonrpc": "2.0", "id": long, "method": "ping"}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": long}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": long}}));
    refused(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a\nb"}}));
}
#[test]
fn keys_in_another_case_are_refused() {
    refused(json!({"jsonrpc": "2.0", "ID": 1, "method": "ping"}));
    refused(
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "Arguments": {}}}),
    );
    refused(
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "argument\u{17f}": {}}}),
    );
}

#[test]
fn headers_that_agree_pass() {
    let sent = headers(&[
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "note"),
        ("mcp-session-id", "s"),
    ]);
    let call = read(&sent, mirrored()).unwrap().call;
    assert_eq!(call.version.as_deref(), Some("2026-07-28"));
    assert_eq!(call.session.as_deref(), Some("s"));
}
#[test]
fn an_encoded_name_is_decoded() {
    let mut value = mirrored();
    value["params"]["name"] = json!("nöte");
    let sent = headers(&[
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?bsO2dGU=?="),
    ]);
    read(&sent, value).unwrap();
}
#[test]
fn older_revisions_need_no_headers() {
    let sent = headers(&[("mcp-protocol-version", "2025-06-18")]);
    read(&sent, call(&json!({}))).unwrap();
}
#[test]
fn headers_that_contradict_the_body_are_refused() {
    mismatch(
        &[("mcp-method", "tools/list")],
        call(&json!({})),
        "mcp-method",
    );
    mismatch(
        &[("mcp-method", "Tools/Call")],
        call(&json!({})),
        "mcp-method",
    );
    mismatch(&[("mcp-name", "other")], call(&json!({})), "mcp-name");
    mismatch(
        &[("mcp-name", "=?base64?!?=")],
        call(&json!({})),
        "mcp-name",
    );
    mismatch(
        &[("mcp-name", "note")],
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        "mcp-name",
    );
    mismatch(
        &[
            ("mcp-method", "tools/call"),
            ("mcp-name", "note"),
            ("mcp-protocol-version", "2025-06-18"),
        ],
        mirrored(),
        "mcp-protocol-version",
    );
}
#[test]
fn the_newest_revision_needs_its_headers() {
    let version = ("mcp-protocol-version", "2026-07-28");
    let method = ("mcp-method", "tools/call");
    mismatch(&[version], mirrored(), "mcp-method");
    mismatch(&[version, method], mirrored(), "mcp-name");
    mismatch(
        &[method, ("mcp-name", "note")],
        mirrored(),
        "mcp-protocol-version",
    );
    mismatch(
        &[version, method, ("mcp-name", "note")],
        call(&json!({})),
        "mcp-protocol-version",
    );
}
#[test]
fn mirrors_stand_once() {
    let mut sent = headers(&[("mcp-method", "tools/call")]);
    sent.append("mcp-method", HeaderValue::from_static("tools/call"));
    assert!(matches!(
        read(&sent, call(&json!({}))),
        Err(Unobservable::HeaderMismatch { .. })
    ));
}
#[test]
fn a_stream_is_opened_without_body() {
    let message = without_body("stream/open", &headers(&[("mcp-session-id", "s")])).unwrap();
    assert_eq!(message.call.method, "stream/open");
    assert!(without_body("stream/open", &headers(&[("mcp-method", "x")])).is_err());
}
