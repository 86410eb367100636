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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::closed;
    use crate::{CallRecord, Ending, LeaseNote, Mcp, StrippedKey, Trace, Verdict};

    #[track_caller]
    fn check(record: &CallRecord, expect: &str) {
        let line = String::from_utf8(closed(record).unwrap()).unwrap();
        let expect = expect
            .replace("DECISION", record.decision.as_str())
            .replace('\n', "");
        assert_eq!(line, expect);
    }

    fn least() -> CallRecord {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut record = CallRecord::open(Trace::continue_text(trace).unwrap(), None);
        record.started = "2026-08-01T12:00:00Z".parse().unwrap();
        record
    }

    #[test]
    fn a_line_of_little() {
        check(
            &least(),
            r#"{"at":"2026-08-01T12:00:00Z","kind":"closed","decision":"DECISION",
"trace":"0af7651916cd43dd8448eb211c80319c","method":"","host":"","path":"","verdict":"error",
"forwarded":false,"status":null,"bytes_in":0,"bytes_out":0,"ending":"complete","seconds":0.0}"#,
        );
    }

    #[test]
    fn a_line_of_everything() {
        let mut record = least();
        record.client = Some("[2001:db8::7]:4711".parse().unwrap());
        record.agent = Some("triage".into());
        record.agent_method = Some("jwt");
        record.owner = Some("alice \"a\"".into());
        record.task = Some("t1".into());
        record.tool = Some("github".into());
        record.environment = Some("prod".into());
        record.operation = Some("POST /a/*".into());
        record.access = Some("write");
        record.method = "POST".into();
        record.host = "h:1".into();
        record.path = "/a/\n\u{1b}ü\\".into();
        record.mcp = Some(Mcp {
            method: "tools/call".into(),
            name: Some("add".into()),
            request_id: Some("\"7\"".into()),
            session: Some("s".into()),
            version: Some("v".into()),
        });
        record.verdict = Verdict::Allow;
        record.code = Some("bad_gateway");
        record.reason = Some("r".into());
        record.cause = Some("c".into());
        record.policy_revision = Some("r7".into());
        record.stripped = ["cookie", "userinfo"]
            .map(|place| StrippedKey {
                place: place.into(),
                fingerprint: "0123456789abcdef".into(),
            })
            .to_vec();
        record.lease = Some(LeaseNote {
            id: "l1".into(),
            provider: "cmd",
            expires_at: Some("2026-08-01T13:00:00Z".into()),
            bridge: true,
        });
        record.forwarded = Some(record.started);
        (record.status, record.bytes_in, record.bytes_out) = (Some(502), 12, u64::MAX);
        record.total_time = Duration::from_millis(1500);
        record.ending = Ending::UpstreamFailed;
        check(
            &record,
            r#"{"at":"2026-08-01T12:00:01.5Z","kind":"closed","decision":"DECISION",
"trace":"0af7651916cd43dd8448eb211c80319c","client":"[2001:db8::7]:4711","agent":"triage",
"agent_method":"jwt","owner":"alice \"a\"","task":"t1","tool":"github","environment":"prod",
"operation":"POST /a/*","access":"write","method":"POST","host":"h:1",
"path":"/a/\n\u001bü\\","mcp":{"method":"tools/call","name":"add","request":"\"7\""},
"verdict":"allow","code":"bad_gateway","reason":"r","cause":"c","policy_revision":"r7",
"keys_stripped":[{"place":"cookie","fingerprint":"0123456789abcdef"},
{"place":"userinfo","fingerprint":"0123456789abcdef"}],
"lease":{"id":"l1","provider":"cmd","bridge":true,"expires_at":"2026-08-01T13:00:00Z"},
"forwarded":true,"status":502,"bytes_in":12,"bytes_out":18446744073709551615,
"ending":"upstream_failed","seconds":1.5}"#,
        );
    }
}
