//! Who may do what under the example policy: `policies/matrix.txt` is what it says, a change of policy a diff there.
//!
//! `REMIT_BLESS=1 cargo test -p policy --test matrix` writes it anew.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::fmt::Write as _;
use std::path::Path;

use policy::{Judgement, Opener, Policy, STACK};
use serde_json::{Value, json};

const HEAD: &str = "\
# Who may do what under policies/example. Written by `REMIT_BLESS=1 cargo test -p policy --test matrix`.
# tool | operation | access | case | verdict reason
";

/// Tool, operation, access and arguments with what they are called.
fn calls() -> Vec<(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Value,
)> {
    let long = "a".repeat(281);
    let just = "a".repeat(280);
    vec![
        ("notes", "GET /notes", "read", "-", json!({})),
        ("notes", "GET /notes/*", "read", "-", json!({})),
        ("notes", "GET /echo", "read", "-", json!({})),
        (
            "notes",
            "POST /notes",
            "write",
            "a short text",
            json!({"text": "milk", "tags": ["home"]}),
        ),
        (
            "notes",
            "POST /notes",
            "write",
            "280 characters",
            json!({"text": just}),
        ),
        (
            "notes",
            "POST /notes",
            "write",
            "281 characters",
            json!({"text": long}),
        ),
        (
            "notes",
            "POST /notes",
            "write",
            "a secret",
            json!({"text": "the secret is out"}),
        ),
        (
            "notes",
            "POST /notes",
            "write",
            "a SECRET",
            json!({"text": "the SECRET is out"}),
        ),
        ("notes", "POST /notes", "write", "no text", json!({})),
        (
            "notes",
            "POST /notes",
            "write",
            "a number",
            json!({"text": 7}),
        ),
        (
            "notes",
            "POST /notes",
            "write",
            "a list",
            json!({"text": ["secret"]}),
        ),
        ("notes", "DELETE /notes/*", "execute", "-", json!({})),
        ("desk", "initialize", "read", "-", json!({})),
        ("desk", "tools/list", "read", "-", json!({})),
        (
            "desk",
            "find_ticket",
            "read",
            "a query",
            json!({"query": "late"}),
        ),
        (
            "desk",
            "refund",
            "write",
            "1",
            json!({"ticket": "T-1", "amount": 1}),
        ),
        (
            "desk",
            "refund",
            "write",
            "100",
            json!({"ticket": "T-1", "amount": 100}),
        ),
        (
            "desk",
            "refund",
            "write",
            "100.01",
            json!({"ticket": "T-1", "amount": 100.01}),
        ),
        (
            "desk",
            "refund",
            "write",
            "\"1\"",
            json!({"ticket": "T-1", "amount": "1"}),
        ),
        (
            "desk",
            "refund",
            "write",
            "0",
            json!({"ticket": "T-1", "amount": 0}),
        ),
        (
            "desk",
            "refund",
            "write",
            "-1",
            json!({"ticket": "T-1", "amount": -1}),
        ),
        (
            "desk",
            "refund",
            "write",
            "no amount",
            json!({"ticket": "T-1"}),
        ),
        ("desk", "refund", "write", "no ticket", json!({"amount": 1})),
        ("desk", "purge", "execute", "-", json!({})),
        ("unknown", "GET /", "read", "-", json!({})),
    ]
}

fn call(tool: &str, operation: &str, access: &str, arguments: &Value, labels: &[&str]) -> Value {
    json!({
        "tool": { "name": tool, "operation": operation, "access": access },
        "task": { "labels": labels },
        "request": { "arguments": arguments },
    })
}

fn ruled(judgement: &Judgement) -> String {
    let said = match judgement {
        Judgement::Deny {
            kind: policy::DenialKind::Undefined,
            ..
        } => "deny (nothing said)",
        _ => judgement.verdict(),
    };
    format!("{said} {}", judgement.reason().unwrap_or_default())
        .trim_end()
        .to_owned()
}

fn matrix() -> String {
    let (policy, _) = Policy::load(Policy::example()).unwrap();
    let mut matrix = HEAD.to_owned();
    for (tool, operation, access, case, arguments) in calls() {
        let judgement = policy.judge(&call(tool, operation, access, &arguments, &[]));
        writeln!(
            matrix,
            "{tool} | {operation} | {access} | {case} | {}",
            ruled(&judgement)
        )
        .unwrap();
    }
    let frozen = policy.judge(&call(
        "notes",
        "GET /notes",
        "read",
        &json!({}),
        &["frozen"],
    ));
    writeln!(
        matrix,
        "notes | GET /notes | read | a frozen task | {}",
        ruled(&frozen)
    )
    .unwrap();
    for role in ["operator", "orchestrator", "approver", "viewer"] {
        for tool in ["notes", "vault"] {
            let opening = json!({ "grants": [{ "tool": tool, "access": ["read"] }] });
            let opener = Opener::Operator {
                name: "ops".to_owned(),
                role: role.to_owned(),
            };
            let judgement = policy.judge_opening(&opening, &opener);
            writeln!(
                matrix,
                "{tool} | open a task | - | by {role} | {}",
                ruled(&judgement)
            )
            .unwrap();
        }
    }
    matrix
}

#[test]
fn the_matrix_is_what_the_policy_says() {
    let thread = std::thread::Builder::new().stack_size(STACK);
    let matrix = thread.spawn(matrix).unwrap().join().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/matrix.txt");
    if std::env::var_os("REMIT_BLESS").is_some() {
        std::fs::write(&path, &matrix).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        matrix,
        golden,
        "the policy says otherwise than {}",
        path.display()
    );
}
