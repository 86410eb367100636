//! A record as a tree of spans: the call, its decision, and the upstream's part if there was one.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue, SpanId, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

use crate::{CallRecord, Ending, Verdict, names};

/// The spans of one call: SERVER always, `remit.decision` where a ruling was sought, CLIENT only where
/// something was sent upstream.
pub(crate) fn of(record: &CallRecord) -> impl Iterator<Item = SpanData> {
    let server = server(record);
    let decision = ruled(record).then(|| decision(record));
    let client = record.forwarded.is_some().then(|| client(record));
    [Some(server), decision, client].into_iter().flatten()
}

/// The scope of all that Remit tells.
pub(crate) fn scope() -> InstrumentationScope {
    static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
        InstrumentationScope::builder(names::SCOPE)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build()
    });
    SCOPE.clone()
}

fn server(record: &CallRecord) -> SpanData {
    let mut attributes = Attributes::default();
    http_server(record, &mut attributes);
    who(record, &mut attributes);
    tool(record, &mut attributes);
    ruling(record, &mut attributes);
    attributes.number(names::KEYS_STRIPPED, record.stripped.len());
    attributes.put(names::CALL_ENDING, record.ending.as_str());
    attributes.maybe(names::ERROR_TYPE, error_type(record));
    SpanData {
        span_context: record.trace.context(record.trace.server()),
        parent_span_id: record.trace.parent().unwrap_or(SpanId::INVALID),
        parent_span_is_remote: record.trace.parent().is_some(),
        span_kind: SpanKind::Server,
        name: name(record),
        start_time: clock(record.started),
        end_time: clock(record.ended()),
        // A 4xx is the caller's fault and leaves the status unset (HTTP conventions, "Status").
        status: if record.failed() {
            Status::error(record.code.unwrap_or_default())
        } else {
            Status::Unset
        },
        ..blank(attributes)
    }
}

/// The decision as a span of its own, so that a refusal is seen as a step that has no next one.
fn decision(record: &CallRecord) -> SpanData {
    let mut attributes = Attributes::default();
    ruling(record, &mut attributes);
    attributes.put(names::POLICY_TIME, record.policy_time.as_secs_f64());
    // The record has how long it took, not when it began: it is the last but one thing the gateway does
    // before it forwards, and the last before it refuses.
    let taken = record.policy_time + record.lease_time;
    let end = clock(record.forwarded.unwrap_or_else(|| record.ended()));
    let start = end
        .checked_sub(taken)
        .unwrap_or(end)
        .max(clock(record.started));
    SpanData {
        span_context: record
            .trace
            .context(RandomIdGenerator::default().new_span_id()),
        parent_span_id: record.trace.server(),
        span_kind: SpanKind::Internal,
        name: names::DECISION_SPAN.into(),
        start_time: start,
        end_time: start + record.policy_time,
        ..blank(attributes)
    }
}

fn client(record: &CallRecord) -> SpanData {
    let mut attributes = Attributes::default();
    attributes.method(record);
    if let Some((host, port)) = &record.upstream {
        attributes.put(names::SERVER_ADDRESS, Arc::clone(host));
        attributes.put(names::SERVER_PORT, i64::from(*port));
    }
    attributes.text(names::URL_FULL, record.upstream_url.as_deref());
    attributes.put(names::DECISION_ID, record.decision.shared());
    attributes.shared(names::TOOL_NAME, record.tool.as_ref());
    mcp(record, &mut attributes);
    lease(record, &mut attributes);
    attributes.seconds(names::UPSTREAM_TIME, record.upstream_time);
    // Where the gateway itself answered, its code says why; the upstream's status isn't known then.
    let status = record.status.filter(|_| record.code.is_none());
    attributes.maybe(names::HTTP_RESPONSE_STATUS_CODE, status.map(i64::from));
    let failed = record.failed() || status.is_some_and(|status| status >= 400);
    if failed {
        attributes.maybe(names::ERROR_TYPE, error_type(record));
    }
    SpanData {
        span_context: record.trace.context(record.trace.client()),
        parent_span_id: record.trace.server(),
        span_kind: SpanKind::Client,
        name: name(record),
        start_time: clock(record.forwarded.unwrap_or(record.started)),
        end_time: clock(
            record
                .ended()
                .max(record.forwarded.unwrap_or(record.started)),
        ),
        status: if failed {
            Status::error("")
        } else {
            Status::Unset
        },
        ..blank(attributes)
    }
}

