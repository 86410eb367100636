//! Agents with workload tokens of an OpenID issuer, against the built gateway: who is let in, and who is not.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failure here fails a test"
)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::issuer::{Algorithm, Mood};
use testkit::remit::{Remit, until};
use testkit::upstream::Answer;
use testkit::{Issuer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Lets the crew read, and whoever has a task token.
const POLICY: &str = r#"package remit.tools.notes

allow if {
	input.tool.access == "read"
	input.agent.claims.team == "crew"
}

allow if input.agent.method == "task_token"
"#;

/// A gateway that believes one issuer, in front of one tool, and a task of the agent `crew/triage`.
struct World {
    remit: Remit,
    http: Client,
    issuer: Issuer,
    upstream: Upstream,
    task: String,
    task_token: String,
    _site: Site,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let site = Site::new(REMIT);
        let issuer = site.run(Issuer::start());
        let upstream = site.run(Upstream::start(Answer::json(json!({ "notes": [] }))));
        site.write("policy/notes.rego", POLICY);
        site.config(&format!(
            "identity:
  issuers:
    - {{ issuer: {}, audience: remit, algorithms: [ES256, RS256], agent: \"{{team}}/{{sub}}\" }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"], write: [\"POST /**\"] }}
{more}",
            issuer.url(),
            upstream.url()
        ));
        let remit = site.serve();
        let (task, task_token) = remit.open_task(&["--tool", "notes", "--agent", "crew/triage"]);
        Self {
            remit,
            http: testkit::http(),
            issuer,
            upstream,
            task,
            task_token,
            _site: site,
        }
    }

    /// Claims of the task's agent, in order.
    fn claims(&self) -> Value {
        merged(
            self.issuer.claims("triage", "remit"),
            &json!({ "team": "crew" }),
        )
    }

    /// A token of the task's agent, in order.
    fn token(&self) -> String {
        self.issuer.mint(Algorithm::ES256, &self.claims())
    }

    /// A call without any proof.
    fn request(&self) -> RequestBuilder {
        self.http.get(self.remit.call("/notes/notes"))
    }

    /// A call with a workload token, for the task.
    fn call(&self, token: &str) -> Response {
        let request = self.request().bearer_auth(token);
        request.header("agent-task", &self.task).send().unwrap()
    }

    #[track_caller]
    fn allowed(&self, token: &str) {
        let answer = self.call(token);
        let status = answer.status();
        assert_eq!(status, StatusCode::OK, "{}", answer.text().unwrap());
    }

    /// The call is refused with this code, and the upstream sees nothing of it.
    #[track_caller]
    fn refused(&self, token: &str, code: &str) {
        self.upstream.forget();
        check(self.call(token), code);
        assert!(self.upstream.received().is_empty());
    }
}

fn merged(mut base: Value, patch: &Value) -> Value {
    for (key, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => base.as_object_mut().unwrap().remove(key),
            value => base
                .as_object_mut()
                .unwrap()
                .insert(key.clone(), value.clone()),
        };
    }
    base
}

fn status_of(code: &str) -> StatusCode {
    match code {
        "no_proof" | "invalid_proof" | "expired_proof" | "proofs_disagree" => {
            StatusCode::UNAUTHORIZED
        }
        "malformed_declaration" => StatusCode::BAD_REQUEST,
        "issuer_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}

#[track_caller]
fn check(answer: Response, code: &str) {
    let status = answer.status();
    let challenged = answer.headers().contains_key("www-authenticate");
    assert!(answer.headers().contains_key("remit-decision"));
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(status, status_of(code));
    assert_eq!(challenged, status == StatusCode::UNAUTHORIZED);
}

fn now() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    now.unwrap().as_secs()
}

#[test]
fn a_workload_token_beside_a_task_calls_a_tool() {
    let world = World::new();
    world.allowed(&world.token());
    let received = world.upstream.only();
    assert_eq!(received.target, "/notes");
    // Neither proof nor declaration is the tool's business.
    assert_eq!(received.headers.get("authorization"), None);
    assert_eq!(received.headers.get("agent-task"), None);

    let rs256 = world.issuer.mint(Algorithm::RS256, &world.claims());
    world.allowed(&rs256);
    let header = json!({ "alg": "ES256", "typ": "at+JWT", "kid": "ES256-1" });
    world.allowed(
        &world
            .issuer
            .mint_with(Algorithm::ES256, &header, &world.claims()),
    );
    let many = merged(world.claims(), &json!({ "aud": ["other", "remit"] }));
    world.allowed(&world.issuer.mint(Algorithm::ES256, &many));
}

#[test]
fn a_workload_token_alone_names_no_task() {
    let world = World::new();
    let answer = world.request().bearer_auth(world.token()).send().unwrap();
    check(answer, "no_task");
}

#[test]
fn policy_sees_the_claims() {
    let world = World::new();
    let (task, _) = world
        .remit
        .open_task(&["--tool", "notes", "--agent", "guests/triage"]);
    let guest = merged(world.claims(), &json!({ "team": "guests" }));
    let token = world.issuer.mint(Algorithm::ES256, &guest);
    let answer = world
        .request()
        .bearer_auth(token)
        .header("agent-task", task)
        .send()
        .unwrap();
    check(answer, "policy_undefined");
}

#[test]
fn c1_another_agents_task_is_unknown() {
    let world = World::new();
    let other = merged(world.claims(), &json!({ "sub": "mallory" }));
    world.refused(&world.issuer.mint(Algorithm::ES256, &other), "unknown_task");
    // What is no task at all is told the same.
    let none = world
        .request()
        .bearer_auth(world.token())
        .header("agent-task", "01890a5d-ac96-774b-bcce-b302099a8057")
        .send()
        .unwrap();
    check(none, "unknown_task");
}

#[test]
fn b1_keys_and_algorithms_are_the_issuers_to_choose() {
    let world = World::new();
    // The keys are at hand, so that nothing below is refused for the lack of them.
    world.allowed(&world.token());
    let key = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" });
    let headers = [
        json!({ "jku": format!("{}/jwks", world.issuer.url()) }),
        json!({ "x5u": "https://evil.example/x.pem" }),
        json!({ "jwk": key }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "crit": ["exp"] }),
        json!({ "b64": false }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "es256" }),
        json!({ "alg": null }),
        json!({ "alg": "none" }),
        json!({ "kid": "../../etc/passwd" }),
        json!({ "kid": "RS256-1" }),
        json!({ "typ": "dpop+jwt" }),
        json!({ "typ": "secevent+jwt" }),
        json!({ "typ": "txntoken+jwt" }),
    ];
    for patch in headers {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": "ES256-1" });
        let header = merged(header, &patch);
        let token = world
            .issuer
            .mint_with(Algorithm::ES256, &header, &world.claims());
        world.refused(&token, "invalid_proof");
    }
    // An algorithm that the issuer has a key for, and the config does not name.
    let eddsa = world.issuer.mint(Algorithm::EdDSA, &world.claims());
    world.refused(&eddsa, "invalid_proof");
}

