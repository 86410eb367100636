//! An approval that was granted is spent: once.

use std::sync::Arc;

use super::record::Closed;
use super::{ApprovalState, Approvals, Entry};
use crate::{Demand, StoreError, TaskId};

/// An approval that was granted and is not used yet. It allows nothing by itself.
#[derive(Debug)]
#[must_use]
pub struct Granted {
    entry: Arc<Entry>,
    demands: Vec<Demand>,
    by: Vec<String>,
    reason: Option<String>,
}

impl Granted {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.entry.id
    }

    /// Who approved. Sorted.
    pub fn by(&self) -> &[String] {
        &self.by
    }

    /// The code that the call was escalated with.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Proof that an approval was spent on one call, which nobody can do again.
///
/// ```compile_fail,E0451
/// fn forge() -> tasks::Approved {
///     tasks::Approved { id: "x".into() }
/// }
/// ```
/// ```compile_fail,E0599
/// fn copy(approved: tasks::Approved) -> (tasks::Approved, tasks::Approved) {
///     (approved.clone(), approved)
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Approved {
    id: Arc<str>,
}

impl Approved {
    /// The approval's id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Why an approval was not spent.
#[derive(Debug, thiserror::Error)]
pub enum Unspent {
    /// Another call was quicker, it was refused meanwhile, or its time is over.
    #[error("approval is not granted any more")]
    Gone,
    /// The store failed. The approval is over all the same: it may have been written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Approvals {
    /// Looks for an approval of this very call that meets these demands. It is not spent by that.
    pub fn find_granted(&self, task: &TaskId, digest: &str, demands: &[Demand]) -> Option<Granted> {
        let key = (task.clone(), digest.to_owned());
        let entry = self.book.lock().by_call.get(&key).map(Arc::clone)?;
        let kept = entry.kept.lock();
        if !kept.is_stored || self.state_under(&kept, demands) != ApprovalState::Granted {
            return None;
        }
        let by = kept.record.approvers();
        let reason = kept.record.reason.clone();
        drop(kept);
        Some(Granted {
            entry,
            demands: demands.to_vec(),
            by,
            reason,
        })
    }

    /// Spends an approval: once, and durably before it returns.
    pub async fn spend(&self, granted: &Granted) -> Result<Approved, Unspent> {
        let Granted { entry, demands, .. } = granted;
        let _writing = entry.writing.lock().await;
        let write = {
            let mut kept = entry.kept.lock();
            if self.state_under(&kept, demands) != ApprovalState::Granted {
                return Err(Unspent::Gone);
            }
            // Over from here on, whatever becomes of the commit: a failed one may have been made.
            kept.record.close(Closed::Spent, self.clock.now());
            entry.put(&kept.record)?
        };
        self.answers_no_more(entry);
        self.store.commit(vec![write]).await?;
        Ok(Approved {
            id: Arc::clone(&entry.id),
        })
    }
}
