//! What is asked of a tool, in the words of its protocol.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header};
use serde_json::Value;
use tasks::{
    Access, Arguments, Asked, Cover, OperationPattern, Task, Unmet, Wanted, WantedOperation,
};

use crate::body::{self, Body};
use crate::call::Unobservable;
use crate::found_key::Notes;
use crate::head::Pair;
use crate::mcp::{self, Kind, McpCall};
use crate::meter::{self, Called, Meter};
use crate::operation::{choose, judged, names_method};
use crate::phantom;
use crate::placeholder::{self, Placed, Placeholder};
use crate::tools::{BodyPlan, Mark, Protocol, Tool};

/// A request below a tool, its keys off, before it has an operation.
pub(crate) struct Asking<'a> {
    pub(crate) tool: &'a Tool,
    pub(crate) method: &'a Method,
    /// As policy sees it.
    pub(crate) path: &'a str,
    pub(crate) segments: &'a [String],
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: &'a [Pair],
    pub(crate) body: &'a Body,
    pub(crate) plan: BodyPlan,
    pub(crate) placeholders: &'a [Placeholder],
}

/// What was observed.
pub(crate) struct Observed {
    pub(crate) operation: String,
    pub(crate) access: Access,
    pub(crate) arguments: Option<Value>,
    pub(crate) mcp: Option<McpCall>,
    /// The body without the keys that were in it, where some came off.
    pub(crate) rewritten: Option<Bytes>,
    form: Form,
}

/// What a task must cover.
enum Form {
    /// Any grant on the tool: without its lifecycle a tool can't be used at all, whatever
    /// operations and access classes the grant names.
    Lifecycle,
    /// A named operation.
    Name,
    /// A method and the segments of the path.
    Route { method: String },
    /// A gRPC method, by its full name or as a route.
    Rpc { name: String },
}