#[test]
fn b1_no_signature_and_one_by_the_public_key_are_refused() {
    let world = World::new();
    world.allowed(&world.token());
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE"] {
        let header = part(&json!({ "alg": alg, "typ": "JWT" }));
        world.refused(
            &format!("{header}.{}.", part(&world.claims())),
            "invalid_proof",
        );
    }
    let jwks = world.http.get(format!("{}/jwks", world.issuer.url()));
    let jwks: Value = jwks.send().unwrap().json().unwrap();
    for key in jwks["keys"].as_array().unwrap() {
        let public = key
            .get("n")
            .or_else(|| key.get("x"))
            .unwrap()
            .as_str()
            .unwrap();
        let public = URL_SAFE_NO_PAD.decode(public).unwrap();
        for secret in [public, key.to_string().into_bytes()] {
            let header = part(&json!({ "alg": "HS256", "typ": "JWT", "kid": key["kid"] }));
            let signed = format!("{header}.{}", part(&world.claims()));
            let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
            let tag = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, signed.as_bytes()));
            world.refused(&format!("{signed}.{tag}"), "invalid_proof");
        }
    }
}

#[test]
fn b2_audience_issuer_and_time_must_be_right() {
    let world = World::new();
    let refused = |patch: Value, code: &str| {
        let claims = merged(world.claims(), &patch);
        world.refused(&world.issuer.mint(Algorithm::ES256, &claims), code);
    };
    refused(json!({ "aud": "another" }), "invalid_proof");
    refused(json!({ "aud": ["another"] }), "invalid_proof");
    refused(json!({ "aud": null }), "invalid_proof");
    refused(json!({ "exp": now() - 1 }), "expired_proof");
    refused(json!({ "exp": null }), "invalid_proof");
    refused(json!({ "exp": "tomorrow" }), "invalid_proof");
    refused(json!({ "nbf": now() + 3600 }), "invalid_proof");
    refused(json!({ "iat": now() + 3600 }), "invalid_proof");
    refused(json!({ "team": null }), "invalid_proof");
    refused(
        json!({ "team": "crew/triage", "sub": "x" }),
        "invalid_proof",
    );
    // Nobody here believes these issuers, so their tokens are no proof.
    refused(json!({ "iss": "https://evil.example" }), "no_proof");
    refused(
        json!({ "iss": format!("{}//", world.issuer.url()) }),
        "no_proof",
    );
    refused(json!({ "iss": null }), "no_proof");
}

