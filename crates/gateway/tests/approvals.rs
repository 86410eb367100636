//! Calls that people must approve, through a served gateway: asked for, granted, made once, and never without.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use std::process::{Command, Output};

use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Everything is allowed; what is written is escalated, by path to different people.
const POLICY: &str = r#"package remit.tools.notes

allow if true

escalate contains {"reason": "writing", "message": "Somebody has to look at it."} if {
	input.tool.access == "write"
	not startswith(input.request.path, "/named")
}

escalate contains {"reason": "two_needed", "approvers": {"roles": ["approver"], "count": 2}} if {
	startswith(input.request.path, "/two")
}

escalate contains {"reason": "named", "approvers": {"names": ["anna"]}} if {
	startswith(input.request.path, "/named")
}

labels contains "seen" if startswith(input.request.path, "/seen")

deny contains "never" if startswith(input.request.path, "/never")

deny contains "not_by_bert" if {
	startswith(input.request.path, "/picky")
	"bert" in input.approval.by
}
"#;

const DESK: &str = r#"package remit.tools.desk

allow if true

escalate contains "refunds_are_approved" if input.tool.operation == "refund"
"#;

/// The names of operators are the beginnings of their tokens.
const OPERATORS: [(&str, &str); 6] = [
    ("olga", "operator"),
    ("otto", "orchestrator"),
    ("anna", "approver"),
    ("bert", "approver"),
    ("carl", "approver"),
    ("vera", "viewer"),
];

fn token(name: &str) -> String {
    format!("{name}-token-0123456789")
}

