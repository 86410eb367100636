//! A line of the audit is the JSON that it should be, whatever is in the record.
use std::time::Duration;

use proptest::proptest;
use serde_json::{Value, json};

use super::{Line, decided};
use crate::json::Object;
use crate::record::any;
use crate::{CallRecord, Ending, KeyNote, LeaseNote, Mcp, Trace, Verdict};

fn text(line: Line<'_>) -> String {
    let mut text = Vec::new();
    let mut object = Object::open(&mut text);
    line.write(&mut object);
    object.close();
    String::from_utf8(text).unwrap()
}

#[track_caller]
fn check(record: &CallRecord, expect: &str) {
    let line = text(Line::Closed(record));
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
    record.keys = ["cookie", "path"]
        .map(|place| KeyNote {
            place: place.into(),
            kind: "github",
            fingerprint: "0123456789abcdef".into(),
            action: "stripped",
        })
        .to_vec();
    record.leases = vec![LeaseNote {
        id: "l1".into(),
        provider: "cmd",
        expires_at: Some("2026-08-01T13:00:00Z".into()),
        bridge: true,
    }];
    record.forwarded = Some(record.started);
    (record.status, record.bytes_in, record.bytes_out) = (Some(502), 12, u64::MAX);
    record.total_time = Duration::from_millis(1500);
    record.ending = Ending::UpstreamFailed;
    record.scrubbed = 2;
    check(
        &record,
        r#"{"at":"2026-08-01T12:00:01.5Z","kind":"closed","decision":"DECISION",
"trace":"0af7651916cd43dd8448eb211c80319c","client":"[2001:db8::7]:4711","agent":"triage",
"agent_method":"jwt","owner":"alice \"a\"","task":"t1","tool":"github","environment":"prod",
"operation":"POST /a/*","access":"write","method":"POST","host":"h:1",
"path":"/a/\n\u001bü\\","mcp":{"method":"tools/call","name":"add","request":"\"7\""},
"verdict":"allow","code":"bad_gateway","reason":"r","cause":"c","policy_revision":"r7",
"keys":[{"place":"cookie","kind":"github","fingerprint":"0123456789abcdef","action":"stripped"},
{"place":"path","kind":"github","fingerprint":"0123456789abcdef","action":"stripped"}],
"leases":[{"id":"l1","provider":"cmd","bridge":true,"expires_at":"2026-08-01T13:00:00Z"}],
"forwarded":true,"status":502,"bytes_in":12,"bytes_out":18446744073709551615,
"secrets_scrubbed":2,"ending":"upstream_failed","seconds":1.5}"#,
    );
}

/// What both lines of a call say.
fn said(kind: &str, record: &CallRecord) -> Value {
    let CallRecord {
        client,
        agent,
        agent_method,
        owner,
        task,
        tool,
        environment,
        operation,
        access,
        method,
        host,
        path,
        code,
        reason,
        cause,
        policy_revision,
        ..
    } = record;
    let mcp = record
        .mcp
        .as_ref()
        .map(|mcp| json!({"method": mcp.method, "name": mcp.name, "request": mcp.request_id}));
    let keys = record.keys.iter().map(|key| {
        json!({
            "place": key.place, "kind": key.kind,
            "fingerprint": key.fingerprint, "action": key.action,
        })
    });
    let leases = record.leases.iter().map(|lease| {
        let (id, provider, bridge) = (&lease.id, lease.provider, lease.bridge);
        let told = json!({"id": id, "provider": provider, "bridge": bridge, "expires_at": lease.expires_at});
        without_nulls(told)
    });
    let keys = (!record.keys.is_empty()).then(|| keys.collect::<Vec<_>>());
    let leases = (!record.leases.is_empty()).then(|| leases.collect::<Vec<_>>());
    json!({
        "kind": kind,
        "decision": record.decision.as_str(),
        "trace": record.trace.id().to_string(),
        "client": client, "agent": agent, "agent_method": agent_method, "owner": owner,
        "task": task,
        "parent": record.delegated.as_ref().map(|from| &from.parent),
        "chain": record.delegated.as_ref().map(|from| &from.chain),
        "tool": tool, "environment": environment, "operation": operation,
        "access": access, "method": method, "host": host, "path": path, "mcp": mcp,
        "verdict": record.verdict.as_str(),
        "code": code, "reason": reason, "cause": cause, "policy_revision": policy_revision,
        "keys": keys, "leases": leases,
    })
}

/// Without what is said as `null`, which a line leaves out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn a_closed_line_says_it_of_any_record(record in any::record()) {
        let mut expect = without_nulls(said("closed", &record));
        expect["at"] = record.ended().to_string().into();
        expect["forwarded"] = record.forwarded.is_some().into();
        expect["status"] = record.status.into();
        expect["bytes_in"] = record.bytes_in.into();
        expect["bytes_out"] = record.bytes_out.into();
        expect["ending"] = record.ending.as_str().into();
        let line = text(Line::Closed(&record));
        let mut line: Value = serde_json::from_str(&line).unwrap();
        // Reading a number back is exact to the last bit but one.
        let seconds = line.as_object_mut().unwrap().remove("seconds").unwrap();
        let off = seconds.as_f64().unwrap() - record.total_time.as_secs_f64();
        assert!(off.abs() <= 1e-9, "{seconds}");
        assert_eq!(line, expect);
    }
    #[test]
    fn a_decided_line_says_it_of_any_record(record in any::record()) {
        let line = text(Line::Decided(&decided(&record)));
        let mut line: Value = serde_json::from_str(&line).unwrap();
        let at = line.as_object_mut().unwrap().remove("at").unwrap();
        at.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(line, without_nulls(said("decided", &record)));
    }
}

#[test]
fn a_line_of_what_a_crash_left() {
    let line: Value = serde_json::from_str(&text(Line::Recovered(12, "0f"))).unwrap();
    let (kind, bytes, hash) = (&line["kind"], &line["torn_bytes"], &line["torn_sha256"]);
    assert_eq!(
        (kind, bytes, hash),
        (&json!("recovered"), &json!(12), &json!("0f"))
    );
}
