//! Workload identity tokens with their proofs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::blocking::RequestBuilder;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use testkit::issuer::Algorithm;
use testkit::remit::until;
use testkit::{Issuer, Site};

use super::{REMIT, World, allowed};

const AGENT: &str = "wimse://example.org/agents/triage";

/// A gateway that believes one issuer, and the key of a workload.
struct Wimse {
    world: World,
    issuer: Issuer,
    key: EcdsaKeyPair,
    task: String,
    token: String,
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hash(text: &str) -> String {
    base64url(digest(&SHA256, text.as_bytes()))
}

fn now() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    now.unwrap().as_secs()
}

fn generate() -> EcdsaKeyPair {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap()
}

impl Wimse {
    /// One that has run for long enough to know what was used.
    fn start() -> Self {
        let site = Site::new(REMIT);
        let issuer = site.run(Issuer::start());
        let config = format!(
            "listen: {{ calls: 127.0.0.1:0, control: 127.0.0.1:0 }}
identity:
  wimse: [{{ trust_domain: example.org, issuer: {} }}]",
            issuer.url()
        );
        let world = World::start(site, &config, "wimse");
        let (task, token) = world.task(AGENT);
        let wimse = Self {
            world,
            issuer,
            key: generate(),
            task,
            token,
        };
        let wit = wimse.wit(&json!({}));
        until("the gateway knows what was used", || {
            let wpt = wimse.wpt(&wit, &json!({}));
            wimse.request(&wit, &wpt).send().unwrap().status() == StatusCode::OK
        });
        wimse.world.upstream.forget();
        wimse
    }

