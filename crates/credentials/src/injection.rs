//! Where a secret enters a request.

mod body;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use call::{Body, Call, KeyPlace, Placeholder, Spot};
use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use tasks::ArgumentPointer;
use zeroize::Zeroizing;

use crate::{Material, SigV4, Uninjectable};

/// Where a secret enters a request, and which it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Injection {
    /// Where it goes.
    pub place: Place,
    /// Which of several secrets goes there; none where there is only one.
    pub field: Option<String>,
}

/// A place in a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
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
        user: User,
    },
    /// The connection: the certificate is shown on it, and no other lease uses it.
    Certificate,
    /// A cookie. Those of the agent are off.
    Cookie {
        /// Its name.
        name: String,
    },
    /// A place in a JSON body.
    Json {
        /// The way to it.
        pointer: ArgumentPointer,
    },
    /// A field of a form in the body.
    Form {
        /// Its name.
        key: String,
    },
    /// Where the agent wrote a placeholder.
    Placeholder(Placeholder),
    /// A signature of all the rest, by keys of AWS.
    SigV4(SigV4),
}

/// The user of HTTP basic authentication.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum User {
    /// This one.
    Named(String),
    /// The one in a field.
    Field(String),
}

impl From<Place> for Injection {
    /// For the only secret there is.
    fn from(place: Place) -> Self {
        Self { place, field: None }
    }
}

/// All but the unreserved characters of RFC 3986, section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl From<&KeyPlace> for Place {
    fn from(place: &KeyPlace) -> Self {
        match place.clone() {
            KeyPlace::Header { name, prefix } => Self::Header { name, prefix },
            KeyPlace::Query { key } => Self::Query { key },
            KeyPlace::Json { pointer } => Self::Json { pointer },
            KeyPlace::Form { key } => Self::Form { key },
            KeyPlace::Basic { user } => Self::Basic {
                user: User::Named(user),
            },
        }
    }
}

/// What a call lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lack {
    /// A body of this kind.
    Body(&'static str),
    /// This placeholder, which stands there so often.
    Placeholder(String, usize),
}

impl Injection {
    /// Where it goes in this call: of a placeholder, where that stands.
    pub(crate) fn placed(&self, call: &Call) -> Option<Self> {
        let Place::Placeholder(placeholder) = &self.place else {
            return None;
        };
        let mut placed = call.placed().iter();
        let found = placed.find(|placed| placed.text == placeholder.text)?;
        Some(Self {
            place: Place::from(&found.place),
            field: self.field.clone(),
        })
    }

