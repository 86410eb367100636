//! Workload identity tokens and their proofs: what is believed, and what must not be.

use http::{HeaderMap, HeaderValue, Method as HttpMethod};
use ring::digest;
use serde_json::{Value, json};

use super::binding::patched;
use super::jwt_svid::EAGER;
use super::signer::{Signer, base64url};
use super::{Idp, expect, head, identity, run, task};
use crate::clock::{LEEWAY, now};
use crate::key_source::Pace;
use crate::wimse::Wimse;
use crate::{
    Agent, Algorithm, Identity, Method, Presented, TransactionClaims, Transport, Unauthenticated,
    WitIssuerConfig,
};

const AGENT: &str = "wimse://example.org/agents/triage";
const TARGET: &str = "http://gateway.example/notes";

/// An issuer of workload identity tokens, and the key of a workload.
struct World {
    identity: Identity,
    idp: Idp,
    issuer: Signer,
    workload: Signer,
}

fn believe(idp: &Idp) -> WitIssuerConfig {
    WitIssuerConfig {
        trust_domain: "example.org".parse().unwrap(),
        issuer: idp.url(),
        algorithms: vec![Algorithm::ES256],
        jwks_uri: None,
    }
}

/// A request with these headers.
fn presented(headers: &HeaderMap) -> Presented<'_> {
    Presented {
        headers,
        method: &HttpMethod::GET,
        host: "gateway.example",
        port: None,
        path: "/notes",
        query_token: None,
        transport: &Transport::Plain,
    }
}

fn hash(text: &str) -> String {
    base64url(digest::digest(&digest::SHA256, text.as_bytes()))
}

impl World {
    async fn new() -> Self {
        Self::since(now() - 3600).await
    }

    /// A gateway that has run since then.
    async fn since(since: i64) -> Self {
        let issuer = Signer::p256();
        let idp = Idp::start(&[issuer.jwk("1")]).await;
        let mut identity = identity(Vec::new(), Pace::default());
        identity.wimse = Wimse::at(vec![believe(&idp)], None, EAGER, since);
        Self {
            identity,
            idp,
            issuer,
            workload: Signer::p256(),
        }
    }

    fn jwk(&self) -> Value {
        patched(self.workload.jwk("x"), &json!({"alg": "ES256"}))
    }

    /// A token in order, but for what is patched.
    fn wit(&self, header: &Value, claims: &Value) -> String {
        let good = json!({"typ": "wit+jwt", "alg": "ES256", "kid": "1"});
        let header = patched(good, header);
        let good = json!({
            "iss": self.idp.issuer(), "sub": AGENT, "exp": now() + 60, "cnf": {"jwk": self.jwk()},
        });
        self.issuer.sign(&header, &patched(good, claims))
    }

    fn good_wit(&self) -> String {
        self.wit(&json!({}), &json!({}))
    }

    /// A proof in order, but for what is patched.
    fn wpt(&self, wit: &str, header: &Value, claims: &Value) -> String {
        let header = patched(json!({"typ": "wpt+jwt", "alg": "ES256"}), header);
        let jti: [u8; 16] = ring::rand::generate(&ring::rand::SystemRandom::new())
            .unwrap()
            .expose();
        let good = json!({
            "aud": TARGET, "exp": now() + 60, "iat": now(), "jti": base64url(jti), "wth": hash(wit),
        });
        self.workload.sign(&header, &patched(good, claims))
    }

    async fn ask(&self, headers: &HeaderMap) -> Result<Agent, Unauthenticated> {
        self.identity.authenticate(&presented(headers)).await
    }

