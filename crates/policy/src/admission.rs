//! The answer to the wish to open a task.

use tasks::{Opening, StoreError, TaskView, Tasks};

/// Who asks to open a task, as admission policy sees it (`input.operator`).
#[derive(Clone, Debug, serde::Serialize)]
pub struct Opener {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
}

/// An opening that policy admitted. Only this opens a task.
///
/// ```compile_fail,E0451
/// fn forge(opening: tasks::Opening) -> policy::Admitted {
///     policy::Admitted { opening }
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    opening: Opening,
}

impl Admitted {
    pub(crate) fn new(opening: Opening) -> Self {
        Self { opening }
    }

    /// Opens the task.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where an admission opens a task"
    )]
    pub async fn open(self, tasks: &Tasks) -> Result<TaskView, StoreError> {
        tasks.open(self.opening).await
    }
}
