//! An upstream credential with its life: what it belongs to, when it ends, how it looks from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use parking_lot::RwLock;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tasks::{Access, TaskId, ToolName};
use tokio_util::sync::CancellationToken;

use crate::context::{Circumstances, Context};
use crate::{Injection, Material, Provider, Revocation, Scrubber, Wish};

/// What one call wants a lease for, borrowed from its permit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) agent: &'a str,
    pub(crate) task: &'a TaskId,
    pub(crate) owner: &'a str,
    pub(crate) tool: &'a ToolName,
    pub(crate) access: Access,
    pub(crate) scopes: &'a [String],
    pub(crate) narrow: &'a Map<String, Value>,
    pub(crate) circumstances: Circumstances<'a>,
    /// The decision's longest life, in seconds.
    pub(crate) ttl_seconds: Option<u64>,
    /// When the task expires, in seconds since the epoch.
    pub(crate) task_expires_at: i64,
    pub(crate) task_ended: &'a CancellationToken,
    /// Cancelled when the call itself is cut.
    pub(crate) cut: &'a CancellationToken,
    pub(crate) decision: &'a str,
}

impl Asking<'_> {
    pub(crate) fn task_is_over(&self, now: i64) -> bool {
        self.task_expires_at <= now || self.task_ended.is_cancelled() || self.cut.is_cancelled()
    }

    /// The longest life, in seconds: the decision's, capped by the task.
    pub(crate) fn ttl(&self, now: i64) -> u64 {
        let task = u64::try_from(self.task_expires_at.saturating_sub(now)).unwrap_or(0);
        self.ttl_seconds.map_or(task, |decided| decided.min(task))
    }

    pub(crate) fn wish(&self, now: i64) -> Wish {
        Wish {
            agent: self.agent.to_owned(),
            task: self.task.clone(),
            owner: self.owner.to_owned(),
            tool: self.tool.clone(),
            access: self.access,
            scopes: self.scopes.to_vec(),
            narrow: self.narrow.clone(),
            ttl_seconds: self.ttl(now),
        }
    }
}

/// A provider with what every call would otherwise ask of it anew.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) digest: Arc<str>,
}

impl Source {
    pub(crate) fn new(provider: Arc<dyn Provider>) -> Self {
        let digest = provider.digest().into();
        Self { provider, digest }
    }
}

/// What a lease belongs to: calls that differ in any of it never share one.
///
/// The narrowing is kept whole rather than as a digest, so that two of them can't collide; the decision's life is
/// part of it, so that a call is never given a lease that lives longer than its own decision says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeaseKey {
    pub(crate) agent: String,
    pub(crate) task: TaskId,
    pub(crate) tool: ToolName,
    pub(crate) access: Access,
    pub(crate) scopes: Vec<String>,
    pub(crate) narrow: Map<String, Value>,
    pub(crate) ttl_seconds: Option<u64>,
    /// The provider's name.
    pub(crate) provider: String,
    /// The digest of the provider's config.
    pub(crate) config: String,
    /// What it was obtained under.
    #[serde(default)]
    pub(crate) context: Context,
}

impl LeaseKey {
    pub(crate) fn new(asking: &Asking<'_>, source: &Source) -> Self {
        Self {
            agent: asking.agent.to_owned(),
            task: asking.task.clone(),
            tool: asking.tool.clone(),
            access: asking.access,
            scopes: asking.scopes.to_vec(),
            narrow: asking.narrow.clone(),
            ttl_seconds: asking.ttl_seconds,
            provider: source.provider.name().to_owned(),
            config: source.digest.to_string(),
            context: asking.circumstances.context(),
        }
    }

    /// Whether a call belongs here. Allocates nothing.
    pub(crate) fn fits(&self, asking: &Asking<'_>, source: &Source) -> bool {
        self.access == asking.access
            && self.tool == *asking.tool
            && self.ttl_seconds == asking.ttl_seconds
            && *self.config == *source.digest
            && self.provider == source.provider.name()
            && self.agent == asking.agent
            && self.task == *asking.task
            && self.scopes == asking.scopes
            && self.narrow == *asking.narrow
            && self.context.fits(&asking.circumstances)
    }
}

