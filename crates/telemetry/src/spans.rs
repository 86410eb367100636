//! A record as a tree of spans: the call, its decision, and the upstream's part if there was one.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::SpanId;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use crate::attributes::{Attributes, cut};
use crate::envelope::ITEM;
use crate::protobuf::Message;
use crate::{CallRecord, Delegated, Ending, Verdict, names};

/// Adds the spans of one call: SERVER always, `remit.decision` where a ruling was sought, CLIENT only where
/// something was sent upstream.
pub(crate) fn write(record: &CallRecord, spans: &mut Message) {
    server(record, spans);
    if ruled(record) {
        decision(record, spans);
    }
    if let Some(forwarded) = record.forwarded {
        client(record, forwarded, spans);
    }
}

fn server(record: &CallRecord, spans: &mut Message) {
    let span = Span {
        id: record.trace.server(),
        parent: record.trace.parent(),
        kind: Kind::Server,
        name: name(record),
        start: nanoseconds(record.started),
        end: nanoseconds(record.ended()),
        // A 4xx is the caller's fault and leaves the status unset (HTTP conventions, "Status").
        failed: record.failed().then(|| record.code.unwrap_or_default()),
    };
    span.write(record, spans, |attributes| {
        http_server(record, attributes);
        who(record, attributes);
        tool(record, attributes);
        ruling(record, attributes);
        keys(record, attributes);
        if record.scrubbed > 0 {
            attributes.number(names::SECRETS_SCRUBBED, record.scrubbed);
        }
        attributes.put(names::CALL_ENDING, record.ending.as_str());
        attributes.maybe(names::ERROR_TYPE, error_type(record).as_deref());
    });
}

/// The keys that the agent brought, by fingerprint; the lists are in one order.
pub(crate) fn keys(record: &CallRecord, attributes: &mut Attributes<'_>) {
    let keys = &record.keys;
    attributes.number(names::KEYS_FOUND, keys.len());
    if !keys.is_empty() {
        attributes.texts(names::KEYS_PLACES, keys.iter().map(|key| &*key.place));
        attributes.texts(names::KEYS_KINDS, keys.iter().map(|key| key.kind));
        attributes.texts(names::KEYS_ACTIONS, keys.iter().map(|key| key.action));
        let prints = keys.iter().map(|key| &*key.fingerprint);
        attributes.texts(names::KEYS_FINGERPRINTS, prints);
    }
}

/// The decision as a span of its own, so that a refusal is seen as a step that has no next one.
fn decision(record: &CallRecord, spans: &mut Message) {
    // The record has how long it took, not when it began: it is the last but one thing the gateway does
    // before it forwards, and the last before it refuses.
    let end = nanoseconds(record.forwarded.unwrap_or_else(|| record.ended()));
    let start = end
        .saturating_sub(length(record.policy_time + record.lease_time))
        .max(nanoseconds(record.started));
    let span = Span {
        id: RandomIdGenerator::default().new_span_id(),
        parent: Some(record.trace.server()),
        kind: Kind::Internal,
        name: [names::DECISION_SPAN, "", ""],
        start,
        end: start.saturating_add(length(record.policy_time)),
        failed: None,
    };
    span.write(record, spans, |attributes| {
        ruling(record, attributes);
        attributes.put(names::POLICY_TIME, record.policy_time.as_secs_f64());
    });
}

fn client(record: &CallRecord, forwarded: jiff::Timestamp, spans: &mut Message) {
    // Where the gateway itself answered, its code says why; the upstream's status isn't known then.
    let status = record.status.filter(|_| record.code.is_none());
    let failed = record.failed() || status.is_some_and(|status| status >= 400);
    let span = Span {
        id: record.trace.client(),
        parent: Some(record.trace.server()),
        kind: Kind::Client,
        name: name(record),
        start: nanoseconds(forwarded),
        end: nanoseconds(record.ended().max(forwarded)),
        failed: failed.then_some(""),
    };
    span.write(record, spans, |attributes| {
        method(record, attributes);
        if let Some((host, port)) = &record.upstream {
            attributes.put(names::SERVER_ADDRESS, &**host);
            attributes.put(names::SERVER_PORT, i64::from(*port));
        }
        attributes.text(names::URL_FULL, record.upstream_url.as_deref());
        attributes.put(names::DECISION_ID, record.decision.as_str());
        attributes.shared(names::TOOL_NAME, record.tool.as_ref());
        mcp(record, attributes);
        lease(record, attributes);
        attributes.seconds(names::UPSTREAM_TIME, record.upstream_time);
        attributes.maybe(names::HTTP_RESPONSE_STATUS_CODE, status.map(i64::from));
        if failed {
            attributes.maybe(names::ERROR_TYPE, error_type(record).as_deref());
        }
    });
}

/// What a span has besides its attributes.
struct Span<'r> {
    id: SpanId,
    parent: Option<SpanId>,
    kind: Kind,
    name: Name<'r>,
    start: u64,
    end: u64,
    /// The description of the failure, where it is one.
    failed: Option<&'static str>,
}

/// A name in pieces, so that none has to be put together.
type Name<'r> = [&'r str; 3];

/// The numbers of `SpanKind`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// `SpanFlags`: the parent is known to be remote or not, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

