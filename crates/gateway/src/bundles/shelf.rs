//! One bundle: the newest that came, the one that counts, and the file that is kept of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control::{BundleBoard, BundleProblem};
use jiff::Timestamp;
use parking_lot::Mutex;
use policy::{Bundle, Rank, Verification};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::Choice;
use super::server::{New, Server};
use crate::config::{BundleConfig, BundleOrigin, Rollback};
use crate::ground::{make_private_folder, write_private};
use crate::setup;

/// How long a bundle that was never there is waited for.
const FIRST: Duration = Duration::from_secs(5);

/// Problems of what is in a bundle, rather than of how it came.
const OF_POLICY: [&str; 2] = ["bundle-policy", "bundle-overlapping-roots"];

/// What is wrong with a bundle.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: &'static str,
    message: String,
    status: Option<StatusCode>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            status: None,
        }
    }

    /// An answer that is no bundle.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": look at its `token`",
            StatusCode::NOT_FOUND => ": look at its `url`",
            _ if status.is_redirection() => ": redirects are not followed, name the place itself",
            _ => "",
        };
        Self {
            status: Some(status),
            ..Self::new(
                "bundle-server",
                format!("the server answers {status}{advice}"),
            )
        }
    }

    fn told(&self) -> BundleProblem {
        BundleProblem {
            code: self.code.to_owned(),
            message: self.message.clone(),
            http_status: self.status.map(|status| status.as_u16()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// A bundle that is whole, and signed as it should be.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bundle: Bundle,
    archive: Vec<u8>,
    etag: Option<String>,
}

/// One bundle of the config.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) config: BundleConfig,
    pub(super) server: Option<Server>,
    verification: Option<Verification>,
    /// What the files of its config held: another key is another shelf.
    pub(super) trust: Vec<Option<Vec<u8>>>,
    /// Where the last good one is kept.
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Arc<Fetched>>,
    active: Option<Arc<Fetched>>,
    /// The tag of the last that came, good or not.
    etag: Option<String>,
    /// The latest revision that ever counted.
    highest: Option<String>,
}

/// What is kept beside the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Where it came from.
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    highest: Option<String>,
}

impl Shelf {
    /// One with what was kept of it, if that is still as it should be.
    pub(super) fn new(config: BundleConfig, folder: &Path) -> Result<Self, String> {
        let trust = trust(&config);
        let verification = config
            .verify
            .as_ref()
            .map(setup::verification)
            .transpose()?;
        let server = match &config.origin {
            BundleOrigin::Server(service, polling) => Some(Server::new(service, *polling)?),
            BundleOrigin::Path(_) => None,
        };
        let shelf = Self {
            config,
            server,
            verification,
            trust,
            folder: folder.to_owned(),
            state: Mutex::default(),
        };
        shelf.restore();
        Ok(shelf)
    }

    fn restore(&self) {
        let Some(kept) = self.kept() else {
            return;
        };
        let mut state = self.state.lock();
        state.highest = kept.highest;
        if self.server.is_none() || kept.origin != self.origin() {
            return;
        }
        let archive = std::fs::read(self.file("tar.gz"));
        let Some(archive) = archive.ok() else {
            return;
        };
        // One that another key should have signed, or that somebody changed, is not taken.
        match Bundle::read(&archive, self.verification.as_ref()) {
            Ok(bundle) => {
                state.etag.clone_from(&kept.etag);
                state.newest = Some(Arc::new(Fetched {
                    bundle,
                    archive,
                    etag: kept.etag,
                }));
            }
            Err(error) => {
                let name = &self.config.name;
                tracing::warn!(bundle = %name, %error, "the bundle that was kept is not taken");
            }
        }
    }