/// How far a lease is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// The provider is being asked: a secret may exist.
    Obtaining,
    /// A secret exists.
    Active,
    /// It could not be taken back yet, and is tried again.
    Ending,
    /// It could not be taken back for so long that it is not tried any more: its secret may live on.
    Orphaned,
    /// It was taken back, died or was dropped.
    Ended,
}

/// Why a lease could not be taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// The upstream did not do it.
    Failed,
    /// The provider took too long.
    Timeout,
    /// The provider panicked.
    Panic,
    /// Its provider is not in the config any more.
    ProviderGone,
}

impl Failure {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
            Self::ProviderGone => "provider_gone",
        }
    }
}

/// How far the taking back of a lease is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ending {
    /// When it was first tried, in seconds since the epoch.
    pub(crate) since: i64,
    pub(crate) attempts: u32,
    /// What came of the last one.
    pub(crate) error: Failure,
}

/// How long a lease is tried to be taken back, in seconds: a day, by when somebody has looked.
const TRIED: i64 = 24 * 60 * 60;

/// The pause after the first failure to take back, and the longest, in seconds.
const FIRST_PAUSE: i64 = 5;
const LONGEST_PAUSE: i64 = 10 * 60;

impl Ending {
    /// When it is tried again: twice as late each time, and not all at once.
    pub(crate) fn due(&self, now: i64) -> i64 {
        let doublings = self.attempts.saturating_sub(1).min(16);
        let pause = (FIRST_PAUSE << doublings).min(LONGEST_PAUSE);
        now.saturating_add(spread(pause))
    }
}

/// Between half of a pause and all of it, by chance.
fn spread(pause: i64) -> i64 {
    let mut byte = [0_u8];
    // Without randomness they come together.
    let chance = SystemRandom::new()
        .fill(&mut byte)
        .map_or(255, |()| i64::from(byte[0]));
    pause / 2 + (pause - pause / 2) * chance / 255
}

/// One line of the ledger. It holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// A `UUIDv7`, so that ids sort by age.
    pub(crate) id: String,
    pub(crate) key: LeaseKey,
    pub(crate) state: State,
    pub(crate) outcome: Option<Revocation>,
    pub(crate) handle: Option<String>,
    /// The decision that first obtained it.
    pub(crate) decision: String,
    /// Seconds since the epoch, as all times here.
    pub(crate) obtained_at: i64,
    /// When the gateway stops using it; never after the task's end.
    pub(crate) ends_at: i64,
    /// When the secret dies by itself.
    pub(crate) dies_at: Option<i64>,
    /// Since it could not be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ending: Option<Ending>,
}

impl Line {
    pub(crate) fn dead(&self, now: i64) -> bool {
        self.dies_at.is_some_and(|dies_at| dies_at <= now)
    }

    /// The line once it is known what became of the lease.
    pub(crate) fn ended(&self, outcome: Revocation) -> Self {
        Self {
            state: State::Ended,
            outcome: Some(outcome),
            ..self.clone()
        }
    }

    /// The line once the lease could not be taken back: it is tried again, or not any more.
    pub(crate) fn failed(&self, error: Failure, now: i64) -> Self {
        let before = self.ending;
        let since = before.map_or(now, |before| before.since);
        let attempts = before.map_or(0, |before| before.attempts).saturating_add(1);
        let is_over = now.saturating_sub(since) >= TRIED;
        Self {
            state: if is_over {
                State::Orphaned
            } else {
                State::Ending
            },
            outcome: None,
            ending: Some(Ending {
                since,
                attempts,
                error,
            }),
            ..self.clone()
        }
    }

