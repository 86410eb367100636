//! Our own task tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::{GATEWAY, ask, bearer, expect, run, task, tokens};
use crate::clock::now;
use crate::{Binding, Config, Identity, KeyKind, Method, TaskTokens, Unauthenticated};

fn authenticate(
    tokens: &std::sync::Arc<TaskTokens>,
    token: &str,
) -> Result<crate::Agent, Unauthenticated> {
    let config = Config {
        issuers: Vec::new(),
        transaction_issuers: Vec::new(),
        tokens: std::sync::Arc::clone(tokens),
        dpop: crate::DpopConfig::default(),
        certificates: None,
        clusters: Vec::new(),
        wit_issuers: Vec::new(),
        spiffe: None,
    };
    let identity = Identity::new(config, None);
    run(ask(&identity, &bearer(token)))
}

/// Signs with our key what we would not mint; `null` takes a claim away.
#[track_caller]
fn check(header: &Value, claims: &Value, answer: &str) {
    let pem = TaskTokens::generate(KeyKind::P256).unwrap();
    let tokens = std::sync::Arc::new(TaskTokens::from_pem(pem.as_bytes(), GATEWAY).unwrap());
    let mut minted_claims = part(&tokens.mint(&task("triage")).unwrap(), 1);
    for (name, value) in claims.as_object().unwrap() {
        minted_claims[name] = value.clone();
        if value.is_null() {
            minted_claims.as_object_mut().unwrap().remove(name);
        }
    }
    let own = tokens.jwks()["keys"][0]["kid"].clone();
    let chosen = |name, otherwise: &Value| {
        header
            .get(name)
            .unwrap_or(otherwise)
            .as_str()
            .map(str::to_owned)
    };
    let mut minted_header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    minted_header.typ = chosen("typ", &json!("at+jwt"));
    minted_header.kid = chosen("kid", &own);
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let token = jsonwebtoken::encode(&minted_header, &minted_claims, &key).unwrap();
    expect(&authenticate(&tokens, &token), answer);
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_minted_token_is_believed() {
    for kind in [KeyKind::P256, KeyKind::Ed25519] {
        let tokens = tokens(kind);
        let agent = authenticate(&tokens, &tokens.mint(&task("triage")).unwrap()).unwrap();
        assert_eq!(agent.id().as_str(), "triage");
        assert_eq!(agent.method(), Method::TaskToken);
        assert_eq!(agent.issuer(), GATEWAY);
        assert_eq!(agent.txn(), Some("task-1"));
        assert!(agent.jti().is_some());
        assert_eq!(agent.claims()["sub"], "alice@example.org");
    }
}

#[test]
fn a_minted_token_has_what_rfc_9068_asks_for() {
    let tokens = tokens(KeyKind::Ed25519);
    let token = tokens.mint(&task("triage")).unwrap();
    let (header, claims) = (part(&token, 0), part(&token, 1));
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["alg"], "EdDSA");
    assert_eq!(header["kid"], tokens.jwks()["keys"][0]["kid"]);
    assert_eq!(claims["iss"], GATEWAY);
    assert_eq!(claims["aud"], GATEWAY);
    assert_eq!(claims["client_id"], "triage");
    assert_eq!(claims["act"], json!({"sub": "triage"}));
    for name in [
        "iat",
        "exp",
        "sub",
        "jti",
        "txn",
        "scope",
        "authorization_details",
    ] {
        assert!(!claims[name].is_null(), "{name}");
    }
}

#[test]
fn every_token_has_a_jti_of_its_own() {
    let tokens = tokens(KeyKind::P256);
    let jti = || part(&tokens.mint(&task("triage")).unwrap(), 1)["jti"].clone();
    assert_ne!(jti(), jti());
}

#[test]
fn published_keys_have_kid_alg_and_use() {
    let key = &tokens(KeyKind::P256).jwks()["keys"][0];
    assert_eq!((&key["kty"], &key["crv"]), (&json!("EC"), &json!("P-256")));
    assert_eq!((&key["alg"], &key["use"]), (&json!("ES256"), &json!("sig")));
    assert!(key["kid"].is_string());
    assert!(key.get("d").is_none());
    let key = &tokens(KeyKind::Ed25519).jwks()["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"]),
        (&json!("OKP"), &json!("Ed25519"))
    );
    assert_eq!((&key["alg"], &key["use"]), (&json!("EdDSA"), &json!("sig")));
    assert!(key.get("d").is_none());
}

#[test]
fn the_kid_is_the_thumbprint_of_rfc_7638() {
    let key = tokens(KeyKind::P256).jwks()["keys"][0].clone();
    let required = format!(
        r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
        key["x"], key["y"]
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, required.as_bytes());
    assert_eq!(key["kid"], URL_SAFE_NO_PAD.encode(digest));
}

#[test]
fn keys_of_openssl_are_read() {
    for pem in [
        &include_bytes!("openssl_p256.pem")[..],
        include_bytes!("openssl_ed25519.pem"),
    ] {
        let tokens = std::sync::Arc::new(TaskTokens::from_pem(pem, GATEWAY).unwrap());
        expect(
            &authenticate(&tokens, &tokens.mint(&task("triage")).unwrap()),
            "triage",
        );
    }
}

#[test]
fn other_keys_are_refused() {
    for pem in [
        &include_bytes!("openssl_p384.pem")[..],
        include_bytes!("openssl_sec1.pem"),
        include_bytes!("rsa.pem"),
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        let error = TaskTokens::from_pem(pem, GATEWAY).unwrap_err().to_string();
        assert!(
            error.starts_with("task signing key is not a PKCS#8 PEM"),
            "{error}"
        );
    }
}

