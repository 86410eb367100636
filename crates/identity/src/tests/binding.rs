//! Tokens that are bound to a key or to a certificate.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use proptest::prelude::*;
use proptest::sample::Index;
use ring::digest;
use serde_json::{Value, json};
use url::Url;

use super::any_header::value;
use super::certificates::{der, over};
use super::signer::{Signer, base64url};
use super::{Idp, believe, expect, head, identity, run, task};
use crate::clock::{LEEWAY, now};
use crate::dpop::Dpop;
use crate::key_source::Pace;
use crate::{Agent, DpopConfig, Identity, NonceRule, Presented, Transport, Unauthenticated};

/// The `htu` of every request here.
const HTU: &str = "http://gateway.example:4180/notes/notes";

/// An issuer that binds tokens, and the key of an agent.
struct Bound {
    identity: Identity,
    idp: Idp,
    issuer: Signer,
    agent: Signer,
    transport: Transport,
}

impl Bound {
    async fn new() -> Self {
        Self::with(Signer::p256(), DpopConfig::default()).await
    }

    async fn with(agent: Signer, config: DpopConfig) -> Self {
        let issuer = Signer::p256();
        let idp = Idp::start(&[issuer.jwk("1")]).await;
        let mut identity = identity(vec![believe(&idp)], Pace::default());
        // As if it had run for long, so that what was used before is known.
        identity.dpop = Dpop::at(config, None, now() - 3600);
        Self {
            identity,
            idp,
            issuer,
            agent,
            transport: Transport::Plain,
        }
    }

    /// A token of the agent `a` with this `cnf`.
    fn token(&self, cnf: &Value) -> String {
        let claims = json!({"iss": self.idp.issuer(), "aud": "remit", "sub": "a", "exp": now() + 60, "cnf": cnf});
        self.issuer
            .sign(&json!({"alg": "ES256", "kid": "1"}), &claims)
    }

    fn bound_token(&self) -> String {
        self.token(&json!({"jkt": thumbprint(&self.agent)}))
    }

    async fn ask(&self, headers: &HeaderMap) -> Result<Agent, Unauthenticated> {
        let presented = Presented {
            headers,
            method: &Method::GET,
            host: "gateway.example",
            port: Some(4180),
            path: "/notes/notes",
            query_token: None,
            transport: &self.transport,
        };
        self.identity.authenticate(&presented).await
    }

    async fn send(&self, token: &str, proof: &str) -> Result<Agent, Unauthenticated> {
        let authorization = format!("DPoP {token}");
        self.ask(&head(&[("authorization", &authorization), ("dpop", proof)]))
            .await
    }

    /// A proof in order for this token, but for what is patched; `null` takes something away.
    fn proof(&self, token: &str, header: &Value, claims: &Value) -> String {
        let alg = match self.agent {
            Signer::P256(_) => "ES256",
            Signer::P384(_) => "ES384",
            Signer::Ed25519(_) => "EdDSA",
            Signer::Rsa(_) => "PS256",
        };
        let good = json!({"typ": "dpop+jwt", "alg": alg, "jwk": self.agent.jwk("x")});
        let header = patched(good, header);
        let good = json!({
            "jti": base64url(fresh()), "htm": "GET", "htu": HTU, "iat": now(), "ath": hash(token),
        });
        self.agent.sign(&header, &patched(good, claims))
    }

    fn good_proof(&self, token: &str) -> String {
        self.proof(token, &json!({}), &json!({}))
    }
}

pub(super) fn thumbprint(signer: &Signer) -> String {
    crate::crypto::install();
    let jwk: Jwk = serde_json::from_value(signer.jwk("x")).unwrap();
    jwk.thumbprint(ThumbprintHash::SHA256).unwrap()
}

fn hash(token: &str) -> String {
    base64url(digest::digest(&digest::SHA256, token.as_bytes()))
}

fn fresh() -> [u8; 16] {
    ring::rand::generate(&ring::rand::SystemRandom::new())
        .unwrap()
        .expose()
}

