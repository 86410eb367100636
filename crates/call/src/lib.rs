//! What is asked?
//!
//! [`Head::canonical`] gives a request one spelling; [`Tools::route`] finds the tool it is for;
//! [`Call::observe`] reads operation, access class and arguments from it, takes the agent's keys
//! off, and refuses what the task does not cover.
//!
//! **Invariant.** A [`Call`] carries no key, and is never changed once made. What policy judges is
//! what leaves the gateway, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use serde_json::{Map, Value};
use tasks::{Access, OperationPattern, Task, ToolName};

/// A request head with one spelling.
#[derive(Debug)]
pub struct Head;
impl Head {
    /// Gives a head one spelling, or refuses it as ambiguous. `client` is the caller's network address.
    pub fn canonical(
        _parts: Parts,
        _client: Option<std::net::SocketAddr>,
    ) -> Result<Self, Malformed> {
        todo!()
    }
    /// The method, one of the known ones.
    pub fn method(&self) -> &http::Method {
        todo!()
    }
    /// Lower-case host, without the port.
    pub fn host(&self) -> &str {
        todo!()
    }
    /// The path as it would go on the wire, before routing.
    pub fn path(&self) -> &str {
        todo!()
    }
    /// The headers as the agent sent them, keys still on.
    pub fn headers(&self) -> &http::HeaderMap {
        todo!()
    }
}
/// A request that can't be understood in one way only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The path has more than one reading.
    #[error("path is ambiguous: {0}")]
    Path(&'static str),
    /// The query has more than one reading.
    #[error("query is ambiguous: {0}")]
    Query(&'static str),
    /// The authority has more than one reading.
    #[error("host is ambiguous: {0}")]
    Host(&'static str),
    /// A header has more than one reading.
    #[error("header `{0}` is ambiguous: {1}")]
    Header(String, &'static str),
    /// A method that is not forwarded.
    #[error("method is not allowed")]
    Method,
}

/// Every configured tool, by name and by host.
#[derive(Debug)]
pub struct Tools;
impl Tools {
    /// Makes the table; two tools with one host are a mistake.
    pub fn new(_tools: Vec<Tool>) -> Result<Self, Ambiguous> {
        todo!()
    }
    /// Finds the tool a head is for: `/{tool}/…`, or by host.
    pub fn route(&self, _head: &Head) -> Result<Route, NoRoute> {
        todo!()
    }
    /// One tool.
    pub fn find(&self, _name: &ToolName) -> Option<&Arc<Tool>> {
        todo!()
    }
    /// All tools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tool>> {
        std::iter::empty()
    }
}
/// Two tools claim one host.
#[derive(Debug, thiserror::Error)]
#[error("host `{0}` belongs to two tools")]
pub struct Ambiguous(pub String);
/// No tool is configured for this.
#[derive(Debug, thiserror::Error)]
#[error("no tool at this address")]
pub struct NoRoute;
/// A tool and the path below it.
#[derive(Debug)]
pub struct Route;
impl Route {
    /// The tool.
    pub fn tool(&self) -> &Arc<Tool> {
        todo!()
    }
    /// What is to be done with the body before the decision.
    pub fn body_plan(&self, _head: &Head) -> Result<BodyPlan, Unobservable> {
        todo!()
    }
}
/// What is to be done with a body before the decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyPlan {
    /// Read it whole, up to this many bytes, then 413.
    Read {
        /// Bytes.
        limit: usize,
    },
    /// Let it stream: the tool's operation does not depend on it.
    Stream,
}
/// A request body as far as it was read.
#[derive(Clone, Debug)]
pub enum Body {
    /// There is none.
    Empty,
    /// All of it.
    Whole(Bytes),
    /// It streams.
    Streamed,
}

/// A named upstream. Its parsed config, with public fields.
#[derive(Debug)]
pub struct Tool {
    /// Its name.
    pub name: ToolName,
    /// Where it is: scheme, authority, base path.
    pub upstream: url::Url,
    /// What it speaks.
    pub protocol: Protocol,
    /// Hosts that it answers by, besides the path.
    pub hosts: Vec<String>,
    /// Operations by access class. For MCP, names; `tools/call` of a name in none is unknown.
    pub access: Vec<(Access, OperationPattern)>,
    /// Its environment.
    pub environment: Option<Arc<str>>,
    /// Free attributes, for policy.
    pub attributes: Map<String, Value>,
    /// Labels, for policy.
    pub labels: Vec<String>,
    /// How bodies are treated.
    pub body: BodyMode,
    /// What happens to an agent's own keys.
    pub strip: StripMode,
}
/// What a tool speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// MCP over Streamable HTTP.
    Mcp,
    /// gRPC.
    Grpc,
}
impl Protocol {
    /// The name in config, policy input and telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Mcp => "mcp",
            Self::Grpc => "grpc",
        }
    }
}
/// How request bodies are treated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyMode {
    /// Read whole and understood, up to this many bytes; the default, 1 MiB.
    Inspect {
        /// Bytes.
        limit: usize,
    },
    /// Never read: policy can't see arguments, and knows it (`input.request.streamed`).
    Stream,
}
/// What happens to a key that the agent brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StripMode {
    /// It comes off, and the call goes on; the default.
    Strip,
    /// The call is refused.
    Refuse,
}

