//! Whom or what somebody revoked as a whole.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ToolName;

/// Whom or what somebody revokes as a whole.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An agent, by its name.
    Agent(String),
    /// Whoever vouches for agents or owners: the `iss` of their tokens, a SPIFFE trust domain, the issuer of certificates.
    Issuer(String),
    /// A tool.
    Tool(ToolName),
    /// An owner of tasks.
    Owner(String),
}

/// An issuer's name as names are compared: a `/` at its end makes no other one.
pub(crate) fn spelling(issuer: &str) -> &str {
    issuer.strip_suffix('/').unwrap_or(issuer)
}

impl Subject {
    /// `agent`, `issuer`, `tool`, `owner`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Issuer(_) => "issuer",
            Self::Tool(_) => "tool",
            Self::Owner(_) => "owner",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name) | Self::Issuer(name) | Self::Owner(name) => name,
            Self::Tool(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind(), self.name())
    }
}

/// A revocation that stands in the way: no task is opened, and no call goes through.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is revoked")]
pub struct Blocked(pub Subject);

/// What somebody revokes, and for how long.
#[derive(Clone, Debug)]
pub struct RevocationRequest {
    /// What.
    pub subject: Subject,
    /// Why, for whoever looks at it later.
    pub reason: String,
    /// Who revokes it.
    pub by: String,
    /// Whether it stays revoked; else what there is ends, and new tasks may be opened.
    pub stays: bool,
    /// Until when; until it is lifted unless given.
    pub until: Option<Timestamp>,
    /// Of when it is: tasks that were opened later are not meant. All there are unless given.
    pub as_of: Option<Timestamp>,
}

/// What was revoked, as it looks from outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevocationView {
    /// Its id.
    pub id: String,
    /// What: `agent`, `issuer`, `tool` or `owner`.
    #[serde(flatten)]
    pub subject: Subject,
    /// Why.
    pub reason: String,
    /// Who revoked it.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// Until when, RFC 3339; until it is lifted unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whether it stays revoked.
    pub block: bool,
}

/// A revocation as the store holds it. Times are milliseconds since the epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Revocation {
    #[serde(skip)]
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) subject: Subject,
    pub(crate) reason: String,
    pub(crate) by: String,
    pub(crate) at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<i64>,
    /// What was opened later is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<i64>,
    pub(crate) stays: bool,
}

impl Revocation {
    /// Whether it stands in the way now.
    pub(crate) fn stands(&self, now: i64) -> bool {
        self.stays && self.until.is_none_or(|until| now < until)
    }

    pub(crate) fn view(&self) -> RevocationView {
        RevocationView {
            id: self.id.clone(),
            subject: self.subject.clone(),
            reason: self.reason.clone(),
            by: self.by.clone(),
            at: rfc3339(self.at),
            until: self.until.map(rfc3339),
            block: self.stays,
        }
    }
}

fn rfc3339(millis: i64) -> String {
    Timestamp::from_millisecond(millis)
        .unwrap_or(Timestamp::MAX)
        .to_string()
}
