//! How the transactions of another issuer become tasks.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use identity::{Agent, AgentId, AgentTemplate};
use serde_json::{Map, Value};

use crate::delegation::distinct;
use crate::facts::Issued;
use crate::{Grant, InvalidOpening, Limits, OpeningRequest};

/// How the transactions of one issuer become tasks. What it does not say a task does not get.
#[derive(Clone, Debug)]
pub struct AdoptionRules {
    /// The issuer, as `identity::Transaction` spells it.
    pub issuer: String,
    /// Makes the owner.
    pub owner: AgentTemplate,
    /// Makes the purpose; there is none unless given.
    pub purpose: Option<AgentTemplate>,
    /// Makes the grants.
    pub grants: GrantsFrom,
    /// The labels of all of its tasks.
    pub labels: Vec<String>,
    /// Where each attribute is from. One that a token does not have the task does not have.
    pub attributes: BTreeMap<String, ClaimPath>,
    /// Where the limits are from, in the shape of the control API. A token that has none limits nothing.
    pub limits: Option<ClaimPath>,
    /// The longest life of a token.
    pub ttl_max: Duration,
    /// How many of its tasks may be open at once.
    pub open: usize,
}

/// Where grants are from.
#[derive(Clone, Debug)]
pub enum GrantsFrom {
    /// A claim of authorization details (RFC 9396): those of type `remit_grant`. Others are for somebody else.
    Details(ClaimPath),
    /// What each scope of the `scope` claim stands for. Others are for somebody else.
    Scopes(BTreeMap<String, Vec<Grant>>),
}

/// The type of authorization details that are grants (RFC 9396 section 2).
const REMIT_GRANT: &str = "remit_grant";

/// A claim, or one within objects: `tctx.ticket`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimPath(Vec<String>);

/// A text that names no claim.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no claim")]
pub struct InvalidClaimPath(String);

impl FromStr for ClaimPath {
    type Err = InvalidClaimPath;

    fn from_str(text: &str) -> Result<Self, InvalidClaimPath> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_name = |name: &String| !name.is_empty() && !name.contains(['{', '}']);
        if names.iter().all(is_name) {
            Ok(Self(names))
        } else {
            Err(InvalidClaimPath(text.to_owned()))
        }
    }
}

impl ClaimPath {
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, deeper) = self.0.split_first()?;
        let mut names = deeper.iter();
        names.try_fold(claims.get(first)?, |value, name| {
            value.as_object()?.get(name)
        })
    }
}

/// A transaction that another issuer vouches for, and the agent that brought it: what is asked for by its first call.
#[derive(Clone, Debug)]
pub struct Adoption {
    pub(crate) agent: AgentId,
    pub(crate) issuer: String,
    pub(crate) txn: String,
    pub(crate) key: String,
    pub(crate) said: String,
    /// Who vouches for agent and transaction.
    pub(crate) issuers: Vec<String>,
    /// When its tokens were issued.
    pub(crate) issued: Issued,
    pub(crate) claims: Map<String, Value>,
    /// Seconds since the epoch.
    pub(crate) expires_at: i64,
}

impl Adoption {
    /// What an agent's transaction token asks for; none where it brought none of another issuer.
    pub fn new(agent: &Agent) -> Option<Self> {
        let transaction = agent.transaction()?;
        Some(Self {
            agent: agent.id().clone(),
            issuer: transaction.issuer().to_owned(),
            txn: transaction.txn().to_owned(),
            key: transaction.key().to_owned(),
            said: transaction.said().to_owned(),
            issuers: agent.issuers().map(str::to_owned).collect(),
            issued: Issued {
                owner: Some(transaction.issued_at()),
                agent: agent.issued_at(),
            },
            claims: transaction.claims().clone(),
            expires_at: transaction.expires_at(),
        })
    }

