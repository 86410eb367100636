//! That an issuer's tokens verify under the keys it publishes.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

use super::*;

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider()
        .install_default()
        .is_ok();
    let builder = reqwest::Client::builder().no_proxy();
    builder
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

async fn keys(issuer: &Issuer) -> Vec<Value> {
    let discovery = format!("{}/.well-known/openid-configuration", issuer.url());
    let discovery: Value = client()
        .get(discovery)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(discovery["issuer"], issuer.url());
    let jwks = discovery["jwks_uri"].as_str().unwrap();
    let jwks: Value = client()
        .get(jwks)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    jwks["keys"].as_array().unwrap().clone()
}

fn decode(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

async fn check(algorithm: Algorithm) {
    let issuer = Issuer::start().await;
    issuer.rotate();
    let token = issuer.mint(algorithm, &issuer.claims("triage", "remit"));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = decode(&json!(signature));
    let header = decode(&json!(signed.split('.').next().unwrap()));
    let header: Value = serde_json::from_slice(&header).unwrap();
    let keys = keys(&issuer).await;
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let verified = match algorithm {
        Algorithm::ES256 => {
            let point = [vec![4], decode(&key["x"]), decode(&key["y"])].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed.as_bytes(), &signature)
        }
        Algorithm::RS256 => {
            let key = RsaPublicKeyComponents {
                n: decode(&key["n"]),
                e: decode(&key["e"]),
            };
            key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
        }
        Algorithm::EdDSA => UnparsedPublicKey::new(&ED25519, decode(&key["x"]))
            .verify(signed.as_bytes(), &signature),
    };
    verified.unwrap();
    assert_eq!((issuer.discoveries(), issuer.key_sets()), (1, 1));
}

#[tokio::test]
async fn es256_verifies() {
    check(Algorithm::ES256).await;
}
#[tokio::test]
async fn rs256_verifies() {
    check(Algorithm::RS256).await;
}
#[tokio::test]
async fn eddsa_verifies() {
    check(Algorithm::EdDSA).await;
}
#[tokio::test]
async fn rotation_replaces_every_key() {
    let issuer = Issuer::start().await;
    let before = keys(&issuer).await;
    issuer.rotate();
    let after = keys(&issuer).await;
    assert!(before.iter().all(|key| after.iter().all(|other| {
        key["kid"] != other["kid"]
            && (key["kty"] != other["kty"] || (&key["n"], &key["x"]) != (&other["n"], &other["x"]))
    })));
}

async fn check_mood(mood: Mood, status: u16) {
    let issuer = Issuer::start().await;
    issuer.mood(mood);
    let answer = client()
        .get(format!("{}/jwks", issuer.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), status);
}

#[tokio::test]
async fn it_can_be_down() {
    check_mood(Mood::Down, 503).await;
}
#[tokio::test]
async fn it_can_be_slow() {
    check_mood(Mood::Slow(Duration::ZERO), 200).await;
}
#[tokio::test]
async fn it_can_redirect() {
    check_mood(Mood::Redirecting, 307).await;
}
#[tokio::test]
async fn it_can_be_garbled() {
    check_mood(Mood::Garbled, 200).await;
}
