//! Whether the person who consented is the one who was asked: what an ID token says (OpenID Connect Core 1.0).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::lease;

/// What an ID token has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: Option<&'a str>,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// The claim that names the person.
    pub(super) claim: &'a str,
    pub(super) owner: &'a str,
}

/// Checks an ID token that the token endpoint gave over TLS, which stands for its signature (section 3.1.3.7, rule 6).
pub(super) fn check(id_token: &str, expected: &Expected<'_>) -> Result<(), &'static str> {
    let claims = claims(id_token).ok_or("its ID token can't be read")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if expected.issuer.is_none() || text("iss") != expected.issuer {
        return Err("its ID token is of another issuer");
    }
    let is_for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == expected.client_id,
        Some(Value::Array(several)) => {
            let is_among = several.iter().any(|one| one == expected.client_id);
            is_among && (several.len() == 1 || text("azp") == Some(expected.client_id))
        }
        _ => false,
    };
    if !is_for_us {
        return Err("its ID token is for another client");
    }
    if text("nonce") != Some(expected.nonce) {
        return Err("its ID token answers another question");
    }
    let expires_at = claims.get("exp").and_then(Value::as_i64);
    if expires_at.is_none_or(|expires_at| expires_at <= lease::now()) {
        return Err("its ID token has expired");
    }
    // Anybody can claim an address that nobody verified; a server that does not say so did not.
    if expected.claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
        return Err("its email address is not verified");
    }
    if text(expected.claim) != Some(expected.owner) {
        return Err("its ID token names somebody else");
    }
    Ok(())
}

fn claims(id_token: &str) -> Option<Map<String, Value>> {
    let mut parts = id_token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims).ok()?);
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_with(changed: &str, value: Value, expect: Result<(), &str>) {
        let mut claims = json!({
            "iss": "https://idp.example", "aud": "remit", "nonce": "n", "exp": lease::now() + 60,
            "email": "alice@example.org", "email_verified": true,
        });
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(changed);
        } else {
            claims[changed] = value;
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let id_token = format!(
            "{}.{}.AAAA",
            encode(&json!({ "alg": "RS256" })),
            encode(&claims)
        );
        let expected = Expected {
            issuer: Some("https://idp.example"),
            client_id: "remit",
            nonce: "n",
            claim: "email",
            owner: "alice@example.org",
        };
        let checked = check(&id_token, &expected);
        match expect {
            Ok(()) => assert_eq!(checked, Ok(())),
            Err(cause) => assert!(checked.unwrap_err().contains(cause)),
        }
    }

    #[test]
    fn the_person_who_was_asked_consents() {
        check_with("sub", json!("1"), Ok(()));
        check_with("aud", json!(["remit"]), Ok(()));
    }
    #[test]
    fn somebody_else_does_not() {
        check_with("email", json!("mallory@example.org"), Err("somebody else"));
        check_with("email", Value::Null, Err("somebody else"));
        for unverified in [json!(false), Value::Null, json!("true")] {
            check_with("email_verified", unverified, Err("not verified"));
        }
    }
    #[test]
    fn a_token_of_elsewhere_is_none() {
        check_with("iss", json!("https://evil.example"), Err("another issuer"));
        check_with("aud", json!("other"), Err("another client"));
        check_with("aud", json!(["remit", "other"]), Err("another client"));
        check_with("nonce", json!("m"), Err("another question"));
        check_with("nonce", Value::Null, Err("another question"));
        check_with("exp", json!(1), Err("expired"));
    }
    #[test]
    fn what_is_no_token_is_none() {
        let expected = Expected {
            issuer: Some("i"),
            client_id: "c",
            nonce: "n",
            claim: "sub",
            owner: "o",
        };
        for text in ["", "a.b", "a.b.c", "a.b.c.d", "....", "{}"] {
            check(text, &expected).unwrap_err();
        }
    }
}
