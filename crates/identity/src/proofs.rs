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
    certificate: Option<Arc<Verified>>,
    places: Vec<(&'static HeaderName, HeaderValue)>,
}

impl Proofs {
    /// Adds what the handshake proved.
    pub(crate) fn certify(&mut self, certificate: Arc<Verified>) {
        self.certificate = Some(certificate);
    }

    /// Adds a proof; one that is there already, in another slot, adds only its place.
    pub(crate) fn add(
        &mut self,
        slot: Slot,
        value: &HeaderValue,
        verified: Arc<Verified>,
    ) -> Result<(), Unauthenticated> {
        let same_kind = match verified.method() {
            Method::TaskToken => &mut self.task,
            Method::Jwt | Method::JwtSvid => &mut self.workload,
            Method::Mtls => &mut self.certificate,
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
        let all = || {
            [&self.workload, &self.certificate, &self.task]
                .into_iter()
                .flatten()
        };
        let proof = all().next().map(Arc::clone);
        let proof = proof.ok_or(Unauthenticated::NoProof)?;
        if all().any(|other| other.agent != proof.agent) {
            return Err(Unauthenticated::Disagreement);
        }
        Ok(Agent::new(proof, self.task, self.places))
    }
}
