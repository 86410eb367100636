//! `tasks`: how long tasks live, who signs their tokens, where they are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::{AgentPattern, OwnerOfRecord, OwnersOfRecord};
use credentials::SecretRef;
use http::HeaderName;
use identity::TransactionIssuerConfig;
use serde_json::{Value, json};
use tasks::{DeclarationHeaders, DelegationBounds, GateBounds, Rate};
use url::Url;

use super::mistake::{At, Notes};
use super::scalar::Count;
use super::shape::{Here, Shape, section};
use super::tools::is_loopback;
use super::transactions::{self, RawTransactionIssuer};

/// What the book of tasks is made of.
#[derive(Clone, Debug)]
pub struct TasksConfig {
    /// The key that signs task tokens; made and kept in the state folder unless given.
    pub signing_key: Option<SecretRef>,
    /// The `iss` and `aud` of task tokens, and where OAuth clients reach the control listener. Unless given, the key
    /// names the issuer, and there is no OAuth.
    pub issuer: Option<Url>,
    /// Who answers for the tasks that agents open for themselves; nobody unless given.
    pub owners_of_record: OwnersOfRecord,
    /// Whose transaction tokens are believed.
    pub transaction_issuers: Vec<TransactionIssuerConfig>,
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
        /// The URL at which OAuth clients reach the control listener: `https://`, or `http://` on loopback. It becomes the `iss` and `aud` of task tokens. Unless given, the key names the issuer, and tasks are opened by the API alone.
        issuer: Url = optional;
        /// Who answers for the tasks that agents open for themselves by OAuth: the first that fits. Agents for whom there is none open no tasks.
        owners_of_record: Vec<At<RawOwnerOfRecord>> = default([]);
        /// Issuers whose transaction tokens open tasks: agents send them in `Txn-Token` beside their own credential, and nobody asks the control listener. Who may open what is admission policy's.
        transaction_issuers: Vec<At<RawTransactionIssuer>> = default([]);
        /// How long tasks live.
        ttl: RawTtl = default({});
        /// Where tasks, counters and leases are kept: `embedded:` and a folder. The state folder unless given.
        store: StoreConfig = optional;
        /// The headers in which agents declare their call.
        headers: RawHeaders = default({});
        /// How far agents may delegate parts of their tasks.
        delegation: RawDelegation = default({});
        /// How many tasks an agent may have open at once that it opened by OAuth, for itself and on behalf of people.
        open_by_agent: Count = default(1000);
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
    /// Who answers for the tasks that some agents open for themselves.
    struct RawOwnerOfRecord {
        /// The agent's id, or a pattern: `*` is any characters but `/`.
        agent: AgentPattern = required;
        /// The owner of the tasks.
        owner: String = required;
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
        if let Some(issuer) = &self.issuer {
            check_issuer(issuer, notes);
        }
        let ours = self.issuer.as_ref().map(|issuer| &issuer.value);
        let transactions = self.transaction_issuers?.value;
        let (transaction_issuers, adoption) = transactions::parse(transactions, ours, notes);
        let owners = self.owners_of_record?;
        if self.issuer.is_none() && !owners.value.is_empty() {
            let message = "no agent opens a task for itself without `tasks.issuer`";
            notes.warning(&owners.place, "no_issuer", message);
        }
        let owners = owners.value.into_iter();
        let owners = owners
            .filter_map(|owner| owner.value.parse(notes))
            .collect();
        Some(TasksConfig {
            signing_key: self.signing_key.map(|secret| secret.value),
            issuer: self.issuer.map(|url| url.value),
            owners_of_record: OwnersOfRecord::new(owners),
            transaction_issuers,
            store: self.store.map(|store| store.value),
            book: tasks::Config {
                ttl_default: ttl.default?.value,
                ttl_max: ttl.max?.value,
                headers: headers?,
                delegation: delegation?,
                agents: agents?,
                units: Vec::new(),
                own: self.open_by_agent?.value.0,
                adoption,
            },
        })
    }
}

impl TasksConfig {
    /// With budgets of what the answers of these tools tell.
    pub(super) fn counting(mut self, tools: &[super::ToolConfig]) -> Self {
        let meters = tools.iter().flat_map(|tool| &tool.tool.meters);
        for meter in meters {
            if !self.book.units.contains(&meter.unit) {
                self.book.units.push(meter.unit.clone());
            }
        }
        self
    }
}

/// Tokens are sent to it, and RFC 8414 section 2 lets it have neither a query nor a fragment.
fn check_issuer(issuer: &At<Url>, notes: &mut Notes) {
    let At { value: url, place } = issuer;
    if url.scheme() == "http" && !is_loopback(url) {
        let message = "tokens are sent there over `https://`; `http://` is for loopback";
        notes.mistake(place, "plaintext_issuer", message);
    }
    if url.query().is_some() || url.fragment().is_some() {
        let message = "an issuer has no query and no fragment";
        notes.mistake(place, "wrong_value", message);
    }
}

/// As long as the owner of a task may be.
const LONGEST_OWNER: usize = 256;

impl RawOwnerOfRecord {
    fn parse(self, notes: &mut Notes) -> Option<OwnerOfRecord> {
        let owner = self.owner?;
        let name = &owner.value;
        let is_name = !name.trim().is_empty()
            && name.chars().count() <= LONGEST_OWNER
            && !name.chars().any(char::is_control);
        if !is_name {
            let message = "an owner has 1 to 256 printable characters";
            notes.mistake(&owner.place, "wrong_value", message);
        }
        Some(OwnerOfRecord {
            agent: self.agent?.value,
            owner: owner.value,
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
const MEANT_OTHERWISE: [&str; 23] = [
    "dpop",
    "workload-identity-token",
    "workload-proof-token",
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
