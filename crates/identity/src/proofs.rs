//! The proofs found in one request head.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::slot::Slot;
use crate::verified::Verified;
use crate::{Agent, Method, Transaction, Unauthenticated};

/// At most one proof of each kind, and where they were found.
#[derive(Default)]
pub(crate) struct Proofs {
    task: Option<Arc<Verified>>,
    workload: Option<Arc<Verified>>,
    wit: Option<Arc<Verified>>,
    certificate: Option<Arc<Verified>>,
    /// No proof, but what one is for.
    transaction: Option<Arc<Verified>>,
    places: Vec<(&'static HeaderName, HeaderValue)>,
}

impl Proofs {
    /// Adds what the handshake proved.
    pub(crate) fn certify(&mut self, certificate: Arc<Verified>) {
        self.certificate = Some(certificate);
    }

    /// Adds a workload identity token, whose possession was proven by what stands at `places`.
    pub(crate) fn identify(
        &mut self,
        verified: Arc<Verified>,
        places: [(&'static HeaderName, &HeaderValue); 2],
    ) {
        self.wit = Some(verified);
        for (name, value) in places {
            self.show(name, value);
        }
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
            Method::Jwt | Method::JwtSvid | Method::TokenReview => &mut self.workload,
            Method::Wimse => &mut self.wit,
            Method::Mtls | Method::X509Svid => &mut self.certificate,
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

    /// Adds what a workload says that it works on.
    pub(crate) fn transact(
        &mut self,
        name: &'static HeaderName,
        value: &HeaderValue,
        verified: Arc<Verified>,
    ) {
        self.transaction = Some(verified);
        self.show(name, value);
    }

    /// Adds the place of what shows that a token is its sender's.
    pub(crate) fn show(&mut self, name: &'static HeaderName, value: &HeaderValue) {
        self.places.push((name, value.clone()));
    }

    /// The one agent that all of them name.
    pub(crate) fn agree(self) -> Result<Agent, Unauthenticated> {
        let all = || {
            [&self.wit, &self.workload, &self.certificate, &self.task]
                .into_iter()
                .flatten()
        };
        let proof = all().next().map(Arc::clone);
        let proof = proof.ok_or(Unauthenticated::NoProof)?;
        if all().any(|other| other.agent != proof.agent) {
            return Err(Unauthenticated::Disagreement);
        }
        if let Some(transaction) = &self.transaction {
            let credentials = [&self.wit, &self.workload, &self.certificate];
            if credentials.into_iter().all(Option::is_none) {
                return Err(Unauthenticated::Invalid(
                    "a transaction token is taken beside a workload credential",
                ));
            }
            // A transaction of another issuer is no task of ours, whatever it is called.
            let contradicts = |task: &Arc<Verified>| {
                Transaction::of(transaction).is_some()
                    || task.claims.get("txn") != transaction.claims.get("txn")
            };
            if transaction.agent != proof.agent || self.task.as_ref().is_some_and(contradicts) {
                return Err(Unauthenticated::Disagreement);
            }
        }
        let (adopted, ours) = match self.transaction {
            Some(transaction) if Transaction::of(&transaction).is_some() => {
                (Some(transaction), None)
            }
            transaction => (None, transaction),
        };
        let mut credentials = [self.wit, self.workload, self.certificate]
            .into_iter()
            .flatten()
            .filter(|other| !Arc::ptr_eq(other, &proof));
        let others = [credentials.next(), credentials.next()];
        let agent = Agent::new(proof, self.task.or(ours), self.places);
        Ok(agent.with_others(others).with_transaction(adopted))
    }
}
