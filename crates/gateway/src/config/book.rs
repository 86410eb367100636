//! `tasks`: how long tasks live, who signs their tokens, where they are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use credentials::SecretRef;
use http::HeaderName;
use serde_json::{Value, json};
use tasks::{DeclarationHeaders, DelegationBounds, GateBounds, Rate};
use url::Url;

use super::mistake::{At, Notes};
use super::scalar::Count;
use super::shape::{Here, Shape, section};

/// What the book of tasks is made of.
#[derive(Clone, Debug)]
pub struct TasksConfig {
    /// The key that signs task tokens; made and kept in the state folder unless given.
    pub signing_key: Option<SecretRef>,
    /// The `iss` and `aud` of task tokens; the gateway's own address unless given.
    pub issuer: Option<Url>,
    /// Where tasks are kept; in the state folder unless given.
    pub store: Option<StoreConfig>,
    /// Lives and headers.
    pub book: tasks::Config,
}

/// Where tasks, counters and leases are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StoreConfig {
    /// A folder of this machine, held by one process.
    Embedded(PathBuf),
}

section! {
    /// How long tasks live, who signs their tokens, where they are kept.
    struct RawTasks {
        /// The key that signs task tokens: a PKCS#8 PEM, P-256 or Ed25519. One is made in the state folder unless given.
        signing_key: SecretRef = optional;
        /// The `iss` and `aud` of task tokens; the gateway's own address unless given.
        issuer: Url = optional;
        /// How long tasks live.
        ttl: RawTtl = default({});
        /// Where tasks, counters and leases are kept: `embedded:` and a folder. The state folder unless given.
        store: StoreConfig = optional;
        /// The headers in which agents declare their call.
        headers: RawHeaders = default({});
        /// How far agents may delegate parts of their tasks.
        delegation: RawDelegation = default({});
        /// What bounds the calls of each agent, whatever their tasks.
        agents: RawGate = default({});
    }
}

section! {
    /// How often calls come, and how many at once.
    struct RawGate {
        /// How many in a minute.
        per_minute: Count = optional;
        /// How many of those at once; as many as in a minute unless given.
        burst: Count = optional;
        /// How many are under way at once.
        concurrency: Count = optional;
    }
}

impl RawGate {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<GateBounds> {
        let count = |count: At<Count>| u64::try_from(count.value.0).unwrap_or(u64::MAX);
        let rate = match (self.per_minute, self.burst) {
            (Some(per_minute), burst) => Some(Rate {
                per_minute: count(per_minute),
                burst: burst.map(count),
            }),
            (None, Some(burst)) => {
                let message = "`burst` is of a rate: say `per_minute`, too";
                notes.mistake(&burst.place, "wrong_value", message);
                return None;
            }
            (None, None) => None,
        };
        Some(GateBounds {
            rate,
            concurrency: self.concurrency.map(count),
        })
    }
}

section! {
    /// How far agents may delegate parts of their tasks.
    struct RawDelegation {
        /// How many delegations may lie between a task and the one that nobody delegated.
        depth: Count = default(4);
        /// How many open children a task may have at once.
        children: Count = default(16);
        /// How many open tasks there may be at once below one that nobody delegated.
        family: Count = default(64);
    }
}

section! {
    /// How long tasks live.
    struct RawTtl {
        /// The life of a task that asks for none.
        default: Duration = default("15m");
        /// The longest life that a task may ask for.
        max: Duration = default("1h");
    }
}

section! {
    /// The headers in which agents declare their call.
    struct RawHeaders {
        /// The task's id.
        task: HeaderName = default("agent-task");
        /// The tool, or `tool/operation`.
        tool: HeaderName = default("agent-tool");
        /// An RFC 9651 dictionary.
        context: HeaderName = default("agent-context");
    }
}

impl Shape for StoreConfig {
    fn schema() -> Value {
        json!({ "type": "string", "title": "store", "pattern": "^embedded:.",
                "examples": ["embedded:/var/lib/remit"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "`embedded:` and a folder, such as `embedded:/var/lib/remit`";
        match here.text(expects, notes)?.split_once(':') {
            Some(("embedded", folder)) if !folder.is_empty() && !folder.contains('\0') => {
                Some(Self::Embedded(notes.resolve(Path::new(folder))))
            }
            Some(("valkey" | "valkeys" | "redis" | "rediss", _)) => {
                notes.not_built(&here.place, "a Valkey store");
                None
            }
            Some(_) | None => here.wrong_value(format!("expected {expects}"), notes),
        }
    }
}

impl RawTasks {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<TasksConfig> {
        let ttl = self.ttl?.value;
        if let (Some(default), Some(max)) = (&ttl.default, &ttl.max)
            && default.value > max.value
        {
            notes.mistake(
                &default.place,
                "ttl_order",
                "`default` is longer than `max`",
            );
        }
        let headers = self.headers.and_then(|headers| headers.value.parse(notes));
        let agents = self.agents.and_then(|gate| gate.value.parse(notes));
        let delegation = self.delegation.and_then(|bounds| bounds.value.parse());
        Some(TasksConfig {
            signing_key: self.signing_key.map(|secret| secret.value),
            issuer: self.issuer.map(|url| url.value),
            store: self.store.map(|store| store.value),
            book: tasks::Config {
                ttl_default: ttl.default?.value,
                ttl_max: ttl.max?.value,
                headers: headers?,
                delegation: delegation?,
                agents: agents?,
            },
        })
    }
}

impl RawDelegation {
    fn parse(self) -> Option<DelegationBounds> {
        Some(DelegationBounds {
            depth: self.depth?.value.0,
            children: self.children?.value.0,
            family: self.family?.value.0,
        })
    }
}

impl RawHeaders {
    fn parse(self, notes: &mut Notes) -> Option<DeclarationHeaders> {
        let mut seen: Vec<&HeaderName> = Vec::new();
        for header in [&self.task, &self.tool, &self.context]
            .into_iter()
            .flatten()
        {
            if seen.contains(&&header.value) || MEANT_OTHERWISE.contains(&header.value.as_str()) {
                let message = format!("header `{}` has another meaning", header.value);
                notes.mistake(&header.place, "header_taken", message);
            }
            seen.push(&header.value);
        }
        Some(DeclarationHeaders {
            task: self.task?.value,
            tool: self.tool?.value,
            context: self.context?.value,
        })
    }
}

/// Headers that carry proofs, framing or routing: a declaration there would be read twice.
const MEANT_OTHERWISE: [&str; 20] = [
    "authorization",
    "proxy-authorization",
    "txn-token",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "traceparent",
    "tracestate",
    "remit-decision",
];
