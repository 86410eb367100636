//! Shared signals: what an identity provider says happened to somebody ends that somebody's tasks.
//!
//! **Invariant.** A token is acknowledged once what it ends is durable. What is told twice ends nothing new.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use credentials::Leases;
use identity::{EventSubject, InvalidSet, Transmitter, TransmitterConfig};
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use serde_json::{Map, Value};
use tasks::{RevocationRequest, StoreError, Subject, Tasks, Undurable};
use telemetry::{Recorder, SignalResult};
use zeroize::Zeroizing;

use crate::operators::is_b64token;
use crate::revocation;

/// How many tokens of each transmitter are remembered, the newest. One that is forgotten ends nothing of later, either.
const REMEMBERED: usize = 10_000;

/// The fewest characters of a token: 16 of base64 are 96 bits.
const MIN_TOKEN: usize = 16;

/// Where signals come in, pushed or polled for.
#[derive(Debug)]
pub struct Signals {
    tasks: Arc<Tasks>,
    leases: Arc<Leases>,
    recorder: Recorder,
    senders: ArcSwap<Vec<Arc<SignalSender>>>,
    /// One event at a time: whoever sends many holds up nobody but themselves.
    turn: tokio::sync::Mutex<()>,
}

/// A transmitter of signals.
#[derive(Debug)]
pub struct SignalSender {
    transmitter: Transmitter,
    push: Option<Key>,
    /// The ids of tokens that took effect.
    seen: Mutex<Seen>,
}

/// A keyed digest of the token that a transmitter pushes with.
struct Key {
    /// Random per process, so that a digest says nothing outside of it.
    key: hmac::Key,
    tag: hmac::Tag,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// Digests: an id may be as long as its token.
    ids: HashSet<Id>,
    order: VecDeque<Id>,
}

/// Why a token was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum Unreceived {
    /// It is not right, or the keys to tell can't be had.
    #[error(transparent)]
    Invalid(#[from] InvalidSet),
    /// What it ends is not durable: it has to be sent again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Unreceived {
    /// The error of RFC 8935 section 2.4; none where it is to be sent again.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Store(_) | Self::Invalid(InvalidSet::KeysUnavailable(_)) => None,
            Self::Invalid(InvalidSet::Malformed(_)) => Some("invalid_request"),
            Self::Invalid(InvalidSet::Key(_)) => Some("invalid_key"),
            Self::Invalid(InvalidSet::Issuer) => Some("invalid_issuer"),
            Self::Invalid(InvalidSet::Audience) => Some("invalid_audience"),
        }
    }
}

impl SignalSender {
    /// Makes one; `push` is the bearer token that it pushes with, if it does.
    pub fn new(
        config: TransmitterConfig,
        push: Option<&Zeroizing<Vec<u8>>>,
    ) -> Result<Self, String> {
        Ok(Self {
            transmitter: Transmitter::new(config),
            push: push.map(|token| Key::new(token)).transpose()?,
            seen: Mutex::default(),
        })
    }

    /// The transmitter's `iss`.
    pub fn issuer(&self) -> &str {
        &self.transmitter.config().issuer
    }

    fn pushes_with(&self, token: &[u8]) -> bool {
        let push = self.push.as_ref();
        push.is_some_and(|key| hmac::verify(&key.key, token, key.tag.as_ref()).is_ok())
    }
}

impl Key {
    fn new(token: &[u8]) -> Result<Self, String> {
        if token.len() < MIN_TOKEN || !is_b64token(token) {
            return Err(format!(
                "its token is not at least {MIN_TOKEN} characters of `A-Z a-z 0-9 - . _ ~ + /` (with `=` at the end)"
            ));
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "no random bytes could be had".to_owned())?;
        let tag = hmac::sign(&key, token);
        Ok(Self { key, tag })
    }
}

/// The SHA-256 of an id.
type Id = [u8; 32];

fn id(jti: &str) -> Id {
    let digest = ring::digest::digest(&ring::digest::SHA256, jti.as_bytes());
    let mut id = Id::default();
    for (to, from) in id.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    id
}

