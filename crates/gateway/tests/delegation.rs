//! Tasks that agents delegate to each other, over a served gateway: less than the parent has, seen in every record, and
//! ended with it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::io::Read;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// All that the task's grants cover, but nothing of grandchildren is written.
const POLICY: &str = r#"package remit.all

allow if true

deny contains "too_far" if {
	count(input.task.chain) > 1
	input.tool.access == "write"
}
"#;

struct World {
    site: Site,
    remit: Remit,
    notes: Upstream,
    _events: Upstream,
}

impl World {
    /// Two tools: `notes`, with a credential of its own for each task, and `events`, which never stops to answer.
    fn start(more: &str) -> Self {
        let site = Site::new(REMIT);
        let notes = site.run(Upstream::start(Answer::Echo));
        let events = site.run(Upstream::start(Answer::Ticks(2, Duration::from_secs(600))));
        site.write("policy/all.rego", POLICY);
        let mint = site.script(
            "mint",
            "cat > /dev/null\necho '{\"secret\":\"canary-of-a-lease\"}'\n",
        );
        site.config(&format!(
            "audit: {{ path: audit.jsonl }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
    credentials: {{ read: {{ provider: cmd, command: [{}] }} }}
  events:
    upstream: {}
    access: {{ read: [\"GET /**\"] }}
{more}",
            notes.url(),
            mint.display(),
            events.url()
        ));
        let remit = site.serve();
        Self {
            site,
            remit,
            notes,
            _events: events,
        }
    }

    fn open(&self) -> (String, String) {
        self.remit.open_task(&[
            "--tool",
            "notes",
            "--tool",
            "events",
            "--access",
            "read,write",
            "--agent",
            "planner",
        ])
    }

    fn delegate(&self, task: &str, token: &str, request: &Value) -> Response {
        let url = self.remit.control(&format!("/v1/tasks/{task}/delegate"));
        let request = testkit::http().post(url).bearer_auth(token).json(request);
        request.send().unwrap()
    }

    /// A child to read both tools.
    fn child(&self, (task, token): (&str, &str), agent: &str) -> (String, String) {
        let answer = self.delegate(task, token, &reading(agent));
        assert_eq!(answer.status(), StatusCode::CREATED);
        let opened: Value = answer.json().unwrap();
        let text = |name: &str| opened[name].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }

    #[track_caller]
    fn refused(&self, task: &str, token: &str, request: &Value, (status, code): (u16, &str)) {
        let answer = self.delegate(task, token, request);
        let found = answer.status().as_u16();
        let problem: Value = answer.json().unwrap();
        assert_eq!(
            (found, &problem["code"]),
            (status, &json!(code)),
            "{problem}"
        );
    }

    fn get(&self, path: &str, token: &str) -> Response {
        let request = testkit::http().get(self.remit.call(path));
        request.bearer_auth(token).send().unwrap()
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.site.path("audit.jsonl")).unwrap();
        let line = |line: &str| serde_json::from_str(line).unwrap();
        text.lines().map(line).collect()
    }
}

fn reading(agent: &str) -> Value {
    json!({ "agent": agent, "grants": [
        { "tool": "notes", "access": ["read"] },
        { "tool": "events", "access": ["read"] },
    ]})
}

fn code(answer: Response) -> String {
    let problem: Value = answer.json().unwrap();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn an_agent_hands_on_less_than_it_has() {
    let world = World::start("");
    let (parent, token) = world.open();
    let (child, child_token) = world.child((&parent, &token), "researcher");
    let (grandchild, last) = world.child((&child, &child_token), "reader");
    let said = claims(&last);
    assert_eq!(said["txn"], grandchild);
    assert_eq!(said["client_id"], "reader");
    let act =
        json!({ "sub": "reader", "act": { "sub": "researcher", "act": { "sub": "planner" } } });
    assert_eq!(said["act"], act);
    assert_eq!(world.get("/notes/a", &last).status(), StatusCode::OK);
    assert_eq!(world.notes.received().len(), 1);
    // It has no more than it was given, whatever its parents have.
    let request = testkit::http().post(world.remit.call("/notes/a"));
    let written = request
        .bearer_auth(&child_token)
        .json(&json!({}))
        .send()
        .unwrap();
    assert_eq!(code(written), "out_of_remit");
    let shown = world.remit.command(&["task", "tree", &parent]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("  └ {grandchild}")), "{shown}");
    let records = || {
        let lines = world.audit();
        lines
            .into_iter()
            .find(|line| line["kind"] == "closed" && line["task"] == grandchild)
    };
    until("the call is closed", || records().is_some());
    let record = records().unwrap();
    assert_eq!(record["parent"], child);
    assert_eq!(record["chain"], json!(["planner", "researcher"]));
}

#[test]
fn policy_sees_the_whole_chain() {
    let world = World::start("");
    let (parent, token) = world.open();
    let writing = |agent: &str| json!({ "agent": agent, "grants": [{ "tool": "notes", "access": ["write"] }] });
    let write = |token: &str| {
        let request = testkit::http().post(world.remit.call("/notes/a"));
        request.bearer_auth(token).json(&json!({})).send().unwrap()
    };
    let answer = world.delegate(&parent, &token, &writing("researcher"));
    let child: Value = answer.json().unwrap();
    let child_token = child["token"].as_str().unwrap();
    assert_eq!(write(child_token).status(), StatusCode::OK);
    let answer = world.delegate(
        child["id"].as_str().unwrap(),
        child_token,
        &writing("writer"),
    );
    let grandchild: Value = answer.json().unwrap();
    let refused: Value = write(grandchild["token"].as_str().unwrap()).json().unwrap();
    assert_eq!(refused["reason"], "too_far");
}

#[test]
fn c3_c4_more_than_the_parent_has_is_refused() {
    let world = World::start("tasks: { delegation: { depth: 1, children: 2 } }\n");
    let (parent, token) = world.open();
    let ask = |grants: Value| json!({ "agent": "researcher", "grants": grants });
    let wider = (403, "wider_than_parent");
    for grants in [
        json!([{ "tool": "shop", "access": ["read"] }]),
        json!([{ "tool": "notes", "access": ["execute"] }]),
    ] {
        world.refused(&parent, &token, &ask(grants), wider);
    }
    let mut long = reading("researcher");
    long["ttl_seconds"] = json!(100_000);
    world.refused(&parent, &token, &long, wider);
    world.refused(
        &parent,
        &token,
        &reading("planner"),
        (403, "delegation_loop"),
    );
    let mut owned = reading("researcher");
    owned["owner"] = json!("somebody else");
    world.refused(&parent, &token, &owned, (400, "invalid_body"));
    let mut nobody = reading("a b");
    world.refused(&parent, &token, &nobody, (400, "invalid_opening"));
    nobody["agent"] = json!("researcher");
    nobody["grants"] = json!([]);
    world.refused(&parent, &token, &nobody, (400, "invalid_opening"));
    // Nothing was opened by any of them.
    assert_eq!(world.remit.status()["counts"]["open_tasks"], 1);
    let (child, child_token) = world.child((&parent, &token), "researcher");
    let deeper = reading("reader");
    world.refused(&child, &child_token, &deeper, (403, "delegation_too_deep"));
    world.child((&parent, &token), "reader");
    world.refused(
        &parent,
        &token,
        &reading("third"),
        (409, "too_many_children"),
    );
}

#[test]
fn c1_nobody_delegates_from_anothers_task() {
    let world = World::start("");
    let (parent, token) = world.open();
    let (other, other_token) = world.open();
    world.refused(&parent, &other_token, &reading("x"), (404, "unknown_task"));
    world.refused(
        &parent,
        "not-a-token",
        &reading("x"),
        (401, "invalid_token"),
    );
    let mut forged = token.clone();
    forged.pop();
    world.refused(&parent, &forged, &reading("x"), (401, "invalid_token"));
    assert!(
        world
            .remit
            .command(&["task", "end", &other])
            .status
            .success()
    );
    world.refused(&other, &other_token, &reading("x"), (403, "task_ended"));
    // An agent's token is for nothing else there.
    let url = world.remit.control("/v1/tasks");
    let listed = testkit::http().get(url).bearer_auth(&token).send().unwrap();
    assert_eq!(listed.status(), StatusCode::UNAUTHORIZED);
    // An operator may.
    let operator = world.remit.operator_token().to_owned();
    let answer = world.delegate(&parent, &operator, &reading("researcher"));
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[test]
fn admission_decides_who_hands_on_what() {
    let world = World::start("");
    world.site.write(
        "policy/admit.rego",
        "package remit.admit\n\nallow if input.operator.role == \"operator\"\n\nallow if {\n\tinput.agent.id == \"planner\"\n\tinput.task.agent == \"researcher\"\n}\n",
    );
    until("the policy is applied", || {
        let (parent, token) = world.open();
        world.delegate(&parent, &token, &reading("reader")).status() == StatusCode::FORBIDDEN
    });
    let (parent, token) = world.open();
    world.refused(
        &parent,
        &token,
        &reading("reader"),
        (403, "admission_undefined"),
    );
    world.child((&parent, &token), "researcher");
}

#[test]
fn c2_a_paused_family_makes_no_calls() {
    let world = World::start("");
    let (parent, token) = world.open();
    let (child, child_token) = world.child((&parent, &token), "researcher");
    let mut stream = world.get("/events/a", &child_token);
    let mut first = [0; 9];
    stream.read_exact(&mut first).unwrap();
    assert!(
        world
            .remit
            .command(&["task", "pause", &parent])
            .status
            .success()
    );
    until("the stream is cut", || {
        let cut = |line: &Value| line["task"] == child && line["ending"] == "cut";
        world.audit().iter().any(cut)
    });
    assert_eq!(code(world.get("/notes/a", &child_token)), "task_paused");
    world.refused(&child, &child_token, &reading("x"), (403, "task_paused"));
    let shown = world.remit.command(&["task", "list", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(
        shown
            .as_array()
            .unwrap()
            .iter()
            .all(|task| task["state"] == "paused")
    );
    assert!(
        world
            .remit
            .command(&["task", "resume", &parent])
            .status
            .success()
    );
    assert_eq!(world.get("/notes/a", &child_token).status(), StatusCode::OK);
}

/// A parent, two children and a grandchild work; the parent ends: refused, cut, revoked, recorded.
#[test]
fn c5_c6_the_end_of_a_parent_is_that_of_its_family() {
    let world = World::start("");
    let (parent, token) = world.open();
    let (first, first_token) = world.child((&parent, &token), "researcher");
    let (second, second_token) = world.child((&parent, &token), "writer");
    let (grandchild, last_token) = world.child((&first, &first_token), "reader");
    let family = [&parent, &first, &second, &grandchild];
    let tokens = [&token, &first_token, &second_token, &last_token];
    let mut streams: Vec<Response> = Vec::new();
    for token in tokens {
        assert_eq!(world.get("/notes/a", token).status(), StatusCode::OK);
        let mut stream = world.get("/events/a", token);
        let mut begun = [0; 9];
        stream.read_exact(&mut begun).unwrap();
        streams.push(stream);
    }
    let ended = world.remit.command(&["task", "end", &parent, "--json"]);
    let ended: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(ended["below"].as_array().unwrap().len(), 3);
    // What could not be revoked is said of each lease.
    let leases = ended["leases"].as_array().unwrap();
    assert_eq!(leases.len(), 4);
    for lease in leases {
        assert_eq!(lease["state"], "ended", "{lease}");
    }
    for mut stream in streams {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
        // It would have sent more in ten minutes.
        assert!(rest.is_empty());
    }
    for token in tokens {
        assert_eq!(code(world.get("/notes/a", token)), "task_ended");
    }
    let told = |task: &str| -> Vec<Value> {
        let lines = world.audit().into_iter();
        lines.filter(|line| line["task"] == task).collect()
    };
    // All are refused at once: before the slowest of them is recorded.
    for id in family {
        let event = |line: &Value| line["kind"] == "task" && line["event"] == "ended";
        until("the end is recorded", || told(id).iter().any(event));
        let lines = told(id);
        let place = |what: &dyn Fn(&Value) -> bool| lines.iter().position(what).unwrap();
        let opened = place(&|line| line["event"] == "opened" || line["event"] == "delegated");
        let cut = place(&|line| line["kind"] == "closed" && line["ending"] == "cut");
        assert!(opened < cut, "{lines:#?}");
        assert!(cut < place(&event), "{lines:#?}");
        // Nothing is let through after the end, whatever is refused then.
        let after = lines.iter().skip(place(&event));
        let mut allowed = after.filter(|line| line["verdict"] == "allow");
        assert_eq!(allowed.next(), None);
        let ended = &lines[place(&event)];
        assert_eq!(ended["leases"][0]["tool"], "notes", "{ended}");
        let because = if id == &parent {
            "completed"
        } else {
            "parent_ended"
        };
        assert_eq!(ended["because"], because);
    }
    assert_eq!(
        told(&parent)
            .iter()
            .find(|line| line["event"] == "ended")
            .unwrap()["by"],
        "operator"
    );
    let verified = world.site.command(&["audit", "verify", "audit.jsonl"]);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
}
