//! Spans, as records become them.
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, SpanFlags};
use prost::Message as _;

use super::write;
use crate::protobuf::Message;
use crate::{CallRecord, Ending, LeaseNote, Mcp, Trace, Verdict, names};

fn http() -> CallRecord {
    let trace =
        Trace::continue_text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let mut record = CallRecord::open(trace, Some("192.0.2.7:4711".parse().unwrap()));
    record.method = "POST".into();
    record.host = "gateway.example:4180".into();
    record.path = "/repos/acme/x/issues".into();
    record.agent = Some("triage".into());
    record.owner = Some("alice".into());
    record.task = Some("t1".into());
    record.tool = Some("github".into());
    record.protocol = Some("http");
    record.operation = Some("POST /repos/*/*/issues".into());
    record.access = Some("write");
    record.verdict = Verdict::Allow;
    record.policy_time = Duration::from_micros(20);
    record.lease_time = Duration::from_micros(5);
    record.total_time = Duration::from_millis(10);
    record.forwarded = record.started.checked_add(Duration::from_millis(1)).ok();
    record.upstream = Some(("api.github.com".into(), 443));
    record.upstream_url = Some("https://api.github.com/repos/acme/x/issues".into());
    record.leases = vec![LeaseNote {
        id: "l1".into(),
        provider: "static",
        expires_at: None,
        bridge: true,
    }];
    record.status = Some(201);
    record
}

fn mcp(method: &str, name: Option<&str>) -> CallRecord {
    let mut record = http();
    record.protocol = Some("mcp");
    record.operation = Some("create_issue".into());
    record.mcp = Some(Mcp {
        method: method.into(),
        name: name.map(str::to_owned),
        request_id: Some("7".into()),
        session: Some("s".into()),
        version: Some("2025-11-25".into()),
    });
    record
}

fn refused(record: &mut CallRecord) {
    (record.verdict, record.code, record.status) =
        (Verdict::Deny, Some("policy_denied"), Some(403));
    (
        record.forwarded,
        record.upstream,
        record.upstream_url,
        record.leases,
    ) = (None, None, None, Vec::new());
}

/// The spans of a record, as a collector decodes them.
fn of(record: &CallRecord) -> impl Iterator<Item = Span> {
    let mut message = Message::default();
    write(record, &mut message);
    ScopeSpans::decode(message.as_bytes())
        .unwrap()
        .spans
        .into_iter()
}

/// What a record looks like in a collector: `kind name [status]` of each span.
#[track_caller]
fn check(record: &CallRecord, expect: &[&str]) {
    let found = of(record).map(|span| {
        let failed = match span.status.as_ref().unwrap().code() {
            StatusCode::Error => " failed",
            StatusCode::Unset => "",
            StatusCode::Ok => " well",
        };
        format!("{:?} {}{failed}", span.kind(), span.name)
    });
    assert_eq!(found.collect::<Vec<_>>(), expect);
}

/// The attribute of the span of one kind, as text.
#[track_caller]
fn check_attribute(record: &CallRecord, kind: SpanKind, name: &str, expect: Option<&str>) {
    let span = of(record).find(|span| span.kind() == kind).unwrap();
    assert_eq!(attribute(&span, name).as_deref(), expect, "{name}");
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let mut pairs = span.attributes.iter().filter(|pair| pair.key == name);
    let pair = pairs.next()?;
    assert!(pairs.next().is_none(), "{name} is there twice");
    match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => Some(text.clone()),
        Value::BoolValue(bool) => Some(bool.to_string()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(double) => Some(double.to_string()),
        other => panic!("{other:?}"),
    }
}

fn with(mut record: CallRecord, change: impl FnOnce(&mut CallRecord)) -> CallRecord {
    change(&mut record);
    record
}

#[test]
fn a_forwarded_call_is_three_spans() {
    check(
        &http(),
        &[
            "Server POST /repos/*/*/issues",
            "Internal remit.decision",
            "Client POST /repos/*/*/issues",
        ],
    );
}
#[test]
fn a_refused_call_has_no_client_span_and_is_no_failure() {
    check(
        &with(http(), refused),
        &["Server POST /repos/*/*/issues", "Internal remit.decision"],
    );
}
#[test]
fn a_call_by_nobody_is_one_span() {
    let record = with(CallRecord::open(Trace::begin(), None), |record| {
        record.method = "GET".into();
    });
    check(&record, &["Server GET"]);
}
#[test]
fn an_agent_cannot_make_up_names() {
    let record = with(CallRecord::open(Trace::begin(), None), |record| {
        record.method = "X-1234".into();
    });
    check(&record, &["Server HTTP"]);
}
#[test]
fn an_mcp_call_is_named_by_method_and_tool() {
    let expect = [
        "Server tools/call create_issue",
        "Internal remit.decision",
        "Client tools/call create_issue",
    ];
    check(&mcp("tools/call", Some("create_issue")), &expect);
}
#[test]
fn an_mcp_list_is_named_by_method() {
    check(
        &mcp("tools/list", None),
        &[
            "Server tools/list",
            "Internal remit.decision",
            "Client tools/list",
        ],
    );
}
#[test]
fn a_resource_is_not_in_the_name() {
    let record = mcp("resources/read", Some("file:///a"));
    check(
        &record,
        &[
            "Server resources/read",
            "Internal remit.decision",
            "Client resources/read",
        ],
    );
}
#[test]
fn a_grpc_call_is_named_by_its_method() {
    let record = with(http(), |record| {
        (record.protocol, record.operation) = (Some("grpc"), Some("notes.Notes/List".into()));
    });
    check(
        &record,
        &[
            "Server notes.Notes/List",
            "Internal remit.decision",
            "Client notes.Notes/List",
        ],
    );
}
#[test]
fn an_upstream_that_fails_fails_both_sides() {
    let record = with(http(), |record| {
        (record.code, record.status, record.ending) =
            (Some("bad_gateway"), Some(502), Ending::UpstreamFailed);
    });
    let expect = [
        "Server POST /repos/*/*/issues failed",
        "Internal remit.decision",
        "Client POST /repos/*/*/issues failed",
    ];
    check(&record, &expect);
    check_attribute(
        &record,
        SpanKind::Client,
        names::HTTP_RESPONSE_STATUS_CODE,
        None,
    );
    check_attribute(
        &record,
        SpanKind::Client,
        names::ERROR_TYPE,
        Some("bad_gateway"),
    );
}
#[test]
fn an_upstreams_404_fails_its_side_alone() {
    let record = with(http(), |record| record.status = Some(404));
    let expect = [
        "Server POST /repos/*/*/issues",
        "Internal remit.decision",
        "Client POST /repos/*/*/issues failed",
    ];
    check(&record, &expect);
}

