//! One public key, read from a JWK.

use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use crate::Algorithm;
use crate::digest::Digest;
use crate::key_set::Bundle;

/// A public key that can verify signatures.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    kind: Kind,
    /// The one algorithm that the set gives the key to, if it says so.
    only: Option<Algorithm>,
    verifying: Arc<DecodingKey>,
    thumbprint: Digest,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl Key {
    /// Reads a JWK; `None` where it can't verify signatures.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let jwk = Jwk::deserialize(value).ok()?;
        let common = &jwk.common;
        if common
            .public_key_use
            .as_ref()
            .is_some_and(|usage| *usage != PublicKeyUse::Signature)
        {
            return None;
        }
        if common
            .key_operations
            .as_ref()
            .is_some_and(|all| !all.contains(&KeyOperations::Verify))
        {
            return None;
        }
        let only = match &common.key_algorithm {
            Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
            None => None,
        };
        let kind = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                EllipticCurve::P256 => Kind::P256,
                EllipticCurve::P384 => Kind::P384,
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
                Kind::Ed25519
            }
            AlgorithmParameters::RSA(_) => Kind::Rsa,
            _ => return None,
        };
        let verifying = Arc::new(DecodingKey::from_jwk(&jwk).ok()?);
        Some(Self {
            id: common.key_id.clone(),
            kind,
            only,
            verifying,
            thumbprint: thumbprint(&jwk.algorithm)?,
        })
    }

    /// Reads a JWK of a SPIFFE bundle; `None` where it can't verify JWT-SVIDs.
    pub(crate) fn read_authority(mut value: Value, kind: Bundle) -> Option<Self> {
        let usage = value.as_object_mut()?.remove("use");
        let is_for_jwts = match (&usage, kind) {
            (Some(usage), _) => usage == "jwt-svid",
            (None, Bundle::Whole) => false,
            (None, Bundle::OfJwts) => true,
        };
        let has_id = value
            .get("kid")?
            .as_str()
            .is_some_and(|kid| !kid.is_empty());
        (is_for_jwts && has_id).then(|| Self::read(&value))?
    }

    /// The `kid` that its publisher gave it.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The key as it verifies.
    pub(crate) fn verifying(&self) -> &Arc<DecodingKey> {
        &self.verifying
    }

    /// The RFC 7638 thumbprint, by SHA-256.
    pub(crate) fn thumbprint(&self) -> &Digest {
        &self.thumbprint
    }

    /// Whether it verifies signatures of this algorithm.
    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let by_kind = match (self.kind, algorithm) {
            (Kind::P256, ES256) | (Kind::P384, ES384) | (Kind::Ed25519, EdDSA) => true,
            (Kind::Rsa, RS256 | RS384 | RS512 | PS256 | PS384 | PS512) => true,
            (Kind::P256 | Kind::P384 | Kind::Ed25519 | Kind::Rsa, _) => false,
        };
        by_kind && self.only.is_none_or(|only| only == algorithm)
    }
}

/// The members that RFC 7638 section 3.2 and RFC 8037 section 2 name, in their order. What stands between
/// the quotes was decoded from base64url before, so none of it needs an escape.
fn thumbprint(key: &AlgorithmParameters) -> Option<Digest> {
    let canonical = match key {
        AlgorithmParameters::EllipticCurve(ec) => {
            let curve = match ec.curve {
                EllipticCurve::P256 => "P-256",
                EllipticCurve::P384 => "P-384",
                _ => return None,
            };
            format!(
                r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#,
                ec.x, ec.y
            )
        }
        AlgorithmParameters::OctetKeyPair(okp) => {
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, okp.x)
        }
        AlgorithmParameters::RSA(rsa) => {
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, rsa.e, rsa.n)
        }
        _ => return None,
    };
    Some(Digest::of(canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Key;
    use crate::digest::Digest;

    #[track_caller]
    fn check(jwk: &Value, thumbprint: &str) {
        let key = Key::read(jwk).unwrap();
        assert_eq!(*key.thumbprint(), Digest::read(thumbprint).unwrap());
    }

    #[test]
    fn the_thumbprint_of_an_rsa_key_is_that_of_rfc_7638() {
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let key =
            json!({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
        check(&key, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
    #[test]
    fn the_thumbprint_of_an_ed25519_key_is_that_of_rfc_8037() {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        check(&key, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
    #[test]
    fn the_thumbprint_of_a_p256_key_is_that_of_rfc_9449() {
        let key = json!({
            "kty": "EC", "crv": "P-256",
            "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        });
        check(&key, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }
    #[test]
    fn a_coordinate_that_is_no_base64url_makes_no_key() {
        let key = json!({"kty": "EC", "crv": "P-256", "x": "AA\",\"y\":\"AA", "y": "AA"});
        assert!(Key::read(&key).is_none());
    }
}
