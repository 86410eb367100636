//! An upstream credential with its life: what it belongs to, when it ends, how it looks from outside.

use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tasks::{Access, TaskId, ToolName};
use tokio_util::sync::CancellationToken;

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
    /// It was taken back, died or was dropped.
    Ended,
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
}

impl Line {
    pub(crate) fn dead(&self, now: i64) -> bool {
        self.dies_at.is_some_and(|dies_at| dies_at <= now)
    }

    pub(crate) fn view(&self, now: i64) -> LeaseView {
        let expired = self.state != State::Ended && self.dead(now);
        let outcome = if expired {
            Some(Revocation::ExpiresAt)
        } else {
            self.outcome
        };
        let ended = expired || self.state == State::Ended;
        LeaseView {
            id: self.id.clone(),
            agent: self.key.agent.clone(),
            task: self.key.task.clone(),
            tool: self.key.tool.clone(),
            access: self.key.access,
            scopes: self.key.scopes.clone(),
            provider: self.key.provider.clone(),
            state: if ended { "ended" } else { "active" }.to_owned(),
            outcome: outcome.map(|outcome| outcome.as_str().to_owned()),
            obtained_at: rfc3339(self.obtained_at),
            expires_at: Some(rfc3339(self.ends_at)),
            decision: self.decision.clone(),
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

impl Lease {
    pub(crate) fn new(line: Arc<Line>, provider: Arc<dyn Provider>, material: Material) -> Self {
        let dying_at = line.dies_at.map_or(i64::MAX, |dies_at| {
            let life = dies_at.saturating_sub(line.obtained_at);
            dies_at.saturating_sub(MARGIN.min(life / 2))
        });
        Self {
            id: line.id.as_str().into(),
            stale_at: dying_at.min(line.ends_at),
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
    /// `active`, `ended`.
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

/// Now, in seconds since the epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn rfc3339(epoch: i64) -> String {
    jiff::Timestamp::from_second(epoch)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}
