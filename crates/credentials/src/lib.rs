//! With what?
//!
//! [`Credentials::issue`] turns a [`Permit`] into a [`Credential`]; [`Credential::inject`] turns that
//! into an [`Outbound`] request.
//!
//! **Invariant.** Nothing leaves the gateway but an [`Outbound`], and there is no other way to make
//! one. A lease belongs to one agent, task, tool, access class and scope, and does not outlive the task.

use std::sync::Arc;

use call::{Body, Tool};
use http::request::Parts;
use policy::Permit;
use tasks::{Access, Store, StoreError, TaskId, ToolName};

/// Gives out credentials, one binding per tool and access class, from leases.
#[derive(Debug)]
pub struct Credentials;
/// Every lease of this gateway; outlives a reload.
#[derive(Debug)]
pub struct Leases;
impl Leases {
    /// Loads the ledger; leases of tasks for which `open` says no are dropped.
    pub async fn load(
        _store: Arc<dyn Store>,
        _open: impl Fn(&TaskId) -> bool + Send + Sync,
    ) -> Result<Arc<Self>, StoreError> {
        todo!()
    }
    /// All leases, newest first.
    pub fn list(&self) -> Vec<LeaseView> {
        todo!()
    }
    /// Drops all leases of a task. Each answers with its outcome.
    pub async fn end(&self, _task: &TaskId) -> Vec<LeaseView> {
        todo!()
    }
}
/// What a lease looks like from outside; the shape of the control API. It holds no secret.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
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
    /// RFC 3339.
    pub expires_at: Option<String>,
    /// The decision that first obtained it.
    pub decision: String,
}

/// Which credential a tool takes for an access class.
#[derive(Debug)]
pub struct Binding {
    /// The tool.
    pub tool: ToolName,
    /// The access class.
    pub access: Access,
    /// Who obtains it.
    pub provider: Arc<dyn Provider>,
    /// Where it goes.
    pub injection: Injection,
}
/// Where a secret enters a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Injection {
    /// A header.
    Header {
        /// Its name.
        name: http::HeaderName,
        /// What comes before the secret, such as `Bearer `.
        prefix: String,
    },
    /// A query key.
    Query {
        /// Its name.
        key: String,
    },
    /// HTTP basic: the secret is the password.
    Basic {
        /// The user.
        user: String,
    },
}

impl Credentials {
    /// Makes the table. A tool without a binding for an access class is called without a credential.
    pub fn new(_bindings: Vec<Binding>, _leases: Arc<Leases>) -> Self {
        todo!()
    }
    /// Gives out the credential for one permitted call.
    pub async fn issue(&self, _permit: Permit) -> Result<Credential, Unavailable> {
        todo!()
    }
    /// The leases.
    pub fn leases(&self) -> &Arc<Leases> {
        todo!()
    }
    /// Bridges in use, for warnings: tool, access class, end date.
    pub fn bridges(&self) -> Vec<(ToolName, Access, jiff::civil::Date)> {
        todo!()
    }
}
/// Obtains secrets from one kind of source. Strangers add implementations.
#[async_trait::async_trait]
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// `static`, `cmd`…
    fn name(&self) -> &'static str;
    /// A digest of its config: a lease of another config is not used.
    fn digest(&self) -> String;
    /// The end date, if this is a bridge to a legacy key.
    fn bridge_until(&self) -> Option<jiff::civil::Date> {
        None
    }
    /// Obtains a secret.
    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError>;
    /// Takes it back, where the upstream can.
    async fn revoke(&self, lease: &LeaseView) -> Revocation;
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
    pub narrow: serde_json::Map<String, serde_json::Value>,
    /// The longest life: the decision's, capped by the task.
    pub ttl_seconds: u64,
}
/// A secret that was obtained.
#[derive(Debug)]
pub struct Obtained {
    /// The secret.
    pub secret: Secret,
    /// Seconds it lives; none if it never expires by itself.
    pub ttl_seconds: Option<u64>,
    /// What the provider needs to revoke it. No secret.
    pub handle: Option<String>,
}
/// What became of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The upstream took it back.
    Revoked,
    /// It dies by itself.
    ExpiresAt,
    /// It was dropped here; the upstream still takes it.
    DropOnly,
}
/// A secret could not be obtained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The bridge's date is over.
    #[error("bridge ended on {0}")]
    BridgeExpired(jiff::civil::Date),
    /// Anything else; no secret in the text.
    #[error("{0}")]
    Failed(String),
}

/// A secret. It never shows itself, is exposed only with a stated reason, and is wiped.
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);
impl Secret {
    /// Hides a text. Refuses CR, LF, NUL and emptiness.
    pub fn new(_text: Vec<u8>) -> Result<Self, ProviderError> {
        todo!()
    }
    /// The text.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A secret, bound to the one call it may be used for.
#[derive(Debug)]
#[must_use]
pub struct Credential {
    permit: Permit,
}
impl Credential {
    /// The permit it belongs to.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
    /// What is told of its lease; none if the tool takes no credential.
    pub fn lease(&self) -> Option<telemetry::LeaseNote> {
        todo!()
    }
    /// Puts the secret on its call.
    pub fn inject(self) -> Result<Outbound, Uninjectable> {
        todo!()
    }
}
/// A request ready to leave.
#[derive(Debug)]
#[must_use]
pub struct Outbound;
impl Outbound {
    /// The head (its `uri` the upstream's whole one), the body, the tool.
    pub fn into_parts(self) -> (Parts, Body, Arc<Tool>) {
        todo!()
    }
}
/// The secret does not fit where the tool wants it.
#[derive(Debug, thiserror::Error)]
#[error("secret does not fit {0}")]
pub struct Uninjectable(pub &'static str);
/// No credential could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The bridge's date is over.
    #[error("bridge of tool `{tool}` ended on {until}")]
    BridgeExpired {
        /// The tool.
        tool: String,
        /// The date.
        until: jiff::civil::Date,
    },
    /// The provider failed.
    #[error("no credential for tool `{tool}`: {cause}")]
    Provider {
        /// The tool.
        tool: String,
        /// Why; no secret.
        cause: String,
    },
    /// The ledger could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
/// The legacy bridge: one static key, until a date.
#[derive(Debug)]
pub struct Static;
/// A command that prints a credential.
#[derive(Debug)]
pub struct Cmd;
impl Static {
    /// `secret` is read at each use of a new lease.
    pub fn new(_secret: SecretRef, _until: jiff::civil::Date) -> Self {
        todo!()
    }
}
impl Cmd {
    /// Runs `argv` with the wish as JSON on stdin; takes `{"secret","ttl_seconds"?,"handle"?}` from stdout.
    pub fn new(
        _argv: Vec<String>,
        _timeout: std::time::Duration,
        _ttl: Option<std::time::Duration>,
    ) -> Self {
        todo!()
    }
}
/// Where a secret is kept: named, never contained.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretRef {
    /// `env:NAME`.
    Env(String),
    /// `file:/path`.
    File(std::path::PathBuf),
    /// `cmd:program args…`, split at spaces.
    Cmd(Vec<String>),
}
/// A text that names no secret.
#[derive(Debug, thiserror::Error)]
#[error("not a secret reference: write `env:NAME`, `file:/path` or `cmd:program args`")]
pub struct InvalidSecretRef;
impl std::str::FromStr for SecretRef {
    type Err = InvalidSecretRef;
    fn from_str(_t: &str) -> Result<Self, InvalidSecretRef> {
        todo!()
    }
}
impl SecretRef {
    /// Reads the secret.
    pub async fn read(&self) -> Result<Secret, ProviderError> {
        todo!()
    }
}
