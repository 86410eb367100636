//! One thing an agent asks of one tool.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use tasks::{Access, Amount, Costs, Cover, OperationPattern, Task, Unit, Unmet};

use crate::body::Body;
use crate::found_key::{FoundKey, KeyFate, Notes};
use crate::head::{Head, Malformed, Pieces};
use crate::keys;
use crate::mcp::McpCall;
use crate::meter::Meter;
use crate::observed::{Asking, Observed};
use crate::phantom;
use crate::placeholder::{self, Placed, Placeholder};
use crate::request::{Headers, Request};
use crate::strip::{self, Connection};
use crate::tools::{BodyPlan, Protocol, Route, StripMode, Tool};

/// One thing an agent asks of one tool. It carries no key.
///
/// Only [`Call::observe`] makes one, from a task and what its agent sent; nothing changes it; and it
/// is used once.
///
/// ```compile_fail,E0451
/// fn take(call: call::Call) {
///     let call::Call { task, .. } = call;
/// }
/// ```
/// ```compile_fail,E0616
/// fn change(mut call: call::Call) {
///     call.operation = "another".to_owned();
/// }
/// ```
/// ```compile_fail,E0599
/// fn copy(call: call::Call) -> call::Call {
///     call.clone()
/// }
/// ```
/// ```compile_fail,E0382
/// fn twice(call: call::Call) {
///     let _ = call.into_wire();
///     let _ = call.into_wire();
/// }
/// ```
#[must_use]
pub struct Call {
    task: Task,
    cover: Cover,
    tool: Arc<Tool>,
    operation: String,
    access: Access,
    marks: Vec<String>,
    meters: Vec<Arc<Meter>>,
    /// None where nobody counts what calls are made on.
    resource: Option<String>,
    // Boxed, since a call moves from step to step.
    request: Box<Request>,
    mcp: Option<Box<McpCall>>,
    instead: Instead,
    /// All but the headers, which the request holds.
    parts: Box<Parts>,
    /// Keys of the agent's that go on to the tool. Neither policy nor people see them.
    passing: Vec<(HeaderName, HeaderValue)>,
    /// The upstream's own.
    host: HeaderValue,
    body: Body,
}

impl Call {
    /// Observes what is asked, takes the keys off, and checks the task's cover.
    ///
    /// `route` and `head` belong together, and `body` was read as [`Route::body_plan`] says.
    ///
    /// # Errors
    /// [`Unobservable`] says why this is no call: it has no one reading, is no operation of the
    /// tool, contradicts what the agent declared, holds a key where none may be, or is outside the
    /// task.
    pub fn observe(task: Task, route: Route, head: Head, body: Body) -> Result<Self, Unobservable> {
        Self::observe_noting(task, route, head, body, &mut Vec::new())
    }

    /// Like [`Call::observe`]; the keys that are found are told, whatever comes of the call.
    ///
    /// # Errors
    /// As [`Call::observe`].
    pub fn observe_noting(
        task: Task,
        route: Route,
        head: Head,
        mut body: Body,
        keys: &mut Vec<FoundKey>,
    ) -> Result<Self, Unobservable> {
        let plan = route.body_plan(&head)?;
        let connection = connection(&route, &head, &body)?;
        let Route {
            tool,
            upstream,
            skip,
            declarations,
            body_keys,
            token_endpoints,
            placeholders,
            prints,
        } = route;
        if let Some(declared) = &task.declared().tool
            && declared != tool.name.as_str()
        {
            return Err(Unobservable::Contradiction("agent-tool"));
        }

        let mut pieces = head.into_pieces();
        let proofs = strip::take_proofs(&mut pieces.parts.headers, task.agent());
        strip::take_query_proof(&mut pieces.query, task.agent());
        let placeholders = placeholders.as_deref().unwrap_or_default();
        let mut instead = Instead::take(&mut pieces, placeholders);
        let mut notes = Notes {
            mode: tool.strip,
            prints: &prints,
            proofs: &proofs,
            placeholders,
            keys,
        };
        let passing = take_keys(&mut pieces, &declarations, connection, &mut notes)?;

        let segments = below(std::mem::take(&mut pieces.path.segments), skip);
        let wire_path = pieces.path.below(skip);
        let asking = Asking {
            tool: &tool,
            method: &pieces.parts.method,
            path: if wire_path.is_empty() { "/" } else { wire_path },
            segments: &segments,
            headers: &pieces.parts.headers,
            query: &pieces.query,
            body: &body,
            plan,
            placeholders,
        };
        let observed = asking.observe(&mut notes.for_mode(body_keys))?;
        let cover = asking.check(&observed, &task)?;
        instead.look(&asking, &observed, token_endpoints.as_deref());
        let marks = asking.marks(&observed);
        let meters = asking.meters(&observed);
        let counts = task.counts_resources();
        let resource = counts.then(|| asking.resource(&observed)).flatten();

        let path = asking.path.to_owned();
        let uri = upstream.uri(wire_path, &pieces.query);
        let uri = uri.ok_or(Malformed::Path("it can't be written"))?;
        let Observed {
            operation,
            access,
            arguments,
            mcp,
            rewritten,
            ..
        } = observed;
        if let Some(rewritten) = rewritten {
            body = Body::Whole(rewritten);
        }
        let host = upstream.host();
        let host = host.ok_or(Malformed::Host("the tool has none"))?.clone();
        let query = decoded(&pieces);
        let mut parts = pieces.parts;
        parts.uri = uri;
        let headers = std::mem::take(&mut parts.headers);
        let request = Request {
            method: parts.method.as_str().to_owned(),
            host: pieces.authority.to_string(),
            path,
            segments,
            query,
            arguments,
            size: size(&headers, &body),
            streamed: plan == BodyPlan::Stream && !matches!(body, Body::Empty),
            headers: Headers::new(headers),
            client: pieces.client,
        };
        Ok(Self {
            parts,
            passing,
            host,
            task,
            cover,
            tool,
            operation,
            access,
            marks,
            meters,
            resource,
            request: Box::new(request),
            mcp: mcp.map(Box::new),
            instead,
            body,
        })
    }

