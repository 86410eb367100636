//! A wish to open a task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use identity::AgentId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::children::Place;
use crate::facts::{Issued, Wish};
use crate::quota::QuotaPlace;
use crate::{Amount, Blocked, Grant, Limits, Rate, TaskId};

// Our own bounds, so that a task stays small enough to be held in memory a million times.
const MAX_OWNER_CHARS: usize = 256;
const MAX_PURPOSE_BYTES: usize = 1024;
const MAX_GRANTS: usize = 100;
const MAX_OPERATIONS: usize = 100;
const MAX_ENVIRONMENT_CHARS: usize = 64;
const MAX_CONDITIONS_BYTES: usize = 16 * 1024;
const MAX_ATTRIBUTES_BYTES: usize = 8 * 1024;
pub(crate) const MAX_LABELS: usize = 32;
const MAX_LABEL_BYTES: usize = 64;
const MAX_RESOURCES: u64 = 256;
const MAX_UNITS: usize = 8;

/// A task that somebody asks to open: well formed, not yet admitted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpeningRequest {
    /// The agent that is to work on it.
    pub agent: String,
    /// On whose behalf; 1 to 256 characters.
    pub owner: String,
    /// Who opens it, by name: it approves none of the task's calls.
    #[serde(default)]
    pub opener: Option<String>,
    /// Who vouches for whoever opens it, and for whom: what of theirs is revoked takes it along.
    #[serde(skip)]
    pub issuers: Vec<String>,
    /// When the tokens of those were issued.
    #[serde(skip)]
    pub issued: Issued,
    /// What its tokens are bound to (RFC 7800); identity says what it may be.
    #[serde(default)]
    pub cnf: Option<Value>,
    /// What for, in the owner's words; at most 1 KiB.
    #[serde(default)]
    pub purpose: String,
    /// What it may touch; 1 to 100 grants.
    pub grants: Vec<Grant>,
    /// How long it lives, in seconds; the configured default unless given.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// What it may use up.
    #[serde(default)]
    pub limits: Limits,
    /// Free attributes, for policy; at most 8 KiB of JSON.
    #[serde(default)]
    pub attributes: Map<String, Value>,
    /// Labels, for policy; at most 32 of `[a-z0-9_-]{1,64}`.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// A well formed wish to open a task. Only admission turns it into a task, once.
///
/// ```compile_fail,E0599
/// fn twice(opening: tasks::Opening) -> (tasks::Opening, tasks::Opening) {
///     (opening.clone(), opening)
/// }
/// ```
/// ```compile_fail,E0451
/// fn forged(opening: tasks::Opening) -> tasks::Opening {
///     tasks::Opening { ..opening }
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Opening {
    pub(crate) wish: Wish,
    /// In seconds.
    pub(crate) ttl: u64,
    /// Among the children of its parent, if it is delegated.
    pub(crate) place: Option<Place>,
    /// Among those that its agent opened, if it did.
    pub(crate) own: Option<QuotaPlace>,
    /// The transaction that it is opened for, if it is.
    pub(crate) adopting: Option<Adopting>,
}

/// The transaction that a task is opened for.
#[derive(Debug)]
pub(crate) struct Adopting {
    pub(crate) key: String,
    pub(crate) said: String,
    /// When its token expires, in seconds since the epoch.
    pub(crate) not_after: i64,
    /// The longest life of a token of its issuer, in seconds.
    pub(crate) ttl_max: i64,
    pub(crate) place: QuotaPlace,
}

impl Opening {
    /// Checks a wish against the configured bounds.
    pub(crate) fn new(
        request: OpeningRequest,
        ttl_default: Duration,
        ttl_max: Duration,
    ) -> Result<Self, InvalidOpening> {
        check_agent(&request.agent)?;
        check_owner(&request.owner)?;
        check_purpose(&request.purpose)?;
        check_grants(&request.grants)?;
        check_limits(&request.limits, &request.grants)?;
        check_attributes(&request.attributes)?;
        check_labels(&request.labels)?;
        let ttl = check_ttl(request.ttl_seconds, ttl_default, ttl_max)?;
        let mut grants = request.grants;
        for grant in &mut grants {
            grant.access.sort_unstable();
            grant.access.dedup();
        }
        Ok(Self {
            wish: Wish {
                agent: request.agent,
                owner: request.owner,
                openers: request.opener.into_iter().collect(),
                issuers: request.issuers,
                issued: request.issued,
                purpose: request.purpose,
                grants,
                limits: request.limits,
                attributes: request.attributes,
                labels: request.labels,
                cnf: request.cnf,
                origin: None,
                own: false,
                parent: None,
                root: None,
                chain: Arc::default(),
            },
            ttl,
            place: None,
            own: None,
            adopting: None,
        })
    }

