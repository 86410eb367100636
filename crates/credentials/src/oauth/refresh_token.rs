//! A refresh token that is exchanged at each use, in a file.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::{ProviderError, Secret, SecretRef};

/// A refresh token in a file that the gateway alone writes.
///
/// **Invariant.** It is used by one at a time, whoever has it configured; the token that replaces it is in the file, for
/// good, before anybody gets what came with it.
#[derive(Debug)]
pub(super) struct RefreshToken {
    path: PathBuf,
    /// The one in the file and the one that replaces it, while that could not be written.
    unsaved: Option<(Secret, Secret)>,
}

/// By file: reads and writes of two providers, or of two configs, must not cross.
static ALL: LazyLock<Mutex<HashMap<PathBuf, Shared>>> = LazyLock::new(Mutex::default);

/// One file's token.
pub(super) type Shared = Arc<tokio::sync::Mutex<RefreshToken>>;

impl RefreshToken {
    /// The token of a file. Links are followed, so that the file itself is replaced.
    pub(super) fn of(path: &Path) -> Shared {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut all = ALL.lock();
        let token = all.entry(path.clone()).or_insert_with(|| {
            let unsaved = None;
            Arc::new(tokio::sync::Mutex::new(Self { path, unsaved }))
        });
        Arc::clone(token)
    }

    /// The token to use. Refused where what replaces it could not be written.
    pub(super) async fn current(&mut self) -> Result<Secret, ProviderError> {
        let mut found = SecretRef::File(self.path.clone()).read().await?;
        if let Some((old, new)) = self.unsaved.take()
            && is_same(&old, &found)
        {
            // A token of before is worth nothing, or shows the server that it was stolen.
            self.save(&new).await.inspect_err(|_| {
                self.unsaved = Some((old, copy(&new)));
            })?;
            found = new;
        }
        let path = self.path.clone();
        let drafted = spawn_blocking(move || draft(&path).map(drop)).await;
        self.written(drafted.unwrap_or_else(|error| Err(io::Error::other(error))))?;
        Ok(found)
    }

    /// Replaces the token by the one that the server gave for it. Durable when it returns.
    pub(super) async fn replace(&mut self, old: Secret, new: Secret) -> Result<(), ProviderError> {
        if is_same(&old, &new) {
            return Ok(());
        }
        let saved = self.save(&new).await;
        if saved.is_err() {
            self.unsaved = Some((old, new));
        }
        saved
    }

    #[expect(clippy::disallowed_methods, reason = "to write it to its file")]
    async fn save(&self, token: &Secret) -> Result<(), ProviderError> {
        let (path, text) = (self.path.clone(), Zeroizing::new(token.expose().to_vec()));
        let saved = spawn_blocking(move || write(&path, &text)).await;
        self.written(saved.unwrap_or_else(|error| Err(io::Error::other(error))))
    }

    fn written(&self, result: io::Result<()>) -> Result<(), ProviderError> {
        result.map_err(|error| {
            let path = self.path.display();
            ProviderError::Failed(format!("refresh token `{path}` can't be replaced: {error}"))
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "to compare them")]
fn is_same(one: &Secret, other: &Secret) -> bool {
    one.expose() == other.expose()
}

#[expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "to keep it until it can be written; a secret's text makes a secret"
)]
fn copy(secret: &Secret) -> Secret {
    Secret::new(secret.expose().to_vec()).expect("a secret")
}

/// Opens what will take the file's place, beside it.
fn draft(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".draft");
    let draft = path.with_file_name(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok((draft, file))
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let (draft, mut file) = draft(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    // The new name has to survive a power cut, too.
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, text.as_bytes()).unwrap();
        (folder, path)
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_token_is_replaced_in_its_file() {
        let (_folder, path) = put("first");
        let shared = RefreshToken::of(&path);
        let mut token = shared.lock().await;
        let first = token.current().await.unwrap();
        token.replace(first, secret("second")).await.unwrap();
        assert!(is_same(&token.current().await.unwrap(), &secret("second")));
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    #[tokio::test]
    async fn a_token_that_could_not_be_written_is_not_forgotten() {
        let (folder, path) = put("first");
        let shared = RefreshToken::of(&path);
        let mut token = shared.lock().await;
        let first = token.current().await.unwrap();
        let aside = folder.path().with_extension("aside");
        fs::rename(folder.path(), &aside).unwrap();
        let lost = token.replace(first, secret("second")).await.unwrap_err();
        assert!(!lost.to_string().contains("second"));
        fs::rename(&aside, folder.path()).unwrap();
        assert!(is_same(&token.current().await.unwrap(), &secret("second")));
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    }
    #[tokio::test]
    async fn a_token_that_somebody_put_there_meanwhile_counts() {
        let (folder, path) = put("first");
        let shared = RefreshToken::of(&path);
        let mut token = shared.lock().await;
        let first = token.current().await.unwrap();
        let aside = folder.path().with_extension("aside");
        fs::rename(folder.path(), &aside).unwrap();
        token.replace(first, secret("second")).await.unwrap_err();
        fs::rename(&aside, folder.path()).unwrap();
        write(&path, b"third").unwrap();
        assert!(is_same(&token.current().await.unwrap(), &secret("third")));
    }
    #[tokio::test]
    async fn a_token_that_can_never_be_replaced_is_not_used() {
        let shared = RefreshToken::of(Path::new("/proc/self/status"));
        shared.lock().await.current().await.unwrap_err();
    }
    #[test]
    fn one_file_has_one_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, b"first").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Arc::ptr_eq(
            &RefreshToken::of(&path),
            &RefreshToken::of(&link)
        ));
    }
}