    /// Whether two go to one place, of which only one would arrive.
    pub fn meets(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Certificate, Place::Certificate) => true,
            (Place::Query { key }, Place::Query { key: other })
            | (Place::Form { key }, Place::Form { key: other })
            | (Place::Cookie { name: key }, Place::Cookie { name: other }) => key == other,
            (Place::Json { pointer }, Place::Json { pointer: other }) => pointer.meets(other),
            (Place::Placeholder(one), Place::Placeholder(other)) => one.text == other.text,
            (one, other) => one
                .header()
                .is_some_and(|name| other.header() == Some(name)),
        }
    }

    /// Puts the secret in its place. Whatever else is in that place goes.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where a secret enters a request"
    )]
    pub(crate) fn apply(
        &self,
        (head, body): (&mut Parts, &mut Body),
        material: &Material,
    ) -> Result<(), Uninjectable> {
        if self.place == Place::Certificate {
            // Nobody would ask for it there.
            if head.uri.scheme() != Some(&Scheme::HTTPS) {
                return Err(Uninjectable("a connection: it is not https"));
            }
            return material.certificate().map(|_| ());
        }
        let secret = || Ok(material.secret(self.field.as_deref())?.expose());
        match &self.place {
            // It is not part of a request.
            Place::Certificate => Ok(()),
            Place::Header { name, prefix } => {
                let value = [prefix.as_bytes(), secret()?].concat();
                insert(head, name.clone(), value)
            }
            Place::Query { key } => {
                head.uri = with_query(&head.uri, key, secret()?)?;
                Ok(())
            }
            Place::Basic { user } => {
                let value = format!("Basic {}", user.with(material, secret()?)?.as_str());
                insert(head, AUTHORIZATION, value.into_bytes())
            }
            Place::Cookie { name } => put_cookie(head, name, secret()?),
            Place::Json { pointer } => body::put_json(head, body, pointer, secret()?),
            Place::Form { key } => body::put_form(head, body, key, secret()?),
            Place::SigV4(sigv4) => sigv4.apply((head, body), material),
            Place::Placeholder(_) => Err(Uninjectable("a placeholder that stands nowhere")),
        }
    }

    /// Whether it is an argument of a call.
    pub fn is_argument(&self) -> bool {
        match &self.place {
            Place::Json { .. } | Place::Form { .. } => true,
            Place::Placeholder(placeholder) => {
                let mut spots = placeholder.spots.iter();
                spots.all(|spot| matches!(spot, Spot::Json(_) | Spot::Form(_)))
            }
            Place::Header { .. }
            | Place::Query { .. }
            | Place::Basic { .. }
            | Place::Cookie { .. }
            | Place::SigV4(_)
            | Place::Certificate => false,
        }
    }

    /// Whether it is where the agent says.
    pub(crate) fn is_placeholder(&self) -> bool {
        matches!(self.place, Place::Placeholder(_))
    }

    /// What a call lacks that the secret would go into.
    pub(crate) fn lacks(&self, call: &Call) -> Option<Lack> {
        let (headers, body) = (call.headers(), call.body());
        match &self.place {
            Place::Json { .. } => {
                (!body::has_json(headers, body)).then_some(Lack::Body("a JSON body"))
            }
            Place::Form { .. } => {
                (!body::has_form(headers, body)).then_some(Lack::Body("a form as its body"))
            }
            Place::Placeholder(Placeholder { text, .. }) => {
                let placed = call.placed().iter();
                let count = placed.filter(|placed| placed.text == *text).count();
                (count != 1).then(|| Lack::Placeholder(text.clone(), count))
            }
            Place::Header { .. }
            | Place::Query { .. }
            | Place::Basic { .. }
            | Place::Cookie { .. }
            | Place::SigV4(_)
            | Place::Certificate => None,
        }
    }

    /// A header of a call that must not be signed: policy was asked about its path alone.
    pub(crate) fn unwanted(&self, call: &Call) -> Option<String> {
        match &self.place {
            Place::SigV4(sigv4) => sigv4.unwanted(call),
            Place::Header { .. }
            | Place::Query { .. }
            | Place::Basic { .. }
            | Place::Cookie { .. }
            | Place::Json { .. }
            | Place::Form { .. }
            | Place::Placeholder(_)
            | Place::Certificate => None,
        }
    }

    /// What stands in a request besides the secret itself, and gives it away too.
    #[expect(
        clippy::disallowed_methods,
        reason = "what must not come back has to be known"
    )]
    pub(crate) fn written(&self, material: &Material) -> Option<Zeroizing<Vec<u8>>> {
        let secret = material.secret(self.field.as_deref()).ok()?.expose();
        let text = match &self.place {
            Place::Certificate => return None,
            Place::Header { prefix, .. } => [prefix.as_bytes(), secret].concat(),
            Place::Query { key } => [key.as_bytes(), b"=", secret].concat(),
            Place::Basic { user } => {
                let pair = user.with(material, secret).ok()?;
                return Some(Zeroizing::new(pair.as_bytes().to_vec()));
            }
            Place::Cookie { name: key } | Place::Form { key } => {
                [key.as_bytes(), b"=", secret].concat()
            }
            Place::Json { pointer } => {
                let key = pointer.tokens().last()?.as_bytes();
                [b"\"", key, b"\":\"", secret].concat()
            }
            Place::Placeholder(_) => return None,
            // Each request has another signature; the token stands there as it is.
            Place::SigV4(_) => return None,
        };
        Some(Zeroizing::new(text))
    }

    /// Whether the secret stands there in another form.
    pub(crate) fn encodes(&self) -> bool {
        match self.place {
            Place::Basic { .. } => true,
            Place::Header { .. }
            | Place::Query { .. }
            | Place::Cookie { .. }
            | Place::Json { .. }
            | Place::Form { .. }
            | Place::Placeholder(_)
            | Place::SigV4(_)
            | Place::Certificate => false,
        }
    }

    /// Whether it is made of all the rest of a request, and so comes last.
    pub(crate) fn comes_last(&self) -> bool {
        match self.place {
            Place::SigV4(_) => true,
            Place::Header { .. }
            | Place::Query { .. }
            | Place::Basic { .. }
            | Place::Cookie { .. }
            | Place::Json { .. }
            | Place::Form { .. }
            | Place::Placeholder(_)
            | Place::Certificate => false,
        }
    }

    /// Whether the upstream takes the credential for a whole connection, so that it can't be shared.
    pub(crate) fn binds_connection(&self) -> bool {
        match self.place {
            Place::Certificate => true,
            Place::Header { .. }
            | Place::Query { .. }
            | Place::Basic { .. }
            | Place::Cookie { .. }
            | Place::Json { .. }
            | Place::Form { .. }
            | Place::SigV4(_)
            | Place::Placeholder(_) => false,
        }
    }
}

impl Place {
    /// The header that it fills.
    fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header { name, .. } => Some(name),
            Self::Basic { .. } => Some(&AUTHORIZATION),
            Self::SigV4(sigv4) => sigv4.header(),
            Self::Query { .. }
            | Self::Cookie { .. }
            | Self::Json { .. }
            | Self::Form { .. }
            | Self::Placeholder(_)
            | Self::Certificate => None,
        }
    }
}

