//! What for?
//!
//! [`Tasks::bind`] binds an authenticated agent to the open task it works on.
//!
//! **Invariant.** A [`Task`] stands for one call of an agent on an open task of its own. It is made
//! in this crate and nowhere else. A limit is never passed, and never counted lower than used.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use identity::{Agent, AgentId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Every task this gateway knows.
#[derive(Debug)]
pub struct Tasks;

/// What the task book is made of, parsed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The life of a task that asks for none.
    pub ttl_default: std::time::Duration,
    /// The longest life a task may ask for.
    pub ttl_max: std::time::Duration,
    /// The names of the declaring headers.
    pub headers: DeclarationHeaders,
}

/// The names of the headers in which agents declare their call.
#[derive(Clone, Debug)]
pub struct DeclarationHeaders {
    /// `agent-task` unless configured.
    pub task: http::HeaderName,
    /// `agent-tool` unless configured.
    pub tool: http::HeaderName,
    /// `agent-context` unless configured.
    pub context: http::HeaderName,
}

/// The id of a task; a UUIDv7.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
pub struct TaskId(Arc<str>);
impl TaskId {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
/// A text that is no task id.
#[derive(Debug, thiserror::Error)]
#[error("task id `{0}` is not a UUID")]
pub struct InvalidTaskId(String);
impl std::str::FromStr for TaskId {
    type Err = InvalidTaskId;
    fn from_str(_t: &str) -> Result<Self, InvalidTaskId> {
        todo!()
    }
}

/// The name of a tool: `[a-z][a-z0-9_]*` without `__`; `mcp`, `oauth2` and `all` are reserved.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ToolName(Arc<str>);
impl ToolName {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Display for ToolName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
/// A name that no tool can have.
#[derive(Debug, thiserror::Error)]
#[error("tool name `{0}` is not `[a-z][a-z0-9_]*` without `__`, or is reserved")]
pub struct InvalidToolName(String);
impl std::str::FromStr for ToolName {
    type Err = InvalidToolName;
    fn from_str(_t: &str) -> Result<Self, InvalidToolName> {
        todo!()
    }
}
impl TryFrom<String> for ToolName {
    type Error = InvalidToolName;
    fn try_from(t: String) -> Result<Self, InvalidToolName> {
        t.parse()
    }
}

/// How deep a call reaches.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// It looks.
    Read,
    /// It changes.
    Write,
    /// It makes something run.
    Execute,
}
impl Access {
    /// The name in config, policy input and telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
        }
    }
}

/// A pattern of operations: `GET /repos/*/issues`, `* /admin/**`, or a name such as `create_*`.
///
/// In a route `*` stands for one segment, `**` at the end for any number of them; in a name `*` stands for any characters.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationPattern {
    text: Arc<str>,
}
impl OperationPattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Whether the pattern covers what is asked.
    pub fn covers(&self, _asked: Asked<'_>) -> bool {
        todo!()
    }
    /// Whether it is a route (`METHOD /path`) rather than a name.
    pub fn is_route(&self) -> bool {
        todo!()
    }
}
impl From<OperationPattern> for String {
    fn from(p: OperationPattern) -> Self {
        p.text.to_string()
    }
}
/// A text that is no operation pattern.
#[derive(Debug, thiserror::Error)]
#[error("operation pattern `{0}`: {1}")]
pub struct InvalidPattern(String, &'static str);
impl std::str::FromStr for OperationPattern {
    type Err = InvalidPattern;
    fn from_str(_t: &str) -> Result<Self, InvalidPattern> {
        todo!()
    }
}
impl TryFrom<String> for OperationPattern {
    type Error = InvalidPattern;
    fn try_from(t: String) -> Result<Self, InvalidPattern> {
        t.parse()
    }
}

/// The one thing a call asks for, in the form that patterns are matched against.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// An HTTP method and the decoded path segments below the tool.
    Route {
        /// Upper case.
        method: &'a str,
        /// Without the leading `/`; a trailing `/` gives a last empty segment.
        segments: &'a [String],
    },
    /// A named operation, such as an MCP tool.
    Name(&'a str),
}

/// What a task may touch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The tool.
    pub tool: ToolName,
    /// The tool's environment; any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The access classes.
    pub access: Vec<Access>,
    /// The operations; all of the access classes unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationPattern>,
}