    /// `active`, `ending`, `orphaned`, `ended`.
    fn shown(&self, now: i64) -> &'static str {
        if self.dead(now) {
            return "ended";
        }
        match self.state {
            State::Ended => "ended",
            State::Obtaining | State::Active => "active",
            State::Ending => "ending",
            State::Orphaned => "orphaned",
        }
    }

    pub(crate) fn view(&self, now: i64) -> LeaseView {
        let outcome = if self.state != State::Ended && self.dead(now) {
            Some(Revocation::ExpiresAt)
        } else {
            self.outcome
        };
        LeaseView {
            id: self.id.clone(),
            agent: self.key.agent.clone(),
            task: self.key.task.clone(),
            tool: self.key.tool.clone(),
            access: self.key.access,
            scopes: self.key.scopes.clone(),
            provider: self.key.provider.clone(),
            state: self.shown(now).to_owned(),
            outcome: outcome.map(|outcome| outcome.as_str().to_owned()),
            obtained_at: rfc3339(self.obtained_at),
            expires_at: Some(rfc3339(self.ends_at)),
            decision: self.decision.clone(),
        }
    }

    pub(crate) fn detail(&self, now: i64, next_attempt_at: Option<i64>) -> LeaseDetail {
        LeaseDetail {
            lease: self.view(now),
            narrow: self.key.narrow.clone(),
            ttl_seconds: self.key.ttl_seconds,
            context: self.key.context.clone(),
            has_handle: self.handle.is_some(),
            dies_at: self.dies_at.map(rfc3339),
            attempts: self.ending.map_or(0, |ending| ending.attempts),
            last_error: self.ending.map(|ending| ending.error.as_str().to_owned()),
            ending_since: self.ending.map(|ending| rfc3339(ending.since)),
            next_attempt_at: next_attempt_at.map(rfc3339),
        }
    }
}

/// A lease whose secret is in memory. Its line is in the ledger.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: Arc<str>,
    pub(crate) line: Arc<Line>,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) material: Material,
    /// From when on a new one is obtained instead.
    pub(crate) stale_at: i64,
    /// From when on a new one is obtained while this one is used still; the end of time while that is under way.
    renew_at: AtomicI64,
    /// How often that failed.
    failed_renewals: AtomicU32,
    /// What keeps the secret out of answers, and for which injection it was made.
    scrubber: RwLock<Option<Scrubbing>>,
}

/// How secrets that go somewhere are kept out of answers; none where all are too short to be looked for.
#[derive(Debug)]
struct Scrubbing {
    /// The leases that are used together, and where each goes.
    parts: Vec<(Arc<str>, Arc<[Injection]>)>,
    scrubber: Option<Arc<Scrubber>>,
}

/// A lease that a call uses, and where its secret goes.
pub(crate) type Part<'a> = (&'a Arc<Lease>, &'a Arc<[Injection]>);

/// How long before a secret dies it is no longer given out, in seconds: room for the call to reach the upstream
/// and for two clocks that differ. Of a short life at most the half, or such a lease would never be used twice.
const MARGIN: i64 = 10;

/// How long before it is not given out any more a secret is obtained anew, in seconds: more than a slow provider needs.
/// Of a short life at most the half of what it is given out for.
const AHEAD: i64 = 10;

impl Lease {
    pub(crate) fn new(line: Arc<Line>, provider: Arc<dyn Provider>, material: Material) -> Self {
        let dying_at = line.dies_at.map_or(i64::MAX, |dies_at| {
            let life = dies_at.saturating_sub(line.obtained_at);
            dies_at.saturating_sub(MARGIN.min(life / 2))
        });
        let stale_at = dying_at.min(line.ends_at);
        let ends_at = line.dies_at.unwrap_or(i64::MAX).min(line.ends_at);
        // The last fifth of its life, which is the more the longer it lives.
        let last_part = ends_at.saturating_sub(ends_at.saturating_sub(line.obtained_at) / 5);
        let half = stale_at.saturating_sub(stale_at.saturating_sub(line.obtained_at) / 2);
        let renew_at = last_part.min(stale_at.saturating_sub(AHEAD)).max(half);
        Self {
            id: line.id.as_str().into(),
            stale_at,
            renew_at: AtomicI64::new(renew_at),
            failed_renewals: AtomicU32::new(0),
            line,
            provider,
            material,
            scrubber: RwLock::new(None),
        }
    }

