//! Tokens of other issuers: what is believed, and what must not be (RFC 8725).

use serde_json::{Value, json};

use super::signer::{Signer, base64url};
use super::{Idp, ask, bearer, believe, expect, identity, run};
use crate::clock::now;
use crate::key_source::Pace;
use crate::{Algorithm, IssuerConfig};

/// Changes `base` as RFC 7396 says: `null` takes away.
fn merged(mut base: Value, patch: &Value) -> Value {
    let object = base.as_object_mut().unwrap();
    for (name, value) in patch.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
        if value.is_null() {
            object.remove(name);
        }
    }
    base
}

struct Setting {
    signer: Signer,
    algorithm: &'static str,
    header: Value,
    claims: Value,
    config: fn(&mut IssuerConfig),
    token: fn(String) -> String,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            signer: Signer::p256(),
            algorithm: "ES256",
            header: json!({}),
            claims: json!({}),
            config: |_| {},
            token: |token| token,
        }
    }
}

impl Setting {
    #[track_caller]
    fn gives(self, answer: &str) {
        let result = run(async {
            let idp = Idp::start(&[self.signer.jwk("1")]).await;
            let header = json!({"alg": self.algorithm, "kid": "1", "typ": "JWT"});
            let claims =
                json!({"iss": idp.issuer(), "aud": "remit", "sub": "triage", "exp": now() + 60});
            let token = self
                .signer
                .sign(&merged(header, &self.header), &merged(claims, &self.claims));
            let mut config = believe(&idp);
            (self.config)(&mut config);
            let identity = identity(vec![config], Pace::default());
            ask(&identity, &bearer(&(self.token)(token))).await
        });
        expect(&result, answer);
    }
}

#[track_caller]
fn header(patch: Value, answer: &str) {
    Setting {
        header: patch,
        ..Setting::default()
    }
    .gives(answer);
}

#[track_caller]
fn claims(patch: Value, answer: &str) {
    Setting {
        claims: patch,
        ..Setting::default()
    }
    .gives(answer);
}

#[track_caller]
fn signed(signer: Signer, algorithm: &'static str, answer: &str) {
    Setting {
        signer,
        algorithm,
        ..Setting::default()
    }
    .gives(answer);
}

#[track_caller]
fn token(token: fn(String) -> String, answer: &str) {
    Setting {
        token,
        ..Setting::default()
    }
    .gives(answer);
}

#[test]
fn every_algorithm_is_understood() {
    signed(Signer::p256(), "ES256", "triage");
    signed(Signer::p384(), "ES384", "triage");
    signed(Signer::ed25519(), "EdDSA", "triage");
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        signed(Signer::rsa(), algorithm, "triage");
    }
}

#[test]
fn a_token_of_a_job_of_github_actions_is_one() {
    Setting {
        signer: Signer::rsa(),
        algorithm: "RS256",
        header: json!({"x5t": "kT5w"}),
        claims: json!({
            "sub": "repo:acme/shop:ref:refs/heads/main", "jti": "1", "nbf": now() - 600, "iat": now(),
            "repository": "acme/shop", "repository_owner_id": "1", "ref": "refs/heads/main",
        }),
        ..Setting::default()
    }
    .gives("repo:acme/shop:ref:refs/heads/main");
}
#[test]
fn a_projected_token_of_kubernetes_is_one() {
    let pod = json!({
        "namespace": "agents", "pod": {"name": "triage-1", "uid": "1"},
        "serviceaccount": {"name": "triage", "uid": "2"}, "warnafter": now() + 30,
    });
    Setting {
        signer: Signer::rsa(),
        algorithm: "RS256",
        header: json!({"typ": null}),
        claims: json!({
            "sub": "system:serviceaccount:agents:triage", "aud": ["remit"], "iat": now(), "nbf": now(),
            "kubernetes.io": pod,
        }),
        ..Setting::default()
    }
    .gives("system:serviceaccount:agents:triage");
}

// B1: algorithms and headers.

