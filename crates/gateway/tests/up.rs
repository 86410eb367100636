//! `remit up`, as a new user meets it: allow, refuse, end.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use testkit::remit::{Remit, until};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

struct World {
    remit: Remit,
    http: Client,
    _state: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let remit = Remit::up(REMIT, state.path());
        Self {
            remit,
            http: testkit::http(),
            _state: state,
        }
    }

    fn task(&self, arguments: &[&str]) -> (String, String) {
        self.remit.open_task(arguments)
    }

    fn get(&self, path: &str, token: &str) -> Response {
        self.http
            .get(self.remit.call(path))
            .bearer_auth(token)
            .send()
            .unwrap()
    }

    fn post(&self, path: &str, token: &str, body: &Value) -> Response {
        self.http
            .post(self.remit.call(path))
            .bearer_auth(token)
            .json(body)
            .send()
            .unwrap()
    }

    /// Calls a tool of `desk` over MCP.
    fn mcp(&self, token: &str, tool: &str, arguments: &Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
        let response = self
            .http
            .post(self.remit.call("/desk"))
            .bearer_auth(token)
            .header("accept", "application/json, text/event-stream")
            .json(&call)
            .send()
            .unwrap();
        assert!(response.headers().contains_key("remit-decision"));
        response.json().unwrap()
    }
}

#[track_caller]
fn refused(response: Response, status: StatusCode, code: &str) {
    assert_eq!(response.status(), status);
    let decision = response.headers()["remit-decision"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = response.json().unwrap();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["decision"], decision.as_str());
    assert!(
        problem["hint"]
            .as_str()
            .is_some_and(|hint| !hint.is_empty())
    );
}

#[test]
fn a_new_user_is_led_through_allow_refuse_end() {
    let world = World::new();
    let (id, token) = world.task(&[
        "--tool",
        "notes",
        "--access",
        "read,write",
        "--ttl",
        "10m",
        "--purpose",
        "demo",
    ]);

    let added = world.post("/notes/notes", &token, &json!({ "text": "call Alice" }));
    assert_eq!(added.status(), StatusCode::CREATED);
    assert!(added.headers().contains_key("remit-decision"));

    let forbidden = world.post("/notes/notes", &token, &json!({ "text": "my secret" }));
    refused(forbidden, StatusCode::FORBIDDEN, "denied");

    let outside = world
        .http
        .delete(world.remit.call("/notes/notes/1"))
        .bearer_auth(&token)
        .send()
        .unwrap();
    refused(outside, StatusCode::FORBIDDEN, "out_of_remit");

    let nobody = world
        .http
        .get(world.remit.call("/notes/notes"))
        .send()
        .unwrap();
    refused(nobody, StatusCode::UNAUTHORIZED, "no_proof");

    let output = world.remit.command(&["task", "end", &id]);
    assert!(output.status.success());
    refused(
        world.get("/notes/notes", &token),
        StatusCode::FORBIDDEN,
        "task_ended",
    );
}

#[test]
fn the_agents_own_key_does_not_reach_the_tool_and_the_gateways_does() {
    let world = World::new();
    let (_, token) = world.task(&["--tool", "notes"]);
    let echo: Value = world
        .http
        .get(world.remit.call("/notes/echo"))
        .bearer_auth(&token)
        .header("x-api-key", "an-own-key")
        .header("cookie", "session=own")
        .header("x-harmless", "stays")
        .send()
        .unwrap()
        .json()
        .unwrap();
    let key = std::fs::read_to_string(world.remit.state().join("keys/notes-read")).unwrap();
    // What came of it is masked; nothing but the key is.
    let masked = format!("Bearer {}", "*".repeat(key.len()));
    assert_eq!(echo["headers"]["authorization"], masked);
    assert_eq!(echo["headers"]["x-harmless"], "stays");
    assert_eq!(echo["headers"].get("x-api-key"), None);
    assert_eq!(echo["headers"].get("cookie"), None);
    assert!(!echo.to_string().contains(&token));
}