#[test]
fn b3_a_token_is_whole_or_nothing() {
    let world = World::new();
    let token = world.token();
    world.allowed(&token);
    world.upstream.forget();
    let mut codes = std::collections::BTreeSet::new();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        // The lowest bit of each character, where the result can stand in a header.
        bytes[at] ^= 1;
        let broken = String::from_utf8(bytes).unwrap();
        let answer = world.call(&broken);
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{broken}");
        let problem: Value = answer.json().unwrap();
        codes.insert(problem["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        codes.iter().map(String::as_str).collect::<Vec<_>>(),
        ["invalid_proof", "no_proof"]
    );
    let (head, signature) = token.rsplit_once('.').unwrap();
    for broken in [
        format!("{head}."),
        format!("{head}.{}", &signature[..40]),
        format!("{token}="),
        format!("{token}AA"),
        format!("{head}.{}", "A".repeat(17 * 1024)),
        format!("{head}.{}", "A".repeat(40 * 1024)),
    ] {
        check(world.call(&broken), "invalid_proof");
    }
    for key in [format!("{token}.{signature}"), head.to_owned()] {
        check(world.call(&key), "no_proof");
    }
    assert!(world.upstream.received().is_empty());
    world.allowed(&token);
}

#[test]
fn b4_a_rotated_key_is_fetched_once() {
    let world = World::new();
    let old = world.token();
    world.allowed(&old);
    assert_eq!(
        (world.issuer.discoveries(), world.issuer.key_sets()),
        (1, 1)
    );
    world.issuer.rotate();
    let new = world.token();
    // Whoever makes kids up does not make the gateway flood the issuer.
    std::thread::scope(|scope| {
        for number in 0..20 {
            let world = &world;
            scope.spawn(move || {
                let header = json!({ "alg": "ES256", "kid": format!("made-up-{number}") });
                let made_up = world
                    .issuer
                    .mint_with(Algorithm::ES256, &header, &world.claims());
                world.call(&made_up);
            });
        }
    });
    assert!(world.issuer.key_sets() <= 2);
    let mut calls = 0;
    until("the new key is known", || {
        calls += 1;
        // Fetches are at least 10 s apart.
        std::thread::sleep(std::time::Duration::from_millis(20));
        world.call(&new).status() == StatusCode::OK
    });
    assert!(calls > 1, "a fetch so soon after the last is not made");
    assert_eq!(world.issuer.key_sets(), 2);
    // What the issuer no longer publishes is not believed, cached or not.
    world.refused(&old, "invalid_proof");
    assert_eq!(world.issuer.key_sets(), 2);
}

#[test]
fn b4_an_issuer_that_is_down_leaves_the_last_good_keys() {
    let world = World::new();
    world.allowed(&world.token());
    world.issuer.mood(Mood::Down);
    for _ in 0..20 {
        // Each is new, so that no cache answers for the keys.
        let claims = merged(world.claims(), &json!({ "jti": uuid::Uuid::new_v4() }));
        world.allowed(&world.issuer.mint(Algorithm::ES256, &claims));
    }
}

#[test]
fn b4_an_issuer_whose_keys_were_never_had_is_unavailable() {
    for mood in [Mood::Down, Mood::Garbled, Mood::Redirecting, Mood::Huge] {
        let world = World::new();
        world.issuer.mood(mood);
        world.refused(&world.token(), "issuer_unavailable");
        // A task token needs no issuer.
        world.allowed(&world.task_token);
    }
}

#[test]
fn b8_proofs_that_disagree_are_refused() {
    let world = World::new();
    let both = |authorization: &str, key: &str| {
        let request = world.request().bearer_auth(authorization);
        let request = request.header("x-api-key", key);
        request.header("agent-task", &world.task).send().unwrap()
    };
    let token = world.token();
    let other = merged(world.claims(), &json!({ "sub": "mallory" }));
    let other = world.issuer.mint(Algorithm::ES256, &other);
    let (_, other_task) = world
        .remit
        .open_task(&["--tool", "notes", "--agent", "crew/triage"]);

    check(both(&other, &world.task_token), "proofs_disagree");
    check(both(&world.task_token, &other), "proofs_disagree");
    check(both(&token, &other), "proofs_disagree");
    check(both(&world.task_token, &other_task), "proofs_disagree");
    assert!(world.upstream.received().is_empty());
    assert_eq!(both(&token, &token).status(), StatusCode::OK);
    assert_eq!(both(&token, &world.task_token).status(), StatusCode::OK);
    // One that is wrong is not made good by one that is right.
    let mut broken = token.clone();
    broken.truncate(token.len() - 4);
    check(both(&token, &broken), "invalid_proof");
    check(both(&broken, &token), "invalid_proof");
}

#[test]
fn a_declaration_must_not_contradict_the_proof() {
    let world = World::new();
    let declared = |name: &str, value: &str| {
        let request = world.request().bearer_auth(&world.task_token);
        request.header(name, value).send().unwrap()
    };
    let (other, _) = world
        .remit
        .open_task(&["--tool", "notes", "--agent", "crew/triage"]);
    check(declared("agent-task", &other), "declaration_contradicts");
    check(declared("agent-task", "mine"), "malformed_declaration");
    check(declared("agent-tool", "desk"), "declaration_contradicts");
    check(
        declared("agent-tool", "notes/DELETE /notes"),
        "declaration_contradicts",
    );
    check(declared("agent-tool", "notes/"), "malformed_declaration");
    for context in [
        "ticket=\"OPS-12",
        "a=(1 2)",
        "a=1, a=2",
        "a=1;b=2",
        "a=:AAAA:",
        "Ticket=1",
        &format!("a=\"{}\"", "x".repeat(2048)),
    ] {
        check(declared("agent-context", context), "malformed_declaration");
    }
    assert!(world.upstream.received().is_empty());
    for (name, value) in [
        ("agent-task", &*world.task),
        ("agent-tool", "notes"),
        ("agent-tool", "notes/GET /**"),
        (
            "agent-context",
            "ticket=\"OPS-12\", intent=close, urgent, n=1.5",
        ),
    ] {
        assert_eq!(declared(name, value).status(), StatusCode::OK, "{value}");
    }
    for received in world.upstream.received() {
        for name in ["agent-task", "agent-tool", "agent-context"] {
            assert_eq!(received.headers.get(name), None);
        }
    }
}

#[test]
fn a_declaration_that_comes_twice_is_refused() {
    let world = World::new();
    let request = world.request().bearer_auth(&world.task_token);
    let request = request.header("agent-task", &world.task);
    let answer = request.header("agent-task", &world.task).send().unwrap();
    check(answer, "malformed_declaration");
}

#[test]
fn c2_a_task_whose_time_is_over_is_expired() {
    let world = World::new();
    let (task, token) =
        world
            .remit
            .open_task(&["--tool", "notes", "--agent", "crew/triage", "--ttl", "1s"]);
    let workload = world.token();
    let call = || {
        let request = world.request().bearer_auth(&workload);
        request.header("agent-task", &task).send().unwrap()
    };
    until("the task is over", || call().status() != StatusCode::OK);
    check(call(), "task_expired");
    // Its own token lives no longer than it does.
    let alone = world.request().bearer_auth(&token).send().unwrap();
    check(alone, "expired_proof");
}

#[test]
fn b2_a_task_token_of_another_gateway_is_refused() {
    let world = World::new();
    let stranger = World::new();
    // The key names the issuer: the other gateway's tokens are nobody's here.
    world.refused(&stranger.task_token, "no_proof");

    // Under the same name it is still another key.
    let named = "tasks: { issuer: https://remit.example }\n";
    let world = World::with(named);
    let stranger = World::with(named);
    world.allowed(&world.task_token);
    world.refused(&stranger.task_token, "invalid_proof");
}
