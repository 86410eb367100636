//! What leaves the gateway.

use std::sync::Arc;

use call::{Body, Meter, Tool};
use http::request::Parts;
use tasks::Spending;

use crate::{Chunks, ClientIdentity, Scrubber};

/// A request ready to leave.
///
/// Only [`Credential::inject`](crate::Credential::inject) makes one:
///
/// ```compile_fail,E0451
/// fn forge(head: http::request::Parts, tool: std::sync::Arc<call::Tool>) -> credentials::Outbound {
///     credentials::Outbound {
///         head, tool, body: call::Body::Empty, scrubber: None, bound: None,
///         spending: Default::default(), meters: Vec::new(),
///     }
/// }
/// ```
/// ```compile_fail,E0599
/// fn copy(outbound: credentials::Outbound) -> credentials::Outbound {
///     outbound.clone()
/// }
/// ```
#[must_use]
pub struct Outbound {
    head: Parts,
    body: Body,
    tool: Arc<Tool>,
    scrubber: Option<Arc<Scrubber>>,
    bound: Option<Bound>,
    spending: Spending,
    meters: Vec<Arc<Meter>>,
}

/// The lease that the connection belongs to, and what is shown on it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) lease: Arc<str>,
    pub(crate) certificate: Option<Arc<ClientIdentity>>,
}

impl Outbound {
    pub(crate) fn new(
        (head, body, tool): (Parts, Body, Arc<Tool>),
        scrubber: Option<Arc<Scrubber>>,
        bound: Option<Bound>,
        spending: Spending,
        meters: Vec<Arc<Meter>>,
    ) -> Self {
        Self {
            head,
            body,
            tool,
            scrubber,
            bound,
            spending,
            meters,
        }
    }

    /// What is held of the task for it, and how its answer tells what it cost; nothing the second time.
    pub fn take_spending(&mut self) -> (Spending, Vec<Arc<Meter>>) {
        (
            std::mem::take(&mut self.spending),
            std::mem::take(&mut self.meters),
        )
    }

    /// Takes the chunks of `aws-chunked` off the body that streams, where the agent signed them; nothing the second time.
    pub fn take_chunks(&mut self) -> Option<Chunks> {
        self.head.extensions.remove()
    }

    /// The tool it leaves for.
    pub fn tool(&self) -> &Arc<Tool> {
        &self.tool
    }

    /// What a pooled connection must be kept apart by: the lease's id where the credential is bound to the
    /// connection, none where each request carries its own (headers, queries).
    pub fn isolation(&self) -> Option<&str> {
        self.bound.as_ref().map(|bound| &*bound.lease)
    }

    /// The certificate that is shown on the connection, if the credential is one.
    pub fn certificate(&self) -> Option<&Arc<ClientIdentity>> {
        self.bound.as_ref()?.certificate.as_ref()
    }

    /// What keeps the injected secret out of the answer; none if there is no secret, or it is too short to be looked for.
    pub fn scrubber(&self) -> Option<&Arc<Scrubber>> {
        self.scrubber.as_ref()
    }

    /// The head (its `uri` the upstream's whole one), the body, the tool.
    ///
    /// The head holds the secret: it must not be logged.
    pub fn into_parts(self) -> (Parts, Body, Arc<Tool>) {
        (self.head, self.body, self.tool)
    }
}

/// The head is left out: a query in it may hold the secret.
impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound")
            .field("tool", &self.tool.name)
            .field("method", &self.head.method)
            .field("scrubber", &self.scrubber)
            .field("isolation", &self.isolation())
            .finish_non_exhaustive()
    }
}
