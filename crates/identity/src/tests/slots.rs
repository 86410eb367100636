//! Where proofs stand, and what happens when there are several.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::signer::Signer;
use super::{Idp, ask, bearer, believe, expect, head, identity, run, task};
use crate::clock::now;
use crate::key_source::Pace;
use crate::{Agent, Identity, Method, Unauthenticated};

/// Two task tokens and two workload tokens, of agents `a` and `b`.
struct Brought {
    identity: Identity,
    task_a: String,
    task_b: String,
    work_a: String,
    work_b: String,
}

impl Brought {
    async fn new() -> Self {
        let signer = Signer::p256();
        let idp = Idp::start(&[signer.jwk("1")]).await;
        let identity = identity(vec![believe(&idp)], Pace::default());
        let work = |agent| {
            let claims =
                json!({"iss": idp.issuer(), "aud": "remit", "sub": agent, "exp": now() + 60});
            signer.sign(&json!({"alg": "ES256", "kid": "1"}), &claims)
        };
        Self {
            task_a: identity.tokens().mint(&task("a")).unwrap(),
            task_b: identity.tokens().mint(&task("b")).unwrap(),
            work_a: work("a"),
            work_b: work("b"),
            identity,
        }
    }

    fn fill(&self, value: &str) -> String {
        let basic = |token: &str| STANDARD.encode(format!("user:{token}"));
        value
            .replace("BASIC-SK-TASK-A", &basic(&format!("sk-{}", self.task_a)))
            .replace("BASIC-TASK-A", &basic(&self.task_a))
            .replace("TASK-A", &self.task_a)
            .replace("TASK-B", &self.task_b)
            .replace("WORK-A", &self.work_a)
            .replace("WORK-B", &self.work_b)
    }
}

fn authenticate(lines: &[(&'static str, &str)]) -> (HeaderMap, Result<Agent, Unauthenticated>) {
    run(async {
        let brought = Brought::new().await;
        let filled: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, brought.fill(value)))
            .collect();
        let lines: Vec<_> = filled
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let headers = head(&lines);
        let result = ask(&brought.identity, &headers).await;
        (headers, result)
    })
}

