//! Applies the config anew while calls go on: parse, compile, test, swap. What is broken changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use control::{ConfigStatus, Live, Reload, ReloadError, ReloadStatus, Reloaded};
use jiff::Timestamp;
use notify::{RecursiveMode, Watcher};
use proxy::Way;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use url::Origin;

use crate::bundles::{Choice, Gathered};
use crate::config::{self, PolicyConfig, PolicyOrigin};
use crate::fixed::Fixed;
use crate::ground::Ground;
use crate::promotion;
use crate::setup::{self, Applied, OwnTokens};

/// Editors write in several steps; a reload waits until they are done.
const SETTLE: Duration = Duration::from_millis(300);

/// Applies a config file anew.
pub(crate) struct Reloader {
    pub(crate) path: PathBuf,
    pub(crate) ground: Ground,
    pub(crate) way: Arc<Way>,
    pub(crate) live: Arc<ArcSwap<Live>>,
    /// The address of the control listener.
    pub(crate) control: String,
    /// Where agents reach the listeners for calls.
    pub(crate) called: Vec<Origin>,
    /// The tokens of this machine's own operators, where the config names none.
    pub(crate) own: Option<OwnTokens>,
    /// What the gateway started with, and keeps.
    pub(crate) fixed: Fixed,
    /// One reload at a time.
    pub(crate) turn: Mutex<Turn>,
    /// Whoever asks for bundles stops with the gateway.
    pub(crate) stop: CancellationToken,
}

/// What the last reload read.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The digest of all of it.
    pub(crate) digest: Vec<u8>,
    /// The policy that was applied.
    pub(crate) policy: PolicyConfig,
    /// What of the rest is right but worth a look.
    pub(crate) warnings: Vec<String>,
}