    /// Whether its task still covers it: other calls may have given the task labels since it was observed.
    pub fn check_cover(&self) -> Result<(), Unmet> {
        self.task.still_covers(&self.cover)
    }

    /// The labels that it gives its task, as the config says.
    pub fn marks(&self) -> &[String] {
        &self.marks
    }

    /// How what it costs is read from its answer.
    pub fn meters(&self) -> &[Arc<Meter>] {
        &self.meters
    }

    /// What it is counted by.
    pub fn costs(&self) -> Costs<'_> {
        let mut amounts: Vec<(Unit, Amount)> = Vec::new();
        for meter in &self.meters {
            match amounts.iter_mut().find(|(unit, _)| *unit == meter.unit) {
                Some((_, amount)) => *amount = amount.plus(meter.reserve),
                None => amounts.push((meter.unit.clone(), meter.reserve)),
            }
        }
        let bytes = self.body.bytes().map_or(0, <[u8]>::len);
        Costs {
            tool: &self.tool.name,
            access: self.access,
            resource: self.resource.as_deref(),
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            amounts,
        }
    }

    /// The task it is for.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The tool it asks.
    pub fn tool(&self) -> &Arc<Tool> {
        &self.tool
    }

    /// The operation: the matched pattern verbatim, or the MCP tool's name.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Its access class.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The request as policy sees it.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Its headers, as they leave but for keys.
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers.map()
    }

    /// What was read of its body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// What MCP says of it.
    pub fn mcp(&self) -> Option<&McpCall> {
        self.mcp.as_deref()
    }

    /// The phantoms that stand where tokens go. What they stand for is not the agent's to know.
    pub fn phantoms(&self) -> &[Placed] {
        &self.instead.phantoms
    }

    /// The placeholders that stand where the tool's config looks for them.
    pub fn placed(&self) -> &[Placed] {
        &self.instead.placeholders
    }

    /// Whether its answer holds tokens.
    pub fn asks_for_tokens(&self) -> bool {
        self.instead.asks_for_tokens
    }

    /// The head that goes on the wire, its `uri` the upstream's whole one, and the body.
    ///
    /// Hop-by-hop headers are off, but for a WebSocket's handshake, `te: trailers`, and
    /// `transfer-encoding: chunked` on a body that streams. A body that was read has its length.
    pub fn into_wire(self) -> (Parts, Body, Arc<Tool>) {
        let Self {
            request,
            mut parts,
            passing,
            host,
            body,
            tool,
            ..
        } = self;
        parts.headers = request.headers.into_map();
        for (name, value) in passing {
            parts.headers.append(name, value);
        }
        frame(&mut parts.headers, host, &body);
        (*parts, body, tool)
    }
}

/// What stands where keys and tokens go.
#[derive(Debug)]
struct Instead {
    phantoms: Vec<Placed>,
    placeholders: Vec<Placed>,
    /// Whether it is asked of a token endpoint.
    asks_for_tokens: bool,
}

impl Instead {
    /// Takes off the head what is there.
    fn take(pieces: &mut Pieces, placeholders: &[Placeholder]) -> Self {
        let headers = &mut pieces.parts.headers;
        Self {
            placeholders: placeholder::take(placeholders, headers, &mut pieces.query),
            phantoms: phantom::take(headers).into_iter().collect(),
            asks_for_tokens: false,
        }
    }

