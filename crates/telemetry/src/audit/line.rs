//! What one line of the audit says.

use jiff::Timestamp;

use crate::digits;
use crate::json::Object;
use crate::record::{LONGEST_TEXT, Told};
use crate::{CallRecord, Delegated, EndedLease, RevocationEvent, RevocationEventKind, TaskEvent};

/// A line, without `seq` and `prev`, which are put before it when it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    /// Of a call that is about to go on; [`decided`] made its members.
    Decided(&'a [u8]),
    /// Of a call whose last byte is out.
    Closed(&'a CallRecord),
    /// Of something that happened to a task.
    Task(&'a TaskEvent),
    /// Of something that was revoked as a whole.
    Revocation(&'a RevocationEvent),
    /// What a crash left: how many bytes, and their hash.
    Recovered(usize, &'a str),
}

impl<'a> Line<'a> {
    /// Of what is over.
    pub(super) fn of(told: &'a Told) -> Self {
        match told {
            Told::Call(record) => Self::Closed(record),
            Told::Task(event) => Self::Task(event),
            Told::Revocation(event) => Self::Revocation(event),
        }
    }
}

impl Line<'_> {
    /// Adds the line's members to those that link it.
    pub(super) fn write(self, line: &mut Object<'_>) {
        match self {
            Self::Decided(members) => line.put(members),
            Self::Closed(record) => closed(record, line),
            Self::Task(event) => task(event, line),
            Self::Revocation(event) => revocation(event, line),
            Self::Recovered(bytes, hash) => {
                line.plain("at", |text| digits::time(Timestamp::now(), text));
                line.word("kind", "recovered");
                line.value("torn_bytes", bytes);
                line.text("torn_sha256", hash);
            }
        }
    }
}

/// The members of the line that is written before anything is forwarded.
pub(super) fn decided(record: &CallRecord) -> Vec<u8> {
    // Most lines fit 1 KiB: one allocation.
    let mut members = Vec::with_capacity(1024);
    let mut line = Object::members_of(&mut members);
    call("decided", Timestamp::now(), record, &mut line);
    members
}

/// The members of the line that is written after the last byte.
fn closed(record: &CallRecord, line: &mut Object<'_>) {
    call("closed", record.ended(), record, line);
    line.value("forwarded", record.forwarded.is_some());
    line.value("status", record.status);
    line.value("bytes_in", record.bytes_in);
    line.value("bytes_out", record.bytes_out);
    if record.scrubbed > 0 {
        line.value("secrets_scrubbed", record.scrubbed);
    }
    if record.redacted > 0 {
        line.value("values_redacted", record.redacted);
    }
    line.word("ending", record.ending.as_str());
    line.value("seconds", record.total_time.as_secs_f64());
}

fn task(event: &TaskEvent, line: &mut Object<'_>) {
    line.plain("at", |text| digits::time(event.at, text));
    line.word("kind", "task");
    line.word("event", event.kind.as_str());
    line.text("task", &event.task);
    delegated(event.delegated.as_ref(), line);
    line.text("agent", &event.agent);
    line.text("owner", &event.owner);
    line.maybe("by", event.by.as_deref());
    line.maybe("approval", event.approval.as_deref());
    line.maybe("comment", event.comment.as_deref().map(cut));
    line.maybe("because", event.because.as_deref());
    leases(&event.leases, line);
}

fn leases(leases: &[EndedLease], line: &mut Object<'_>) {
    if !leases.is_empty() {
        line.objects("leases", leases, |told, lease| {
            told.text("id", &lease.id);
            told.text("tool", &lease.tool);
            told.text("outcome", &lease.outcome);
        });
    }
}

fn revocation(event: &RevocationEvent, line: &mut Object<'_>) {
    line.plain("at", |text| digits::time(event.at, text));
    line.word("kind", "revocation");
    line.word("event", event.kind.as_str());
    line.text("revocation", &event.id);
    line.word("subject", event.subject);
    line.text("name", cut(&event.name));
    line.text("by", cut(&event.by));
    line.text("reason", cut(&event.reason));
    line.value("block", event.block);
    line.maybe("until", event.until.as_deref());
    if event.kind == RevocationEventKind::Lifted {
        return;
    }
    line.value("tasks", event.tasks);
    line.texts("task_ids", &event.task_ids);
    line.value("calls_cut", event.calls_cut);
    line.value("calls_left", event.calls_left);
    leases(&event.leases, line);
}

fn delegated(delegated: Option<&Delegated>, line: &mut Object<'_>) {
    if let Some(delegated) = delegated {
        line.text("parent", &delegated.parent);
        line.texts("chain", &delegated.chain);
    }
}

fn call(kind: &'static str, at: Timestamp, record: &CallRecord, line: &mut Object<'_>) {
    line.plain("at", |text| digits::time(at, text));
    line.word("kind", kind);
    line.plain("decision", |text| digits::decision(&record.decision, text));
    line.plain("trace", |text| digits::trace(record.trace.id(), text));
    if let Some(client) = record.client {
        line.plain("client", |text| digits::address(client, text));
    }
    line.maybe("agent", record.agent.as_deref());
    if let Some(agent_method) = record.agent_method {
        line.word("agent_method", agent_method);
    }
    line.maybe("owner", record.owner.as_deref());
    line.maybe("task", record.task.as_deref());
    delegated(record.delegated.as_ref(), line);
    line.maybe("tool", record.tool.as_deref());
    line.maybe("environment", record.environment.as_deref());
    line.maybe("operation", record.operation.as_deref());
    if let Some(access) = record.access {
        line.word("access", access);
    }
    line.text("method", cut(&record.method));
    line.text("host", cut(&record.host));
    line.text("path", cut(&record.path));
    if let Some(mcp) = &record.mcp {
        line.object("mcp", |told| {
            told.text("method", cut(&mcp.method));
            told.maybe("name", mcp.name.as_deref().map(cut));
            told.maybe("request", mcp.request_id.as_deref().map(cut));
        });
    }
    line.word("verdict", record.verdict.as_str());
    if let Some(code) = record.code {
        line.word("code", code);
    }
    line.maybe("reason", record.reason.as_deref().map(cut));
    line.maybe("cause", record.cause.as_deref().map(cut));
    line.maybe("approval", record.approval.as_deref());
    line.maybe("policy_revision", record.policy_revision.as_deref());
    if !record.keys.is_empty() {
        line.objects("keys", &record.keys, |told, key| {
            told.text("place", &key.place);
            told.word("kind", key.kind);
            told.text("fingerprint", &key.fingerprint);
            told.word("action", key.action);
        });
    }
    if !record.leases.is_empty() {
        line.objects("leases", &record.leases, |told, lease| {
            told.text("id", &lease.id);
            told.word("provider", lease.provider);
            told.value("bridge", lease.bridge);
            told.maybe("expires_at", lease.expires_at.as_deref());
        });
    }
}

/// Peers' texts, as [`CallRecord::cut`] leaves them.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests;