    fn kept(&self) -> Option<Kept> {
        let text = std::fs::read(self.file("json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.config.name))
    }

    fn origin(&self) -> String {
        match (&self.server, &self.config.origin) {
            (Some(server), _) => server.shown().to_owned(),
            (None, BundleOrigin::Path(path)) => path.display().to_string(),
            (None, BundleOrigin::Server(service, _)) => service.url.to_string(),
        }
    }

    /// The one to try.
    pub(super) async fn pick(
        self: &Arc<Self>,
        choice: Choice<'_>,
        board: &BundleBoard,
    ) -> Result<Arc<Fetched>, Problem> {
        if let BundleOrigin::Path(path) = &self.config.origin {
            let (shelf, path) = (Arc::clone(self), path.clone());
            let reading = tokio::task::spawn_blocking(move || shelf.read(&path)).await;
            return reading
                .unwrap_or_else(|error| Err(Problem::new("bundle-malformed", error.to_string())));
        }
        let at_hand = || {
            let state = self.state.lock();
            let (newest, active) = (state.newest.clone(), state.active.clone());
            match choice {
                Choice::Newest => newest.or(active),
                Choice::NewestOf(name) if name == self.config.name => newest.or(active),
                Choice::Active | Choice::NewestOf(_) => active.or(newest),
            }
        };
        if let Some(fetched) = at_hand() {
            return Ok(fetched);
        }
        let fetching = tokio::time::timeout(FIRST, self.fetch(false, board)).await;
        let late = || Problem::new("bundle-server", "the server does not answer in time");
        fetching.unwrap_or_else(|_| Err(late()))?;
        at_hand().ok_or_else(|| Problem::new("bundle-server", "the server has no bundle"))
    }

    /// Reads a bundle of this machine.
    fn read(&self, path: &Path) -> Result<Arc<Fetched>, Problem> {
        let unreadable = |error: std::io::Error| {
            let message = format!("`{}` can't be read: {error}", path.display());
            Problem::new("bundle-unreadable", message)
        };
        if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            if self.verification.is_some() {
                let message = "a folder has no signature: name a bundle, or take `verify` away";
                return Err(Problem::new("bundle-unsigned", message));
            }
            let bundle = Bundle::of_folder(path).map_err(|error| problem(&error))?;
            return self.accept(bundle, Vec::new(), None);
        }
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > policy::LONGEST_ARCHIVE as u64 {
            let message = "the archive has more than 16 MiB";
            return Err(Problem::new("bundle-too-large", message));
        }
        let archive = std::fs::read(path).map_err(unreadable)?;
        let bundle = Bundle::read(&archive, self.verification.as_ref());
        self.accept(bundle.map_err(|error| problem(&error))?, archive, None)
    }

    /// Refuses one that is older than another that counted, where that is wished.
    fn accept(
        &self,
        bundle: Bundle,
        archive: Vec<u8>,
        etag: Option<String>,
    ) -> Result<Arc<Fetched>, Problem> {
        if self.config.rollback == Rollback::Refuse {
            let highest = self.state.lock().highest.clone();
            not_older(&bundle.manifest().revision, highest.as_deref())?;
        }
        Ok(Arc::new(Fetched {
            bundle,
            archive,
            etag,
        }))
    }

    /// Whether something came that does not count.
    pub(super) fn has_news(&self) -> bool {
        self.state.lock().newest.is_some()
    }

    /// Asks the server. True if another bundle came; whether the server waits comes with it.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        waits: bool,
        board: &BundleBoard,
    ) -> Result<(bool, bool), Problem> {
        let name = &self.config.name;
        board.update(name, |status| status.last_request = Some(now()));
        let fetched = self.ask(waits).await;
        board.update(name, |status| match &fetched {
            Ok((is_new, _)) => {
                status.last_successful_request = Some(now());
                if *is_new {
                    status.last_successful_download = Some(now());
                }
                // A policy that was not taken stays wrong until another one is.
                let is_of_policy =
                    |problem: &BundleProblem| OF_POLICY.contains(&problem.code.as_str());
                if !status.problem.as_ref().is_some_and(is_of_policy) {
                    status.problem = None;
                }
            }
            Err(problem) => status.problem = Some(problem.told()),
        });
        fetched
    }