#[test]
fn a_task_token_fits_into_the_key_slots_of_sdks() {
    let world = World::new();
    let (_, token) = world.task(&["--tool", "notes"]);
    for slot in ["x-api-key", "api-key", "x-goog-api-key"] {
        let response = world
            .http
            .get(world.remit.call("/notes/notes"))
            .header(slot, &token)
            .send()
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{slot}");
    }
    let basic = world
        .http
        .get(world.remit.call("/notes/notes"))
        .basic_auth("agent", Some(&token))
        .send()
        .unwrap();
    assert_eq!(basic.status(), StatusCode::OK);
}

#[test]
fn an_mcp_call_with_a_forbidden_argument_never_reaches_the_server() {
    let world = World::new();
    let (_, token) = world.task(&["--tool", "desk", "--access", "read,write"]);
    let found = world.mcp(&token, "find_ticket", &json!({ "query": "lamp" }));
    assert_eq!(found["result"]["isError"], false, "{found}");
    let refund = world.mcp(&token, "refund", &json!({ "ticket": "T-1", "amount": 50 }));
    assert_eq!(
        refund["result"]["content"][0]["text"], "refunded 50 for T-1",
        "{refund}"
    );

    let denied = world.mcp(
        &token,
        "refund",
        &json!({ "ticket": "T-1", "amount": 5000 }),
    );
    assert_eq!(denied["id"], 7);
    assert_eq!(denied["error"]["data"]["code"], "denied", "{denied}");
    let purge = world.mcp(&token, "purge", &json!({}));
    assert_eq!(purge["error"]["data"]["code"], "out_of_remit", "{purge}");

    until("the desk logged the allowed refund", || {
        world.remit.log.lock().unwrap().contains("50")
    });
    let log = world.remit.log.lock().unwrap().clone();
    assert!(!log.contains("5000"), "{log}");
    assert!(!log.contains("purge\""), "{log}");
}

#[test]
fn limits_are_exact() {
    let world = World::new();
    let (_, token) = world.task(&["--tool", "notes", "--calls", "3"]);
    let all = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| world.get("/notes/notes", &token).status()))
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(
        all.iter()
            .filter(|status| **status == StatusCode::OK)
            .count(),
        3,
        "{all:?}"
    );
    assert_eq!(
        all.iter()
            .filter(|status| **status == StatusCode::TOO_MANY_REQUESTS)
            .count(),
        17,
        "{all:?}"
    );
}

#[test]
fn a_kill_forgets_no_task_no_count_and_no_lease() {
    let state = tempfile::tempdir().unwrap();
    let http = testkit::http();
    let remit = Remit::up(REMIT, state.path());
    let (id, token) = remit.open_task(&["--tool", "notes", "--calls", "5"]);
    let (ended, _) = remit.open_task(&["--tool", "notes"]);
    assert!(remit.command(&["task", "end", &ended]).status.success());
    for _ in 0..3 {
        assert_eq!(
            http.get(remit.call("/notes/notes"))
                .bearer_auth(&token)
                .send()
                .unwrap()
                .status(),
            StatusCode::OK
        );
    }
    let leases = remit.command(&["lease", "list", "--json"]).stdout;
    remit.kill();

    let remit = Remit::up(REMIT, state.path());
    let show = |id: &str| -> Value {
        serde_json::from_slice(&remit.command(&["task", "show", id, "--json"]).stdout).unwrap()
    };
    assert_eq!(show(&id)["state"], "open");
    assert_eq!(show(&id)["used"]["calls"], 3);
    assert_eq!(show(&ended)["state"], "ended");
    let ids = |leases: &[u8]| -> Vec<Value> {
        let leases: Vec<Value> = serde_json::from_slice(leases).unwrap();
        leases
            .into_iter()
            .map(|lease| lease["id"].clone())
            .collect()
    };
    assert_eq!(
        ids(&remit.command(&["lease", "list", "--json"]).stdout),
        ids(&leases)
    );
    let statuses: Vec<_> = (0..3)
        .map(|_| {
            http.get(remit.call("/notes/notes"))
                .bearer_auth(&token)
                .send()
                .unwrap()
                .status()
        })
        .collect();
    assert_eq!(
        statuses,
        [
            StatusCode::OK,
            StatusCode::OK,
            StatusCode::TOO_MANY_REQUESTS
        ]
    );
}

