//! What does a policy cost? Four of them in both engines, and how that grows: `cargo bench -p benches --bench policies`.
//!
//! `machine` is what decides calls; `reference` is the interpreter as explanations ask it, parsing included.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that fails has nothing to say"
)]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use policy::{Policy, Source};
use serde_json::{Value, json};

/// A policy to measure, and a call that it judges.
struct Subject {
    name: &'static str,
    sources: Vec<Source>,
    input: Value,
}

fn subjects() -> [Subject; 6] {
    [
        Subject {
            name: "allow_list",
            sources: vec![tool(
                0,
                "allow if input.tool.operation in {\"op_1\", \"op_2\", \"op_3\"}",
            )],
            input: call(0),
        },
        Subject {
            name: "sixty_lines",
            sources: vec![file("tickets.rego", benches::TICKETS.to_owned())],
            input: ticket(benches::MCP_CALL),
        },
        Subject {
            name: "sixty_lines_of_2_kib",
            sources: vec![file("tickets.rego", benches::TICKETS.to_owned())],
            input: ticket(benches::MCP_CALL_2KIB),
        },
        Subject {
            name: "500_rules_of_50_tools",
            sources: with_data((0..50).map(|number| tool(number, &rules(10))).collect()),
            input: call(17),
        },
        Subject {
            name: "500_rules_in_one_list",
            sources: with_data(vec![tool(17, &flat(500))]),
            input: call(17),
        },
        Subject {
            name: "patterns",
            sources: vec![tool(0, &patterns(20))],
            input: call(0),
        },
    ]
}

fn file(path: &str, text: String) -> Source {
    Source {
        path: path.into(),
        text,
    }
}

/// The rules of one tool.
fn tool(number: usize, rules: &str) -> Source {
    let text = format!("package remit.tools.tool_{number}\n\n{rules}\n");
    file(&format!("tool_{number}.rego"), text)
}

/// Reads are allowed; so many rules deny.
fn rules(count: usize) -> String {
    let denies = (0..count).map(|number| {
        format!(
            "deny contains \"rule_{number}\" if {{\n\tinput.request.arguments.amount > {}\n\tnot data.known[input.request.arguments.user]\n}}",
            number * 1000
        )
    });
    let allow = "allow if input.tool.access == \"read\"".to_owned();
    std::iter::once(allow)
        .chain(denies)
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// One list of rules, of which each is for one of fifty operations.
fn flat(count: usize) -> String {
    let denies = (0..count).map(|number| {
        format!(
            "deny contains \"rule_{number}\" if {{\n\tinput.tool.operation == \"op_{}\"\n\tinput.request.arguments.amount > 1000\n}}",
            number % 50 + 10
        )
    });
    let allow = "allow if input.tool.access == \"read\"".to_owned();
    std::iter::once(allow)
        .chain(denies)
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// Half of the rules match a regular expression, half of them a glob.
fn patterns(count: usize) -> String {
    let denies = (0..count).map(|number| match number % 2 {
        0 => format!("deny contains \"re_{number}\" if regex.match(`^/internal/{number}/[a-z0-9]+$`, input.request.path)"),
        _ => format!("deny contains \"glob_{number}\" if glob.match(\"/private/{number}/**\", [\"/\"], input.request.path)"),
    });
    let allow = "allow if input.tool.access == \"read\"".to_owned();
    std::iter::once(allow)
        .chain(denies)
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// 10,000 entries that rules look things up in.
fn with_data(mut sources: Vec<Source>) -> Vec<Source> {
    let known: serde_json::Map<String, Value> = (0..10_000)
        .map(|number| (format!("user{number}"), json!(number)))
        .collect();
    sources.push(file("data.json", json!({ "known": known }).to_string()));
    sources
}

fn call(number: usize) -> Value {
    json!({
        "agent": { "id": "bench", "method": "task_token", "issuer": "urn:remit", "claims": {} },
        "task": { "id": "t", "owner": "alice", "labels": [], "grants": [] },
        "tool": { "name": format!("tool_{number}"), "protocol": "http", "operation": "op_1", "access": "read", "environment": "prod" },
        "request": { "method": "GET", "path": "/orders/17", "segments": ["orders", "17"], "arguments": { "amount": 10, "user": "user42" } },
        "declared": { "context": {} },
        "history": { "calls": 3 },
    })
}

/// The call that the sixty lines are about.
fn ticket(message: &str) -> Value {
    let message: Value = serde_json::from_str(message).unwrap();
    let mut input = call(0);
    input["tool"] = json!({ "name": "tickets", "protocol": "mcp", "operation": "update_ticket", "access": "write" });
    input["request"]["arguments"] = message["params"]["arguments"].clone();
    input
}

fn load(sources: Vec<Source>) -> Policy {
    Policy::load(sources).unwrap().0
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    for Subject {
        name,
        sources,
        input,
    } in subjects()
    {
        let policy = load(sources);
        assert_ne!(policy.judge(&input).verdict(), "error", "{name}");
        group.bench_function(BenchmarkId::new("machine", name), |bench| {
            bench.iter(|| policy.judge(&input));
        });
        group.bench_function(BenchmarkId::new("reference", name), |bench| {
            bench.iter(|| policy.eval("data.remit.decision", &input).unwrap());
        });
    }
    group.finish();
}

/// A decision with more tools, more rules of the tool, more data.
fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy_growth");
    for tools in [10, 100, 1_000] {
        let policy = load((0..tools).map(|number| tool(number, &rules(2))).collect());
        let input = call(5);
        group.bench_function(BenchmarkId::new("tools", tools), |bench| {
            bench.iter(|| policy.judge(&input));
        });
    }
    for count in [10, 100, 500] {
        let policy = load(with_data(vec![tool(0, &rules(count))]));
        let input = call(0);
        group.bench_function(BenchmarkId::new("rules", count), |bench| {
            bench.iter(|| policy.judge(&input));
        });
    }
    group.finish();
}

/// From files to a policy that can decide: parse, check, compile, test, compare.
fn activation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy_activation");
    group.sample_size(10);
    for (tools, each) in [(10, 10), (50, 10), (50, 40), (1_000, 2)] {
        let sources: Vec<Source> = (0..tools)
            .map(|number| tool(number, &rules(each)))
            .collect();
        let name = format!("{}_rules_of_{tools}_tools", tools * each);
        group.bench_function(name, |bench| bench.iter(|| load(sources.clone())));
    }
    // Data alone: tests and samples are run, nothing is compiled.
    let rules: Vec<Source> = (0..50).map(|number| tool(number, &rules(40))).collect();
    let before = Arc::new(load(with_data(rules.clone())));
    let after = with_data(rules);
    group.bench_function("new_data_for_2000_rules", |bench| {
        bench.iter(|| Policy::load_after(&before, after.clone()).unwrap());
    });
    group.finish();
}

criterion_group!(policies, decide, growth, activation);
criterion_main!(policies);