/// One thing an agent asks of one tool. It carries no key.
#[derive(Debug)]
#[must_use]
pub struct Call {
    task: Task,
}
impl Call {
    /// Observes what is asked, takes the keys off, and checks the task's cover.
    pub fn observe(
        _task: Task,
        _route: Route,
        _head: Head,
        _body: Body,
    ) -> Result<Self, Unobservable> {
        todo!()
    }
    /// The task it is for.
    pub fn task(&self) -> &Task {
        &self.task
    }
    /// The tool it asks.
    pub fn tool(&self) -> &Arc<Tool> {
        todo!()
    }
    /// The operation: the matched pattern verbatim, or the MCP tool's name.
    pub fn operation(&self) -> &str {
        todo!()
    }
    /// Its access class.
    pub fn access(&self) -> Access {
        todo!()
    }
    /// The request as policy sees it.
    pub fn request(&self) -> &Request {
        todo!()
    }
    /// What MCP says of it.
    pub fn mcp(&self) -> Option<&McpCall> {
        todo!()
    }
    /// The keys that came off.
    pub fn stripped(&self) -> &[Stripped] {
        todo!()
    }
    /// The head that goes on the wire, its `uri` the upstream's whole one, and the body.
    pub fn into_wire(self) -> (Parts, Body, Arc<Tool>) {
        todo!()
    }
}
/// The request as policy sees it (`input.request`).
#[derive(Debug)]
pub struct Request {
    /// Upper case.
    pub method: String,
    /// The agent's authority, lower case.
    pub host: String,
    /// The path below the tool, as on the wire.
    pub path: String,
    /// Its segments, decoded.
    pub segments: Vec<String>,
    /// The query, decoded; keys are unique, keys of stripped credentials are gone.
    pub query: Vec<(String, String)>,
    /// Lower-case names; repeated ones joined by `, `; without credentials.
    pub headers: Vec<(String, String)>,
    /// The arguments: a JSON body, form fields, or MCP `params.arguments`. None if there are none.
    pub arguments: Option<Value>,
    /// The body's bytes, if known.
    pub size: Option<u64>,
    /// Whether the body streams past unread.
    pub streamed: bool,
    /// The caller's network address (`input.client.address`).
    pub client: Option<std::net::SocketAddr>,
}
/// What MCP says of a call.
#[derive(Clone, Debug)]
pub struct McpCall {
    /// The JSON-RPC method.
    pub method: String,
    /// The tool, prompt or resource named.
    pub name: Option<String>,
    /// The JSON-RPC id.
    pub id: Option<Value>,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    /// `MCP-Protocol-Version`.
    pub version: Option<String>,
}
/// A key that came off, told by fingerprint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stripped {
    /// `header:x-api-key`, `query:api_key`, `cookie`, `userinfo`.
    pub place: String,
    /// The first 16 hex digits of a keyed hash; the key is random per process.
    pub fingerprint: String,
}

/// Why a request can't become a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unobservable {
    /// Ambiguous.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The body can't be understood in one way only.
    #[error("body can't be read: {0}")]
    Body(String),
    /// The body's type or encoding is not understood.
    #[error("body type is not understood: {0}")]
    BodyType(String),
    /// No pattern of the tool covers it.
    #[error("tool `{tool}` has no operation for this")]
    UnknownOperation {
        /// The tool.
        tool: String,
        /// The JSON-RPC id, on MCP.
        id: Option<Value>,
    },
    /// The MCP method is not one we forward.
    #[error("method `{method}` is not forwarded")]
    UnknownMethod {
        /// The method.
        method: String,
        /// The JSON-RPC id.
        id: Option<Value>,
    },
    /// A header contradicts the body (MCP).
    #[error("header `{header}` contradicts the body")]
    HeaderMismatch {
        /// The header.
        header: &'static str,
        /// The JSON-RPC id.
        id: Option<Value>,
    },
    /// A declaration contradicts what is observed.
    #[error("`{0}` contradicts what is asked")]
    Contradiction(&'static str),
    /// The task does not cover it.
    #[error("outside the task's remit")]
    OutOfRemit {
        /// What was asked, for the hint.
        operation: String,
        /// The JSON-RPC id, on MCP.
        id: Option<Value>,
    },
    /// The agent brought a key, and the tool refuses them.
    #[error("the agent brought a key in {0}")]
    KeyRefused(String),
}
