//! The keys that sign and verify bundles: PEM, and one algorithm for each kind of key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
};

use crate::der::element;

/// A key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKey {
    /// Not the PEM that was asked for.
    #[error("not a PEM block `{0}`")]
    Pem(&'static str),
    /// Another kind of key.
    #[error("neither P-256, Ed25519 nor RSA of 2048 bits or more")]
    Kind,
}

/// The algorithm of a JWS, which the key decides and never the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Algorithm {
    Es256,
    EdDsa,
    Rs256,
}

impl Algorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

/// Verifies bundles.
#[derive(Clone, Debug)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// As ring takes it: a point, 32 bytes, or an `RSAPublicKey`.
    bytes: Vec<u8>,
}

/// The identifiers of RFC 5480, RFC 8410 and RFC 8017 in a `SubjectPublicKeyInfo`.
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const EDWARDS: &[u8] = b"\x06\x03\x2b\x65\x70";
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        let der = block(pem, "PUBLIC KEY")?;
        let read = || {
            let (info, rest) = element(&der, 0x30)?;
            let (identifier, key) = element(info, 0x30)?;
            // A bit string starts with the number of bits that are not used: none.
            let (bits, end) = element(key, 0x03)?;
            let bytes = bits.strip_prefix(&[0])?.to_vec();
            let algorithm = match identifier {
                P256 => Algorithm::Es256,
                EDWARDS => Algorithm::EdDsa,
                RSA => Algorithm::Rs256,
                _ => return None,
            };
            (rest.is_empty() && end.is_empty()).then_some(Self { algorithm, bytes })
        };
        read().ok_or(InvalidKey::Kind)
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::EdDsa => &ED25519,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

/// Signs bundles.
pub struct SigningKey {
    pair: Pair,
    pub(super) id: Option<String>,
    pub(super) scope: Option<String>,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Reads `-----BEGIN PRIVATE KEY-----` (PKCS #8); the id and the scope are written into signatures.
    pub fn from_pem(
        pem: &str,
        id: Option<String>,
        scope: Option<String>,
    ) -> Result<Self, InvalidKey> {
        let der = block(pem, "PRIVATE KEY")?;
        let random = SystemRandom::new();
        let ecdsa =
            || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).ok();
        // OpenSSL writes the private half of Ed25519 alone.
        let edwards = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok();
        let rsa = || RsaKeyPair::from_pkcs8(&der).ok();
        let pair = ecdsa()
            .map(Pair::Ecdsa)
            .or_else(|| edwards().map(Pair::Edwards))
            .or_else(|| rsa().map(Pair::Rsa))
            .ok_or(InvalidKey::Kind)?;
        Ok(Self { pair, id, scope })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Ecdsa(_) => Algorithm::Es256,
            Pair::Edwards(_) => Algorithm::EdDsa,
            Pair::Rsa(_) => Algorithm::Rs256,
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Pair::Edwards(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &random,
                    message,
                    &mut signature,
                )?;
                Ok(signature)
            }
        }
    }
}

/// The bytes of the one PEM block of this label.
fn block(pem: &str, label: &'static str) -> Result<Vec<u8>, InvalidKey> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let body = pem
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end))
        .map(|(body, _)| body.split_ascii_whitespace().collect::<String>());
    body.and_then(|body| STANDARD.decode(body).ok())
        .ok_or(InvalidKey::Pem(label))
}