impl Reloader {
    /// Applies the file anew, and tells status and telemetry what came of it.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Reloaded, ReloadError> {
        let mut turn = self.turn.lock().await;
        turn.digest = digest(&self.path, &turn.policy.paths()).await;
        let applied = self.build().await;
        let at = Timestamp::now().to_string();
        let mut live = (*self.live.load_full()).clone();
        let error = applied.as_ref().err().map(ToString::to_string);
        live.status.last_reload = Some(ReloadStatus {
            at: at.clone(),
            error: error.clone(),
        });
        let outcome = applied.map(|applied| {
            self.way.replace(applied.setup.clone());
            applied.setup.credentials.take_effect();
            self.ground.tasks.configure(applied.book.clone());
            let asking = applied.approvals.asking(&self.control);
            self.ground.approvals.configure(asking);
            let webhook = applied.approvals.webhook.clone();
            self.ground.webhook.configure(webhook);
            self.ground.take_signals_of(&applied.senders);
            tend(self, &applied.policy, applied.gathered.as_ref());
            turn.policy = applied.policy.clone();
            turn.warnings.clone_from(&applied.warnings);
            take(&mut live, &self.path, applied, &self.called, at);
            Reloaded {
                revision: live.status.revision,
                config_hash: live
                    .status
                    .config
                    .as_ref()
                    .map(|config| config.hash.clone()),
                policy_revision: live.policy.policy().revision().to_string(),
                warnings: live.status.warnings.clone(),
            }
        });
        self.ground
            .recorder
            .reloaded(live.policy.policy().revision(), error.as_deref());
        self.live.store(Arc::new(live));
        match &outcome {
            Ok(reloaded) => {
                tracing::info!(revision = reloaded.revision, policy = %reloaded.policy_revision, "config applied");
            }
            Err(error) => tracing::error!(%error, "config not applied; the running one stays"),
        }
        outcome
    }

    /// Applies a new bundle: with the newest of the others, or else with those of them that count.
    pub(crate) async fn renew(self: &Arc<Self>, bundle: &str) {
        let turn = self.turn.lock().await;
        let PolicyOrigin::Bundles(bundles) = &turn.policy.origin else {
            return;
        };
        let setup = self.way.setup();
        let previous = setup.policy.policy();
        let renewed = async |choice| {
            let previous = Some(Arc::clone(previous));
            let deciding = setup::decision_point(&turn.policy, &self.ground, choice, previous);
            let deciding = deciding.await?;
            activate(deciding.gathered.as_ref()).await?;
            Ok::<_, Vec<String>>(deciding)
        };
        let mut deciding = renewed(Choice::Newest).await;
        if deciding.is_err() && bundles.len() > 1 {
            deciding = renewed(Choice::NewestOf(bundle)).await;
        }
        let error = match deciding {
            Ok(deciding) => {
                let setup = proxy::Setup {
                    policy: Arc::new(deciding.point),
                    ..(*setup).clone()
                };
                let mut live = (*self.live.load_full()).clone();
                live.policy = Arc::clone(&setup.policy);
                live.status.warnings = [turn.warnings.clone(), deciding.findings].concat();
                self.way.replace(setup);
                self.live.store(Arc::new(live));
                tend(self, &turn.policy, deciding.gathered.as_ref());
                let missing = deciding.gathered.map(|gathered| gathered.missing);
                let missing = missing.unwrap_or_default();
                (!missing.is_empty()).then(|| missing.join("; "))
            }
            // The board and the log tell which bundle, and why.
            Err(mistakes) => Some(mistakes.join("; ")),
        };
        let live = self.live.load_full();
        self.ground
            .recorder
            .reloaded(live.policy.policy().revision(), error.as_deref());
    }

    /// Puts the candidate's files in the place of the policy's, and applies them. The old ones stay beside, in
    /// `<folder>.previous`; where the new ones are not taken, the old ones come back.
    pub(crate) async fn promote(self: &Arc<Self>) -> Result<Reloaded, ReloadError> {
        let no = |mistake: String| ReloadError {
            mistakes: vec![mistake],
        };
        let config = config::load(&self.path).map_err(|mistakes| ReloadError {
            mistakes: mistakes.0.iter().map(ToString::to_string).collect(),
        })?;
        let Some(candidate) = config.policy.candidate else {
            return Err(no("there is no `policy.candidate` to promote".to_owned()));
        };
        let PolicyOrigin::Path(folder) = config.policy.origin else {
            let message = "the policy comes in `policy.bundles`: publish the candidate there";
            return Err(no(message.to_owned()));
        };
        let exchange = promotion::Exchange::of(&folder);
        let taken = {
            let exchange = exchange.clone();
            tokio::task::spawn_blocking(move || exchange.take(&candidate)).await
        };
        let taken = taken.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        taken.map_err(|error| no(format!("`{}` stays as it is: {error}", folder.display())))?;
        let reloaded = self.reload().await;
        if reloaded.is_err() {
            let back = tokio::task::spawn_blocking(move || exchange.undo()).await;
            if let Err(error) = back.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                tracing::error!(%error, "the old policy is in `.previous`, and could not be put back");
            }
        }
        reloaded
    }

    async fn build(&self) -> Result<Applied, ReloadError> {
        let config = config::load(&self.path).map_err(|mistakes| ReloadError {
            mistakes: mistakes.0.iter().map(ToString::to_string).collect(),
        })?;
        let unchangeable = self.fixed.warnings(&Fixed::of(&config));
        let previous = self.way.setup();
        let built = setup::build(config, &self.ground, Some(&previous), self.own.as_ref()).await;
        let mut applied = built.map_err(|mistakes| ReloadError { mistakes })?;
        let activating = activate(applied.gathered.as_ref()).await;
        activating.map_err(|mistakes| ReloadError { mistakes })?;
        for warning in &unchangeable {
            tracing::warn!(warning, "config applied in part");
        }
        applied.warnings.extend(unchangeable);
        Ok(applied)
    }

    /// Reloads when the file or its policies change, until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        // One change that waits stands for all that come meanwhile.
        let (changed, mut changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                changed.try_send(()).ok();
            }
        });
        let Ok(mut watcher) = watcher.inspect_err(
            |error| tracing::warn!(%error, "config is not watched; send SIGHUP to reload"),
        ) else {
            return;
        };
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        let folder = folder.to_owned();
        let mut paths = self.turn.lock().await.policy.paths();
        for (path, mode) in watched(&folder, &paths) {
            if let Err(error) = watcher.watch(path, mode) {
                tracing::warn!(%error, path = %path.display(), "not watched; send SIGHUP to reload");
            }
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => if change.is_none() { return },
            }
            tokio::time::sleep(SETTLE).await;
            // What stands there now may be another folder than the one that was watched.
            for (path, mode) in watched(&folder, &paths) {
                watcher.watch(path, mode).ok();
            }
            let now = digest(&self.path, &paths).await;
            if now != self.turn.lock().await.digest {
                // The outcome stands in status, log and metrics.
                self.reload().await.ok();
                let named = self.turn.lock().await.policy.paths();
                for path in paths.iter().filter(|path| !named.contains(path)) {
                    watcher.unwatch(path).ok();
                }
                paths = named;
                for (path, mode) in watched(&folder, &paths) {
                    watcher.watch(path, mode).ok();
                }
            }
        }
    }
}

