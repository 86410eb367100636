//! What policy reads of a call is there, however it is written: what no rule reads is not built.

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// A tool each, and what must hold of a call of it. `$` is the tool's name.
const SEEN: &[(&str, &str)] = &[
    ("agent_id", r#"input.agent.id == "triage""#),
    ("agent_method", r#"input.agent.method == "task_token""#),
    ("agent_issuer", r#"startswith(input.agent.issuer, "")"#),
    (
        "agent_claims",
        r#"input.agent.claims.client_id == "triage""#,
    ),
    ("task_id", "count(input.task.id) == 36"),
    ("task_purpose", r#"input.task.purpose == "reading""#),
    ("task_owner", r#"input.task.owner == "alice""#),
    ("task_parent", "input.task.parent == null"),
    ("task_chain", "input.task.chain == []"),
    ("task_times", "input.task.opened_at < input.task.expires_at"),
    ("task_grants", "count(input.task.grants) > 30"),
    ("task_attributes", "input.task.attributes == {}"),
    ("task_labels", "input.task.labels == []"),
    ("tool_name", r#"input.tool.name == "$""#),
    ("tool_protocol", r#"input.tool.protocol == "http""#),
    ("tool_operation", r#"input.tool.operation == "POST /**""#),
    ("tool_access", r#"input.tool.access == "write""#),
    ("tool_environment", r#"input.tool.environment == "prod""#),
    ("tool_attributes", r#"input.tool.attributes.team == "red""#),
    ("tool_labels", r#""blue" in input.tool.labels"#),
    ("request_method", r#"input.request.method == "POST""#),
    (
        "request_host",
        r#"startswith(input.request.host, "127.0.0.1")"#,
    ),
    ("request_path", r#"input.request.path == "/a/b""#),
    ("request_segments", r#"input.request.segments[1] == "b""#),
    ("request_query", r#"input.request.query.q == "x""#),
    ("request_headers", r#"input.request.headers["x-a"] == "1""#),
    ("request_arguments", "input.request.arguments.n == 3"),
    ("request_size", "input.request.size == 7"),
    ("request_streamed", "input.request.streamed == false"),
    ("client_address", r#"input.client.address == "127.0.0.1""#),
    ("declared_tool", r#"input.declared.tool == "$""#),
    (
        "declared_operation",
        r#"input.declared.operation == "POST /**""#,
    ),
    (
        "declared_context",
        r#"input.declared.context.ticket == "OPS-1""#,
    ),
    ("history_calls", "input.history.calls >= 0"),
    ("history_by_access", "input.history.by_access.write >= 1"),
    ("approval", "input.approval == null"),
    ("a_group", r#""/a/b" in input.request"#),
    (
        "a_group_by_a_name",
        r#"input.request[lower("HEADERS")]["x-a"] == "1""#,
    ),
    (
        "all_of_it",
        r#"object.get(input, ["request", "headers", "x-a"], "") == "1""#,
    ),
    ("an_import", r#"r.headers["x-a"] == "1""#),
    ("a_helper", "data.remit.lib.seen.header"),
];

#[test]
fn whatever_a_rule_reads_is_there() {
    let site = Site::new(REMIT);
    let upstream = site.run(Upstream::start(Answer::json(json!({}))));
    site.write(
        "policy/seen.rego",
        "package remit.lib.seen\n\nheader if input.request.headers[\"x-a\"] == \"1\"\n",
    );
    let mut config = "tools:\n".to_owned();
    for (tool, holds) in SEEN {
        let holds = holds.replace('$', tool);
        site.write(
            &format!("policy/{tool}.rego"),
            &format!(
                "package remit.tools.{tool}\n\nimport input.request as r\n\nallow if {holds}\n\ndeny contains \"unseen\" if not {holds}\n"
            ),
        );
        config.push_str(&format!(
            "  {tool}: {{ upstream: \"{}\", environment: prod, attributes: {{ team: red }}, labels: [blue], access: {{ write: [\"POST /**\"] }} }}\n",
            upstream.url()
        ));
    }
    site.config(&config);
    let remit = site.serve();
    let mut wish = vec![
        "--agent",
        "triage",
        "--owner",
        "alice",
        "--purpose",
        "reading",
        "--access",
        "write",
    ];
    for (tool, _) in SEEN {
        wish.extend(["--tool", tool]);
    }
    let (id, token) = remit.open_task(&wish);
    let http = testkit::http();
    for (tool, holds) in SEEN {
        // Twice: counters are there from the second call on.
        let call = || {
            let request = http.post(remit.call(&format!("/{tool}/a/b?q=x")));
            request
                .bearer_auth(&token)
                .header("content-type", "application/json")
                .header("x-a", "1")
                .header("agent-tool", format!("{tool}/POST /**"))
                .header("agent-context", "ticket=\"OPS-1\"")
                .body(r#"{"n":3}"#)
                .send()
                .unwrap()
        };
        let answer = call();
        let status = answer.status();
        let text = answer.text().unwrap();
        assert_eq!(status, StatusCode::OK, "{tool}: {holds}: {text}");
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
    assert_eq!(upstream.received().len(), SEEN.len());
    // And it is as the schema says that authors have in their editors.
    let call = ["POST", "/agent_id/a/b?q=x", "-d", "{\"n\":3}"];
    let output = remit.command(&[&["explain", "--json", "--task", &id], &call[..]].concat());
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
    let schema = jsonschema::validator_for(&policy::Document::Input.schema()).unwrap();
    let mistakes: Vec<String> = schema
        .iter_errors(&explained["input"])
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}");
}
