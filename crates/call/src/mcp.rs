//! What an MCP message over Streamable HTTP asks.
//!
//! Read with revision 2026-07-28 and those before it. The body is the source of truth: headers that
//! mirror it must agree with it (2026-07-28, "Streamable HTTP", server validation).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};

use crate::call::Unobservable;
use crate::json;

/// What MCP says of a call.
#[derive(Clone, Debug)]
pub struct McpCall {
    /// The JSON-RPC method; `response` for an answer of the client's, `stream/open` and
    /// `session/end` for GET and DELETE.
    pub method: String,
    /// The tool, prompt or resource named.
    pub name: Option<String>,
    /// The JSON-RPC id.
    pub id: Option<Value>,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    /// `MCP-Protocol-Version`.
    pub version: Option<String>,
    /// Whether the client that begins a session here can show a person a link (`capabilities.elicitation.url`, 2025-11-25).
    pub elicits: bool,
}

/// One message, read whole.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) call: McpCall,
    pub(crate) kind: Kind,
}

/// What a message does.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    /// It keeps the session, or lists: a read operation of every MCP tool, named by its method.
    Lifecycle,
    /// It calls a tool.
    ToolCall {
        /// Its name.
        name: String,
        /// Its arguments, an object.
        arguments: Option<Value>,
    },
}

/// The first revision whose headers must mirror the body.
const MIRRORED: &str = "2026-07-28";

/// The bytes of a name, method or id, which all end up in records; MCP advises 128 for tool names.
const LONGEST: usize = 256;

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const VERSION: &str = "mcp-protocol-version";
const SESSION: &str = "mcp-session-id";

/// The requests that are forwarded besides `tools/call`.
const REQUESTS: &[&str] = &[
    "initialize",
    "ping",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "server/discover",
];

/// The notifications that are forwarded.
const NOTIFICATIONS: &[&str] = &[
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
];

/// Reads what a GET (`stream/open`) or DELETE (`session/end`) asks: their heads say it all.
pub(crate) fn without_body(
    operation: &'static str,
    headers: &HeaderMap,
) -> Result<Message, Unobservable> {
    let call = McpCall {
        method: operation.to_owned(),
        name: None,
        id: None,
        session: text(headers, SESSION, None)?,
        version: text(headers, VERSION, None)?,
        elicits: false,
    };
    absent(headers, METHOD, None)?;
    absent(headers, NAME, None)?;
    Ok(Message {
        call,
        kind: Kind::Lifecycle,
    })
}

/// Reads one JSON-RPC message.
pub(crate) fn read(headers: &HeaderMap, value: Value) -> Result<Message, Unobservable> {
    let mut message = envelope(value)?;
    let id = id(&message)?;
    let Some(method) = message.remove("method") else {
        return response(headers, &message, id);
    };
    let Value::String(method) = method else {
        return Err(body("`method` is no text"));
    };
    if !is_short(&method) {
        return Err(body("`method` is no short, printable name"));
    }
    if message.contains_key("result") || message.contains_key("error") {
        return Err(body("it is both a request and a response"));
    }
    let mut params = match message.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(body("`params` is no object")),
    };
    check_case(&params, &["_meta", "name", "uri", "arguments"])?;
    let name = name(&method, &params)?;
    let call = McpCall {
        session: text(headers, SESSION, id.as_ref())?,
        version: text(headers, VERSION, id.as_ref())?,
        elicits: method == "initialize" && elicits(&params),
        method,
        name,
        id,
    };
    check_headers(headers, &call, &params)?;
    let kind = kind(&call, &mut params)?;
    Ok(Message { call, kind })
}

/// JSON-RPC 2.0, one object: a batch holds several operations, and MCP has none since 2025-06-18.
fn envelope(value: Value) -> Result<Map<String, Value>, Unobservable> {
    let Value::Object(message) = value else {
        return Err(body("it is no JSON-RPC message, or a batch of them"));
    };
    check_case(
        &message,
        &["jsonrpc", "id", "method", "params", "result", "error"],
    )?;
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(body("`jsonrpc` is not `2.0`"));
    }
    Ok(message)
}

/// Refuses keys that a reader takes for a known one if it doesn't tell cases.
fn check_case(map: &Map<String, Value>, known: &[&str]) -> Result<(), Unobservable> {
    let is_twin = |key: &String| {
        !known.contains(&key.as_str()) && known.contains(&json::folded(key).as_str())
    };
    if map.keys().any(is_twin) {
        return Err(body("a key differs from a known one by its case only"));
    }
    Ok(())
}

fn id(message: &Map<String, Value>) -> Result<Option<Value>, Unobservable> {
    match message.get("id") {
        None => Ok(None),
        Some(Value::String(id)) if id.len() <= LONGEST => Ok(Some(Value::String(id.clone()))),
        Some(id) if id.is_i64() || id.is_u64() => Ok(Some(id.clone())),
        Some(_) => Err(body("`id` is neither a short text nor an integer")),
    }
}