    /// Looks at the arguments.
    fn look(
        &mut self,
        asking: &Asking<'_>,
        observed: &Observed,
        token_endpoints: Option<&[OperationPattern]>,
    ) {
        self.placeholders.extend(asking.placed(observed));
        self.asks_for_tokens = asking.is_one_of(token_endpoints.unwrap_or_default());
        if self.asks_for_tokens {
            self.phantoms.extend(asking.phantoms(observed));
        }
    }
}

// By hand: what an agent asks may be private, and is told by the record alone.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("tool", &self.tool.name)
            .field("operation", &self.operation)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// What follows the head, in the terms of the headers that are set anew.
fn connection(route: &Route, head: &Head, body: &Body) -> Result<Connection, Unobservable> {
    let opens_websocket = head.is_websocket() && route.tool.protocol == Protocol::Http;
    match body {
        Body::Whole(bytes) if opens_websocket && !bytes.is_empty() => {
            Err(Unobservable::Body("a WebSocket has none".to_owned()))
        }
        Body::Empty | Body::Whole(_) | Body::Streamed if opens_websocket => {
            Ok(Connection::WebSocket)
        }
        Body::Streamed => Ok(Connection::Streams),
        Body::Empty | Body::Whole(_) => Ok(Connection::Closes),
    }
}

/// Takes every key off head and query that does not pass. A path can't be cut: a key in it is refused, or passes.
fn take_keys(
    pieces: &mut Pieces,
    declarations: &[HeaderName],
    connection: Connection,
    notes: &mut Notes<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Unobservable> {
    let before = notes.keys.len();
    for segment in &pieces.path.segments {
        let passes = notes.passes(segment.as_bytes());
        let fate = if passes {
            KeyFate::Reported
        } else {
            KeyFate::Refused
        };
        if notes.note_known("path", segment.as_bytes(), fate) && !passes {
            return Err(Unobservable::KeyRefused("path".to_owned()));
        }
    }
    let headers = &mut pieces.parts.headers;
    let passing = strip::take_headers(headers, declarations, connection, notes);
    strip::take_query(&mut pieces.query, notes);
    match (notes.mode, notes.keys.get(before)) {
        (StripMode::Refuse, Some(key)) => Err(Unobservable::KeyRefused(key.place.clone())),
        (StripMode::Refuse, None) | (StripMode::Strip | StripMode::Report, _) => Ok(passing),
    }
}

/// The segments below a tool; none for the tool itself, with or without a slash.
fn below(segments: Vec<String>, skip: usize) -> Vec<String> {
    let below: Vec<String> = segments.into_iter().skip(skip).collect();
    match below.as_slice() {
        [only] if only.is_empty() => Vec::new(),
        _ => below,
    }
}

fn decoded(pieces: &Pieces) -> Vec<(String, String)> {
    pieces
        .query
        .iter()
        .map(|pair| {
            // Under such a name it is a key that goes on to the tool, and that nobody sees before.
            let is_key = keys::is_query_key(&pair.key);
            let value = if is_key { keys::MASK } else { &pair.value };
            (pair.key.clone(), value.to_owned())
        })
        .collect()
}

fn size(headers: &HeaderMap, body: &Body) -> Option<u64> {
    match body {
        Body::Empty => Some(0),
        Body::Whole(bytes) => u64::try_from(bytes.len()).ok(),
        Body::Streamed => headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse().ok()),
    }
}

/// Says on the wire where a call goes, and how long the body is that was read.
fn frame(headers: &mut HeaderMap, host: HeaderValue, body: &Body) {
    headers.insert(header::HOST, host);
    match body {
        Body::Whole(bytes) => {
            headers.remove(header::EXPECT);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        }
        Body::Empty => {
            headers.remove(header::EXPECT);
            if headers.contains_key(header::CONTENT_LENGTH) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        Body::Streamed => {}
    }
}

fn because(unmet: Option<&Unmet>) -> String {
    unmet.map_or(String::new(), |unmet| format!(": {unmet}"))
}

/// Why a request can't become a call.
#[derive(Debug, thiserror::Error)]
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
    #[error("outside the task's remit{}", because(unmet.as_ref()))]
    OutOfRemit {
        /// What was asked, for the hint.
        operation: String,
        /// The JSON-RPC id, on MCP.
        id: Option<Value>,
        /// The limit that is in the way of a grant that would cover it.
        unmet: Option<Unmet>,
    },
    /// The agent brought a key, and the tool refuses them.
    #[error("the agent brought a key in {0}")]
    KeyRefused(String),
}

#[cfg(test)]
mod tests;
