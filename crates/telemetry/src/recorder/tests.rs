//! The recorder, with real collectors behind it.
use std::time::Duration;

use super::{Recorder, Telemetry};
use crate::{CallRecord, Config, Otlp, OtlpProtocol, Trace, Verdict, names};

mod collector;

use collector::{Collector, Mood};

/// Long enough for any machine; no test waits for all of it.
const LONG: Duration = Duration::from_secs(60);

fn start(collector: &Collector, protocol: OtlpProtocol, queue: usize) -> (Recorder, Telemetry) {
    let endpoint = collector.address().parse().unwrap();
    let otlp = Some(Otlp { endpoint, protocol });
    Recorder::start(Config {
        otlp,
        audit: None,
        queue,
        service_name: "remit-test".into(),
    })
    .unwrap()
}

fn record() -> CallRecord {
    let mut record = CallRecord::open(Trace::begin(), None);
    record.method = "GET".into();
    record.tool = Some("notes".into());
    record.operation = Some("GET /notes".into());
    record.verdict = Verdict::Allow;
    record.status = Some(200);
    record.total_time = Duration::from_millis(3);
    record.forwarded = Some(record.started);
    record
}

#[track_caller]
fn check_metric(recorder: &Recorder, expect: &str) {
    let text = recorder.metrics_text();
    assert!(
        text.lines().any(|line| line == expect),
        "`{expect}` isn't in\n{text}"
    );
}

/// What one call becomes at a collector of each wire.
#[track_caller]
fn check_arrives(protocol: OtlpProtocol) {
    let collector = Collector::start(protocol, Mood::Well);
    let (recorder, telemetry) = start(&collector, protocol, 64);
    let record = record();
    let (decision, trace) = (record.decision.clone(), record.trace);
    recorder.close(record);
    telemetry.shutdown(LONG);

    let seen = collector.seen();
    let names: Vec<_> = seen.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["GET /notes", names::DECISION_SPAN, "GET /notes"]);
    assert!(
        seen.spans
            .iter()
            .all(|span| span.trace_id == trace.id().to_bytes())
    );
    let [event] = &seen.events[..] else {
        panic!("{} events", seen.events.len())
    };
    assert_eq!(event.event_name, names::EVENT);
    assert_eq!(event.span_id, trace.server().to_bytes());
    let id = event
        .attributes
        .iter()
        .find(|pair| pair.key == names::DECISION_ID)
        .unwrap();
    assert!(format!("{id:?}").contains(decision.as_str()));
    assert_eq!(seen.services, ["remit-test"]);
    for metric in [
        names::METRIC_CALLS,
        names::METRIC_SERVER_DURATION,
        names::METRIC_GATEWAY_DURATION,
    ] {
        assert!(
            seen.metrics.iter().any(|seen| seen == metric),
            "{metric} isn't in {:?}",
            seen.metrics
        );
    }
    check_metric(
        &recorder,
        r#"remit_telemetry_dropped_total{signal="traces"} 0"#,
    );
}

#[test]
fn a_call_arrives_over_http() {
    check_arrives(OtlpProtocol::HttpProtobuf);
}
#[test]
fn a_call_arrives_over_grpc() {
    check_arrives(OtlpProtocol::Grpc);
}

#[test]
fn many_calls_all_arrive() {
    let collector = Collector::start(OtlpProtocol::HttpProtobuf, Mood::Well);
    let (recorder, telemetry) = start(&collector, OtlpProtocol::HttpProtobuf, 8192);
    for _ in 0..3000 {
        recorder.close(record());
    }
    telemetry.shutdown(LONG);
    assert_eq!(
        (collector.seen().spans.len(), collector.seen().events.len()),
        (9000, 3000)
    );
}