/// A span of which only the attributes are known.
fn blank(attributes: Attributes) -> SpanData {
    SpanData {
        span_context: opentelemetry::trace::SpanContext::NONE,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: Cow::Borrowed(""),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: attributes.0,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope(),
    }
}

/// The exporter's clock, which has every time of ours.
pub(crate) fn clock(time: jiff::Timestamp) -> SystemTime {
    time.try_into().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn ruled(record: &CallRecord) -> bool {
    record.verdict != Verdict::Error || !record.policy_time.is_zero()
}

/// `{mcp.method.name} {target}` on MCP, `{http.request.method} {http.route}` on HTTP, the operation
/// elsewhere. Only what the gateway observed is in it, so that agents can't make up new names.
fn name(record: &CallRecord) -> Cow<'static, str> {
    let method = names::known_method(&record.method).unwrap_or("HTTP");
    if let Some(mcp) = &record.mcp {
        return match record.mcp_tool().filter(|_| record.operation.is_some()) {
            Some(target) => format!("{} {}", cut(&mcp.method), cut(target)).into(),
            None => cut(&mcp.method).to_owned().into(),
        };
    }
    match (record.protocol, route(record)) {
        (Some("http") | None, Some(route)) => format!("{method} {route}").into(),
        (Some(_), Some(operation)) => operation.to_owned().into(),
        (_, None) => method.into(),
    }
}

/// The operation without its method: `GET /notes/**` → `/notes/**`.
fn route(record: &CallRecord) -> Option<&str> {
    let operation = record.operation.as_deref()?;
    Some(
        operation
            .split_once(' ')
            .map_or(operation, |(_, path)| path),
    )
}

fn http_server(record: &CallRecord, attributes: &mut Attributes) {
    attributes.method(record);
    attributes.text(names::URL_PATH, Some(&record.path));
    attributes.put(names::URL_SCHEME, record.scheme);
    if record.mcp.is_none() {
        attributes.text(names::HTTP_ROUTE, route(record));
    }
    attributes.maybe(
        names::HTTP_RESPONSE_STATUS_CODE,
        record.status.map(i64::from),
    );
    attributes.number(names::HTTP_REQUEST_BODY_SIZE, record.bytes_in);
    attributes.number(names::HTTP_RESPONSE_BODY_SIZE, record.bytes_out);
    attributes.put(names::NETWORK_PROTOCOL_NAME, "http");
    attributes.put(names::NETWORK_PROTOCOL_VERSION, record.http_version);
    if let Ok(authority) = record.host.parse::<http::uri::Authority>() {
        attributes.text(names::SERVER_ADDRESS, Some(authority.host()));
        attributes.maybe(names::SERVER_PORT, authority.port_u16().map(i64::from));
    }
    if let Some(client) = record.client {
        attributes.put(names::CLIENT_ADDRESS, client.ip().to_string());
        attributes.put(names::CLIENT_PORT, i64::from(client.port()));
    }
}

/// Who asked, on whose behalf, for what task.
pub(crate) fn who(record: &CallRecord, attributes: &mut Attributes) {
    attributes.shared(names::GEN_AI_AGENT_ID, record.agent.as_ref());
    attributes.maybe(names::AGENT_METHOD, record.agent_method);
    attributes.shared(names::ENDUSER_ID, record.owner.as_ref());
    attributes.shared(names::TASK_ID, record.task.as_ref());
}

/// What was asked.
pub(crate) fn tool(record: &CallRecord, attributes: &mut Attributes) {
    attributes.shared(names::TOOL_NAME, record.tool.as_ref());
    attributes.shared(names::TOOL_OPERATION, record.operation.as_ref());
    attributes.maybe(names::TOOL_ACCESS, record.access);
    attributes.shared(names::TOOL_ENVIRONMENT, record.environment.as_ref());
    mcp(record, attributes);
}

