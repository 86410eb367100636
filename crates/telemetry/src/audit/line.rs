//! What one line of the audit says.

use std::fmt::Display;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::CallRecord;
use crate::record::LONGEST_TEXT;

/// Without `seq` and `prev`, which are put before it when it is written.
#[derive(Serialize)]
struct Line<'a> {
    at: Shown<Timestamp>,
    kind: &'static str,
    decision: &'a str,
    trace: Shown<opentelemetry::TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'static str>,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp: Option<Mcp<'a>>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys_stripped: Vec<Key<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<Lease<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

/// What only a `closed` line can know.
#[derive(Serialize)]
struct End {
    forwarded: bool,
    status: Option<u16>,
    bytes_in: u64,
    bytes_out: u64,
    ending: &'static str,
    seconds: f64,
}

#[derive(Serialize)]
struct Mcp<'a> {
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
}

#[derive(Serialize)]
struct Key<'a> {
    place: &'a str,
    fingerprint: &'a str,
}

#[derive(Serialize)]
struct Lease<'a> {
    id: &'a str,
    provider: &'static str,
    bridge: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<&'a str>,
}

/// The line that is written before anything is forwarded.
pub(super) fn decided(record: &CallRecord) -> serde_json::Result<Vec<u8>> {
    text(&line("decided", Timestamp::now(), record, None))
}

/// The line that is written after the last byte.
pub(super) fn closed(record: &CallRecord) -> serde_json::Result<Vec<u8>> {
    let end = End {
        forwarded: record.forwarded.is_some(),
        status: record.status,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        ending: record.ending.as_str(),
        seconds: record.total_time.as_secs_f64(),
    };
    text(&line("closed", record.ended(), record, Some(end)))
}

/// The line that says what a crash left.
pub(super) fn recovered(torn_bytes: usize, torn_hash: &str) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Recovered<'a> {
        at: Shown<Timestamp>,
        kind: &'static str,
        torn_bytes: usize,
        torn_sha256: &'a str,
    }
    let at = Shown(Timestamp::now());
    serde_json::to_vec(&Recovered {
        at,
        kind: "recovered",
        torn_bytes,
        torn_sha256: torn_hash,
    })
}

fn line<'a>(
    kind: &'static str,
    at: Timestamp,
    record: &'a CallRecord,
    end: Option<End>,
) -> Line<'a> {
    Line {
        at: Shown(at),
        kind,
        decision: record.decision.as_str(),
        trace: Shown(record.trace.id()),
        client: record.client,
        agent: record.agent.as_deref(),
        agent_method: record.agent_method,
        owner: record.owner.as_deref(),
        task: record.task.as_deref(),
        tool: record.tool.as_deref(),
        environment: record.environment.as_deref(),
        operation: record.operation.as_deref(),
        access: record.access,
        method: cut(&record.method),
        host: cut(&record.host),
        path: cut(&record.path),
        mcp: record.mcp.as_ref().map(|mcp| Mcp {
            method: cut(&mcp.method),
            name: mcp.name.as_deref().map(cut),
            request: mcp.request_id.as_deref().map(cut),
        }),
        verdict: record.verdict.as_str(),
        code: record.code,
        reason: record.reason.as_deref().map(cut),
        cause: record.cause.as_deref().map(cut),
        policy_revision: record.policy_revision.as_deref(),
        keys_stripped: record
            .stripped
            .iter()
            .map(|key| Key {
                place: &key.place,
                fingerprint: &key.fingerprint,
            })
            .collect(),
        lease: record.lease.as_ref().map(|lease| Lease {
            id: &lease.id,
            provider: lease.provider,
            bridge: lease.bridge,
            expires_at: lease.expires_at.as_deref(),
        }),
        end,
    }
}

/// Most lines fit 1 KiB: one allocation.
fn text(line: &Line<'_>) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(1024);
    serde_json::to_writer(&mut text, line)?;
    Ok(text)
}

/// Peers' texts, as [`CallRecord::cut`] leaves them.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT))
        .unwrap_or(text)
}

/// A value by its text.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