#[test]
fn a_refusing_collector_costs_counted_records() {
    let collector = Collector::start(OtlpProtocol::HttpProtobuf, Mood::Refusing);
    let (recorder, telemetry) = start(&collector, OtlpProtocol::HttpProtobuf, 64);
    for _ in 0..7 {
        recorder.close(record());
    }
    telemetry.shutdown(LONG);
    check_metric(
        &recorder,
        r#"remit_telemetry_dropped_total{signal="traces"} 7"#,
    );
    check_metric(
        &recorder,
        r#"remit_telemetry_dropped_total{signal="logs"} 7"#,
    );
    check_metric(
        &recorder,
        r#"remit_calls_total{tool="notes",access="",verdict="allow",code=""} 7"#,
    );
}

#[test]
fn an_absent_collector_costs_counted_records() {
    let collector = Collector::absent();
    let (recorder, telemetry) = start(&collector, OtlpProtocol::HttpProtobuf, 64);
    for _ in 0..7 {
        recorder.close(record());
    }
    telemetry.shutdown(LONG);
    check_metric(
        &recorder,
        r#"remit_telemetry_dropped_total{signal="traces"} 7"#,
    );
}

#[test]
fn a_silent_collector_fills_the_queue_and_every_loss_is_counted() {
    let collector = Collector::start(OtlpProtocol::HttpProtobuf, Mood::Silent);
    let (recorder, telemetry) = start(&collector, OtlpProtocol::HttpProtobuf, 16);
    for _ in 0..500 {
        recorder.close(record());
    }
    // Nothing arrived, so all of it is lost, wherever it was: refused by the queue, left in it, or in a request.
    telemetry.shutdown(LONG);
    check_metric(
        &recorder,
        r#"remit_telemetry_dropped_total{signal="traces"} 500"#,
    );
    check_metric(
        &recorder,
        r#"remit_telemetry_dropped_total{signal="logs"} 500"#,
    );
    check_metric(
        &recorder,
        r#"remit_calls_total{tool="notes",access="",verdict="allow",code=""} 500"#,
    );
}

#[test]
fn a_shutdown_without_patience_counts_what_waits() {
    let collector = Collector::start(OtlpProtocol::HttpProtobuf, Mood::Silent);
    let (recorder, telemetry) = start(&collector, OtlpProtocol::HttpProtobuf, 2048);
    for _ in 0..1500 {
        recorder.close(record());
    }
    telemetry.shutdown(Duration::ZERO);
    recorder.close(record());
    let text = recorder.metrics_text();
    let dropped = text
        .lines()
        .find_map(|line| line.strip_prefix(r#"remit_telemetry_dropped_total{signal="traces"} "#));
    // At most one batch is in a request that nobody waits for any more.
    assert!(
        dropped.unwrap().parse::<usize>().unwrap() >= 1501 - 512,
        "{text}"
    );
}

#[test]
fn without_a_collector_calls_are_counted() {
    let config = Config {
        otlp: None,
        audit: None,
        queue: 16,
        service_name: "remit".into(),
    };
    let (recorder, telemetry) = Recorder::start(config).unwrap();
    recorder.close(record());
    telemetry.shutdown(LONG);
    check_metric(
        &recorder,
        r#"remit_calls_total{tool="notes",access="",verdict="allow",code=""} 1"#,
    );
}

#[test]
fn reloads_are_counted() {
    let config = Config {
        otlp: None,
        audit: None,
        queue: 16,
        service_name: "remit".into(),
    };
    let (recorder, telemetry) = Recorder::start(config).unwrap();
    recorder.reloaded("r1", None);
    recorder.reloaded("r2", Some("line 3"));
    telemetry.shutdown(LONG);
    check_metric(&recorder, r#"remit_config_info{revision="r1"} 1"#);
    check_metric(&recorder, r#"remit_reload_total{result="failed"} 1"#);
}

#[tokio::test]
async fn telemetry_may_be_shut_down_and_dropped_among_tasks() {
    let collector = Collector::absent();
    let (recorder, telemetry) = start(&collector, OtlpProtocol::HttpProtobuf, 16);
    recorder.close(record());
    telemetry.shutdown(LONG);
    let (_recorder, telemetry) = start(&collector, OtlpProtocol::Grpc, 16);
    drop(telemetry);
}
