//! Exchanges the folder of a policy for another's files, or its bundle for another: the old one stays beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How deep a policy's folders may nest.
const DEEPEST: usize = 32;

/// The folders that take part.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// The policy's.
    folder: PathBuf,
    /// Where the old one goes.
    previous: PathBuf,
    /// Where the new one is put together.
    next: PathBuf,
}

impl Exchange {
    pub(crate) fn of(folder: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = folder.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            folder.with_file_name(name)
        };
        Self {
            folder: folder.to_owned(),
            previous: beside(".previous"),
            next: beside(".next"),
        }
    }

    /// Copies another folder, then lets it take the place of this one: there is always a whole policy or none.
    pub(crate) fn take(&self, from: &Path) -> io::Result<()> {
        if from.is_dir() != self.folder.is_dir() {
            let message = "one is a folder, the other a bundle: make them alike";
            return Err(io::Error::other(message));
        }
        remove(&self.next)?;
        if from.is_dir() {
            copy(from, &self.next, DEEPEST)?;
        } else {
            fs::copy(from, &self.next)?;
        }
        remove(&self.previous)?;
        fs::rename(&self.folder, &self.previous)?;
        fs::rename(&self.next, &self.folder).or_else(|error| {
            fs::rename(&self.previous, &self.folder)?;
            Err(error)
        })
    }

    /// Puts the old folder back.
    pub(crate) fn undo(&self) -> io::Result<()> {
        remove(&self.next)?;
        fs::rename(&self.folder, &self.next)?;
        fs::rename(&self.previous, &self.folder)?;
        remove(&self.next)
    }
}

/// Removes a folder or a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Copies files and folders; links are not followed, and not taken.
fn copy(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("its folders nest too deep"));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let to = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&path, &to, depth - 1)?;
        } else if kind.is_file() {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Exchange;

    fn folders() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in ["policy", "candidate"] {
            fs::create_dir_all(root.path().join(name).join("data")).unwrap();
            fs::write(root.path().join(name).join("data/which"), name).unwrap();
        }
        root
    }

    fn which(root: &tempfile::TempDir, folder: &str) -> String {
        fs::read_to_string(root.path().join(folder).join("data/which")).unwrap()
    }

    #[test]
    fn the_new_one_is_there_and_the_old_one_beside_it() {
        let root = folders();
        let exchange = Exchange::of(&root.path().join("policy"));
        exchange.take(&root.path().join("candidate")).unwrap();
        assert_eq!(which(&root, "policy"), "candidate");
        assert_eq!(which(&root, "policy.previous"), "policy");
        assert_eq!(which(&root, "candidate"), "candidate");
    }
    #[test]
    fn a_bundle_takes_the_place_of_a_bundle_and_of_nothing_else() {
        let root = folders();
        for name in ["policy.tar.gz", "candidate.tar.gz"] {
            fs::write(root.path().join(name), name).unwrap();
        }
        let exchange = Exchange::of(&root.path().join("policy.tar.gz"));
        exchange
            .take(&root.path().join("candidate.tar.gz"))
            .unwrap();
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!(read("policy.tar.gz"), "candidate.tar.gz");
        assert_eq!(read("policy.tar.gz.previous"), "policy.tar.gz");
        exchange.undo().unwrap();
        assert_eq!(read("policy.tar.gz"), "policy.tar.gz");
        exchange.take(&root.path().join("candidate")).unwrap_err();
        assert_eq!(read("policy.tar.gz"), "policy.tar.gz");
    }
    #[test]
    fn it_can_be_undone() {
        let root = folders();
        let exchange = Exchange::of(&root.path().join("policy"));
        exchange.take(&root.path().join("candidate")).unwrap();
        exchange.undo().unwrap();
        assert_eq!(which(&root, "policy"), "policy");
    }
    #[test]
    fn a_candidate_that_is_not_there_changes_nothing() {
        let root = folders();
        let exchange = Exchange::of(&root.path().join("policy"));
        exchange.take(&root.path().join("nowhere")).unwrap_err();
        assert_eq!(which(&root, "policy"), "policy");
    }
}
