//! The calls of a task that are on their way to a tool, each with the thread by which it is cut.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::revocation::spelling;
use crate::{Subject, ToolName};

/// A call that is on its way to a tool.
#[derive(Debug)]
pub(crate) struct OpenCall {
    tool: ToolName,
    /// Who vouches for the agent that makes it.
    issuers: Vec<String>,
    /// When the oldest of the agent's tokens was issued, in seconds since the epoch; none where it showed none.
    issued_at: Option<i64>,
    cut: CancellationToken,
}

impl OpenCall {
    pub(crate) fn new(
        tool: ToolName,
        (issuers, issued_at): (Vec<String>, Option<i64>),
        cut: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            tool,
            issuers,
            issued_at,
            cut,
        })
    }

    /// Whether it was made with a token that was issued until then.
    pub(crate) fn is_by_token_until(&self, until: i64) -> bool {
        self.issued_at.is_some_and(|issued_at| issued_at <= until)
    }

    /// Whether it is one of a tool, or of a proof of an issuer. Those of an agent or owner are cut with their tasks.
    pub(crate) fn is_of(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Tool(tool) => self.tool == *tool,
            Subject::Issuer(issuer) => {
                let mut issuers = self.issuers.iter();
                issuers.any(|own| spelling(own) == spelling(issuer))
            }
            Subject::Agent(_) | Subject::Owner(_) => false,
        }
    }

    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }
}

/// A call's place among those that are on their way to a tool; given back when this is dropped.
#[derive(Debug)]
#[must_use = "what it is about can't cut the call once it is dropped"]
pub struct Reach {
    pub(crate) entry: Arc<Entry>,
    pub(crate) call: Arc<OpenCall>,
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.entry.leave(&self.call);
    }
}