    /// A token with a proof that is in order but for these claims, beside other headers.
    async fn beside(
        &self,
        claims: &Value,
        others: &[(&'static str, &str)],
    ) -> Result<Agent, Unauthenticated> {
        let wit = self.good_wit();
        let wpt = self.wpt(&wit, &json!({}), claims);
        let mut headers = head(&both(&wit, &wpt));
        headers.extend(head(others));
        self.ask(&headers).await
    }

    fn task_token(&self, agent: &str) -> String {
        self.identity.tokens().mint(&task(agent)).unwrap()
    }

    fn txn_token(&self, agent: &str) -> String {
        let claims = TransactionClaims {
            txn: "task-1".to_owned(),
            owner: "alice".to_owned(),
            agent: agent.parse().unwrap(),
            chain: Vec::new(),
            scope: "notes:read".to_owned(),
            details: serde_json::Map::new(),
            context: serde_json::Map::new(),
            expires_at: now() + 60,
        };
        self.identity.tokens().mint_transaction(&claims).unwrap()
    }
}

fn both<'t>(wit: &'t str, wpt: &'t str) -> [(&'static str, &'t str); 2] {
    [
        ("workload-identity-token", wit),
        ("workload-proof-token", wpt),
    ]
}

#[track_caller]
fn token(header: &Value, claims: &Value, answer: &str) {
    let result = run(async {
        let world = World::new().await;
        let wit = world.wit(header, claims);
        let wpt = world.wpt(&wit, &json!({}), &json!({}));
        world.ask(&head(&both(&wit, &wpt))).await
    });
    expect(&result, answer);
}

#[track_caller]
fn proof(header: &Value, claims: &Value, answer: &str) {
    let result = run(async {
        let world = World::new().await;
        let wit = world.good_wit();
        let wpt = world.wpt(&wit, header, claims);
        world.ask(&head(&both(&wit, &wpt))).await
    });
    expect(&result, answer);
}

#[test]
fn a_token_with_its_proof_names_its_agent() {
    run(async {
        let world = World::new().await;
        let wit = world.good_wit();
        for _ in 0..2 {
            let wpt = world.wpt(&wit, &json!({}), &json!({}));
            let headers = head(&both(&wit, &wpt));
            let agent = world.ask(&headers).await.unwrap();
            assert_eq!(agent.id().as_str(), AGENT);
            assert_eq!(
                (agent.method(), agent.method().as_str()),
                (Method::Wimse, "wimse")
            );
            for (name, value) in &headers {
                assert!(agent.presented(name, value));
            }
        }
        assert_eq!(world.idp.asked(), 1);
    });
}
#[test]
fn what_is_optional_may_be_left_out() {
    token(&json!({}), &json!({"iss": null}), AGENT);
    let spiffe = "spiffe://example.org/agents/triage";
    token(&json!({}), &json!({"sub": spiffe}), spiffe);
    // Fresh enough by its `iat` alone, or by what is left of its time.
    proof(&json!({}), &json!({"iat": null}), AGENT);
}
#[test]
fn b1_a_token_is_signed_by_its_issuer() {
    token(&json!({"alg": "none"}), &json!({}), "!algorithm");
    token(&json!({"alg": "HS256"}), &json!({}), "!algorithm");
    token(&json!({"alg": "ES384"}), &json!({}), "!algorithm");
    token(&json!({"kid": "2"}), &json!({}), "!does not publish");
    for name in ["crit", "jku", "jwk", "x5u", "x5c", "b64"] {
        token(&json!({name: "x"}), &json!({}), "!parameter");
    }
    let result = run(async {
        let mut world = World::new().await;
        world.issuer = Signer::p256();
        let wit = world.good_wit();
        let wpt = world.wpt(&wit, &json!({}), &json!({}));
        world.ask(&head(&both(&wit, &wpt))).await
    });
    expect(&result, "!signature is wrong");
}
#[test]
fn b2_a_token_is_one_of_workload_identity_in_its_time() {
    for typ in [json!("jwt"), json!("at+jwt"), json!("wpt+jwt"), json!(null)] {
        token(&json!({"typ": typ}), &json!({}), "!`typ`");
    }
    token(&json!({"typ": "application/WIT+JWT"}), &json!({}), AGENT);
    token(&json!({}), &json!({"exp": now() - 1}), "!expired");
    token(&json!({}), &json!({"exp": null}), "!lacks");
    token(&json!({}), &json!({"nbf": now() + 60}), "!not valid yet");
    token(&json!({}), &json!({"aud": "remit"}), "!`aud`");
    token(
        &json!({}),
        &json!({"iss": "https://evil.example"}),
        "!`iss`",
    );
}
#[test]
fn b6_a_foreign_trust_domain_is_refused() {
    for sub in ["wimse://evil.example/a", "spiffe://evil.example/a"] {
        token(&json!({}), &json!({"sub": sub}), "!`evil.example`");
    }
    for sub in [
        "triage",
        "https://example.org/a",
        "wimse://example.org",
        "wimse://example.org/",
        "wimse://example.org/a//b",
        "wimse://EXAMPLE.org/a",
        "WIMSE://example.org/a",
        "wimse://example.org/a?b",
        "wimse://user@example.org/a",
    ] {
        token(&json!({}), &json!({"sub": sub}), "!");
    }
    let result = run(async {
        let mut world = World::new().await;
        world.identity.wimse = Wimse::at(Vec::new(), None, EAGER, 0);
        world.beside(&json!({}), &[]).await
    });
    expect(&result, "!`example.org`");
}
#[test]
fn b5_a_token_is_bound_to_one_public_key_with_its_algorithm() {
    let (key, other) = (Signer::p256(), Signer::p384());
    for cnf in [
        json!(null),
        json!({}),
        json!("x"),
        json!({"jkt": "x"}),
        json!({"jwk": key.jwk("x")}),
        json!({"jwk": patched(key.jwk("x"), &json!({"alg": "ES384"}))}),
        json!({"jwk": patched(key.jwk("x"), &json!({"alg": "HS256"}))}),
        json!({"jwk": patched(key.jwk("x"), &json!({"alg": "ES256", "d": "AA"}))}),
        json!({"jwk": patched(other.jwk("x"), &json!({"alg": "ES384"})), "jkt": "x"}),
        json!({"jwk": {"kty": "oct", "alg": "HS256", "k": "AAAA"}}),
    ] {
        token(&json!({}), &json!({"cnf": cnf}), "!token is invalid: it");
    }
}
/// Another issuer, whose template makes whatever its tokens say.
#[test]
fn b6_nobody_else_names_workloads_of_the_trust_domain() {
    run(async {
        let signer = Signer::p256();
        let idp = Idp::start(&[signer.jwk("1")]).await;
        let mut identity = identity(vec![super::believe(&idp)], Pace::default());
        identity.wimse = Wimse::at(vec![believe(&idp)], None, EAGER, now() - 3600);
        for (subject, expected) in [
            ("wimse://elsewhere.example/a", "wimse://elsewhere.example/a"),
            (AGENT, "!others vouch for"),
            ("spiffe://example.org/agents/triage", "!others vouch for"),
            ("spiffe://EXAMPLE.org/agents/triage", "!others vouch for"),
        ] {
            let header = json!({"typ": "JWT", "alg": "ES256", "kid": "1"});
            let claims = json!({
                "iss": idp.issuer(), "aud": "remit", "sub": subject, "iat": now(), "exp": now() + 60,
            });
            let bearer = format!("Bearer {}", signer.sign(&header, &claims));
            let headers = head(&[("authorization", &bearer)]);
            let answer = identity.authenticate(&presented(&headers)).await;
            expect(&answer, expected);
        }
    });
}

#[test]
fn b5_a_token_is_no_bearer() {
    run(async {
        let world = World::new().await;
        let wit = world.good_wit();
        let good = world.wpt(&wit, &json!({}), &json!({}));
        let alone = head(&[("workload-identity-token", &wit)]);
        expect(&world.ask(&alone).await, "!there is none");
        let alone = head(&[("workload-proof-token", &good)]);
        expect(&world.ask(&alone).await, "!no token");
        expect(&world.ask(&head(&both(&wit, &good))).await, AGENT);
        // Nor elsewhere, known as it is by now.
        for slot in ["x-api-key", "api-key", "x-goog-api-key"] {
            expect(&world.ask(&head(&[(slot, &wit)])).await, "!no proof");
        }
        let bearer = format!("Bearer {wit}");
        for slot in ["authorization", "proxy-authorization"] {
            expect(&world.ask(&head(&[(slot, &bearer)])).await, "!no proof");
        }
        // Not even under the name that it is known by.
        for known in ["workload-identity-token: ", "txn-token: ", ""] {
            let named = format!("{known}{wit}");
            for slot in ["x-api-key", "api-key"] {
                let answer = world.ask(&head(&[(slot, &named)])).await;
                expect(&answer, "!no proof");
            }
            let bearer = format!("Bearer {named}");
            let answer = world.ask(&head(&[("authorization", &bearer)])).await;
            expect(&answer, "!no proof");
        }
        for twice in ["workload-identity-token", "workload-proof-token"] {
            let wpt = world.wpt(&wit, &json!({}), &json!({}));
            let mut headers = head(&both(&wit, &wpt));
            headers.append(twice, HeaderValue::from_static("a.b.c"));
            expect(&world.ask(&headers).await, "!twice");
        }
    });
}
#[test]
fn b5_a_proof_is_by_the_key_of_its_token() {
    run(async {
        let mut world = World::new().await;
        let wit = world.good_wit();
        world.workload = Signer::p256();
        let stolen = world.wpt(&wit, &json!({}), &json!({}));
        expect(
            &world.ask(&head(&both(&wit, &stolen))).await,
            "!not by the token's key",
        );
    });
    for name in ["crit", "jku", "jwk", "x5u", "x5c", "b64"] {
        proof(&json!({name: "x"}), &json!({}), "!parameter");
    }
    for alg in ["none", "HS256", "ES384", "RS256"] {
        proof(&json!({"alg": alg}), &json!({}), "!algorithm");
    }
    for typ in [
        json!("jwt"),
        json!("dpop+jwt"),
        json!("wit+jwt"),
        json!(null),
    ] {
        proof(&json!({"typ": typ}), &json!({}), "!`typ`");
    }
}
#[test]
fn b5_a_proof_is_for_one_target_and_token() {
    for aud in [
        json!("http://gateway.example/other"),
        json!("https://gateway.example/notes"),
        json!("http://evil.example/notes"),
        json!("remit"),
        json!([TARGET]),
        json!(null),
    ] {
        proof(&json!({}), &json!({"aud": aud}), "!`aud`");
    }
    for wth in [json!(hash("x")), json!("x"), json!(null)] {
        proof(&json!({}), &json!({"wth": wth}), "!`wth`");
    }
}
#[test]
fn b5_a_proof_is_short_lived() {
    proof(&json!({}), &json!({"exp": now()}), "!expired");
    proof(&json!({}), &json!({"exp": null}), "!no `exp`");
    proof(&json!({}), &json!({"exp": "x"}), "!malformed");
    proof(&json!({}), &json!({"exp": now() + 400}), "!ahead");
    proof(&json!({}), &json!({"iat": now() + 60}), "!not valid yet");
    proof(&json!({}), &json!({"nbf": now() + 60}), "!not valid yet");
    for jti in [json!(null), json!(""), json!(1)] {
        proof(&json!({}), &json!({"jti": jti}), "!no `jti`");
    }
}
#[test]
fn b5_a_proof_is_taken_once() {
    run(async {
        let world = World::new().await;
        let wit = world.good_wit();
        let wpt = world.wpt(&wit, &json!({}), &json!({}));
        let headers = head(&both(&wit, &wpt));
        expect(&world.ask(&headers).await, AGENT);
        expect(&world.ask(&headers).await, "!already");
        // A new config forgets nothing.
        let next = Wimse::new(
            vec![believe(&world.idp)],
            Some(&world.identity.wimse),
            EAGER,
        );
        let world = World {
            identity: Identity {
                wimse: next,
                ..world.identity
            },
            ..world
        };
        expect(&world.ask(&headers).await, "!already");
    });
}
#[test]
fn b5_a_proof_that_may_have_been_used_before_the_start_is_refused() {
    let started = |iat: Value, exp: i64, answer: &str| {
        let result = run(async {
            let world = World::since(now()).await;
            world.beside(&json!({"iat": iat, "exp": exp}), &[]).await
        });
        expect(&result, answer);
    };
    started(json!(now()), now() + 60, "!before the gateway started");
    started(json!(null), now() + 300, "!before the gateway started");
    let later = |iat: Value, exp: i64, answer: &str| {
        let result = run(async {
            let world = World::since(now() - LEEWAY - 10).await;
            world.beside(&json!({"iat": iat, "exp": exp}), &[]).await
        });
        expect(&result, answer);
    };
    later(json!(now()), now() + 60, AGENT);
    later(json!(null), now() + 300, AGENT);
    later(json!(null), now() + 60, "!before the gateway started");
}
#[test]
fn b8_a_proof_covers_every_token_beside_it() {
    run(async {
        let world = World::new().await;
        let token = world.task_token(AGENT);
        let bearer = format!("Bearer {token}");
        let authorization = [("authorization", bearer.as_str())];
        let key = [("x-api-key", token.as_str())];
        let none = world.beside(&json!({}), &authorization).await;
        expect(&none, "!does not cover");
        expect(&world.beside(&json!({}), &key).await, "!does not cover");
        for ath in [hash("x"), "x".to_owned(), String::new()] {
            let wrong = world.beside(&json!({"ath": ath}), &authorization).await;
            expect(&wrong, "!proof token is invalid");
        }
        let ath = json!({"ath": hash(&token)});
        let agent = world.beside(&ath, &authorization).await.unwrap();
        assert_eq!(
            (agent.method(), agent.txn()),
            (Method::Wimse, Some("task-1"))
        );
        expect(&world.beside(&ath, &key).await, AGENT);
        expect(&world.beside(&ath, &[]).await, "!`ath`");
        let oth = json!({"oth": {"x-api-key": hash(&token)}});
        expect(&world.beside(&oth, &key).await, AGENT);
        expect(&world.beside(&oth, &[]).await, "!`oth`");
        for oth in [
            json!({"x-api-key": hash("x")}),
            json!({"x-other": hash(&token)}),
            json!({"X-Api-Key": hash(&token)}),
            json!("x"),
        ] {
            expect(
                &world.beside(&json!({"oth": oth}), &key).await,
                "!proof token is invalid",
            );
        }
        // A key of the agent's is no token that authenticates.
        let own = [("authorization", "Bearer sk-own")];
        expect(&world.beside(&json!({}), &own).await, AGENT);
        expect(
            &world.beside(&json!({"ath": hash("sk-own")}), &own).await,
            AGENT,
        );
    });
}
#[test]
fn b8_a_proof_covers_the_transaction_token() {
    run(async {
        let world = World::new().await;
        let token = world.txn_token(AGENT);
        let txn = [("txn-token", token.as_str())];
        expect(&world.beside(&json!({}), &txn).await, "!`tth`");
        expect(
            &world.beside(&json!({"tth": hash("x")}), &txn).await,
            "!`tth`",
        );
        let tth = json!({"tth": hash(&token)});
        let agent = world.beside(&tth, &txn).await.unwrap();
        assert_eq!(agent.txn(), Some("task-1"));
        expect(&world.beside(&tth, &[]).await, "!`tth`");
        let other = world.txn_token("wimse://example.org/other");
        let tth = json!({"tth": hash(&other)});
        expect(
            &world.beside(&tth, &[("txn-token", &other)]).await,
            "!disagree",
        );
    });
}
#[test]
fn b8_a_task_token_beside_it_names_the_same_agent() {
    run(async {
        let world = World::new().await;
        let other = world.task_token("wimse://example.org/other");
        let ath = json!({"ath": hash(&other)});
        let bearer = format!("Bearer {other}");
        expect(
            &world.beside(&ath, &[("authorization", &bearer)]).await,
            "!disagree",
        );
    });
}
#[test]
fn b3_what_is_no_token_is_refused() {
    run(async {
        let world = World::new().await;
        let wit = world.good_wit();
        let wpt = world.wpt(&wit, &json!({}), &json!({}));
        let (cut, _) = wit.rsplit_once('.').unwrap();
        let long = format!("{wit}{}", "A".repeat(16 * 1024));
        for broken in ["", "x", "a.b.c", cut, &format!("{wit}="), &long] {
            expect(
                &world.ask(&head(&both(broken, &wpt))).await,
                "!identity token is invalid",
            );
        }
        let (cut, _) = wpt.rsplit_once('.').unwrap();
        for broken in ["", "x", "a.b.c", cut, &format!("{wpt}=")] {
            expect(
                &world.ask(&head(&both(&wit, broken))).await,
                "!proof token is invalid",
            );
        }
    });
}