impl Span<'_> {
    fn write(
        &self,
        record: &CallRecord,
        spans: &mut Message,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        spans.message(ITEM, |span| {
            span.bytes(1, &record.trace.id().to_bytes());
            span.bytes(2, &self.id.to_bytes());
            if let Some(parent) = self.parent {
                span.bytes(4, &parent.to_bytes());
            }
            span.pieces(5, &self.name);
            span.varint(6, self.kind as u64);
            span.fixed64(7, self.start);
            span.fixed64(8, self.end);
            attributes(&mut Attributes::new(span, 9));
            span.message(15, |status| {
                if let Some(description) = self.failed {
                    if !description.is_empty() {
                        status.text(2, description);
                    }
                    status.varint(3, ERROR);
                }
            });
            span.fixed32(16, self.flags(record));
        });
    }

    /// Only the agent's span, the parent of ours, is another process's.
    fn flags(&self, record: &CallRecord) -> u32 {
        let remote = self.kind == Kind::Server && self.parent.is_some();
        let flags = HAS_IS_REMOTE | u32::from(record.trace.flags().to_u8());
        if remote { flags | IS_REMOTE } else { flags }
    }
}

/// Nanoseconds since 1970, as OTLP has its times.
pub(crate) fn nanoseconds(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

fn length(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn ruled(record: &CallRecord) -> bool {
    record.verdict != Verdict::Error || !record.policy_time.is_zero()
}

/// `{mcp.method.name} {target}` on MCP, `{http.request.method} {http.route}` on HTTP, the operation
/// elsewhere. Only what the gateway observed is in it, so that agents can't make up new names.
fn name(record: &CallRecord) -> Name<'_> {
    let method = names::known_method(&record.method).unwrap_or("HTTP");
    if let Some(mcp) = &record.mcp {
        return match record.mcp_tool().filter(|_| record.operation.is_some()) {
            Some(target) => [cut(&mcp.method), " ", cut(target)],
            None => [cut(&mcp.method), "", ""],
        };
    }
    match (record.protocol, route(record)) {
        (Some("http") | None, Some(route)) => [method, " ", route],
        (Some(_), Some(operation)) => [operation, "", ""],
        (_, None) => [method, "", ""],
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

fn http_server(record: &CallRecord, attributes: &mut Attributes<'_>) {
    method(record, attributes);
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
        attributes.put(names::CLIENT_ADDRESS, &*client.ip().to_string());
        attributes.put(names::CLIENT_PORT, i64::from(client.port()));
    }
}

/// Who asked, on whose behalf, for what task.
pub(crate) fn who(record: &CallRecord, attributes: &mut Attributes<'_>) {
    attributes.shared(names::GEN_AI_AGENT_ID, record.agent.as_ref());
    attributes.maybe(names::AGENT_METHOD, record.agent_method);
    attributes.shared(names::ENDUSER_ID, record.owner.as_ref());
    attributes.shared(names::TASK_ID, record.task.as_ref());
    delegated(record.delegated.as_ref(), attributes);
}

/// Where the task was delegated from.
pub(crate) fn delegated(delegated: Option<&Delegated>, attributes: &mut Attributes<'_>) {
    if let Some(Delegated { parent, chain }) = delegated {
        attributes.shared(names::TASK_PARENT, Some(parent));
        attributes.texts(names::TASK_CHAIN, chain.iter().map(String::as_str));
    }
}

/// What was asked.
pub(crate) fn tool(record: &CallRecord, attributes: &mut Attributes<'_>) {
    attributes.shared(names::TOOL_NAME, record.tool.as_ref());
    attributes.shared(names::TOOL_OPERATION, record.operation.as_ref());
    attributes.maybe(names::TOOL_ACCESS, record.access);
    attributes.shared(names::TOOL_ENVIRONMENT, record.environment.as_ref());
    mcp(record, attributes);
}

fn mcp(record: &CallRecord, attributes: &mut Attributes<'_>) {
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
pub(crate) fn ruling(record: &CallRecord, attributes: &mut Attributes<'_>) {
    attributes.put(names::DECISION_ID, record.decision.as_str());
    attributes.put(names::DECISION_OUTCOME, record.verdict.as_str());
    attributes.text(names::DECISION_REASON, record.reason.as_deref());
    attributes.maybe(names::REFUSAL_CODE, record.code);
    attributes.shared(names::APPROVAL_ID, record.approval.as_ref());
    attributes.shared(names::POLICY_REVISION, record.policy_revision.as_ref());
}

/// With which lease.
pub(crate) fn lease(record: &CallRecord, attributes: &mut Attributes<'_>) {
    let Some((lease, others)) = record.leases.split_first() else {
        return;
    };
    attributes.put(names::LEASE_ID, &*lease.id);
    if !others.is_empty() {
        attributes.texts(names::LEASE_OTHERS, others.iter().map(|other| &*other.id));
    }
    attributes.put(names::LEASE_PROVIDER, lease.provider);
    attributes.put(names::LEASE_BRIDGE, lease.bridge);
    attributes.text(names::LEASE_EXPIRES_AT, lease.expires_at.as_deref());
    attributes.put(names::LEASE_TIME, record.lease_time.as_secs_f64());
}

/// `error.type`: the refusal's code, else how it ended badly, else the status as text.
pub(crate) fn error_type(record: &CallRecord) -> Option<Cow<'static, str>> {
    if let Some(code) = record.code {
        return Some(code.into());
    }
    if record.ending != Ending::Complete {
        return Some(record.ending.as_str().into());
    }
    let status = record.status.filter(|status| *status >= 400)?;
    Some(status.to_string().into())
}

fn method(record: &CallRecord, attributes: &mut Attributes<'_>) {
    let known = names::known_method(&record.method);
    attributes.put(
        names::HTTP_REQUEST_METHOD,
        known.unwrap_or(names::OTHER_METHOD),
    );
    if known.is_none() {
        attributes.text(names::HTTP_REQUEST_METHOD_ORIGINAL, Some(&record.method));
    }
}

#[cfg(test)]
mod tests;
