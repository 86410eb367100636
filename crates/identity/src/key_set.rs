//! The public keys of an issuer that can verify its tokens.

use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::Algorithm;
use crate::digest::Digest;
use crate::key::Key;

/// The usable keys of one JWK Set (RFC 7517 section 5).
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// Of the document it was read from.
    digest: Digest,
}

impl KeySet {
    /// Reads a JWK Set; keys that can't verify signatures are left out, `None` where it is no set.
    pub(crate) fn read(document: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document_keys = serde_json::from_slice::<Document>(document).ok()?.keys;
        let keys = document_keys.into_iter();
        let keys = keys.filter_map(|key| Key::read(&key)).collect();
        Some(Self {
            keys,
            digest: Digest::of(document),
        })
    }

    /// Whether both were read from the same document.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// How many keys it has.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key with this `kid` for this algorithm. Without a `kid` there must be just one to choose
    /// (OpenID Connect Core 1.0, section 10.1).
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Arc<DecodingKey>> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.fits(algorithm) && id.is_none_or(|id| key.id() == Some(id)));
        let found = fitting.next()?;
        (id.is_some() || fitting.next().is_none()).then(|| found.verifying())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::KeySet;
    use crate::Algorithm;

    /// The P-256 key of RFC 7517, appendix A.1, with more said about it.
    fn p256(more: &Value) -> Value {
        let mut key = json!({
            "kty": "EC", "crv": "P-256", "kid": "1",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        });
        let key_object = key.as_object_mut().unwrap();
        for (name, value) in more.as_object().unwrap() {
            key_object.insert(name.clone(), value.clone());
        }
        key
    }

    #[track_caller]
    fn check(keys: &[Value], id: Option<&str>, algorithm: Algorithm, expect: bool) {
        let set = KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        assert_eq!(set.find(id, algorithm).is_some(), expect);
    }

    #[test]
    fn a_key_is_found_by_its_kid() {
        check(&[p256(&json!({}))], Some("1"), Algorithm::ES256, true);
        check(&[p256(&json!({}))], Some("2"), Algorithm::ES256, false);
    }
    #[test]
    fn a_key_fits_its_curve_only() {
        check(&[p256(&json!({}))], Some("1"), Algorithm::ES384, false);
        check(&[p256(&json!({}))], Some("1"), Algorithm::EdDSA, false);
        check(&[p256(&json!({}))], Some("1"), Algorithm::RS256, false);
    }
    #[test]
    fn a_key_of_another_alg_is_not_found() {
        check(
            &[p256(&json!({"alg": "ES256"}))],
            Some("1"),
            Algorithm::ES256,
            true,
        );
        check(
            &[p256(&json!({"alg": "ES384"}))],
            Some("1"),
            Algorithm::ES256,
            false,
        );
        check(
            &[p256(&json!({"alg": "ECDH-ES"}))],
            Some("1"),
            Algorithm::ES256,
            false,
        );
    }
    #[test]
    fn an_rsa_key_for_rs256_does_not_verify_ps256() {
        let rsa = json!({"kty": "RSA", "kid": "1", "alg": "RS256", "n": "AQAB", "e": "AQAB"});
        check(
            std::slice::from_ref(&rsa),
            Some("1"),
            Algorithm::RS256,
            true,
        );
        check(&[rsa], Some("1"), Algorithm::PS256, false);
    }
    #[test]
    fn a_key_for_encryption_is_left_out() {
        check(
            &[p256(&json!({"use": "sig"}))],
            Some("1"),
            Algorithm::ES256,
            true,
        );
        check(
            &[p256(&json!({"use": "enc"}))],
            Some("1"),
            Algorithm::ES256,
            false,
        );
        check(
            &[p256(&json!({"key_ops": ["sign"]}))],
            Some("1"),
            Algorithm::ES256,
            false,
        );
        check(
            &[p256(&json!({"key_ops": ["verify"]}))],
            Some("1"),
            Algorithm::ES256,
            true,
        );
    }
    #[test]
    fn a_symmetric_key_is_left_out() {
        let key = json!({"kty": "oct", "kid": "1", "k": "c2VjcmV0"});
        for algorithm in Algorithm::ALL {
            check(std::slice::from_ref(&key), Some("1"), algorithm, false);
        }
    }
    #[test]
    fn a_malformed_key_spoils_no_other() {
        check(
            &[json!({"kty": "EC"}), json!(1), p256(&json!({}))],
            Some("1"),
            Algorithm::ES256,
            true,
        );
    }
    #[test]
    fn without_a_kid_there_must_be_one_key() {
        check(&[p256(&json!({}))], None, Algorithm::ES256, true);
        check(
            &[p256(&json!({})), p256(&json!({"kid": "2"}))],
            None,
            Algorithm::ES256,
            false,
        );
    }
    #[test]
    fn a_key_without_kid_is_not_found_by_one() {
        check(
            &[p256(&json!({"kid": null}))],
            Some("1"),
            Algorithm::ES256,
            false,
        );
    }
    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]"#] {
            assert!(KeySet::read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
