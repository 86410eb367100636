//! What calls meet, as one value that a reload replaces whole.

use std::sync::Arc;

use call::Tools;
use credentials::Credentials;
use identity::Identity;
use policy::DecisionPoint;

use crate::resource::ProtectedResource;
use crate::upstream::Upstreams;

/// One revision of everything that config and policy say.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who asks?
    pub identity: Arc<Identity>,
    /// Which tools there are.
    pub tools: Arc<Tools>,
    /// May it?
    pub policy: Arc<DecisionPoint>,
    /// With what?
    pub credentials: Arc<Credentials>,
    /// Where tools are.
    pub upstreams: Arc<Upstreams>,
    /// What OAuth clients are told; nothing where tasks are not opened by OAuth.
    pub oauth: Option<Arc<ProtectedResource>>,
}
