//! How deep a call reaches.

use serde::{Deserialize, Serialize};

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

/// One value for each access class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ByAccess<T> {
    read: T,
    write: T,
    execute: T,
}

impl<T> ByAccess<T> {
    pub(crate) fn of(&self, access: Access) -> &T {
        match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
            Access::Execute => &self.execute,
        }
    }

    pub(crate) fn of_mut(&mut self, access: Access) -> &mut T {
        match access {
            Access::Read => &mut self.read,
            Access::Write => &mut self.write,
            Access::Execute => &mut self.execute,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Access, &T)> {
        [
            (Access::Read, &self.read),
            (Access::Write, &self.write),
            (Access::Execute, &self.execute),
        ]
        .into_iter()
    }
}
