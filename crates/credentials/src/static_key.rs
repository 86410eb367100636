//! The legacy bridge: one static key, until a date.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::sigv4::ACCESS_KEY_ID;
use crate::{
    Field, Fields, LeaseView, Material, Obtained, Provider, ProviderError, Revocation, SecretRef,
    Wish,
};

/// Where a legacy key is kept.
#[derive(Clone, Debug)]
pub enum Kept {
    /// In one place.
    One(SecretRef),
    /// Each of its fields by itself; `access_key_id` and `username` may be seen.
    Fields(Vec<(String, SecretRef)>),
}

/// Fields that are no secrets, by name.
const PUBLIC: [&str; 2] = [ACCESS_KEY_ID, "username"];

impl From<SecretRef> for Kept {
    fn from(secret: SecretRef) -> Self {
        Self::One(secret)
    }
}

impl Kept {
    async fn read(&self) -> Result<Material, ProviderError> {
        let fields = match self {
            Self::One(secret) => return Ok(secret.read().await?.into()),
            Self::Fields(fields) => fields,
        };
        let mut read = Vec::new();
        for (name, secret) in fields {
            let secret = secret.read().await?;
            read.push(Field {
                is_public: PUBLIC.contains(&name.as_str()),
                ..Field::new(name.as_str(), secret)
            });
        }
        Ok(Material::Fields(Fields::new(read)?))
    }

    fn texts(&self) -> Vec<String> {
        match self {
            Self::One(secret) => vec![secret.to_string()],
            Self::Fields(fields) => fields
                .iter()
                .flat_map(|(name, secret)| [name.clone(), secret.to_string()])
                .collect(),
        }
    }
}

/// The legacy bridge: one static key, until a date.
///
/// The key outlives every task: its leases end with `drop_only`.
#[derive(Debug)]
pub struct Static {
    kept: Kept,
    until: Date,
}

impl Static {
    /// `kept` is read at each use of a new lease; `until` is the last day, in UTC, on which it is used.
    pub fn new(kept: impl Into<Kept>, until: Date) -> Self {
        Self {
            kept: kept.into(),
            until,
        }
    }
}

#[async_trait::async_trait]
impl Provider for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn digest(&self) -> String {
        // The date is no part of it: a bridge that is prolonged is the same.
        let texts = self.kept.texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    fn bridge_until(&self) -> Option<Date> {
        Some(self.until)
    }

    fn rereads(&self) -> bool {
        true
    }

    async fn obtain(&self, _wish: &Wish) -> Result<Obtained, ProviderError> {
        let today = jiff::Timestamp::now()
            .to_zoned_datetime(TimeZone::UTC)
            .date();
        if self.until < today {
            return Err(ProviderError::BridgeExpired(self.until));
        }
        Ok(Obtained {
            material: self.kept.read().await?,
            ttl_seconds: None,
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::DropOnly
    }
}
