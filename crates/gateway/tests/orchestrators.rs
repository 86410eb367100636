//! Orchestrators that mint their own transaction tokens, over a served gateway: a call opens its task, once, as policy
//! admits it; an end stays an end, also over crashes; and nothing is opened by a token that is not in order.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::issuer::{Algorithm, Mood};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Issuer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Ticket is a person's: whoever orchestrates may let its assistants read, and write where the token says which ticket.
const ADMIT: &str = r#"package remit.admit

allow if input.operator.role == "operator"

allow if {
	input.transaction.claims.sub == input.task.owner
	input.transaction.actor.id == input.task.agent
	input.transaction.txn
	input.operator == null
	input.agent == null
	input.owner == null
}

deny contains "no_ticket" if {
	input.transaction.issuer
	some grant in input.task.grants
	"write" in grant.access
	not input.task.attributes.ticket
}
"#;

const MAP: &str = "authorization_details: tctx.authorization_details, purpose: \"{tctx.purpose}\", \
                   attributes: { ticket: tctx.ticket }, limits: tctx.limits, labels: [orchestrated]";

struct World {
    site: Site,
    remit: Remit,
    /// Vouches for agents.
    agents: Issuer,
    /// Mints transaction tokens.
    orchestrator: Issuer,
    notes: Upstream,
}

impl World {
    fn new() -> Self {
        Self::with(MAP, "")
    }

    /// With this map, and more about the orchestrator.
    fn with(map: &str, more: &str) -> Self {
        let site = Site::new(REMIT);
        let agents = site.run(Issuer::start());
        let orchestrator = site.run(Issuer::start());
        Self::of(site, agents, orchestrator, (map, more))
    }

