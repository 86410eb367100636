//! The keys that verify tokens: a certificate, a public key, a JWK (RFC 7517) or a set of them, a secret.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac::{self, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;

use crate::der::element;

/// How many keys a set has at most: each may have to be tried.
const MOST: usize = 64;

/// Keys of which one must have signed.
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    /// The one algorithm it is for, if it names one.
    algorithm: Option<String>,
    kind: Kind,
}

/// What a key is. It decides which algorithms there are, and never the token.
enum Kind {
    Secret(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Edwards(Vec<u8>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// One that verifies nothing here, of another curve for example.
    Other,
}

impl Keys {
    /// Reads a PEM certificate, of which nothing but the key counts, a PEM public key, a JWK or a set of them. A set
    /// may have keys that can't be used, among others.
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        let key = match Block::read(text)? {
            Some(block) => Key::unnamed(block.key()?),
            None => {
                let value: serde_json::Value = serde_json::from_str(text)
                    .map_err(|_| anyhow::anyhow!("a key must be PEM, a JWK or a set of them"))?;
                if value.get("keys").is_some() {
                    return Self::set(serde_json::from_value(value)?);
                }
                serde_json::from_value::<Jwk>(value)?.key()?
            }
        };
        let is_other = matches!(key.kind, Kind::Other);
        anyhow::ensure!(!is_other, "a key is of a kind that verifies nothing here");
        Ok(Self(vec![key]))
    }

    fn set(set: Set) -> anyhow::Result<Self> {
        anyhow::ensure!(set.keys.len() <= MOST, "a set has at most {MOST} keys");
        let keys = set.keys.into_iter().map(Jwk::key);
        Ok(Self(keys.collect::<anyhow::Result<_>>()?))
    }

    /// A secret of both sides. Everybody knows the empty one.
    pub(super) fn secret(text: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(!text.is_empty(), "a secret must not be empty");
        let kind = Kind::Secret(text.as_bytes().to_vec());
        Ok(Self(vec![Key::unnamed(kind)]))
    }

    /// Whether the key that is named made this signature; any of them, if none is called that.
    pub(super) fn verify(&self, id: Option<&str>, signed: &Signed<'_>) -> bool {
        let named = |key: &&Key| id.is_some() && key.id.as_deref() == id;
        match self.0.iter().find(named) {
            Some(key) => key.verifies(signed),
            None => self.0.iter().any(|key| key.verifies(signed)),
        }
    }
}

/// A message, and what is said to prove it.
pub(super) struct Signed<'a> {
    /// As RFC 7518 3.1 names it.
    pub(super) algorithm: &'a str,
    pub(super) message: &'a str,
    pub(super) signature: &'a [u8],
}

impl Key {
    fn unnamed(kind: Kind) -> Self {
        Self {
            id: None,
            algorithm: None,
            kind,
        }
    }

    fn verifies(&self, signed: &Signed<'_>) -> bool {
        let named = self.algorithm.as_deref();
        named.is_none_or(|named| named == signed.algorithm) && self.kind.verifies(signed)
    }
}

impl Kind {
    fn verifies(&self, signed: &Signed<'_>) -> bool {
        let (message, signature) = (signed.message.as_bytes(), signed.signature);
        let hmac = |algorithm, secret: &[u8]| {
            let key = hmac::Key::new(algorithm, secret);
            hmac::verify(&key, message, signature).is_ok()
        };
        let public = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            let key = UnparsedPublicKey::new(algorithm, key);
            key.verify(message, signature).is_ok()
        };
        let rsa = |parameters: &RsaParameters, key: &RsaPublicKeyComponents<Vec<u8>>| {
            key.verify(parameters, message, signature).is_ok()
        };
        match (signed.algorithm, self) {
            ("HS256", Self::Secret(secret)) => hmac(HMAC_SHA256, secret),
            ("HS384", Self::Secret(secret)) => hmac(HMAC_SHA384, secret),
            ("HS512", Self::Secret(secret)) => hmac(HMAC_SHA512, secret),
            ("RS256", Self::Rsa(key)) => rsa(&RSA_PKCS1_2048_8192_SHA256, key),
            ("RS384", Self::Rsa(key)) => rsa(&RSA_PKCS1_2048_8192_SHA384, key),
            ("RS512", Self::Rsa(key)) => rsa(&RSA_PKCS1_2048_8192_SHA512, key),
            ("PS256", Self::Rsa(key)) => rsa(&RSA_PSS_2048_8192_SHA256, key),
            ("PS384", Self::Rsa(key)) => rsa(&RSA_PSS_2048_8192_SHA384, key),
            ("PS512", Self::Rsa(key)) => rsa(&RSA_PSS_2048_8192_SHA512, key),
            ("ES256", Self::P256(key)) => public(&ECDSA_P256_SHA256_FIXED, key),
            ("ES384", Self::P384(key)) => public(&ECDSA_P384_SHA384_FIXED, key),
            ("EdDSA", Self::Edwards(key)) => public(&ED25519, key),
            _ => false,
        }
    }

    fn rsa(n: &[u8], e: &[u8]) -> Self {
        let trimmed = |number: &[u8]| {
            let number = number.iter().skip_while(|byte| **byte == 0);
            number.copied().collect()
        };
        Self::Rsa(RsaPublicKeyComponents {
            n: trimmed(n),
            e: trimmed(e),
        })
    }
}

