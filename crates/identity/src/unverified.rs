//! A JWT before its signature was checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::clock::LEEWAY;
use crate::{Algorithm, Unauthenticated, strict_json};

/// The longest token that is looked at, in bytes. Tokens with many groups reach a few KiB.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Header parameters that bring a key along or change what is signed: none is ever followed
/// (RFC 8725 sections 3.5 and 3.10, RFC 7515 section 4.1.11, RFC 7797).
pub(crate) const REFUSED: [&str; 6] = ["crit", "b64", "jku", "jwk", "x5u", "x5c"];

/// Whether `text` has the three parts of a compact JWS (RFC 7515 section 7.1).
pub(crate) fn looks_compact(text: &str) -> bool {
    let after_two = text
        .split_once('.')
        .and_then(|(_, rest)| rest.split_once('.'));
    after_two.is_some_and(|(_, signature)| !signature.contains('.'))
}

/// A compact JWS over JSON claims. Nothing in it is believed yet.
pub(crate) struct Unverified<'t> {
    token: &'t str,
    header: &'t str,
    payload: Vec<u8>,
    issuer: Option<String>,
    subject: Option<String>,
}

/// What the header of a token says.
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// Lower case, without `application/`.
    pub(crate) kind: Option<String>,
}

/// What a token must fit.
pub(crate) struct Expected<'e> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: &'e DecodingKey,
    /// What must be among its audiences; none means that it must have none.
    pub(crate) audience: Option<&'e str>,
    /// Seconds since the epoch.
    pub(crate) now: i64,
}

/// Claims of a token whose signature, audience and time were right.
pub(crate) struct Checked {
    pub(crate) claims: Map<String, Value>,
    pub(crate) issuer: String,
    /// Seconds since the epoch.
    pub(crate) expires_at: i64,
}

impl<'t> Unverified<'t> {
    /// Reads who claims to have issued a token, and about whom; `None` where it is no JWT.
    pub(crate) fn read(token: &'t str) -> Option<Self> {
        let (header, rest) = token.split_once('.')?;
        let (payload, _signature) = rest.split_once('.')?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let Ok(Value::Object(claims)) = serde_json::from_slice(&payload) else {
            return None;
        };
        let text = |name| Some(claims.get(name)?.as_str()?.to_owned());
        Some(Self {
            issuer: text("iss"),
            subject: text("sub"),
            token,
            header,
            payload,
        })
    }

