//! Records with anything in them, for tests.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::arbitrary::any;
use proptest::option;
use proptest::strategy::Strategy;

use crate::{CallRecord, Delegated, Ending, KeyNote, LeaseNote, Mcp, Trace, Verdict};

/// Any record, as it may be told.
pub(crate) fn record() -> impl Strategy<Value = CallRecord> {
    let texts = any::<[Option<String>; 9]>();
    let peers = any::<[String; 4]>();
    let words = any::<([Option<bool>; 4], Option<SocketAddr>)>();
    let numbers = any::<(Option<u16>, u64, u64, u64, bool, usize, usize)>();
    let keys = proptest::collection::vec(any::<[String; 2]>(), 0..3);
    let mcp = option::of(any::<(bool, Option<String>, Option<String>)>());
    (texts, peers, words, numbers, keys, mcp).prop_map(
        |(texts, peers, (words, client), numbers, keys, mcp)| {
            let mut record = CallRecord::open(Trace::begin(), client);
            texts_of(texts, &mut record);
            let [method, host, path, expires_at] = peers;
            (record.method, record.host, record.path) = (method, host, path);
            let [agent_method, access, code, lease] = words;
            record.agent_method = agent_method.map(|it| if it { "jwt" } else { "task_token" });
            record.access = access.map(|it| if it { "read" } else { "write" });
            record.code = code.map(|it| if it { "denied" } else { "bad_gateway" });
            record.leases.extend(lease.map(|bridge| LeaseNote {
                id: expires_at.as_str().into(),
                provider: "static",
                expires_at: (!bridge).then_some(expires_at),
                bridge,
            }));
            let keys = keys.into_iter().map(|[place, fingerprint]| KeyNote {
                place,
                kind: "github",
                fingerprint,
                action: "stripped",
            });
            record.keys = keys.collect();
            record.mcp = mcp.map(|(tool, name, request_id)| Mcp {
                method: if tool { "tools/call" } else { "resources/read" }.into(),
                name,
                request_id,
                ..Mcp::default()
            });
            let (status, bytes_in, bytes_out, time, forwarded, verdict, ending) = numbers;
            (record.status, record.bytes_in, record.bytes_out) = (status, bytes_in, bytes_out);
            // Up to 11 days.
            record.total_time = Duration::from_nanos(time % 1_000_000_000_000_000);
            record.forwarded = forwarded.then_some(record.started);
            let (verdicts, endings) = (VERDICTS.len(), ENDINGS.len());
            record.verdict = VERDICTS[verdict % verdicts];
            record.ending = ENDINGS[ending % endings];
            record
        },
    )
}

const VERDICTS: [Verdict; 4] = [
    Verdict::Error,
    Verdict::Allow,
    Verdict::Deny,
    Verdict::Escalate,
];

const ENDINGS: [Ending; 5] = [
    Ending::Complete,
    Ending::Cut,
    Ending::ClientGone,
    Ending::UpstreamFailed,
    Ending::Internal,
];

fn texts_of(texts: [Option<String>; 9], record: &mut CallRecord) {
    let [
        agent,
        task,
        owner,
        tool,
        operation,
        environment,
        revision,
        reason,
        cause,
    ] = texts;
    record.agent = agent.map(Into::into);
    record.task = task.map(Into::into);
    record.owner = owner.map(Into::into);
    record.tool = tool.map(Into::into);
    record.delegated = record.tool.as_ref().map(|parent| Delegated {
        parent: std::sync::Arc::clone(parent),
        chain: [reason.clone().unwrap_or_default(), parent.to_string()].into(),
    });
    record.operation = operation.map(Into::into);
    record.environment = environment.map(Into::into);
    record.policy_revision = revision.map(Into::into);
    (record.reason, record.cause) = (reason, cause);
}
