//! The configured tools, and the way to them.

mod upstream;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderName;
use serde_json::{Map, Value};
use tasks::{Access, GateBounds, OperationPattern, ToolName};

use crate::call::Unobservable;
use crate::head::{Authority, Head};
use crate::keys::Fingerprints;
use crate::meter::{Meter, ResourceRule};
use crate::placeholder::Placeholder;
use crate::watch::Watch;
pub(crate) use upstream::Upstream;

/// The limit of bodies where the config gives none that fits: 1 MiB.
const BODY_LIMIT: usize = 1 << 20;

/// Every configured tool, by name and by host.
#[derive(Debug)]
pub struct Tools {
    by_name: BTreeMap<String, Arc<Entry>>,
    by_host: HashMap<String, Arc<Entry>>,
    declarations: Arc<[HeaderName]>,
    body_keys: HashMap<ToolName, StripMode>,
    token_endpoints: BTreeMap<ToolName, Arc<[OperationPattern]>>,
    placeholders: BTreeMap<ToolName, Arc<[Placeholder]>>,
    prints: Arc<Fingerprints>,
}

/// A tool and where it is, read once.
#[derive(Debug)]
struct Entry {
    tool: Arc<Tool>,
    upstream: Arc<Upstream>,
}

impl Tools {
    /// Makes the table; two tools with one host are a mistake.
    ///
    /// # Errors
    /// [`Ambiguous`] names a host (or a name) that two tools claim. A tool whose upstream is neither `http`
    /// nor `https` has no route.
    pub fn new(tools: Vec<Tool>) -> Result<Self, Ambiguous> {
        let mut by_name = BTreeMap::new();
        let mut by_host = HashMap::new();
        for tool in tools {
            let entry = Arc::new(Entry {
                upstream: Arc::new(Upstream::of(&tool.upstream)),
                tool: Arc::new(tool),
            });
            for host in &entry.tool.hosts {
                let host = Authority::parse(host, None)
                    .map_or_else(|_| host.to_ascii_lowercase(), |authority| authority.host);
                if by_host.insert(host.clone(), Arc::clone(&entry)).is_some() {
                    return Err(Ambiguous(host));
                }
            }
            let name = entry.tool.name.as_str().to_owned();
            if by_name.insert(name.clone(), entry).is_some() {
                return Err(Ambiguous(name));
            }
        }
        Ok(Self {
            by_name,
            by_host,
            declarations: ["agent-task", "agent-tool", "agent-context"]
                .map(HeaderName::from_static)
                .into(),
            body_keys: HashMap::new(),
            token_endpoints: BTreeMap::new(),
            placeholders: BTreeMap::new(),
            prints: Arc::new(Fingerprints::random()),
        })
    }

    /// Names the declaring headers, which are for the gateway alone and come off every call;
    /// `agent-task`, `agent-tool` and `agent-context` unless given.
    #[must_use]
    pub fn with_declarations(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.declarations = names.into_iter().collect();
        self
    }

    /// Says what happens to keys in the bodies for one tool; they are refused unless given.
    #[must_use]
    pub fn with_body_keys(mut self, tool: &ToolName, mode: StripMode) -> Self {
        self.body_keys.insert(tool.clone(), mode);
        self
    }

    /// Says how keys are told apart; by a random key unless given.
    #[must_use]
    pub fn with_fingerprints(mut self, prints: Fingerprints) -> Self {
        self.prints = Arc::new(prints);
        self
    }

    /// Names the operations of one tool that answer with tokens; none unless given. The method, the case of the path and a
    /// slash at its end make no difference.
    #[must_use]
    pub fn with_token_endpoints(mut self, tool: &ToolName, endpoints: &[OperationPattern]) -> Self {
        if !endpoints.is_empty() {
            let endpoints = endpoints.iter().map(loose).collect();
            self.token_endpoints.insert(tool.clone(), endpoints);
        }
        self
    }

    /// Says what agents write where a key of one tool goes; nothing unless given.
    #[must_use]
    pub fn with_placeholders(mut self, tool: &ToolName, placeholders: &[Placeholder]) -> Self {
        if !placeholders.is_empty() {
            self.placeholders.insert(tool.clone(), placeholders.into());
        }
        self
    }

