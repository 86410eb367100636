//! What the gateway tells of itself.

use serde::{Deserialize, Serialize};
use tasks::{Access, ToolName};

use crate::bundle_board::BundleStatus;

/// What the gateway tells of itself, set by the gateway with each configuration it applies or refuses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Counts the configurations applied since the start, from 1.
    pub revision: u64,
    /// The applied configuration; none if it has no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigStatus>,
    /// What became of the last reload; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<ReloadStatus>,
    /// Where it listens.
    pub listeners: Vec<ListenerStatus>,
    /// What is right but worth a look, of configuration and policy.
    pub warnings: Vec<String>,
}

/// A configuration that was applied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its file.
    pub path: String,
    /// The SHA-256 of its text, in hex.
    pub hash: String,
    /// When it was applied, RFC 3339.
    pub applied_at: String,
}

/// What became of a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When, RFC 3339.
    pub at: String,
    /// Why it was not applied; none if it was.
    pub error: Option<String>,
}

/// A listening socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// `calls`, `control`…
    pub name: String,
    /// `address:port`, as bound.
    pub address: String,
}

/// The whole answer of `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// What the gateway tells of itself.
    #[serde(flatten)]
    pub status: Status,
    /// The revision of the policy that judges now.
    pub policy_revision: String,
    /// The bundles of the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundles: Vec<BundleStatus>,
    /// Static keys in use.
    pub bridges: Vec<BridgeStatus>,
    /// How many there are of what.
    pub counts: Counts,
}

/// A bridge to a static key, which somebody has to replace before its date.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// The tool.
    pub tool: ToolName,
    /// The access class.
    pub access: Access,
    /// The last day on which it is used, `YYYY-MM-DD`.
    pub until: String,
    /// Days left in UTC; negative once calls are refused.
    pub days_left: i32,
}

/// How many there are of what.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Tasks that are open.
    pub open_tasks: u64,
    /// Tasks that have ended and are still known.
    pub ended_tasks: u64,
    /// Leases that are active.
    pub active_leases: u64,
    /// Leases that could not be taken back yet.
    #[serde(default)]
    pub ending_leases: u64,
    /// Leases that nobody could take back: their secrets may live on.
    #[serde(default)]
    pub orphaned_leases: u64,
    /// Operators.
    pub operators: u64,
}