/// An answer of the client's to a request of the server's (revisions before 2026-07-28).
fn response(
    headers: &HeaderMap,
    message: &Map<String, Value>,
    id: Option<Value>,
) -> Result<Message, Unobservable> {
    let is_response = message.contains_key("result") != message.contains_key("error");
    if id.is_none() || !is_response || message.contains_key("params") {
        return Err(body("it is neither a request nor a response"));
    }
    absent(headers, METHOD, id.as_ref())?;
    absent(headers, NAME, id.as_ref())?;
    Ok(Message {
        call: McpCall {
            method: "response".to_owned(),
            name: None,
            session: text(headers, SESSION, id.as_ref())?,
            version: text(headers, VERSION, id.as_ref())?,
            elicits: false,
            id,
        },
        kind: Kind::Lifecycle,
    })
}

fn elicits(params: &Map<String, Value>) -> bool {
    let url = params
        .get("capabilities")
        .and_then(|capabilities| capabilities.get("elicitation")?.get("url"));
    url.is_some_and(Value::is_object)
}

/// What `Mcp-Name` mirrors: `params.name`, or `params.uri` of a resource.
fn name(method: &str, params: &Map<String, Value>) -> Result<Option<String>, Unobservable> {
    let key = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(None),
    };
    match params.get(key) {
        Some(Value::String(name)) if is_short(name) => Ok(Some(name.clone())),
        _ => Err(body("it has no short, printable name")),
    }
}

fn is_short(name: &str) -> bool {
    name.len() <= LONGEST && !name.chars().any(char::is_control)
}

fn kind(call: &McpCall, params: &mut Map<String, Value>) -> Result<Kind, Unobservable> {
    let is_notification = NOTIFICATIONS.contains(&call.method.as_str());
    if is_notification || REQUESTS.contains(&call.method.as_str()) {
        check_id(call, is_notification)?;
        return Ok(Kind::Lifecycle);
    }
    match (call.method.as_str(), &call.name) {
        ("tools/call", Some(name)) => {
            check_id(call, false)?;
            let arguments = match params.remove("arguments") {
                None | Some(Value::Null) => None,
                Some(arguments @ Value::Object(_)) => Some(arguments),
                Some(_) => return Err(body("`arguments` is no object")),
            };
            Ok(Kind::ToolCall {
                name: name.clone(),
                arguments,
            })
        }
        _ => Err(Unobservable::UnknownMethod {
            method: call.method.clone(),
            id: call.id.clone(),
        }),
    }
}

fn check_id(call: &McpCall, is_notification: bool) -> Result<(), Unobservable> {
    if call.id.is_some() == is_notification {
        return Err(body("only a request has an `id`"));
    }
    Ok(())
}

/// A header that mirrors the body must agree with it; from 2026-07-28 on it must be there.
fn check_headers(
    headers: &HeaderMap,
    call: &McpCall,
    params: &Map<String, Value>,
) -> Result<(), Unobservable> {
    let id = call.id.as_ref();
    let said = params
        .get("_meta")
        .and_then(|meta| meta.get("io.modelcontextprotocol/protocolVersion"));
    let said = match said {
        Some(version) => Some(version.as_str().ok_or_else(|| mismatch(VERSION, id))?),
        None => None,
    };
    let header = call.version.as_deref();
    let is_mirrored = [header, said]
        .into_iter()
        .flatten()
        .any(|version| version >= MIRRORED);
    let is_request = call.id.is_some();
    if said.is_some() && header.is_some() && said != header
        || is_mirrored && (header.is_none() || said.is_none() && is_request)
    {
        return Err(mismatch(VERSION, id));
    }
    let method = text(headers, METHOD, id)?;
    if method
        .as_ref()
        .map_or(is_mirrored, |method| *method != call.method)
    {
        return Err(mismatch(METHOD, id));
    }
    let name = match text(headers, NAME, id)? {
        Some(name) => Some(decoded(name).ok_or_else(|| mismatch(NAME, id))?),
        None => None,
    };
    let is_named = is_mirrored && call.name.is_some();
    if name
        .as_ref()
        .map_or(is_named, |name| Some(name) != call.name.as_ref())
    {
        return Err(mismatch(NAME, id));
    }
    Ok(())
}

/// A header's text; it stands once.
fn text(
    headers: &HeaderMap,
    name: &'static str,
    id: Option<&Value>,
) -> Result<Option<String>, Unobservable> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(mismatch(name, id));
    }
    let text = value.to_str().map_err(|_| mismatch(name, id))?;
    Ok(Some(text.trim().to_owned()))
}

/// A name that a header can't hold as it is comes as `=?base64?…?=`.
fn decoded(text: String) -> Option<String> {
    let encoded = text
        .strip_prefix("=?base64?")
        .and_then(|text| text.strip_suffix("?="));
    match encoded {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(text),
    }
}

fn absent(headers: &HeaderMap, name: &'static str, id: Option<&Value>) -> Result<(), Unobservable> {
    if headers.contains_key(name) {
        return Err(mismatch(name, id));
    }
    Ok(())
}

fn mismatch(header: &'static str, id: Option<&Value>) -> Unobservable {
    Unobservable::HeaderMismatch {
        header,
        id: id.cloned(),
    }
}

fn body(problem: &str) -> Unobservable {
    Unobservable::Body(problem.to_owned())
}

#[cfg(test)]
mod tests;