#[test]
fn b1_alg_none_is_refused() {
    header(json!({"alg": "none"}), "!algorithm");
    token(
        |token| {
            let (_, rest) = token.split_once('.').unwrap();
            let (claims, _) = rest.split_once('.').unwrap();
            format!("{}.{claims}.", base64url(r#"{"alg":"none"}"#))
        },
        "!algorithm",
    );
}
#[test]
fn b1_a_missing_alg_is_refused() {
    header(json!({"alg": null}), "!algorithm");
}
#[test]
fn b1_hs256_with_the_public_key_is_refused() {
    token(
        |token| {
            let (_, rest) = token.split_once('.').unwrap();
            let (claims, _) = rest.split_once('.').unwrap();
            let message = format!("{}.{claims}", base64url(r#"{"alg":"HS256","kid":"1"}"#));
            let key =
                ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"the public key, which all know");
            format!(
                "{message}.{}",
                base64url(ring::hmac::sign(&key, message.as_bytes()))
            )
        },
        "!algorithm",
    );
}
#[test]
fn b1_an_alg_in_another_case_is_refused() {
    header(json!({"alg": "es256"}), "!algorithm");
}
#[test]
fn b1_an_alg_that_is_not_of_the_key_is_refused() {
    header(json!({"alg": "ES384"}), "!does not publish");
    header(json!({"alg": "RS256"}), "!does not publish");
    header(json!({"alg": "EdDSA"}), "!does not publish");
}
#[test]
fn b1_an_alg_that_is_not_configured_is_refused() {
    Setting {
        config: |issuer| issuer.algorithms = vec![Algorithm::RS256],
        ..Setting::default()
    }
    .gives("!algorithm");
    Setting {
        config: |issuer| issuer.algorithms.clear(),
        ..Setting::default()
    }
    .gives("!algorithm");
}
#[test]
fn b1_crit_is_refused() {
    header(json!({"crit": ["exp"]}), "!not allowed");
    header(json!({"crit": []}), "!not allowed");
}
#[test]
fn b1_b64_is_refused() {
    header(json!({"b64": false}), "!not allowed");
}
#[test]
fn b1_keys_that_come_with_the_token_are_refused() {
    header(json!({"jku": "https://evil.example/keys"}), "!not allowed");
    header(json!({"x5u": "https://evil.example/cert"}), "!not allowed");
    header(json!({"x5c": ["MII="]}), "!not allowed");
    header(json!({"jwk": {"kty": "oct", "k": ""}}), "!not allowed");
}
#[test]
fn b1_a_kid_is_nothing_but_a_name() {
    for kid in [
        "../../dev/null",
        "1' OR '1'='1",
        "",
        "2",
        "http://127.0.0.1/",
    ] {
        header(json!({"kid": kid}), "!does not publish");
    }
}
#[test]
fn b1_a_kid_that_is_not_text_is_refused() {
    header(json!({"kid": 1}), "!not text");
    header(json!({"kid": ["1"]}), "!not text");
}
#[test]
fn b1_without_a_kid_the_only_key_is_taken() {
    header(json!({"kid": null}), "triage");
}

// B2: claims and types.

#[test]
fn b2_an_expired_token_is_refused() {
    claims(json!({"exp": now() - 1}), "!expired");
    claims(json!({"exp": 0}), "!expired");
    claims(json!({"exp": 1.5}), "!expired");
}
#[test]
fn b2_exp_is_required_and_a_number() {
    claims(json!({"exp": null}), "!lacks");
    claims(json!({"exp": (now() + 60).to_string()}), "!lacks");
    claims(json!({"exp": -1}), "!lacks");
    claims(json!({"exp": 1e300}), "!");
}
#[test]
fn b2_exp_may_have_a_fraction() {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds since the epoch are below 2^53"
    )]
    claims(json!({"exp": now() as f64 + 60.5}), "triage");
}
#[test]
fn b2_a_token_that_is_not_valid_yet_is_refused() {
    claims(json!({"nbf": now() + 60}), "!not valid yet");
    claims(json!({"iat": now() + 60}), "!not valid yet");
    claims(json!({"nbf": "now"}), "!no number");
}
#[test]
fn b2_a_clock_may_be_a_little_ahead() {
    claims(json!({"nbf": now() + 2, "iat": now() + 2}), "triage");
}
#[test]
fn b2_aud_must_be_ours() {
    claims(json!({"aud": "another"}), "!audience");
    claims(json!({"aud": "Remit"}), "!audience");
    claims(json!({"aud": null}), "!lacks");
    claims(json!({"aud": 1}), "!lacks");
    claims(json!({"aud": {"remit": 1}}), "!lacks");
}
#[test]
fn b2_aud_may_be_a_list_with_ours() {
    claims(json!({"aud": ["another", "remit"]}), "triage");
    claims(json!({"aud": ["another"]}), "!audience");
    claims(json!({"aud": []}), "!audience");
}
#[test]
fn b2_a_token_of_an_unknown_issuer_is_no_proof() {
    claims(json!({"iss": "https://evil.example"}), "!no proof");
    claims(json!({"iss": null}), "!no proof");
    claims(json!({"iss": 1}), "!no proof");
}
#[test]
fn b2_typ_may_be_that_of_an_access_token() {
    for typ in [
        "JWT",
        "jwt",
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "application/jwt",
    ] {
        header(json!({"typ": typ}), "triage");
    }
    header(json!({"typ": null}), "triage");
}
#[test]
fn b2_typ_of_something_else_is_refused() {
    for typ in [
        "dpop+jwt",
        "txntoken+jwt",
        "logout+jwt",
        "secevent+jwt",
        "wit+jwt",
        "",
    ] {
        header(json!({"typ": typ}), "!typ");
    }
    header(json!({"typ": 1}), "!not text");
}
#[test]
fn b2_configured_types_are_the_only_ones() {
    let only = |typ| Setting {
        header: json!({"typ": typ}),
        config: |issuer| issuer.types = vec!["application/at+jwt".to_owned()],
        ..Setting::default()
    };
    only(json!("at+jwt")).gives("triage");
    only(json!("JWT")).gives("!typ");
    only(Value::Null).gives("!typ");
}
#[test]
fn b2_claims_that_name_no_agent_are_refused() {
    claims(json!({"sub": null}), "!names its subject");
    claims(json!({"sub": 7}), "!names its subject");
    claims(json!({"sub": "two words"}), "!no agent id");
}

// B3: the bytes of a token.

#[test]
fn b3_any_flipped_bit_of_the_signature_is_refused() {
    let result = run(async {
        let signer = Signer::p256();
        let idp = Idp::start(&[signer.jwk("1")]).await;
        let identity = identity(vec![believe(&idp)], Pace::default());
        let claims =
            json!({"iss": idp.issuer(), "aud": "remit", "sub": "triage", "exp": now() + 60});
        let token = signer.sign(&json!({"alg": "ES256", "kid": "1"}), &claims);
        let start = token.rfind('.').unwrap() + 1;
        let mut flipped = Vec::new();
        for position in start..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[position] ^= 1 << bit;
                if bytes[position].is_ascii_graphic() {
                    flipped.push(String::from_utf8(bytes).unwrap());
                }
            }
        }
        for token in flipped {
            assert!(ask(&identity, &bearer(&token)).await.is_err(), "{token}");
        }
        ask(&identity, &bearer(&token)).await
    });
    expect(&result, "triage");
}
#[test]
fn b3_a_changed_claim_is_refused() {
    token(
        |token| {
            let parts: Vec<&str> = token.split('.').collect();
            let bytes =
                base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, parts[1]);
            let claims = String::from_utf8(bytes.unwrap())
                .unwrap()
                .replace("triage", "admin");
            format!("{}.{}.{}", parts[0], base64url(claims), parts[2])
        },
        "!signature",
    );
}
#[test]
fn b3_a_truncated_token_is_refused() {
    token(
        |token| token.strip_suffix(|_| true).unwrap().to_owned(),
        "!",
    );
    token(
        |token| format!("{}.", token.rsplit_once('.').unwrap().0),
        "!signature",
    );
    token(
        |token| token.rsplit_once('.').unwrap().0.to_owned(),
        "!no proof",
    );
}
#[test]
fn b3_a_fourth_part_is_refused() {
    token(|token| format!("{token}.x"), "!no proof");
}
#[test]
fn b3_padding_is_refused() {
    token(|token| format!("{token}="), "!malformed");
    token(|token| format!("{token}=="), "!malformed");
}
#[test]
fn b3_the_other_base64_alphabet_is_refused() {
    token(
        |token| format!("{}.+/{}", token.rsplit_once('.').unwrap().0, "A".repeat(84)),
        "!malformed",
    );
}
#[test]
fn b3_json_serialisation_is_refused() {
    token(
        |token| {
            let parts: Vec<&str> = token.split('.').collect();
            json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string()
        },
        "!no proof",
    );
}
#[test]
fn b3_a_huge_token_is_refused() {
    claims(json!({"groups": "x".repeat(13 * 1024)}), "!16 KiB");
    claims(json!({"groups": "x".repeat(8 * 1024)}), "triage");
}
#[test]
fn b3_a_claim_that_stands_twice_is_refused() {
    let result = run(async {
        let signer = Signer::p256();
        let idp = Idp::start(&[signer.jwk("1")]).await;
        let identity = identity(vec![believe(&idp)], Pace::default());
        let claims = format!(
            r#"{{"iss":"{}","aud":"remit","sub":"triage","team":"a","team":"b","exp":{}}}"#,
            idp.issuer(),
            now() + 60
        );
        let token = signer.sign_text(r#"{"alg":"ES256","kid":"1"}"#, &claims);
        ask(&identity, &bearer(&token)).await
    });
    expect(&result, "!twice");
}
#[test]
fn b3_a_header_parameter_that_stands_twice_is_refused() {
    let result = run(async {
        let signer = Signer::p256();
        let idp = Idp::start(&[signer.jwk("1")]).await;
        let identity = identity(vec![believe(&idp)], Pace::default());
        let claims =
            json!({"iss": idp.issuer(), "aud": "remit", "sub": "triage", "exp": now() + 60});
        let header = r#"{"alg":"none","alg":"ES256","kid":"1"}"#;
        let token = signer.sign_text(header, &claims.to_string());
        ask(&identity, &bearer(&token)).await
    });
    expect(&result, "!header is malformed");
}
#[test]
fn a_key_too_short_verifies_nothing() {
    let result = run(async {
        let rsa = json!({"kty": "RSA", "kid": "1", "n": base64url([0xff; 64]), "e": "AQAB"});
        let idp = Idp::start(&[rsa]).await;
        let identity = identity(vec![believe(&idp)], Pace::default());
        let claims =
            json!({"iss": idp.issuer(), "aud": "remit", "sub": "triage", "exp": now() + 60});
        let token = Signer::rsa().sign(&json!({"alg": "RS256", "kid": "1"}), &claims);
        ask(&identity, &bearer(&token)).await
    });
    expect(&result, "!signature");
}
