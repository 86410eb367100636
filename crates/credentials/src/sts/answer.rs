//! What STS answers, as far as it is believed.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::sigv4::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN};
use crate::{Field, Fields, Secret};

/// How much longer a session may live than was asked for, in seconds: what two clocks may differ by.
const DRIFT: u64 = 60;

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "AssumeRoleResult", alias = "AssumeRoleWithWebIdentityResult")]
    result: Assumed,
}

#[derive(Deserialize)]
struct Assumed {
    #[serde(rename = "Credentials")]
    credentials: Raw,
}

/// Elements that are not known here are AWS's own; one that stands twice is refused.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    #[serde(deserialize_with = "wiped")]
    access_key_id: Zeroizing<String>,
    #[serde(deserialize_with = "wiped")]
    secret_access_key: Zeroizing<String>,
    #[serde(deserialize_with = "wiped")]
    session_token: Zeroizing<String>,
    expiration: String,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(rename = "Error")]
    error: Coded,
}

#[derive(Deserialize)]
struct Coded {
    #[serde(rename = "Code")]
    code: String,
}

fn wiped<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

/// Reads the keys of a session for which so many seconds were asked, and how many it has left. Nothing of the answer is
/// repeated in an error.
pub(super) fn read(
    document: &[u8],
    now: Timestamp,
    asked: u64,
) -> Result<(Fields, u64), &'static str> {
    const UNREADABLE: &str = "does not answer with a session";
    let text = std::str::from_utf8(document).map_err(|_| UNREADABLE)?;
    let response: Response = quick_xml::de::from_str(text).map_err(|_| UNREADABLE)?;
    let raw = response.result.credentials;
    let end: Timestamp = raw.expiration.trim().parse().map_err(|_| UNREADABLE)?;
    let life = u64::try_from(end.duration_since(now).as_secs()).unwrap_or(0);
    if life > asked.saturating_add(DRIFT) {
        return Err("answers with a session that lives longer than was asked for");
    }
    let fields = Fields::new(vec![
        Field::public(ACCESS_KEY_ID, secret(&raw.access_key_id)?),
        Field::new(SECRET_ACCESS_KEY, secret(&raw.secret_access_key)?),
        Field::new(SESSION_TOKEN, secret(&raw.session_token)?),
    ]);
    Ok((fields.map_err(|_| UNREADABLE)?, life))
}

/// AWS's code for why it says no.
pub(super) fn error_code(document: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(document).ok()?;
    let refused: Refused = quick_xml::de::from_str(text).ok()?;
    Some(refused.error.code)
}

/// Visible characters: what is signed by, and what fits a header.
fn secret(text: &Zeroizing<String>) -> Result<Secret, &'static str> {
    const NONE: &str = "answers with keys that are none";
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(NONE);
    }
    Secret::new(text.as_bytes().to_vec()).map_err(|_| NONE)
}
