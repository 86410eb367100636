//! What happened?
//!
//! One [`CallRecord`] per call: a plain struct, filled on the way and sent once. It becomes a span
//! tree, a log event, metrics and two audit lines, all under one [`DecisionId`].
//!
//! **Invariant.** Nothing here waits for a collector: a slow one costs counted records, never calls.
//! Only the audit's `decided` line is waited for, since a call that can't be audited isn't made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Names one decision everywhere: reply header, span, log, audit line, lease. A UUIDv7.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct DecisionId(Arc<str>);
impl DecisionId {
    /// Makes a new one.
    #[expect(clippy::new_without_default, reason = "each is new")]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Display for DecisionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What telemetry is made of, parsed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where OTLP goes; nowhere unless given.
    pub otlp: Option<Otlp>,
    /// The audit file; none unless given.
    pub audit: Option<Audit>,
    /// How many records may wait for export.
    pub queue: usize,
    /// `service.name`.
    pub service_name: String,
}
/// An OTLP collector.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// `http://…:4318` or `http://…:4317`.
    pub endpoint: url_text::Endpoint,
    /// The wire.
    pub protocol: OtlpProtocol,
}
/// A validated endpoint text.
pub mod url_text {
    /// `http://host:port[/path]`, as the exporter takes it.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct Endpoint(pub String);
}
/// The wires of OTLP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OtlpProtocol {
    /// HTTP with protobuf bodies.
    HttpProtobuf,
    /// gRPC.
    Grpc,
}
/// The audit file.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Its path.
    pub path: PathBuf,
    /// What a full disk means.
    pub on_failure: AuditFailure,
}
/// What happens to calls that can't be audited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuditFailure {
    /// They are refused; the default.
    Refuse,
    /// They go on, and are counted.
    Continue,
}

/// Everything worth telling about one call. Filled on the way; texts hold no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallRecord {
    /// The one id.
    pub decision: DecisionId,
    /// When the head was in.
    pub started: jiff::Timestamp,
    /// The trace this call belongs to.
    pub trace: Trace,
    /// The caller's network address.
    pub client: Option<std::net::SocketAddr>,
    /// Upper case.
    pub method: String,
    /// The canonical authority, once known.
    pub host: String,
    /// The canonical path, once known; without the query.
    pub path: String,
    /// `1.1` or `2`.
    pub http_version: &'static str,
    /// The agent, once known.
    pub agent: Option<Arc<str>>,
    /// How it proved itself: `task_token`, `jwt`.
    pub agent_method: Option<&'static str>,
    /// The task, once bound.
    pub task: Option<Arc<str>>,
    /// Its owner.
    pub owner: Option<Arc<str>>,
    /// The tool, once routed.
    pub tool: Option<Arc<str>>,
    /// `http`, `mcp`, `grpc`.
    pub protocol: Option<&'static str>,
    /// The operation, once observed.
    pub operation: Option<Arc<str>>,
    /// `read`, `write`, `execute`.
    pub access: Option<&'static str>,
    /// The tool's environment.
    pub environment: Option<Arc<str>>,
    /// What MCP says of the call.
    pub mcp: Option<Mcp>,
    /// The agent's keys that came off.
    pub stripped: Vec<StrippedKey>,
    /// How it was ruled.
    pub verdict: Verdict,
    /// The refusal's code, where it was refused.
    pub code: Option<&'static str>,
    /// The policy's reason.
    pub reason: Option<String>,
    /// Why, for operators alone.
    pub cause: Option<String>,
    /// The policy revision that judged.
    pub policy_revision: Option<Arc<str>>,
    /// The lease that was used.
    pub lease: Option<LeaseNote>,
    /// What the agent was answered.
    pub status: Option<u16>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    /// What policy took.
    pub policy_time: Duration,
    /// What obtaining the credential took.
    pub lease_time: Duration,
    /// From forwarding to the first byte of the answer.
    pub upstream_time: Option<Duration>,
    /// When it was forwarded.
    pub forwarded: Option<jiff::Timestamp>,
    /// The upstream's address and port, once forwarded.
    pub upstream: Option<(Arc<str>, u16)>,
    /// From the head in to the last byte out.
    pub total_time: Duration,
    /// How it ended.
    pub ending: Ending,
}
/// How a call was ruled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verdict {
    /// No ruling was reached.
    #[default]
    Error,
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
    /// Needs an approval.
    Escalate,
}
/// How a call ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ending {
    /// The whole answer went out.
    #[default]
    Complete,
    /// The task ended while it was open.
    Cut,
    /// The agent went away.
    ClientGone,
    /// The upstream failed.
    UpstreamFailed,
    /// The gateway failed.
    Internal,
}
/// What MCP says of a call.
#[derive(Clone, Debug, Default)]
pub struct Mcp {
    /// The JSON-RPC method.
    pub method: String,
    /// The tool, prompt or resource named.
    pub name: Option<String>,
    /// The JSON-RPC id, as JSON.
    pub request_id: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The protocol version.
    pub version: Option<String>,
}
/// A key of the agent's that came off.
#[derive(Clone, Debug)]
pub struct StrippedKey {
    /// `header:x-api-key`, `query:api_key`, `cookie`, `userinfo`.
    pub place: String,
    /// The first 16 hex digits of a keyed hash.
    pub fingerprint: String,
}
/// What is told of a lease.
#[derive(Clone, Debug)]
pub struct LeaseNote {
    /// Its id.
    pub id: Arc<str>,
    /// `static`, `cmd`…
    pub provider: &'static str,
    /// RFC 3339, if it expires.
    pub expires_at: Option<String>,
    /// A legacy static key?
    pub bridge: bool,
}

/// The trace a call belongs to (W3C Trace Context).
#[derive(Clone, Copy, Debug)]
pub struct Trace;
impl Trace {
    /// Continues the agent's `traceparent`, or begins a new trace.
    pub fn continue_from(_headers: &http::HeaderMap) -> Self {
        todo!()
    }
    /// The `traceparent` to send upstream: the client span's.
    pub fn traceparent(&self) -> http::HeaderValue {
        todo!()
    }
}

impl CallRecord {
    /// Opens the record of one call.
    pub fn open(_trace: Trace, _client: Option<std::net::SocketAddr>) -> Self {
        todo!()
    }
}

/// Takes records without ever waiting for a collector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder;
/// The audit can't be written, and the config says to refuse.
#[derive(Debug, thiserror::Error)]
#[error("audit can't be written: {0}")]
pub struct AuditUnavailable(pub String);

impl Recorder {
    /// Starts the exporters on threads of their own.
    pub fn start(_config: Config) -> Result<(Self, Telemetry), StartError> {
        todo!()
    }
    /// Writes the audit's `decided` line. Waited for before a call is forwarded or refused.
    pub async fn decided(&self, _record: &CallRecord) -> Result<(), AuditUnavailable> {
        todo!()
    }
    /// Closes the record: audit line `closed`, span, log, metrics. Never waits.
    pub fn close(&self, _record: CallRecord) {
        todo!()
    }
    /// The metrics in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        todo!()
    }
    /// Tells what a reload did, for metrics and log.
    pub fn reloaded(&self, _revision: &str, _error: Option<&str>) {
        todo!()
    }
}
/// Flushes and stops the exporters.
#[derive(Debug)]
pub struct Telemetry;
impl Telemetry {
    /// Flushes what waits, for at most this long.
    pub fn shutdown(self, _patience: Duration) {
        todo!()
    }
}
/// Telemetry can't start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);
