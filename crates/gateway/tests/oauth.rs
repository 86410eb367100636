//! Tasks by OAuth, over a served gateway: opened by agents for themselves and for people, delegated, introspected and
//! revoked; and nothing is opened by a request that is not in order.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::issuer::Algorithm;
use testkit::remit::Remit;
use testkit::upstream::Answer;
use testkit::{Issuer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// The `iss` of the gateway's tokens. It listens elsewhere, as if something stood in front of it.
const GATEWAY: &str = "http://127.0.0.1:4190";

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

const READ: &str = r#"[{"type":"remit_grant","tool":"notes","access":["read"]}]"#;
const WRITE: &str = r#"[{"type":"remit_grant","tool":"notes","access":["read","write"]}]"#;

const CALLS: &str = "package remit.all\n\nallow if true\n";

/// Jobs open tasks for themselves if they say which batch they are; anna lets the assistant read.
const ADMIT: &str = r#"package remit.admit

allow if input.operator.role == "operator"

allow if {
	input.agent.id
	input.task.parent != null
}

allow if {
	input.agent.claims.team == "night"
	input.task.parent == null
	input.task.attributes.request_details.batch
}

allow if {
	input.owner.subject == "anna@example.org"
	input.owner.actor.id == "assistant"
	input.task.owner == input.owner.subject
	input.agent == null
	input.operator == null
}

deny contains "too_much" if {
	input.owner.subject
	some grant in input.task.grants
	"write" in grant.access
}
"#;

struct World {
    site: Site,
    remit: Remit,
    /// Vouches for agents.
    agents: Issuer,
    /// Vouches for people.
    people: Issuer,
    notes: Upstream,
}

impl World {
    fn new() -> Self {
        Self::with(Some(ADMIT), &format!("issuer: {GATEWAY}, "))
    }

    fn with(admit: Option<&str>, issuer: &str) -> Self {
        let site = Site::new(REMIT);
        let agents = site.run(Issuer::start());
        let people = site.run(Issuer::start());
        let notes = site.run(Upstream::start(Answer::json(json!({ "notes": [] }))));
        site.write("policy/all.rego", CALLS);
        if let Some(admit) = admit {
            site.write("policy/admit.rego", admit);
        }
        site.config(&format!(
            "identity:
  issuers:
    - {{ issuer: {}, audience: remit }}
    - {{ issuer: {}, audience: remit, vouches_for: [owners] }}
tasks: {{ {issuer}owners_of_record: [{{ agent: \"jobs/*\", owner: bert@example.org }}] }}
audit: {{ path: audit.jsonl }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
",
            agents.url(),
            people.url(),
            notes.url()
        ));
        let remit = site.serve();
        Self {
            site,
            remit,
            agents,
            people,
            notes,
        }
    }

    fn restarted(self) -> Self {
        assert!(self.remit.stop());
        let remit = self.site.serve();
        Self { remit, ..self }
    }

    fn workload(&self, subject: &str) -> String {
        let mut claims = self.agents.claims(subject, "remit");
        claims["team"] = json!("night");
        self.agents.mint(Algorithm::ES256, &claims)
    }

    fn person_with(&self, change: &Value) -> String {
        let mut claims = self.people.claims("u-17", "remit");
        claims["email"] = json!("anna@example.org");
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.people.mint(Algorithm::ES256, &claims)
    }

    fn person(&self) -> String {
        self.person_with(&json!({}))
    }

    fn post(&self, path: &str, form: &[(&str, &str)], authorization: Option<&str>) -> Response {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = testkit::http()
            .post(self.remit.control(path))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let request = match authorization {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().unwrap()
    }

    /// An exchange of this subject's token to read notes, but for what is changed.
    fn exchange(&self, subject: &str, change: &[(&str, &str)]) -> Response {
        let mut form = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", JWT),
            ("authorization_details", READ),
        ];
        form.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
        form.extend(change);
        self.post("/oauth2/token", &form, None)
    }

    #[track_caller]
    fn issued(&self, subject: &str, change: &[(&str, &str)]) -> Value {
        let answer = self.exchange(subject, change);
        let status = answer.status().as_u16();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let body: Value = answer.json().unwrap();
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The exchange is refused like this, and nothing is opened by it.
    #[track_caller]
    fn refused(&self, subject: &str, change: &[(&str, &str)], error: &str, code: &str) {
        let before = self.tasks().len();
        let answer = self.exchange(subject, change);
        check(answer, 400, error, code);
        assert_eq!(self.tasks().len(), before);
    }

    fn tasks(&self) -> Vec<Value> {
        let request = testkit::http().get(self.remit.control("/v1/tasks"));
        let request = request.bearer_auth(self.remit.operator_token());
        let page: Value = request.send().unwrap().json().unwrap();
        page["tasks"].as_array().unwrap().clone()
    }

    fn get(&self, path: &str, token: &str) -> Response {
        let request = testkit::http().get(self.remit.call(path));
        request.bearer_auth(token).send().unwrap()
    }

    /// The status of reading notes with this token, and the code where it is refused.
    #[track_caller]
    fn reads(&self, token: &str, expect: (u16, Option<&str>)) {
        let answer = self.get("/notes/notes", token);
        let status = answer.status().as_u16();
        let body: Value = answer.json().unwrap();
        assert_eq!((status, body["code"].as_str()), expect, "{body}");
    }

    fn introspect(&self, token: &str, by: &str) -> Response {
        self.post("/oauth2/introspect", &[("token", token)], Some(by))
    }

    #[track_caller]
    fn active(&self, token: &str, expect: bool) -> Value {
        let answer = self.introspect(token, self.remit.operator_token());
        assert_eq!(answer.status().as_u16(), 200);
        let body: Value = answer.json().unwrap();
        assert_eq!(body["active"], json!(expect), "{body}");
        if !expect {
            assert_eq!(body, json!({ "active": false }));
        }
        body
    }

    fn revoke(&self, token: &str, by: &str) -> Response {
        self.post("/oauth2/revoke", &[("token", token)], Some(by))
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.site.path("audit.jsonl")).unwrap();
        let line = |line: &str| serde_json::from_str(line).unwrap();
        text.lines().map(line).collect()
    }
}

const BATCH: (&str, &str) = ("request_details", r#"{"batch":7}"#);

fn token_of(issued: &Value) -> String {
    issued["access_token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn check(answer: Response, status: u16, error: &str, code: &str) {
    let found = answer.status().as_u16();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = answer.json().unwrap();
    let expect = (status, json!(error), json!(code));
    assert_eq!(
        (found, body["error"].clone(), body["code"].clone()),
        expect,
        "{body}"
    );
    assert!(
        body["error_description"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

// The nightly batch job: no person, an owner of record.

#[test]
fn a_nightly_job_opens_its_own_task_and_calls_with_it() {
    let world = World::new();
    let issued = world.issued(&world.workload("jobs/nightly"), &[BATCH]);
    assert_eq!(issued["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(issued["token_type"], "Bearer");
    assert_eq!(issued["scope"], "notes:read");
    assert_eq!(issued["authorization_details"][0]["type"], "remit_grant");
    assert!((1..=901).contains(&issued["expires_in"].as_i64().unwrap()));

    let token = token_of(&issued);
    world.reads(&token, (200, None));
    assert!(world.notes.only().header("authorization").is_none());

    let claims = claims(&token);
    assert_eq!(claims["iss"], GATEWAY);
    assert_eq!(claims["sub"], "bert@example.org");
    assert_eq!(claims["act"], json!({ "sub": "jobs/nightly" }));
    assert_eq!(claims["txn"], issued["task"]);
    let tasks = world.tasks();
    assert_eq!(tasks[0]["id"], issued["task"]);
    assert_eq!(tasks[0]["owner"], "bert@example.org");
    assert_eq!(tasks[0]["agent"], "jobs/nightly");
    assert_eq!(
        tasks[0]["attributes"],
        json!({ "request_details": { "batch": 7 } })
    );
    // Told like any other opening.
    let opened = |line: &Value| line.to_string().contains("bert@example.org");
    assert!(world.audit().iter().any(opened));
}

#[test]
fn a_job_opens_no_task_that_nobody_answers_for() {
    let world = World::new();
    let other = world.workload("daily");
    world.refused(
        &other,
        &[BATCH],
        "unauthorized_client",
        "no_owner_of_record",
    );
    let nested = world.workload("jobs/a/b");
    world.refused(
        &nested,
        &[BATCH],
        "unauthorized_client",
        "no_owner_of_record",
    );
}

#[test]
fn an_agent_opens_no_more_tasks_than_it_may() {
    let world = World::with(
        Some(ADMIT),
        &format!("issuer: {GATEWAY}, open_by_agent: 2, "),
    );
    let job = world.workload("jobs/nightly");
    let first = world.issued(&job, &[BATCH]);
    let delegated = world.workload("jobs/child");
    let actor = [
        ("actor_token", delegated.as_str()),
        ("actor_token_type", JWT),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    // What is not admitted, and parts of tasks, take no place.
    world.refused(&job, &[], "access_denied", "admission_undefined");
    world.issued(&token_of(&first), &actor);
    world.issued(&job, &[BATCH]);
    let before = world.tasks().len();
    let full = ("temporarily_unavailable", "too_many_tasks");
    check(world.exchange(&job, &[BATCH]), 429, full.0, full.1);
    assert_eq!(world.tasks().len(), before);
    // Another agent has its own, operators open more, and an end makes room; a restart forgets nothing of that.
    world.issued(&world.workload("jobs/weekly"), &[BATCH]);
    world.remit.open_task(&[
        "--agent",
        "jobs/nightly",
        "--tool",
        "notes",
        "--access",
        "read",
    ]);
    let world = world.restarted();
    check(world.exchange(&job, &[BATCH]), 429, full.0, full.1);
    let id = first["task"].as_str().unwrap();
    assert!(world.remit.command(&["task", "end", id]).status.success());
    world.issued(&job, &[BATCH]);
}

#[test]
fn policy_decides_what_a_job_opens() {
    let world = World::new();
    let job = world.workload("jobs/nightly");
    world.refused(&job, &[], "access_denied", "admission_undefined");
}

#[test]
fn without_an_author_who_says_so_neither_agents_nor_owners_open_tasks() {
    let world = World::with(None, &format!("issuer: {GATEWAY}, "));
    let job = world.workload("jobs/nightly");
    world.refused(&job, &[BATCH], "access_denied", "admission_undefined");
    let assistant = world.workload("assistant");
    let actor = [
        ("actor_token", assistant.as_str()),
        ("actor_token_type", JWT),
    ];
    world.refused(
        &world.person(),
        &actor,
        "access_denied",
        "admission_undefined",
    );
}

// An agent on behalf of a person.

#[test]
fn an_agent_opens_a_task_on_behalf_of_a_person() {
    let world = World::new();
    let assistant = world.workload("assistant");
    let actor = [
        ("actor_token", assistant.as_str()),
        ("actor_token_type", JWT),
    ];
    let issued = world.issued(&world.person(), &actor);
    let token = token_of(&issued);
    world.reads(&token, (200, None));
    assert_eq!(claims(&token)["sub"], "anna@example.org");
    assert_eq!(claims(&token)["act"], json!({ "sub": "assistant" }));
    assert_eq!(world.tasks()[0]["owner"], "anna@example.org");
}

#[test]
fn policy_decides_who_acts_for_whom_and_on_what() {
    let world = World::new();
    let person = world.person();
    let stranger = world.workload("stranger");
    let actor = [
        ("actor_token", stranger.as_str()),
        ("actor_token_type", JWT),
    ];
    world.refused(&person, &actor, "access_denied", "admission_undefined");

    let assistant = world.workload("assistant");
    let actor = [
        ("actor_token", assistant.as_str()),
        ("actor_token_type", JWT),
    ];
    let other = world.person_with(&json!({ "email": "carl@example.org" }));
    world.refused(&other, &actor, "access_denied", "admission_undefined");
    let wide = [actor[0], actor[1], ("authorization_details", WRITE)];
    world.refused(&person, &wide, "access_denied", "admission_denied");
}

#[test]
fn a_person_may_say_who_acts() {
    let world = World::new();
    let assistant = world.workload("assistant");
    let actor = [
        ("actor_token", assistant.as_str()),
        ("actor_token_type", JWT),
    ];
    let named = world.person_with(&json!({ "may_act": { "sub": "assistant" } }));
    world.issued(&named, &actor);
    let other = world.person_with(&json!({ "may_act": { "sub": "other" } }));
    world.refused(&other, &actor, "invalid_request", "may_not_act");
}

#[test]
fn each_token_is_good_for_its_place_alone() {
    let world = World::new();
    let (person, assistant) = (world.person(), world.workload("assistant"));
    let unacceptable = |subject: &str, change: &[(&str, &str)]| {
        world.refused(subject, change, "invalid_request", "unacceptable_token");
    };
    // A person alone is no agent.
    unacceptable(&person, &[BATCH]);
    // A person acts for nobody.
    unacceptable(
        &person,
        &[
            ("actor_token", &world.person_with(&json!({ "jti": "2" }))),
            ("actor_token_type", JWT),
        ],
    );
    // An agent owns nothing.
    unacceptable(
        &world.workload("other"),
        &[("actor_token", &assistant), ("actor_token_type", JWT)],
    );
    // A task token proves nobody's identity here.
    let job = token_of(&world.issued(&world.workload("jobs/nightly"), &[BATCH]));
    unacceptable(&person, &[("actor_token", &job), ("actor_token_type", JWT)]);
}

#[test]
fn a_persons_token_calls_nothing() {
    let world = World::new();
    let (task, _) = world
        .remit
        .open_task(&["--tool", "notes", "--agent", "u-17"]);
    let person = world.person();
    world.reads(&person, (401, Some("invalid_proof")));
    let request = testkit::http().get(world.remit.call("/notes/notes"));
    let request = request.bearer_auth(&person).header("agent-task", &task);
    assert_eq!(request.send().unwrap().status().as_u16(), 401);
    // Nor is it good for a word on the control listener.
    let url = world.remit.control(&format!("/v1/tasks/{task}/delegate"));
    let body = json!({ "agent": "b", "grants": [{ "tool": "notes", "access": ["read"] }] });
    let request = testkit::http()
        .post(url)
        .bearer_auth(&person)
        .header("agent-task", &task);
    assert_eq!(request.json(&body).send().unwrap().status().as_u16(), 401);
    assert!(world.notes.received().is_empty());
}

// Delegation.

#[test]
fn a_task_is_delegated_by_exchange() {
    let world = World::new();
    let (task, parent) = world
        .remit
        .open_task(&["--tool", "notes", "--access", "read", "--agent", "planner"]);
    let child = world.workload("researcher");
    let actor = [("actor_token", child.as_str()), ("actor_token_type", JWT)];
    let issued = world.issued(
        &parent,
        &[actor[0], actor[1], ("subject_token_type", ACCESS_TOKEN)],
    );
    let token = token_of(&issued);
    world.reads(&token, (200, None));
    let act = json!({ "sub": "researcher", "act": { "sub": "planner" } });
    assert_eq!(claims(&token)["act"], act);
    assert_eq!(world.tasks()[0]["parent"], json!(task));

    let wide = [actor[0], actor[1], ("authorization_details", WRITE)];
    world.refused(
        &parent,
        &wide,
        "invalid_authorization_details",
        "wider_than_parent",
    );
    // Who delegates what is told by the child's own token, and attributes are the parent's.
    world.refused(&parent, &[], "invalid_request", "invalid_parameter");
    world.refused(
        &parent,
        &[actor[0], actor[1], BATCH],
        "invalid_request",
        "invalid_parameter",
    );
    let planner = world.workload("planner");
    let own = [("actor_token", planner.as_str()), ("actor_token_type", JWT)];
    world.refused(&parent, &own, "invalid_request", "delegation_loop");

    let bounded = |ttl: u64| {
        json!([
            { "type": "remit_grant", "tool": "notes", "access": ["read"] },
            { "type": "remit_task", "purpose": "look it up", "ttl_seconds": ttl, "limits": { "calls": 1 } },
        ])
        .to_string()
    };
    let brief = bounded(60);
    let brief = [
        actor[0],
        actor[1],
        ("authorization_details", brief.as_str()),
    ];
    let token = token_of(&world.issued(&parent, &brief));
    assert_eq!(world.tasks()[0]["purpose"], "look it up");
    world.reads(&token, (200, None));
    world.reads(&token, (429, Some("limit_exhausted")));
    let long = bounded(100_000);
    let long = [actor[0], actor[1], ("authorization_details", long.as_str())];
    let code = "invalid_authorization_details";
    world.refused(&parent, &long, code, "wider_than_parent");

    world.remit.command(&["task", "end", &task]);
    world.refused(&parent, &actor, "invalid_request", "task_ended");
    world.reads(&token, (403, Some("task_ended")));
}

// What is not in order.

#[test]
fn tokens_that_are_not_in_order_open_nothing() {
    let world = World::new();
    let job = world.workload("jobs/nightly");
    let change = |name: &str, value: Value| {
        let mut claims = world.agents.claims("jobs/nightly", "remit");
        claims["team"] = json!("night");
        claims[name] = value;
        world.agents.mint(Algorithm::ES256, &claims)
    };
    let refused = |subject: &str, code: &str| {
        world.refused(subject, &[BATCH], "invalid_request", code);
    };
    refused(&change("exp", json!(1)), "expired_token");
    refused(&change("aud", json!("other")), "unacceptable_token");
    refused(
        &change("iss", json!("https://other.example")),
        "unacceptable_token",
    );
    refused(
        &change("nbf", json!(9_999_999_999_u64)),
        "unacceptable_token",
    );
    refused(&change("cnf", json!({ "x5c": "x" })), "unacceptable_token");
    refused("no.to.ken", "unacceptable_token");
    refused("token", "unacceptable_token");
    let (signed, _) = job.rsplit_once('.').unwrap();
    refused(&format!("{signed}.AAAA"), "unacceptable_token");
    let (message, other) = (signed, world.workload("jobs/other"));
    let (_, signature) = other.rsplit_once('.').unwrap();
    refused(&format!("{message}.{signature}"), "unacceptable_token");
}

#[test]
fn requests_that_are_not_in_order_open_nothing() {
    let world = World::new();
    let job = world.workload("jobs/nightly");
    let refused = |change: &[(&str, &str)], error: &str, code: &str| {
        let mut all = vec![BATCH];
        all.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
        all.extend(change);
        world.refused(&job, &all, error, code);
    };
    let parameter =
        |change: &[(&str, &str)]| refused(change, "invalid_request", "invalid_parameter");
    let refresh = "urn:ietf:params:oauth:token-type:refresh_token";
    parameter(&[("grant_type", "")]);
    parameter(&[("subject_token", "")]);
    parameter(&[("subject_token_type", "")]);
    parameter(&[("subject_token_type", refresh)]);
    parameter(&[("requested_token_type", refresh)]);
    parameter(&[("actor_token", "x.y.z")]);
    parameter(&[("actor_token_type", JWT)]);
    parameter(&[("request_details", "[]")]);
    parameter(&[("request_context", "{")]);
    parameter(&[("authorization_details", "")]);
    parameter(&[("scope", "notes:read"), ("scope", "notes:read")]);
    parameter(&[("actor_token", &job), ("actor_token_type", JWT)]);
    refused(
        &[("grant_type", "password")],
        "unsupported_grant_type",
        "unsupported_grant_type",
    );
    refused(
        &[("scope", "notes:write")],
        "invalid_scope",
        "invalid_scope",
    );
    refused(
        &[("audience", "https://other.example")],
        "invalid_target",
        "invalid_target",
    );
    refused(
        &[("resource", "https://other.example/notes")],
        "invalid_target",
        "invalid_target",
    );
    let details = |text: &str| {
        let change = [("authorization_details", text)];
        refused(
            &change,
            "invalid_authorization_details",
            "invalid_authorization_details",
        );
    };
    details("{}");
    details(r#"[{"type":"other","tool":"notes","access":["read"]}]"#);
    details(r#"[{"type":"remit_grant","tool":"notes","access":["read"],"more":1}]"#);
    details(
        r#"[{"type":"remit_grant","tool":"notes","access":["read"],"arguments":{"id":{"max":1}}}]"#,
    );
    details(
        r#"[{"type":"remit_grant","tool":"notes","access":["read"],"arguments":{"/id":{"max":1,"absent":true}}}]"#,
    );
    refused(
        &[("authorization_details", "[]")],
        "invalid_request",
        "invalid_opening",
    );
    let large = format!("{{\"batch\":\"{}\"}}", "x".repeat(9000));
    refused(
        &[("request_details", &large)],
        "invalid_request",
        "invalid_opening",
    );
}

#[test]
fn c3_limits_of_arguments_and_labels_are_details_that_no_part_widens() {
    let world = World::new();
    let limited = |limits: &str| {
        format!(r#"[{{"type":"remit_grant","tool":"notes","access":["read","write"],{limits}}}]"#)
    };
    let job = world.workload("jobs/nightly");
    let limits = r#""arguments":{"/id":{"max":9}},"unless_labels":["untrusted"]"#;
    let issued = world.issued(&job, &[BATCH, ("authorization_details", &limited(limits))]);
    let told = &issued["authorization_details"][0];
    assert_eq!(told["arguments"], json!({ "/id": { "max": 9 } }));
    assert_eq!(told["unless_labels"], json!(["untrusted"]));
    let parent = token_of(&issued);
    assert_eq!(claims(&parent)["authorization_details"][0], *told);
    let child = world.workload("researcher");
    let actor = [("actor_token", child.as_str()), ("actor_token_type", JWT)];
    let part = |details: &str| {
        let kind = ("subject_token_type", ACCESS_TOKEN);
        world.exchange(
            &parent,
            &[actor[0], actor[1], kind, ("authorization_details", details)],
        )
    };
    for wide in [
        READ.to_owned(),
        limited(r#""arguments":{"/id":{"max":10}},"unless_labels":["untrusted"]"#),
        limited(r#""arguments":{"/id":{"max":9}}"#),
    ] {
        let refused: Value = part(&wide).json().unwrap();
        assert_eq!(refused["error"], "invalid_authorization_details", "{wide}");
        assert_eq!(refused["code"], "wider_than_parent", "{wide}");
    }
    let narrow = r#""arguments":{"/id":{"one_of":[1,2]}},"unless_labels":["untrusted"]"#;
    assert_eq!(part(&limited(narrow)).status().as_u16(), 200);
}

#[test]
fn a_target_may_be_this_gateway() {
    let world = World::new();
    let job = world.workload("jobs/nightly");
    let resource = world.remit.call("/notes");
    world.issued(
        &job,
        &[BATCH, ("audience", GATEWAY), ("resource", &resource)],
    );
}

#[test]
fn a_body_that_is_no_form_is_refused() {
    let world = World::new();
    let ask = |kind: &str, body: Vec<u8>| {
        let request = testkit::http().post(world.remit.control("/oauth2/token"));
        request
            .header("content-type", kind)
            .body(body)
            .send()
            .unwrap()
    };
    let form = "application/x-www-form-urlencoded";
    check(
        ask("application/json", b"{}".to_vec()),
        400,
        "invalid_request",
        "form_required",
    );
    check(
        ask(form, b"grant_type=%ff".to_vec()),
        400,
        "invalid_request",
        "form_required",
    );
    check(
        ask(form, vec![b'a'; 70_000]),
        413,
        "invalid_request",
        "body_too_large",
    );
}

#[test]
fn an_issuer_that_is_away_is_told_apart() {
    let world = World::new();
    let job = world.workload("jobs/nightly");
    world.agents.mood(testkit::issuer::Mood::Down);
    let answer = world.exchange(&job, &[BATCH]);
    check(answer, 503, "temporarily_unavailable", "issuer_unavailable");
    assert!(world.tasks().is_empty());
}

// Introspection and revocation.

#[test]
fn a_token_that_counts_is_told_of() {
    let world = World::new();
    let (task, token) = world.remit.open_task(&["--tool", "notes", "--agent", "a"]);
    let told = world.active(&token, true);
    let claims = claims(&token);
    for name in [
        "iss",
        "aud",
        "exp",
        "iat",
        "jti",
        "sub",
        "act",
        "txn",
        "client_id",
        "scope",
        "authorization_details",
    ] {
        assert_eq!(told[name], claims[name], "{name}");
    }
    assert_eq!(told["token_type"], "Bearer");

    world.remit.command(&["task", "pause", &task]);
    world.active(&token, false);
    world.remit.command(&["task", "resume", &task]);
    world.active(&token, true);
    world.remit.command(&["task", "end", &task]);
    world.active(&token, false);
    world.active(&world.workload("a"), false);
    world.active("no token", false);
    world.active(&format!("{token}x"), false);
}

#[test]
fn whoever_asks_of_a_token_is_an_operator_or_holds_it() {
    let world = World::new();
    let (_, token) = world.remit.open_task(&["--tool", "notes", "--agent", "a"]);
    let (_, other) = world.remit.open_task(&["--tool", "notes", "--agent", "b"]);
    let own: Value = world.introspect(&token, &token).json().unwrap();
    assert_eq!(own["active"], true);
    let others: Value = world.introspect(&other, &token).json().unwrap();
    assert_eq!(others, json!({ "active": false }));
    let nobody = world.post("/oauth2/introspect", &[("token", &token)], None);
    assert!(nobody.headers().contains_key("www-authenticate"));
    check(nobody, 401, "invalid_client", "no_token");
    check(
        world.introspect(&token, &world.workload("a")),
        401,
        "invalid_client",
        "invalid_token",
    );
    let by = world.remit.operator_token().to_owned();
    check(
        world.post("/oauth2/introspect", &[], Some(&by)),
        400,
        "invalid_request",
        "invalid_parameter",
    );
}

#[test]
fn a_revoked_token_is_refused_even_after_a_restart_and_its_task_goes_on() {
    let world = World::new();
    let (task, token) = world.remit.open_task(&["--tool", "notes", "--agent", "a"]);
    world.reads(&token, (200, None));
    let answer = world.revoke(&token, world.remit.operator_token());
    assert_eq!(answer.status().as_u16(), 200);
    world.reads(&token, (401, Some("token_revoked")));
    world.active(&token, false);
    // Twice is once.
    let answer = world.revoke(&token, world.remit.operator_token());
    assert_eq!(answer.status().as_u16(), 200);

    let world = world.restarted();
    world.reads(&token, (401, Some("token_revoked")));
    world.active(&token, false);
    let body = json!({ "agent": "b", "grants": [{ "tool": "notes", "access": ["read"] }] });
    let url = world.remit.control(&format!("/v1/tasks/{task}/delegate"));
    let answer = testkit::http()
        .post(url)
        .bearer_auth(&token)
        .json(&body)
        .send()
        .unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    assert_eq!(answer.json::<Value>().unwrap()["code"], "token_revoked");
    let child = world.workload("b");
    let actor = [("actor_token", child.as_str()), ("actor_token_type", JWT)];
    world.refused(&token, &actor, "invalid_request", "token_revoked");

    // Another token of the same task works.
    let url = world.remit.control(&format!("/v1/tasks/{task}/token"));
    let request = testkit::http()
        .post(url)
        .bearer_auth(world.remit.operator_token());
    let opened: Value = request.send().unwrap().json().unwrap();
    world.reads(opened["token"].as_str().unwrap(), (200, None));
    assert_eq!(world.tasks()[0]["state"], "open");
    let revoked = |line: &Value| line.to_string().contains("token_revoked");
    assert!(world.audit().iter().any(revoked));
}

#[test]
fn a_token_revokes_itself_and_no_other() {
    let world = World::new();
    let (_, token) = world.remit.open_task(&["--tool", "notes", "--agent", "a"]);
    let (_, other) = world.remit.open_task(&["--tool", "notes", "--agent", "a"]);
    check(
        world.revoke(&other, &token),
        400,
        "unauthorized_client",
        "not_the_holder",
    );
    check(
        world.revoke("no token", &token),
        400,
        "unauthorized_client",
        "not_the_holder",
    );
    world.reads(&other, (200, None));
    assert_eq!(world.revoke(&token, &token).status().as_u16(), 200);
    world.reads(&token, (401, Some("token_revoked")));
    world.reads(&other, (200, None));
    // What is no token of ours is as good as revoked to an operator.
    let operator = world.remit.operator_token().to_owned();
    assert_eq!(world.revoke("no token", &operator).status().as_u16(), 200);
    check(
        world.post("/oauth2/revoke", &[("token", &other)], None),
        401,
        "invalid_client",
        "no_token",
    );
}

// Metadata.

#[test]
fn clients_find_their_way() {
    let world = World::new();
    let get = |url: String| testkit::http().get(url).send().unwrap();
    let server: Value = get(world
        .remit
        .control("/.well-known/oauth-authorization-server"))
    .json()
    .unwrap();
    assert_eq!(server["issuer"], GATEWAY);
    assert_eq!(server["token_endpoint"], format!("{GATEWAY}/oauth2/token"));
    assert_eq!(
        server["introspection_endpoint"],
        format!("{GATEWAY}/oauth2/introspect")
    );
    assert_eq!(
        server["revocation_endpoint"],
        format!("{GATEWAY}/oauth2/revoke")
    );
    assert_eq!(
        server["jwks_uri"],
        format!("{GATEWAY}/.well-known/jwks.json")
    );
    assert_eq!(server["grant_types_supported"], json!([EXCHANGE]));
    assert_eq!(
        server["authorization_details_types_supported"],
        json!(["remit_grant", "remit_task"])
    );

    let refused = get(world.remit.call("/notes/notes"));
    let challenge = refused.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned();
    let pointer = world
        .remit
        .call("/.well-known/oauth-protected-resource/notes");
    assert_eq!(
        challenge,
        format!(r#"Bearer realm="remit", resource_metadata="{pointer}""#)
    );
    let found = get(pointer);
    assert_eq!(found.status().as_u16(), 200);
    let resource: Value = found.json().unwrap();
    assert_eq!(resource["resource"], world.remit.call("/notes"));
    assert_eq!(resource["authorization_servers"], json!([GATEWAY]));
    assert_eq!(resource["bearer_methods_supported"], json!(["header"]));
    let root: Value = get(world.remit.call("/.well-known/oauth-protected-resource"))
        .json()
        .unwrap();
    assert_eq!(
        format!("{}/notes", root["resource"].as_str().unwrap()),
        resource["resource"]
    );
    // Nobody was refused, so nothing is written of it.
    let told = |line: &Value| line.to_string().contains("oauth-protected-resource");
    assert!(!world.audit().iter().any(told));

    let wrong = world.get("/notes/notes", "a.b.c");
    let challenge = wrong.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(challenge.contains("resource_metadata="), "{challenge}");
}

#[test]
fn without_an_issuer_there_is_no_oauth() {
    let world = World::with(Some(ADMIT), "");
    let job = world.workload("jobs/nightly");
    check(
        world.exchange(&job, &[BATCH]),
        404,
        "oauth_not_configured",
        "oauth_not_configured",
    );
    let operator = world.remit.operator_token().to_owned();
    for answer in [
        world.introspect(&job, &operator),
        world.revoke(&job, &operator),
    ] {
        check(answer, 404, "oauth_not_configured", "oauth_not_configured");
    }
    let metadata = world
        .remit
        .control("/.well-known/oauth-authorization-server");
    let answer = testkit::http().get(metadata).send().unwrap();
    assert_eq!(answer.status().as_u16(), 404);
    let answer = testkit::http()
        .get(world.remit.call("/notes/notes"))
        .send()
        .unwrap();
    assert_eq!(
        answer.headers()["www-authenticate"],
        r#"Bearer realm="remit""#
    );
    let resource = world.remit.call("/.well-known/oauth-protected-resource");
    assert_eq!(
        testkit::http()
            .get(resource)
            .send()
            .unwrap()
            .status()
            .as_u16(),
        401
    );
}

// Transaction tokens: the draft's MUSTs.

const TXN_TOKEN: &str = "urn:ietf:params:oauth:token-type:txn_token";

/// A task of `assistant` to read and write notes: its id, and the token.
fn task_of_assistant(world: &World) -> (String, String) {
    let access = ["--tool", "notes", "--access", "read,write"];
    world
        .remit
        .open_task(&[&access[..], &["--agent", "assistant"]].concat())
}

/// The form of a wish for a transaction token, but for what is changed.
fn wish<'f>(subject: &'f str, change: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let mut form = vec![
        ("grant_type", EXCHANGE),
        ("requested_token_type", TXN_TOKEN),
        ("audience", GATEWAY),
        ("scope", "notes:read"),
        ("subject_token", subject),
        ("subject_token_type", ACCESS_TOKEN),
        ("request_details", r#"{"order":"1234"}"#),
        ("request_context", r#"{"req_ip":"192.0.2.7"}"#),
    ];
    form.retain(|(name, _)| !change.iter().any(|(other, _)| other == name));
    form.extend(change);
    form
}

fn transaction(world: &World, subject: &str) -> String {
    let answer = world.post("/oauth2/token", &wish(subject, &[]), None);
    assert_eq!(answer.status().as_u16(), 200);
    token_of(&answer.json().unwrap())
}

#[track_caller]
fn not_issued(world: &World, subject: &str, change: &[(&str, &str)], (error, code): (&str, &str)) {
    let answer = world.post("/oauth2/token", &wish(subject, change), None);
    check(answer, 400, error, code);
}

/// Reads notes with these headers: the status, and the code where it is refused.
#[track_caller]
fn shows(world: &World, headers: &[(&str, &str)], expect: (u16, Option<&str>)) {
    let mut request = testkit::http().get(world.remit.call("/notes/notes"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().unwrap();
    assert_eq!((status, body["code"].as_str()), expect, "{body}");
}

#[test]
fn txn_a_token_is_made_as_the_draft_has_it() {
    let world = World::new();
    let (task, token) = task_of_assistant(&world);
    let answer = world.post("/oauth2/token", &wish(&token, &[]), None);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let issued: Value = answer.json().unwrap();
    assert_eq!(issued["issued_token_type"], TXN_TOKEN);
    assert_eq!(issued["token_type"], "N_A");
    assert!(issued.get("refresh_token").is_none());

    let minted = token_of(&issued);
    let header = minted.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["typ"], "txntoken+jwt");
    assert!(header["kid"].is_string());
    let claims = claims(&minted);
    assert_eq!(claims["aud"], GATEWAY);
    assert_eq!(claims["txn"], json!(task));
    assert_eq!(claims["sub"], "operator");
    assert_eq!(claims["scope"], "notes:read");
    assert_eq!(claims["req_wl"], "assistant");
    assert_eq!(claims["act"], json!({ "sub": "assistant" }));
    assert_eq!(claims["tctx"], json!({ "order": "1234" }));
    assert_eq!(claims["rctx"], json!({ "req_ip": "192.0.2.7" }));
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((1..=300).contains(&life), "{life}");
    // No token stands in it, and it is none that could be used as one.
    assert!(!claims.to_string().contains(&token));
    assert!(claims.get("jti").is_none());
}

#[test]
fn txn_a_token_is_taken_beside_the_credential_of_its_agent() {
    let world = World::new();
    let (_, token) = task_of_assistant(&world);
    let minted = transaction(&world, &token);
    let assistant = format!("Bearer {}", world.workload("assistant"));
    let both = [
        ("authorization", assistant.as_str()),
        ("txn-token", &minted),
    ];
    shows(&world, &both, (200, None));
    // Once more: it was verified already.
    shows(&world, &both, (200, None));
    assert!(world.notes.received()[0].header("txn-token").is_none());
    // It tells of a task, and a declaration that contradicts it is refused.
    let other = task_of_assistant(&world);
    let three = [both[0], both[1], ("agent-task", &other.0)];
    shows(&world, &three, (403, Some("declaration_contradicts")));
}

#[test]
fn txn_a_token_is_no_credential() {
    let world = World::new();
    let (_, token) = task_of_assistant(&world);
    let minted = transaction(&world, &token);
    let bearer = format!("Bearer {minted}");
    shows(&world, &[("txn-token", &minted)], (401, Some("no_proof")));
    shows(
        &world,
        &[("authorization", &bearer)],
        (401, Some("invalid_proof")),
    );
    shows(
        &world,
        &[("x-api-key", &minted)],
        (401, Some("invalid_proof")),
    );
    // Also where it was taken for what it is before.
    let assistant = format!("Bearer {}", world.workload("assistant"));
    shows(
        &world,
        &[("authorization", &assistant), ("txn-token", &minted)],
        (200, None),
    );
    shows(
        &world,
        &[("authorization", &bearer)],
        (401, Some("invalid_proof")),
    );
    // A task token is a credential of ours, not of a workload.
    let task = format!("Bearer {token}");
    let beside = [("authorization", task.as_str()), ("txn-token", &minted)];
    shows(&world, &beside, (401, Some("invalid_proof")));
    world.active(&minted, false);
}

#[test]
fn txn_a_token_is_of_one_agent_and_whole() {
    let world = World::new();
    let (_, token) = task_of_assistant(&world);
    let minted = transaction(&world, &token);
    let other = format!("Bearer {}", world.workload("other"));
    let beside = [("authorization", other.as_str()), ("txn-token", &minted)];
    shows(&world, &beside, (401, Some("proofs_disagree")));
    let assistant = format!("Bearer {}", world.workload("assistant"));
    let twice = [
        ("authorization", assistant.as_str()),
        ("txn-token", &minted),
        ("txn-token", &minted),
    ];
    shows(&world, &twice, (401, Some("invalid_proof")));
    let (message, _) = minted.rsplit_once('.').unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{message}.{signature}");
    let beside = [
        ("authorization", assistant.as_str()),
        ("txn-token", &forged),
    ];
    shows(&world, &beside, (401, Some("invalid_proof")));
    // A task token is none, wherever it stands.
    let beside = [("authorization", assistant.as_str()), ("txn-token", &token)];
    shows(&world, &beside, (401, Some("invalid_proof")));
}

#[test]
fn txn_a_scope_is_no_more_than_the_subjects() {
    let world = World::new();
    let (_, token) = task_of_assistant(&world);
    let scope = |scope, answer| not_issued(&world, &token, &[("scope", scope)], answer);
    scope("notes:execute", ("invalid_scope", "invalid_scope"));
    scope("notes:read desk:read", ("invalid_scope", "invalid_scope"));
    scope("", ("invalid_request", "invalid_parameter"));
}

#[test]
fn txn_a_request_is_as_the_draft_has_it() {
    let world = World::new();
    let (_, token) = task_of_assistant(&world);
    let minted = transaction(&world, &token);
    let parameter = ("invalid_request", "invalid_parameter");
    let refused = |change: &[(&str, &str)], answer| not_issued(&world, &token, change, answer);
    refused(&[("audience", "")], parameter);
    refused(
        &[("audience", "https://other.example")],
        ("invalid_target", "invalid_target"),
    );
    refused(
        &[(
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:refresh_token",
        )],
        parameter,
    );
    refused(&[("subject_token_type", TXN_TOKEN)], parameter);
    refused(&[("request_details", "7")], parameter);
    refused(&[("request_context", "[]")], parameter);
    refused(&[("authorization_details", READ)], parameter);
    // None is made of another, so none is changed, widened or made to last by that.
    let unacceptable = ("invalid_request", "unacceptable_token");
    not_issued(&world, &minted, &[], unacceptable);
    not_issued(&world, &world.workload("assistant"), &[], unacceptable);
    not_issued(&world, &world.person(), &[], unacceptable);
    assert_eq!(world.tasks().len(), 1);
}

#[test]
fn txn_a_task_that_is_over_has_none() {
    let world = World::new();
    let (task, token) = task_of_assistant(&world);
    let minted = transaction(&world, &token);
    let assistant = format!("Bearer {}", world.workload("assistant"));
    let both = [
        ("authorization", assistant.as_str()),
        ("txn-token", &minted),
    ];
    shows(&world, &both, (200, None));
    world.remit.command(&["task", "end", &task]);
    shows(&world, &both, (403, Some("task_ended")));
    not_issued(&world, &token, &[], ("invalid_request", "task_ended"));
    let (_, token) = task_of_assistant(&world);
    world.revoke(&token, world.remit.operator_token());
    not_issued(&world, &token, &[], ("invalid_request", "token_revoked"));
}

#[test]
fn txn_no_whole_token_is_written_down() {
    let world = World::new();
    let (_, token) = task_of_assistant(&world);
    let minted = transaction(&world, &token);
    let assistant = format!("Bearer {}", world.workload("assistant"));
    shows(
        &world,
        &[("authorization", &assistant), ("txn-token", &minted)],
        (200, None),
    );
    shows(&world, &[("txn-token", &minted)], (401, Some("no_proof")));
    let (_, signature) = minted.rsplit_once('.').unwrap();
    let audit = std::fs::read_to_string(world.site.path("audit.jsonl")).unwrap();
    assert!(!audit.contains(signature) && !world.remit.logged().contains(signature));
    let received = world.notes.received();
    assert!(
        received
            .iter()
            .all(|one| !format!("{one:?}").contains(signature))
    );
}

// The kill switch.

impl World {
    fn kill(&self, body: &Value) -> Value {
        let request = testkit::http().post(self.remit.control("/v1/revocations"));
        let request = request.bearer_auth(self.remit.operator_token());
        let answer = request.json(body).send().unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        answer.json().unwrap()
    }

    fn lift(&self, revoked: &Value) {
        let path = format!("/v1/revocations/{}", revoked["id"].as_str().unwrap());
        let request = testkit::http().delete(self.remit.control(&path));
        let request = request.bearer_auth(self.remit.operator_token());
        assert_eq!(request.send().unwrap().status().as_u16(), 200);
    }

    fn open_tasks(&self) -> usize {
        let tasks = self.tasks();
        tasks.iter().filter(|task| task["state"] == "open").count()
    }
}

#[test]
fn c6_with_an_issuer_all_that_it_vouched_for_ends_and_none_of_its_tokens_is_taken() {
    let world = World::new();
    let job = world.workload("jobs/nightly");
    let night = token_of(&world.issued(&job, &[BATCH]));
    let assistant = world.workload("assistant");
    let actor = [("actor_token", &*assistant), ("actor_token_type", JWT)];
    let annas = token_of(&world.issued(&world.person(), &actor));
    let (own, _) = world
        .remit
        .open_task(&["--agent", "jobs/nightly", "--tool", "notes"]);
    let by_workload = || {
        let request = testkit::http().get(world.remit.call("/notes/notes"));
        let answer = request.bearer_auth(&job).header("agent-task", &own).send();
        let answer: Value = answer.unwrap().json().unwrap();
        answer["code"].as_str().map(str::to_owned)
    };
    assert_eq!(by_workload(), None);
    assert_eq!(world.open_tasks(), 3);

    // Who vouches for people takes what is done for them along, and no other.
    let people = world.kill(&json!({ "issuer": world.people.url(), "reason": "its key leaked" }));
    assert_eq!(people["tasks_ended"], 1);
    world.reads(&annas, (403, Some("issuer_revoked")));
    world.refused(&world.person(), &actor, "access_denied", "issuer_revoked");
    world.reads(&night, (200, None));
    world.lift(&people);
    world.reads(&annas, (403, Some("task_ended")));
    let annas = token_of(&world.issued(&world.person(), &actor));

    // Who vouches for agents takes along what they opened, and whatever was opened for them.
    let agents = world.kill(&json!({ "issuer": world.agents.url(), "reason": "its key leaked" }));
    assert_eq!(agents["tasks_ended"], 2);
    world.reads(&night, (403, Some("issuer_revoked")));
    world.reads(&annas, (403, Some("issuer_revoked")));
    world.active(&night, false);
    world.refused(&job, &[BATCH], "access_denied", "issuer_revoked");
    assert_eq!(by_workload().as_deref(), Some("issuer_revoked"));
    // What an operator opened is worked on by whoever else can prove to be its agent.
    assert_eq!(world.open_tasks(), 1);

    let world = world.restarted();
    world.reads(&night, (403, Some("issuer_revoked")));
    world.lift(&agents);
    world.issued(&world.workload("jobs/nightly"), &[BATCH]);
}

#[test]
fn c6_without_our_own_issuer_no_task_token_is_taken() {
    let world = World::new();
    let night = token_of(&world.issued(&world.workload("jobs/nightly"), &[BATCH]));
    let revoked = world.kill(&json!({ "issuer": GATEWAY, "reason": "task.key leaked" }));
    world.reads(&night, (403, Some("issuer_revoked")));
    world.active(&night, false);
    world.lift(&revoked);
    world.reads(&night, (200, None));
}

#[test]
fn c6_an_agent_or_owner_who_is_revoked_exchanges_nothing() {
    let world = World::new();
    let job = world.workload("jobs/nightly");
    let night = token_of(&world.issued(&job, &[BATCH]));
    let assistant = world.workload("assistant");
    let actor = [("actor_token", &*assistant), ("actor_token_type", JWT)];
    world.kill(&json!({ "agent": "assistant", "reason": "INC-7" }));
    world.refused(&world.person(), &actor, "access_denied", "agent_revoked");
    world.refused(&night, &actor, "access_denied", "agent_revoked");
    world.kill(&json!({ "owner": "bert@example.org", "reason": "INC-7" }));
    world.refused(&job, &[BATCH], "access_denied", "owner_revoked");
    world.reads(&night, (403, Some("owner_revoked")));
}
