//! A record as one event of the OTLP logs.

use crate::attributes::Attributes;
use crate::envelope::ITEM;
use crate::protobuf::Message;
use crate::{CallRecord, RevocationEvent, RevocationEventKind, TaskEvent, names, spans};

/// `SEVERITY_NUMBER_INFO`.
const INFO: u64 = 9;

/// Adds the event of one decision, a `LogRecord`.
pub(crate) fn write(record: &CallRecord, events: &mut Message) {
    let ended = spans::nanoseconds(record.ended());
    let trace = record.trace;
    events.message(ITEM, |event| {
        event.fixed64(1, ended);
        event.varint(2, INFO);
        event.text(3, "INFO");
        event.message(5, |body| body.text(1, "call decided"));
        attributes(record, &mut Attributes::new(event, 6));
        if trace.flags().to_u8() != 0 {
            event.fixed32(8, trace.flags().to_u8().into());
        }
        event.bytes(9, &trace.id().to_bytes());
        event.bytes(10, &trace.server().to_bytes());
        event.fixed64(11, ended);
        event.text(12, names::EVENT);
    });
}

/// Adds the event of what happened to a task, a `LogRecord`.
pub(crate) fn write_task(told: &TaskEvent, events: &mut Message) {
    let at = spans::nanoseconds(told.at);
    events.message(ITEM, |event| {
        event.fixed64(1, at);
        event.varint(2, INFO);
        event.text(3, "INFO");
        event.message(5, |body| {
            body.text(1, &format!("task {}", told.kind.as_str()));
        });
        task_attributes(told, &mut Attributes::new(event, 6));
        event.fixed64(11, at);
        event.text(12, names::TASK_EVENT);
    });
}

fn task_attributes(told: &TaskEvent, attributes: &mut Attributes<'_>) {
    attributes.put(names::TASK_CHANGE, told.kind.as_str());
    attributes.shared(names::TASK_ID, Some(&told.task));
    spans::delegated(told.delegated.as_ref(), attributes);
    attributes.shared(names::GEN_AI_AGENT_ID, Some(&told.agent));
    attributes.shared(names::ENDUSER_ID, Some(&told.owner));
    attributes.shared(names::TASK_BY, told.by.as_ref());
    attributes.shared(names::TASK_ENDING, told.because.as_ref());
    attributes.shared(names::APPROVAL_ID, told.approval.as_ref());
    for (name, is_revoked) in [
        (names::TASK_LEASES_REVOKED, true),
        (names::TASK_LEASES_NOT_REVOKED, false),
    ] {
        let leases = told.leases.iter();
        let leases = leases.filter(|lease| lease.is_revoked() == is_revoked);
        let mut ids = leases.map(|lease| &*lease.id).peekable();
        if ids.peek().is_some() {
            attributes.texts(name, ids);
        }
    }
}

/// Adds the event of what was revoked as a whole, a `LogRecord`.
pub(crate) fn write_revocation(told: &RevocationEvent, events: &mut Message) {
    let at = spans::nanoseconds(told.at);
    events.message(ITEM, |event| {
        event.fixed64(1, at);
        event.varint(2, INFO);
        event.text(3, "INFO");
        event.message(5, |body| {
            body.text(1, &format!("{} {}", told.subject, told.kind.as_str()));
        });
        revocation_attributes(told, &mut Attributes::new(event, 6));
        event.fixed64(11, at);
        event.text(12, names::REVOCATION_EVENT);
    });
}

fn revocation_attributes(told: &RevocationEvent, attributes: &mut Attributes<'_>) {
    attributes.put(names::REVOCATION_CHANGE, told.kind.as_str());
    attributes.put(names::REVOCATION_ID, &*told.id);
    attributes.put(names::REVOCATION_SUBJECT, told.subject);
    attributes.put(names::REVOCATION_NAME, &*told.name);
    attributes.put(names::REVOCATION_BY, &*told.by);
    attributes.put(names::REVOCATION_REASON, &*told.reason);
    attributes.put(names::REVOCATION_BLOCK, told.block);
    attributes.text(names::REVOCATION_UNTIL, told.until.as_deref());
    if told.kind == RevocationEventKind::Lifted {
        return;
    }
    attributes.number(names::REVOCATION_TASKS_ENDED, told.tasks);
    attributes.number(names::REVOCATION_CALLS_CUT, told.calls_cut);
    attributes.number(names::REVOCATION_CALLS_LEFT, told.calls_left);
    for (name, is_revoked) in [
        (names::REVOCATION_LEASES_REVOKED, true),
        (names::REVOCATION_LEASES_NOT_REVOKED, false),
    ] {
        let mut ids = told.lease_ids(is_revoked).peekable();
        if ids.peek().is_some() {
            attributes.texts(name, ids);
        }
    }
}

fn attributes(record: &CallRecord, attributes: &mut Attributes<'_>) {
    spans::ruling(record, attributes);
    spans::who(record, attributes);
    spans::tool(record, attributes);
    spans::lease(record, attributes);
    attributes.text(names::DECISION_CAUSE, record.cause.as_deref());
    attributes.maybe(
        names::HTTP_RESPONSE_STATUS_CODE,
        record.status.map(i64::from),
    );
    attributes.put(names::CALL_ENDING, record.ending.as_str());
    if record.scrubbed > 0 {
        attributes.number(names::SECRETS_SCRUBBED, record.scrubbed);
    }
    if !record.keys.is_empty() {
        spans::keys(record, attributes);
    }
}
