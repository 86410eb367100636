//! A secret on its way to the one call it is for.

use std::sync::Arc;

use call::Call;
use policy::Permit;
use telemetry::LeaseNote;

use crate::lease::Lease;
use crate::outbound::Bound;
use crate::phantoms::{Phantoms, Restored, UnknownPhantom};
use crate::{Injection, Outbound, Scrubber};

/// A secret, bound to the one call it may be used for.
///
/// Only a permit buys one, and it is used once:
///
/// ```compile_fail,E0451
/// fn forge(permit: policy::Permit) -> credentials::Credential {
///     credentials::Credential { permit, grants: Vec::new(), restored: Vec::new() }
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
    restored: Vec<Restored>,
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
        Self {
            permit,
            grants,
            restored: Vec::new(),
        }
    }

    /// Takes back what the phantoms of its call stand for.
    ///
    /// # Errors
    /// [`UnknownPhantom`] where one stands for nothing here.
    pub fn restore(mut self, phantoms: &Phantoms) -> Result<Self, UnknownPhantom> {
        self.restored = phantoms.restore(self.permit.call())?;
        Ok(self)
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
        let grants = self.grants;
        let has_arguments = has_arguments(self.permit.call());
        let placed = placed(&grants, self.permit.call());
        let (call, spending) = self.permit.spend();
        let meters = call.meters().to_vec();
        let (mut head, mut body, tool) = call.into_wire();
        // The tool's own secrets stay, should both go to one place.
        for Restored {
            material,
            injection,
        } in &self.restored
        {
            injection.apply((&mut head, &mut body), material)?;
        }
        for is_last in [false, true] {
            for grant in &grants {
                let injections = grant.injections.iter();
                for injection in injections.filter(|one| one.comes_last() == is_last) {
                    if injection.is_argument() && !has_arguments {
                        continue;
                    }
                    let placed = placed.iter().find(|(own, _)| own == injection);
                    // It may stand in a header, or among arguments that there are none of.
                    if injection.is_placeholder() && placed.is_none() && !has_arguments {
                        continue;
                    }
                    let injection = placed.map_or(injection, |(_, placed)| placed);
                    injection.apply((&mut head, &mut body), &grant.lease.material)?;
                }
            }
        }
        let mut binding = grants.iter().filter(|grant| grant.binds_connection());
        let bound = binding.next().map(|grant| Bound {
            lease: Arc::clone(&grant.lease.id),
            certificate: grant.lease.material.certificate().ok().cloned(),
        });
        let scrubber = scrubber(&grants, &self.restored);
        let wire = (head, body, tool);
        Ok(Outbound::new(wire, scrubber, bound, spending, meters))
    }
}

/// Whether a call may take a secret as an argument: of MCP only the call of a tool has any.
pub(crate) fn has_arguments(call: &Call) -> bool {
    call.mcp().is_none_or(|mcp| mcp.method == "tools/call")
}

/// Where the placeholders of a call stand.
fn placed(grants: &[Grant], call: &Call) -> Vec<(Injection, Injection)> {
    let injections = grants.iter().flat_map(|grant| &*grant.injections);
    injections
        .filter_map(|injection| Some((injection.clone(), injection.placed(call)?)))
        .collect()
}

/// What keeps all of them out of the answer.
fn scrubber(grants: &[Grant], restored: &[Restored]) -> Option<Arc<Scrubber>> {
    let parts = grants.iter().map(|grant| (&grant.lease, &grant.injections));
    if restored.is_empty() {
        return grants.first()?.lease.scrubber(parts);
    }
    let leased = parts.map(|(lease, injections)| (&lease.material, &**injections));
    let restored = restored
        .iter()
        .map(|one| (&*one.material, std::slice::from_ref(&one.injection)));
    Scrubber::new(leased.chain(restored)).map(Arc::new)
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
