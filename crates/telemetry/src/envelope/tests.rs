//! Whole requests, as a collector decodes them: every field of spans and events of several records.
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use prost::Message as _;

use super::Envelope;
use crate::protobuf::Message;
use crate::{CallRecord, Ending, KeyNote, LeaseNote, Mcp, Trace, Verdict, logs, spans};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// 2026-08-01T12:00:00.000000001Z, in nanoseconds.
const STARTED: u64 = 1_785_585_600_000_000_001;
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;

fn resource() -> Resource {
    Resource::builder().with_service_name("remit-test").build()
}

/// What arrives of these records, after it was checked that the bytes are those that `prost` writes of it.
fn sent(records: &[CallRecord]) -> (ExportTraceServiceRequest, ExportLogsServiceRequest) {
    let (mut spans, mut events) = (Message::default(), Message::default());
    for record in records {
        spans::write(record, &mut spans);
        logs::write(record, &mut events);
    }
    let envelope = Envelope::new(&resource());
    let (traces, logs) = (envelope.seal(&mut spans), envelope.seal(&mut events));
    assert!(spans.as_bytes().is_empty() && events.as_bytes().is_empty());
    let spans = ExportTraceServiceRequest::decode(&*traces).unwrap();
    assert_eq!(spans.encode_to_vec(), traces);
    let events = ExportLogsServiceRequest::decode(&*logs).unwrap();
    assert_eq!(events.encode_to_vec(), logs);
    (spans, events)
}

/// The spans and the event of one record.
fn of(record: &CallRecord) -> (Vec<Span>, LogRecord) {
    let (mut traces, mut logs) = sent(std::slice::from_ref(record));
    let spans = traces.resource_spans.remove(0).scope_spans.remove(0).spans;
    let mut scope = logs.resource_logs.remove(0).scope_logs.remove(0);
    assert_eq!(scope.log_records.len(), 1);
    (spans, scope.log_records.remove(0))
}