    /// What keeps the secrets of a call out of its answer: made for the first call, and anew when a reload injects them
    /// elsewhere. Kept by the first of the leases, of which this is one.
    pub(crate) fn scrubber<'a>(
        &self,
        parts: impl Iterator<Item = Part<'a>> + Clone,
    ) -> Option<Arc<Scrubber>> {
        if let Some(made) = &*self.scrubber.read()
            && made.is_of(parts.clone())
        {
            return made.scrubber.clone();
        }
        let materials = parts
            .clone()
            .map(|(lease, injections)| (&lease.material, &**injections));
        let scrubber = Scrubber::new(materials).map(Arc::new);
        if scrubber.is_none()
            && parts
                .clone()
                .any(|(lease, _)| lease.material.secrets().next().is_some())
        {
            tracing::warn!(lease = %self.id, tool = %self.line.key.tool, "secret is too short to be kept out of answers");
        }
        let parts =
            parts.map(|(lease, injections)| (Arc::clone(&lease.id), Arc::clone(injections)));
        *self.scrubber.write() = Some(Scrubbing {
            parts: parts.collect(),
            scrubber: scrubber.clone(),
        });
        scrubber
    }

    pub(crate) fn fresh(&self, now: i64) -> bool {
        now < self.stale_at
    }

    /// Whether it is time to obtain another one meanwhile. Yes to one caller, who then does so, or says that it failed.
    pub(crate) fn claim_renewal(&self, asking: &Asking<'_>, now: i64) -> bool {
        let renew_at = self.renew_at.load(Ordering::Relaxed);
        // A task that is over by then needs none.
        now >= renew_at
            && asking.task_expires_at.saturating_sub(self.line.ends_at) > MARGIN
            && self
                .renew_at
                .compare_exchange(renew_at, i64::MAX, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Makes it time.
    #[cfg(test)]
    pub(crate) fn renew_now(&self) {
        self.renew_at.store(0, Ordering::Relaxed);
    }

    /// The other one could not be had: it is tried again, twice as late each time.
    pub(crate) fn renewal_failed(&self, now: i64) {
        let failed = self.failed_renewals.fetch_add(1, Ordering::Relaxed);
        let pause = spread((1_i64 << failed.min(16)).min(LONGEST_PAUSE));
        self.renew_at
            .store(now.saturating_add(pause.max(1)), Ordering::Relaxed);
    }

    /// When it ends, RFC 3339.
    pub(crate) fn expires_at(&self) -> String {
        rfc3339(self.line.ends_at)
    }
}

impl Scrubbing {
    /// Whether it was made for these. Allocates nothing.
    fn is_of<'a>(&self, parts: impl Iterator<Item = Part<'a>>) -> bool {
        let mut made = self.parts.iter();
        let is_same = parts.into_iter().all(|(lease, injections)| {
            made.next()
                .is_some_and(|(id, made)| *id == lease.id && Arc::ptr_eq(made, injections))
        });
        is_same && made.next().is_none()
    }
}

/// What a lease looks like from outside; the shape of the control API. It holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its id.
    pub id: String,
    /// Whose.
    pub agent: String,
    /// For which task.
    pub task: TaskId,
    /// For which tool.
    pub tool: ToolName,
    /// For which access class.
    pub access: Access,
    /// Scopes, sorted.
    pub scopes: Vec<String>,
    /// `static`, `cmd`…
    pub provider: String,
    /// `active`, `ending` while it is tried to be taken back again, `orphaned` if that was given up, `ended`.
    pub state: String,
    /// When ended: `revoked`, `expires_at`, `drop_only`.
    pub outcome: Option<String>,
    /// RFC 3339.
    pub obtained_at: String,
    /// RFC 3339; when the gateway stops using it, never after the task's end.
    pub expires_at: Option<String>,
    /// The decision that first obtained it.
    pub decision: String,
}

/// Everything that is known of one lease, but its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseDetail {
    /// What the list says of it.
    #[serde(flatten)]
    pub lease: LeaseView,
    /// The decision's further narrowing.
    pub narrow: Map<String, Value>,
    /// The longest life that the decision gave it, in seconds.
    pub ttl_seconds: Option<u64>,
    /// What it was obtained under.
    pub context: Context,
    /// Whether its provider left something to take it back by.
    pub has_handle: bool,
    /// When the secret dies by itself, RFC 3339; none if it never does or that is not known.
    pub dies_at: Option<String>,
    /// How often it could not be taken back.
    pub attempts: u32,
    /// What came of the last attempt: `failed`, `timeout`, `panic`, `provider_gone`.
    pub last_error: Option<String>,
    /// Since when it is tried to be taken back, RFC 3339.
    pub ending_since: Option<String>,
    /// When it is tried again, RFC 3339.
    pub next_attempt_at: Option<String>,
}

/// Now, in seconds since the epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn rfc3339(epoch: i64) -> String {
    jiff::Timestamp::from_second(epoch)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}
