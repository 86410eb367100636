//! What keys look like: the names they stand under, and the formats that give them away.

mod fingerprints;
mod formats;
mod known;

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

pub use fingerprints::Fingerprints;
pub(crate) use formats::{find, find_all, may_hold};

/// The kind of a key that is known by its place alone.
pub(crate) const UNKNOWN: &str = "unknown";

/// Instead of a key.
pub(crate) const MASK: &str = "***";

/// A text as it may be told: `***` for each key of a known format.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut told = String::new();
    let mut rest = 0;
    for found in find_all(text.as_bytes()) {
        // Keys are ASCII but for what is in a PEM, which ends with its text or with a dash.
        told.push_str(text.get(rest..found.start).unwrap_or_default());
        told.push_str(MASK);
        rest = found.end();
    }
    if rest == 0 {
        return Cow::Borrowed(text);
    }
    told.push_str(text.get(rest..).unwrap_or_default());
    Cow::Owned(told)
}

/// Whether a header carries a proof that is made for whoever is asked first, which is the gateway: it is never
/// anybody's key to a tool.
pub(crate) fn is_proof(name: &str) -> bool {
    matches!(
        name,
        "dpop"
            | "txn-token"
            | "workload-identity-token"
            | "workload-proof-token"
            | "signature"
            | "signature-input"
            | "proxy-authorization"
    )
}

/// Whether a header of this name (lower case, `-` for `_`) carries a credential, or a proof made with one.
pub(crate) fn is_header(name: &str) -> bool {
    match name {
        "x-csrf-token" | "x-xsrf-token" | "csrf-token" | "x-continuation-token" => false,
        "cookie"
        | "cookie2"
        | "dpop"
        | "signature"
        | "signature-input"
        | "token"
        | "api-key"
        | "apikey"
        | "x-apikey"
        | "password"
        | "x-access-key"
        | "x-secret-key"
        | "x-auth-key"
        | "x-functions-key"
        | "x-master-key"
        | "ocp-apim-subscription-key"
        | "x-goog-iap-jwt-assertion"
        | "x-jwt"
        | "jwt" => true,
        other => ends_as_key(other) || tells_key(other),
    }
}

/// Whether the last words of a name say that it carries a key.
fn ends_as_key(name: &str) -> bool {
    match name.rsplit_once('-') {
        Some((_, "token" | "apikey" | "secret" | "password" | "jwt" | "assertion" | "auth")) => {
            true
        }
        Some((start, "key")) => start.ends_with("-api") || start.ends_with("-subscription"),
        _ => false,
    }
}

/// Whether a name speaks of keys anywhere.
fn tells_key(name: &str) -> bool {
    static WORDS: LazyLock<[Finder<'static>; 2]> =
        LazyLock::new(|| ["authorization", "credential"].map(Finder::new));
    WORDS
        .iter()
        .any(|word| word.find(name.as_bytes()).is_some())
}

/// What follows an authentication scheme, if that is all there is (RFC 9110 section 11.4).
pub(crate) fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(memchr(b' ', value)?)?;
    // From `dpop` to `digest`.
    if !(4..=6).contains(&scheme.len()) {
        return None;
    }
    let token = rest.trim_ascii();
    let is_scheme = [
        &b"bearer"[..],
        b"basic",
        b"digest",
        b"token",
        b"dpop",
        b"apikey",
    ]
    .iter()
    .any(|known| scheme.eq_ignore_ascii_case(known));
    // As short as `user:pw` in Base64; a word of a sentence has another after it.
    let is_token = token.len() >= 8 && !token.contains(&b' ');
    (is_scheme && is_token).then_some(token)
}

/// Whether a query key of this name carries a credential. Case, `-`, `_` and brackets don't count.
pub(crate) fn is_query_key(key: &str) -> bool {
    let name: String = key
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric())
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    // AWS and Google sign URLs with keys of these names (SigV4 query, V4 signed URLs).
    name.starts_with("xamz")
        || name.starts_with("xgoog")
        || is_form_key(&name)
        || matches!(
            name.as_str(),
            "key"
                | "token"
                | "auth"
                | "authorization"
                | "bearer"
                | "jwt"
                | "sig"
                | "signature"
                | "secret"
                | "password"
                | "passwd"
                | "awsaccesskeyid"
                | "hapikey"
                | "oauthtoken"
                | "oauthsignature"
                | "sessiontoken"
        )
}

/// Whether a form field of this name carries a credential: fewer than in a query, where a key is
/// only taken off; a form that holds one is refused.
pub(crate) fn is_form_field(key: &str) -> bool {
    let name: String = key
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric())
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    is_form_key(&name)
}

fn is_form_key(name: &str) -> bool {
    [
        "apikey",
        "accesstoken",
        "authtoken",
        "privatetoken",
        "clientsecret",
        "refreshtoken",
        "idtoken",
        "subscriptionkey",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests;
