//! A record as one event of the OTLP logs.

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::{Array, Value};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};

use crate::spans::{self, Attributes};
use crate::{CallRecord, names};

/// Makes the events; its provider has no processor, since the exporter is fed directly.
#[derive(Debug)]
pub(crate) struct Events(SdkLogger);

impl Events {
    pub(crate) fn new() -> Self {
        Self(
            SdkLoggerProvider::builder()
                .build()
                .logger_with_scope(spans::scope()),
        )
    }

    /// The event of one decision.
    pub(crate) fn of(&self, record: &CallRecord) -> SdkLogRecord {
        let mut event = self.0.create_log_record();
        event.set_event_name(names::EVENT);
        event.set_timestamp(spans::clock(record.ended()));
        event.set_observed_timestamp(spans::clock(record.ended()));
        event.set_severity_number(Severity::Info);
        event.set_severity_text("INFO");
        event.set_body(AnyValue::from("call decided"));
        let trace = record.trace;
        event.set_trace_context(trace.id(), trace.server(), Some(trace.flags()));
        event.add_attributes(
            attributes(record)
                .0
                .into_iter()
                .map(|pair| (pair.key, any(pair.value))),
        );
        event
    }
}

fn attributes(record: &CallRecord) -> Attributes {
    let mut attributes = Attributes::default();
    spans::ruling(record, &mut attributes);
    spans::who(record, &mut attributes);
    spans::tool(record, &mut attributes);
    spans::lease(record, &mut attributes);
    attributes.text(names::DECISION_CAUSE, record.cause.as_deref());
    attributes.maybe(
        names::HTTP_RESPONSE_STATUS_CODE,
        record.status.map(i64::from),
    );
    attributes.put(names::CALL_ENDING, record.ending.as_str());
    if !record.stripped.is_empty() {
        let prints = record
            .stripped
            .iter()
            .map(|key| key.fingerprint.clone().into())
            .collect();
        attributes.put(
            names::KEYS_FINGERPRINTS,
            Value::Array(Array::String(prints)),
        );
    }
    attributes
}

fn any(value: Value) -> AnyValue {
    match value {
        Value::Bool(value) => value.into(),
        Value::I64(value) => value.into(),
        Value::F64(value) => value.into(),
        Value::String(value) => value.into(),
        Value::Array(Array::String(values)) => values.into_iter().collect(),
        // No attribute of ours is another list.
        other => other.to_string().into(),
    }
}
