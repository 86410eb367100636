//! One bundle: the newest that came, the one that counts, and what is kept of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control::{BundleBoard, BundleStatus};
use jiff::Timestamp;
use parking_lot::Mutex;
use policy::{Bundle, Verification};

use super::Choice;
use super::kept::{Counted, Kept, Label};
use super::problem::{Problem, is_of_policy};
use super::server::{New, Server};
use crate::config::{BundleConfig, BundleOrigin, Rollback};
use crate::setup;

/// How long a bundle that was never there is waited for.
const FIRST: Duration = Duration::from_secs(5);

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
    kept: Kept,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Arc<Fetched>>,
    active: Option<Arc<Fetched>>,
    /// The last that was written down.
    kept: Option<Arc<Fetched>>,
    /// The tag of the last that came, good or not.
    etag: Option<String>,
    /// The latest revision that ever counted; a problem where that can't be known.
    highest: Highest,
    status: BundleStatus,
    /// Where its status is shown, once its config is applied.
    board: Option<Arc<BundleBoard>>,
}

#[derive(Clone, Debug)]
enum Highest {
    Known(Option<Counted>),
    Unknown(Problem),
}

impl Default for Highest {
    fn default() -> Self {
        Self::Known(None)
    }
}

impl Shelf {
    /// One with what was kept of it, if that is still as it should be. Reads files.
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
        let status = BundleStatus {
            name: config.name.clone(),
            ..BundleStatus::default()
        };
        let shelf = Self {
            kept: Kept::new(folder, &config.name),
            state: Mutex::new(State {
                status,
                ..State::default()
            }),
            config,
            server,
            verification,
            trust,
        };
        shelf.restore();
        Ok(shelf)
    }

    fn restore(&self) {
        let name = &self.config.name;
        let label = match self.kept.label() {
            Ok(Some(label)) => label,
            Ok(None) => return,
            Err(problem) => {
                tracing::warn!(bundle = %name, error = %problem, "what is kept of the bundle is not taken");
                self.state.lock().highest = Highest::Unknown(problem);
                return;
            }
        };
        self.state.lock().highest = Highest::Known(label.highest);
        if self.server.is_none() || label.origin != self.origin() {
            return;
        }
        let Some(archive) = self.kept.archive() else {
            return;
        };
        // One that another key should have signed, that is older than it may be, or that somebody changed, is not taken.
        match self.accept(&archive, label.etag) {
            Ok(fetched) => {
                let mut state = self.state.lock();
                if fetched.bundle.digest() == label.digest {
                    state.etag.clone_from(&fetched.etag);
                    state.kept = Some(Arc::clone(&fetched));
                }
                state.newest = Some(fetched);
            }
            Err(problem) => {
                tracing::warn!(bundle = %name, error = %problem, "the bundle that was kept is not taken");
            }
        }
    }

    fn origin(&self) -> String {
        match (&self.server, &self.config.origin) {
            (Some(server), _) => server.shown().to_owned(),
            (None, BundleOrigin::Path(path)) => path.display().to_string(),
            (None, BundleOrigin::Server(service, _)) => service.url.to_string(),
        }
    }

    /// Its config is applied: what becomes of it is shown from now on.
    pub(super) fn show_on(&self, board: &Arc<BundleBoard>) {
        let mut state = self.state.lock();
        board.put(state.status.clone());
        state.board = Some(Arc::clone(board));
    }

    /// Another one takes its place.
    pub(super) fn hide(&self) {
        self.state.lock().board = None;
    }

    /// Changes what is said of it.
    pub(super) fn tell(&self, change: impl FnOnce(&mut BundleStatus)) {
        let mut state = self.state.lock();
        change(&mut state.status);
        if let Some(board) = &state.board {
            board.put(state.status.clone());
        }
    }

    /// The one to try.
    pub(super) async fn pick(
        self: &Arc<Self>,
        choice: Choice<'_>,
    ) -> Result<Arc<Fetched>, Problem> {
        if let BundleOrigin::Path(path) = &self.config.origin {
            let (shelf, path) = (Arc::clone(self), path.clone());
            let reading = tokio::task::spawn_blocking(move || shelf.read(&path)).await;
            let read = reading
                .unwrap_or_else(|error| Err(Problem::new("bundle-malformed", error.to_string())));
            if let Err(problem) = &read {
                self.tell(|status| status.problem = Some(problem.told()));
            }
            return read;
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
        let fetching = tokio::time::timeout(FIRST, self.fetch(false)).await;
        if let Ok(fetched) = fetching {
            fetched?;
        } else {
            let late = Problem::new("bundle-server", "the server does not answer in time");
            self.tell(|status| status.problem = Some(late.told()));
            return Err(late);
        }
        at_hand().ok_or_else(|| Problem::new("bundle-server", "the server has no bundle"))
    }

    /// Reads a bundle of this machine; the one that counts, if it is the same.
    fn read(&self, path: &Path) -> Result<Arc<Fetched>, Problem> {
        let unreadable = |error: std::io::Error| {
            let message = format!("`{}` can't be read: {error}", path.display());
            Problem::new("bundle-unreadable", message)
        };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let fetched = if metadata.is_dir() {
            if self.verification.is_some() {
                let message = "a folder has no signature: name a bundle, or take `verify` away";
                return Err(Problem::new("bundle-unsigned", message));
            }
            self.check(Bundle::of_folder(path)?, Vec::new(), None)?
        } else {
            if metadata.len() > policy::LONGEST_ARCHIVE as u64 {
                let message = "the archive has more than 16 MiB";
                return Err(Problem::new("bundle-too-large", message));
            }
            let archive = std::fs::read(path).map_err(unreadable)?;
            self.accept(&archive, None)?
        };
        let active = self.state.lock().active.clone();
        let is_the_same = |active: &Arc<Fetched>| active.bundle.digest() == fetched.bundle.digest();
        Ok(active.filter(is_the_same).unwrap_or(fetched))
    }

    /// Reads an archive that is signed as it should be and may follow those that counted.
    fn accept(&self, archive: &[u8], etag: Option<String>) -> Result<Arc<Fetched>, Problem> {
        let bundle = Bundle::read(archive, self.verification.as_ref())?;
        self.check(bundle, archive.to_vec(), etag)
    }

    fn check(
        &self,
        bundle: Bundle,
        archive: Vec<u8>,
        etag: Option<String>,
    ) -> Result<Arc<Fetched>, Problem> {
        self.may_follow(&Counted::of(&bundle))?;
        Ok(Arc::new(Fetched {
            bundle,
            archive,
            etag,
        }))
    }

    /// Refuses one that is older than another that counted, where that is wished.
    fn may_follow(&self, bundle: &Counted) -> Result<(), Problem> {
        if self.config.rollback == Rollback::Accept {
            return Ok(());
        }
        let mut state = self.state.lock();
        // It may have been put back, or deleted.
        if let Highest::Unknown(_) = state.highest {
            let label = self.kept.label()?;
            state.highest = Highest::Known(label.and_then(|label| label.highest));
        }
        match &state.highest {
            Highest::Known(highest) => bundle.check(highest.as_ref()),
            Highest::Unknown(problem) => Err(problem.clone()),
        }
    }

    /// Whether something came that does not count.
    pub(super) fn has_news(&self) -> bool {
        self.state.lock().newest.is_some()
    }

    /// Asks the server. True if another bundle came; whether the server waits comes with it.
    pub(super) async fn fetch(self: &Arc<Self>, waits: bool) -> Result<(bool, bool), Problem> {
        self.tell(|status| status.last_request = Some(now()));
        let fetched = self.ask(waits).await;
        self.tell(|status| match &fetched {
            Ok((is_new, _)) => {
                status.last_successful_request = Some(now());
                if *is_new {
                    status.last_successful_download = Some(now());
                }
                // A policy that was not taken stays wrong until another one is.
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
        let reading = tokio::task::spawn_blocking(move || shelf.take(&archive, etag)).await;
        let is_new = reading
            .unwrap_or_else(|error| Err(Problem::new("bundle-malformed", error.to_string())))?;
        Ok((is_new, answer.waits))
    }

    /// Takes what came, if it is another one than before.
    fn take(&self, archive: &[u8], etag: Option<String>) -> Result<bool, Problem> {
        {
            let mut state = self.state.lock();
            let last = state.newest.as_ref().or(state.active.as_ref());
            if last.is_some_and(|last| last.archive == archive) {
                state.etag = etag;
                return Ok(false);
            }
        }
        let fetched = self.accept(archive, etag.clone())?;
        let mut state = self.state.lock();
        // It is not asked for again, whatever its policy is worth.
        state.etag = etag;
        state.newest = Some(fetched);
        Ok(true)
    }

    /// Whether it may count now: another one may have since it came.
    pub(super) fn may_count(&self, fetched: &Arc<Fetched>) -> Result<(), Problem> {
        if is_same(self.state.lock().active.as_ref(), fetched) {
            return Ok(());
        }
        self.may_follow(&Counted::of(&fetched.bundle))
    }

    /// Writes down that it counts from now on, so that nothing older does after a restart. Where that must be sure and
    /// fails, it does not count. Waits for the disk.
    pub(super) fn write_down(&self, fetched: &Arc<Fetched>) -> Result<(), Problem> {
        let (is_active, known) = {
            let state = self.state.lock();
            if is_same(state.kept.as_ref(), fetched) {
                return Ok(());
            }
            let is_active = is_same(state.active.as_ref(), fetched);
            (is_active, state.highest.clone())
        };
        let counted = Counted::of(&fetched.bundle);
        let digest = counted.digest.clone();
        let highest = match known {
            Highest::Known(highest) => Counted::latest(highest, counted),
            Highest::Unknown(_) => Some(counted),
        };
        let label = Label {
            origin: self.origin(),
            etag: fetched.etag.clone(),
            digest,
            highest: highest.clone(),
        };
        let archive = self.server.as_ref().map(|_| fetched.archive.as_slice());
        let written = self.kept.write(archive, &label);
        let mut state = self.state.lock();
        match written {
            // What counts already was written down before it did.
            Err(error) if self.config.rollback == Rollback::Refuse && !is_active => {
                let message = format!("`rollback` is `refuse`, and it can't be kept: {error}");
                return Err(Problem::new("bundle-not-kept", message));
            }
            Err(error) => {
                tracing::warn!(bundle = %self.config.name, %error, "the bundle is not kept for a start without its server; it is tried again");
            }
            Ok(()) => state.kept = Some(Arc::clone(fetched)),
        }
        state.highest = Highest::Known(highest);
        Ok(())
    }

    /// Writes down once more what counts, if that failed. Waits for the disk.
    pub(super) fn keep_again(&self) {
        let active = self.state.lock().active.clone();
        if let Some(active) = active
            && let Err(problem) = self.write_down(&active)
        {
            tracing::warn!(bundle = %self.config.name, error = %problem, "the bundle is not kept");
        }
    }

    /// It is not tried again; the server is asked for another one.
    pub(super) fn forget(&self, fetched: &Arc<Fetched>) {
        let mut state = self.state.lock();
        if is_same(state.newest.as_ref(), fetched) {
            state.newest = None;
            state.etag = None;
        }
    }

    /// It counts now.
    pub(super) fn activate(&self, fetched: &Arc<Fetched>) {
        let revision = &fetched.bundle.manifest().revision;
        let is_new = {
            let mut state = self.state.lock();
            let is_new = !is_same(state.active.as_ref(), fetched);
            state.active = Some(Arc::clone(fetched));
            if is_same(state.newest.as_ref(), fetched) {
                state.newest = None;
            }
            is_new
        };
        self.tell(|status| {
            status.active_revision = Some(revision.clone());
            if is_new {
                status.last_successful_activation = Some(now());
            }
            // What else came, and was not taken, is still wrong.
            if is_new || self.server.is_none() {
                status.problem = None;
            }
        });
        if is_new {
            tracing::info!(bundle = %self.config.name, revision = %revision, "bundle applied");
        }
    }

    /// It does not count.
    pub(super) fn refuse(&self, fetched: &Arc<Fetched>, problem: &Problem) {
        let is_newest = is_same(self.state.lock().newest.as_ref(), fetched);
        if is_newest || self.server.is_none() {
            let name = &self.config.name;
            tracing::error!(bundle = %name, error = %problem, "bundle not applied");
            self.tell(|status| status.problem = Some(problem.told()));
        }
    }
}

fn is_same(known: Option<&Arc<Fetched>>, fetched: &Arc<Fetched>) -> bool {
    known.is_some_and(|known| Arc::ptr_eq(known, fetched))
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

fn now() -> String {
    Timestamp::now().to_string()
}
