//! What makes a call this call and no other, as a digest, and as a person reads it.

use http::{HeaderMap, HeaderName, header};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json as value};

use crate::call::Call;
use crate::canonical::canonical;
use crate::json;
use crate::tools::Protocol;

/// The SHA-256 of one call, in hex.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CallDigest(String);

impl CallDigest {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a call can't be told from every other one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Indistinct {
    /// What it asks is not read: it streams.
    #[error("its body is not read")]
    Unread,
    /// A number is larger than readers agree on.
    #[error("a number in it has over 53 bits")]
    Number,
    /// A header is no text.
    #[error("a header of it is not UTF-8")]
    Header,
}

/// Headers that are another one at each try, or say nothing of what is asked: they neither tell calls apart nor are they
/// shown. Every other header may change what a tool does.
const INCIDENTAL: &[&str] = &[
    "accept-encoding",
    "b3",
    "baggage",
    "cf-ray",
    "connection",
    "content-length",
    "date",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "last-event-id",
    "request-id",
    "sentry-trace",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "uber-trace-id",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-idempotency-key",
    "x-request-id",
];

/// The same of tracing, and of SDKs of LLM APIs, which count their tries.
const INCIDENTAL_PREFIXES: [&str; 3] = ["x-b3-", "x-datadog-", "x-stainless-"];

/// What MCP's `_meta` has anew at each try.
const INCIDENTAL_META: &[&str] = &["progressToken", "traceparent", "tracestate", "baggage"];

/// Whether no number in it is a whole one so large that its neighbours are the same double, however it is written.
fn is_exact(value: &Value) -> bool {
    /// 2^53, from where on doubles leave whole numbers out.
    const COARSE: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number
            .as_f64()
            .is_some_and(|double| double.fract() != 0.0 || double.abs() < COARSE),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
    }
}

impl Call {
    /// The digest of the exact call: SHA-256 over the canonical JSON (RFC 8785) of task, tool, operation, method, path,
    /// query, headers, arguments and, on MCP, the other parameters.
    ///
    /// # Errors
    /// [`Indistinct`] where another call could have the same digest.
    pub fn digest(&self) -> Result<CallDigest, Indistinct> {
        let request = self.request();
        let is_websocket = request.headers.map().contains_key(header::UPGRADE);
        if request.streamed || is_websocket || self.tool().protocol == Protocol::Grpc {
            return Err(Indistinct::Unread);
        }
        // An answer to the server holds neither arguments nor parameters.
        if self.mcp().is_some_and(|mcp| mcp.method == "response") {
            return Err(Indistinct::Unread);
        }
        let told = value!({
            "task": self.task().id(),
            "tool": self.tool().name.as_str(),
            "environment": self.tool().environment.as_deref(),
            "operation": self.operation(),
            "method": request.method,
            "path": request.path,
            // In their order: a tool may go by it.
            "query": request.query,
            "headers": told(request.headers.map())?,
            "arguments": request.arguments,
            "params": self.params(),
        });
        if !is_exact(&told) {
            return Err(Indistinct::Number);
        }
        let canonical = canonical(&told).map_err(|_| Indistinct::Number)?;
        let digest = digest(&SHA256, canonical.as_bytes());
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Ok(CallDigest(hex.collect()))
    }

    /// What stands beside the arguments of an MCP call and may change what it does; nothing where there is nothing.
    fn params(&self) -> Option<Value> {
        self.mcp()?;
        // It was read like this before, or there would be no call.
        let message = json::parse(self.body().bytes()?).ok()?;
        let mut params = message.get("params")?.as_object()?.clone();
        params.remove("name");
        params.remove("arguments");
        if let Some(Value::Object(meta)) = params.get_mut("_meta") {
            meta.retain(|key, _| !INCIDENTAL_META.contains(&key.as_str()));
            if meta.is_empty() {
                params.remove("_meta");
            }
        }
        (!params.is_empty()).then_some(Value::Object(params))
    }

    /// The whole call as a person reads it. Keys that came off are not in it.
    pub fn shown(&self) -> Value {
        let request = self.request();
        let query: Map<String, Value> = request
            .query
            .iter()
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        let mut shown = value!({
            "tool": self.tool().name.as_str(),
            "environment": self.tool().environment,
            "operation": self.operation(),
            "access": self.access(),
            "method": request.method,
            "path": request.path,
            "query": query,
            "headers": told(request.headers.map()).unwrap_or_default(),
            "arguments": request.arguments,
        });
        if let (Some(shown), Some(params)) = (shown.as_object_mut(), self.params()) {
            shown.insert("params".to_owned(), params);
        }
        shown
    }
}

/// The headers that tell calls apart, by name; several values of one name in their order.
fn told(headers: &HeaderMap) -> Result<Map<String, Value>, Indistinct> {
    let mut told = Map::new();
    for name in headers.keys().filter(|name| !is_incidental(name)) {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| std::str::from_utf8(value.as_bytes()).map(Value::from));
        let mut values: Vec<Value> = values
            .collect::<Result<_, _>>()
            .map_err(|_| Indistinct::Header)?;
        let value = match values.len() {
            1 => values.swap_remove(0),
            _ => Value::from(values),
        };
        told.insert(name.as_str().to_owned(), value);
    }
    Ok(told)
}

fn is_incidental(name: &HeaderName) -> bool {
    let name = name.as_str();
    let mut prefixes = INCIDENTAL_PREFIXES.iter();
    INCIDENTAL.contains(&name) || prefixes.any(|prefix| name.starts_with(prefix))
}
