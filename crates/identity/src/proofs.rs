//! The proofs found in one request head.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::slot::Slot;
use crate::verified::Verified;
use crate::{Agent, Method, Unauthenticated};

/// At most one proof of each kind, and where they were found.
#[derive(Default)]
pub(crate) struct Proofs {
    task: Option<Arc<Verified>>,
    workload: Option<Arc<Verified>>,
    places: Vec<(&'static HeaderName, HeaderValue)>,
}

impl Proofs {
    /// Adds a proof; one that is there already, in another slot, adds only its place.
    pub(crate) fn add(
        &mut self,
        slot: Slot,
        value: &HeaderValue,
        verified: Arc<Verified>,
    ) -> Result<(), Unauthenticated> {
        let same_kind = match verified.method() {
            Method::TaskToken => &mut self.task,
            Method::Jwt => &mut self.workload,
        };
        match same_kind {
            Some(other) if other.digest != verified.digest => {
                return Err(Unauthenticated::Disagreement);
            }
            Some(_) => {}
            None => *same_kind = Some(verified),
        }
        self.places.push((slot.name(), value.clone()));
        Ok(())
    }

    /// Adds the place of what shows that a token is its sender's.
    pub(crate) fn show(&mut self, name: &'static HeaderName, value: &HeaderValue) {
        self.places.push((name, value.clone()));
    }

    /// The one agent that all of them name.
    pub(crate) fn agree(self) -> Result<Agent, Unauthenticated> {
        let proof = match (&self.workload, &self.task) {
            (Some(workload), Some(task)) if workload.agent != task.agent => {
                return Err(Unauthenticated::Disagreement);
            }
            (Some(workload), _) => Arc::clone(workload),
            (None, Some(task)) => Arc::clone(task),
            (None, None) => return Err(Unauthenticated::NoProof),
        };
        Ok(Agent::new(proof, self.task, self.places))
    }
}
