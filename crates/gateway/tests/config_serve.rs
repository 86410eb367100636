//! A config as an operator meets it: checked, served, changed while calls go on.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failure here fails a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Everything is allowed that the task covers.
const OPEN: &str = "package remit.all\n\nallow if true\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `config check` and `serve` on the same file; both refuse it. Answers with what each says.
#[track_caller]
fn both_refuse(site: &Site) -> [String; 2] {
    let check = site.command(&["config", "check", "remit.yaml"]);
    let serve = site.command(&["serve", "--config", "remit.yaml", "--state", "state"]);
    [check, serve].map(
        |Output {
             status,
             stdout,
             stderr,
         }| {
            assert!(!status.success());
            text(&stdout) + &text(&stderr)
        },
    )
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let site = Site::new(REMIT);
    site.write(
        "remit.yaml",
        "listen:
  calls: 0.0.0.0:4180
  control: nowhere
  colour: blue
identity:
  issuers:
    - { issuer: http://idp.example, audience: remit, algorithms: [HS256] }
tasks:
  ttl: { default: 2h, max: 1h }
tools:
  Notes:
    upstream: https://notes.example
  desk:
    upstream: ftp://desk.example
    access: { read: [\"GET\"] }
    max_body: lots
policy: {}
",
    );
    for said in both_refuse(&site) {
        for place in [
            "remit.yaml:2:10: listen.calls",
            "remit.yaml:3:12: listen.control",
            "remit.yaml:4:3: listen.colour",
            "remit.yaml:7:17: identity.issuers[0].issuer",
            "identity.issuers[0].algorithms",
            "remit.yaml:9:",
            "remit.yaml:11:3: tools.Notes",
            "remit.yaml:14:15: tools.desk.upstream",
            "remit.yaml:15:",
            "remit.yaml:16:15: tools.desk.max_body",
            "remit.yaml:17:",
        ] {
            assert!(said.contains(place), "{place} in:\n{said}");
        }
    }
}

#[test]
fn a_literal_secret_is_refused_and_not_repeated() {
    let site = Site::new(REMIT);
    let canary = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    site.config(&format!(
        "tasks: {{ signing_key: {canary} }}
tools:
  notes:
    upstream: https://notes.example
    access: {{ read: [\"GET /**\"] }}
    credentials:
      read: {{ provider: static, secret: {canary}, bridge_until: 2030-01-01 }}
control:
  operators: [ {{ name: ops, token: {canary}, role: operator }} ]
"
    ));
    for said in both_refuse(&site) {
        assert_eq!(said.matches("remit.yaml:").count(), 3, "{said}");
        assert!(!said.contains(&canary[4..12]), "{said}");
    }
}

#[test]
fn what_policy_lacks_is_told_at_start() {
    let site = Site::new(REMIT);
    site.write(
        "policy/notes.rego",
        "package remit.tools.notes\n\nallow if {",
    );
    site.config("");
    let serve = site.command(&["serve", "--config", "remit.yaml", "--state", "state"]);
    assert!(!serve.status.success());
    let said = text(&serve.stderr);
    assert!(said.contains("notes.rego:3"), "{said}");
}

#[test]
fn the_schema_accepts_the_example() {
    let site = Site::new(REMIT);
    let schema = site.command(&["config", "schema"]);
    assert!(schema.status.success());
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::validator_for(&schema).unwrap();
    let example = include_str!("../../../examples/remit.yaml");
    let example: Value = serde_yaml::from_str(example).unwrap();
    let mistakes: Vec<_> = schema
        .iter_errors(&example)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(mistakes, [""; 0]);
    assert!(!schema.is_valid(&json!({ "listen": {} })));
}

/// A served gateway with one tool, and a task for it and for one that is not there yet.
struct World {
    remit: Remit,
    http: Client,
    upstream: Upstream,
    token: String,
    site: Site,
}

impl World {
    fn new() -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::Echo));
        site.write("policy/all.rego", OPEN);
        site.config(&tools(&upstream, &["notes"], ""));
        let remit = site.serve();
        let (_, token) = remit.open_task(&[
            "--tool",
            "notes",
            "--tool",
            "later",
            "--access",
            "read,write",
            "--agent",
            "triage",
        ]);
        Self {
            remit,
            http: testkit::http(),
            upstream,
            token,
            site,
        }
    }

    fn get(&self, path: &str) -> Response {
        let request = self.http.get(self.remit.call(path));
        request.bearer_auth(&self.token).send().unwrap()
    }

    fn post(&self, path: &str, size: usize) -> Response {
        let request = self.http.post(self.remit.call(path));
        let body = json!({ "text": "x".repeat(size) });
        request.bearer_auth(&self.token).json(&body).send().unwrap()
    }

    /// Writes another config, which the gateway has to notice by itself.
    fn change(&self, rest: &str) {
        self.site.config(rest);
    }
}

fn tools(upstream: &Upstream, names: &[&str], more: &str) -> String {
    let mut config = "audit: { path: audit.jsonl }\ntools:\n".to_owned();
    for name in names {
        config.push_str(&format!(
            "  {name}:\n    upstream: {}\n    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}\n{more}",
            upstream.url()
        ));
    }
    config
}

#[track_caller]
fn refused(answer: Response, status: StatusCode, code: &str) {
    assert_eq!(answer.status(), status);
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], code);
}

#[test]
fn a_tool_comes_and_goes_while_the_gateway_runs() {
    let world = World::new();
    let before = world.remit.status();
    refused(world.get("/later/a"), StatusCode::NOT_FOUND, "unknown_tool");
    world.change(&tools(&world.upstream, &["notes", "later"], ""));
    until("the tool is there", || {
        world.get("/later/a").status() == StatusCode::OK
    });
    let after = world.remit.status();
    assert_eq!(after["revision"], json!(2));
    assert_ne!(after["config"]["hash"], before["config"]["hash"]);
    assert_eq!(after["last_reload"]["error"], Value::Null);

    world.change(&tools(&world.upstream, &["later"], ""));
    until("the tool is gone", || {
        world.get("/notes/a").status() == StatusCode::NOT_FOUND
    });
    assert_eq!(world.get("/later/a").status(), StatusCode::OK);
}

#[test]
fn limits_of_tools_and_tasks_change_while_the_gateway_runs() {
    let world = World::new();
    assert_eq!(world.post("/notes/a", 2000).status(), StatusCode::OK);
    let smaller = tools(&world.upstream, &["notes"], "    max_body: 1KiB\n");
    world.change(&format!(
        "{smaller}tasks: {{ ttl: {{ max: 2m, default: 1m }} }}\n"
    ));
    until("bodies are smaller", || {
        world.post("/notes/a", 2000).status() == StatusCode::PAYLOAD_TOO_LARGE
    });
    assert_eq!(world.post("/notes/a", 20).status(), StatusCode::OK);
    let long = world.remit.command(&[
        "task", "open", "--tool", "notes", "--agent", "triage", "--ttl", "30m", "--json",
    ]);
    let told = text(&long.stdout) + &text(&long.stderr);
    let shortened = serde_json::from_slice::<Value>(&long.stdout).is_ok_and(|opened| {
        let ends: jiff::Timestamp = opened["expires_at"].as_str().unwrap().parse().unwrap();
        ends.duration_since(jiff::Timestamp::now()).as_secs() <= 120
    });
    assert!(!long.status.success() || shortened, "{told}");
}

#[test]
fn what_can_not_change_while_it_runs_is_said() {
    let world = World::new();
    let rest = tools(&world.upstream, &["notes"], "");
    world.change(&format!("{rest}limits: {{ connections: 7 }}\n"));
    until("it is applied", || {
        world.remit.status()["revision"] == json!(2)
    });
    let warnings = world.remit.status()["warnings"].to_string();
    assert!(
        warnings.contains("`limits`") && warnings.contains("restart"),
        "{warnings}"
    );
    // Back to what it runs with: nothing is left to say.
    world.change(&rest);
    until("it is applied", || {
        world.remit.status()["revision"] == json!(3)
    });
    let warnings = world.remit.status()["warnings"].to_string();
    assert!(!warnings.contains("restart"), "{warnings}");
}

#[test]
fn sighup_applies_the_config_anew() {
    let world = World::new();
    let before = world.remit.status();
    world.remit.signal("-HUP");
    until("it is applied", || {
        world.remit.status()["revision"] == json!(2)
    });
    let after = world.remit.status();
    assert_eq!(after["config"]["hash"], before["config"]["hash"]);
    assert_eq!(world.get("/notes/a").status(), StatusCode::OK);
}

#[test]
fn a_broken_config_keeps_the_running_one() {
    let world = World::new();
    let before = world.remit.status();
    world.site.write("remit.yaml", "listen: { calls: [\n");
    until("the mistake is told", || {
        world.remit.status()["last_reload"]["error"].is_string()
    });
    world
        .site
        .config("tools: { notes: { upstream: nowhere } }\n");
    until("the other mistake is told", || {
        let status = world.remit.status();
        status["last_reload"]["error"]
            .as_str()
            .is_some_and(|error| error.contains("remit.yaml:3:") && error.contains("upstream"))
    });
    let status = world.remit.status();
    assert_eq!(status["revision"], json!(1));
    assert_eq!(status["config"]["hash"], before["config"]["hash"]);
    assert_eq!(world.get("/notes/a").status(), StatusCode::OK);
    let reload = world.http.post(world.remit.control("/v1/reload"));
    let reload = reload.bearer_auth(world.remit.operator_token());
    refused(
        reload.send().unwrap(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "reload_failed",
    );

    world.change(&tools(&world.upstream, &["notes"], ""));
    until("what was mended is applied", || {
        world.remit.status()["revision"] == json!(2)
    });
    assert_eq!(world.remit.status()["last_reload"]["error"], Value::Null);
}

#[test]
fn a_config_that_is_replaced_by_another_file_is_noticed() {
    let world = World::new();
    let rest = tools(&world.upstream, &["notes", "later"], "");
    let draft = world.site.config(&rest);
    let text = std::fs::read_to_string(draft).unwrap();
    world
        .site
        .replace("remit.yaml", &format!("{text}# moved here\n"));
    until("the tool is there", || {
        world.get("/later/a").status() == StatusCode::OK
    });
}

/// Denies with its own version as reason, and lets other paths through.
fn version(number: usize) -> String {
    format!(
        "package remit.all

allow if true

deny contains {{\"reason\": \"v{number}\", \"message\": \"v{number}\"}} if input.request.path == \"/denied\"
"
    )
}

#[test]
fn e4_each_call_is_judged_by_exactly_one_revision() {
    const SWAPS: usize = 5;
    let world = World::new();
    let done = AtomicBool::new(false);
    let calls: Vec<(StatusCode, Value)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while answers.len() < 75 || !done.load(Ordering::Relaxed) {
                        for path in ["/notes/denied", "/notes/open"] {
                            let answer = world.get(path);
                            answers.push((answer.status(), answer.json().unwrap()));
                        }
                    }
                    answers
                })
            })
            .collect();
        let mut revisions = BTreeSet::new();
        for number in 1..=SWAPS {
            world.site.replace("policy/all.rego", &version(number));
            until("the policy judges", || {
                world.get("/notes/denied").json::<Value>().unwrap()["reason"]
                    == format!("v{number}")
            });
            revisions.insert(world.remit.status()["policy_revision"].to_string());
        }
        assert_eq!(revisions.len(), SWAPS);
        done.store(true, Ordering::Relaxed);
        let answers = callers.into_iter().map(|caller| caller.join().unwrap());
        answers.flatten().collect()
    });
    assert!(calls.len() >= 300);
    for (status, answer) in &calls {
        // Before the first swap all is allowed.
        assert!(matches!(status.as_u16(), 200 | 403), "{status} {answer}");
        if *status == StatusCode::FORBIDDEN {
            assert_eq!(answer["reason"], answer["message"], "{answer}");
        }
    }

    // One revision gives one reason, and one reason comes from one revision.
    let audit = std::fs::read_to_string(world.site.path("audit.jsonl")).unwrap();
    let mut reasons: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in audit.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(reason) = line["reason"].as_str() {
            let revision = line["policy_revision"].as_str().unwrap();
            let of_revision = reasons.entry(revision.to_owned()).or_default();
            of_revision.insert(reason.to_owned());
        }
    }
    assert_eq!(reasons.len(), SWAPS, "{reasons:?}");
    let all: BTreeSet<_> = reasons.values().flatten().collect();
    assert_eq!(all.len(), SWAPS);
    assert!(
        reasons.values().all(|reasons| reasons.len() == 1),
        "{reasons:?}"
    );
}

#[test]
fn d12_a_gateway_leaves_no_core_dump() {
    let world = World::new();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.remit.pid()));
    let limits = limits.unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[..6], ["Max", "core", "file", "size", "0", "0"]);
}

#[test]
fn a10_a_gateway_may_open_as_many_files_as_the_system_grants() {
    let world = World::new();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.remit.pid()));
    let limits = limits.unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = files.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4]);
}
