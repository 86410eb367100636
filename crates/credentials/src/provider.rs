//! The seam to where secrets come from.

use std::fmt::Debug;

use serde_json::{Map, Value};
use tasks::{Access, TaskId, ToolName};

use crate::{ConsentLink, LeaseView, Material, Secret};

/// Obtains secrets from one kind of source. Strangers add implementations.
///
/// It is asked only for calls that policy allowed, at most once at a time for one lease, and is given up after
/// a minute. A panic counts as a failure.
#[async_trait::async_trait]
pub trait Provider: Send + Sync + Debug {
    /// `static`, `cmd`…
    fn name(&self) -> &'static str;
    /// A digest of its config: a lease of another config is not used.
    fn digest(&self) -> String;
    /// The end date, if this is a bridge to a legacy key.
    fn bridge_until(&self) -> Option<jiff::civil::Date> {
        None
    }
    /// Whether obtaining again gives the same secret, so that a lease goes on under its id after a restart.
    fn rereads(&self) -> bool {
        false
    }
    /// The issuer of whose token the provider exchanges, where it does that with the agent's own.
    fn exchanges(&self) -> Option<&str> {
        None
    }
    /// Obtains a secret.
    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError>;
    /// Obtains a secret for the token of [`Provider::exchanges`], if the agent showed one that can be exchanged.
    async fn obtain_for(
        &self,
        wish: &Wish,
        token: Option<&Secret>,
    ) -> Result<Obtained, ProviderError> {
        let _ = token;
        self.obtain(wish).await
    }
    /// Takes it back, where the upstream can. May be asked twice for one lease, and is after [`Revocation::Failed`].
    async fn revoke(&self, lease: &LeaseView) -> Revocation;
    /// Takes it back by the handle that came with it; as [`Provider::revoke`] unless the provider gives handles.
    async fn revoke_by_handle(&self, lease: &LeaseView, handle: &str) -> Revocation {
        let _ = handle;
        self.revoke(lease).await
    }
}

/// What a lease is wanted for.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Wish {
    /// Whose.
    pub agent: String,
    /// For which task.
    pub task: TaskId,
    /// On whose behalf.
    pub owner: String,
    /// For which tool.
    pub tool: ToolName,
    /// For which access class.
    pub access: Access,
    /// The decision's narrowing.
    pub scopes: Vec<String>,
    /// The provider's own narrowing.
    pub narrow: Map<String, Value>,
    /// The longest life: the decision's, capped by the task.
    pub ttl_seconds: u64,
}

/// What was obtained.
#[derive(Debug)]
pub struct Obtained {
    /// What must not be seen.
    pub material: Material,
    /// Seconds it lives; none if it never expires by itself.
    pub ttl_seconds: Option<u64>,
    /// What the provider needs to revoke it; it goes into the ledger. No secret, unless sealed.
    pub handle: Option<String>,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The upstream took it back.
    Revoked,
    /// It dies by itself.
    ExpiresAt,
    /// It was dropped here; the upstream still takes it.
    DropOnly,
    /// The upstream could take it back and did not this time: to be asked again. No lease ends with it.
    Failed,
}

impl Revocation {
    /// The name in the ledger, the control API and telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::ExpiresAt => "expires_at",
            Self::DropOnly => "drop_only",
            Self::Failed => "failed",
        }
    }
}

/// A secret could not be obtained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The bridge's date is over.
    #[error("bridge ended on {0}")]
    BridgeExpired(jiff::civil::Date),
    /// The owner of the task has to consent first.
    #[error("owner has not consented")]
    ConsentRequired(ConsentLink),
    /// It was asked, and what came of it is not known: a secret may exist that nobody holds. No secret in the text.
    #[error("{0}")]
    Lost(String),
    /// Anything else; no secret in the text.
    #[error("{0}")]
    Failed(String),
}

impl ProviderError {
    /// What failed after a secret was made, or may have been.
    pub(crate) fn lost(self) -> Self {
        match self {
            Self::Failed(cause) => Self::Lost(cause),
            Self::BridgeExpired(_) | Self::ConsentRequired(_) | Self::Lost(_) => self,
        }
    }
}

/// A digest of the texts that make a config: SHA-256, hex.
pub(crate) fn digest(texts: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for text in texts {
        // Lengths keep `a b`, `c` apart from `a`, `b c`.
        context.update(&text.len().to_le_bytes());
        context.update(text.as_bytes());
    }
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