/// What a task may use up. None means unlimited.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Calls by access class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls_by_access: BTreeMap<Access, u64>,
    /// Calls by tool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls_by_tool: BTreeMap<ToolName, u64>,
}

/// A task that somebody asks to open: well formed, not yet admitted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpeningRequest {
    /// The agent that is to work on it.
    pub agent: String,
    /// On whose behalf.
    pub owner: String,
    /// What for, in the owner's words.
    #[serde(default)]
    pub purpose: String,
    /// What it may touch.
    pub grants: Vec<Grant>,
    /// How long it lives, in seconds; the configured default unless given.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// What it may use up.
    #[serde(default)]
    pub limits: Limits,
    /// Free attributes, for policy.
    #[serde(default)]
    pub attributes: serde_json::Map<String, Value>,
    /// Labels, for policy.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// A well formed wish to open a task. Only admission turns it into a task.
#[derive(Debug)]
#[must_use]
pub struct Opening;
impl Opening {
    /// The whole of it as admission policy sees it, under `input.task`.
    pub fn as_input(&self) -> Value {
        todo!()
    }
}

/// Why a task can't be opened as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOpening {
    /// A field is not what it must be.
    #[error("`{field}`: {problem}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// What a task looks like from outside; the shape of the control API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// The agent that works on it.
    pub agent: String,
    /// On whose behalf.
    pub owner: String,
    /// What for.
    pub purpose: String,
    /// `open` or `ended` (later `paused`).
    pub state: String,
    /// Why it ended: `completed`, `revoked`, `expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_because: Option<String>,
    /// RFC 3339.
    pub opened_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// What it may touch.
    pub grants: Vec<Grant>,
    /// What it may use up.
    pub limits: Limits,
    /// What it used up.
    pub used: Usage,
    /// Free attributes.
    pub attributes: serde_json::Map<String, Value>,
    /// Labels.
    pub labels: Vec<String>,
}

/// What a task used up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Calls in all.
    pub calls: u64,
    /// Calls by access class.
    pub by_access: BTreeMap<Access, u64>,
    /// Calls by tool.
    pub by_tool: BTreeMap<ToolName, u64>,
}

/// Why a task ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its work is done.
    Completed,
    /// Somebody took it back.
    Revoked,
    /// Its time was over.
    Expired,
}

impl Tasks {
    /// Loads every task from the store, ending what has expired meanwhile.
    pub async fn load(_config: Config, _store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        todo!()
    }
    /// Checks a wish to open a task against the configured bounds.
    pub fn opening(&self, _request: OpeningRequest) -> Result<Opening, InvalidOpening> {
        todo!()
    }
    /// Opens a task. Called by `policy::Admitted::open` alone.
    pub async fn open(&self, _opening: Opening) -> Result<TaskView, StoreError> {
        todo!()
    }
    /// Binds an agent to its open task.
    pub fn bind(&self, _agent: Agent, _headers: &HeaderMap) -> Result<Task, Unbound> {
        todo!()
    }
    /// One task.
    pub fn show(&self, _id: &TaskId) -> Option<TaskView> {
        todo!()
    }
    /// All tasks, newest first.
    pub fn list(&self) -> Vec<TaskView> {
        todo!()
    }
    /// Ends a task: durable first, then its open calls are cut. Ending twice answers the same.
    pub async fn end(&self, _id: &TaskId, _ending: Ending) -> Result<TaskView, EndError> {
        todo!()
    }
    /// Every task that ends is sent here once, whatever ended it.
    pub fn endings(&self) -> tokio::sync::broadcast::Receiver<TaskId> {
        todo!()
    }
    /// Ends tasks as they expire, until `stop`; writes exact counters when it stops.
    pub async fn keep(self: Arc<Self>, _stop: CancellationToken) {
        todo!()
    }
    /// Binds for an explanation of what would be decided: nothing is counted. The agent is the task's own.
    pub fn rehearse(&self, _id: &TaskId) -> Option<Task> {
        todo!()
    }
}

