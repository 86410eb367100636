//! `signals`: whose security events are believed, and whom they are about.

use std::path::PathBuf;
use std::time::Duration;

use credentials::SecretRef;
use identity::{AgentTemplate, Algorithm, TransmitterConfig};
use url::Url;

use super::ServiceConfig;
use super::collection::NonEmpty;
use super::control_plane::service;
use super::mistake::{At, Notes, Place};
use super::shape::section;
use super::tools::is_loopback;

/// A transmitter of shared signals, and how its events come.
#[derive(Clone, Debug)]
pub struct SignalsConfig {
    /// Whose they are, and whom they are about.
    pub transmitter: TransmitterConfig,
    /// Where the token is kept that it pushes with, if it does.
    pub push: Option<SecretRef>,
    /// Where it is polled, if it is.
    pub poll: Option<ServiceConfig>,
}

section! {
    /// A transmitter of shared signals (OpenID SSF 1.0): what it says was revoked ends the tasks of whom it is about.
    struct RawSignals {
        /// The `iss` of its events, letter by letter.
        issuer: String = required;
        /// Its key set: `https://`; `http://` is for loopback.
        jwks_uri: Url = required;
        /// What must be among an event's `aud`.
        audience: String = required;
        /// The signature algorithms that are accepted.
        algorithms: NonEmpty<Algorithm> = default(["ES256"]);
        /// Takes what it pushes to `/v1/signals` of the control listener (RFC 8935).
        push: RawPush = optional;
        /// Polls it (RFC 8936).
        poll: RawPoll = optional;
        /// How an owner's name is made of a subject identifier (RFC 9493).
        owner: AgentTemplate = default("{email}");
        /// How an agent's id is made of one; none is unless given.
        agent: AgentTemplate = optional;
        /// The `iss` of subjects that it may speak of, where they have one; its own unless given.
        subject_issuer: String = optional;
        /// How old an event may be.
        max_age: Duration = default("7d");
    }
}

section! {
    /// How a transmitter pushes.
    struct RawPush {
        /// Where the token is kept that it sends as `Authorization: Bearer`: at least 16 characters.
        token: SecretRef = required;
    }
}

section! {
    /// How a transmitter is polled.
    struct RawPoll {
        /// Its whole address: `https://`; `http://` is for loopback.
        endpoint: Url = required;
        /// Where the token is kept that it is asked with; none is sent unless given.
        token: SecretRef = optional;
        /// The authorities of its certificate, a PEM file; the system's unless given.
        ca: PathBuf = optional;
    }
}

/// Each section, no two of one issuer.
pub(super) fn parse(raw: Vec<At<RawSignals>>, notes: &mut Notes) -> Option<Vec<SignalsConfig>> {
    let mut all: Vec<SignalsConfig> = Vec::new();
    let mut is_right = true;
    for At { value, place } in raw {
        let Some(parsed) = value.parse(&place, notes) else {
            is_right = false;
            continue;
        };
        let is_same = |other: &SignalsConfig| other.transmitter.issuer == parsed.transmitter.issuer;
        if all.iter().any(is_same) {
            let message = "this transmitter is already there";
            notes.mistake(&place, "duplicate_issuer", message);
        }
        all.push(parsed);
    }
    is_right.then_some(all)
}

impl RawSignals {
    fn parse(self, place: &Place, notes: &mut Notes) -> Option<SignalsConfig> {
        if let Some(url) = &self.jwks_uri
            && url.value.scheme() == "http"
            && !is_loopback(&url.value)
        {
            let message = "keys are fetched over `https://`; `http://` is for loopback";
            notes.mistake(&url.place, "plaintext_issuer", message);
        }
        if self.push.is_none() && self.poll.is_none() {
            let message = "no event comes without `push` or `poll`";
            notes.mistake(place, "wrong_value", message);
        }
        let poll = self.poll.map(|raw| raw.value.parse(notes));
        let issuer = self.issuer?.value;
        let algorithms = self.algorithms?.value.0.into_iter();
        Some(SignalsConfig {
            transmitter: TransmitterConfig {
                subject_issuer: match self.subject_issuer {
                    Some(issuer) => issuer.value,
                    None => issuer.clone(),
                },
                issuer,
                audience: self.audience?.value,
                algorithms: algorithms.map(|at| at.value).collect(),
                jwks_uri: self.jwks_uri?.value,
                max_age: self.max_age?.value,
                owner: Some(self.owner?.value),
                agent: self.agent.map(|agent| agent.value),
            },
            push: match self.push {
                Some(push) => Some(push.value.token?.value),
                None => None,
            },
            poll: match poll {
                Some(poll) => Some(poll?),
                None => None,
            },
        })
    }
}

impl RawPoll {
    fn parse(self, notes: &mut Notes) -> Option<ServiceConfig> {
        service(self.endpoint?, self.token, self.ca, notes)
    }
}
