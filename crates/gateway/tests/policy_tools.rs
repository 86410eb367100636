//! The tools of policy authors: what a failing test compared, watching, timing, evaluating, schemas.
#![expect(clippy::unwrap_used, reason = "a failure here fails a test")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::Site;

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

const RULES: &str = "package remit.tools.notes

allow if count(input.request.path) <= data.limits.path
";

const TEST: &str = "package remit.notes_test

import data.remit.tools.notes

test_short if notes.allow with input as {\"request\": {\"path\": \"/a\"}}

test_limit if {
	some_limit := data.limits.path
	some_limit == 12
}
";

fn site() -> Site {
    let site = Site::new(REMIT);
    site.write("p/notes.rego", RULES);
    site.write("p/notes_test.rego", TEST);
    site.write("p/data.json", "{\"limits\": {\"path\": 12}}");
    site.write(
        "p/samples/short.json",
        "{\"tool\": {\"name\": \"notes\"}, \"request\": {\"path\": \"/a\"}}",
    );
    site
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_failing_test_shows_what_it_compared() {
    let site = site();
    site.write("p/data.json", "{\"limits\": {\"path\": 3}}");
    let output = site.command(&["policy", "test", "p"]);
    assert!(!output.status.success());
    let said = said(&output);
    let expect = "      notes_test.rego:9: some_limit == 12\n      left  3\n      right 12\n";
    assert!(said.contains(expect), "{said}");
    assert!(said.contains("1 passed, 1 failed"), "{said}");
}

#[test]
fn tests_run_again_when_a_file_changes() {
    let site = site();
    let mut child = Command::new(REMIT)
        .args(["policy", "test", "p", "--watch"])
        .current_dir(site.folder())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = channel();
    for out in [
        Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
        Box::new(child.stderr.take().unwrap()),
    ] {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
    }
    let until = |text: &str| {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = lines.recv_timeout(Duration::from_secs(30)) else {
                panic!("no `{text}` after {seen:#?}");
            };
            if line.contains(text) {
                break;
            }
            seen.push(line);
        }
    };
    until("2 passed, 0 failed");
    until("waiting for a change");
    site.write("p/data.json", "{\"limits\": {\"path\": 3}}");
    until("1 passed, 1 failed");
    until("waiting for a change");
    site.write("p/notes.rego", "package remit.tools.notes\n\nallow if {");
    // The finding and the rest come in two pipes, in either order.
    let mut due = vec!["notes.rego:3", "waiting for a change"];
    while !due.is_empty() {
        let line = lines.recv_timeout(Duration::from_secs(30)).unwrap();
        due.retain(|text| !line.contains(text));
    }
    site.write("p/notes.rego", RULES);
    until("1 passed, 1 failed");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn samples_are_timed() {
    let site = site();
    let timed = json_of(&site.command(&["policy", "bench", "p", "--json"]));
    let sample = timed.get(0).unwrap();
    assert_eq!(sample["sample"], "samples/short.json");
    assert_eq!(sample["verdict"], "allow");
    assert!(sample["median_ns"].as_u64().unwrap() > 0);
    assert!(sample["reference_ns"].as_u64().unwrap() > 0);
    let instructions = sample["instructions"].as_u64().unwrap();
    let table = site.command(&["policy", "bench", "p"]);
    assert!(
        said(&table).contains("samples/short.json  allow"),
        "{table:?}"
    );
    // In CI a bound is on instructions, which don't depend on the machine.
    let bound = |most: u64| {
        let most = most.to_string();
        let arguments = ["policy", "bench", "p", "--most-instructions", &most];
        site.command(&arguments).status.success()
    };
    assert!(bound(instructions) && !bound(instructions - 1));
}

#[test]
fn without_samples_there_is_nothing_to_time() {
    let site = site();
    std::fs::remove_dir_all(site.path("p/samples")).unwrap();
    let output = site.command(&["policy", "bench", "p"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("samples/*.json"));
}

#[test]
fn both_engines_evaluate_with_more_data() {
    let site = site();
    std::fs::remove_file(site.path("p/data.json")).unwrap();
    std::fs::remove_file(site.path("p/notes_test.rego")).unwrap();
    let input = site.path("p/samples/short.json").display().to_string();
    let eval = |more: &[&str]| {
        let base = ["policy", "eval", "p", "--input", &input];
        site.command(&[&base[..], more].concat())
    };
    assert_eq!(json_of(&eval(&[])), Value::Null);
    site.write("more.yaml", "limits:\n  path: 5\n");
    for engine in ["reference", "data-path"] {
        let decision = json_of(&eval(&["--data", "more.yaml", "--engine", engine]));
        assert_eq!(decision["verdict"], "allow", "{engine}");
    }
    let other = [
        "--engine",
        "data-path",
        "--entrypoint",
        "data.remit.tools.notes.allow",
    ];
    let output = eval(&other);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("data.remit.decision"));
}

#[test]
fn a_decision_is_as_its_schema_says() {
    let site = site();
    let schema = |document: &str| json_of(&site.command(&["policy", "schema", document]));
    let decision = jsonschema::validator_for(&schema("decision")).unwrap();
    let input = site.path("p/samples/short.json").display().to_string();
    let decided = json_of(&site.command(&["policy", "eval", "p", "--input", &input]));
    assert!(decision.is_valid(&decided), "{decided}");
    assert!(!decision.is_valid(&json!({ "verdict": "maybe" })));
    let admission = jsonschema::validator_for(&schema("admission")).unwrap();
    let task = json!({ "agent": "a", "grants": [] });
    let operator = json!({ "name": "ops", "role": "operator" });
    let agent = json!({ "id": "a", "method": "jwt", "issuer": "i", "claims": {} });
    let owner = json!({ "subject": "anna", "issuer": "i", "claims": {}, "actor": agent });
    let transaction = json!({ "issuer": "i", "txn": "t", "claims": {}, "actor": agent });
    for (who, asker) in [
        ("operator", operator),
        ("agent", agent),
        ("owner", owner),
        ("transaction", transaction),
    ] {
        let mut wish = json!({
            "operator": null, "agent": null, "owner": null, "transaction": null, "task": task,
        });
        wish[who] = asker;
        assert!(admission.is_valid(&wish), "{wish}");
    }
}