impl Seen {
    fn note(&mut self, jti: &str) {
        let id = id(jti);
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

impl Signals {
    /// Takes signals for these tasks; of nobody until [`Self::configure`] says of whom.
    pub fn new(tasks: Arc<Tasks>, leases: Arc<Leases>, recorder: Recorder) -> Self {
        Self {
            tasks,
            leases,
            recorder,
            senders: ArcSwap::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Says whose signals are taken from now on. What was sent by those that stay is remembered.
    pub fn configure(&self, senders: Vec<Arc<SignalSender>>) {
        let before = self.senders.load();
        for sender in &senders {
            let config = sender.transmitter.config();
            let same = before
                .iter()
                .find(|other| other.transmitter.config().issuer == config.issuer);
            if let Some(same) = same {
                let known = std::mem::take(&mut *same.seen.lock());
                *sender.seen.lock() = known;
            }
        }
        self.senders.store(Arc::new(senders));
    }

    /// Whether anybody may push.
    pub(crate) fn are_pushed(&self) -> bool {
        self.senders
            .load()
            .iter()
            .any(|sender| sender.push.is_some())
    }

    /// Those that push with this token.
    pub(crate) fn pushers(&self, token: &[u8]) -> Vec<Arc<SignalSender>> {
        let senders = self.senders.load();
        let pushers = senders.iter().filter(|sender| sender.pushes_with(token));
        pushers.cloned().collect()
    }

    /// The one of these that a token claims to be of.
    pub(crate) fn claimed<'s>(
        senders: &'s [Arc<SignalSender>],
        token: &str,
    ) -> Option<&'s Arc<SignalSender>> {
        if let [only] = senders {
            // What is wrong with it is told better by whoever reads it whole.
            return Some(only);
        }
        let mut claiming = senders.iter();
        claiming.find(|sender| sender.transmitter.is_claimed_by(token))
    }

    /// Counts a token that is refused before anybody looks at its events.
    pub(crate) fn refused(&self) {
        self.recorder.signal(SignalResult::Refused);
    }

    /// Takes one token of a transmitter: verifies it, and ends what it says. It may be acknowledged when this returns.
    pub async fn receive(&self, sender: &SignalSender, token: &str) -> Result<String, Unreceived> {
        let verified = sender.transmitter.verify(token).await;
        let set = verified.inspect_err(|error| {
            tracing::warn!(transmitter = sender.issuer(), %error, "signal refused");
            self.refused();
        })?;
        let _turn = self.turn.lock().await;
        if sender.seen.lock().ids.contains(&id(set.jti())) {
            self.recorder.signal(SignalResult::Duplicate);
            return Ok(set.jti().to_owned());
        }
        let mut result = SignalResult::Noted;
        for (uri, event) in set.events() {
            let Some(word) = ends(uri, event) else {
                continue;
            };
            let as_of = happened_at(event, set.issued_at());
            let reason = format!("{word}, signal {}", set.jti());
            let mut ended = 0;
            for subject in set.subjects() {
                ended += self.end(sender, subject, (&reason, as_of)).await?;
            }
            result = match (ended, result) {
                (0, SignalResult::Ended) => SignalResult::Ended,
                (0, _) => SignalResult::Unknown,
                _ => SignalResult::Ended,
            };
        }
        sender.seen.lock().note(set.jti());
        tracing::info!(
            transmitter = sender.issuer(),
            jti = set.jti(),
            result = result.as_str(),
            "signal received"
        );
        self.recorder.signal(result);
        Ok(set.jti().to_owned())
    }

    /// Ends the tasks of somebody that were opened until then; how many. Durable when it returns.
    async fn end(
        &self,
        sender: &SignalSender,
        subject: &EventSubject,
        (reason, as_of): (&str, Timestamp),
    ) -> Result<usize, StoreError> {
        let subject = match subject {
            EventSubject::Owner(name) => Subject::Owner(name.clone()),
            EventSubject::Agent(name) => Subject::Agent(name.clone()),
        };
        let request = RevocationRequest {
            subject,
            reason: reason.to_owned(),
            by: sender.issuer().to_owned(),
            stays: false,
            until: None,
            as_of: Some(as_of),
        };
        // Tokens first: none opens a task anew behind those that end. A store that fails keeps neither from its effect.
        let cut_off = self.tasks.cut_off(&request.subject, as_of).await;
        let (outcome, durable) = match self.tasks.revoke(request).await {
            Ok(outcome) => (outcome, Ok(())),
            Err(Undurable { outcome, error }) => (*outcome, Err(error)),
        };
        let ended = outcome.tasks.len();
        if ended > 0 {
            // Upstreams may be slow to take leases back; the ledger forgets none.
            let (leases, recorder) = (Arc::clone(&self.leases), self.recorder.clone());
            tokio::spawn(async move {
                revocation::conclude(outcome, &leases, &recorder).await;
            });
        }
        cut_off.and(durable)?;
        Ok(ended)
    }
}

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

/// The event, in a word, if it ends what its subject's session or credential allowed. Every other one is acknowledged.
fn ends(uri: &str, event: &Map<String, Value>) -> Option<&'static str> {
    if let Some(kind) = uri.strip_prefix(CAEP) {
        return match kind {
            "session-revoked" => Some("session-revoked"),
            "credential-change" => {
                let change = event.get("change_type").and_then(Value::as_str);
                // What was made or renewed takes nothing away (CAEP 1.0 section 3.3).
                matches!(change, Some("revoke" | "delete")).then_some("credential-change")
            }
            _ => None,
        };
    }
    match uri.strip_prefix(RISC)? {
        "account-disabled" => Some("account-disabled"),
        "account-purged" => Some("account-purged"),
        _ => None,
    }
}

/// When it happened: as the event says, or else when it was told; never after that, nor in time to come.
fn happened_at(event: &Map<String, Value>, issued_at: i64) -> Timestamp {
    let said = event.get("event_timestamp").and_then(Value::as_f64);
    // CAEP 1.0 section 2: seconds. A fraction of one is a whole one here: doubt ends.
    let said = said.map(|seconds| seconds.ceil() as i64);
    let at = Timestamp::from_second(said.unwrap_or(issued_at).min(issued_at));
    let now = Timestamp::now();
    at.unwrap_or(now).min(now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests read better without `&`"
    )]
    fn check(uri: &str, event: Value, expect: Option<&str>) {
        assert_eq!(ends(uri, event.as_object().unwrap()), expect, "{uri}");
    }

