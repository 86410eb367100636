//! An RSA key that everybody knows: it is in the repository, since ring makes none.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{Certificate, CertificateParams, KeyPair, PKCS_RSA_SHA256};
use ring::rsa::PublicKeyComponents;
use ring::signature::RsaKeyPair;
use serde_json::{Value, json};

const PKCS8: &[u8] = include_bytes!("../keys/rsa-1.pk8");

/// What PKCS#8 puts in front of a PKCS#1 key of 2048 bits, in bytes.
const PKCS8_HEADER: usize = 26;

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

/// A certificate of the key, signed by itself, PEM.
pub fn certificate() -> String {
    certified().pem()
}

pub(crate) fn certified() -> Certificate {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PKCS8.into(), &PKCS_RSA_SHA256);
    let named = CertificateParams::new(vec!["remit".to_owned()]).unwrap();
    named.self_signed(&key.unwrap()).unwrap()
}