    /// Finds the tool a head is for: `/{tool}/…`, or by host. A host that a tool answers by is its
    /// own whole address: no path leads from there to another tool.
    ///
    /// # Errors
    /// [`NoRoute`] if neither names a tool.
    pub fn route(&self, head: &Head) -> Result<Route, NoRoute> {
        let by_host = self.by_host.get(head.host()).map(|entry| (entry, 0));
        let (entry, skip) = by_host
            .or_else(|| {
                let name = head.segments().first()?;
                self.by_name.get(name).map(|entry| (entry, 1))
            })
            .ok_or(NoRoute)?;
        Ok(Route {
            tool: Arc::clone(&entry.tool),
            upstream: Arc::clone(&entry.upstream),
            skip,
            declarations: Arc::clone(&self.declarations),
            body_keys: self.body_keys_of(&entry.tool.name),
            token_endpoints: self.token_endpoints.get(&entry.tool.name).cloned(),
            placeholders: self.placeholders.get(&entry.tool.name).cloned(),
            prints: Arc::clone(&self.prints),
        })
    }

    fn body_keys_of(&self, tool: &ToolName) -> StripMode {
        let mode = self.body_keys.get(tool).copied();
        mode.unwrap_or(StripMode::Refuse)
    }

    /// One tool.
    pub fn find(&self, name: &ToolName) -> Option<&Arc<Tool>> {
        self.by_name.get(name.as_str()).map(|entry| &entry.tool)
    }

    /// All tools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.by_name.values().map(|entry| &entry.tool)
    }
}

/// The same path in lower case, by any method: a server may not tell them apart.
fn loose(endpoint: &OperationPattern) -> OperationPattern {
    let text = endpoint.as_str();
    let path = text.split_once(' ').map_or(text, |(_, path)| path);
    let loose = format!("* {}", path.to_ascii_lowercase());
    loose.parse().unwrap_or_else(|_| endpoint.clone())
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
pub struct Route {
    pub(crate) tool: Arc<Tool>,
    pub(crate) upstream: Arc<Upstream>,
    /// How many segments of the path name the tool.
    pub(crate) skip: usize,
    pub(crate) declarations: Arc<[HeaderName]>,
    pub(crate) body_keys: StripMode,
    pub(crate) token_endpoints: Option<Arc<[OperationPattern]>>,
    pub(crate) placeholders: Option<Arc<[Placeholder]>>,
    pub(crate) prints: Arc<Fingerprints>,
}

impl Route {
    /// The tool.
    pub fn tool(&self) -> &Arc<Tool> {
        &self.tool
    }

    /// What looks for keys in a body that streams. A WebSocket's frames are masked by the agent, and a body in a content
    /// coding is packed: in these nothing is looked for.
    pub fn watch(&self, head: &Head) -> Option<Watch> {
        let is_plain = head.content_coding().is_none() && !head.is_websocket();
        let streams = matches!(self.body_plan(head), Ok(BodyPlan::Stream));
        (is_plain && streams).then(|| Watch::new(self.body_keys, Arc::clone(&self.prints)))
    }

    /// What is to be done with the body before the decision.
    ///
    /// gRPC and a WebSocket stream, and so does what the config says; an MCP message is
    /// always read, for the operation stands in it.
    ///
    /// # Errors
    /// [`Unobservable::BodyType`] if the body is to be read but comes in a content coding.
    pub fn body_plan(&self, head: &Head) -> Result<BodyPlan, Unobservable> {
        let limit = match (self.tool.protocol, self.tool.body) {
            (Protocol::Grpc, _) | (Protocol::Http, BodyMode::Stream) => {
                return Ok(BodyPlan::Stream);
            }
            (Protocol::Http, BodyMode::Inspect { .. }) if head.is_websocket() => {
                return Ok(BodyPlan::Stream);
            }
            (Protocol::Http | Protocol::Mcp, BodyMode::Inspect { limit }) => limit,
            (Protocol::Mcp, BodyMode::Stream) => BODY_LIMIT,
        };
        match head.content_coding() {
            Some(coding) => Err(Unobservable::BodyType(format!(
                "content coding `{}`",
                coding.escape_default()
            ))),
            None => Ok(BodyPlan::Read { limit }),
        }
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
    /// The labels that calls give their task.
    pub marks: Vec<Mark>,
    /// How what its calls cost is read from their answers.
    pub meters: Vec<Arc<Meter>>,
    /// What its calls are made on.
    pub resource: ResourceRule,
    /// What bounds the calls on it, whatever their tasks.
    pub gate: GateBounds,
    /// How bodies are treated.
    pub body: BodyMode,
    /// What happens to an agent's own keys in heads.
    pub strip: StripMode,
}

/// Labels that some calls of a tool give their task.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The operations; all unless given.
    pub operations: Vec<OperationPattern>,
    /// The access classes; all unless given.
    pub access: Vec<Access>,
    /// `[a-z0-9_-]{1,64}`.
    pub labels: Vec<String>,
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
    /// It comes off, and the call goes on; the default of heads. In a body it is masked.
    Strip,
    /// The call is refused; the default of bodies.
    Refuse,
    /// It goes on to the tool, and that is told: for tools that are there to handle keys, and to learn which are in use.
    Report,
}
