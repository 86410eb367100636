//! Where a secret enters a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use zeroize::Zeroizing;

use crate::{Secret, Uninjectable};

/// Where a secret enters a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Injection {
    /// A header.
    Header {
        /// Its name.
        name: HeaderName,
        /// What comes before the secret, such as `Bearer `.
        prefix: String,
    },
    /// A query key.
    Query {
        /// Its name.
        key: String,
    },
    /// HTTP basic: the secret is the password.
    Basic {
        /// The user.
        user: String,
    },
}

/// All but the unreserved characters of RFC 3986, section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Injection {
    /// Puts the secret in its place. Whatever else is in that place goes.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where a secret enters a request"
    )]
    pub(crate) fn apply(&self, head: &mut Parts, secret: &Secret) -> Result<(), Uninjectable> {
        let secret = secret.expose();
        match self {
            Self::Header { name, prefix } => {
                let value = [prefix.as_bytes(), secret].concat();
                insert(head, name.clone(), value)
            }
            Self::Query { key } => {
                head.uri = with_query(&head.uri, key, secret)?;
                Ok(())
            }
            // RFC 7617, section 2: the first colon ends the user.
            Self::Basic { user } if user.contains(':') => {
                Err(Uninjectable("basic: user has a colon"))
            }
            Self::Basic { user } => {
                let pair = Zeroizing::new([user.as_bytes(), b":", secret].concat());
                let value = format!("Basic {}", STANDARD.encode(&pair));
                insert(head, AUTHORIZATION, value.into_bytes())
            }
        }
    }

    /// Whether the upstream takes the credential for a whole connection, so that it can't be shared.
    pub(crate) fn binds_connection(&self) -> bool {
        match self {
            Self::Header { .. } | Self::Query { .. } | Self::Basic { .. } => false,
        }
    }
}

fn insert(head: &mut Parts, name: HeaderName, value: Vec<u8>) -> Result<(), Uninjectable> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(value))
        .map_err(|_| Uninjectable("a header value"))?;
    value.set_sensitive(true);
    drop(head.headers.insert(name, value));
    Ok(())
}

/// Takes every occurrence of the key out, leaves the other bytes as they are, and appends the key.
fn with_query(uri: &Uri, key: &str, secret: &[u8]) -> Result<Uri, Uninjectable> {
    const MISFIT: Uninjectable = Uninjectable("the query");
    let mut text = String::from(uri.path());
    let kept = uri.query().unwrap_or_default().split('&');
    let mut separator = '?';
    for pair in kept.filter(|pair| !pair.is_empty() && !names(pair, key)) {
        text.push(separator);
        text.push_str(pair);
        separator = '&';
    }
    text.push(separator);
    text.extend(percent_encode(key.as_bytes(), ENCODED));
    text.push('=');
    text.extend(percent_encode(secret, ENCODED));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(text).map_err(|_| MISFIT)?);
    Uri::from_parts(parts).map_err(|_| MISFIT)
}

/// Whether a pair's name is the key, as `application/x-www-form-urlencoded` reads it.
fn names(pair: &str, key: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    let name = name.replace('+', " ");
    percent_decode_str(&name).eq(key.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(
        injection: &Injection,
        head: http::request::Builder,
        secret: &str,
    ) -> Result<Parts, Uninjectable> {
        let (mut head, ()) = head.body(()).unwrap().into_parts();
        let secret = Secret::new(secret.into()).unwrap();
        injection.apply(&mut head, &secret).map(|()| head)
    }

    fn header(name: &'static str, prefix: &str) -> Injection {
        Injection::Header {
            name: HeaderName::from_static(name),
            prefix: prefix.into(),
        }
    }

    #[track_caller]
    fn check_header(injection: &Injection, secret: &str, name: &str, expect: Option<&str>) {
        let head = http::Request::get("https://api.example/x")
            .header(name, "the agent's own")
            .header(name, "and another");
        match (apply(injection, head, secret), expect) {
            (Ok(head), Some(expect)) => {
                let values: Vec<_> = head.headers.get_all(name).iter().collect();
                assert_eq!(values, [expect]);
                assert!(values[0].is_sensitive());
            }
            (Err(_), None) => {}
            (applied, _) => panic!("{applied:?} instead of {expect:?}"),
        }
    }

    #[track_caller]
    fn check_query(uri: &str, secret: &str, expect: &str) {
        let injection = Injection::Query {
            key: "api_key".into(),
        };
        let head = apply(&injection, http::Request::get(uri), secret).unwrap();
        assert_eq!(head.uri, expect);
    }

    #[test]
    fn a_header_replaces_all_there_were() {
        check_header(
            &header("x-api-key", ""),
            "s3cr3t",
            "x-api-key",
            Some("s3cr3t"),
        );
    }
    #[test]
    fn a_prefix_comes_first() {
        check_header(
            &header("authorization", "Bearer "),
            "s3cr3t",
            "authorization",
            Some("Bearer s3cr3t"),
        );
    }
    #[test]
    fn a_control_character_fits_no_header() {
        check_header(
            &header("authorization", "Bearer "),
            "s3\u{1}t",
            "authorization",
            None,
        );
    }
    #[test]
    fn basic_encodes_user_and_secret() {
        let basic = Injection::Basic {
            user: "Aladdin".into(),
        };
        check_header(
            &basic,
            "open sesame",
            "authorization",
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        );
    }
    #[test]
    fn basic_takes_no_user_with_a_colon() {
        let basic = Injection::Basic { user: "a:b".into() };
        check_header(&basic, "c", "authorization", None);
    }
    #[test]
    fn a_query_begins_with_the_key() {
        check_query(
            "https://api.example/x",
            "s3cr3t",
            "https://api.example/x?api_key=s3cr3t",
        );
    }
    #[test]
    fn a_query_keeps_the_bytes_of_the_rest() {
        check_query(
            "https://api.example/x?q=%7e+b&&r",
            "s",
            "https://api.example/x?q=%7e+b&r&api_key=s",
        );
    }
    #[test]
    fn a_query_loses_the_agents_own_key() {
        check_query(
            "https://api.example/?api_key=mine&q=1&api_key",
            "s",
            "https://api.example/?q=1&api_key=s",
        );
    }
    #[test]
    fn a_query_loses_it_in_other_spellings_too() {
        check_query(
            "https://api.example/?api%5Fkey=mine&%61pi_key=me",
            "s",
            "https://api.example/?api_key=s",
        );
    }
    #[test]
    fn a_query_escapes_the_secret() {
        check_query(
            "https://api.example/",
            "a&b=c d+é",
            "https://api.example/?api_key=a%26b%3Dc%20d%2B%C3%A9",
        );
    }
    #[test]
    fn the_secret_is_not_in_debug() {
        let head = apply(&header("x-api-key", ""), http::Request::get("/"), "s3cr3t").unwrap();
        assert!(!format!("{head:?}").contains("s3cr3t"));
    }
}