fn mcp(record: &CallRecord, attributes: &mut Attributes) {
    let Some(mcp) = &record.mcp else {
        if record.operation.is_some() {
            attributes.put(names::GEN_AI_OPERATION_NAME, "execute_tool");
            attributes.shared(names::GEN_AI_TOOL_NAME, record.tool.as_ref());
        }
        return;
    };
    attributes.text(names::MCP_METHOD_NAME, Some(&mcp.method));
    attributes.text(names::JSONRPC_REQUEST_ID, mcp.request_id.as_deref());
    attributes.text(names::MCP_SESSION_ID, mcp.session.as_deref());
    attributes.text(names::MCP_PROTOCOL_VERSION, mcp.version.as_deref());
    match mcp.method.as_str() {
        "tools/call" => {
            attributes.put(names::GEN_AI_OPERATION_NAME, "execute_tool");
            attributes.text(names::GEN_AI_TOOL_NAME, mcp.name.as_deref());
        }
        "prompts/get" => attributes.text(names::GEN_AI_PROMPT_NAME, mcp.name.as_deref()),
        "resources/read" => attributes.text(names::MCP_RESOURCE_URI, mcp.name.as_deref()),
        _ => {}
    }
}

/// How it was ruled, and by which policy.
pub(crate) fn ruling(record: &CallRecord, attributes: &mut Attributes) {
    attributes.put(names::DECISION_ID, record.decision.shared());
    attributes.put(names::DECISION_OUTCOME, record.verdict.as_str());
    attributes.text(names::DECISION_REASON, record.reason.as_deref());
    attributes.maybe(names::REFUSAL_CODE, record.code);
    attributes.shared(names::POLICY_REVISION, record.policy_revision.as_ref());
}

/// With which lease.
pub(crate) fn lease(record: &CallRecord, attributes: &mut Attributes) {
    let Some(lease) = &record.lease else { return };
    attributes.put(names::LEASE_ID, Arc::clone(&lease.id));
    attributes.put(names::LEASE_PROVIDER, lease.provider);
    attributes.put(names::LEASE_BRIDGE, lease.bridge);
    attributes.text(names::LEASE_EXPIRES_AT, lease.expires_at.as_deref());
    attributes.put(names::LEASE_TIME, record.lease_time.as_secs_f64());
}

/// `error.type`: the refusal's code, else how it ended badly, else the status as text.
pub(crate) fn error_type(record: &CallRecord) -> Option<Value> {
    if let Some(code) = record.code {
        return Some(code.into());
    }
    if record.ending != Ending::Complete {
        return Some(record.ending.as_str().into());
    }
    record
        .status
        .filter(|status| *status >= 400)
        .map(|status| status.to_string().into())
}

/// Attributes in the making.
#[derive(Debug, Default)]
pub(crate) struct Attributes(pub(crate) Vec<KeyValue>);

impl Attributes {
    pub(crate) fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    pub(crate) fn maybe(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    pub(crate) fn shared(&mut self, key: &'static str, value: Option<&Arc<str>>) {
        self.maybe(key, value.map(Arc::clone));
    }

    /// A text that a peer may have made as long as it likes.
    pub(crate) fn text(&mut self, key: &'static str, value: Option<&str>) {
        self.maybe(key, value.map(|text| cut(text).to_owned()));
    }

    pub(crate) fn number(&mut self, key: &'static str, value: impl TryInto<i64>) {
        self.put(key, value.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn seconds(&mut self, key: &'static str, value: Option<Duration>) {
        self.maybe(key, value.map(|time| time.as_secs_f64()));
    }

    fn method(&mut self, record: &CallRecord) {
        let known = names::known_method(&record.method);
        self.put(
            names::HTTP_REQUEST_METHOD,
            known.unwrap_or(names::OTHER_METHOD),
        );
        if known.is_none() {
            self.text(names::HTTP_REQUEST_METHOD_ORIGINAL, Some(&record.method));
        }
    }
}

/// The first 1,024 bytes: what peers say must not fill the collector. The audit has all of it.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(1024)).unwrap_or(text)
}

#[cfg(test)]
mod tests;
