//! Shared signals, of a fake transmitter with real sockets: what it says was revoked ends tasks, and nothing else does.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

use reqwest::blocking::Response;
use serde_json::{Value, json};
use testkit::remit::{Remit, until};
use testkit::transmitter::{POLL_TOKEN, Transmitter};
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const AUDIENCE: &str = "https://remit.example";
const PUSH_TOKEN: &str = "push-token-0123456789";

const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const CHANGED: &str = "https://schemas.openid.net/secevent/caep/event-type/credential-change";
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

struct World {
    site: Site,
    remit: Remit,
    transmitter: Transmitter,
    _notes: Upstream,
}

impl World {
    fn pushed() -> Self {
        Self::with("push: { token: \"file:push.token\" }")
    }

    fn polled() -> Self {
        Self::with("poll: { endpoint: \"ENDPOINT\", token: \"file:poll.token\" }")
    }

    fn with(how: &str) -> Self {
        let site = Site::new(env!("CARGO_BIN_EXE_remit"));
        let transmitter = site.run(Transmitter::start());
        let notes = site.run(Upstream::start(Answer::json(json!({ "notes": [] }))));
        site.write("policy/all.rego", "package remit.all\n\nallow if true\n");
        site.secret("push.token", PUSH_TOKEN);
        site.secret("poll.token", POLL_TOKEN);
        let how = how.replace("ENDPOINT", transmitter.endpoint());
        site.config(&format!(
            "signals:
  - issuer: {}
    jwks_uri: {}
    audience: {AUDIENCE}
    agent: \"{{sub}}\"
    {how}
identity: {{ issuers: [{{ issuer: {}, audience: remit }}] }}
audit: {{ path: audit.jsonl }}
tools: {{ notes: {{ upstream: \"{}\", access: {{ read: [\"GET /**\"] }} }} }}
",
            transmitter.issuer(),
            transmitter.jwks(),
            transmitter.issuer(),
            notes.url(),
        ));
        let remit = site.serve();
        Self {
            site,
            remit,
            transmitter,
            _notes: notes,
        }
    }

    /// Opens a task for an owner; its token.
    fn open(&self, agent: &str, owner: &str) -> String {
        let arguments = ["--agent", agent, "--owner", owner, "--tool", "notes"];
        self.remit.open_task(&arguments).1
    }

    /// What a call with this token comes to.
    fn call(&self, token: &str) -> String {
        let request = testkit::http().get(self.remit.call("/notes/notes"));
        let answer: Value = request.bearer_auth(token).send().unwrap().json().unwrap();
        answer["code"].as_str().unwrap_or("ok").to_owned()
    }

    fn claims(&self, jti: &str, event: (&str, &Value), subject: &Value) -> Value {
        self.transmitter.claims(AUDIENCE, jti, event, subject)
    }

    /// An event about anna, as claims.
    fn about_anna(&self, jti: &str) -> Value {
        self.claims(jti, (REVOKED, &json!({})), &anna())
    }

    fn push_as(&self, kind: &str, authorization: &str, body: &str) -> Response {
        let request = testkit::http().post(self.remit.control("/v1/signals"));
        let request = request.header("content-type", kind);
        let request = request.header("authorization", authorization);
        request.body(body.to_owned()).send().unwrap()
    }

    fn push(&self, body: &str) -> Response {
        let authorization = format!("Bearer {PUSH_TOKEN}");
        self.push_as("application/secevent+jwt", &authorization, body)
    }

    #[track_caller]
    fn accepted(&self, claims: &Value) {
        let answer = self.push(&self.transmitter.sign(claims));
        let status = answer.status().as_u16();
        assert_eq!((status, answer.text().unwrap().as_str()), (202, ""));
    }

    #[track_caller]
    fn refused(&self, token: &str, error: &str) {
        check_refused(self.push(token), error);
    }

    /// How many signals came to this, as Prometheus is told.
    fn counted(&self, result: &str) -> String {
        let metrics = testkit::http().get(self.remit.control("/metrics"));
        let metrics = metrics.send().unwrap().text().unwrap();
        let name = format!("remit_signals_total{{result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap().to_owned()
    }

    fn restarted(self) -> Self {
        let Self {
            site,
            remit,
            transmitter,
            _notes,
        } = self;
        remit.kill();
        let remit = site.serve();
        Self {
            site,
            remit,
            transmitter,
            _notes,
        }
    }
}

fn anna() -> Value {
    json!({ "format": "email", "email": "anna@example.org" })
}

#[track_caller]
fn check_refused(answer: Response, error: &str) {
    assert_eq!(answer.status().as_u16(), 400);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["content-language"], "en");
    let body: Value = answer.json().unwrap();
    assert_eq!(body["err"], error, "{body}");
    assert!(
        body["description"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
}

#[test]
fn a_revoked_session_ends_the_tasks_of_its_owner_and_no_others() {
    let world = World::pushed();
    let annas = world.open("assistant", "anna@example.org");
    let berts = world.open("assistant", "bert@example.org");
    assert_eq!(world.call(&annas), "ok");
    world.accepted(&world.about_anna("1"));
    assert_eq!(world.call(&annas), "task_ended");
    assert_eq!(world.call(&berts), "ok");
    // Nothing is revoked for good: anna may begin anew.
    let again = world.open("assistant", "anna@example.org");
    assert_eq!(world.call(&again), "ok");
    assert_eq!(world.counted("ended"), "1");
    until("the audit tells", || {
        let audit = std::fs::read_to_string(world.site.path("audit.jsonl")).unwrap();
        let mut lines = audit
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.any(|line: Value| {
            line["kind"] == "revocation"
                && line["by"] == world.transmitter.issuer()
                && line["reason"] == "session-revoked, signal 1"
                && line["tasks"] == 1
        })
    });
}

#[test]
fn a_credential_that_is_taken_away_ends_tasks_of_its_agent() {
    let world = World::pushed();
    let token = world.open("job", "anna@example.org");
    let job = json!({ "format": "iss_sub", "iss": world.transmitter.issuer(), "sub": "job" });
    let change = |how: &str| json!({ "change_type": how, "credential_type": "x509" });
    let event = |jti: &str, how: &str| world.claims(jti, (CHANGED, &change(how)), &job);
    world.accepted(&event("1", "create"));
    world.accepted(&event("2", "update"));
    let foreign = json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "job" });
    world.accepted(&world.claims("3", (CHANGED, &change("revoke")), &foreign));
    assert_eq!(world.call(&token), "ok");
    world.accepted(&event("4", "revoke"));
    assert_eq!(world.call(&token), "task_ended");
    assert_eq!(
        (&*world.counted("noted"), &*world.counted("unknown")),
        ("2", "1")
    );
}

#[test]
fn b2_tokens_of_before_a_credential_was_taken_away_are_taken_no_more() {
    let world = World::pushed();
    let job = json!({ "format": "iss_sub", "iss": world.transmitter.issuer(), "sub": "job" });
    let event = json!({ "change_type": "revoke", "credential_type": "jwt" });
    let mut claims = world.claims("1", (CHANGED, &event), &job);
    let now = claims["iat"].as_u64().unwrap();
    claims["events"][CHANGED]["event_timestamp"] = json!(now - 60);
    let issued = |ago: u64| {
        let claims = json!({
            "iss": world.transmitter.issuer(), "sub": "job", "aud": "remit",
            "iat": now - ago, "exp": now + 300,
        });
        world.transmitter.sign_as("JWT", &claims)
    };
    let (before, after) = (issued(90), issued(30));
    let arguments = ["--agent", "job", "--tool", "notes"];
    let (task, _) = world.remit.open_task(&arguments);
    let call = |world: &World, token: &str| {
        let request = testkit::http().get(world.remit.call("/notes/notes"));
        let request = request.bearer_auth(token).header("agent-task", &task);
        let answer: Value = request.send().unwrap().json().unwrap();
        answer["code"].as_str().unwrap_or("ok").to_owned()
    };
    assert_eq!(call(&world, &before), "ok");
    world.accepted(&claims);
    assert_eq!(call(&world, &before), "token_revoked");
    assert_eq!(call(&world, &after), "ok");
    let world = world.restarted();
    assert_eq!(call(&world, &before), "token_revoked");
    assert_eq!(call(&world, &after), "ok");
}

#[test]
fn what_ends_nothing_is_acknowledged() {
    let world = World::pushed();
    let token = world.open("assistant", "anna@example.org");
    let mut verification = world.claims("1", (VERIFICATION, &json!({ "state": "x" })), &anna());
    verification["sub_id"] = json!({ "format": "opaque", "id": "stream" });
    world.accepted(&verification);
    let carol = json!({ "format": "email", "email": "carol@example.org" });
    world.accepted(&world.claims("2", (REVOKED, &json!({})), &carol));
    world.accepted(&world.claims(
        "3",
        (REVOKED, &json!({})),
        &json!({ "format": "opaque", "id": "7" }),
    ));
    assert_eq!(world.call(&token), "ok");
    assert_eq!(
        (&*world.counted("noted"), &*world.counted("unknown")),
        ("1", "2")
    );
}

#[test]
fn a_replayed_event_ends_nothing_anew() {
    let world = World::pushed();
    let token = world.transmitter.sign(&world.about_anna("1"));
    world.open("assistant", "anna@example.org");
    assert_eq!(world.push(&token).status().as_u16(), 202);
    let later = world.open("assistant", "anna@example.org");
    assert_eq!(world.push(&token).status().as_u16(), 202);
    assert_eq!(world.call(&later), "ok");
    assert_eq!(world.counted("duplicate"), "1");
}

#[test]
fn an_old_event_ends_nothing_that_began_after_it() {
    let world = World::pushed();
    let token = world.open("assistant", "anna@example.org");
    let mut event = world.about_anna("1");
    let now = event["iat"].as_u64().unwrap();
    event["events"][REVOKED]["event_timestamp"] = json!(now - 60);
    world.accepted(&event);
    assert_eq!(world.call(&token), "ok");
    // And once the memory of it is gone with a crash, it ends nothing either.
    let world = world.restarted();
    world.accepted(&event);
    assert_eq!(world.call(&token), "ok");
}

#[test]
fn b1_b2_b3_what_is_not_the_transmitters_event_is_refused_and_ends_nothing() {
    let world = World::pushed();
    let token = world.open("assistant", "anna@example.org");
    let good = world.about_anna("1");
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        world.transmitter.sign(&claims)
    };
    let signed = world.transmitter.sign(&good);

    // Its signature, by nobody, by somebody else, or of something else.
    let stranger = world.site.run(Transmitter::start());
    world.refused(&stranger.sign(&good), "invalid_key");
    let (head, signature) = signed.rsplit_once('.').unwrap();
    let rest: String = signature.chars().skip(1).collect();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    world.refused(&format!("{head}.{flipped}{rest}"), "invalid_key");
    world.refused(&format!("{head}."), "invalid_key");
    let unsigned = json!({ "alg": "none", "typ": "secevent+jwt" });
    let encode = |value: &Value| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let unsigned = format!("{}.{}.", encode(&unsigned), encode(&good));
    world.refused(&unsigned, "invalid_request");

    // Another kind of token.
    for typ in ["JWT", "at+jwt", "logout+jwt", ""] {
        world.refused(&world.transmitter.sign_as(typ, &good), "invalid_request");
    }
    world.refused(
        &changed("sub", json!("anna@example.org")),
        "invalid_request",
    );
    world.refused(&changed("exp", json!(4_000_000_000_u64)), "invalid_request");

    // For or of somebody else, or without what it must have.
    world.refused(
        &changed("aud", json!("https://other.example")),
        "invalid_audience",
    );
    world.refused(&changed("aud", json!([])), "invalid_audience");
    world.refused(
        &changed("iss", json!("https://other.example")),
        "invalid_issuer",
    );
    world.refused(&changed("jti", json!("")), "invalid_request");
    world.refused(&changed("events", json!({})), "invalid_request");
    let now = good["iat"].as_u64().unwrap();
    world.refused(&changed("iat", json!(now + 600)), "invalid_request");
    world.refused(
        &changed("iat", json!(now - 8 * 24 * 3600)),
        "invalid_request",
    );
    world.refused(&changed("iat", Value::Null), "invalid_request");

    // Too long, and no token at all.
    world.refused(
        &changed("filler", json!("x".repeat(20_000))),
        "invalid_request",
    );
    assert_eq!(world.push(&"x".repeat(70_000)).status().as_u16(), 413);
    world.refused("", "invalid_request");
    world.refused("{}", "invalid_request");
    assert_eq!(world.call(&token), "ok");
    world.accepted(&good);
    assert_eq!(world.call(&token), "task_ended");
}

#[test]
fn only_who_has_the_token_may_push() {
    let world = World::pushed();
    let task = world.open("assistant", "anna@example.org");
    let token = world.transmitter.sign(&world.about_anna("1"));
    let kind = "application/secevent+jwt";
    let operator = format!("Bearer {}", world.remit.operator_token());
    for wrong in ["", "Bearer wrong-token-0123456789", &operator, PUSH_TOKEN] {
        let answer = world.push_as(kind, wrong, &token);
        check_refused(answer, "authentication_failed");
    }
    let right = format!("Bearer {PUSH_TOKEN}");
    let answer = world.push_as("application/jwt", &right, &token);
    check_refused(answer, "invalid_request");
    assert_eq!(world.call(&task), "ok");
    // What pushes signals asks nothing else.
    let request = testkit::http().get(world.remit.control("/v1/tasks"));
    let status = request.bearer_auth(PUSH_TOKEN).send().unwrap().status();
    assert_eq!(status.as_u16(), 401);
}

#[test]
fn nothing_is_pushed_where_nobody_may() {
    let world = World::polled();
    let token = world.transmitter.sign(&world.about_anna("1"));
    assert_eq!(world.push(&token).status().as_u16(), 404);
}

#[test]
fn keys_that_cant_be_had_are_no_fault_of_the_event() {
    let world = World::pushed();
    let token = world.open("assistant", "anna@example.org");
    let signed = world.transmitter.sign(&world.about_anna("1"));
    world.transmitter.keys_down(true);
    assert_eq!(world.push(&signed).status().as_u16(), 503);
    assert_eq!(world.call(&token), "ok");
}

#[test]
fn what_is_polled_for_ends_tasks_and_is_acknowledged_then() {
    let world = World::polled();
    let token = world.open("assistant", "anna@example.org");
    let good = world.transmitter.sign(&world.about_anna("1"));
    world.transmitter.offer("1", &good);
    let mut wrong = world.about_anna("2");
    wrong["aud"] = json!("https://other.example");
    world
        .transmitter
        .offer("2", &world.transmitter.sign(&wrong));
    // Under an id that is not its own.
    world
        .transmitter
        .offer("3", &world.transmitter.sign(&world.about_anna("4")));
    until("all are answered", || {
        world.transmitter.acknowledged() == ["1"] && world.transmitter.refused().len() == 2
    });
    assert_eq!(world.call(&token), "task_ended");
    let refused = world.transmitter.refused();
    assert_eq!(refused["2"]["err"], "invalid_audience");
    assert_eq!(refused["3"]["err"], "invalid_request");
}

#[test]
fn a_transmitter_that_was_away_is_polled_again() {
    let world = World::polled();
    let token = world.open("assistant", "anna@example.org");
    world.transmitter.down(true);
    until("it says so", || {
        world.remit.logged().contains("transmitter does not answer")
    });
    let signed = world.transmitter.sign(&world.about_anna("1"));
    world.transmitter.offer("1", &signed);
    assert_eq!(world.call(&token), "ok");
    world.transmitter.down(false);
    until("it is acknowledged", || {
        world.transmitter.acknowledged() == ["1"]
    });
    assert_eq!(world.call(&token), "task_ended");
}

#[test]
fn c7_a_crash_between_receipt_and_acknowledgement_loses_no_event() {
    let world = World::polled();
    let mut tokens = Vec::new();
    for number in 0..30 {
        let owner = format!("owner-{number}@example.org");
        tokens.push(world.open("assistant", &owner));
        let subject = json!({ "format": "email", "email": owner });
        let jti = number.to_string();
        let claims = world.claims(&jti, (REVOKED, &json!({})), &subject);
        world
            .transmitter
            .offer(&jti, &world.transmitter.sign(&claims));
    }
    // Wherever it is by then, what is not acknowledged comes again.
    until("it is polled", || world.transmitter.polls() > 1);
    let world = world.restarted();
    until("all are acknowledged", || {
        let mut all = world.transmitter.acknowledged();
        all.sort();
        all.dedup();
        all.len() == 30
    });
    for token in &tokens {
        assert_eq!(world.call(token), "task_ended");
    }
    // And what is acknowledged stays done.
    let world = world.restarted();
    for token in &tokens {
        assert_eq!(world.call(token), "task_ended");
    }
}