    /// The whole of it as admission policy sees it, under `input.task`.
    pub fn as_input(&self) -> Value {
        let wish = &self.wish;
        json!({
            "agent": wish.agent,
            "owner": wish.owner,
            "purpose": wish.purpose,
            "parent": wish.parent,
            "chain": wish.chain,
            "cnf": wish.cnf,
            "grants": wish.grants,
            "limits": wish.limits,
            "ttl_seconds": self.ttl,
            "attributes": wish.attributes,
            "labels": wish.labels,
        })
    }
}

/// Why a task can't be opened as asked.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOpening {
    /// A field is not what it must be.
    #[error("`{field}`: {problem}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// It would have more than the task that it is delegated from.
    #[error("`{field}`: {problem}")]
    Wider {
        /// Of what.
        field: &'static str,
        /// Where it is more.
        problem: String,
    },
    /// It would be delegated more often than that.
    #[error("a task is delegated {0} times at most, one from the other")]
    TooDeep(usize),
    /// Its parent has as many open children as it may.
    #[error("a task has {0} open children at most")]
    TooManyChildren(usize),
    /// As many tasks are open below the one that nobody delegated as there may be.
    #[error("{0} open tasks may hang below one that nobody delegated")]
    TooLargeFamily(usize),
    /// Its agent has as many open tasks that it opened as it may.
    #[error("an agent has {0} open tasks at most that it opened")]
    TooManyOpen(usize),
    /// Its agent delegated it itself.
    #[error("agent `{0}` is among those that delegate the task")]
    Loop(String),
    /// It is for, of, or vouched for by somebody who is revoked.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// What it would be delegated from ended, or is paused.
    #[error("task `{0}` is not open")]
    ParentNotOpen(TaskId),
}

fn require(
    holds: bool,
    field: &'static str,
    problem: impl FnOnce() -> String,
) -> Result<(), InvalidOpening> {
    if holds {
        Ok(())
    } else {
        let problem = problem();
        Err(InvalidOpening::Field { field, problem })
    }
}

fn check_agent(agent: &str) -> Result<(), InvalidOpening> {
    require(agent.parse::<AgentId>().is_ok(), "agent", || {
        "must be 1 to 2048 printable ASCII characters without spaces".to_owned()
    })
}

fn check_owner(owner: &str) -> Result<(), InvalidOpening> {
    let well_formed = !owner.trim().is_empty()
        && owner.chars().count() <= MAX_OWNER_CHARS
        && !owner.chars().any(char::is_control);
    require(well_formed, "owner", || {
        format!("must be 1 to {MAX_OWNER_CHARS} printable characters")
    })
}

fn check_purpose(purpose: &str) -> Result<(), InvalidOpening> {
    let control = |char: char| char.is_control() && char != '\n' && char != '\t';
    let well_formed = purpose.len() <= MAX_PURPOSE_BYTES && !purpose.chars().any(control);
    require(well_formed, "purpose", || {
        format!("must be at most {MAX_PURPOSE_BYTES} bytes without control characters")
    })
}

fn check_grants(grants: &[Grant]) -> Result<(), InvalidOpening> {
    require((1..=MAX_GRANTS).contains(&grants.len()), "grants", || {
        format!("must be 1 to {MAX_GRANTS} grants")
    })?;
    for grant in grants {
        let tool = &grant.tool;
        require(!grant.access.is_empty(), "grants.access", || {
            format!("must name an access class for `{tool}`")
        })?;
        require(
            grant.operations.len() <= MAX_OPERATIONS,
            "grants.operations",
            || format!("must be at most {MAX_OPERATIONS} patterns for `{tool}`"),
        )?;
        let environment = grant.environment.as_deref().unwrap_or("any");
        let well_formed = !environment.is_empty()
            && environment.chars().count() <= MAX_ENVIRONMENT_CHARS
            && !environment.chars().any(char::is_control);
        require(well_formed, "grants.environment", || {
            format!("must be 1 to {MAX_ENVIRONMENT_CHARS} printable characters for `{tool}`")
        })?;
        let limits = grant.check_limits();
        limits.map_err(|(field, problem)| InvalidOpening::Field { field, problem })?;
    }
    let arguments: Vec<_> = grants.iter().map(|grant| &grant.arguments).collect();
    let small = serde_json::to_vec(&arguments).is_ok_and(|json| json.len() <= MAX_CONDITIONS_BYTES);
    require(small, "grants.arguments", || {
        format!("must be at most {MAX_CONDITIONS_BYTES} bytes of JSON, in all grants")
    })
}

