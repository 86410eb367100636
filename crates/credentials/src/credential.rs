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
///     credentials::Credential { permit, grants: Vec::new() }
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
    grants: Vec<Grant>,
}

/// A lease, and where its secret goes.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) lease: Arc<Lease>,
    pub(crate) injections: Arc<[Injection]>,
    pub(crate) bridge: bool,
}

impl Credential {
    /// Of no lease, where the tool takes no credential.
    pub(crate) fn new(permit: Permit, grants: Vec<Grant>) -> Self {
        Self { permit, grants }
    }

    /// The permit it belongs to.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What is told of its leases; nothing if the tool takes no credential.
    pub fn leases(&self) -> impl Iterator<Item = LeaseNote> {
        self.grants.iter().map(|grant| LeaseNote {
            id: Arc::clone(&grant.lease.id),
            provider: grant.lease.provider.name(),
            expires_at: Some(grant.lease.expires_at()),
            bridge: grant.bridge,
        })
    }

    /// Puts the secrets on their call, signatures last.
    ///
    /// A secret in a query is part of the request's `uri` from here on: it must not be logged.
    pub fn inject(self) -> Result<Outbound, Uninjectable> {
        let (call, spending) = self.permit.spend();
        let meters = call.meters().to_vec();
        let (mut head, mut body, tool) = call.into_wire();
        for is_last in [false, true] {
            for grant in &self.grants {
                let injections = grant.injections.iter();
                for injection in injections.filter(|one| one.comes_last() == is_last) {
                    injection.apply((&mut head, &mut body), &grant.lease.material)?;
                }
            }
        }
        let mut binding = self.grants.iter().filter(|grant| grant.binds_connection());
        let isolation = binding.next().map(|grant| Arc::clone(&grant.lease.id));
        let parts = self
            .grants
            .iter()
            .map(|grant| (&grant.lease, &grant.injections));
        let scrubber = self
            .grants
            .first()
            .and_then(|first| first.lease.scrubber(parts));
        let wire = (head, body, tool);
        Ok(Outbound::new(wire, scrubber, isolation, spending, meters))
    }
}

impl Grant {
    fn binds_connection(&self) -> bool {
        let mut injections = self.injections.iter();
        injections.any(Injection::binds_connection)
    }
}

/// The secret does not fit where the tool wants it.
#[derive(Debug, thiserror::Error)]
#[error("secret does not fit {0}")]
pub struct Uninjectable(pub &'static str);