pub(super) fn patched(mut good: Value, patch: &Value) -> Value {
    for (name, value) in patch.as_object().unwrap() {
        good[name] = value.clone();
        if value.is_null() {
            good.as_object_mut().unwrap().remove(name);
        }
    }
    good
}

/// Sends a bound token with a proof that differs from a good one.
#[track_caller]
fn check(header: &Value, claims: &Value, answer: &str) {
    let result = run(async {
        let bound = Bound::new().await;
        let token = bound.bound_token();
        bound
            .send(&token, &bound.proof(&token, header, claims))
            .await
    });
    expect(&result, answer);
}

/// Sends a token with this `cnf` over this transport, as a bearer.
#[track_caller]
fn check_bearer(cnf: &Value, transport: Transport, answer: &str) {
    let result = run(async {
        let mut bound = Bound::new().await;
        bound.transport = transport;
        let token = bound.token(cnf);
        bound.ask(&super::bearer(&token)).await
    });
    expect(&result, answer);
}

#[test]
fn b5_a_bound_token_with_its_proof_is_believed() {
    check(&json!({}), &json!({}), "a");
}
#[test]
fn b5_keys_of_every_kind_prove() {
    for signer in [
        Signer::p256(),
        Signer::p384(),
        Signer::ed25519(),
        Signer::rsa(),
    ] {
        run(async {
            let bound = Bound::with(signer, DpopConfig::default()).await;
            let token = bound.bound_token();
            expect(&bound.send(&token, &bound.good_proof(&token)).await, "a");
        });
    }
}
#[test]
fn b5_a_bound_token_is_no_bearer() {
    run(async {
        let bound = Bound::new().await;
        let token = bound.bound_token();
        let proof = bound.good_proof(&token);
        let sent = format!("Bearer {token}");
        let lines = [("authorization", &*sent), ("dpop", &*proof)];
        expect(&bound.ask(&head(&lines)).await, "!possession");
        let lines = [("x-api-key", &*token), ("dpop", &*proof)];
        expect(&bound.ask(&head(&lines)).await, "!possession");
        let sent = format!("DPoP {token}");
        let lines = [("authorization", &*sent)];
        expect(&bound.ask(&head(&lines)).await, "!possession");
        // Nor is it one in a second place, beside a good proof.
        let lines = [
            ("authorization", &*sent),
            ("dpop", &*proof),
            ("api-key", &*token),
        ];
        expect(&bound.ask(&head(&lines)).await, "!possession");
    });
}
#[test]
fn b5_a_cached_token_is_no_bearer() {
    run(async {
        let bound = Bound::new().await;
        let token = bound.bound_token();
        expect(&bound.send(&token, &bound.good_proof(&token)).await, "a");
        expect(&bound.ask(&super::bearer(&token)).await, "!possession");
    });
}
#[test]
fn b5_a_proof_is_used_once() {
    run(async {
        let bound = Bound::new().await;
        let token = bound.bound_token();
        let proof = bound.good_proof(&token);
        expect(&bound.send(&token, &proof).await, "a");
        expect(&bound.send(&token, &proof).await, "!used already");
        // Signed anew it is still the same proof.
        let again = |jti| bound.proof(&token, &json!({}), &json!({ "jti": jti }));
        expect(&bound.send(&token, &again("same")).await, "a");
        expect(&bound.send(&token, &again("same")).await, "!used already");
    });
}
#[test]
fn b5_a_new_config_remembers_proofs() {
    run(async {
        let mut bound = Bound::new().await;
        let token = bound.bound_token();
        let proof = bound.good_proof(&token);
        expect(&bound.send(&token, &proof).await, "a");
        let next = DpopConfig {
            max_age: Duration::from_secs(30),
            ..DpopConfig::default()
        };
        bound.identity.dpop = Dpop::new(next, Some(&bound.identity.dpop));
        expect(&bound.send(&token, &proof).await, "!used already");
        // One that takes older proofs than are remembered begins anew, and believes no proof from before.
        let next = DpopConfig {
            max_age: Duration::from_secs(600),
            ..DpopConfig::default()
        };
        bound.identity.dpop = Dpop::new(next, Some(&bound.identity.dpop));
        expect(&bound.send(&token, &proof).await, "!nonce");
    });
}
#[test]
fn b5_a_proof_is_for_one_method_and_target() {
    for htm in [
        json!("POST"),
        json!("get"),
        json!(""),
        json!(null),
        json!(["GET"]),
    ] {
        check(&json!({}), &json!({ "htm": htm }), "!`htm`");
    }
    let elsewhere = json!("https://gateway.example:4180/notes/notes");
    for htu in [
        elsewhere,
        json!("http://gateway.example:4180/notes/other"),
        json!("http://evil.example:4180/notes/notes"),
        json!("/notes/notes"),
        json!(""),
        json!(null),
        json!([HTU]),
    ] {
        check(&json!({}), &json!({ "htu": htu }), "!`htu`");
    }
    check(&json!({}), &json!({ "htu": format!("{HTU}?q=1#f") }), "a");
}
#[test]
fn b5_a_proof_is_for_one_token() {
    for ath in [json!(hash("x")), json!(""), json!(null), json!([])] {
        check(&json!({}), &json!({ "ath": ath }), "!`ath`");
    }
}
#[test]
fn b5_a_proof_is_new() {
    for age in [0, 30, 59] {
        check(&json!({}), &json!({ "iat": now() - age }), "a");
    }
    check(&json!({}), &json!({ "iat": now() - 62 }), "!too long ago");
    check(
        &json!({}),
        &json!({ "iat": now() + LEEWAY + 5 }),
        "!in the future",
    );
    for iat in [json!(null), json!("now"), json!(1e300)] {
        check(&json!({}), &json!({ "iat": iat }), "!no `iat`");
    }
}
#[test]
fn b5_a_proof_has_a_jti() {
    for jti in [json!(null), json!(""), json!(1)] {
        check(&json!({}), &json!({ "jti": jti }), "!no `jti`");
    }
}
#[test]
fn b5_a_proof_is_by_the_key_that_the_token_is_bound_to() {
    let other = Signer::p256();
    check(&json!({"jwk": other.jwk("x")}), &json!({}), "!bound to");
    run(async {
        let mut bound = Bound::new().await;
        let token = bound.bound_token();
        let bound_key = bound.agent.jwk("x");
        bound.agent = other;
        // Signed by another key than it shows.
        let proof = bound.proof(&token, &json!({ "jwk": bound_key }), &json!({}));
        expect(&bound.send(&token, &proof).await, "!signature");
    });
}
#[test]
fn b5_a_proof_shows_a_public_key_and_nothing_else() {
    let public = Signer::p256().jwk("x");
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let jwk = patched(public.clone(), &json!({ name: "AA" }));
        check(&json!({ "jwk": jwk }), &json!({}), "!public key");
    }
    for jwk in [json!(null), json!("x"), json!([]), json!(1)] {
        check(&json!({ "jwk": jwk }), &json!({}), "!no `jwk`");
    }
    for jwk in [
        json!({}),
        json!({"kty": "oct"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA"}),
    ] {
        check(&json!({ "jwk": jwk }), &json!({}), "!no key");
    }
}
#[test]
fn b5_the_header_of_a_proof_is_that_of_a_proof() {
    for typ in [
        json!("JWT"),
        json!("at+jwt"),
        json!(""),
        json!(null),
        json!(1),
    ] {
        check(&json!({ "typ": typ }), &json!({}), "!`typ`");
    }
    for alg in ["none", "HS256", "es256", "", "ES512"] {
        check(&json!({ "alg": alg }), &json!({}), "!algorithm");
    }
    for alg in ["ES384", "RS256", "EdDSA"] {
        check(&json!({ "alg": alg }), &json!({}), "!not that of its key");
    }
    for name in ["crit", "b64", "jku", "x5u", "x5c"] {
        check(&json!({ name: ["x"] }), &json!({}), "!not allowed");
    }
}
#[test]
fn b5_there_is_one_proof_and_it_is_whole() {
    run(async {
        let bound = Bound::new().await;
        let token = bound.bound_token();
        let sent = format!("DPoP {token}");
        let (one, two) = (bound.good_proof(&token), bound.good_proof(&token));
        let lines = [("authorization", &*sent), ("dpop", &*one), ("dpop", &*two)];
        expect(&bound.ask(&head(&lines)).await, "!more than one");
        let joined = format!("{one}, {two}");
        let long = format!("{one}{}", "A".repeat(8 * 1024));
        for broken in [
            "",
            "a.b.c",
            "..",
            &joined,
            &long,
            one.get(1..).unwrap(),
            one.get(..one.len() - 2).unwrap(),
        ] {
            expect(&bound.send(&token, broken).await, "!DPoP proof is invalid");
        }
        // None of these has used it up.
        expect(&bound.send(&token, &one).await, "a");
    });
}
#[test]
fn b5_an_unbound_token_is_no_dpop_token() {
    run(async {
        let bound = Bound::new().await;
        let token = bound.identity.tokens().mint(&task("a")).unwrap();
        let proof = bound.good_proof(&token);
        expect(&bound.send(&token, &proof).await, "!bound to no key");
        // As a bearer it is what it was, and the proof is nobody's here.
        let sent = format!("Bearer {token}");
        let headers = head(&[("authorization", &sent), ("dpop", &proof)]);
        let agent = bound.ask(&headers).await.unwrap();
        assert!(!agent.presented(&"dpop".parse().unwrap(), &headers["dpop"]));
    });
}
#[test]
fn b5_a_bound_token_may_stand_beside_a_task_token() {
    run(async {
        let bound = Bound::new().await;
        let token = bound.bound_token();
        let (sent, proof) = (format!("DPoP {token}"), bound.good_proof(&token));
        let task = bound.identity.tokens().mint(&task("a")).unwrap();
        let headers = head(&[
            ("authorization", &sent),
            ("proxy-authorization", &sent),
            ("dpop", &proof),
            ("x-api-key", &task),
        ]);
        let agent = bound.ask(&headers).await.unwrap();
        assert_eq!(agent.txn(), Some("task-1"));
        for (name, value) in &headers {
            assert!(agent.presented(name, value), "{name}");
        }
    });
}
#[test]
fn b5_a_nonce_is_asked_for_where_it_is_required() {
    let config = DpopConfig {
        nonce: NonceRule::Required,
        ..DpopConfig::default()
    };
    run(async {
        let bound = Bound::with(Signer::p256(), config).await;
        let token = bound.bound_token();
        let answer = bound.send(&token, &bound.good_proof(&token)).await;
        let Err(Unauthenticated::UseDpopNonce(nonce)) = answer else {
            panic!("{answer:?}");
        };
        let with = |nonce: Value| bound.proof(&token, &json!({}), &json!({ "nonce": nonce }));
        let proof = with(json!(nonce));
        expect(&bound.send(&token, &proof).await, "a");
        expect(&bound.send(&token, &proof).await, "!used already");
        for wrong in [json!(""), json!("x"), json!(1), json!(format!("{nonce}A"))] {
            expect(&bound.send(&token, &with(wrong)).await, "!nonce");
        }
    });
}
#[test]
fn b5_a_nonce_of_somebody_else_is_refused_even_where_none_is_required() {
    check(&json!({}), &json!({ "nonce": "x" }), "!nonce");
}
#[test]
fn b5_a_gateway_that_has_just_started_asks_for_a_nonce() {
    run(async {
        let mut bound = Bound::new().await;
        bound.identity.dpop = Dpop::new(DpopConfig::default(), None);
        let token = bound.bound_token();
        let answer = bound.send(&token, &bound.good_proof(&token)).await;
        let Err(Unauthenticated::UseDpopNonce(nonce)) = answer else {
            panic!("{answer:?}");
        };
        let proof = bound.proof(&token, &json!({}), &json!({ "nonce": nonce }));
        expect(&bound.send(&token, &proof).await, "a");
    });
}
#[test]
fn b5_behind_a_terminator_the_gateway_goes_by_its_own_origins() {
    let public = Url::parse("https://remit.example").unwrap();
    let config = DpopConfig {
        origins: vec![public.origin()],
        ..DpopConfig::default()
    };
    run(async {
        let bound = Bound::with(Signer::p256(), config).await;
        let token = bound.bound_token();
        let proof = |htu| bound.proof(&token, &json!({}), &json!({ "htu": htu }));
        let public = "https://remit.example/notes/notes";
        expect(&bound.send(&token, &proof(public)).await, "a");
        expect(&bound.send(&token, &proof(HTU)).await, "!`htu`");
    });
}
#[test]
fn b5_a_certificate_must_be_the_one_that_the_token_is_bound_to() {
    let (own, other) = (der(&[], 2099), der(&[], 2099));
    let cnf = json!({"x5t#S256": base64url(digest::digest(&digest::SHA256, &own))});
    check_bearer(&cnf, over(&own), "a");
    check_bearer(&cnf, over(&other), "!certificate");
    check_bearer(&cnf, Transport::Tls { client: None }, "!certificate");
    check_bearer(&cnf, Transport::Plain, "!certificate");
}
#[test]
fn b5_a_certificate_counts_until_it_expires() {
    let old = der(&[], 2021);
    let cnf = json!({"x5t#S256": base64url(digest::digest(&digest::SHA256, &old))});
    check_bearer(&cnf, over(&old), "!expired");
}
#[test]
fn b5_a_token_that_is_bound_twice_needs_both() {
    run(async {
        let mut bound = Bound::new().await;
        let own = der(&[], 2099);
        let x5t = base64url(digest::digest(&digest::SHA256, &own));
        let cnf = json!({"x5t#S256": x5t, "jkt": thumbprint(&bound.agent)});
        let token = bound.token(&cnf);
        let htu = json!({"htu": HTU.replace("http:", "https:")});
        let proof = bound.proof(&token, &json!({}), &htu);
        bound.transport = Transport::Tls { client: None };
        expect(&bound.send(&token, &proof).await, "!certificate");
        bound.transport = over(&own);
        expect(&bound.ask(&super::bearer(&token)).await, "!possession");
        // None of these has used the proof up.
        expect(&bound.send(&token, &proof).await, "a");
    });
}
#[test]
fn b5_what_can_not_be_checked_refuses() {
    let jwk = Signer::p256().jwk("x");
    for cnf in [json!({ "jwk": jwk }), json!({"kid": "1"}), json!({"x": 1})] {
        check_bearer(&cnf, Transport::Plain, "!can't be checked");
    }
    for cnf in [json!({}), json!(null), json!("x"), json!({"jkt": "x"})] {
        check_bearer(&cnf, Transport::Plain, "!malformed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A proof has parts of any shape, or is a good one with one bit changed.
    #[test]
    fn no_proof_but_a_good_one_is_taken(value in value(), at in any::<Index>(), bit in 0..7_u32) {
        run(async {
            let bound = Bound::new().await;
            let token = bound.bound_token();
            let mut broken = bound.good_proof(&token).into_bytes();
            let at = at.index(broken.len());
            broken[at] ^= 1 << bit;
            for proof in [value, broken] {
                let Ok(proof) = HeaderValue::from_bytes(&proof) else {
                    continue;
                };
                let sent = format!("DPoP {token}");
                let mut headers = head(&[("authorization", &sent)]);
                headers.insert("dpop", proof);
                prop_assert!(bound.ask(&headers).await.is_err());
            }
            Ok(())
        })?;
    }
}