/// Why a task couldn't be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// No such task.
    #[error("no task `{0}`")]
    Unknown(TaskId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An agent's call on an open task of its own.
#[derive(Debug)]
#[must_use]
pub struct Task {
    agent: Agent,
}
impl Task {
    /// Who asks.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }
    /// Its id.
    pub fn id(&self) -> &TaskId {
        todo!()
    }
    /// On whose behalf.
    pub fn owner(&self) -> &str {
        todo!()
    }
    /// What for.
    pub fn purpose(&self) -> &str {
        todo!()
    }
    /// What it may touch.
    pub fn grants(&self) -> &[Grant] {
        todo!()
    }
    /// Free attributes.
    pub fn attributes(&self) -> &serde_json::Map<String, Value> {
        todo!()
    }
    /// Labels.
    pub fn labels(&self) -> &[String] {
        todo!()
    }
    /// When it was opened, RFC 3339.
    pub fn opened_at(&self) -> &str {
        todo!()
    }
    /// When it expires, RFC 3339.
    pub fn expires_at(&self) -> &str {
        todo!()
    }
    /// When it expires, in seconds since the epoch.
    pub fn expires_at_epoch(&self) -> i64 {
        todo!()
    }
    /// What the agent says of its call.
    pub fn declared(&self) -> &Declared {
        todo!()
    }
    /// What was used up before this call.
    pub fn usage(&self) -> Usage {
        todo!()
    }
    /// Cancelled when the task ends: whatever is open for it must be cut.
    pub fn ended(&self) -> CancellationToken {
        todo!()
    }
    /// Whether a grant covers this.
    pub fn covers(
        &self,
        _tool: &ToolName,
        _environment: Option<&str>,
        _access: Access,
        _asked: Asked<'_>,
    ) -> bool {
        todo!()
    }
    /// Counts one permitted call, durably enough that a crash never counts lower; refused when a limit would be passed.
    pub async fn reserve(&self, _tool: &ToolName, _access: Access) -> Result<(), Exhausted> {
        todo!()
    }
}

/// What an agent says of its call. Untrusted.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// `Agent-Task`.
    pub task: Option<String>,
    /// `Agent-Tool`, before the first `/`.
    pub tool: Option<String>,
    /// `Agent-Tool`, after the first `/`.
    pub operation: Option<String>,
    /// `Agent-Context`: strings, tokens, numbers, booleans.
    pub context: serde_json::Map<String, Value>,
}

/// A limit of the task would be passed, or can't be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Exhausted {
    /// `calls`, `calls_by_access.write`, `calls_by_tool.github`…
    #[error("limit `{limit}` of {allowed} is used up")]
    Limit {
        /// Which.
        limit: String,
        /// How many were allowed.
        allowed: u64,
    },
    /// The task ended meanwhile.
    #[error("task has ended")]
    Ended,
    /// The count could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an agent has no task to work on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unbound {
    /// Neither a task token nor `Agent-Task`.
    #[error("no task is named")]
    NoTask,
    /// There is no such task, or it is another agent's: the agent can't tell which.
    #[error("no open task `{0}` of this agent")]
    Unknown(String),
    /// It ended.
    #[error("task `{0}` has ended")]
    Ended(TaskId),
    /// It expired.
    #[error("task `{0}` has expired")]
    Expired(TaskId),
    /// A declaration contradicts the proof.
    #[error("declared task differs from the proven one")]
    Contradiction,
    /// A declaration can't be read.
    #[error("header `{header}` can't be read: {problem}")]
    Malformed {
        /// Which.
        header: String,
        /// Why.
        problem: &'static str,
    },
}

/// Where tasks, counters and leases outlive a crash.
#[async_trait::async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Everything in a table, in key order.
    async fn scan(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
    /// Writes all or nothing; durable when it returns.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;
}
/// The tables of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// Tasks by id.
    Tasks,
    /// Counter blocks by task id.
    Counters,
    /// Leases by lease key.
    Leases,
}
/// One write to a store.
#[derive(Clone, Debug)]
pub enum Write {
    /// Sets.
    Put {
        /// Where.
        table: Table,
        /// Key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Deletes.
    Delete {
        /// Where.
        table: Table,
        /// Key.
        key: String,
    },
}
/// The store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("store failed: {0}")]
pub struct StoreError(pub String);

/// The embedded store: one redb file, one process.
#[derive(Debug)]
pub struct Embedded;
impl Embedded {
    /// Opens or makes the file `remit.redb` (mode 0600) in this folder (0700).
    pub fn open(_folder: &std::path::Path) -> Result<Self, StoreError> {
        todo!()
    }
}
