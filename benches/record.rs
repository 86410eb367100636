//! What happened? A record that is decided and closed, with an audit and without; what the call itself waits for.
use std::time::Duration;

use benches::World;
use criterion::{BatchSize, Criterion};
use telemetry::{
    Audit, AuditFailure, CallRecord, Config, LeaseNote, Mcp, Recorder, Telemetry, Trace, Verdict,
};

pub(crate) fn record(criterion: &mut Criterion) {
    let world = World::new();
    let audit = Audit {
        path: world.folder().join("audit.jsonl"),
        on_failure: AuditFailure::Refuse,
    };
    let (quiet, quiet_telemetry) = recorder(None);
    let (audited, audited_telemetry) = recorder(Some(audit));
    let mut group = criterion.benchmark_group("record");
    group.bench_function("open", |bench| bench.iter(filled));
    group.bench_function("close", |bench| {
        bench.iter_batched(filled, |record| quiet.close(record), BatchSize::SmallInput);
    });
    group.bench_function("close_audited", |bench| {
        bench.iter_batched(
            filled,
            |record| audited.close(record),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("decided_audited", |bench| {
        bench.iter_batched_ref(
            filled,
            |record| world.runtime.block_on(audited.decided(record)).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    quiet_telemetry.shutdown(Duration::from_secs(5));
    audited_telemetry.shutdown(Duration::from_secs(5));
}

fn recorder(audit: Option<Audit>) -> (Recorder, Telemetry) {
    let config = Config {
        otlp: None,
        audit,
        queue: 8192,
        service_name: "remit".to_owned(),
    };
    Recorder::start(config).unwrap()
}

/// What a call leaves behind.
fn filled() -> CallRecord {
    let mut record = CallRecord::open(Trace::begin(), None);
    "POST".clone_into(&mut record.method);
    "127.0.0.1:4180".clone_into(&mut record.host);
    "/tickets".clone_into(&mut record.path);
    record.agent = Some("bench".into());
    record.agent_method = Some("task_token");
    record.task = Some("0190a2b4-7f00-7000-8000-000000000001".into());
    record.owner = Some("alice@example.org".into());
    record.tool = Some("tickets".into());
    record.protocol = Some("mcp");
    record.operation = Some("update_ticket".into());
    record.access = Some("write");
    record.mcp = Some(Mcp {
        method: "tools/call".to_owned(),
        name: Some("update_ticket".to_owned()),
        request_id: Some("7".to_owned()),
        ..Mcp::default()
    });
    record.verdict = Verdict::Allow;
    record.leases = vec![LeaseNote {
        id: "0190a2b4-7f00-7000-8000-000000000002".into(),
        provider: "static",
        expires_at: Some("2026-01-01T00:00:00Z".to_owned()),
        bridge: true,
    }];
    record.status = Some(200);
    record.total_time = Duration::from_micros(300);
    record
}
