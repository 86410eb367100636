//! What a Vault answers, as far as it is believed.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::Secret;

/// The longest id of a lease, in bytes: a path and 24 characters.
const LONGEST_ID: usize = 1024;

/// An answer with what was asked for.
#[derive(Debug)]
pub(super) struct Answer<D> {
    pub(super) data: Option<D>,
    /// None for secrets that are not the asker's alone.
    pub(super) lease: Option<Lease>,
    /// What a login is answered with.
    pub(super) auth: Option<Auth>,
    /// How many things the server warns of.
    pub(super) warnings: usize,
}

/// The life of a dynamic secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Lease {
    /// No secret: only whoever may revoke by the server's policy can do anything with it.
    pub(super) id: String,
    pub(super) seconds: u64,
    pub(super) renewable: bool,
}

/// A token of the server's own.
#[derive(Debug)]
pub(super) struct Auth {
    pub(super) token: Secret,
    /// Zero if it never expires.
    pub(super) seconds: u64,
    pub(super) renewable: bool,
    /// Zero if it may be used as often as wanted.
    pub(super) uses: u64,
}

#[derive(Deserialize)]
struct Raw<D> {
    #[serde(default)]
    lease_id: Option<String>,
    #[serde(default)]
    lease_duration: Option<u64>,
    #[serde(default)]
    renewable: Option<bool>,
    data: Option<D>,
    #[serde(default)]
    wrap_info: Option<IgnoredAny>,
    #[serde(default)]
    warnings: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    auth: Option<RawAuth>,
}

#[derive(Deserialize)]
struct RawAuth {
    client_token: Option<Wiped>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    num_uses: u64,
    #[serde(default)]
    mfa_requirement: Option<IgnoredAny>,
}

impl<D: DeserializeOwned> Answer<D> {
    /// Reads an answer; nothing of it is repeated in what is wrong with it.
    pub(super) fn read(document: &[u8]) -> Result<Self, Cow<'static, str>> {
        let raw: Raw<D> = serde_json::from_slice(document).map_err(|error| {
            // Only where it went wrong, since the parser's own words may quote the secret.
            let (line, column) = (error.line(), error.column());
            format!("is answered with something else, at line {line} column {column}")
        })?;
        if raw.wrap_info.is_some() {
            return Err("is answered with a wrapped secret, which is for somebody else".into());
        }
        let auth = raw.auth.map(RawAuth::read).transpose()?;
        let id = raw.lease_id.filter(|id| !id.is_empty());
        let lease = id.map(|id| Lease {
            id,
            seconds: raw.lease_duration.unwrap_or_default(),
            renewable: raw.renewable.unwrap_or_default(),
        });
        if let Some(Lease { id, .. }) = &lease
            && (id.len() > LONGEST_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err("is answered with a lease whose id is none".into());
        }
        Ok(Self {
            data: raw.data,
            lease,
            auth,
            warnings: raw.warnings.map_or(0, |warnings| warnings.len()),
        })
    }
}

impl RawAuth {
    fn read(self) -> Result<Auth, Cow<'static, str>> {
        if self.mfa_requirement.is_some() {
            return Err("asks for a second factor, which a gateway has none of".into());
        }
        let token = self.client_token.unwrap_or_default();
        if token.0.is_empty() || !token.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("is answered without a token".into());
        }
        Ok(Auth {
            token: Secret::new(token.0.as_bytes().to_vec())
                .map_err(|_| "is answered without a token")?,
            seconds: self.lease_duration,
            renewable: self.renewable,
            uses: self.num_uses,
        })
    }
}

/// A text that is wiped.
#[derive(Default)]
pub(crate) struct Wiped(pub(crate) Zeroizing<String>);

impl<'de> Deserialize<'de> for Wiped {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        String::deserialize(text).map(|text| Self(Zeroizing::new(text)))
    }
}

/// To log in with it.
impl Serialize for Wiped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wiped(..)")
    }
}