/// A served gateway before two tools, and a task of the agent `triage` that `otto` opened for `carl`.
struct World {
    remit: Remit,
    http: Client,
    upstream: Upstream,
    task: String,
    token: String,
    site: Site,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let site = Site::new(REMIT);
        let upstream = site.run(Upstream::start(Answer::json(json!({ "done": true }))));
        site.write("policy/notes.rego", POLICY);
        site.write("policy/desk.rego", DESK);
        let minted = site.path("minted").display().to_string();
        let mint = site.script(
            "mint",
            &format!("echo run >> {minted}\necho '{{\"secret\": \"canary-of-a-tool\"}}'\n"),
        );
        let operators: Vec<String> = OPERATORS
            .iter()
            .map(|(name, role)| {
                format!("{{ name: {name}, token: env:TOKEN_{name}, role: {role} }}")
            })
            .collect();
        site.config(&format!(
            "{more}
audit: {{ path: audit.jsonl }}
control: {{ operators: [{}] }}
tools:
  notes:
    upstream: {url}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
  keyed:
    upstream: {url}
    access: {{ write: [\"POST /**\"] }}
    credentials: {{ write: {{ provider: cmd, command: [{mint}] }} }}
  blobs:
    upstream: {url}
    body: stream
    access: {{ write: [\"POST /**\"] }}
  desk:
    upstream: {url}/mcp
    protocol: mcp
    access: {{ read: [find], write: [refund] }}
",
            operators.join(", "),
            url = upstream.url(),
            mint = mint.display(),
        ));
        for tool in ["blobs", "keyed"] {
            site.write(
                &format!("policy/{tool}.rego"),
                &format!(
                    "package remit.tools.{tool}\n\nallow if true\n\nescalate contains \"writing\" if true\n"
                ),
            );
        }
        let remit = serve(&site);
        let (task, token) = open(&remit);
        Self {
            remit,
            http: testkit::http(),
            upstream,
            task,
            token,
            site,
        }
    }

    /// The same state, served anew after a `kill -9`.
    fn restarted(self) -> Self {
        let Self {
            remit,
            http,
            upstream,
            task,
            token,
            site,
        } = self;
        remit.kill();
        Self {
            remit: serve(&site),
            http,
            upstream,
            task,
            token,
            site,
        }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.http.post(self.remit.call(path));
        request.bearer_auth(&self.token)
    }

    fn write(&self, path: &str, text: &str) -> Response {
        let body = json!({ "text": text });
        self.post(path).json(&body).send().unwrap()
    }

    /// One call that is refused, of which nothing reached the tool.
    #[track_caller]
    fn refused(&self, path: &str, text: &str, code: &str) -> Value {
        self.upstream.forget();
        let problem: Value = self.write(path, text).json().unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert!(self.upstream.received().is_empty());
        problem
    }

    /// Asks for an approval, and answers with its id.
    #[track_caller]
    fn asked(&self, path: &str, text: &str) -> String {
        let problem = self.refused(path, text, "approval_required");
        problem["approval"].as_str().unwrap().to_owned()
    }

    /// One call that reaches the tool.
    #[track_caller]
    fn passes(&self, path: &str, text: &str) {
        self.upstream.forget();
        let answer = self.write(path, text);
        let status = answer.status();
        assert!(status.is_success(), "{}", answer.text().unwrap());
        let sent = self.upstream.only();
        assert_eq!(
            serde_json::from_slice::<Value>(&sent.body).unwrap(),
            json!({ "text": text })
        );
    }

    fn command(&self, operator: &str, arguments: &[&str]) -> Output {
        command(&self.remit, operator, arguments)
    }

    /// What an answer of an operator's comes to: the state, or the code of the refusal.
    fn vote(&self, operator: &str, vote: &str, id: &str) -> String {
        let output = self.command(operator, &["approval", vote, id, "--json"]);
        let (bytes, pointer) = if output.status.success() {
            (output.stdout, "/state")
        } else {
            (output.stderr, "/error/code")
        };
        let told: Value = serde_json::from_slice(&bytes).unwrap();
        told.pointer(pointer).unwrap().as_str().unwrap().to_owned()
    }

    fn grant(&self, operator: &str, id: &str) -> String {
        self.vote(operator, "grant", id)
    }

    fn state(&self, id: &str) -> String {
        let output = self.command("vera", &["approval", "show", id, "--json"]);
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        view["state"].as_str().unwrap().to_owned()
    }

    fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = vec!["approval", "list", "--json"];
        all.extend(arguments);
        let output = self.command("vera", &all);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn serve(site: &Site) -> Remit {
    let names: Vec<(String, String)> = OPERATORS
        .iter()
        .map(|(name, _)| (format!("TOKEN_{name}"), token(name)))
        .collect();
    let environment: Vec<(&str, &str)> = names
        .iter()
        .map(|(name, token)| (name.as_str(), token.as_str()))
        .collect();
    site.serve_with(&environment)
}

fn command(remit: &Remit, operator: &str, arguments: &[&str]) -> Output {
    Command::new(REMIT)
        .args(arguments)
        .env("REMIT_CONTROL", remit.control(""))
        .env("REMIT_OPERATOR_TOKEN", token(operator))
        .output()
        .unwrap()
}

fn open(remit: &Remit) -> (String, String) {
    let wish = [
        "task",
        "open",
        "--json",
        "--agent",
        "triage",
        "--owner",
        "carl",
        "--tool",
        "notes",
        "--tool",
        "desk",
        "--tool",
        "blobs",
        "--tool",
        "keyed",
        "--access",
        "read,write",
    ];
    let output = command(remit, "otto", &wish);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let opened: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |key: &str| opened[key].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

#[test]
fn an_escalated_call_reaches_no_tool_until_it_is_approved_and_then_once() {
    let world = World::new();
    let problem = world.refused("/notes/a", "one", "approval_required");
    assert_eq!(problem["status"], 403);
    assert_eq!(problem["reason"], "writing");
    assert_eq!(problem["message"], "Somebody has to look at it.");
    let id = problem["approval"].as_str().unwrap();
    let link = world.remit.control(&format!("/v1/approvals/{id}"));
    assert_eq!(problem["link"], link);
    assert_eq!(world.asked("/notes/a", "one"), id, "asked once");

    assert_eq!(world.grant("anna", id), "granted");
    world.passes("/notes/a", "one");
    assert_eq!(world.state(id), "spent");
    assert_ne!(world.asked("/notes/a", "one"), id);
    assert_eq!(world.grant("bert", id), "approval_not_waiting");
}

#[test]
fn an_approval_is_of_one_call_alone() {
    let world = World::new();
    let id = world.asked("/notes/a", "one");
    world.grant("anna", &id);
    assert_ne!(world.asked("/notes/a", "two"), id);
    assert_ne!(world.asked("/notes/b", "one"), id);
    assert_ne!(world.asked("/notes/a?force=1", "one"), id);
    let body = json!({ "text": "one" });
    let other = world.post("/notes/a").header("x-account", "2").json(&body);
    let problem: Value = other.send().unwrap().json().unwrap();
    assert_eq!(problem["code"], "approval_required");
    assert_ne!(problem["approval"], id.as_str());
    // Another task's call is another call.
    let (task, token) = open(&world.remit);
    let mut world = World { token, ..world };
    assert_ne!(task, world.task);
    assert_ne!(world.asked("/notes/a", "one"), id);
    assert_eq!(world.state(&id), "granted");
    let output = world.command("olga", &["task", "end", &task, "--json"]);
    assert!(output.status.success());
    world.task = task;
    assert_eq!(world.list(&["--task", &world.task])[0]["state"], "expired");
}

#[test]
fn a_key_that_comes_off_is_neither_shown_nor_told_apart_by() {
    let world = World::new();
    let id = world.asked("/notes/a?access_token=canary-in-query", "one");
    let shown = world.command("vera", &["approval", "show", &id, "--json"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        !shown.contains("canary") && !shown.contains(&world.token),
        "{shown}"
    );
    world.grant("anna", &id);
    world.passes("/notes/a", "one");
}

#[test]
fn two_of_two_are_needed() {
    let world = World::new();
    let id = world.asked("/notes/two", "one");
    assert_eq!(world.grant("anna", &id), "waiting");
    assert_eq!(world.grant("anna", &id), "waiting");
    world.refused("/notes/two", "one", "approval_required");
    // She answers what anybody may, and is none of the approvers.
    assert_eq!(world.grant("olga", &id), "waiting");
    world.refused("/notes/two", "one", "approval_required");
    assert_eq!(world.grant("bert", &id), "granted");
    world.passes("/notes/two", "one");
}

#[test]
fn nobody_approves_for_its_own_task() {
    let world = World::new();
    let id = world.asked("/notes/a", "one");
    assert_eq!(world.grant("carl", &id), "own_task", "its owner");
    assert_eq!(world.grant("otto", &id), "forbidden", "no approver at all");
    assert_eq!(world.grant("vera", &id), "forbidden");
    assert_eq!(world.state(&id), "waiting");
    // Whoever opens a task may be an operator that may approve.
    let wish = [
        "--agent", "triage", "--owner", "x", "--tool", "notes", "--access", "write",
    ];
    let mut all = vec!["task", "open", "--json"];
    all.extend(wish);
    let opened: Value = serde_json::from_slice(&world.command("olga", &all).stdout).unwrap();
    let world = World {
        token: opened["token"].as_str().unwrap().to_owned(),
        ..world
    };
    let id = world.asked("/notes/a", "one");
    assert_eq!(world.grant("olga", &id), "own_task", "its opener");
    assert_eq!(world.grant("carl", &id), "granted");
}

#[test]
fn only_those_who_are_named_answer() {
    let world = World::new();
    let id = world.asked("/notes/named", "one");
    assert_eq!(world.grant("bert", &id), "not_an_approver");
    assert_eq!(world.vote("bert", "refuse", &id), "not_an_approver");
    assert_eq!(world.grant("anna", &id), "granted");
    world.passes("/notes/named", "one");
}

#[test]
fn what_is_refused_stays_refused() {
    let world = World::new();
    let id = world.asked("/notes/a", "one");
    world.grant("anna", &id);
    assert_eq!(world.vote("bert", "refuse", &id), "refused");
    let problem = world.refused("/notes/a", "one", "approval_refused");
    assert_eq!(problem["approval"], id.as_str());
    assert_eq!(world.grant("anna", &id), "approval_not_waiting");
    world.asked("/notes/a", "two");
}

#[test]
fn what_nobody_answers_in_time_is_over() {
    let world = World::with("approvals: { ttl: 1s }");
    let id = world.asked("/notes/a", "one");
    until("it has expired", || world.state(&id) == "expired");
    assert_eq!(world.grant("anna", &id), "approval_not_waiting");
    world.refused("/notes/a", "one", "approval_expired");
    let again = world.asked("/notes/a", "one");
    assert_ne!(again, id);
    // What is granted and not used is over, too.
    assert_eq!(world.grant("anna", &again), "granted");
    until("it has expired", || world.state(&again) == "expired");
    world.refused("/notes/a", "one", "approval_expired");
}

#[test]
fn a_no_of_policy_wins_over_an_approval() {
    let world = World::new();
    let problem = world.refused("/notes/never", "one", "denied");
    assert_eq!(problem["approval"], Value::Null);
    // What is denied for who approved it is denied, and the approval stays for nothing.
    let id = world.asked("/notes/picky", "one");
    world.grant("bert", &id);
    let problem = world.refused("/notes/picky", "one", "denied");
    assert_eq!(problem["reason"], "not_by_bert");
    assert_eq!(world.state(&id), "granted");
}

#[test]
fn the_end_of_a_task_is_the_end_of_its_approvals() {
    let world = World::new();
    let id = world.asked("/notes/a", "one");
    world.grant("anna", &id);
    let ended = world.command("olga", &["task", "end", &world.task, "--json"]);
    assert!(ended.status.success());
    assert_eq!(world.state(&id), "expired");
    world.refused("/notes/a", "one", "task_ended");
}

#[test]
fn a_restart_forgets_no_approval_and_none_that_was_spent() {
    let world = World::new();
    let granted = world.asked("/notes/granted", "one");
    world.grant("anna", &granted);
    let spent = world.asked("/notes/spent", "one");
    world.grant("anna", &spent);
    world.passes("/notes/spent", "one");
    let waiting = world.asked("/notes/waiting", "one");
    let refused = world.asked("/notes/refused", "one");
    world.vote("anna", "refuse", &refused);
    let world = world.restarted();
    assert_ne!(world.asked("/notes/spent", "one"), spent);
    assert_eq!(world.asked("/notes/waiting", "one"), waiting);
    world.refused("/notes/refused", "one", "approval_refused");
    world.passes("/notes/granted", "one");
    let world = world.restarted();
    assert_ne!(world.asked("/notes/granted", "one"), granted);
}

#[test]
fn of_a_hundred_calls_at_once_one_approval_lets_one_pass() {
    let world = World::new();
    let id = world.asked("/notes/a", "one");
    world.grant("anna", &id);
    world.upstream.forget();
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| world.write("/notes/a", "one").status().as_u16()))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == 403).count(), 99);
    assert_eq!(world.upstream.received().len(), 1);
    // All the others ask for one more.
    assert_eq!(world.list(&["--only", "waiting"]).len(), 1);
}

#[test]
fn d10_a_call_that_waits_obtains_no_credential() {
    let world = World::new();
    let minted = || std::fs::read_to_string(world.site.path("minted")).unwrap_or_default();
    let id = world.asked("/keyed/a", "one");
    assert_eq!(minted(), "");
    world.grant("anna", &id);
    assert_eq!(minted(), "", "an approval is no call");
    world.passes("/keyed/a", "one");
    assert_eq!(minted(), "run\n");
    let bearer = world.upstream.only();
    let bearer = bearer.header("authorization").unwrap();
    assert_eq!(bearer, "Bearer canary-of-a-tool");
}

#[test]
fn the_audit_names_the_approval_of_a_call() {
    let world = World::new();
    let id = world.asked("/notes/a", "one");
    world.grant("anna", &id);
    world.passes("/notes/a", "one");
    let lines = || std::fs::read_to_string(world.site.path("audit.jsonl")).unwrap();
    let told = |verdict: &str| {
        lines().lines().any(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["approval"] == id.as_str() && line["verdict"] == verdict
        })
    };
    until("both calls are told", || told("escalate") && told("allow"));
}

#[test]
fn an_mcp_call_is_asked_for_in_its_own_words() {
    let world = World::new();
    let call = |id: u64, amount: u64| {
        let message = json!({
            "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "refund", "arguments": { "amount": amount } },
        });
        let answer = world.post("/desk").json(&message).send().unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        answer.json::<Value>().unwrap()
    };
    let refused = call(7, 10);
    assert_eq!(refused["id"], 7);
    let data = &refused["error"]["data"];
    assert_eq!(data["code"], "approval_required");
    assert_eq!(data["reason"], "refunds_are_approved");
    let id = data["approval"].as_str().unwrap();
    assert!(data["link"].as_str().unwrap().ends_with(id));
    assert!(world.upstream.received().is_empty());
    assert_eq!(world.grant("anna", id), "granted");
    assert_eq!(call(8, 11)["error"]["data"]["code"], "approval_required");
    assert!(world.upstream.received().is_empty());
    assert_eq!(call(9, 10), json!({ "done": true }));
    assert_eq!(world.upstream.received().len(), 1);
}

/// A session that an MCP client begins, with what it says that it can do.
fn begin(world: &World, id: &str, capabilities: &Value) {
    let answer =
        json!({ "jsonrpc": "2.0", "id": 1, "result": { "protocolVersion": "2025-11-25" } });
    let answer = Answer::json(answer).with("mcp-session-id", id);
    world.upstream.answer(answer);
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": capabilities },
    });
    let answer = world.post("/desk").json(&message).send().unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[test]
fn a_client_of_mcp_that_can_show_a_link_is_given_one() {
    let world = World::new();
    begin(
        &world,
        "can",
        &json!({ "elicitation": { "url": {}, "form": {} } }),
    );
    begin(&world, "forms", &json!({ "elicitation": { "form": {} } }));
    begin(&world, "old", &json!({ "elicitation": {} }));
    begin(&world, "odd", &json!({ "elicitation": { "url": null } }));
    let refund = |session: &str, token: &str| {
        let message = json!({
            "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": { "name": "refund", "arguments": { "amount": 10 } },
        });
        let request = world
            .http
            .post(world.remit.call("/desk"))
            .bearer_auth(token);
        let request = request.header("mcp-session-id", session).json(&message);
        let answer = request.send().unwrap().json::<Value>().unwrap();
        assert_eq!(answer["id"], 7);
        answer["error"].clone()
    };
    let asked = refund("can", &world.token);
    assert_eq!(asked["code"], -32042);
    let link = &asked["data"]["elicitations"][0];
    let id = link["elicitationId"].as_str().unwrap();
    assert_eq!(link["mode"], "url");
    assert!(link["url"].as_str().unwrap().ends_with(id), "{link}");
    assert!(
        link["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    for session in ["forms", "old", "odd", "unknown"] {
        let refused = refund(session, &world.token);
        assert_eq!(refused["code"], 403, "{session}");
        assert!(refused["data"]["approval"].is_string(), "{refused}");
    }
    // Another task that names the session is told as one that has none.
    let (_, other) = open(&world.remit);
    assert_eq!(refund("can", &other)["code"], 403);
    assert_eq!(world.grant("anna", id), "granted");
    world
        .upstream
        .answer(Answer::json(json!({ "id": 7, "done": true })));
    assert_eq!(refund("can", &world.token), Value::Null);
    // A refusal is no question.
    let asked = refund("can", &world.token);
    let id = asked["data"]["elicitations"][0]["elicitationId"].as_str();
    assert_eq!(world.vote("anna", "refuse", id.unwrap()), "refused");
    assert_eq!(refund("can", &world.token)["code"], 403);
}

#[test]
fn a_call_that_nobody_could_read_is_not_asked_for() {
    let world = World::new();
    world.refused("/blobs/a", "one", "not_approvable");
    world.refused("/notes/a", &"x".repeat(33 * 1024), "not_approvable");
    let number = world
        .post("/notes/a")
        .header("content-type", "application/json");
    let number = number.body(r#"{"n": 9007199254740993}"#).send().unwrap();
    let problem: Value = number.json().unwrap();
    assert_eq!(problem["code"], "not_approvable", "{problem}");
    assert!(world.list(&[]).is_empty());
}

#[test]
fn one_task_does_not_fill_the_list_of_all() {
    let world = World::new();
    for number in 0..32 {
        world.asked("/notes/a", &number.to_string());
    }
    let problem = world.refused("/notes/a", "more", "too_many_approvals");
    assert_eq!(problem["status"], 429);
    assert_eq!(world.list(&["--only", "waiting"]).len(), 32);
    let (_, token) = open(&world.remit);
    World { token, ..world }.asked("/notes/a", "more");
}

#[test]
fn what_is_explained_asks_for_nothing_and_spends_nothing() {
    let world = World::new();
    let explain = || {
        let arguments = [
            "explain",
            "POST",
            "/notes/a",
            "--task",
            &world.task,
            "-d",
            r#"{"text":"one"}"#,
            "--json",
        ];
        let output = world.command("olga", &arguments);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(explain()["code"], "approval_required");
    assert!(world.list(&[]).is_empty());
    let id = world.asked("/notes/a", "one");
    world.grant("anna", &id);
    explain();
    assert_eq!(world.state(&id), "granted");
    world.passes("/notes/a", "one");
}

#[test]
fn where_policy_does_not_count_nothing_is_asked_for() {
    let world = World::new();
    let config = std::fs::read_to_string(world.site.path("remit.yaml")).unwrap();
    let config = config.replace("path: policy }", "path: policy, mode: shadow }");
    world.site.replace("remit.yaml", &config);
    world.remit.signal("-HUP");
    until("policy does not count", || {
        world.write("/notes/a", "one").status().is_success()
    });
    let before = world.list(&[]).len();
    world.passes("/notes/b", "two");
    assert_eq!(world.list(&[]).len(), before);
}

#[test]
fn people_read_what_they_approve() {
    let world = World::new();
    let id = world.asked("/notes/a?q=1", "one \u{202e}eno");
    let listed = world.command("anna", &["approval", "list", "--only", "waiting"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains(&id) && listed.contains("POST /a"),
        "{listed}"
    );
    let shown = world.command("anna", &["approval", "show", &id]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "request    POST /a",
        "query      q: 1",
        r#""text": "one \u{202e}eno""#,
        "owner      carl",
        "because    writing: Somebody has to look at it.",
        "needs      1 of anybody who may approve (0 so far)",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let granted = world.command(
        "anna",
        &["approval", "grant", &id, "--comment", "as agreed"],
    );
    let granted = String::from_utf8(granted.stdout).unwrap();
    assert!(
        granted.contains("notes POST /** is approved, once"),
        "{granted}"
    );
    let shown = world.command("anna", &["approval", "show", &id]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("answer     anna (approver) approved at"),
        "{shown}"
    );
    assert!(shown.contains("as agreed"), "{shown}");
}

#[test]
fn a_held_call_goes_on_when_it_is_approved() {
    let world = World::with("approvals: { hold: 20s }");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| world.write("/notes/a", "one"));
        until("it waits", || world.list(&["--only", "waiting"]).len() == 1);
        assert!(world.upstream.received().is_empty());
        let id = world.list(&[])[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.grant("anna", &id), "granted");
        assert_eq!(call.join().unwrap().status().as_u16(), 200);
        assert_eq!(world.upstream.received().len(), 1);
        assert_eq!(world.state(&id), "spent");
    });
}

#[test]
fn a_held_call_is_outside_a_grant_that_a_label_ended_meanwhile() {
    let mut world = World::with("approvals: { hold: 20s }");
    let grant = json!({ "tool": "notes", "access": ["write"], "unless_labels": ["seen"] });
    let looking = json!({ "tool": "notes", "access": ["read"] });
    let opened = world.command(
        "otto",
        &[
            "task",
            "open",
            "--agent",
            "triage",
            "--owner",
            "carl",
            "--json",
            "--grant",
            &grant.to_string(),
            "--grant",
            &looking.to_string(),
        ],
    );
    let opened: Value = serde_json::from_slice(&opened.stdout).unwrap();
    world.token = opened["token"].as_str().unwrap().to_owned();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| world.write("/notes/a", "one"));
        until("it waits", || world.list(&["--only", "waiting"]).len() == 1);
        let seen = world.http.get(world.remit.call("/notes/seen"));
        let seen = seen.bearer_auth(&world.token).send().unwrap();
        assert!(seen.status().is_success());
        world.upstream.forget();
        let id = world.list(&[])[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.grant("anna", &id), "granted");
        let problem: Value = call.join().unwrap().json().unwrap();
        assert_eq!(problem["code"], "out_of_remit", "{problem}");
        assert_eq!(problem["reason"], "label_limit");
        assert!(world.upstream.received().is_empty());
        assert_eq!(world.state(&id), "granted");
    });
}

#[test]
fn a_held_call_ends_when_it_is_refused_or_nobody_answers() {
    let world = World::with("approvals: { hold: 5s }");
    world.refused("/notes/a", "one", "approval_required");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| world.refused("/notes/b", "one", "approval_refused"));
        until("it waits", || world.list(&["--only", "waiting"]).len() == 2);
        let id = world.list(&[])[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.vote("anna", "refuse", &id), "refused");
        call.join().unwrap();
    });
}

