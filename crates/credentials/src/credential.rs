//! A secret on its way to the one call it is for.

use std::sync::Arc;

use policy::Permit;
use telemetry::LeaseNote;

use crate::lease::Lease;
use crate::{Injection, Outbound};

/// A secret, bound to the one call it may be used for.
///
/// Only a permit buys one, and it is used once:
///
/// ```compile_fail,E0451
/// fn forge(permit: policy::Permit) -> credentials::Credential {
///     credentials::Credential { permit, grant: None }
/// }
/// ```
/// ```compile_fail,E0599
/// fn copy(credential: credentials::Credential) -> credentials::Credential {
///     credential.clone()
/// }
/// ```
/// ```compile_fail,E0382
/// fn twice(credential: credentials::Credential) {
///     let first = credential.inject();
///     let second = credential.inject();
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Credential {
    permit: Permit,
    grant: Option<Grant>,
}

/// A lease, and where its secret goes.
#[derive(Debug)]
struct Grant {
    lease: Arc<Lease>,
    injection: Arc<Injection>,
    bridge: bool,
}

impl Credential {
    pub(crate) fn new(
        permit: Permit,
        lease: Arc<Lease>,
        injection: Arc<Injection>,
        bridge: bool,
    ) -> Self {
        let grant = Some(Grant {
            lease,
            injection,
            bridge,
        });
        Self { permit, grant }
    }

    pub(crate) fn without_secret(permit: Permit) -> Self {
        Self {
            permit,
            grant: None,
        }
    }

    /// The permit it belongs to.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What is told of its lease; none if the tool takes no credential.
    pub fn lease(&self) -> Option<LeaseNote> {
        let grant = self.grant.as_ref()?;
        Some(LeaseNote {
            id: Arc::clone(&grant.lease.id),
            provider: grant.lease.provider.name(),
            expires_at: Some(grant.lease.expires_at()),
            bridge: grant.bridge,
        })
    }

    /// Puts the secret on its call.
    ///
    /// A secret in a query is part of the request's `uri` from here on: it must not be logged.
    pub fn inject(self) -> Result<Outbound, Uninjectable> {
        let (call, spending) = self.permit.spend();
        let meters = call.meters().to_vec();
        let mut wire = call.into_wire();
        let mut scrubber = None;
        let mut isolation = None;
        if let Some(Grant {
            lease, injection, ..
        }) = self.grant
        {
            injection.apply(&mut wire.0, &lease.secret)?;
            if injection.binds_connection() {
                isolation = Some(Arc::clone(&lease.id));
            }
            scrubber = lease.scrubber(&injection);
        }
        Ok(Outbound::new(wire, scrubber, isolation, spending, meters))
    }
}

/// The secret does not fit where the tool wants it.
#[derive(Debug, thiserror::Error)]
#[error("secret does not fit {0}")]
pub struct Uninjectable(pub &'static str);