impl Asking<'_> {
    /// Observes operation, access class and arguments.
    pub(crate) fn observe(&self, notes: &mut Notes<'_>) -> Result<Observed, Unobservable> {
        match self.tool.protocol {
            Protocol::Http => self.http(notes),
            Protocol::Mcp => self.mcp(notes),
            Protocol::Grpc => self.grpc(),
        }
    }

    /// Whether one of these patterns, in lower case, covers it; none but an HTTP tool's do.
    pub(crate) fn is_one_of(&self, patterns: &[OperationPattern]) -> bool {
        if patterns.is_empty() || self.tool.protocol != Protocol::Http {
            return false;
        }
        let mut segments: Vec<String> = self.segments.iter().map(|it| it.to_lowercase()).collect();
        if segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        let asked = Asked::Route {
            method: self.method.as_str(),
            segments: &segments,
        };
        patterns.iter().any(|pattern| pattern.covers(asked))
    }

    /// The phantoms in its body.
    pub(crate) fn phantoms(&self, observed: &Observed) -> Vec<Placed> {
        let Some(arguments) = &observed.arguments else {
            return Vec::new();
        };
        let is_form = body::is_form(self.headers);
        phantom::in_arguments(arguments, is_form)
    }

    /// The placeholders in its body.
    pub(crate) fn placed(&self, observed: &Observed) -> Vec<Placed> {
        match (&observed.arguments, &observed.mcp) {
            (Some(arguments), None) => {
                let is_form = body::is_form(self.headers);
                placeholder::in_arguments(self.placeholders, arguments, is_form)
            }
            (Some(arguments), Some(_)) => {
                // As the whole message has them.
                let message = serde_json::json!({ "params": { "arguments": arguments } });
                placeholder::in_arguments(self.placeholders, &message, false)
            }
            (None, _) => Vec::new(),
        }
    }

    fn http(&self, notes: &mut Notes<'_>) -> Result<Observed, Unobservable> {
        let method = judged(self.method, self.patterns());
        let asked = Asked::Route {
            method,
            segments: self.segments,
        };
        let (access, pattern) = choose(&self.tool.access, |pattern| {
            // OPTIONS shows what a server can do: a pattern that says `*` does not mean it.
            let is_meant =
                *self.method != Method::OPTIONS || names_method(pattern.as_str(), self.method);
            pattern.is_route() && is_meant && pattern.covers(asked)
        })
        .ok_or_else(|| self.unknown(None))?;
        let read = self.arguments(notes)?;
        let (arguments, rewritten) = match read {
            Some(read) => (Some(read.arguments), read.rewritten),
            None => (None, None),
        };
        Ok(Observed {
            operation: pattern.as_str().to_owned(),
            access,
            arguments,
            mcp: None,
            rewritten,
            form: Form::Route {
                method: method.to_owned(),
            },
        })
    }

    fn arguments(&self, notes: &mut Notes<'_>) -> Result<Option<body::Read>, Unobservable> {
        let Some(bytes) = self.read_bytes()? else {
            return Ok(None);
        };
        body::arguments(self.headers, bytes, notes).map(Some)
    }

    /// The body's bytes if it was to be read; doubt about that denies.
    fn read_bytes(&self) -> Result<Option<&[u8]>, Unobservable> {
        match (self.plan, self.body) {
            (BodyPlan::Stream, _) => Ok(None),
            (BodyPlan::Read { .. }, Body::Streamed) => {
                Err(Unobservable::Body("it was not read".to_owned()))
            }
            (BodyPlan::Read { limit }, Body::Whole(bytes)) if bytes.len() > limit => {
                Err(Unobservable::Body("it is over the limit".to_owned()))
            }
            (BodyPlan::Read { .. }, body) => Ok(body.bytes()),
        }
    }

    fn mcp(&self, notes: &mut Notes<'_>) -> Result<Observed, Unobservable> {
        if !self.segments.is_empty() {
            return Err(self.unknown(None));
        }
        let bytes = self.read_bytes()?;
        let mut rewritten = None;
        let message = match (self.method.as_str(), bytes) {
            ("POST", bytes) => {
                let read = body::json(self.headers, bytes.unwrap_or_default(), notes)?;
                rewritten = read.rewritten;
                mcp::read(self.headers, read.arguments)?
            }
            ("GET", None) => mcp::without_body("stream/open", self.headers)?,
            ("DELETE", None) => mcp::without_body("session/end", self.headers)?,
            ("GET" | "DELETE", Some(_)) => {
                return Err(Unobservable::Body("there is one".to_owned()));
            }
            _ => return Err(self.unknown(None)),
        };
        match message.kind {
            Kind::Lifecycle => Ok(Observed {
                operation: message.call.method.clone(),
                access: Access::Read,
                arguments: None,
                mcp: Some(message.call),
                rewritten,
                form: Form::Lifecycle,
            }),
            Kind::ToolCall { name, arguments } => {
                let found = choose(&self.tool.access, |pattern| {
                    !pattern.is_route() && pattern.covers(Asked::Name(&name))
                });
                let (access, _) = found.ok_or_else(|| self.unknown(message.call.id.clone()))?;
                Ok(Observed {
                    operation: name,
                    access,
                    arguments,
                    mcp: Some(message.call),
                    rewritten,
                    form: Form::Name,
                })
            }
        }
    }

    fn grpc(&self) -> Result<Observed, Unobservable> {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        if !content_type.is_some_and(|value| is_grpc(value.as_bytes())) {
            return Err(Unobservable::BodyType("it is not gRPC".to_owned()));
        }
        let name = match (self.method.as_str(), self.segments) {
            ("POST", [service, method]) if !method.is_empty() => format!("{service}/{method}"),
            _ => return Err(self.unknown(None)),
        };
        let route = Asked::Route {
            method: self.method.as_str(),
            segments: self.segments,
        };
        let (access, pattern) = choose(&self.tool.access, |pattern| {
            if pattern.is_route() {
                pattern.covers(route)
            } else {
                pattern.covers(Asked::Name(&name))
            }
        })
        .ok_or_else(|| self.unknown(None))?;
        Ok(Observed {
            operation: pattern.as_str().to_owned(),
            access,
            arguments: None,
            mcp: None,
            rewritten: None,
            form: Form::Rpc { name },
        })
    }

    fn patterns(&self) -> impl Iterator<Item = &str> {
        self.tool
            .access
            .iter()
            .map(|(_, pattern)| OperationPattern::as_str(pattern))
    }

    fn unknown(&self, id: Option<Value>) -> Unobservable {
        Unobservable::UnknownOperation {
            tool: self.tool.name.as_str().to_owned(),
            id,
        }
    }

    /// Refuses what is outside the task, and a declaration of another operation.
    pub(crate) fn check(&self, observed: &Observed, task: &Task) -> Result<Cover, Unobservable> {
        if let Some(declared) = &task.declared().operation
            && !self.is_named(observed, declared)
        {
            return Err(Unobservable::Contradiction("agent-tool"));
        }
        let cover = self.cover(observed, task);
        cover.map_err(|unmet| Unobservable::OutOfRemit {
            operation: observed.operation.clone(),
            id: observed.mcp.as_ref().and_then(|mcp| mcp.id.clone()),
            unmet,
        })
    }

    /// Whether a declared operation is the observed one: by its pattern, its name, or as it stands
    /// in the request line.
    fn is_named(&self, observed: &Observed, declared: &str) -> bool {
        declared == observed.operation
            || match &observed.form {
                Form::Lifecycle | Form::Name => false,
                Form::Rpc { name } => declared == name,
                Form::Route { .. } => {
                    declared.split_once(' ') == Some((self.method.as_str(), self.path))
                }
            }
    }

    fn cover(&self, observed: &Observed, task: &Task) -> Result<Cover, Option<Unmet>> {
        let elsewhere: Vec<&str> = self.query.iter().map(|pair| &*pair.key).collect();
        let forms = self.forms(observed);
        let operation = WantedOperation {
            access: observed.access,
            forms: &forms,
            arguments: if self.knows_arguments() {
                Arguments::Known {
                    value: observed.arguments.as_ref(),
                    elsewhere: &elsewhere,
                }
            } else {
                Arguments::Unknown
            },
        };
        task.cover(&Wanted {
            tool: &self.tool.name,
            environment: self.tool.environment.as_deref(),
            operation: (!forms.is_empty()).then_some(operation),
        })
    }

    /// Whether all arguments are read, and stand in no header besides. MCP's mirror arguments by names that only the tool's
    /// schema tells (2026-07-28, "Streamable HTTP").
    fn knows_arguments(&self) -> bool {
        let is_mirror = |name: &HeaderName| name.as_str().starts_with("mcp-param-");
        self.plan != BodyPlan::Stream && !self.headers.keys().any(is_mirror)
    }

    /// What is asked, in all of its forms. A lifecycle has none.
    fn forms<'b>(&'b self, observed: &'b Observed) -> Vec<Asked<'b>> {
        let segments = self.segments;
        match &observed.form {
            Form::Lifecycle => Vec::new(),
            Form::Name => vec![Asked::Name(&observed.operation)],
            Form::Route { method } => vec![Asked::Route { method, segments }],
            Form::Rpc { name } => {
                let method = self.method.as_str();
                vec![Asked::Name(name), Asked::Route { method, segments }]
            }
        }
    }

    /// Whether something that is said of these operations and access classes is said of this call; without any it is.
    fn is_meant(
        &self,
        observed: &Observed,
        operations: &[OperationPattern],
        access: &[Access],
    ) -> bool {
        let is_class = access.is_empty() || access.contains(&observed.access);
        is_class
            && (operations.is_empty()
                || self.forms(observed).iter().any(|form| {
                    let mut operations = operations.iter();
                    operations.any(|pattern| pattern.covers(*form))
                }))
    }

    /// How what it costs is read from its answer.
    pub(crate) fn meters(&self, observed: &Observed) -> Vec<Arc<Meter>> {
        if matches!(observed.form, Form::Lifecycle) {
            return Vec::new();
        }
        let meters = self.tool.meters.iter();
        let meant =
            meters.filter(|meter| self.is_meant(observed, &meter.operations, &meter.access));
        meant.map(Arc::clone).collect()
    }

    /// What it is made on; the lifecycle of a tool is made on nothing.
    pub(crate) fn resource(&self, observed: &Observed) -> Option<String> {
        let called = match &observed.form {
            Form::Lifecycle => return None,
            Form::Name => Called::Name(&observed.operation),
            Form::Rpc { name } => Called::Name(name),
            Form::Route { .. } => Called::Path(self.segments),
        };
        let asked = meter::Asked {
            arguments: observed.arguments.as_ref(),
            query: self.query,
        };
        let rule = &self.tool.resource;
        Some(rule.of(self.tool.name.as_str(), called, asked))
    }

    /// The labels that the call gives its task, if it is permitted.
    pub(crate) fn marks(&self, observed: &Observed) -> Vec<String> {
        let is_meant = |mark: &&Mark| self.is_meant(observed, &mark.operations, &mark.access);
        let mut marks: Vec<String> = Vec::new();
        for label in self
            .tool
            .marks
            .iter()
            .filter(is_meant)
            .flat_map(|mark| &mark.labels)
        {
            if !marks.contains(label) {
                marks.push(label.clone());
            }
        }
        marks
    }
}

/// `application/grpc`, alone or with a message format; gRPC-Web is another protocol.
fn is_grpc(content_type: &[u8]) -> bool {
    let lower = content_type.to_ascii_lowercase();
    lower
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
}

#[cfg(test)]
mod tests;
