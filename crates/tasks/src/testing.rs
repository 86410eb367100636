//! What this crate's tests share: an embedded store that can be away, and wishes to open tasks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Access, Config, Costs, DeclarationHeaders, DelegationBounds, Embedded, Opening, Store,
    StoreError, Table, TaskId, Tasks, ToolName, Write,
};

/// A real embedded store that can be sent away, and counts its commits.
#[derive(Debug)]
pub(crate) struct Disk {
    embedded: Embedded,
    folder: PathBuf,
    away: AtomicBool,
    /// In milliseconds.
    slow: AtomicUsize,
    commits: AtomicUsize,
}

impl Disk {
    pub(crate) fn open(folder: &Path) -> Arc<Self> {
        Arc::new(Self {
            embedded: Embedded::open(folder).unwrap(),
            folder: folder.to_owned(),
            away: AtomicBool::new(false),
            slow: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::SeqCst);
    }

    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::SeqCst);
    }

    /// Each commit takes so long from now on.
    pub(crate) fn slow_down(&self, by: Duration) {
        let millis = usize::try_from(by.as_millis()).unwrap();
        self.slow.store(millis, Ordering::SeqCst);
    }

    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl Store for Disk {
    async fn scan(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.embedded.scan(table).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError("away".to_owned()));
        }
        let slow = self.slow.load(Ordering::SeqCst) as u64;
        if slow > 0 {
            tokio::time::sleep(Duration::from_millis(slow)).await;
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.embedded.commit(writes).await
    }
}

pub(crate) fn config() -> Config {
    Config {
        ttl_default: Duration::from_secs(900),
        ttl_max: Duration::from_secs(3600),
        headers: DeclarationHeaders::default(),
        delegation: DelegationBounds {
            depth: 3,
            children: 4,
            family: 20,
        },
        agents: crate::GateBounds::default(),
        units: vec!["tokens".parse().unwrap()],
        own: 3,
        adoption: Vec::new(),
    }
}

/// A wish of agent `a` to read and write `notes` and `desk`, within these limits.
pub(crate) fn wish(tasks: &Tasks, limits: &Value) -> Opening {
    let request = json!({
        "agent": "a", "owner": "o", "limits": limits,
        "grants": [
            {"tool": "notes", "access": ["read", "write"]},
            {"tool": "desk", "access": ["read"]},
        ],
    });
    tasks
        .opening(serde_json::from_value(request).unwrap())
        .unwrap()
}

/// What a call is counted by that takes nothing else.
pub(crate) fn costs(tool: &ToolName, access: Access) -> Costs<'_> {
    Costs {
        tool,
        access,
        resource: None,
        bytes: 0,
        amounts: Vec::new(),
    }
}

pub(crate) async fn open(tasks: &Tasks, limits: &Value) -> TaskId {
    opened(tasks, wish(tasks, limits)).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests of this crate open tasks without policy"
)]
pub(crate) async fn opened(tasks: &Tasks, opening: Opening) -> TaskId {
    tasks.open(opening).await.unwrap().id
}

/// Delegates a part of a task to read `notes`, with these fields set besides.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests of this crate open tasks without policy"
)]
pub(crate) async fn delegate(
    tasks: &Tasks,
    parent: &TaskId,
    agent: &str,
    change: &Value,
) -> Result<TaskId, String> {
    let mut request = json!({ "agent": agent, "grants": [{"tool": "notes", "access": ["read"]}] });
    for (key, value) in change.as_object().unwrap() {
        request[key] = value.clone();
    }
    let request = serde_json::from_value(request).map_err(|error| error.to_string())?;
    let opening = tasks.delegation(parent, request).unwrap();
    let opening = opening.map_err(|error| error.to_string())?;
    let opened = tasks.open(opening).await;
    opened
        .map(|view| view.id)
        .map_err(|error| error.to_string())
}
