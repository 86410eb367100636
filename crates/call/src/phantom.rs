//! Texts that stand for a token that the gateway keeps to itself.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::placeholder::{KeyPlace, Placed, known_scheme};

/// How a phantom begins; 43 characters of base64url follow.
const PREFIX: &str = "remitphantom_";
const LENGTH: usize = 43;

/// Makes a phantom of 256 random bits in base64url.
pub fn phantom(random: &str) -> String {
    [PREFIX, random].concat()
}

/// Makes one that stands for a JWT whose claims its reader needs: it keeps them, and the phantom is its signature.
pub fn phantom_of_claims(random: &str, jwt: &str) -> String {
    match jwt.rsplit_once('.') {
        Some((claims, _)) => format!("{claims}.{PREFIX}{random}"),
        None => phantom(random),
    }
}

/// Whether a text is a phantom, by its looks.
pub(crate) fn is_phantom(text: &str) -> bool {
    let (claims, last) = text
        .rsplit_once('.')
        .map_or((None, text), |(claims, last)| (Some(claims), last));
    let random = last.strip_prefix(PREFIX);
    random.is_some_and(|random| random.len() == LENGTH && is_base64(random))
        && claims.is_none_or(is_claims)
}

/// Whether these are the first two parts of a JWT, and nothing that an agent put there in their stead.
fn is_claims(text: &str) -> bool {
    let is_object = |part: &str| part.starts_with("eyJ") && is_base64(part);
    let parts = text.split_once('.');
    parts.is_some_and(|(header, claims)| is_object(header) && is_object(claims))
}

fn is_base64(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Takes the phantom off `Authorization`, if one is all that stands there. More than one are keys like others.
pub(crate) fn take(headers: &mut HeaderMap) -> Option<Placed> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let phantom = values.next().and_then(in_header)?;
    if values.next().is_some() {
        return None;
    }
    headers.remove(AUTHORIZATION);
    Some(phantom)
}

fn in_header(value: &HeaderValue) -> Option<Placed> {
    let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
    let prefix = known_scheme(scheme)?;
    let text = text.trim();
    is_phantom(text).then(|| Placed {
        place: KeyPlace::Header {
            name: AUTHORIZATION,
            prefix: prefix.to_owned(),
        },
        text: text.to_owned(),
    })
}

/// The phantoms in the arguments of a token endpoint: in fields that are there for tokens.
pub(crate) fn in_arguments(arguments: &Value, is_form: bool) -> Vec<Placed> {
    let fields = arguments.as_object().into_iter().flatten();
    fields
        .filter_map(|(key, value)| {
            let text = value.as_str().filter(|text| is_phantom(text))?;
            let place = match is_form {
                true => KeyPlace::Form { key: key.clone() },
                // No field of these needs an escape.
                false => KeyPlace::Json {
                    pointer: format!("/{key}").parse().ok()?,
                },
            };
            holds_token(key).then(|| Placed {
                place,
                text: text.to_owned(),
            })
        })
        .collect()
}

/// Whether a field of a token endpoint holds a token: RFC 6749, RFC 7009, RFC 7662, RFC 8693, RFC 7523, OpenID Connect.
fn holds_token(key: &str) -> bool {
    matches!(
        key,
        "token"
            | "access_token"
            | "refresh_token"
            | "id_token"
            | "subject_token"
            | "actor_token"
            | "id_token_hint"
            | "assertion"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made() -> String {
        phantom(&"x".repeat(LENGTH))
    }

    #[test]
    fn a_phantom_is_known_by_its_looks() {
        assert!(is_phantom(&made()));
        let jwt = phantom_of_claims(&"x".repeat(LENGTH), "eyJh.eyJi.signature");
        assert!(jwt.starts_with("eyJh.eyJi.remitphantom_") && is_phantom(&jwt));
        for text in ["", PREFIX, "remitphantom_short", "Bearer x"] {
            assert!(!is_phantom(text), "{text}");
        }
        assert!(!is_phantom(&made().replace('x', "/")));
        assert!(!is_phantom(made().trim_start_matches('r')));
        for before in [
            "ghp_x.",
            "eyJh.ghp_x.",
            "ghp_x.eyJh.",
            "a.eyJh.eyJi.",
            "eyJh.eyJi/.",
        ] {
            assert!(!is_phantom(&[before, &made()].concat()), "{before}");
        }
    }

    #[track_caller]
    fn check(values: &[&str], expect: Option<&str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let taken = take(&mut headers).map(|phantom| match phantom.place {
            KeyPlace::Header { prefix, .. } => prefix,
            other => panic!("{other:?}"),
        });
        assert_eq!(taken.as_deref(), expect);
        assert_eq!(headers.is_empty(), expect.is_some());
    }

    #[test]
    fn it_is_taken_off_where_it_stands_alone() {
        let phantom = made();
        check(&[&format!("Bearer {phantom}")], Some("Bearer "));
        check(&[&format!("token {phantom}")], Some("token "));
        check(&[&phantom], None);
        check(&[&format!("Basic {phantom}")], None);
        check(&[&format!("Bearer x{phantom}")], None);
        check(&[&format!("Bearer {phantom}"), "Bearer x"], None);
    }

    #[test]
    fn of_arguments_those_count_that_hold_tokens() {
        let phantom = made();
        let arguments = json!({
            "refresh_token": phantom, "comment": phantom, "token": "x", "assertion": [phantom],
        });
        let found = in_arguments(&arguments, true);
        let place = KeyPlace::Form {
            key: "refresh_token".to_owned(),
        };
        let text = phantom;
        assert_eq!(found, [Placed { place, text }]);
    }
}
