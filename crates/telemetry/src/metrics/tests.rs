//! Metrics, as a scraper and a collector read them.
use std::time::Duration;

use super::{Metrics, Signal};
use crate::{CallRecord, KeyNote, PolicyFailure, Trace, Verdict};

fn record() -> CallRecord {
    let mut record = CallRecord::open(Trace::begin(), None);
    record.method = "POST".into();
    record.tool = Some("github".into());
    record.access = Some("write");
    record.verdict = Verdict::Allow;
    record
}

#[track_caller]
fn check(change: impl FnOnce(&mut CallRecord), expect: &str) {
    let metrics = Metrics::new();
    let mut record = record();
    change(&mut record);
    metrics.closed(&record);
    let text = metrics.text();
    assert!(
        text.lines().any(|line| line == expect),
        "`{expect}` isn't in\n{text}"
    );
}

#[test]
fn an_allowed_call_is_counted() {
    check(
        |_| {},
        r#"remit_calls_total{tool="github",access="write",verdict="allow",code=""} 1"#,
    );
}
#[test]
fn a_refused_call_is_counted_by_its_code() {
    check(
        |record| (record.verdict, record.code) = (Verdict::Deny, Some("out_of_remit")),
        r#"remit_calls_total{tool="github",access="write",verdict="deny",code="out_of_remit"} 1"#,
    );
}
#[test]
fn a_call_to_no_tool_is_counted() {
    check(
        |record| (record.tool, record.access, record.verdict) = (None, None, Verdict::Error),
        r#"remit_calls_total{tool="",access="",verdict="error",code=""} 1"#,
    );
}
#[test]
fn keys_are_counted_by_their_kind() {
    let key = KeyNote {
        place: "body:/a/token".into(),
        kind: "github",
        fingerprint: "0".into(),
        action: "refused",
    };
    check(
        |record| record.keys = vec![key.clone(), key],
        r#"remit_keys_found_total{kind="github",place="body",action="refused"} 2"#,
    );
}
#[test]
fn scrubbed_secrets_are_counted() {
    check(
        |record| record.scrubbed = 3,
        "remit_secrets_scrubbed_total 3",
    );
}
#[test]
fn the_whole_call_is_timed() {
    check(
        |record| record.total_time = Duration::from_millis(2),
        r#"remit_call_duration_seconds_sum{tool="github"} 0.002"#,
    );
}
#[test]
fn the_upstream_is_timed_where_there_was_one() {
    check(
        |record| record.upstream_time = Some(Duration::from_millis(2)),
        r#"remit_upstream_duration_seconds_count{tool="github"} 1"#,
    );
    check(
        |_| {},
        r#"remit_upstream_duration_seconds_count{tool="github"} 0"#,
    );
}
#[test]
fn the_policy_is_timed_where_it_was_asked() {
    check(
        |record| record.policy_time = Duration::from_micros(9),
        "remit_policy_duration_seconds_count 1",
    );
    check(|_| {}, "remit_policy_duration_seconds_count 0");
}

#[test]
fn the_gateways_share_ends_where_the_call_is_forwarded() {
    let ten = Duration::from_millis(10);
    let forwarded = |record: &mut CallRecord| {
        record.total_time = Duration::from_secs(1);
        record.forwarded = record.started.checked_add(ten).ok();
    };
    check(
        forwarded,
        r#"remit_gateway_duration_seconds_sum{tool="github"} 0.01"#,
    );
}

#[test]
fn a_clock_set_back_is_no_time_at_all() {
    let back = Duration::from_secs(10);
    let forwarded =
        |record: &mut CallRecord| record.forwarded = record.started.checked_sub(back).ok();
    check(
        forwarded,
        r#"remit_gateway_duration_seconds_sum{tool="github"} 0.0"#,
    );
}

#[test]
fn lost_records_are_counted_by_output() {
    let metrics = Metrics::new();
    metrics.dropped(Signal::Logs, 3);
    let text = metrics.text();
    assert!(
        text.contains(r#"remit_telemetry_dropped_total{signal="logs"} 3"#),
        "{text}"
    );
    assert!(
        text.contains(r#"remit_telemetry_dropped_total{signal="traces"} 0"#),
        "{text}"
    );
}

#[test]
fn one_config_is_applied_at_a_time() {
    let metrics = Metrics::new();
    metrics.applied("a");
    metrics.applied("b");
    metrics.reload_failed();
    let text = metrics.text();
    assert!(
        text.contains(r#"remit_config_info{revision="b"} 1"#),
        "{text}"
    );
    assert!(!text.contains(r#"revision="a""#), "{text}");
    assert!(
        text.contains(r#"remit_reload_total{result="applied"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(r#"remit_reload_total{result="failed"} 1"#),
        "{text}"
    );
}

#[test]
fn a_policy_that_fails_is_counted_by_its_rule() {
    let metrics = Metrics::new();
    let mut record = record();
    record.policy_failure = Some(PolicyFailure {
        reason: "instructions",
        rule: Some("data.remit.all.deny".into()),
    });
    metrics.closed(&record);
    metrics.closed(&record);
    let text = metrics.text();
    let expect =
        r#"remit_policy_failures_total{rule="data.remit.all.deny",reason="instructions"} 2"#;
    assert!(text.contains(expect), "{text}");
}

#[test]
fn only_so_many_rules_are_told_apart() {
    let metrics = Metrics::new();
    let mut record = record();
    for rule in 0..600 {
        record.policy_failure = Some(PolicyFailure {
            reason: "time",
            rule: Some(format!("data.remit.all.r{rule}").into()),
        });
        metrics.closed(&record);
    }
    let text = metrics.text();
    assert!(
        text.contains(r#"remit_policy_failures_total{rule="",reason="time"} 100"#),
        "{text}"
    );
    assert!(!text.contains("r599"));
}

#[test]
fn no_text_of_a_peer_is_a_label() {
    let metrics = Metrics::new();
    let mut record = record();
    let text = "made-by-a-peer";
    (record.method, record.host, record.path) = (text.into(), text.into(), text.into());
    (record.agent, record.task, record.owner) =
        (Some(text.into()), Some(text.into()), Some(text.into()));
    (record.operation, record.reason, record.cause) =
        (Some(text.into()), Some(text.into()), Some(text.into()));
    metrics.closed(&record);
    assert!(!metrics.text().contains(text));
}
