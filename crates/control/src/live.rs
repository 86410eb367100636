//! What a reload replaces, and how one is asked for.

use std::sync::Arc;

use credentials::Credentials;
use futures::future::BoxFuture;
use identity::{Identity, TaskTokens};
use policy::DecisionPoint;
use serde::{Deserialize, Serialize};
use url::Origin;

use crate::bundle_board::BundleBoard;
use crate::operators::Operators;
use crate::owners_of_record::OwnersOfRecord;
use crate::status::Status;

/// One applied configuration, as far as the control API sees it. Replaced whole, so that every
/// request is answered from one.
#[derive(Clone, Debug)]
pub struct Live {
    /// Admits tasks, and decides calls.
    pub policy: Arc<DecisionPoint>,
    /// Holds the leases and knows the bridges.
    pub credentials: Arc<Credentials>,
    /// Tells agents apart.
    pub identity: Arc<Identity>,
    /// Mints task tokens.
    pub tokens: Arc<TaskTokens>,
    /// Who may use the control API.
    pub operators: Arc<Operators>,
    /// Who answers for the tasks that agents open for themselves.
    pub owners_of_record: Arc<OwnersOfRecord>,
    /// Where agents call: what OAuth clients may name as the `resource` of a token (RFC 8707).
    pub resources: Arc<[Origin]>,
    /// What the gateway tells of itself.
    pub status: Status,
    /// How the bundles of the policy are; they change without a reload.
    pub bundles: Arc<BundleBoard>,
}

/// Applies the configuration anew: parses, compiles, tests, swaps. What is broken changes nothing.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<Reloaded, ReloadError>> + Send + Sync>;

/// What a reload applied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Counts the configurations applied since the start.
    pub revision: u64,
    /// The hash of the configuration, if it has a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// The revision of the policy.
    pub policy_revision: String,
    /// What is right but worth a look.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A configuration was not applied.
#[derive(Clone, Debug, thiserror::Error)]
#[error("configuration was not applied: {}", mistakes.join("; "))]
pub struct ReloadError {
    /// Every mistake, as `remit config check` prints it.
    pub mistakes: Vec<String>,
}
