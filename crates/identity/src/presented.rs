//! What a request presents to tell who sends it.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::Certificate;

/// What a request presents to tell who sends it: its headers, and what proofs in them may be bound to.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'r> {
    /// The headers, keys still on.
    pub headers: &'r HeaderMap,
    /// The method.
    pub method: &'r Method,
    /// The host that the agent addressed, without the port.
    pub host: &'r str,
    /// The port, where it is not the default one.
    pub port: Option<u16>,
    /// The path that the agent addressed, without the query.
    pub path: &'r str,
    /// The session token of a URL that was presigned for AWS, where an SDK puts what it was given as one.
    pub query_token: Option<&'r str>,
    /// How the request came.
    pub transport: &'r Transport,
}

/// How a request came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Transport {
    /// In the clear.
    #[default]
    Plain,
    /// Over TLS.
    Tls {
        /// The certificate that the client proved to be its own in the handshake, if it was asked for one.
        client: Option<Arc<Certificate>>,
    },
}

impl Transport {
    /// The scheme of URLs that are reached in this way.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls { .. } => "https",
        }
    }

    /// The certificate of the client.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Plain => None,
            Self::Tls { client } => client.as_deref(),
        }
    }
}