    /// Its claims, as they were sent.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The `iss` it claims.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The `sub` it claims.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The claims, none of them believed yet.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, Unauthenticated> {
        strict_json::object(&self.payload).ok_or(Unauthenticated::Invalid("a claim stands twice"))
    }

    /// What stands in the header.
    pub(crate) fn parameters(&self) -> Result<Map<String, Value>, Unauthenticated> {
        let bytes = URL_SAFE_NO_PAD.decode(self.header).ok();
        let header = bytes.and_then(|bytes| strict_json::object(&bytes));
        header.ok_or(Unauthenticated::Invalid("its header is malformed"))
    }

    /// Reads the header by the rules of RFC 8725.
    pub(crate) fn header(&self) -> Result<Header, Unauthenticated> {
        let invalid = Unauthenticated::Invalid;
        let header = self.parameters()?;
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            return Err(invalid("its header has a parameter that is not allowed"));
        }
        let algorithm = text(&header, "alg")?.and_then(|alg| alg.parse().ok());
        Ok(Header {
            algorithm: algorithm
                .ok_or_else(|| invalid("its signature algorithm is not allowed"))?,
            key_id: text(&header, "kid")?.map(str::to_owned),
            kind: text(&header, "typ")?.map(media_type),
        })
    }

    /// Checks signature, audience and time, in this order.
    pub(crate) fn check(self, expected: &Expected<'_>) -> Result<Checked, Unauthenticated> {
        let Some(issuer) = self.issuer.clone() else {
            return Err(Unauthenticated::Invalid("it has no `iss`"));
        };
        let mut validation = Validation::new(expected.algorithm.into());
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        validation.set_issuer(&[&issuer]);
        self.check_by(issuer, validation, expected)
    }

    /// Checks the same of a token that `issuer` is known to have issued, whether it says so or not.
    pub(crate) fn check_as_of(
        self,
        issuer: String,
        expected: &Expected<'_>,
    ) -> Result<Checked, Unauthenticated> {
        let mut validation = Validation::new(expected.algorithm.into());
        validation.set_required_spec_claims(match expected.audience {
            Some(_) => &["aud", "exp"],
            None => &["exp"],
        });
        self.check_by(issuer, validation, expected)
    }

    fn check_by(
        self,
        issuer: String,
        mut validation: Validation,
        expected: &Expected<'_>,
    ) -> Result<Checked, Unauthenticated> {
        match expected.audience {
            Some(audience) => validation.set_audience(&[audience]),
            None => validation.validate_aud = false,
        }
        // Judged below, since the leeway is not for `exp`.
        validation.validate_exp = false;
        jsonwebtoken::decode::<IgnoredAny>(self.token, expected.key, &validation).map_err(blame)?;

        let claims = strict_json::object(&self.payload)
            .ok_or(Unauthenticated::Invalid("a claim stands twice"))?;
        if expected.audience.is_none() && claims.contains_key("aud") {
            return Err(Unauthenticated::Invalid("it has an `aud`"));
        }
        let expires_at = in_time(&claims, expected.now)?;
        Ok(Checked {
            claims,
            issuer,
            expires_at,
        })
    }
}

fn text<'h>(
    header: &'h Map<String, Value>,
    name: &str,
) -> Result<Option<&'h str>, Unauthenticated> {
    let invalid = Unauthenticated::Invalid("a parameter of its header is not text");
    header
        .get(name)
        .map(|value| value.as_str().ok_or(invalid))
        .transpose()
}

/// `typ` in lower case without `application/` (RFC 7515 section 4.1.9).
pub(crate) fn media_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    lower
        .strip_prefix("application/")
        .map_or_else(|| lower.clone(), str::to_owned)
}

/// The `exp` of claims that are valid now.
fn in_time(claims: &Map<String, Value>, now: i64) -> Result<i64, Unauthenticated> {
    let expires_at = seconds(claims, "exp")?.ok_or(Unauthenticated::Invalid("it has no `exp`"))?;
    if expires_at <= now {
        return Err(Unauthenticated::Expired);
    }
    for name in ["nbf", "iat"] {
        if seconds(claims, name)?.is_some_and(|from| from > now.saturating_add(LEEWAY)) {
            return Err(Unauthenticated::Invalid("it is not valid yet"));
        }
    }
    Ok(expires_at)
}

/// A `NumericDate` (RFC 7519 section 2) without its fraction.
pub(crate) fn seconds(
    claims: &Map<String, Value>,
    name: &str,
) -> Result<Option<i64>, Unauthenticated> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let whole = value.as_i64().or_else(|| {
        let fraction = value
            .as_f64()
            .filter(|seconds| seconds.abs() < MAX_SECONDS)?;
        Some(fraction.floor() as i64)
    });
    whole.map(Some).ok_or(Unauthenticated::Invalid(
        "a time in it is no number of seconds",
    ))
}

/// Where a double no longer holds every whole number: 2^53.
const MAX_SECONDS: f64 = 9_007_199_254_740_992.0;

fn blame(error: jsonwebtoken::errors::Error) -> Unauthenticated {
    Unauthenticated::Invalid(match error.into_kind() {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidAudience => "it is meant for another audience",
        ErrorKind::MissingRequiredClaim(_) => "it lacks one of `iss`, `aud`, `exp`",
        _ => "it is malformed",
    })
}
