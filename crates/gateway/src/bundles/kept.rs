//! What is kept of a bundle: the last good archive, for a start without its server, and the latest revision that ever
//! counted, so that none before it does again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use policy::{Bundle, Rank};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::ground::{StartError, make_private_folder, write_private};

/// A revision that counted, and what it was.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Counted {
    revision: String,
    /// The digest of its files: another bundle of the same name is not the same.
    pub(super) digest: String,
}

impl Counted {
    pub(super) fn of(bundle: &Bundle) -> Self {
        Self {
            revision: bundle.manifest().revision.clone(),
            digest: bundle.digest(),
        }
    }

    /// The later one of two; this one where they can't be compared, or the other tells no age.
    pub(super) fn latest(known: Option<Self>, new: Self) -> Option<Self> {
        let known_rank = known.as_ref().and_then(|known| Rank::of(&known.revision));
        let is_later = match (Rank::of(&new.revision), known_rank) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(known)) => new >= known,
        };
        if is_later { Some(new) } else { known }
    }

    /// Refuses a bundle that is older than another that counted, or another one of the same age.
    pub(super) fn check(&self, highest: Option<&Self>) -> Result<(), Problem> {
        let revision = &self.revision;
        let Some(rank) = Rank::of(revision) else {
            let message = format!(
                "its revision `{revision}` tells no age, and `rollback` is `refuse`: name revisions `42`, `1.12.0` or `2026-01-02T03:04:05Z`"
            );
            return Err(Problem::new("bundle-revision", message));
        };
        let Some((highest, highest_rank)) =
            highest.and_then(|highest| Some((highest, Rank::of(&highest.revision)?)))
        else {
            return Ok(());
        };
        let before = &highest.revision;
        if rank == highest_rank && self.digest != highest.digest {
            let message = format!(
                "its revision `{revision}` counted with other files, and `rollback` is `refuse`: raise the revision"
            );
            return Err(Problem::new("bundle-revision", message));
        }
        if rank >= highest_rank {
            return Ok(());
        }
        let message = format!(
            "its revision `{revision}` is older than `{before}`, and `rollback` is `refuse`"
        );
        Err(Problem::new("bundle-rollback", message))
    }
}

/// What is said of the archive.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    /// Where it came from.
    pub(super) origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// The digest of the bundle that the tag is of.
    pub(super) digest: String,
    /// The latest revision that ever counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) highest: Option<Counted>,
}

/// The place of one bundle.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    name: String,
}

impl Kept {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
        }
    }

    /// None where nothing was kept; an error where what was kept can't be understood.
    pub(super) fn label(&self) -> Result<Option<Label>, Problem> {
        let path = self.file("json");
        let broken = |error: &dyn std::fmt::Display| {
            let message = format!(
                "`{}` tells which revision was the latest, and can't be read: {error}. Put it back, or delete it if any revision may count",
                path.display()
            );
            Problem::new("bundle-not-kept", message)
        };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| broken(&error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(broken(&error)),
        }
    }

    pub(super) fn archive(&self) -> Option<Vec<u8>> {
        fs::read(self.file("tar.gz")).ok()
    }

    /// The archive comes first: none before `highest` counts, and where the archive is later the tag is not its own.
    pub(super) fn write(&self, archive: Option<&[u8]>, label: &Label) -> Result<(), StartError> {
        make_private_folder(&self.folder)?;
        if let Some(archive) = archive {
            write_private(&self.file("tar.gz"), archive)?;
        }
        let text = serde_json::to_vec(label).unwrap_or_default();
        write_private(&self.file("json"), &text)
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::Counted;

    fn counted(revision: &str, digest: &str) -> Counted {
        Counted {
            revision: revision.to_owned(),
            digest: digest.to_owned(),
        }
    }

    #[track_caller]
    fn check(revision: &str, highest: Option<&str>, expect: Option<&str>) {
        let highest = highest.map(|highest| counted(highest, "a"));
        let found = counted(revision, "a").check(highest.as_ref()).err();
        assert_eq!(found.map(|problem| problem.code), expect);
    }

    #[test]
    fn the_first_is_taken() {
        check("7", None, None);
    }
    #[test]
    fn a_later_one_is_taken_and_the_same_again() {
        check("8", Some("7"), None);
        check("7", Some("7"), None);
    }
    #[test]
    fn an_older_one_is_not() {
        check("6", Some("7"), Some("bundle-rollback"));
    }
    #[test]
    fn another_one_of_the_same_age_is_not() {
        let found = counted("7.0", "b").check(Some(&counted("7", "a")));
        assert_eq!(found.unwrap_err().code, "bundle-revision");
    }
    #[test]
    fn one_that_tells_no_age_is_not() {
        check("main", None, Some("bundle-revision"));
        check("", Some("7"), Some("bundle-revision"));
    }
    #[test]
    fn one_of_another_kind_is_not() {
        check("2026-01-01T00:00:00Z", Some("7"), Some("bundle-rollback"));
    }
    #[test]
    fn the_latest_is_never_lowered() {
        let latest = |known: &str, new: &str| {
            let latest = Counted::latest(Some(counted(known, "a")), counted(new, "b"));
            latest.unwrap().revision
        };
        assert_eq!(latest("7", "8"), "8");
        assert_eq!(latest("8", "7"), "8");
        assert_eq!(latest("8", "main"), "8");
        assert_eq!(latest("8", "2026-01-01T00:00:00Z"), "8");
        assert_eq!(latest("main", "1"), "1");
    }
}