impl User {
    /// User and secret as HTTP basic authentication has them.
    #[expect(
        clippy::disallowed_methods,
        reason = "a user may be a field like a secret"
    )]
    fn with(&self, material: &Material, secret: &[u8]) -> Result<Zeroizing<String>, Uninjectable> {
        let user = match self {
            Self::Named(user) => user.as_bytes(),
            Self::Field(name) => material.secret(Some(name))?.expose(),
        };
        // RFC 7617, section 2: the first colon ends the user.
        if user.contains(&b':') {
            return Err(Uninjectable("basic: user has a colon"));
        }
        let pair = Zeroizing::new([user, b":", secret].concat());
        Ok(Zeroizing::new(STANDARD.encode(&pair)))
    }
}

/// Adds a cookie to those that are there; one of its name goes.
fn put_cookie(head: &mut Parts, name: &str, secret: &[u8]) -> Result<(), Uninjectable> {
    // RFC 6265, section 4.1.1: `cookie-octet`.
    let is_octet =
        |byte: &u8| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
    if !secret.iter().all(is_octet) {
        return Err(Uninjectable("a cookie"));
    }
    let mut value = Vec::new();
    let cookies = head.headers.get_all(COOKIE).iter();
    for cookie in cookies.flat_map(|value| value.as_bytes().split(|byte| *byte == b';')) {
        let cookie = cookie.trim_ascii();
        let own = cookie
            .split(|byte| *byte == b'=')
            .next()
            .unwrap_or_default();
        if !cookie.is_empty() && own.trim_ascii() != name.as_bytes() {
            value.extend_from_slice(cookie);
            value.extend_from_slice(b"; ");
        }
    }
    value.extend_from_slice(name.as_bytes());
    value.push(b'=');
    value.extend_from_slice(secret);
    insert(head, COOKIE, value)
}

fn insert(head: &mut Parts, name: HeaderName, value: Vec<u8>) -> Result<(), Uninjectable> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(value))
        .map_err(|_| Uninjectable("a header value"))?;
    value.set_sensitive(true);
    remove_twins(head, &name);
    drop(head.headers.insert(name, value));
    Ok(())
}

/// Takes off what a reader by CGI or WSGI has under the same name, which has no hyphens.
fn remove_twins(head: &mut Parts, name: &HeaderName) {
    let hyphens = |name: &HeaderName| name.as_str().replace('_', "-");
    let own = hyphens(name);
    let names = head.headers.keys();
    let twins: Vec<_> = names
        .filter(|twin| *twin != name && hyphens(twin) == own)
        .cloned()
        .collect();
    for twin in twins {
        head.headers.remove(twin);
    }
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
    // Some readers don't tell cases, and would take the agent's.
    let name = percent_decode_str(&name).map(|byte| byte.to_ascii_lowercase());
    name.eq(key.bytes().map(|byte| byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Field, Fields, Secret};

    fn apply(
        injection: &Injection,
        head: http::request::Builder,
        secret: &str,
    ) -> Result<Parts, Uninjectable> {
        let (mut head, ()) = head.body(()).unwrap().into_parts();
        let material = Secret::new(secret.into()).unwrap().into();
        let applied = injection.apply((&mut head, &mut Body::Empty), &material);
        applied.map(|()| head)
    }

    fn header(name: &'static str, prefix: &str) -> Injection {
        let name = HeaderName::from_static(name);
        let prefix = prefix.into();
        Place::Header { name, prefix }.into()
    }

    fn basic(user: &str) -> Injection {
        let user = User::Named(user.into());
        Place::Basic { user }.into()
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
        let key = "api_key".into();
        let injection = Place::Query { key }.into();
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
    fn a_header_replaces_what_some_readers_take_for_it() {
        let head = http::Request::get("https://api.example/x")
            .header("dd_application_key", "the agent's own")
            .header("dd-application_key", "and another")
            .header("dd_application_keys", "something else");
        let head = apply(&header("dd-application-key", ""), head, "s3cr3t").unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["dd_application_keys", "dd-application-key"]);
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
        let basic = basic("Aladdin");
        check_header(
            &basic,
            "open sesame",
            "authorization",
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        );
    }
    #[test]
    fn basic_takes_no_user_with_a_colon() {
        check_header(&basic("a:b"), "c", "authorization", None);
    }
    #[test]
    fn basic_takes_user_and_secret_of_two_fields() {
        let secret = |text: &str| Secret::new(text.into()).unwrap();
        let fields = vec![
            Field::public("username", secret("Aladdin")),
            Field::new("password", secret("open sesame")),
        ];
        let material = Material::Fields(Fields::new(fields).unwrap());
        let injection = Injection {
            place: Place::Basic {
                user: User::Field("username".into()),
            },
            field: Some("password".into()),
        };
        let (mut head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let parts = (&mut head, &mut Body::Empty);
        injection.apply(parts, &material).unwrap();
        let value = head.headers.get("authorization").unwrap();
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
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