/// What a PEM block holds (RFC 7468).
enum Block {
    Certificate(Vec<u8>),
    PublicKey(Vec<u8>),
}

/// The identifiers of RFC 5480, RFC 8410 and RFC 8017 in a `SubjectPublicKeyInfo`.
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
const EDWARDS: &[u8] = b"\x06\x03\x2b\x65\x70";
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// Where a certificate says its version.
const VERSION: u8 = 0xa0;

impl Block {
    /// The one block of a text; nothing if the text is no PEM.
    fn read(text: &str) -> anyhow::Result<Option<Self>> {
        let Some((_, rest)) = text.split_once("-----BEGIN ") else {
            return Ok(None);
        };
        let whole = rest.split_once("-----").and_then(|(label, rest)| {
            let (body, rest) = rest.split_once(&format!("-----END {label}-----"))?;
            let body = body.split_ascii_whitespace().collect::<String>();
            Some((label, STANDARD.decode(body).ok()?, rest))
        });
        let (label, bytes, rest) = whole.ok_or_else(|| anyhow::anyhow!("a PEM block is broken"))?;
        anyhow::ensure!(rest.trim().is_empty(), "extra data after a PEM block");
        match label {
            "CERTIFICATE" => Ok(Some(Self::Certificate(bytes))),
            "PUBLIC KEY" => Ok(Some(Self::PublicKey(bytes))),
            _ => anyhow::bail!("neither a certificate nor a public key"),
        }
    }

    fn key(&self) -> anyhow::Result<Kind> {
        let read = match self {
            Self::Certificate(der) => certified(der),
            Self::PublicKey(der) => public(der).filter(|(_, rest)| rest.is_empty()),
        };
        let (kind, _) = read.ok_or_else(|| anyhow::anyhow!("a PEM block holds no key"))?;
        Ok(kind)
    }
}

/// The key of a certificate (RFC 5280 4.1), and what follows it.
fn certified(der: &[u8]) -> Option<(Kind, &[u8])> {
    let (certificate, end) = element(der, SEQUENCE)?;
    end.is_empty().then_some(())?;
    let (body, _) = element(certificate, SEQUENCE)?;
    let body = element(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_serial, mut body) = element(body, INTEGER)?;
    for _of in ["signature", "issuer", "validity", "subject"] {
        (_, body) = element(body, SEQUENCE)?;
    }
    public(body)
}

/// The key of a `SubjectPublicKeyInfo`, and what follows it.
fn public(der: &[u8]) -> Option<(Kind, &[u8])> {
    let (info, rest) = element(der, SEQUENCE)?;
    let (identifier, key) = element(info, SEQUENCE)?;
    // A bit string starts with the number of bits that are not used: none.
    let (bits, end) = element(key, BIT_STRING)?;
    let bytes = bits.strip_prefix(&[0])?;
    end.is_empty().then_some(())?;
    let kind = match identifier {
        P256 => Kind::P256(bytes.to_vec()),
        P384 => Kind::P384(bytes.to_vec()),
        EDWARDS => Kind::Edwards(bytes.to_vec()),
        RSA => {
            let (numbers, _) = element(bytes, SEQUENCE)?;
            let (n, rest) = element(numbers, INTEGER)?;
            let (e, _) = element(rest, INTEGER)?;
            Kind::rsa(n, e)
        }
        _ => Kind::Other,
    };
    Some((kind, rest))
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// The members of RFC 7518 6 that a verifier needs, in base64url.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
}

impl Jwk {
    fn key(self) -> anyhow::Result<Key> {
        let kind = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => {
                let secret = bytes(self.k.as_deref())?;
                anyhow::ensure!(!secret.is_empty(), "a secret must not be empty");
                Kind::Secret(secret)
            }
            ("EC", Some("P-256")) => Kind::P256(self.point(32)?),
            ("EC", Some("P-384")) => Kind::P384(self.point(48)?),
            ("OKP", Some("Ed25519")) => Kind::Edwards(bytes(self.x.as_deref())?),
            ("RSA", _) => Kind::rsa(&bytes(self.n.as_deref())?, &bytes(self.e.as_deref())?),
            _ => Kind::Other,
        };
        Ok(Key {
            id: self.kid,
            algorithm: self.alg,
            kind,
        })
    }

    /// Not compressed (SEC 1 2.3.3), of coordinates of this length.
    fn point(&self, length: usize) -> anyhow::Result<Vec<u8>> {
        let mut point = vec![4];
        for coordinate in [&self.x, &self.y] {
            let coordinate = bytes(coordinate.as_deref())?;
            let missing = length.checked_sub(coordinate.len());
            let missing = missing.ok_or_else(|| anyhow::anyhow!("a coordinate is too long"))?;
            point.extend(std::iter::repeat_n(0, missing));
            point.extend(coordinate);
        }
        Ok(point)
    }
}

fn bytes(member: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let member = member.ok_or_else(|| anyhow::anyhow!("a member of a JWK is missing"))?;
    Ok(URL_SAFE_NO_PAD.decode(member.trim_end_matches('='))?)
}
