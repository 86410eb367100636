//! What never changes about a task, prepared once.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::entry::is_false;
use crate::{Grant, Limits, Origin, TaskId};

/// What never changes about a task, prepared once when it is opened or loaded.
pub struct Facts {
    id: TaskId,
    wish: Wish,
    opened_at: Time,
    expires_at: Time,
    expires_at_epoch: i64,
    opened_at_epoch: i64,
    prepared: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// What was asked for and admitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) agent: String,
    pub(crate) owner: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) openers: Vec<String>,
    /// Who vouched for whom it was opened by and for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) issuers: Vec<String>,
    #[serde(default, skip_serializing_if = "Issued::is_unknown")]
    pub(crate) issued: Issued,
    pub(crate) purpose: String,
    pub(crate) grants: Vec<Grant>,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) attributes: Map<String, Value>,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    /// What its tokens are bound to (RFC 7800).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cnf: Option<Value>,
    /// Whose transaction token opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    /// Whether its agent opened it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) own: bool,
    /// The task that it was delegated from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<TaskId>,
    /// The first of all that it was delegated from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<TaskId>,
    /// The agents that delegated it, the first of all first.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) chain: Arc<[String]>,
}

/// When the tokens were issued that a task was opened by, in seconds since the epoch: what is revoked of whoever held them
/// counts from then.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    /// The one that named its owner, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<i64>,
    /// The oldest that named its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<i64>,
}

impl Issued {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

fn is_empty(chain: &Arc<[String]>) -> bool {
    chain.is_empty()
}

impl Facts {
    /// Both times in seconds since the epoch; the last year is 9999, later ones are cut to it.
    pub(crate) fn new(id: TaskId, wish: Wish, opened_at: i64, expires_at: i64) -> Self {
        Self {
            id,
            wish,
            opened_at: Time::of(opened_at),
            expires_at: Time::of(expires_at),
            expires_at_epoch: expires_at,
            opened_at_epoch: opened_at,
            prepared: OnceLock::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// The agent that works on it.
    pub fn agent(&self) -> &str {
        &self.wish.agent
    }

    /// On whose behalf.
    pub fn owner(&self) -> &str {
        &self.wish.owner
    }

    /// The operators who opened it and what it was delegated from, where that is known.
    pub fn openers(&self) -> &[String] {
        &self.wish.openers
    }

    /// Who vouched for whom it was opened by and for, and for what it was delegated from; none where an operator opened it.
    pub fn issuers(&self) -> &[String] {
        &self.wish.issuers
    }

    /// When the tokens were issued that it was opened by.
    pub(crate) fn issued(&self) -> Issued {
        self.wish.issued
    }

    /// Whose transaction token opened it, if one did.
    pub fn origin(&self) -> Option<&Origin> {
        self.wish.origin.as_ref()
    }

    /// What for.
    pub fn purpose(&self) -> &str {
        &self.wish.purpose
    }

    /// What it may touch.
    pub fn grants(&self) -> &[Grant] {
        &self.wish.grants
    }

    /// What it may use up.
    pub fn limits(&self) -> &Limits {
        &self.wish.limits
    }

    /// Free attributes.
    pub fn attributes(&self) -> &Map<String, Value> {
        &self.wish.attributes
    }

    /// Labels.
    pub fn labels(&self) -> &[String] {
        &self.wish.labels
    }

    /// What its tokens are bound to (RFC 7800).
    pub fn cnf(&self) -> Option<&Value> {
        self.wish.cnf.as_ref()
    }

    /// The task that it was delegated from.
    pub fn parent(&self) -> Option<&TaskId> {
        self.wish.parent.as_ref()
    }

    /// The first of all that it was delegated from; itself, if nobody delegated it.
    pub fn root(&self) -> &TaskId {
        self.wish.root.as_ref().unwrap_or(&self.id)
    }

    /// The agents that delegated it, the first of all first.
    pub fn chain(&self) -> &Arc<[String]> {
        &self.wish.chain
    }

    /// When it was opened, RFC 3339 in UTC, to the second.
    pub fn opened_at(&self) -> &str {
        self.opened_at.as_str()
    }

    /// When it was opened, in seconds since the epoch.
    pub fn opened_at_epoch(&self) -> i64 {
        self.opened_at_epoch
    }

    /// When it expires, RFC 3339 in UTC, to the second.
    pub fn expires_at(&self) -> &str {
        self.expires_at.as_str()
    }

    /// When it expires, in seconds since the epoch.
    pub fn expires_at_epoch(&self) -> i64 {
        self.expires_at_epoch
    }

    /// A form of the facts that a caller wants to prepare once per task, such as its policy engine's own
    /// value of them. There is one place, for one type: whoever comes second with another type
    /// gets None.
    pub fn prepared<T: Any + Send + Sync>(&self, prepare: impl FnOnce(&Self) -> T) -> Option<&T> {
        self.prepared
            .get_or_init(|| Box::new(prepare(self)))
            .downcast_ref()
    }

    pub(crate) fn wish(&self) -> &Wish {
        &self.wish
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("id", &self.id)
            .field("wish", &self.wish)
            .field("opened_at", &self.opened_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A time as RFC 3339 writes it in UTC, to the second: a task is small enough to be held a million times.
#[derive(Clone, Copy, Debug)]
struct Time([u8; 20]);

impl Time {
    /// Seconds since the epoch; before it or after the year 9999 is the end of that.
    fn of(epoch: i64) -> Self {
        let last = Self(*b"9999-12-31T23:59:59Z");
        let time = Timestamp::from_second(epoch).map(|time| time.to_string());
        time.map_or(last, |time| time.as_bytes().try_into().map_or(last, Self))
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        let wish = serde_json::from_value(json!({
            "agent": "a", "owner": "o", "purpose": "p",
            "grants": [{"tool": "notes", "access": ["read"]}],
            "attributes": {"k": 1}, "labels": ["l"],
        }));
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        Facts::new(id, wish.unwrap(), 0, 60)
    }

    #[test]
    fn times_are_told_to_the_second() {
        let facts = facts();
        assert_eq!(facts.opened_at(), "1970-01-01T00:00:00Z");
        assert_eq!(facts.expires_at(), "1970-01-01T00:01:00Z");
        for beyond in [i64::MIN, -100_000_000_000, 253_402_300_800, i64::MAX] {
            assert_eq!(
                Time::of(beyond).as_str(),
                "9999-12-31T23:59:59Z",
                "{beyond}"
            );
        }
    }

    #[test]
    fn a_form_is_prepared_once() {
        let facts = facts();
        assert_eq!(facts.prepared(|_| 1_u8), Some(&1));
        assert_eq!(facts.prepared(|_| 2_u8), Some(&1));
        assert_eq!(facts.prepared(|_| "another type"), None);
    }
}
