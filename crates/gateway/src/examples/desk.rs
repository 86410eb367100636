//! `desk`: an MCP server over Streamable HTTP with a reading, a writing and a destructive tool.
//!
//! Speaks 2025-11-25 (with a session) and 2026-07-28 (without), and answers in JSON.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{holds, serve};

/// The largest request, in bytes.
const LIMIT: usize = 64 * 1024;
/// The revisions that are spoken, newest first.
const VERSIONS: [&str; 3] = ["2026-07-28", "2025-11-25", "2025-06-18"];
/// JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC 2.0, section 5.1.
const INVALID_PARAMS: i64 = -32602;

/// The key that `desk` demands.
pub struct DeskKey(pub Zeroizing<String>);

impl std::fmt::Debug for DeskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeskKey(..)")
    }
}

/// The help desk: `find_ticket`, `refund`, `purge`.
#[derive(Debug)]
pub struct Desk {
    key: DeskKey,
}

#[derive(Debug, Deserialize)]
struct Request {
    #[serde(default)]
    id: Option<Value>,
    method: String,
    #[serde(default)]
    params: Value,
}

impl Desk {
    /// Serves MCP at `/mcp` until `stop`.
    pub fn serve(
        listener: TcpListener,
        key: DeskKey,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> {
        let router = Router::new()
            .route("/mcp", post(answer).delete(goodbye))
            .layer(DefaultBodyLimit::max(LIMIT))
            .with_state(Arc::new(Self { key }));
        serve(listener, router, stop)
    }
}

async fn goodbye(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> StatusCode {
    if holds(&headers, &desk.key.0) {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::UNAUTHORIZED
    }
}

async fn answer(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Json(request): Json<Request>,
) -> Response {
    if !holds(&headers, &desk.key.0) {
        return (
            StatusCode::UNAUTHORIZED,
            Json(json!({ "error": "a key is needed" })),
        )
            .into_response();
    }
    let Some(id) = request.id else {
        return StatusCode::ACCEPTED.into_response();
    };
    // What was called is said aloud, so that what was not called can be seen.
    tracing::info!(target: "desk", method = %request.method, params = %request.params, "request");
    let begins = request.method == "initialize";
    let body = match result(&request.method, &request.params) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, message)) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
        }
    };
    if begins {
        let session = uuid::Uuid::new_v4().to_string();
        return ([("mcp-session-id", session)], Json(body)).into_response();
    }
    Json(body).into_response()
}

fn result(method: &str, params: &Value) -> Result<Value, (i64, String)> {
    match method {
        "initialize" => Ok(initialized(params)),
        "server/discover" => Ok(json!({
            "resultType": "complete",
            "supportedVersions": VERSIONS,
            "capabilities": { "tools": {} },
            "serverInfo": about(),
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(
            json!({ "resultType": "complete", "tools": tools(), "ttlMs": 60_000, "cacheScope": "private" }),
        ),
        "tools/call" => call(params),
        _ => Err((METHOD_NOT_FOUND, format!("no method `{method}`"))),
    }
}

fn initialized(params: &Value) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let agreed = VERSIONS.into_iter().find(|version| Some(*version) == asked);
    json!({
        "protocolVersion": agreed.unwrap_or("2025-11-25"),
        "capabilities": { "tools": {} },
        "serverInfo": about(),
    })
}

fn about() -> Value {
    json!({ "name": "desk", "version": env!("CARGO_PKG_VERSION") })
}

fn tools() -> Value {
    json!([
        {
            "name": "find_ticket",
            "description": "Finds tickets by words.",
            "inputSchema": { "type": "object", "properties": { "query": { "type": "string" } }, "required": ["query"] },
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": "refund",
            "description": "Refunds the order of a ticket.",
            "inputSchema": {
                "type": "object",
                "properties": { "ticket": { "type": "string" }, "amount": { "type": "number" } },
                "required": ["ticket", "amount"],
            },
            "annotations": { "readOnlyHint": false, "destructiveHint": false },
        },
        {
            "name": "purge",
            "description": "Deletes every ticket.",
            "inputSchema": { "type": "object", "properties": {} },
            "annotations": { "readOnlyHint": false, "destructiveHint": true },
        },
    ])
}

fn call(params: &Value) -> Result<Value, (i64, String)> {
    let name = params
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let argument = |name: &str| params.pointer(&format!("/arguments/{name}"));
    let text = match name {
        "find_ticket" => {
            let query = argument("query")
                .and_then(Value::as_str)
                .ok_or_else(|| missing("query"))?;
            format!("T-1: a customer asks about `{query}`")
        }
        "refund" => {
            let ticket = argument("ticket")
                .and_then(Value::as_str)
                .ok_or_else(|| missing("ticket"))?;
            let amount = argument("amount")
                .and_then(Value::as_f64)
                .ok_or_else(|| missing("amount"))?;
            format!("refunded {amount} for {ticket}")
        }
        "purge" => "every ticket is gone".to_owned(),
        _ => return Err((INVALID_PARAMS, format!("no tool `{name}`"))),
    };
    Ok(
        json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }], "isError": false }),
    )
}

fn missing(argument: &str) -> (i64, String) {
    (INVALID_PARAMS, format!("argument `{argument}` is missing"))
}