#[test]
fn nothing_is_spent_for_an_agent_that_has_gone() {
    use std::io::Write;
    let world = World::with("approvals: { hold: 20s }");
    let body = json!({ "text": "one" }).to_string();
    let request = format!(
        "POST /notes/a HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        world.remit.calls_address(),
        world.token,
        body.len(),
    );
    let mut agent = std::net::TcpStream::connect(world.remit.calls_address()).unwrap();
    agent.write_all(request.as_bytes()).unwrap();
    until("it waits", || world.list(&["--only", "waiting"]).len() == 1);
    let id = world.list(&[])[0]["id"].as_str().unwrap().to_owned();
    drop(agent);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(world.grant("anna", &id), "granted");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(world.state(&id), "granted");
    assert!(world.upstream.received().is_empty());
    // It is there for the same call, made again.
    let mut agent = std::net::TcpStream::connect(world.remit.calls_address()).unwrap();
    agent.write_all(request.as_bytes()).unwrap();
    until("it is made", || world.upstream.received().len() == 1);
    assert_eq!(world.state(&id), "spent");
}

#[test]
fn over_http2_a_call_is_held_and_given_up_alike() {
    let world = World::with("approvals: { hold: 20s }");
    let client = Client::builder().no_proxy().http2_prior_knowledge();
    let world = World {
        http: client.build().unwrap(),
        ..world
    };
    let body = json!({ "text": "one" });
    let gone = world.post("/notes/a").json(&body);
    let gone = gone.timeout(std::time::Duration::from_secs(1)).send();
    assert!(gone.is_err());
    let id = world.list(&[])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.grant("anna", &id), "granted");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(world.state(&id), "granted");
    assert!(world.upstream.received().is_empty());
    world.passes("/notes/a", "one");
    world.upstream.forget();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| world.write("/notes/a", "two"));
        until("it waits", || world.list(&["--only", "waiting"]).len() == 1);
        let id = world.list(&["--only", "waiting"])[0]["id"].clone();
        assert_eq!(world.grant("anna", id.as_str().unwrap()), "granted");
        assert_eq!(call.join().unwrap().status().as_u16(), 200);
    });
    assert_eq!(world.upstream.received().len(), 1);
}

