//! What do operators and orchestrators say?
//!
//! [`Control::serve`] answers the control API: tasks are opened, shown and ended, approvals answered, leases listed,
//! calls explained, the status told, the configuration reloaded. [`Client`] is its other end.
//!
//! **Invariant.** Whoever says something is an operator whose token was checked ([`Caller`]) and whose
//! role may say it ([`Role::may`]); `routes.rs` names the [`Right`] of each route. A task is opened
//! through `policy::Admitted` alone. Nobody approves for its own task. A request that reached the wrong host is not answered.
//!
//! A [`Caller`] can't be forged:
//!
//! ```compile_fail,E0451
//! let caller = control::Caller { name: "mallory".into(), role: control::Role::Operator };
//! ```

mod approval_request;
mod body;
mod bundle_board;
mod client;
#[cfg(test)]
mod documented;
mod door;
mod exchange;
mod explain;
mod live;
mod oauth_refusal;
mod opening;
mod operators;
mod owners_of_record;
mod page;
mod parameters;
mod problem;
mod refusal;
mod revocation;
mod routes;
mod server;
mod signals;
mod status;
mod task_request;

use std::sync::Arc;

use arc_swap::ArcSwap;
use credentials::Consents;
use identity::AgentId;
use tasks::{Approvals, Tasks};
use telemetry::Recorder;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use approval_request::VoteRequest;
pub use bundle_board::{BundleBoard, BundleProblem, BundleStatus};
pub use client::{Client, ClientError, LeaseFilter};
pub use explain::{Explain, ExplainAnswer, ExplainError, ExplainRequest};
pub use live::{Live, Reload, ReloadError, Reloaded};
pub use opening::event;
pub use operators::{Caller, InvalidOperators, Operator, Operators, Right, Role};
pub use owners_of_record::{AgentPattern, InvalidAgentPattern, OwnerOfRecord, OwnersOfRecord};
pub use page::{
    ApprovalPage, ConsentPage, KeyPage, LeasePage, RevocationPage, TaskPage, WithdrawnConsent,
};
pub use problem::Problem;
pub use revocation::{RevokeRequest, RevokedSubject};
pub use server::ServeError;
pub use signals::{SignalSender, Signals, Unreceived};
pub use status::{
    BridgeStatus, ConfigStatus, Counts, ListenerStatus, ReloadStatus, Status, StatusView,
};
pub use task_request::{
    DelegateRequest, EndRequest, EndedTask, EndingWish, OpenRequest, OpenedTask,
};

/// The control API: everything it answers from.
pub struct Control {
    /// What a reload replaces. The gateway swaps it, whole.
    pub live: Arc<ArcSwap<Live>>,
    /// Every task.
    pub tasks: Arc<Tasks>,
    /// Where signals of identity providers come in.
    pub signals: Arc<Signals>,
    /// Every approval.
    pub approvals: Arc<Approvals>,
    /// What people consented to.
    pub consents: Arc<Consents>,
    /// For `/metrics`.
    pub recorder: Recorder,
    /// Says what would be decided for a call.
    pub explain: Explain,
    /// Applies the configuration anew.
    pub reload: Reload,
    /// Puts the candidate policy in the place of the one that counts.
    pub promote: Reload,
    /// Once cancelled, `/readyz` answers 503, so that load balancers look elsewhere before the gateway stops.
    pub draining: CancellationToken,
    /// What a reload doesn't change.
    pub options: Options,
}

/// How an issuer is spelled where letters count, as in `iss` and in metadata: a root without the slash that [`Url`] gives it.
pub fn issuer_name(issuer: &Url) -> &str {
    let spelled = issuer.as_str();
    match spelled.strip_suffix('/') {
        Some(bare) if issuer.path() == "/" => bare,
        _ => spelled,
    }
}

/// What of the control API is settled at start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names by which the API may be called besides IP literals and `localhost`; none unless given.
    pub hosts: Vec<String>,
    /// From where operator tokens are taken over plain HTTP.
    pub plaintext: Plaintext,
    /// The issuer of task tokens, by which OAuth clients know this gateway; without one there is no OAuth.
    pub issuer: Option<Url>,
    /// Where browsers reach this API, if it is not the listener's own address.
    pub url: Option<Url>,
    /// The agent of a task whose opener names none; such an opening is refused unless given.
    pub default_agent: Option<AgentId>,
}

impl Options {
    /// Whether browsers reach it over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.scheme() == "https")
    }
}

/// From where operator tokens are taken over plain HTTP. The API itself speaks no TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Plaintext {
    /// From this machine; the default.
    #[default]
    Loopback,
    /// From anywhere: the network is trusted, or TLS ends in front of the gateway.
    Anywhere,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