    async fn ask(self: &Arc<Self>, waits: bool) -> Result<(bool, bool), Problem> {
        let Some(server) = &self.server else {
            return Ok((false, false));
        };
        let known = self.state.lock().etag.clone();
        let answer = server.ask(known.as_deref(), waits).await?;
        let Some(New { archive, etag }) = answer.new else {
            return Ok((false, answer.waits));
        };
        let shelf = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || shelf.take(archive, etag)).await;
        let is_new = reading
            .unwrap_or_else(|error| Err(Problem::new("bundle-malformed", error.to_string())))?;
        Ok((is_new, answer.waits))
    }

    /// Takes what came, if it is another one than before.
    fn take(&self, archive: Vec<u8>, etag: Option<String>) -> Result<bool, Problem> {
        {
            let mut state = self.state.lock();
            let last = state.newest.as_ref().or(state.active.as_ref());
            if last.is_some_and(|last| last.archive == archive) {
                state.etag = etag;
                return Ok(false);
            }
        }
        let bundle = Bundle::read(&archive, self.verification.as_ref());
        let bundle = bundle.map_err(|error| problem(&error))?;
        let fetched = self.accept(bundle, archive, etag.clone())?;
        let mut state = self.state.lock();
        // It is not asked for again, whatever its policy is worth.
        state.etag = etag;
        state.newest = Some(fetched);
        Ok(true)
    }

    /// It counts now; it is kept for a start without the server.
    pub(super) fn activate(&self, fetched: &Arc<Fetched>, board: &BundleBoard) {
        let revision = &fetched.bundle.manifest().revision;
        let is_new = {
            let mut state = self.state.lock();
            let is_new = state
                .active
                .as_ref()
                .is_none_or(|active| !Arc::ptr_eq(active, fetched));
            state.active = Some(Arc::clone(fetched));
            if state
                .newest
                .as_ref()
                .is_some_and(|newest| Arc::ptr_eq(newest, fetched))
            {
                state.newest = None;
            }
            let highest = state.highest.as_deref().and_then(Rank::of);
            let rank = Rank::of(revision);
            if rank.is_some() && highest.is_none_or(|highest| rank >= Some(highest)) {
                state.highest = Some(revision.clone());
            }
            is_new
        };
        let name = &self.config.name;
        board.update(name, |status| {
            status.active_revision = Some(revision.clone());
            if is_new {
                status.last_successful_activation = Some(now());
                status.problem = None;
            }
        });
        if !is_new {
            return;
        }
        tracing::info!(bundle = %name, revision = %revision, "bundle applied");
        if let Err(error) = self.keep(fetched) {
            tracing::warn!(bundle = %name, %error, "the bundle is not kept for a start without its server");
        }
    }

    /// It does not count.
    pub(super) fn refuse(&self, fetched: &Arc<Fetched>, problem: &Problem, board: &BundleBoard) {
        let is_newest = {
            let state = self.state.lock();
            let newest = state.newest.as_ref();
            newest.is_some_and(|newest| Arc::ptr_eq(newest, fetched)) || self.server.is_none()
        };
        if is_newest {
            let name = &self.config.name;
            tracing::error!(bundle = %name, error = %problem, "bundle not applied");
            board.update(name, |status| status.problem = Some(problem.told()));
        }
    }

    fn keep(&self, fetched: &Fetched) -> Result<(), crate::ground::StartError> {
        make_private_folder(&self.folder)?;
        if self.server.is_some() {
            write_private(&self.file("tar.gz"), &fetched.archive)?;
        }
        let kept = Kept {
            origin: self.origin(),
            etag: fetched.etag.clone(),
            highest: self.state.lock().highest.clone(),
        };
        let text = serde_json::to_vec(&kept).unwrap_or_default();
        write_private(&self.file("json"), &text)
    }
}

/// What the files hold that say whom to trust: the key of signatures, the authorities of the server.
pub(super) fn trust(config: &BundleConfig) -> Vec<Option<Vec<u8>>> {
    let key = config.verify.as_ref().map(|verify| &verify.key);
    let ca = match &config.origin {
        BundleOrigin::Server(service, _) => service.ca.as_ref(),
        BundleOrigin::Path(_) => None,
    };
    let read = |path: Option<&PathBuf>| path.and_then(|path| std::fs::read(path).ok());
    vec![read(key), read(ca)]
}

fn problem(error: &policy::BadBundle) -> Problem {
    Problem::new(error.code(), error.to_string())
}

fn not_older(revision: &str, highest: Option<&str>) -> Result<(), Problem> {
    let Some(rank) = Rank::of(revision) else {
        let message = format!(
            "its revision `{revision}` tells no age, and `rollback` is `refuse`: name revisions `42`, `1.12.0` or `2026-01-02T03:04:05Z`"
        );
        return Err(Problem::new("bundle-revision", message));
    };
    match highest.and_then(Rank::of) {
        None => Ok(()),
        Some(highest_rank) if rank >= highest_rank => Ok(()),
        Some(_) => {
            let highest = highest.unwrap_or_default();
            let message = format!(
                "its revision `{revision}` is older than `{highest}`, and `rollback` is `refuse`"
            );
            Err(Problem::new("bundle-rollback", message))
        }
    }
}

fn now() -> String {
    Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::not_older;

    #[track_caller]
    fn check(revision: &str, highest: Option<&str>, expect: Option<&str>) {
        let found = not_older(revision, highest).err();
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
    fn one_that_tells_no_age_is_not() {
        check("main", None, Some("bundle-revision"));
        check("", Some("7"), Some("bundle-revision"));
    }
    #[test]
    fn one_of_another_kind_is_not() {
        check("2026-01-01T00:00:00Z", Some("7"), Some("bundle-rollback"));
    }
}