#[test]
fn the_end_of_a_task_ends_its_held_calls() {
    let world = World::with("approvals: { hold: 20s }");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            let body = json!({ "text": "one" });
            world.post("/notes/a").json(&body).send()
        });
        until("it waits", || world.list(&["--only", "waiting"]).len() == 1);
        let ended = world.command("olga", &["task", "end", &world.task, "--json"]);
        assert!(ended.status.success());
        // It is cut, or told that the task has ended.
        let passed = call
            .join()
            .unwrap()
            .is_ok_and(|answer| answer.status().is_success());
        assert!(!passed);
    });
    assert!(world.upstream.received().is_empty());
}

#[test]
fn on_ones_own_machine_another_name_approves() {
    let folder = tempfile::tempdir().unwrap();
    let remit = Remit::up(REMIT, folder.path());
    let (_, token) = remit.open_task(&["--tool", "notes", "--access", "read,write,execute"]);
    let http = testkit::http();
    let delete = || {
        let call = http
            .delete(remit.call("/notes/notes/1"))
            .bearer_auth(&token);
        call.send().unwrap()
    };
    let problem: Value = delete().json().unwrap();
    assert_eq!(problem["code"], "approval_required");
    assert_eq!(problem["reason"], "deletion_needs_approval");
    let id = problem["approval"].as_str().unwrap();
    let own = remit.command(&["approval", "grant", id, "--json"]);
    let told: Value = serde_json::from_slice(&own.stderr).unwrap();
    assert_eq!(told["error"]["code"], "own_task");
    // Without a token of its own the command takes that of the state folder's approver.
    let state = remit.state().display().to_string();
    let granted = Command::new(REMIT)
        .args(["approval", "grant", id, "--state", &state])
        .output()
        .unwrap();
    assert!(
        granted.status.success(),
        "{}",
        String::from_utf8_lossy(&granted.stderr)
    );
    assert_ne!(delete().status().as_u16(), 403);
    let problem: Value = delete().json().unwrap();
    assert_eq!(problem["code"], "approval_required");
}

