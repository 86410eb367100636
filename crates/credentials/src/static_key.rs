//! The legacy bridge: one static key, until a date.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::{LeaseView, Obtained, Provider, ProviderError, Revocation, SecretRef, Wish};

/// The legacy bridge: one static key, until a date.
///
/// The key outlives every task: its leases end with `drop_only`.
#[derive(Debug)]
pub struct Static {
    secret: SecretRef,
    until: Date,
}

impl Static {
    /// `secret` is read at each use of a new lease; `until` is the last day, in UTC, on which it is used.
    pub fn new(secret: SecretRef, until: Date) -> Self {
        Self { secret, until }
    }
}

#[async_trait::async_trait]
impl Provider for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn digest(&self) -> String {
        // The date is no part of it: a bridge that is prolonged is the same.
        crate::provider::digest(&[&self.secret.to_string()])
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
            material: self.secret.read().await?.into(),
            ttl_seconds: None,
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::DropOnly
    }
}