#[test]
fn nothing_shows_the_signing_key() {
    let pem = TaskTokens::generate(KeyKind::P256).unwrap();
    let tokens = TaskTokens::from_pem(pem.as_bytes(), GATEWAY).unwrap();
    let shown = format!("{tokens:?} {}", tokens.jwks());
    for line in pem.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
}

#[test]
fn b1_a_kid_that_is_not_ours_is_refused() {
    check(&json!({"kid": "other"}), &json!({}), "!not ours");
    check(&json!({"kid": null}), &json!({}), "!not ours");
}
#[test]
fn b1_another_alg_is_refused() {
    let (ours, theirs) = (tokens(KeyKind::P256), tokens(KeyKind::Ed25519));
    expect(
        &authenticate(&ours, &theirs.mint(&task("triage")).unwrap()),
        "!not ours",
    );
}
#[test]
fn b2_typ_must_be_that_of_a_task_token() {
    check(&json!({}), &json!({}), "triage");
    check(&json!({"typ": "application/at+jwt"}), &json!({}), "triage");
    for typ in ["JWT", "txntoken+jwt", "wit+jwt", ""] {
        check(&json!({"typ": typ}), &json!({}), "!typ");
    }
    check(&json!({"typ": null}), &json!({}), "!typ");
}
#[test]
fn b2_an_expired_task_token_is_refused() {
    check(&json!({}), &json!({"exp": now()}), "!expired");
    check(&json!({}), &json!({"exp": null}), "!lacks");
}
#[test]
fn b2_a_task_token_from_the_future_is_refused() {
    check(&json!({}), &json!({"iat": now() + 60}), "!not valid yet");
    check(&json!({}), &json!({"iat": null}), "!lacks");
}
#[test]
fn b2_a_task_token_for_another_audience_is_refused() {
    check(
        &json!({}),
        &json!({"aud": "https://other.example"}),
        "!audience",
    );
}
#[test]
fn b2_a_task_token_of_another_gateway_is_refused() {
    // Another name: nobody's proof. The same name: another key.
    check(
        &json!({}),
        &json!({"iss": "https://other.example"}),
        "!no proof",
    );
    let (ours, theirs) = (tokens(KeyKind::P256), tokens(KeyKind::P256));
    expect(
        &authenticate(&ours, &theirs.mint(&task("triage")).unwrap()),
        "!not ours",
    );
}
#[test]
fn a_task_token_without_its_parts_is_refused() {
    for claim in ["txn", "jti", "sub", "act"] {
        check(&json!({}), &json!({claim: null}), "!lacks");
        check(&json!({}), &json!({claim: 1}), "!lacks");
    }
    check(&json!({}), &json!({"txn": ""}), "!lacks");
    check(&json!({}), &json!({"act": {"sub": "two words"}}), "!lacks");
}
#[test]
fn only_the_outermost_actor_counts() {
    check(
        &json!({}),
        &json!({"act": {"sub": "child", "act": {"sub": "parent"}}}),
        "child",
    );
}

#[test]
fn a_form_is_prepared_once_per_token() {
    let tokens = tokens(KeyKind::P256);
    let identity = Identity::new(
        Config {
            issuers: Vec::new(),
            transaction_issuers: Vec::new(),
            tokens: std::sync::Arc::clone(&tokens),
            dpop: crate::DpopConfig::default(),
            certificates: None,
            clusters: Vec::new(),
            wit_issuers: Vec::new(),
            spiffe: None,
        },
        None,
    );
    let call = |token: &str| run(ask(&identity, &bearer(token))).unwrap();
    let token = tokens.mint(&task("triage")).unwrap();
    assert_eq!(call(&token).prepared(|_| 1_u8), Some(&1));
    assert_eq!(call(&token).prepared(|_| 2_u8), Some(&1));
    assert_eq!(call(&token).prepared(|_| "another type"), None);
    let another = tokens.mint(&task("triage")).unwrap();
    assert_eq!(call(&another).prepared(|_| 2_u8), Some(&2));
}

#[test]
fn b5_a_bound_task_token_is_no_bearer() {
    let digest = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    let bound = |cnf: Value| json!({ "cnf": cnf });
    check(&json!({}), &bound(json!({"jkt": digest})), "!possession");
    check(
        &json!({}),
        &bound(json!({"x5t#S256": digest})),
        "!certificate",
    );
    check(&json!({}), &bound(json!({"jwk": {}})), "!can't be checked");
    check(&json!({}), &bound(json!({})), "!malformed");
}

#[test]
fn b5_a_token_is_minted_bound() {
    let tokens = tokens(KeyKind::P256);
    let digest = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    for name in ["jkt", "x5t#S256"] {
        let cnf = json!({ name: digest });
        let binding = Binding::read(&cnf).unwrap();
        let token = tokens.mint_bound(&task("triage"), binding).unwrap();
        assert_eq!(part(&token, 1)["cnf"], cnf);
        assert!(authenticate(&tokens, &token).is_err());
    }
    let unbound = tokens.mint(&task("triage")).unwrap();
    assert_eq!(part(&unbound, 1).get("cnf"), None);
}

#[test]
fn a_token_is_bound_only_to_what_can_be_checked() {
    for cnf in [
        json!({}),
        json!({"jkt": "x"}),
        json!({"jwk": {}}),
        json!(null),
    ] {
        assert!(Binding::read(&cnf).is_err(), "{cnf}");
    }
}
