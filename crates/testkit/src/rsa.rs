//! An RSA key that everybody knows: it is in the repository, since ring makes none.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rsa::PublicKeyComponents;
use ring::signature::RsaKeyPair;
use serde_json::{Value, json};

const PKCS8: &[u8] = include_bytes!("../keys/rsa-1.pk8");

/// What PKCS#8 puts in front of a PKCS#1 key of 2048 bits, in bytes.
const PKCS8_HEADER: usize = 26;

/// The private key, PKCS#8 DER.
pub fn pkcs8() -> &'static [u8] {
    PKCS8
}

/// The private key, PKCS#8 PEM.
pub fn pem() -> String {
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(PKCS8)
    )
}

/// The private key, PKCS#1 DER.
pub fn pkcs1() -> &'static [u8] {
    PKCS8.get(PKCS8_HEADER..).unwrap()
}

/// The public key, as a JWK.
pub fn public() -> Value {
    let pair = RsaKeyPair::from_pkcs8(PKCS8).unwrap();
    let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "RSA", "n": encode(&public.n), "e": encode(&public.e) })
}
