//! The folder in which one gateway keeps what is its own: keys, tasks, leases, tokens.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::ground::{StartError, file_error, make_private_folder};

/// The name of the file that is locked while a gateway runs.
const LOCK: &str = "lock";

/// A state folder that is held: no other gateway starts in it.
///
/// The system lets go of the lock however the process ends.
#[derive(Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Makes the folder if it is not there, and holds it.
    pub(crate) fn hold(folder: &Path) -> Result<Self, StartError> {
        make_private_folder(folder)?;
        let path = fs::canonicalize(folder).map_err(|error| file_error(folder, error))?;
        let lock = path.join(LOCK);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .map_err(|error| file_error(&lock, error))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StartError::Held {
                path: path.display().to_string(),
            },
            TryLockError::Error(error) => file_error(&lock, error),
        })?;
        Ok(Self { path, _lock: file })
    }

    /// Where it is, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
