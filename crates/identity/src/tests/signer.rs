//! Keys that sign whatever a test wants, the forbidden too.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use serde_json::{Value, json};

pub(super) enum Signer {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn p256() -> Self {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap())
    }

    pub(super) fn p384() -> Self {
        let algorithm = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::P384(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap())
    }

    pub(super) fn ed25519() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    /// Made by OpenSSL, since ring makes no RSA keys.
    pub(super) fn rsa() -> Self {
        let lines = include_str!("rsa.pem")
            .lines()
            .filter(|line| !line.starts_with('-'));
        let der = STANDARD.decode(lines.collect::<String>()).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(&der).unwrap())
    }

    /// The public key.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(self.coordinate());
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "kid": kid, "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": base64url(pair.public_key())})
            }
            Self::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "kid": kid, "n": base64url(public.n), "e": base64url(public.e)})
            }
        }
    }

    fn coordinate(&self) -> usize {
        if matches!(self, Self::P384(_)) {
            48
        } else {
            32
        }
    }

    /// A token with this header and these claims, signed as the header's `alg` says, where the key can.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.signature(header, message.as_bytes());
        format!("{message}.{}", base64url(signature))
    }

    fn signature(&self, header: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let paddings: [(&str, &dyn signature::RsaEncoding); 6] = [
                    ("RS256", &signature::RSA_PKCS1_SHA256),
                    ("RS384", &signature::RSA_PKCS1_SHA384),
                    ("RS512", &signature::RSA_PKCS1_SHA512),
                    ("PS256", &signature::RSA_PSS_SHA256),
                    ("PS384", &signature::RSA_PSS_SHA384),
                    ("PS512", &signature::RSA_PSS_SHA512),
                ];
                let named = paddings.into_iter().find(|(name, _)| header.contains(name));
                let (_, padding) = named.unwrap();
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }
}