    /// A token in order, but for these claims.
    fn wit(&self, claims: &Value) -> String {
        // An uncompressed point: a four, then both coordinates (SEC 1, section 2.3.3).
        let point = self.key.public_key().as_ref().get(1..).unwrap();
        let (x, y) = point.split_at(32);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "x": base64url(x), "y": base64url(y),
        });
        let good = json!({
            "iss": self.issuer.url(), "sub": AGENT, "exp": now() + 300, "cnf": { "jwk": jwk },
        });
        self.mint(&json!({ "typ": "wit+jwt" }), &patched(good, claims))
    }

    fn mint(&self, header: &Value, claims: &Value) -> String {
        let any = self.issuer.mint(Algorithm::ES256, &json!({}));
        let (first, _) = any.split_once('.').unwrap();
        let good: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(first).unwrap()).unwrap();
        let header = patched(good, header);
        self.issuer.mint_with(Algorithm::ES256, &header, claims)
    }

    /// A proof in order, but for these claims.
    fn wpt(&self, wit: &str, claims: &Value) -> String {
        let good = json!({
            "aud": self.world.remit.call("/notes/notes"),
            "exp": now() + 60,
            "iat": now(),
            "jti": uuid::Uuid::new_v4(),
            "wth": hash(wit),
        });
        let header = json!({ "typ": "wpt+jwt", "alg": "ES256" });
        let [header, claims] =
            [header, patched(good, claims)].map(|part| base64url(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", base64url(signature.unwrap()))
    }

    fn request(&self, wit: &str, wpt: &str) -> RequestBuilder {
        let request = self.world.request(&self.task);
        let request = request.header("workload-identity-token", wit);
        request.header("workload-proof-token", wpt)
    }

    /// A request whose proof has these claims.
    fn with(&self, claims: &Value) -> RequestBuilder {
        let wit = self.wit(&json!({}));
        self.request(&wit, &self.wpt(&wit, claims))
    }
}

fn patched(mut good: Value, patch: &Value) -> Value {
    for (name, value) in patch.as_object().unwrap() {
        good[name] = value.clone();
    }
    good
}

#[test]
fn b5_a_workload_identity_token_calls_a_tool_with_a_proof_for_each_call() {
    let wimse = Wimse::start();
    let wit = wimse.wit(&json!({}));
    for _ in 0..3 {
        allowed(
            wimse
                .request(&wit, &wimse.wpt(&wit, &json!({})))
                .send()
                .unwrap(),
        );
    }
    // Neither goes any further.
    for received in wimse.world.upstream.received() {
        for name in [
            "workload-identity-token",
            "workload-proof-token",
            "agent-task",
        ] {
            assert_eq!(received.header(name), None);
        }
    }
    // What was used is not used again, however many try it at once.
    let wpt = wimse.wpt(&wit, &json!({}));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let call = || wimse.request(&wit, &wpt).send().unwrap();
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let (allowed, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.status() == StatusCode::OK);
    assert_eq!(allowed.len(), 1);
    for answer in refused {
        super::refused(answer, "wpt_replayed");
    }
}

#[test]
fn b5_a_workload_identity_token_is_no_bearer() {
    let wimse = Wimse::start();
    let wit = wimse.wit(&json!({}));
    let request = || wimse.world.request(&wimse.task);
    let alone = request().header("workload-identity-token", &wit);
    wimse.world.refused(alone, "invalid_wpt");
    let alone = request().header("workload-proof-token", wimse.wpt(&wit, &json!({})));
    wimse.world.refused(alone, "invalid_wit");
    wimse.world.refused(request().bearer_auth(&wit), "no_proof");
    wimse
        .world
        .refused(request().header("x-api-key", &wit), "no_proof");
    let thief = Wimse {
        key: generate(),
        ..wimse
    };
    let stolen = thief.wpt(&wit, &json!({}));
    thief
        .world
        .refused(thief.request(&wit, &stolen), "invalid_wpt");
}

#[test]
fn b5_a_workload_proof_is_for_this_call() {
    let wimse = Wimse::start();
    let refused = |claims: Value, code: &str| wimse.world.refused(wimse.with(&claims), code);
    let other = wimse.world.remit.call("/notes/other");
    refused(json!({ "aud": other }), "invalid_wpt");
    refused(
        json!({ "aud": "https://evil.example/notes/notes" }),
        "invalid_wpt",
    );
    refused(json!({ "exp": now() - 1 }), "invalid_wpt");
    refused(json!({ "exp": now() + 4000 }), "invalid_wpt");
    refused(json!({ "wth": hash("x") }), "invalid_wpt");
    refused(json!({ "jti": null }), "invalid_wpt");
    refused(json!({ "tth": hash("x") }), "invalid_wpt");
}

#[test]
fn b6_a_workload_identity_token_has_to_be_in_order() {
    let wimse = Wimse::start();
    let refused = |claims: Value, code: &str| {
        let wit = wimse.wit(&claims);
        let wpt = wimse.wpt(&wit, &json!({}));
        wimse.world.refused(wimse.request(&wit, &wpt), code);
    };
    refused(
        json!({ "sub": "wimse://evil.example/a" }),
        "unknown_trust_domain",
    );
    refused(json!({ "sub": "triage" }), "invalid_wit");
    refused(json!({ "exp": 1 }), "invalid_wit");
    refused(json!({ "aud": "remit" }), "invalid_wit");
    refused(json!({ "iss": "https://evil.example" }), "invalid_wit");
    refused(json!({ "cnf": null }), "invalid_wit");
    // Another kind of token of the same issuer.
    let claims = wimse.issuer.claims(AGENT, "remit");
    let jwt = wimse.mint(&json!({}), &claims);
    let wpt = wimse.wpt(&jwt, &json!({}));
    wimse
        .world
        .refused(wimse.request(&jwt, &wpt), "invalid_wit");
    let twice = wimse
        .with(&json!({}))
        .header("workload-identity-token", "a.b.c");
    wimse.world.refused(twice, "invalid_wit");
}

#[test]
fn b8_a_workload_proof_covers_the_tokens_beside_it_and_they_name_one_agent() {
    let wimse = Wimse::start();
    let own = &wimse.token;
    let (_, others) = wimse.world.task("wimse://example.org/other");
    wimse
        .world
        .refused(wimse.with(&json!({})).bearer_auth(own), "invalid_wpt");
    let ath = json!({ "ath": hash(own) });
    allowed(wimse.with(&ath).bearer_auth(own).send().unwrap());
    let wrong = wimse
        .with(&json!({ "ath": hash(&others) }))
        .bearer_auth(own);
    wimse.world.refused(wrong, "invalid_wpt");
    let disagree = wimse
        .with(&json!({ "ath": hash(&others) }))
        .bearer_auth(&others);
    wimse.world.refused(disagree, "proofs_disagree");
    // A transaction token too, whosever it is.
    let request = wimse.with(&json!({})).header("txn-token", "a.b.c");
    wimse.world.refused(request, "invalid_wpt");
    let tth = wimse.with(&json!({ "tth": hash("a.b.c") }));
    let problem: Value = tth
        .header("txn-token", "a.b.c")
        .send()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(problem["code"], "key_refused", "{problem}");
}