/// What is watched, and how deep.
fn watched<'a>(
    config: &'a Path,
    policies: &'a [PathBuf],
) -> impl Iterator<Item = (&'a Path, RecursiveMode)> {
    let policies = policies.iter().map(PathBuf::as_path);
    let deep = policies.map(|path| (path, RecursiveMode::Recursive));
    std::iter::once((config, RecursiveMode::NonRecursive)).chain(deep)
}

/// Which revisions count is written down before they do.
async fn activate(gathered: Option<&Gathered>) -> Result<(), Vec<String>> {
    match gathered {
        Some(gathered) => gathered.activate().await,
        None => Ok(()),
    }
}

/// Has what was applied kept up to date and reported from now on.
pub(crate) fn tend(reloader: &Arc<Reloader>, policy: &PolicyConfig, gathered: Option<&Gathered>) {
    let Ground {
        bundles, reports, ..
    } = &reloader.ground;
    bundles.tend(gathered, reloader, &reloader.stop);
    reports.tend(policy, &bundles.board);
}

/// Applies the config anew whenever it is asked.
pub(crate) fn on_request(reloader: &Arc<Reloader>) -> Reload {
    let reloader = Arc::clone(reloader);
    Arc::new(move || {
        let reloader = Arc::clone(&reloader);
        Box::pin(async move { reloader.reload().await })
    })
}

/// Promotes the candidate policy whenever it is asked.
pub(crate) fn promotion_on_request(reloader: &Arc<Reloader>) -> Reload {
    let reloader = Arc::clone(reloader);
    Arc::new(move || {
        let reloader = Arc::clone(&reloader);
        Box::pin(async move { reloader.promote().await })
    })
}

/// Puts an applied config into what the control API answers from.
pub(crate) fn take(live: &mut Live, path: &Path, applied: Applied, called: &[Origin], at: String) {
    live.policy = Arc::clone(&applied.setup.policy);
    live.credentials = Arc::clone(&applied.setup.credentials);
    live.identity = Arc::clone(&applied.setup.identity);
    live.operators = applied.operators;
    live.owners_of_record = applied.owners_of_record;
    live.resources = called.iter().chain(&applied.origins).cloned().collect();
    live.status.revision += 1;
    live.status.warnings = [applied.warnings, applied.findings].concat();
    live.status.config = Some(ConfigStatus {
        path: path.display().to_string(),
        hash: applied.hash,
        applied_at: at,
    });
}

/// Tells whether config or policies changed: their bytes, not their times.
pub(crate) async fn digest(config: &Path, policies: &[PathBuf]) -> Vec<u8> {
    let (config, policies) = (config.to_owned(), policies.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let mut all = ring::digest::Context::new(&ring::digest::SHA256);
        all.update(&std::fs::read(config).unwrap_or_default());
        for path in &policies {
            if path.is_file() {
                all.update(&std::fs::read(path).unwrap_or_default());
            }
            for source in policy::Policy::read(path).unwrap_or_default() {
                all.update(source.path.as_os_str().as_encoded_bytes());
                all.update(source.text.as_bytes());
            }
        }
        all.finish().as_ref().to_vec()
    });
    reading.await.unwrap_or_default()
}
