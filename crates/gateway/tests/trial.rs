//! A policy is tried on real calls before it counts: beside another, on recorded calls, or without effect.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use reqwest::StatusCode;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Everything is allowed that the task covers.
const OPEN: &str = "package remit.all\n\nallow if true\n";

/// Nothing is written.
const READ_ONLY: &str = "package remit.all

allow if true

deny contains {\"reason\": \"read_only\", \"message\": \"Nothing is written here.\"} if input.tool.access != \"read\"
";

/// A served gateway with one tool, and a task that may read and write.
struct World {
    remit: Remit,
    upstream: Upstream,
    token: String,
    site: Site,
}

impl World {
    /// `policy` is the whole section of the config.
    fn new(policy: &str, files: &[(&str, &str)]) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::Echo));
        for (name, text) in files {
            site.write(name, text);
        }
        let tools = format!(
            "tools:\n  notes:\n    upstream: {}\n    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}\n",
            upstream.url()
        );
        let listen = "listen: { calls: 127.0.0.1:0, control: 127.0.0.1:0 }\n";
        site.write("remit.yaml", &format!("{listen}policy: {policy}\n{tools}"));
        let remit = site.serve();
        let (_, token) = remit.open_task(&[
            "--tool",
            "notes",
            "--access",
            "read,write",
            "--agent",
            "triage",
        ]);
        Self {
            remit,
            upstream,
            token,
            site,
        }
    }

    fn get(&self) -> StatusCode {
        let request = testkit::http().get(self.remit.call("/notes/a"));
        request.bearer_auth(&self.token).send().unwrap().status()
    }

    fn post(&self) -> Response {
        let request = testkit::http().post(self.remit.call("/notes/a"));
        let request = request.header("x-note", "private");
        let body = json!({ "text": "hello" });
        request.bearer_auth(&self.token).json(&body).send().unwrap()
    }

    fn policy(&self, arguments: &[&str]) -> Output {
        let arguments: Vec<&str> = ["policy", "--json"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        self.remit.command(&arguments)
    }

    /// The report, once it is of so many calls.
    fn report(&self, calls: u64) -> Value {
        let mut report = Value::Null;
        until("the calls are judged twice", || {
            let said = self.policy(&["shadow"]);
            report = serde_json::from_slice(&said.stdout).unwrap();
            report["calls"] == calls
        });
        report
    }
}

#[test]
fn a_candidate_is_compared_then_promoted() {
    let world = World::new(
        "{ path: policy, candidate: next }",
        &[("policy/all.rego", OPEN), ("next/all.rego", READ_ONLY)],
    );
    assert_eq!(world.get(), StatusCode::OK);
    assert_eq!(world.post().status(), StatusCode::OK);
    let decision = world.post().headers()["remit-decision"].clone();
    let report = world.report(3);
    assert_eq!(report["agreed"], 1);
    let found = &report["differences"][0];
    assert_eq!(found["calls"], 2);
    assert_eq!(found["enforced"], json!({ "verdict": "allow" }));
    let shadow = json!({ "verdict": "deny", "reason": "read_only" });
    assert_eq!(found["shadow"], shadow);
    assert_ne!(found["example"], json!(decision.to_str().unwrap()));

    let before = report["policy_revision"].clone();
    let promoted = world.policy(&["promote"]);
    assert!(promoted.status.success(), "{promoted:?}");
    let refused: Value = world.post().json().unwrap();
    assert_eq!(refused["reason"], "read_only");
    let after = world.report(1);
    assert_ne!(after["policy_revision"], before);
    assert_eq!(after["policy_revision"], after["candidate_revision"]);
    let old = std::fs::read_to_string(world.site.path("policy.previous/all.rego"));
    assert_eq!(old.unwrap(), OPEN);

    // The folder is another one now, and watched all the same.
    world.site.replace("policy/all.rego", OPEN);
    until("the change is seen", || {
        world.post().status() == StatusCode::OK
    });
}