#[test]
fn the_decision_is_the_same_in_reply_log_and_audit() {
    let world = World::new();
    let (_, token) = world.task(&["--tool", "notes"]);
    let response = world.get("/notes/notes", &token);
    let decision = response.headers()["remit-decision"]
        .to_str()
        .unwrap()
        .to_owned();
    until("the log tells", || {
        world.remit.log.lock().unwrap().contains(&decision)
    });
    let audit = world.remit.state().join("audit.jsonl");
    until("the audit tells twice", || {
        std::fs::read_to_string(&audit)
            .unwrap()
            .matches(&decision)
            .count()
            == 2
    });
    let log = world.remit.log.lock().unwrap().clone();
    assert!(!log.contains(&token) && !std::fs::read_to_string(&audit).unwrap().contains(&token));
    assert!(
        world
            .remit
            .command(&["audit", "verify", audit.to_str().unwrap()])
            .status
            .success()
    );
}

#[test]
fn a_call_is_explained_without_being_made() {
    let world = World::new();
    let (id, _) = world.task(&["--tool", "notes", "--access", "read,write"]);
    let explain = |arguments: &[&str]| -> Value {
        let mut all = vec!["explain", "--json", "--task", &id];
        all.extend(arguments);
        let output = world.remit.command(&all);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    assert_eq!(explain(&["GET", "/notes/notes"])["verdict"], "allow");
    assert_eq!(
        explain(&["POST", "/notes/notes", "-d", r#"{"text":"my secret"}"#])["reason"],
        "text_forbidden"
    );
    assert_eq!(
        explain(&["DELETE", "/notes/notes/1"])["code"],
        "out_of_remit"
    );
    let shown: Value =
        serde_json::from_slice(&world.remit.command(&["task", "show", &id, "--json"]).stdout)
            .unwrap();
    assert_eq!(shown["used"]["calls"], 0);
}

#[test]
fn policy_is_edited_while_calls_go_on_and_a_broken_one_changes_nothing() {
    let world = World::new();
    let (_, token) = world.task(&["--tool", "notes", "--access", "read,write"]);
    let file = world.remit.state().join("policy/notes.rego");
    let good = std::fs::read_to_string(&file).unwrap();
    let write = |text: &str| {
        world
            .post("/notes/notes", &token, &json!({ "text": text }))
            .status()
    };
    let status = || -> Value {
        world
            .http
            .get(world.remit.control("/v1/status"))
            .bearer_auth(world.remit.operator_token())
            .send()
            .unwrap()
            .json()
            .unwrap()
    };
    let before = status()["policy_revision"].clone();
    std::fs::write(&file, "package remit.tools.notes\n\nallow if {").unwrap();
    until("the mistake is told", || {
        status()["last_reload"]["error"].is_string()
    });
    assert_eq!(status()["policy_revision"], before);
    assert_eq!(write("call Bob"), StatusCode::CREATED);

    std::fs::write(&file, good).unwrap();
    let data = world.remit.state().join("policy/data.json");
    let more = std::fs::read_to_string(&data)
        .unwrap()
        .replace("\"secret\"", "\"secret\", \"private\"");
    std::fs::write(&data, more).unwrap();
    until("the new policy judges", || {
        write("a private thing") == StatusCode::FORBIDDEN
    });
    assert!(status()["last_reload"]["error"].is_null());
    assert_ne!(status()["policy_revision"], before);
}

#[test]
fn what_the_policy_redacts_does_not_arrive() {
    let world = World::new();
    let (_, token) = world.task(&["--tool", "notes", "--access", "read,write"]);
    let note = world.post("/notes/notes", &token, &json!({ "text": "call Bob" }));
    assert_eq!(note.status(), StatusCode::CREATED);
    let get = || world.get("/notes/notes", &token).text().unwrap();
    assert!(get().contains("call Bob"));
    let file = world.remit.state().join("policy/all.rego");
    let more = "\nredact contains \"/notes\" if input.tool.name == \"notes\"\n";
    let text = std::fs::read_to_string(&file).unwrap() + more;
    std::fs::write(&file, text).unwrap();
    until("the new policy judges", || !get().contains("call Bob"));
    assert_eq!(get(), "{\"notes\":\"[redacted]\"}");
}

#[test]
fn sigterm_leaves_in_good_order() {
    let world = World::new();
    let World { remit, .. } = world;
    assert!(remit.stop());
}
