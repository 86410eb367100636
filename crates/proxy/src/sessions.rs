//! The sessions (MCP 2025-11-25) whose clients can show a person a link.

use std::sync::Arc;

use call::Call;
use quick_cache::sync::Cache;

/// How many are remembered; of one that is forgotten calls are refused with a link, as without a session.
const REMEMBERED: usize = 10_000;

/// The longest id that is remembered, in bytes.
const LONGEST: usize = 256;

/// The sessions whose clients can show a person a link: who can't be shown one is told it in words.
pub(crate) struct Sessions(Cache<Session, ()>);

/// A session of one task with one tool. Another task that names it is not in it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Session {
    tool: Arc<str>,
    task: Arc<str>,
    id: String,
}

/// A client that begins a session, and can show a person a link.
#[derive(Clone, Debug)]
pub(crate) struct Elicitor {
    tool: Arc<str>,
    task: Arc<str>,
}

impl Elicitor {
    /// The client, if the call says so of it.
    pub(crate) fn of(call: &Call) -> Option<Self> {
        call.mcp().filter(|mcp| mcp.elicits)?;
        Some(Self {
            tool: call.tool().name.as_str().into(),
            task: call.task().id().as_str().into(),
        })
    }
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// Its server answered with this id.
    pub(crate) fn began(&self, Elicitor { tool, task }: Elicitor, id: &str) {
        if id.len() <= LONGEST {
            let id = id.to_owned();
            self.0.insert(Session { tool, task, id }, ());
        }
    }

    /// Whether a person can be shown a link by whoever makes this call.
    pub(crate) fn elicit(&self, call: &Call) -> bool {
        // Earlier revisions don't know it, and a later one has no sessions.
        let knows = |version: &String| version == "2025-11-25";
        let mcp = call.mcp();
        // Who begins a session says so itself.
        if mcp.is_some_and(|mcp| mcp.elicits) {
            return true;
        }
        let mcp = mcp.filter(|mcp| mcp.version.as_ref().is_none_or(knows));
        let Some(id) = mcp.and_then(|mcp| mcp.session.as_ref()) else {
            return false;
        };
        let session = Session {
            tool: call.tool().name.as_str().into(),
            task: call.task().id().as_str().into(),
            id: id.clone(),
        };
        self.0.get(&session).is_some()
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