    fn of(site: Site, agents: Issuer, orchestrator: Issuer, (map, more): (&str, &str)) -> Self {
        let notes = site.run(Upstream::start(Answer::json(json!({ "notes": [] }))));
        site.write("policy/all.rego", "package remit.all\n\nallow if true\n");
        site.write("policy/admit.rego", ADMIT);
        site.config(&format!(
            "identity: {{ issuers: [{{ issuer: {}, audience: remit }}] }}
tasks:
  transaction_issuers:
    - {{ issuer: {}, audience: prod, map: {{ {map} }}, {more} }}
audit: {{ path: audit.jsonl }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
",
            agents.url(),
            orchestrator.url(),
            notes.url()
        ));
        let remit = site.serve();
        Self {
            site,
            remit,
            agents,
            orchestrator,
            notes,
        }
    }

    /// `kill -9`, and another one on the same state.
    fn crashed(self) -> Self {
        self.remit.kill();
        let remit = self.site.serve();
        Self { remit, ..self }
    }

    fn workload(&self, subject: &str) -> String {
        let claims = self.agents.claims(subject, "remit");
        let token = self.agents.mint(Algorithm::ES256, &claims);
        format!("Bearer {token}")
    }

    /// The claims of a transaction of anna's, to read notes, but for what is changed; `null` takes away.
    fn claims(&self, txn: &str, change: &Value) -> Value {
        let mut claims = self.orchestrator.claims("anna@example.org", "prod");
        let said = json!({
            "txn": txn, "scope": "notes", "req_wl": "assistant",
            "tctx": {
                "purpose": "sort the notes",
                "authorization_details": [{ "type": "remit_grant", "tool": "notes", "access": ["read"] }],
            },
        });
        for changed in [&said, change] {
            for (name, value) in changed.as_object().unwrap() {
                claims[name] = value.clone();
                if value.is_null() {
                    claims.as_object_mut().unwrap().remove(name);
                }
            }
        }
        claims
    }

    fn mint(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": "ES256-1", "typ": "txntoken+jwt" });
        self.orchestrator
            .mint_with(Algorithm::ES256, &header, claims)
    }

    fn token(&self, txn: &str, change: &Value) -> String {
        self.mint(&self.claims(txn, change))
    }

    fn send(&self, headers: &[(&str, &str)]) -> Response {
        let mut request = testkit::http().get(self.remit.call("/notes/a"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().unwrap()
    }

    /// What the assistant gets that brings this token.
    fn brings(&self, token: &str) -> Response {
        let assistant = self.workload("assistant");
        self.send(&[("authorization", &assistant), ("txn-token", token)])
    }

    #[track_caller]
    fn reads(&self, token: &str) {
        check(self.brings(token), (200, None));
    }

    /// The token is refused like this, reaches nobody and opens nothing.
    #[track_caller]
    fn refused(&self, token: &str, status: u16, code: &str) -> Value {
        let before = (self.tasks().len(), self.notes.received().len());
        let problem = check(self.brings(token), (status, Some(code)));
        let after = (self.tasks().len(), self.notes.received().len());
        assert_eq!(after, before, "{problem}");
        problem
    }

    fn tasks(&self) -> Vec<Value> {
        let request = testkit::http().get(self.remit.control("/v1/tasks"));
        let request = request.bearer_auth(self.remit.operator_token());
        let page: Value = request.send().unwrap().json().unwrap();
        page["tasks"].as_array().unwrap().clone()
    }

    /// The only task.
    #[track_caller]
    fn task(&self) -> Value {
        let tasks = self.tasks();
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks[0].clone()
    }

    #[track_caller]
    fn tell(&self, word: &str) {
        let task = self.task()["id"].as_str().unwrap().to_owned();
        let output = self.remit.command(&["task", word, &task]);
        assert!(output.status.success(), "{output:?}");
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.site.path("audit.jsonl")).unwrap()
    }
}

#[track_caller]
fn check(answer: Response, expect: (u16, Option<&str>)) -> Value {
    let status = answer.status().as_u16();
    let body: Value = answer.json().unwrap();
    assert_eq!((status, body["code"].as_str()), expect, "{body}");
    body
}

#[test]
fn the_first_call_of_a_transaction_opens_its_task() {
    let world = World::new();
    let change = json!({ "tctx": {
        "purpose": "close the ticket", "ticket": 17, "limits": { "calls": 3 },
        "authorization_details": [
            { "type": "payment", "amount": 7 },
            { "type": "remit_grant", "tool": "notes", "access": ["read", "write"] },
        ],
    }});
    let claims = world.claims("t-1", &change);
    let token = world.mint(&claims);
    world.reads(&token);
    assert!(world.notes.only().header("txn-token").is_none());
    let task = world.task();
    assert_eq!(task["owner"], "anna@example.org");
    assert_eq!(task["agent"], "assistant");
    assert_eq!(task["purpose"], "close the ticket");
    assert_eq!(task["attributes"], json!({ "ticket": 17 }));
    assert_eq!(task["labels"], json!(["orchestrated"]));
    assert_eq!(task["limits"]["calls"], 3);
    assert_eq!(
        task["grants"],
        json!([{ "tool": "notes", "access": ["read", "write"] }])
    );
    let origin = json!({ "issuer": world.orchestrator.url(), "txn": "t-1" });
    assert_eq!(task["origin"], origin);
    // It lives no longer than the token.
    let expires: jiff::Timestamp = task["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(expires.as_second() <= claims["exp"].as_i64().unwrap());
    // The next calls are of the same task, with this token and with another one of the transaction.
    world.reads(&token);
    let later = json!({ "tctx": change["tctx"], "rctx": { "req_ip": "192.0.2.7" }, "jti": "2" });
    world.reads(&world.token("t-1", &later));
    assert_eq!(world.task()["used"]["calls"], 3);
    world.refused(&token, 429, "limit_exhausted");
}

#[test]
fn people_and_records_are_told_whose_it_is() {
    let world = World::new();
    let token = world.token("t-1", &json!({}));
    world.reads(&token);
    let task = world.task()["id"].as_str().unwrap().to_owned();
    let told = world.remit.command(&["task", "show", &task]);
    let told = String::from_utf8(told.stdout).unwrap();
    let by = format!("transaction t-1 of {}", world.orchestrator.url());
    assert!(told.contains(&by), "{told}");
    let list = world.remit.command(&["task", "list"]);
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains(world.orchestrator.url()), "{list}");
    let opened = |line: &&str| line.contains(&task) && line.contains("opened");
    let audit = world.audit();
    let opened: Vec<&str> = audit.lines().filter(opened).collect();
    assert_eq!(opened.len(), 1, "{audit}");
    let named = opened
        .iter()
        .all(|line| line.contains(world.orchestrator.url()));
    assert!(named, "{opened:?}");
    // No whole token is written down or forwarded.
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert!(!audit.contains(signature) && !world.remit.logged().contains(signature));
    assert!(!format!("{:?}", world.notes.received()).contains(signature));
}

#[test]
fn grants_come_of_scopes_where_the_config_says_so() {
    let world = World::with("scopes: { notes: [{ tool: notes, access: [read] }] }", "");
    world.reads(&world.token("t-1", &json!({ "scope": "openid notes" })));
    assert_eq!(world.task()["grants"][0]["access"], json!(["read"]));
    let none = world.token("t-2", &json!({ "scope": "openid" }));
    world.refused(&none, 403, "unusable_transaction");
}

#[test]
fn b1_an_unsigned_or_symmetric_transaction_token_opens_nothing() {
    let world = World::new();
    let claims = world.claims("t-1", &json!({}));
    let forged = |header: Value| {
        world
            .orchestrator
            .mint_with(Algorithm::ES256, &header, &claims)
    };
    for alg in ["none", "HS256", "RS256", "EdDSA", "ES384"] {
        let kid = "ES256-1";
        let token = forged(json!({ "alg": alg, "typ": "txntoken+jwt", "kid": kid }));
        world.refused(&token, 401, "invalid_proof");
    }
    let header = json!({ "alg": "ES256", "typ": "txntoken+jwt", "crit": ["x"] });
    world.refused(&forged(header), 401, "invalid_proof");
    let unsigned = format!("{}.", world.mint(&claims).rsplit_once('.').unwrap().0);
    world.refused(&unsigned, 401, "invalid_proof");
    // Right by another algorithm than those that are configured.
    let header = json!({ "alg": "EdDSA", "typ": "txntoken+jwt", "kid": "EdDSA-1" });
    let token = world
        .orchestrator
        .mint_with(Algorithm::EdDSA, &header, &claims);
    world.refused(&token, 401, "invalid_proof");
}

#[test]
fn b2_a_transaction_token_is_of_its_type_audience_and_time() {
    let world = World::new();
    let now = jiff::Timestamp::now().as_second();
    // An access token of the same issuer.
    for typ in ["at+jwt", "JWT", "txntoken"] {
        let header = json!({ "alg": "ES256", "typ": typ });
        let claims = world.claims("t-1", &json!({}));
        let token = world
            .orchestrator
            .mint_with(Algorithm::ES256, &header, &claims);
        world.refused(&token, 401, "invalid_proof");
    }
    for change in [
        json!({ "aud": "remit" }),
        json!({ "aud": ["dev", "test"] }),
        json!({ "aud": null }),
        json!({ "exp": null }),
        json!({ "exp": "soon" }),
        json!({ "iat": null }),
        json!({ "iat": now + 60, "exp": now + 120 }),
        json!({ "nbf": now + 60 }),
        // Longer than its issuer's tokens may live, however much of it is left.
        json!({ "exp": now + 24 * 60 * 60 }),
        json!({ "iat": now - 24 * 60 * 60 }),
        json!({ "iat": i64::MIN, "exp": i64::MAX }),
    ] {
        world.refused(&world.token("t-1", &change), 401, "invalid_proof");
    }
    let expired = json!({ "iat": now - 60, "exp": now });
    world.refused(&world.token("t-1", &expired), 401, "expired_proof");
    world.reads(&world.token("t-1", &json!({ "aud": ["prod"] })));
}

#[test]
fn b3_claims_of_another_shape_open_nothing() {
    let world = World::new();
    for change in [
        json!({ "txn": null }),
        json!({ "txn": "" }),
        json!({ "txn": 7 }),
        json!({ "txn": ["t-1"] }),
        json!({ "txn": "two words" }),
        json!({ "txn": "t\n1" }),
        json!({ "txn": "t\u{202e}1" }),
        json!({ "txn": "x".repeat(257) }),
        json!({ "sub": null }),
        json!({ "sub": { "name": "anna" } }),
        json!({ "scope": null }),
        json!({ "scope": ["notes"] }),
        json!({ "req_wl": null }),
        json!({ "req_wl": ["assistant"] }),
        json!({ "req_wl": "two words" }),
    ] {
        world.refused(&world.token("t-1", &change), 401, "invalid_proof");
    }
    let bound = json!({ "cnf": { "jkt": "x" } });
    world.refused(&world.token("t-1", &bound), 401, "unsupported_confirmation");
    let details =
        |details: Value| json!({ "tctx": { "purpose": "p", "authorization_details": details } });
    for change in [
        json!({ "tctx": null }),
        json!({ "tctx": "text" }),
        json!({ "tctx": { "purpose": "no grants" } }),
        details(json!([])),
        details(json!({})),
        details(json!(["notes"])),
        details(json!([{ "tool": "notes", "access": ["read"] }])),
        details(json!([{ "type": "payment" }])),
        details(json!([{ "type": "remit_grant", "tool": "notes", "access": [] }])),
        details(json!([{ "type": "remit_grant", "tool": "notes", "access": ["read"], "more": 1 }])),
        json!({ "sub": "anna\u{7f}" }),
        json!({ "tctx": { "purpose": 7, "authorization_details": [] } }),
        json!({ "tctx": {
            "purpose": "p", "limits": { "calls": -1 },
            "authorization_details": [{ "type": "remit_grant", "tool": "notes", "access": ["read"] }],
        }}),
    ] {
        world.refused(&world.token("t-1", &change), 403, "unusable_transaction");
    }
    // The longest name, and one that would be a path.
    world.reads(&world.token(&"x".repeat(256), &json!({})));
    world.reads(&world.token("../../etc/passwd%00", &json!({})));
}

#[test]
fn b8_a_transaction_token_goes_beside_the_credential_of_its_agent() {
    let world = World::new();
    let token = world.token("t-1", &json!({}));
    check(
        world.send(&[("txn-token", &token)]),
        (401, Some("no_proof")),
    );
    let bearer = format!("Bearer {token}");
    // Its issuer vouches for no agents: there it is the agent's key.
    check(
        world.send(&[("authorization", &bearer)]),
        (401, Some("no_proof")),
    );
    check(
        world.send(&[("x-api-key", &token)]),
        (401, Some("no_proof")),
    );
    let assistant = world.workload("assistant");
    let twice = [
        ("authorization", assistant.as_str()),
        ("txn-token", &token),
        ("txn-token", &token),
    ];
    check(world.send(&twice), (401, Some("invalid_proof")));
    let other = world.workload("other");
    let stolen = [("authorization", other.as_str()), ("txn-token", &token)];
    check(world.send(&stolen), (401, Some("proofs_disagree")));
    assert_eq!(world.tasks().len(), 0);

    world.reads(&token);
    check(world.send(&stolen), (401, Some("proofs_disagree")));
    // A task token says what for by itself, and this is another task.
    let (id, task) = world.remit.open_task(&[
        "--agent",
        "assistant",
        "--owner",
        "anna",
        "--purpose",
        "p",
        "--tool",
        "notes",
        "--access",
        "read",
    ]);
    let task = format!("Bearer {task}");
    check(
        world.send(&[("authorization", &task), ("txn-token", &token)]),
        (401, Some("invalid_proof")),
    );
    let three = [
        ("authorization", assistant.as_str()),
        ("x-api-key", task.strip_prefix("Bearer ").unwrap()),
        ("txn-token", &token),
    ];
    check(world.send(&three), (401, Some("proofs_disagree")));
    let declared = [
        ("authorization", assistant.as_str()),
        ("txn-token", &token),
        ("agent-task", &id),
    ];
    check(
        world.send(&declared),
        (403, Some("declaration_contradicts")),
    );
}

#[test]
fn b8_an_issuer_of_both_kinds_keeps_them_apart() {
    let site = Site::new(REMIT);
    let both = site.run(Issuer::start());
    let agents = site.run(Issuer::start());
    let world = World::of(site, agents, both, (MAP, ""));
    let config = std::fs::read_to_string(world.site.path("remit.yaml")).unwrap();
    let issuers = format!(
        "issuers: [{{ issuer: {}, audience: prod }}, ",
        world.orchestrator.url()
    );
    world
        .site
        .replace("remit.yaml", &config.replacen("issuers: [", &issuers, 1));
    world.remit.signal("-HUP");
    let claims = world.orchestrator.claims("assistant", "prod");
    let workload = world.orchestrator.mint(Algorithm::ES256, &claims);
    let bearer = format!("Bearer {workload}");
    until("it is believed", || {
        let answer = world.send(&[("authorization", &bearer)]);
        answer.json::<Value>().unwrap()["code"] == "no_task"
    });
    let token = world.token("t-1", &json!({}));
    let as_workload = format!("Bearer {token}");
    check(
        world.send(&[("authorization", &as_workload)]),
        (401, Some("invalid_proof")),
    );
    check(
        world.send(&[("authorization", &bearer), ("txn-token", &workload)]),
        (401, Some("invalid_proof")),
    );
    check(
        world.send(&[("authorization", &bearer), ("txn-token", &token)]),
        (200, None),
    );
}

#[test]
fn policy_admits_what_a_transaction_opens() {
    let world = World::new();
    let write = json!({ "tctx": {
        "purpose": "p",
        "authorization_details": [{ "type": "remit_grant", "tool": "notes", "access": ["write"] }],
    }});
    let token = world.token("t-1", &write);
    let problem = world.refused(&token, 403, "admission_denied");
    assert_eq!(problem["reason"], "no_ticket");
    // Nothing of it stays: what policy admits later is opened.
    world.reads(&world.token("t-1", &json!({})));

    let bare = World::new();
    bare.site.write(
        "policy/admit.rego",
        "package remit.admit\n\nallow if input.operator.name\n",
    );
    bare.remit.signal("-HUP");
    let token = bare.token("t-1", &json!({}));
    let mut tries = 0;
    until("policy is another", || {
        // A new one each time: what was admitted before stays so.
        tries += 1;
        let answer = bare.brings(&bare.token(&format!("try-{tries}"), &json!({})));
        answer.json::<Value>().unwrap()["code"] == "admission_undefined"
    });
    bare.refused(&token, 403, "admission_undefined");
}

#[test]
fn c1_a_transaction_is_one_task_of_one_agent() {
    let world = World::new();
    let first = world.token("t-1", &json!({}));
    world.reads(&first);
    for change in [
        json!({ "tctx": {
            "purpose": "sort the notes",
            "authorization_details": [{ "type": "remit_grant", "tool": "notes", "access": ["read", "write"] }],
        }}),
        json!({ "scope": "notes more" }),
        json!({ "sub": "mallory@example.org" }),
        json!({ "azp": "another" }),
    ] {
        world.refused(&world.token("t-1", &change), 403, "transaction_changed");
    }
    // For another agent: it has no part in this one.
    let other = world.token("t-1", &json!({ "req_wl": "other" }));
    let workload = world.workload("other");
    let brought = [("authorization", workload.as_str()), ("txn-token", &other)];
    check(world.send(&brought), (403, Some("transaction_changed")));
    let task = world.task();
    assert_eq!(task["grants"][0]["access"], json!(["read"]));
    let id = task["id"].as_str().unwrap();
    let named = [("authorization", workload.as_str()), ("agent-task", id)];
    check(world.send(&named), (403, Some("unknown_task")));
    world.reads(&first);
}

#[test]
fn c1_a_transaction_with_the_id_of_a_task_is_not_that_task() {
    let world = World::new();
    let (id, _) = world.remit.open_task(&[
        "--agent",
        "assistant",
        "--owner",
        "bert",
        "--purpose",
        "p",
        "--tool",
        "notes",
        "--access",
        "read",
    ]);
    world.reads(&world.token(&id, &json!({})));
    let tasks = world.tasks();
    assert_eq!(tasks.len(), 2);
    let adopted = tasks
        .iter()
        .find(|task| task["origin"]["txn"] == json!(id))
        .unwrap();
    assert_ne!(adopted["id"], json!(id));
    let bert = tasks.iter().find(|task| task["id"] == json!(id)).unwrap();
    assert_eq!(bert["used"]["calls"], 0);
}

#[test]
fn c1_the_same_name_of_two_issuers_is_two_tasks() {
    let world = World::new();
    let second = world.site.run(Issuer::start());
    let config = std::fs::read_to_string(world.site.path("remit.yaml")).unwrap();
    let more = format!(
        "  transaction_issuers:\n    - {{ issuer: {}, audience: prod, map: {{ {MAP} }} }}\n",
        second.url()
    );
    world.site.replace(
        "remit.yaml",
        &config.replacen("  transaction_issuers:\n", &more, 1),
    );
    world.remit.signal("-HUP");
    let mut claims = world.claims("t-1", &json!({}));
    world.reads(&world.mint(&claims));
    let header = json!({ "alg": "ES256", "typ": "txntoken+jwt" });
    // Under the two spellings of a root.
    for name in [second.url().to_owned(), format!("{}/", second.url())] {
        claims["iss"] = json!(name);
        let token = second.mint_with(Algorithm::ES256, &header, &claims);
        until("it is believed", || {
            world.brings(&token).status().is_success()
        });
    }
    let tasks = world.tasks();
    assert_eq!(tasks.len(), 2);
    assert_ne!(tasks[0]["origin"]["issuer"], tasks[1]["origin"]["issuer"]);
}

#[test]
fn c2_a_hundred_first_calls_at_once_open_one_task() {
    let world = World::new();
    let token = world.token("t-1", &json!({}));
    let assistant = world.workload("assistant");
    std::thread::scope(|scope| {
        let call = || world.send(&[("authorization", &assistant), ("txn-token", &token)]);
        let calls: Vec<_> = (0..100).map(|_| scope.spawn(call)).collect();
        for call in calls {
            check(call.join().unwrap(), (200, None));
        }
    });
    assert_eq!(world.task()["used"]["calls"], 100);
    let audit = world.audit();
    let opened = audit.lines().filter(|line| line.contains("\"opened\""));
    assert_eq!(opened.count(), 1);
}

#[test]
fn c2_a_transaction_that_ended_opens_nothing_again() {
    let world = World::new();
    let token = world.token("t-1", &json!({}));
    world.reads(&token);
    world.tell("pause");
    world.refused(&token, 403, "task_paused");
    world.tell("resume");
    world.reads(&token);
    world.tell("revoke");
    world.refused(&token, 403, "task_ended");
    // Nor does another token of it, whatever it says.
    world.refused(
        &world.token("t-1", &json!({ "jti": "2" })),
        403,
        "task_ended",
    );
    let changed = world.token("t-1", &json!({ "sub": "bert@example.org" }));
    world.refused(&changed, 403, "transaction_changed");
    // Over a crash, too.
    let world = world.crashed();
    world.refused(&token, 403, "task_ended");
    world.reads(&world.token("t-2", &json!({})));
}

#[test]
fn c2_a_task_expires_with_its_token() {
    let world = World::new();
    let now = jiff::Timestamp::now().as_second();
    let brief = json!({ "exp": now + 6 });
    let token = world.token("t-1", &brief);
    world.reads(&token);
    until("it has expired", || world.task()["state"] == "ended");
    world.refused(&token, 401, "expired_proof");
    // Another token of the transaction doesn't make its life longer.
    world.refused(&world.token("t-1", &json!({})), 403, "task_expired");
}

#[test]
fn c7_a_kill_forgets_no_transaction() {
    let world = World::new();
    let token = world.token("t-1", &json!({}));
    world.reads(&token);
    let id = world.task()["id"].clone();
    let world = world.crashed();
    world.reads(&token);
    let task = world.task();
    assert_eq!(task["id"], id);
    assert_eq!(task["origin"]["txn"], "t-1");
    assert!(task["used"]["calls"].as_u64().unwrap() >= 2);
    let changed = world.token("t-1", &json!({ "scope": "more" }));
    world.refused(&changed, 403, "transaction_changed");
}

#[test]
fn c8_clocks_may_differ_a_little_and_no_more() {
    let world = World::new();
    let now = jiff::Timestamp::now().as_second();
    world.reads(&world.token("t-1", &json!({ "iat": now + 3, "exp": now + 63 })));
    let far = json!({ "iat": now + 3600, "exp": now + 3660 });
    world.refused(&world.token("t-2", &far), 401, "invalid_proof");
}

#[test]
fn an_issuer_has_no_more_open_tasks_than_it_may() {
    let world = World::with(MAP, "open: 2");
    for txn in ["t-1", "t-2"] {
        world.reads(&world.token(txn, &json!({})));
    }
    let third = world.token("t-3", &json!({}));
    world.refused(&third, 429, "too_many_tasks");
    // Those that are open go on, also after a crash.
    let world = world.crashed();
    world.reads(&world.token("t-1", &json!({})));
    world.refused(&third, 429, "too_many_tasks");
    let first = world.tasks().pop().unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        world
            .remit
            .command(&["task", "end", &first])
            .status
            .success()
    );
    world.reads(&third);
}

#[test]
fn an_issuer_that_is_away_is_told_apart() {
    let world = World::new();
    world.orchestrator.mood(Mood::Down);
    let token = world.token("t-1", &json!({}));
    world.refused(&token, 503, "issuer_unavailable");
}

#[test]
fn a_token_of_an_issuer_that_nobody_configured_is_the_agents_own() {
    let world = World::new();
    let stranger = world.site.run(Issuer::start());
    let mut claims = world.claims("t-1", &json!({}));
    claims["iss"] = json!(stranger.url());
    let header = json!({ "alg": "ES256", "typ": "txntoken+jwt" });
    let token = stranger.mint_with(Algorithm::ES256, &header, &claims);
    world.refused(&token, 403, "no_task");
    assert_eq!(stranger.discoveries(), 0);
}