    #[test]
    fn what_is_taken_away_ends_tasks() {
        let caep = |kind: &str| format!("{CAEP}{kind}");
        check(&caep("session-revoked"), json!({}), Some("session-revoked"));
        let change = |how: &str| json!({ "change_type": how });
        let uri = caep("credential-change");
        check(&uri, change("revoke"), Some("credential-change"));
        check(&uri, change("delete"), Some("credential-change"));
        check(&uri, change("create"), None);
        check(&uri, change("update"), None);
        check(&uri, json!({}), None);
        check(
            &format!("{RISC}account-disabled"),
            json!({}),
            Some("account-disabled"),
        );
    }

    #[test]
    fn everything_else_is_noted() {
        check(&format!("{CAEP}session-established"), json!({}), None);
        check(&format!("{CAEP}session-revoked/"), json!({}), None);
        let ssf = "https://schemas.openid.net/secevent/ssf/event-type/";
        check(&format!("{ssf}verification"), json!({"state": "x"}), None);
        check(&format!("{ssf}stream-updated"), json!({}), None);
        check("session-revoked", json!({}), None);
    }

    #[test]
    fn nothing_happened_in_time_to_come() {
        let at = |event: Value| happened_at(event.as_object().unwrap(), 1000).as_second();
        assert_eq!(at(json!({})), 1000);
        assert_eq!(at(json!({"event_timestamp": 900})), 900);
        assert_eq!(at(json!({"event_timestamp": 899.5})), 900);
        let now = Timestamp::now().as_second();
        assert!(at(json!({"event_timestamp": now + 3600})) <= now + 1);
        assert!(at(json!({"event_timestamp": 1e300})) <= now + 1);
    }
}