/// The fields of a secret, in the order of the answer; none stands twice.
#[derive(Debug)]
pub(crate) struct Data(pub(crate) Vec<(String, Datum)>);

/// One field.
#[derive(Debug)]
pub(crate) enum Datum {
    Text(Wiped),
    /// Nothing that could be injected.
    Other,
}

impl Data {
    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Datum> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(place).1)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(data: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
                let mut fields: Vec<(String, Datum)> = Vec::new();
                while let Some((name, datum)) = map.next_entry::<String, Datum>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom("a field stands twice"));
                    }
                    fields.push((name, datum));
                }
                Ok(Data(fields))
            }
        }
        data.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(datum: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Datum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Datum, E> {
                Ok(Datum::Text(Wiped(Zeroizing::new(text.to_owned()))))
            }

            fn visit_string<E>(self, text: String) -> Result<Datum, E> {
                Ok(Datum::Text(Wiped(Zeroizing::new(text))))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Datum, E> {
                Ok(Datum::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Datum, E> {
                Ok(Datum::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Datum, E> {
                Ok(Datum::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Datum, E> {
                Ok(Datum::Other)
            }

            fn visit_unit<E>(self) -> Result<Datum, E> {
                Ok(Datum::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Datum, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Datum::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Datum, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Datum::Other)
            }
        }
        datum.deserialize_any(Any)
    }
}

/// A secret of KV version 2.
#[derive(Debug, Deserialize)]
pub(super) struct Versioned {
    pub(super) data: Option<Data>,
    pub(super) metadata: Metadata,
}

/// What is known of one version.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) version: u64,
    #[serde(default)]
    pub(super) deletion_time: String,
    #[serde(default)]
    pub(super) destroyed: bool,
}

/// What is mounted where (`sys/internal/ui/mounts`, which is asked by the server's own command line, too).
#[derive(Debug, Deserialize)]
pub(super) struct Mounted {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) options: Option<MountOptions>,
}

/// How it is mounted.
#[derive(Debug, Deserialize)]
pub(super) struct MountOptions {
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// What a token is (`auth/token/lookup-self`).
#[derive(Debug, Deserialize)]
pub(super) struct TokenFacts {
    #[serde(default)]
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    #[serde(default)]
    pub(super) num_uses: u64,
}

/// What an answer means that is none with a secret.
pub(super) fn refusal(status: StatusCode, document: &[u8]) -> String {
    let meaning = match status.as_u16() {
        301..=399 => "it is a standby: `address` has to be where the active node answers",
        403 => "the policy of the gateway's login does not allow it, or the login is not valid",
        404 => "there is nothing",
        412 => "it has not caught up yet",
        429 => "it is asked too often, or is a standby",
        472 | 473 => "it is a standby that answers nobody",
        501 => "it is not initialized",
        502 => "what it asks itself does not answer",
        503 => "it is sealed, or in maintenance",
        _ => "",
    };
    let told = [meaning, reason(document).unwrap_or_default()];
    let told: Vec<&str> = told.into_iter().filter(|text| !text.is_empty()).collect();
    let code = status.as_u16();
    if told.is_empty() {
        return format!("is answered with {code}");
    }
    format!("is answered with {code}: {}", told.join("; "))
}

/// Why a server says no, if that is one of the reasons known: any other text may repeat what it was sent.
fn reason(document: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<String>,
    }
    const KNOWN: [&str; 18] = [
        "permission denied",
        "invalid token",
        "invalid role or secret ID",
        "invalid role ID",
        "invalid secret id",
        "missing role",
        "unknown role",
        "role could not be found",
        "could not load configuration",
        "error validating token",
        "service account name not authorized",
        "namespace not authorized",
        "lease not found",
        "lease is not renewable",
        "unsupported path",
        "unsupported operation",
        "no handler for route",
        "namespace not found",
    ];
    let refusal: Refusal = serde_json::from_slice(document).ok()?;
    let said = refusal.errors.iter();
    KNOWN
        .into_iter()
        .find(|known| said.clone().any(|text| text.contains(known)))
}