#[track_caller]
fn check(lines: &[(&'static str, &str)], answer: &str) {
    expect(&authenticate(lines).1, answer);
}

/// `expect` are the numbers of the lines where a proof was.
#[track_caller]
fn presented(lines: &[(&'static str, &str)], expect: &[usize]) {
    let (headers, agent) = authenticate(lines);
    let agent = agent.unwrap();
    let mut values: std::collections::HashMap<HeaderName, std::vec::IntoIter<HeaderValue>> =
        std::collections::HashMap::new();
    for name in headers.keys() {
        let all: Vec<_> = headers.get_all(name).into_iter().cloned().collect();
        values.insert(name.clone(), all.into_iter());
    }
    for (number, (name, _)) in lines.iter().enumerate() {
        let name = HeaderName::from_static(name);
        let value = values.get_mut(&name).unwrap().next().unwrap();
        assert_eq!(
            agent.presented(&name, &value),
            expect.contains(&number),
            "line {number}"
        );
    }
}

#[test]
fn every_slot_takes_a_task_token() {
    check(&[("authorization", "Bearer TASK-A")], "a");
    check(&[("authorization", "bearer  TASK-A")], "a");
    check(&[("authorization", "Basic BASIC-TASK-A")], "a");
    check(&[("proxy-authorization", "Bearer TASK-A")], "a");
    check(&[("proxy-authorization", "Basic BASIC-TASK-A")], "a");
    check(&[("x-api-key", "TASK-A")], "a");
    check(&[("api-key", "TASK-A")], "a");
    check(&[("x-goog-api-key", "TASK-A")], "a");
    check(&[("x-amz-security-token", "TASK-A")], "a");
}
#[test]
fn a_task_token_may_look_like_a_key() {
    check(&[("authorization", "Bearer sk-TASK-A")], "a");
    check(&[("authorization", "token ghp_TASK-A")], "a");
    check(&[("x-api-key", "sk-ant-api03-TASK-A")], "a");
    check(&[("authorization", "Basic BASIC-SK-TASK-A")], "a");
    check(
        &[
            ("authorization", "Bearer sk-TASK-A"),
            ("x-api-key", "TASK-A"),
        ],
        "a",
    );
    check(
        &[
            ("authorization", "Bearer sk-TASK-A"),
            ("x-api-key", "TASK-B"),
        ],
        "!disagree",
    );
    check(&[("x-api-key", "sk-TASK-Ax")], "!invalid");
}
#[test]
fn no_other_proof_may() {
    check(&[("authorization", "Bearer sk-WORK-A")], "!no proof");
    check(&[("x-api-key", "sk-sk-TASK-A")], "!invalid");
    check(&[("authorization", "DPoP sk-TASK-A")], "!invalid");
    check(&[("txn-token", "sk-TASK-A")], "!invalid");
}
#[test]
fn other_headers_are_no_slots() {
    check(
        &[("cookie", "TASK-A"), ("x-auth-token", "TASK-A")],
        "!no proof",
    );
}
#[test]
fn nothing_is_no_proof() {
    check(&[], "!no proof");
    check(
        &[("authorization", "Bearer "), ("x-api-key", "")],
        "!no proof",
    );
}
#[test]
fn the_agents_own_keys_are_no_proof() {
    check(
        &[("authorization", "Bearer sk-123"), ("x-api-key", "a.b.c")],
        "!no proof",
    );
}
#[test]
fn the_agents_own_key_beside_a_proof_is_ignored() {
    check(
        &[("authorization", "Bearer sk-123"), ("x-api-key", "TASK-A")],
        "a",
    );
}
#[test]
fn a_proof_that_fails_is_refused_even_beside_a_good_one() {
    check(
        &[("authorization", "Bearer TASK-A"), ("x-api-key", "TASK-Bx")],
        "!invalid",
    );
    check(
        &[("authorization", "Bearer TASK-Bx"), ("x-api-key", "TASK-A")],
        "!invalid",
    );
}
#[test]
fn b8_equal_tokens_are_one_proof() {
    check(
        &[("authorization", "Bearer TASK-A"), ("x-api-key", "TASK-A")],
        "a",
    );
    check(
        &[
            ("authorization", "Bearer TASK-A"),
            ("proxy-authorization", "Basic BASIC-TASK-A"),
        ],
        "a",
    );
}
#[test]
fn b8_two_task_tokens_disagree() {
    check(
        &[("authorization", "Bearer TASK-A"), ("x-api-key", "TASK-B")],
        "!disagree",
    );
    check(
        &[("x-api-key", "TASK-A"), ("x-api-key", "TASK-B")],
        "!disagree",
    );
}
#[test]
fn b8_two_workload_tokens_disagree() {
    check(
        &[("authorization", "Bearer WORK-A"), ("x-api-key", "WORK-B")],
        "!disagree",
    );
}
#[test]
fn b8_a_task_token_of_another_agent_disagrees() {
    check(
        &[("authorization", "Bearer WORK-A"), ("x-api-key", "TASK-B")],
        "!disagree",
    );
    check(
        &[("authorization", "Bearer TASK-A"), ("x-api-key", "WORK-B")],
        "!disagree",
    );
}
#[test]
fn a_task_token_beside_the_agents_workload_token_says_what_for() {
    let (_, agent) = authenticate(&[("authorization", "Bearer WORK-A"), ("x-api-key", "TASK-A")]);
    let agent = agent.unwrap();
    assert_eq!((agent.id().as_str(), agent.method()), ("a", Method::Jwt));
    assert_eq!(
        (agent.claims()["sub"].as_str(), agent.txn()),
        (Some("a"), Some("task-1"))
    );
    assert!(agent.jti().is_some());
}
#[test]
fn a_workload_token_alone_names_no_task() {
    let (_, agent) = authenticate(&[("authorization", "Bearer WORK-A")]);
    let agent = agent.unwrap();
    assert_eq!(
        (agent.txn(), agent.jti(), agent.method().as_str()),
        (None, None, "jwt")
    );
}
#[test]
fn a_token_is_told_for_its_own_issuer_alone() {
    let (headers, agent) =
        authenticate(&[("authorization", "Bearer WORK-A"), ("x-api-key", "TASK-A")]);
    let agent = agent.unwrap();
    let token = agent.token_of(&format!("{}/", agent.issuer())).unwrap();
    assert_eq!(headers["authorization"], format!("Bearer {}", *token));
    assert!(agent.token_of("https://other.example").is_none());
    // Nor is one of the gateway's own.
    let (_, agent) = authenticate(&[("authorization", "Bearer TASK-A")]);
    let agent = agent.unwrap();
    assert!(agent.token_of(agent.issuer()).is_none());
}

#[test]
fn presented_tells_proofs_from_keys() {
    presented(
        &[("authorization", "Bearer TASK-A"), ("x-api-key", "sk-123")],
        &[0],
    );
    presented(
        &[("authorization", "Bearer sk-123"), ("x-api-key", "TASK-A")],
        &[1],
    );
    presented(
        &[("authorization", "Bearer TASK-A"), ("api-key", "TASK-A")],
        &[0, 1],
    );
    presented(
        &[
            ("authorization", "Basic BASIC-TASK-A"),
            ("cookie", "TASK-A"),
        ],
        &[0],
    );
    presented(
        &[
            ("x-api-key", "sk-1"),
            ("x-api-key", "TASK-A"),
            ("x-api-key", "sk-2"),
        ],
        &[1],
    );
}
#[test]
fn an_agent_shows_no_token() {
    let (headers, agent) = authenticate(&[("x-api-key", "TASK-A")]);
    let agent = agent.unwrap();
    let token = headers["x-api-key"].to_str().unwrap();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!format!("{agent:?}").contains(signature));
}
#[test]
fn a_cached_token_makes_the_same_agent() {
    run(async {
        let brought = Brought::new().await;
        let headers = bearer(&brought.work_a);
        let first = ask(&brought.identity, &headers).await.unwrap();
        let second = ask(&brought.identity, &headers).await.unwrap();
        assert!(std::ptr::eq(first.claims(), second.claims()));
    });
}
#[test]
fn a_new_config_keeps_its_task_tokens() {
    run(async {
        let brought = Brought::new().await;
        let config = crate::Config {
            issuers: Vec::new(),
            transaction_issuers: Vec::new(),
            tokens: Arc::clone(brought.identity.tokens()),
            dpop: crate::DpopConfig::default(),
            certificates: None,
            clusters: Vec::new(),
            wit_issuers: Vec::new(),
            spiffe: None,
        };
        let next = Identity::new(config, Some(&brought.identity));
        expect(&ask(&next, &bearer(&brought.task_a)).await, "a");
        // Its issuer is no longer believed.
        expect(&ask(&next, &bearer(&brought.work_a)).await, "!no proof");
    });
}