#[test]
fn a_server_is_told_in_signed_words() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let site = Site::new(REMIT);
    let receiver = site.run(Upstream::start(Answer::json(json!({}))));
    let secret = "0123456789abcdef01234567";
    let file = site.secret("webhook.secret", secret);
    let world = World::with(&format!(
        "approvals: {{ webhook: {{ url: \"{}/hook\", secret: \"file:{}\" }} }}",
        receiver.url(),
        file.display(),
    ));
    let id = world.asked("/notes/a", "a text that is not told");
    until("it is told", || receiver.received().len() == 1);
    world.grant("anna", &id);
    until("the answer is told", || receiver.received().len() == 2);
    let told = receiver.received();
    let states = ["waiting", "granted"];
    for (message, state) in told.iter().zip(states) {
        let body = std::str::from_utf8(&message.body).unwrap();
        assert!(!body.contains("not told"), "{body}");
        let told: Value = serde_json::from_str(body).unwrap();
        assert_eq!(told["type"], format!("approval.{state}"));
        assert_eq!(told["data"]["id"], id.as_str());
        assert_eq!(told["data"]["state"], state);
        let header = |name: &str| message.header(name).unwrap();
        let signed = format!(
            "{}.{}.{body}",
            header("webhook-id"),
            header("webhook-timestamp")
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let tag = ring::hmac::sign(&key, signed.as_bytes());
        assert_eq!(
            header("webhook-signature"),
            format!("v1,{}", STANDARD.encode(tag))
        );
    }
    assert_ne!(told[0].header("webhook-id"), told[1].header("webhook-id"));
}
