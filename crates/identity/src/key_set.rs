//! The public keys of an issuer that can verify its tokens.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::Algorithm;
use crate::authorities::Authorities;
use crate::digest::Digest;
use crate::key::Key;

/// The usable keys of one JWK Set (RFC 7517 section 5), or of a SPIFFE bundle.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// Of a bundle: who may sign X.509-SVIDs.
    authorities: Authorities,
    /// Of the document it was read from.
    digest: Digest,
    /// After how long its publisher wants to be asked again.
    refresh_hint: Option<Duration>,
    /// Which edition of a bundle it is, if its publisher counts them.
    sequence: Option<u64>,
}

/// Which keys of a bundle are for JWT-SVIDs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bundle {
    /// All of a trust domain, so just those whose `use` says so (SPIFFE Trust Domain and Bundle, 4.2.2).
    Whole,
    /// What the Workload API gives for JWT-SVIDs alone, so those without a `use` too.
    OfJwts,
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
            authorities: Authorities::default(),
            digest: Digest::of(document),
            refresh_hint: None,
            sequence: None,
        })
    }

    /// The X.509 authorities of a trust domain, DER; what can't sign X.509-SVIDs is left out.
    pub(crate) fn of_authorities(certificates: Vec<Vec<u8>>) -> Self {
        Self {
            keys: Vec::new(),
            digest: Digest::of(&certificates.concat()),
            authorities: Authorities::read(certificates.into_iter()),
            refresh_hint: None,
            sequence: None,
        }
    }

    /// Reads a SPIFFE bundle; keys that can't verify SVIDs are left out, `None` where it is no bundle.
    ///
    /// One without any keys is a bundle: its trust domain has taken all of them back.
    pub(crate) fn read_bundle(document: &[u8], kind: Bundle) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
            #[serde(default)]
            spiffe_refresh_hint: Value,
            #[serde(default)]
            spiffe_sequence: Value,
        }
        let read: Document = serde_json::from_slice(document).ok()?;
        let authorities = match kind {
            Bundle::Whole => Authorities::of_bundle(&read.keys),
            Bundle::OfJwts => Authorities::default(),
        };
        let keys = read.keys.into_iter();
        let keys = keys.filter_map(|key| Key::read_authority(key, kind));
        Some(Self {
            keys: keys.collect(),
            authorities,
            digest: Digest::of(document),
            refresh_hint: read.spiffe_refresh_hint.as_u64().map(Duration::from_secs),
            sequence: read.spiffe_sequence.as_u64(),
        })
    }

    /// After how long its publisher wants to be asked again, if it says so.
    pub(crate) fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// Whether it is an older edition of a bundle than the other, as far as both say.
    pub(crate) fn is_older(&self, other: &Self) -> bool {
        let editions = self.sequence.zip(other.sequence);
        editions.is_some_and(|(this, other)| this < other)
    }

    /// Whether both were read from the same document.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// How many keys and authorities it has.
    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.authorities.len()
    }

    /// Who may sign X.509-SVIDs.
    pub(crate) fn authorities(&self) -> &Authorities {
        &self.authorities
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

    use super::{Bundle, KeySet};
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
            for kind in [Bundle::Whole, Bundle::OfJwts] {
                assert!(
                    KeySet::read_bundle(text.as_bytes(), kind).is_none(),
                    "{text}"
                );
            }
        }
    }

    /// Whether the one key of a bundle verifies JWT-SVIDs: of a whole bundle, of one for JWTs.
    #[track_caller]
    fn authority(more: &Value, expect: [bool; 2]) {
        let document = json!({ "keys": [p256(more)] }).to_string();
        let found = [Bundle::Whole, Bundle::OfJwts].map(|kind| {
            let bundle = KeySet::read_bundle(document.as_bytes(), kind).unwrap();
            bundle.find(None, Algorithm::ES256).is_some()
        });
        assert_eq!(found, expect, "{more}");
    }

    #[test]
    fn b6_a_key_of_a_bundle_says_that_it_is_for_jwt_svids() {
        authority(&json!({"use": "jwt-svid"}), [true, true]);
        authority(&json!({}), [false, true]);
        for other in ["x509-svid", "wit-svid", "sig", "JWT-SVID", ""] {
            authority(&json!({ "use": other }), [false, false]);
        }
        for odd in [json!(1), json!(["jwt-svid"]), json!(null)] {
            authority(&json!({ "use": odd }), [false, false]);
        }
    }
    #[test]
    fn b6_a_key_of_a_bundle_has_a_kid() {
        for kid in [json!(null), json!(""), json!(1)] {
            authority(&json!({"use": "jwt-svid", "kid": kid}), [false, false]);
        }
    }
    #[test]
    fn a_bundle_may_hint_when_it_is_asked_for_again() {
        let hint = |hint: Value| {
            let document = json!({ "keys": [], "spiffe_refresh_hint": hint }).to_string();
            let bundle = KeySet::read_bundle(document.as_bytes(), Bundle::Whole).unwrap();
            bundle.refresh_hint().map(|hint| hint.as_secs())
        };
        assert_eq!(hint(json!(60)), Some(60));
        for odd in [json!(null), json!(-1), json!("60"), json!(1.5)] {
            assert_eq!(hint(odd), None);
        }
    }
    #[test]
    fn a_bundle_without_keys_is_one() {
        let bundle = KeySet::read_bundle(br#"{"keys":[]}"#, Bundle::Whole).unwrap();
        assert_eq!(bundle.len(), 0);
    }
}