#[test]
fn the_spans_are_one_tree_under_the_agents() {
    let record = http();
    let spans: Vec<_> = of(&record).collect();
    let server = &spans[0].span_id;
    assert_eq!(hex::encode(&spans[0].parent_span_id), "b7ad6b7169203331");
    assert_ne!(spans[0].flags & SpanFlags::ContextIsRemoteMask as u32, 0);
    assert!(spans[1..].iter().all(|span| span.parent_span_id == *server));
    let upstream = record.trace.traceparent();
    assert!(
        upstream
            .to_str()
            .unwrap()
            .contains(&hex::encode(&spans[2].span_id))
    );
}

#[test]
fn no_span_leaves_the_call() {
    for record in [http(), with(http(), refused)] {
        let spans: Vec<_> = of(&record).collect();
        for span in &spans {
            assert!(
                span.start_time_unix_nano <= span.end_time_unix_nano,
                "{}",
                span.name
            );
            assert!(
                span.start_time_unix_nano >= spans[0].start_time_unix_nano,
                "{}",
                span.name
            );
            assert!(
                span.end_time_unix_nano <= spans[0].end_time_unix_nano,
                "{}",
                span.name
            );
        }
    }
}

#[test]
fn the_call_says_who_what_and_how_it_was_ruled() {
    let record = with(http(), |record| record.reason = Some("bad_label".into()));
    for (name, expect) in [
        (names::HTTP_REQUEST_METHOD, "POST"),
        (names::HTTP_ROUTE, "/repos/*/*/issues"),
        (names::HTTP_RESPONSE_STATUS_CODE, "201"),
        (names::URL_PATH, "/repos/acme/x/issues"),
        (names::SERVER_ADDRESS, "gateway.example"),
        (names::SERVER_PORT, "4180"),
        (names::CLIENT_ADDRESS, "192.0.2.7"),
        (names::GEN_AI_AGENT_ID, "triage"),
        (names::GEN_AI_OPERATION_NAME, "execute_tool"),
        (names::GEN_AI_TOOL_NAME, "github"),
        (names::ENDUSER_ID, "alice"),
        (names::TASK_ID, "t1"),
        (names::TOOL_NAME, "github"),
        (names::TOOL_ACCESS, "write"),
        (names::DECISION_ID, record.decision.as_str()),
        (names::DECISION_OUTCOME, "allow"),
        (names::DECISION_REASON, "bad_label"),
        (names::KEYS_FOUND, "0"),
    ] {
        check_attribute(&record, SpanKind::Server, name, Some(expect));
    }
    check_attribute(&record, SpanKind::Server, names::ERROR_TYPE, None);
}

#[test]
fn an_mcp_call_says_what_mcp_says() {
    let record = mcp("tools/call", Some("create_issue"));
    for (name, expect) in [
        (names::MCP_METHOD_NAME, "tools/call"),
        (names::MCP_SESSION_ID, "s"),
        (names::MCP_PROTOCOL_VERSION, "2025-11-25"),
        (names::JSONRPC_REQUEST_ID, "7"),
        (names::GEN_AI_TOOL_NAME, "create_issue"),
        (names::TOOL_NAME, "github"),
    ] {
        check_attribute(&record, SpanKind::Server, name, Some(expect));
    }
}

#[test]
fn the_upstreams_side_says_where_and_with_which_lease() {
    for (name, expect) in [
        (names::SERVER_ADDRESS, "api.github.com"),
        (names::SERVER_PORT, "443"),
        (
            names::URL_FULL,
            "https://api.github.com/repos/acme/x/issues",
        ),
        (names::LEASE_ID, "l1"),
        (names::LEASE_BRIDGE, "true"),
    ] {
        check_attribute(&http(), SpanKind::Client, name, Some(expect));
    }
}

#[test]
fn a_refusal_says_its_code() {
    let record = with(http(), refused);
    check_attribute(
        &record,
        SpanKind::Server,
        names::REFUSAL_CODE,
        Some("policy_denied"),
    );
    check_attribute(
        &record,
        SpanKind::Server,
        names::ERROR_TYPE,
        Some("policy_denied"),
    );
    check_attribute(
        &record,
        SpanKind::Internal,
        names::DECISION_OUTCOME,
        Some("deny"),
    );
}

#[test]
fn a_long_text_is_cut_between_letters() {
    let record = with(http(), |record| {
        record.path = format!("/{}", "ü".repeat(4000));
    });
    let expect = format!("/{}", "ü".repeat(511));
    check_attribute(&record, SpanKind::Server, names::URL_PATH, Some(&expect));
}
