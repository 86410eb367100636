//! The places of a request head where a proof may stand.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

/// One place where a proof may stand: the HTTP ones, and the key headers of unmodified SDKs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Slot {
    Authorization,
    ProxyAuthorization,
    XApiKey,
    ApiKey,
    XGoogApiKey,
}

/// How a token was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    /// By itself, under whatever name.
    Bearer,
    /// Together with a proof that its sender holds a key (RFC 9449 section 7.1).
    DPoP,
}

static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
static API_KEY: HeaderName = HeaderName::from_static("api-key");
static X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Every slot that is filled, with each of its values.
pub(crate) fn filled(headers: &HeaderMap) -> impl Iterator<Item = (Slot, &HeaderValue)> {
    let slots = Slot::ALL.into_iter();
    slots.flat_map(|slot| {
        headers
            .get_all(slot.name())
            .into_iter()
            .map(move |value| (slot, value))
    })
}

impl Slot {
    const ALL: [Self; 5] = [
        Self::Authorization,
        Self::ProxyAuthorization,
        Self::XApiKey,
        Self::ApiKey,
        Self::XGoogApiKey,
    ];

    /// The slot of this name, in lower case.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|slot| slot.name().as_str() == name)
    }

    pub(crate) fn name(self) -> &'static HeaderName {
        match self {
            Self::Authorization => &AUTHORIZATION,
            Self::ProxyAuthorization => &PROXY_AUTHORIZATION,
            Self::XApiKey => &X_API_KEY,
            Self::ApiKey => &API_KEY,
            Self::XGoogApiKey => &X_GOOG_API_KEY,
        }
    }

    /// The text in `value` that may be a token, and how it was sent.
    pub(crate) fn token(self, value: &HeaderValue) -> Option<(Scheme, Cow<'_, str>)> {
        // Not `to_str`, which looks at each byte by itself: a token is checked for its alphabet later.
        let text = std::str::from_utf8(value.as_bytes())
            .ok()?
            .trim_matches(' ');
        match self {
            Self::Authorization | Self::ProxyAuthorization => credentials(text),
            Self::XApiKey | Self::ApiKey | Self::XGoogApiKey => {
                Some((Scheme::Bearer, Cow::Borrowed(text)))
            }
        }
    }
}

/// The token of `Bearer`, `token` or `DPoP`, the password of `Basic` (RFC 9110 section 11.4, RFC 7617 section 2).
fn credentials(text: &str) -> Option<(Scheme, Cow<'_, str>)> {
    let (scheme, rest) = text.split_once(' ')?;
    let rest = rest.trim_start_matches(' ');
    // GitHub's clients say `token`.
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
        return Some((Scheme::Bearer, Cow::Borrowed(rest)));
    }
    if scheme.eq_ignore_ascii_case("dpop") {
        return Some((Scheme::DPoP, Cow::Borrowed(rest)));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    Some((Scheme::Bearer, Cow::Owned(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{Scheme, Slot, filled};

    #[track_caller]
    fn check(slot: Slot, value: &'static str, expect: Option<&str>) {
        let value = HeaderValue::from_static(value);
        let token = slot.token(&value);
        assert_eq!(token.as_ref().map(|(_, token)| &**token), expect);
        let expected = if value.as_bytes().starts_with(b"DPoP ") {
            Scheme::DPoP
        } else {
            Scheme::Bearer
        };
        assert!(token.is_none_or(|(scheme, _)| scheme == expected));
    }

    #[test]
    fn bearer_holds_a_token() {
        check(Slot::Authorization, "Bearer a.b.c", Some("a.b.c"));
    }
    #[test]
    fn the_scheme_is_spelled_in_any_case() {
        check(Slot::Authorization, "bEARER a.b.c", Some("a.b.c"));
        check(
            Slot::ProxyAuthorization,
            "BASIC eDphLmIuYw==",
            Some("a.b.c"),
        );
    }
    #[test]
    fn github_calls_it_a_token() {
        check(Slot::Authorization, "token a.b.c", Some("a.b.c"));
    }
    #[test]
    fn more_spaces_are_one() {
        check(Slot::Authorization, "Bearer   a.b.c", Some("a.b.c"));
    }
    #[test]
    fn dpop_holds_a_token_that_is_bound() {
        check(Slot::Authorization, "DPoP a.b.c", Some("a.b.c"));
        check(Slot::ProxyAuthorization, "DPoP a.b.c", Some("a.b.c"));
    }
    #[test]
    fn basic_holds_a_token_as_password() {
        check(Slot::Authorization, "Basic eDphLmIuYw==", Some("a.b.c"));
    }
    #[test]
    fn a_password_may_hold_colons() {
        check(Slot::Authorization, "Basic eDphOmI=", Some("a:b"));
    }
    #[test]
    fn basic_without_a_colon_holds_nothing() {
        check(Slot::Authorization, "Basic YS5iLmM=", None);
    }
    #[test]
    fn basic_that_is_no_base64_holds_nothing() {
        check(Slot::Authorization, "Basic ***", None);
    }
    #[test]
    fn another_scheme_holds_nothing() {
        check(Slot::Authorization, "Digest a.b.c", None);
    }
    #[test]
    fn a_token_without_a_scheme_holds_nothing() {
        check(Slot::Authorization, "a.b.c", None);
    }
    #[test]
    fn a_key_slot_holds_the_token_itself() {
        check(Slot::XApiKey, "a.b.c", Some("a.b.c"));
        check(Slot::ApiKey, "a.b.c", Some("a.b.c"));
        check(Slot::XGoogApiKey, "a.b.c", Some("a.b.c"));
    }
    #[test]
    fn bytes_that_are_no_text_hold_nothing() {
        let value = HeaderValue::from_bytes(b"Bearer \xff").unwrap();
        assert_eq!(Slot::Authorization.token(&value), None);
    }
    #[test]
    fn every_value_of_a_header_is_seen() {
        let mut headers = HeaderMap::new();
        headers.append("x-api-key", HeaderValue::from_static("a"));
        headers.append("x-api-key", HeaderValue::from_static("b"));
        headers.append("api-key", HeaderValue::from_static("c"));
        assert_eq!(filled(&headers).count(), 3);
    }
}
