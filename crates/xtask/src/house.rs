//! Where things stand in this repository.

use std::path::{Path, PathBuf};

/// The repository that this program was built from.
#[derive(Debug)]
pub(crate) struct House {
    root: PathBuf,
}

impl House {
    pub(crate) fn here() -> Self {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = own.ancestors().nth(2).unwrap_or(own);
        Self {
            root: root.to_owned(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The manifests and fixtures of the real parts.
    pub(crate) fn fixtures(&self) -> PathBuf {
        self.root.join("tests/components")
    }

    /// Where the real parts are put; not in the repository.
    pub(crate) fn components(&self) -> PathBuf {
        self.root.join(".components")
    }
}