fn check_limits(limits: &Limits, grants: &[Grant]) -> Result<(), InvalidOpening> {
    let at_least_one = || "must be at least 1".to_owned();
    require(limits.calls != Some(0), "limits.calls", at_least_one)?;
    require(limits.bytes != Some(0), "limits.bytes", at_least_one)?;
    let is_some = limits
        .resources
        .is_none_or(|limit| (1..=MAX_RESOURCES).contains(&limit));
    require(is_some, "limits.resources", || {
        format!("must be 1 to {MAX_RESOURCES}")
    })?;
    let is_some = limits.budget.len() <= MAX_UNITS
        && limits.budget.values().all(|limit| *limit > Amount::ZERO);
    require(is_some, "limits.budget", || {
        format!("must be more than 0, of at most {MAX_UNITS} units")
    })?;
    let is_some = limits.concurrency != Some(0);
    require(is_some, "limits.concurrency", at_least_one)?;
    let is_rate = limits.rate.is_none_or(Rate::is_well_formed);
    require(is_rate, "limits.rate", || {
        "must be 1 to 60000000 in a minute and at once".to_owned()
    })?;
    require(
        limits.calls_by_access.values().all(|limit| *limit > 0),
        "limits.calls_by_access",
        at_least_one,
    )?;
    for (tool, limit) in &limits.calls_by_tool {
        let field = "limits.calls_by_tool";
        require(*limit > 0, field, at_least_one)?;
        // A limit on a tool that is not granted limits nothing: most likely a slip of the pen.
        let granted = grants.iter().any(|grant| grant.tool == *tool);
        require(granted, field, || format!("no grant is for `{tool}`"))?;
    }
    Ok(())
}

fn check_attributes(attributes: &Map<String, Value>) -> Result<(), InvalidOpening> {
    let small = serde_json::to_vec(attributes).is_ok_and(|json| json.len() <= MAX_ATTRIBUTES_BYTES);
    require(small, "attributes", || {
        format!("must be at most {MAX_ATTRIBUTES_BYTES} bytes of JSON")
    })
}

/// Whether a text may be a label: `[a-z0-9_-]{1,64}`.
pub fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

fn check_labels(labels: &[String]) -> Result<(), InvalidOpening> {
    let unique = labels.iter().collect::<BTreeSet<_>>().len() == labels.len();
    require(
        labels.len() <= MAX_LABELS && unique && labels.iter().all(|label| is_label(label)),
        "labels",
        || format!("must be at most {MAX_LABELS} different ones of `[a-z0-9_-]{{1,64}}`"),
    )
}

