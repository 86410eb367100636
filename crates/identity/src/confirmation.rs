//! What a token is bound to, so that it is worth nothing without it.

use serde_json::{Map, Value};

use crate::Unauthenticated;
use crate::digest::Digest;

/// One thing that a token is bound to: a member of its `cnf` (RFC 7800 section 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Confirmation {
    /// A key, by its RFC 7638 thumbprint; shown by a DPoP proof (RFC 9449 section 6.1).
    Jkt(Digest),
    /// A certificate of mutual TLS, by its SHA-256 (RFC 8705 section 3.1).
    X5tS256(Digest),
}

impl Confirmation {
    /// Everything that these claims bind their token to.
    ///
    /// What can't be checked refuses the token: to pass over it would make a bearer of what its issuer bound.
    pub(crate) fn all(claims: &Map<String, Value>) -> Result<Vec<Self>, Unauthenticated> {
        let Some(cnf) = claims.get("cnf") else {
            return Ok(Vec::new());
        };
        let members = cnf.as_object();
        Self::read(members.ok_or(Unauthenticated::Invalid("its `cnf` is malformed"))?)
    }

    /// Everything that the members of a `cnf` name.
    pub(crate) fn read(members: &Map<String, Value>) -> Result<Vec<Self>, Unauthenticated> {
        if members.is_empty() {
            return Err(Unauthenticated::Invalid("its `cnf` is malformed"));
        }
        let member = |(name, value): (&String, &Value)| {
            let digest = value.as_str();
            let confirmation = match name.as_str() {
                "jkt" => digest.and_then(Digest::read).map(Self::Jkt),
                "x5t#S256" => digest.and_then(Digest::read).map(Self::X5tS256),
                _ => return Err(Unauthenticated::UnknownConfirmation),
            };
            confirmation.ok_or(Unauthenticated::Invalid("its `cnf` is malformed"))
        };
        members.iter().map(member).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Confirmation;

    const SHA256: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

    /// `expect` is how much is confirmed, or a part of why the token is refused.
    #[track_caller]
    fn check(claims: &Value, expect: Result<usize, &str>) {
        let all = Confirmation::all(claims.as_object().unwrap());
        match (all, expect) {
            (Ok(all), Ok(count)) => assert_eq!(all.len(), count),
            (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
            (all, expect) => panic!("{all:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn without_cnf_nothing_is_confirmed() {
        check(&json!({}), Ok(0));
    }
    #[test]
    fn keys_and_certificates_are_confirmed() {
        check(&json!({"cnf": {"jkt": SHA256}}), Ok(1));
        check(&json!({"cnf": {"x5t#S256": SHA256}}), Ok(1));
        check(&json!({"cnf": {"jkt": SHA256, "x5t#S256": SHA256}}), Ok(2));
    }
    #[test]
    fn what_is_not_known_refuses() {
        for name in ["jwk", "jwe", "kid", "jku", "JKT", "x5t", "x5t#s256", ""] {
            check(&json!({"cnf": {name: SHA256}}), Err("can't be checked"));
            let beside = json!({"cnf": {"jkt": SHA256, name: SHA256}});
            check(&beside, Err("can't be checked"));
        }
    }
    #[test]
    fn what_is_malformed_refuses() {
        for cnf in [json!(null), json!({}), json!([]), json!("x"), json!(true)] {
            check(&json!({"cnf": cnf}), Err("malformed"));
        }
        for value in [
            json!(null),
            json!(1),
            json!(""),
            json!("AAAA"),
            json!(format!("{SHA256}=")),
            json!([SHA256]),
        ] {
            check(&json!({"cnf": {"jkt": value}}), Err("malformed"));
            check(&json!({"cnf": {"x5t#S256": value}}), Err("malformed"));
        }
    }
}