    /// Stands for issuer and `txn`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The wish that its claims make, to live for so many seconds.
    pub(crate) fn request(
        &self,
        rules: &AdoptionRules,
        ttl: u64,
    ) -> Result<OpeningRequest, Unadoptable> {
        let claims = &self.claims;
        let text = |what: &str, template: &AgentTemplate| {
            let text = template.fill_in(claims);
            text.map_err(|_| Unadoptable::Claims(format!("none makes the {what}")))
        };
        let attributes = rules.attributes.iter();
        let attributes = attributes
            .filter_map(|(name, path)| Some((name.clone(), path.find(claims)?.clone())))
            .collect();
        let limits = rules.limits.as_ref().and_then(|path| path.find(claims));
        let limits: Option<Limits> = limits
            .map(|limits| serde_json::from_value(limits.clone()))
            .transpose()
            .map_err(|error| Unadoptable::Claims(format!("limits: {error}")))?;
        Ok(OpeningRequest {
            agent: self.agent.as_str().to_owned(),
            owner: text("owner", &rules.owner)?,
            opener: None,
            issuers: distinct(self.issuers.clone()),
            issued: self.issued,
            cnf: None,
            purpose: match &rules.purpose {
                Some(template) => text("purpose", template)?,
                None => String::new(),
            },
            grants: rules.grants.of(claims)?,
            ttl_seconds: Some(ttl),
            limits: limits.unwrap_or_default(),
            attributes,
            labels: rules.labels.clone(),
        })
    }
}

impl GrantsFrom {
    fn of(&self, claims: &Map<String, Value>) -> Result<Vec<Grant>, Unadoptable> {
        let grants = match self {
            Self::Details(path) => details(path.find(claims))?,
            Self::Scopes(table) => {
                let scopes = claims.get("scope").and_then(Value::as_str);
                let scopes = scopes.unwrap_or_default().split(' ');
                scopes
                    .filter_map(|scope| table.get(scope))
                    .flatten()
                    .cloned()
                    .collect()
            }
        };
        if grants.is_empty() {
            return Err(Unadoptable::Claims("there are no grants".to_owned()));
        }
        Ok(grants)
    }
}

fn details(claim: Option<&Value>) -> Result<Vec<Grant>, Unadoptable> {
    let wrong = |problem: String| Unadoptable::Claims(format!("authorization details: {problem}"));
    let details = match claim {
        None => return Ok(Vec::new()),
        Some(claim) => claim.as_array(),
    };
    let details = details.ok_or_else(|| wrong("they are no list".to_owned()))?;
    let mut grants = Vec::new();
    for (place, detail) in details.iter().enumerate() {
        let detail = detail.as_object();
        let detail = detail.ok_or_else(|| wrong(format!("[{place}] is no object")))?;
        let Some(kind) = detail.get("type").and_then(Value::as_str) else {
            return Err(wrong(format!("[{place}] has no `type`")));
        };
        if kind != REMIT_GRANT {
            continue;
        }
        let mut grant = detail.clone();
        grant.remove("type");
        let grant = serde_json::from_value(Value::Object(grant));
        grants.push(grant.map_err(|error| wrong(format!("[{place}]: {error}")))?);
    }
    Ok(grants)
}

/// Why a transaction becomes no task.
#[derive(Debug, thiserror::Error)]
pub enum Unadoptable {
    /// The config does not name its issuer any more.
    #[error("no transactions of issuer `{0}` are taken")]
    UnknownIssuer(String),
    /// What its token says makes no task.
    #[error("claims of the transaction token make no task: {0}")]
    Claims(String),
    /// The same, or it is more than a task may have.
    #[error("claims of the transaction token make no task: {0}")]
    Opening(#[from] InvalidOpening),
    /// Its token is of before its owner's tokens count.
    #[error("token was revoked")]
    TokenRevoked,
    /// As many tasks of its issuer are open as may be.
    #[error("issuer `{issuer}` has {most} open tasks, as many as it may")]
    TooManyOpen {
        /// The issuer.
        issuer: String,
        /// How many.
        most: usize,
    },
    /// As many transactions of its issuer are remembered as can be.
    #[error("{most} transactions of issuer `{issuer}` are remembered, as many as can be")]
    TooManyRemembered {
        /// The issuer.
        issuer: String,
        /// How many.
        most: usize,
    },
}

#[cfg(test)]
mod tests;