fn id(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn number(number: i64) -> Value {
    Value::IntValue(number)
}

fn texts(values: &[&str]) -> Value {
    let values = values.iter().map(|value| any(text(value)));
    Value::ArrayValue(ArrayValue {
        values: values.collect(),
    })
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attributes(pairs: Vec<(&str, Value)>) -> Vec<KeyValue> {
    let pairs = pairs.into_iter().map(|(key, value)| KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    });
    pairs.collect()
}

/// A call that is forwarded, with everything that a record may have.
fn full() -> CallRecord {
    let trace = Trace::continue_text(&format!("00-{TRACE}-{PARENT}-03")).unwrap();
    let mut record = CallRecord::open(trace, Some("[2001:db8::7]:4711".parse().unwrap()));
    record.started = Timestamp::from_nanosecond(STARTED.into()).unwrap();
    record.method = "POST".into();
    record.scheme = "https";
    record.http_version = "2";
    record.host = "gateway.example:4180".into();
    record.path = "/repos/acme/x/issues".into();
    record.agent = Some("triage".into());
    record.agent_method = Some("task_token");
    record.owner = Some("alice".into());
    record.task = Some("t1".into());
    record.tool = Some("github".into());
    record.protocol = Some("http");
    record.operation = Some("POST /repos/*/*/issues".into());
    record.access = Some("write");
    record.environment = Some("prod".into());
    record.keys = vec![KeyNote {
        place: "cookie".into(),
        kind: "github",
        fingerprint: "0123456789abcdef".into(),
        action: "stripped",
    }];
    record.verdict = Verdict::Allow;
    record.reason = Some("labelled".into());
    record.cause = Some("rule 3".into());
    record.policy_revision = Some("r7".into());
    record.policy_time = Duration::from_micros(20);
    record.lease_time = Duration::from_micros(5);
    record.upstream_time = Some(Duration::from_millis(2));
    record.total_time = Duration::from_millis(10);
    record.forwarded = record.started.checked_add(Duration::from_millis(1)).ok();
    record.upstream = Some(("api.github.com".into(), 443));
    record.upstream_url = Some("https://api.github.com/repos/acme/x/issues".into());
    record.leases = ["l1", "l2", "l3"]
        .map(|id| LeaseNote {
            id: id.into(),
            provider: "cmd",
            expires_at: Some("2026-08-01T13:00:00Z".into()),
            bridge: false,
        })
        .to_vec();
    (record.status, record.bytes_in, record.bytes_out) = (Some(201), 12, u64::MAX);
    record
}

/// `who`, `tool`, `ruling` and `lease` of [`full`], each as both signals tell it.
fn who() -> Vec<(&'static str, Value)> {
    vec![
        ("gen_ai.agent.id", text("triage")),
        ("remit.agent.method", text("task_token")),
        ("enduser.id", text("alice")),
        ("remit.task.id", text("t1")),
    ]
}

fn tool() -> Vec<(&'static str, Value)> {
    vec![
        ("remit.tool.name", text("github")),
        ("remit.tool.operation", text("POST /repos/*/*/issues")),
        ("remit.tool.access", text("write")),
        ("remit.tool.environment", text("prod")),
        ("gen_ai.operation.name", text("execute_tool")),
        ("gen_ai.tool.name", text("github")),
    ]
}

fn ruling(record: &CallRecord) -> Vec<(&'static str, Value)> {
    vec![
        ("remit.decision.id", text(record.decision.as_str())),
        ("remit.decision.outcome", text("allow")),
        ("remit.decision.reason", text("labelled")),
        ("remit.policy.revision", text("r7")),
    ]
}

fn lease() -> Vec<(&'static str, Value)> {
    vec![
        ("remit.lease.id", text("l1")),
        ("remit.lease.others", texts(&["l2", "l3"])),
        ("remit.lease.provider", text("cmd")),
        ("remit.lease.bridge", Value::BoolValue(false)),
        ("remit.lease.expires_at", text("2026-08-01T13:00:00Z")),
        ("remit.lease.time", Value::DoubleValue(0.000_005)),
    ]
}

fn keys() -> Vec<(&'static str, Value)> {
    vec![
        ("remit.keys.found", number(1)),
        ("remit.keys.places", texts(&["cookie"])),
        ("remit.keys.kinds", texts(&["github"])),
        ("remit.keys.actions", texts(&["stripped"])),
        ("remit.keys.fingerprints", texts(&["0123456789abcdef"])),
    ]
}

/// A span of [`full`], without its id, name, times and attributes. `sampled` and `random` are the agent's
/// flags; 0x100 says that it is known whether the parent is remote.
fn span(parent: Vec<u8>) -> Span {
    Span {
        trace_id: id(TRACE),
        parent_span_id: parent,
        status: Some(Status::default()),
        flags: 0x103,
        ..Span::default()
    }
}

#[test]
fn the_call_is_a_server_span() {
    let record = full();
    let (spans, _) = of(&record);
    let mut pairs = vec![
        ("http.request.method", text("POST")),
        ("url.path", text("/repos/acme/x/issues")),
        ("url.scheme", text("https")),
        ("http.route", text("/repos/*/*/issues")),
        ("http.response.status_code", number(201)),
        ("http.request.body.size", number(12)),
        ("http.response.body.size", number(i64::MAX)),
        ("network.protocol.name", text("http")),
        ("network.protocol.version", text("2")),
        ("server.address", text("gateway.example")),
        ("server.port", number(4180)),
        ("client.address", text("2001:db8::7")),
        ("client.port", number(4711)),
    ];
    pairs.extend([who(), tool(), ruling(&record)].into_iter().flatten());
    pairs.extend(keys());
    pairs.push(("remit.call.ending", text("complete")));
    let expect = Span {
        span_id: record.trace.server().to_bytes().to_vec(),
        name: "POST /repos/*/*/issues".into(),
        kind: 2,
        start_time_unix_nano: STARTED,
        end_time_unix_nano: STARTED + 10 * MILLISECOND,
        attributes: attributes(pairs),
        // The parent is the agent's: remote.
        flags: 0x303,
        ..span(id(PARENT))
    };
    assert_eq!(spans[0], expect);
}

#[test]
fn the_decision_is_an_internal_span() {
    let record = full();
    let (spans, _) = of(&record);
    let mut pairs = ruling(&record);
    pairs.push(("remit.policy.time", Value::DoubleValue(0.000_02)));
    let start = STARTED + MILLISECOND - 25 * MICROSECOND;
    let expect = Span {
        span_id: spans[1].span_id.clone(),
        name: "remit.decision".into(),
        kind: 1,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 20 * MICROSECOND,
        attributes: attributes(pairs),
        ..span(record.trace.server().to_bytes().to_vec())
    };
    assert_eq!(spans[1], expect);
    assert_eq!(spans[1].span_id.len(), 8);
    assert_ne!(spans[1].span_id, [0; 8]);
    assert_ne!(spans[1].span_id, spans[0].span_id);
}

#[test]
fn the_upstreams_side_is_a_client_span() {
    let record = full();
    let (spans, _) = of(&record);
    let mut pairs = vec![
        ("http.request.method", text("POST")),
        ("server.address", text("api.github.com")),
        ("server.port", number(443)),
        (
            "url.full",
            text("https://api.github.com/repos/acme/x/issues"),
        ),
        ("remit.decision.id", text(record.decision.as_str())),
        ("remit.tool.name", text("github")),
        ("gen_ai.operation.name", text("execute_tool")),
        ("gen_ai.tool.name", text("github")),
    ];
    pairs.extend(lease());
    pairs.push(("remit.upstream.time", Value::DoubleValue(0.002)));
    pairs.push(("http.response.status_code", number(201)));
    let expect = Span {
        span_id: record.trace.client().to_bytes().to_vec(),
        name: "POST /repos/*/*/issues".into(),
        kind: 3,
        start_time_unix_nano: STARTED + MILLISECOND,
        end_time_unix_nano: STARTED + 10 * MILLISECOND,
        attributes: attributes(pairs),
        ..span(record.trace.server().to_bytes().to_vec())
    };
    assert_eq!(spans[2], expect);
    assert_eq!(spans.len(), 3);
}

#[test]
fn the_event_says_all_that_was_decided() {
    let record = full();
    let (_, event) = of(&record);
    let mut pairs = [ruling(&record), who(), tool(), lease()].concat();
    pairs.push(("remit.decision.cause", text("rule 3")));
    pairs.push(("http.response.status_code", number(201)));
    pairs.push(("remit.call.ending", text("complete")));
    pairs.extend(keys());
    let expect = LogRecord {
        time_unix_nano: STARTED + 10 * MILLISECOND,
        observed_time_unix_nano: STARTED + 10 * MILLISECOND,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: Some(any(text("call decided"))),
        attributes: attributes(pairs),
        dropped_attributes_count: 0,
        flags: 3,
        trace_id: id(TRACE),
        span_id: record.trace.server().to_bytes().to_vec(),
        event_name: "remit.decision".into(),
    };
    assert_eq!(event, expect);
}

/// Everything that a span or an event tells beside ids and times.
fn told(attributes: &[KeyValue]) -> Vec<(&str, &Value)> {
    let told = attributes.iter().map(|pair| {
        let value = pair.value.as_ref().unwrap().value.as_ref();
        (pair.key.as_str(), value.unwrap())
    });
    told.collect()
}

#[track_caller]
fn check(attributes: &[KeyValue], expect: &[(&str, Value)]) {
    let expect: Vec<_> = expect.iter().map(|(key, value)| (*key, value)).collect();
    assert_eq!(told(attributes), expect);
}

#[test]
fn an_mcp_call_tells_what_mcp_says_and_no_route() {
    let mut record = CallRecord::open(Trace::begin(), None);
    record.method = "POST".into();
    record.host = "gateway.example".into();
    record.path = "/mcp".into();
    record.tool = Some("notes".into());
    record.protocol = Some("mcp");
    record.operation = Some("add".into());
    record.mcp = Some(Mcp {
        method: "tools/call".into(),
        name: Some("add".into()),
        request_id: Some("\"a\"".into()),
        session: Some("s".into()),
        version: Some("2025-11-25".into()),
    });
    record.ending = Ending::Cut;
    let (spans, event) = of(&record);
    let decision = record.decision.as_str();
    let mcp = [
        ("mcp.method.name", text("tools/call")),
        ("jsonrpc.request.id", text("\"a\"")),
        ("mcp.session.id", text("s")),
        ("mcp.protocol.version", text("2025-11-25")),
        ("gen_ai.operation.name", text("execute_tool")),
        ("gen_ai.tool.name", text("add")),
    ];
    let mut pairs = vec![
        ("http.request.method", text("POST")),
        ("url.path", text("/mcp")),
        ("url.scheme", text("http")),
        ("http.request.body.size", number(0)),
        ("http.response.body.size", number(0)),
        ("network.protocol.name", text("http")),
        ("network.protocol.version", text("1.1")),
        ("server.address", text("gateway.example")),
        ("remit.tool.name", text("notes")),
        ("remit.tool.operation", text("add")),
    ];
    pairs.extend(mcp.clone());
    pairs.extend([
        ("remit.decision.id", text(decision)),
        ("remit.decision.outcome", text("error")),
        ("remit.keys.found", number(0)),
        ("remit.call.ending", text("cut")),
        ("error.type", text("cut")),
    ]);
    check(&spans[0].attributes, &pairs);
    assert_eq!(spans[0].name, "tools/call add");
    // A trace of its own: no parent, so none that is remote.
    assert!(spans[0].parent_span_id.is_empty());
    assert_eq!((spans[0].flags, event.flags), (0x101, 1));
    assert_eq!(spans.len(), 1);
    let mut pairs = vec![
        ("remit.decision.id", text(decision)),
        ("remit.decision.outcome", text("error")),
        ("remit.tool.name", text("notes")),
        ("remit.tool.operation", text("add")),
    ];
    pairs.extend(mcp);
    pairs.push(("remit.call.ending", text("cut")));
    check(&event.attributes, &pairs);
}

#[test]
fn a_refused_call_tells_why() {
    let mut record = full();
    (record.verdict, record.code, record.status) =
        (Verdict::Deny, Some("policy_denied"), Some(403));
    (record.forwarded, record.upstream, record.leases) = (None, None, Vec::new());
    let (spans, event) = of(&record);
    assert_eq!(spans.len(), 2);
    let refused = [
        ("remit.decision.id", text(record.decision.as_str())),
        ("remit.decision.outcome", text("deny")),
        ("remit.decision.reason", text("labelled")),
        ("remit.refusal.code", text("policy_denied")),
        ("remit.policy.revision", text("r7")),
    ];
    let mut decision = refused.to_vec();
    decision.push(("remit.policy.time", Value::DoubleValue(0.000_02)));
    check(&spans[1].attributes, &decision);
    let server = told(&spans[0].attributes);
    assert!(server.contains(&("error.type", &text("policy_denied"))));
    assert_eq!(spans[0].status, Some(Status::default()));
    // It begins before it ends with the call.
    let end = spans[0].end_time_unix_nano - 5 * MICROSECOND;
    assert_eq!(spans[1].end_time_unix_nano, end);
    check(&event.attributes[..5], &refused);
}

#[test]
fn a_failure_is_an_error_on_both_sides() {
    let mut record = full();
    (record.code, record.status, record.ending) =
        (Some("bad_gateway"), Some(502), Ending::UpstreamFailed);
    let (spans, _) = of(&record);
    let status = |message: &str| {
        Some(Status {
            message: message.to_owned(),
            code: 2,
        })
    };
    assert_eq!(spans[0].status, status("bad_gateway"));
    assert_eq!(spans[1].status, Some(Status::default()));
    assert_eq!(spans[2].status, status(""));
}

#[test]
fn an_unsampled_trace_has_no_flags_in_the_event() {
    let trace = Trace::continue_text(&format!("00-{TRACE}-{PARENT}-00")).unwrap();
    let (spans, event) = of(&CallRecord::open(trace, None));
    assert_eq!((spans[0].flags, event.flags), (0x300, 0));
}

#[test]
fn long_texts_are_cut_and_stay_texts() {
    let long = "ü".repeat(8_000);
    let mut record = full();
    record.path = format!("/{long}");
    (record.cause, record.method) = (Some(long.clone()), long.clone());
    record.mcp = Some(Mcp {
        method: "tools/call".into(),
        name: Some(long.clone()),
        request_id: Some(long.clone()),
        session: Some(long.clone()),
        version: Some(long),
    });
    // Such a span's length takes three bytes.
    record.keys = vec![record.keys[0].clone(); 2_000];
    let (spans, event) = of(&record);
    let short = "ü".repeat(512);
    let server = told(&spans[0].attributes);
    let path = format!("/{}", "ü".repeat(511));
    for (name, expect) in [
        ("url.path", text(&path)),
        ("http.request.method", text("_OTHER")),
        ("http.request.method_original", text(&short)),
        ("mcp.session.id", text(&short)),
        ("gen_ai.tool.name", text(&short)),
    ] {
        assert!(server.contains(&(name, &expect)), "{name}");
    }
    assert_eq!(spans[0].name, format!("tools/call {short}"));
    let event = told(&event.attributes);
    assert!(event.contains(&("remit.decision.cause", &text(&short))));
    let prints = texts(&["0123456789abcdef"; 2_000]);
    assert!(event.contains(&("remit.keys.fingerprints", &prints)));
}

#[test]
fn every_batch_has_the_resource_and_the_scope() {
    let records = vec![full(); 40];
    let (mut traces, mut logs) = sent(&records);
    assert_eq!(
        (traces.resource_spans.len(), logs.resource_logs.len()),
        (1, 1)
    );
    let (traces, logs) = (
        traces.resource_spans.remove(0),
        logs.resource_logs.remove(0),
    );
    let expect = ResourceAttributesWithSchema::from(&resource());
    let expect = {
        let mut attributes = expect.attributes.0;
        attributes.sort_by(|a, b| a.key.cmp(&b.key));
        attributes
    };
    for found in [traces.resource, logs.resource] {
        let mut found = found.unwrap();
        found.attributes.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found.attributes, expect);
        assert_eq!(found.dropped_attributes_count, 0);
    }
    assert_eq!((traces.schema_url, logs.schema_url), Default::default());
    let scope = Some(InstrumentationScope {
        name: "remit".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    });
    let ([traces], [logs]) = (&traces.scope_spans[..], &logs.scope_logs[..]) else {
        panic!("several scopes")
    };
    assert_eq!((&traces.scope, &logs.scope), (&scope, &scope));
    assert_eq!(
        (traces.schema_url.as_str(), logs.schema_url.as_str()),
        ("", "")
    );
    assert_eq!((traces.spans.len(), logs.log_records.len()), (120, 40));
}