fn check_ttl(asked: Option<u64>, default: Duration, max: Duration) -> Result<u64, InvalidOpening> {
    let max = max.as_secs();
    let ttl = asked.unwrap_or_else(|| default.as_secs().clamp(1, max.max(1)));
    require((1..=max).contains(&ttl), "ttl_seconds", || {
        format!("must be 1 to {max}")
    })?;
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(change: &Value) -> Result<Opening, String> {
        let mut request = json!({
            "agent": "spiffe://example.org/a", "owner": "alice@example.org", "purpose": "demo",
            "grants": [{"tool": "notes", "access": ["write", "read", "read"]}],
        });
        for (key, value) in change.as_object().unwrap() {
            request[key] = value.clone();
        }
        let request = serde_json::from_value(request).map_err(|error| error.to_string())?;
        Opening::new(request, Duration::from_secs(900), Duration::from_secs(3600))
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests read better without `&`"
    )]
    fn check(change: Value, expect: Result<(), &str>) {
        let got = open(&change).map(drop);
        assert_eq!(got, expect.map_err(str::to_owned));
    }

    #[test]
    fn a_plain_wish_is_well_formed() {
        assert_eq!(
            open(&json!({})).unwrap().as_input(),
            json!({
                "agent": "spiffe://example.org/a", "owner": "alice@example.org", "purpose": "demo",
                "parent": null, "chain": [], "cnf": null,
                "grants": [{"tool": "notes", "access": ["read", "write"]}],
                "limits": {}, "ttl_seconds": 900, "attributes": {}, "labels": [],
            })
        );
    }

    #[test]
    fn an_agent_has_a_name() {
        let problem = "`agent`: must be 1 to 2048 printable ASCII characters without spaces";
        check(json!({"agent": ""}), Err(problem));
        check(json!({"agent": "a b"}), Err(problem));
    }

    #[test]
    fn an_owner_is_printable() {
        let problem = "`owner`: must be 1 to 256 printable characters";
        check(json!({"owner": ""}), Err(problem));
        check(json!({"owner": " "}), Err(problem));
        check(json!({"owner": "a\r\nb"}), Err(problem));
        check(json!({"owner": "é".repeat(257)}), Err(problem));
        check(json!({"owner": "é".repeat(256)}), Ok(()));
    }

    #[test]
    fn a_purpose_is_short() {
        let problem = "`purpose`: must be at most 1024 bytes without control characters";
        check(json!({"purpose": "x".repeat(1024)}), Ok(()));
        check(json!({"purpose": "x".repeat(1025)}), Err(problem));
        check(json!({"purpose": "a\u{1b}[2J"}), Err(problem));
        check(json!({"purpose": "two\nlines"}), Ok(()));
    }

    #[test]
    fn there_is_a_grant_and_not_too_many() {
        let grant = json!({"tool": "notes", "access": ["read"]});
        check(
            json!({"grants": []}),
            Err("`grants`: must be 1 to 100 grants"),
        );
        check(json!({"grants": vec![grant.clone(); 100]}), Ok(()));
        check(
            json!({"grants": vec![grant; 101]}),
            Err("`grants`: must be 1 to 100 grants"),
        );
    }

    #[test]
    fn a_grant_names_an_access_class() {
        check(
            json!({"grants": [{"tool": "notes", "access": []}]}),
            Err("`grants.access`: must name an access class for `notes`"),
        );
    }

    #[test]
    fn an_environment_is_named() {
        check(
            json!({"grants": [{"tool": "notes", "access": ["read"], "environment": ""}]}),
            Err("`grants.environment`: must be 1 to 64 printable characters for `notes`"),
        );
    }

    #[test]
    fn a_ttl_keeps_to_its_bounds() {
        check(json!({"ttl_seconds": 1}), Ok(()));
        check(json!({"ttl_seconds": 3600}), Ok(()));
        check(
            json!({"ttl_seconds": 0}),
            Err("`ttl_seconds`: must be 1 to 3600"),
        );
        check(
            json!({"ttl_seconds": 3601}),
            Err("`ttl_seconds`: must be 1 to 3600"),
        );
        check(
            json!({"ttl_seconds": u64::MAX}),
            Err("`ttl_seconds`: must be 1 to 3600"),
        );
    }

    #[test]
    fn a_limit_is_at_least_one() {
        check(
            json!({"limits": {"calls": 0}}),
            Err("`limits.calls`: must be at least 1"),
        );
        check(
            json!({"limits": {"calls_by_access": {"write": 0}}}),
            Err("`limits.calls_by_access`: must be at least 1"),
        );
        check(
            json!({"limits": {"calls_by_tool": {"notes": 0}}}),
            Err("`limits.calls_by_tool`: must be at least 1"),
        );
        check(
            json!({"limits": {"calls": 1, "calls_by_access": {"write": 1}, "calls_by_tool": {"notes": 1}}}),
            Ok(()),
        );
    }

    #[test]
    fn a_limit_is_on_a_granted_tool() {
        check(
            json!({"limits": {"calls_by_tool": {"nodes": 1}}}),
            Err("`limits.calls_by_tool`: no grant is for `nodes`"),
        );
    }

    #[test]
    fn attributes_are_small() {
        check(
            json!({"attributes": {"k": "x".repeat(8 * 1024 - 8)}}),
            Ok(()),
        );
        check(
            json!({"attributes": {"k": "x".repeat(8 * 1024 - 7)}}),
            Err("`attributes`: must be at most 8192 bytes of JSON"),
        );
    }

    #[test]
    fn labels_are_few_and_plain() {
        let problem = "`labels`: must be at most 32 different ones of `[a-z0-9_-]{1,64}`";
        let labels = |count: usize| (0..count).map(|n| format!("l{n}")).collect::<Vec<_>>();
        check(json!({"labels": labels(32)}), Ok(()));
        check(json!({"labels": labels(33)}), Err(problem));
        check(json!({"labels": ["a", "a"]}), Err(problem));
        check(json!({"labels": [""]}), Err(problem));
        check(json!({"labels": ["A"]}), Err(problem));
        check(json!({"labels": ["x".repeat(65)]}), Err(problem));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(
            open(&json!({"ttl": 5}))
                .unwrap_err()
                .starts_with("unknown field `ttl`")
        );
        assert!(open(&json!({"limits": {"call": 5}})).is_err());
    }

    #[test]
    fn an_odd_pattern_is_refused() {
        let grant = json!([{"tool": "notes", "access": ["read"], "operations": ["get /x"]}]);
        assert!(open(&json!({"grants": grant})).is_err());
    }
}