#[test]
fn a_broken_candidate_has_no_effect_and_is_not_promoted() {
    let world = World::new(
        "{ path: policy, candidate: next }",
        &[
            ("policy/all.rego", OPEN),
            ("next/all.rego", "package remit.all\n\nallow if {"),
        ],
    );
    assert_eq!(world.post().status(), StatusCode::OK);
    let warnings = world.remit.status()["warnings"].to_string();
    assert!(warnings.contains("policy.candidate"), "{warnings}");
    let promoted = world.policy(&["promote"]);
    assert!(!promoted.status.success());
    assert_eq!(world.post().status(), StatusCode::OK);
    let kept = std::fs::read_to_string(world.site.path("policy/all.rego"));
    assert_eq!(kept.unwrap(), OPEN);
}

#[test]
fn without_a_candidate_nothing_is_promoted() {
    let world = World::new("{ path: policy }", &[("policy/all.rego", OPEN)]);
    let promoted = world.policy(&["promote"]);
    assert!(!promoted.status.success());
    let said = String::from_utf8_lossy(&promoted.stderr).into_owned();
    assert!(said.contains("policy.candidate"), "{said}");
}

#[test]
fn in_shadow_a_policy_refuses_nothing_and_tells() {
    let world = World::new(
        "{ path: policy, mode: shadow }",
        &[("policy/all.rego", READ_ONLY)],
    );
    assert_eq!(world.post().status(), StatusCode::OK);
    assert_eq!(world.upstream.received().len(), 1);
    let report = world.report(1);
    assert_eq!(report["mode"], "shadow");
    let found = &report["differences"][0];
    assert_eq!(found["shadow"]["reason"], "read_only");
    assert_eq!(found["enforced"]["reason"], "not_enforced");
    let warnings = world.remit.status()["warnings"].to_string();
    assert!(warnings.contains("refuses nothing"), "{warnings}");
}

#[test]
fn in_shadow_a_task_still_ends_where_its_grants_do() {
    let world = World::new(
        "{ path: policy, mode: shadow }",
        &[("policy/all.rego", OPEN)],
    );
    let request = testkit::http().delete(world.remit.call("/notes/a"));
    let answer = request.bearer_auth(&world.token).send().unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.upstream.received().len(), 0);
}

#[test]
fn recorded_calls_are_replayed() {
    let world = World::new(
        "{ path: policy, record: { calls: 10 } }",
        &[("policy/all.rego", OPEN), ("next/all.rego", READ_ONLY)],
    );
    assert_eq!(world.get(), StatusCode::OK);
    assert_eq!(world.post().status(), StatusCode::OK);
    world.report(2);
    let file = world.site.path("state/calls.jsonl");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(!kept.contains("private"), "{kept}");
    assert!(!kept.contains(&world.token));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let replay = |folder: &str| {
        let folder = world.site.path(folder);
        world.policy(&[
            "replay",
            folder.to_str().unwrap(),
            "--calls",
            file.to_str().unwrap(),
        ])
    };
    let same = replay("policy");
    assert!(same.status.success(), "{same:?}");
    let other = replay("next");
    assert_eq!(other.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&other.stdout).unwrap();
    assert_eq!(report["calls"], 2);
    assert_eq!(report["differences"][0]["shadow"]["reason"], "read_only");

    // One of them, explained by its id.
    let decided = world.post().headers()["remit-decision"].clone();
    let id = decided.to_str().unwrap();
    until("it is kept", || {
        std::fs::read_to_string(&file).unwrap().contains(id)
    });
    let folder = world.site.path("next");
    let explain = |id: &str| {
        let calls = file.to_str().unwrap();
        let folder = folder.to_str().unwrap();
        world.policy(&["explain", folder, "--call", id, "--calls", calls])
    };
    let explained: Value = serde_json::from_slice(&explain(id).stdout).unwrap();
    assert_eq!(explained["reason"], "read_only");
    let unknown = explain("nobody");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("unknown_call"));
}
