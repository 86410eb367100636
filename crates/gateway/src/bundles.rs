//! The bundles that make the policy together: what their servers gave, what of it counts, and what is kept for a start
//! without them.
//!
//! **Invariant.** What counts was read whole, verified where it must be signed, and taken by the policy's own checks and
//! tests; what is broken changes nothing. Before anything has come every call is refused.

mod kept;
mod polling;
mod problem;
mod server;
mod shelf;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control::BundleBoard;
use parking_lot::Mutex;
use policy::{Bundle, Policy, Source};
use telemetry::Recorder;
use tokio_util::sync::CancellationToken;

use crate::config::{BundleConfig, BundleOrigin};
use crate::reload::Reloader;

pub(crate) use polling::{back_off, between};
pub(crate) use problem::Problem;
pub(crate) use server::{causes, client, with_token};
pub(crate) use shelf::{Fetched, Shelf};

/// Which of the bundles at hand are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice<'a> {
    /// Those that count; the newest of those that have none.
    Active,
    /// The newest of all.
    Newest,
    /// The newest of one, and those that count of the others.
    NewestOf(&'a str),
}

/// All bundles of a gateway. They outlive a reload.
#[derive(Debug)]
pub(crate) struct Bundles {
    /// Where the last good ones are kept.
    folder: PathBuf,
    shelves: Mutex<BTreeMap<String, Arc<Shelf>>>,
    /// Whoever asks the servers.
    pollers: Mutex<BTreeMap<String, (Arc<Shelf>, CancellationToken)>>,
    /// How they are.
    pub(crate) board: Arc<BundleBoard>,
}

/// Files for a policy, and what to do once it is taken or refused.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) sources: Vec<Source>,
    /// All that were asked for.
    shelves: Vec<Arc<Shelf>>,
    taken: Vec<(Arc<Shelf>, Arc<Fetched>)>,
    /// Bundles that are not there: then the sources refuse everything.
    pub(crate) missing: Vec<String>,
}

impl Gathered {
    /// The revisions that decide, by the bundles' names.
    pub(crate) fn revisions(&self) -> BTreeMap<String, String> {
        if !self.missing.is_empty() {
            return BTreeMap::new();
        }
        let revision = |(shelf, fetched): &(Arc<Shelf>, Arc<Fetched>)| {
            let revision = fetched.bundle.manifest().revision.clone();
            (shelf.config.name.clone(), revision)
        };
        self.taken.iter().map(revision).collect()
    }

    fn join(&self) -> Result<Vec<Source>, policy::BadBundle> {
        let bundle = |(shelf, fetched): &(Arc<Shelf>, Arc<Fetched>)| {
            (shelf.config.name.clone(), Bundle::clone(&fetched.bundle))
        };
        Policy::join(self.taken.iter().map(bundle).collect())
    }

    /// The policy of these bundles counts from now on. Which revisions those are is written down before it does.
    pub(crate) async fn activate(&self) -> Result<(), Vec<String>> {
        if !self.missing.is_empty() {
            return Ok(());
        }
        let mistake = |shelf: &Shelf, problem: &Problem| {
            format!("policy.bundles.{}: {problem}", shelf.config.name)
        };
        let mut mistakes = Vec::new();
        for (shelf, fetched) in &self.taken {
            if let Err(problem) = shelf.may_count(fetched) {
                shelf.refuse(fetched, &problem);
                shelf.forget(fetched);
                mistakes.push(mistake(shelf, &problem));
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        for (shelf, fetched) in &self.taken {
            let (kept, news) = (Arc::clone(shelf), Arc::clone(fetched));
            let writing = tokio::task::spawn_blocking(move || kept.write_down(&news)).await;
            let written = writing
                .unwrap_or_else(|error| Err(Problem::new("bundle-not-kept", error.to_string())));
            if let Err(problem) = written {
                shelf.refuse(fetched, &problem);
                mistakes.push(mistake(shelf, &problem));
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        for (shelf, fetched) in &self.taken {
            shelf.activate(fetched);
        }
        Ok(())
    }

    /// The policy of these bundles was not taken.
    pub(crate) fn not_taken(&self, mistakes: &[String]) {
        self.refused(&Problem::new("bundle-policy", mistakes.join("; ")));
    }

    fn refused(&self, problem: &Problem) {
        for (shelf, fetched) in &self.taken {
            shelf.refuse(fetched, problem);
        }
    }
}

impl Bundles {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            folder: state.join("bundles"),
            shelves: Mutex::default(),
            pollers: Mutex::default(),
            board: Arc::default(),
        }
    }

    /// Puts the files of the configured bundles together. Those that are not at hand are fetched, for a while; whether
    /// there may be none that fit is said by `may_miss`. What is wrong on this machine is a mistake either way.
    pub(crate) async fn gather(
        &self,
        configs: &[BundleConfig],
        choice: Choice<'_>,
        may_miss: bool,
    ) -> Result<Gathered, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut missing = Vec::new();
        let mut shelves = Vec::new();
        let mut taken = Vec::new();
        for config in configs {
            let name = &config.name;
            let shelf = match self.shelf(config) {
                Ok(shelf) => shelf,
                Err(mistake) => {
                    mistakes.push(format!("policy.bundles.{name}: {mistake}"));
                    continue;
                }
            };
            shelves.push(Arc::clone(&shelf));
            match (shelf.pick(choice).await, &config.origin) {
                (Ok(fetched), _) => taken.push((shelf, fetched)),
                (Err(problem), BundleOrigin::Server(..)) if may_miss => {
                    missing.push(format!("policy.bundles.{name}: {problem}"));
                }
                (Err(problem), _) => mistakes.push(format!("policy.bundles.{name}: {problem}")),
            }
        }
        if !mistakes.is_empty() {
            mistakes.extend(missing);
            return Err(mistakes);
        }
        let mut gathered = Gathered {
            sources: Policy::absent(),
            shelves,
            taken,
            missing,
        };
        if gathered.missing.is_empty() {
            match gathered.join() {
                Ok(sources) => gathered.sources = sources,
                Err(error) => {
                    let mistake = format!("policy.bundles: {error} ({})", error.code());
                    gathered.refused(&Problem::from(error));
                    if !may_miss {
                        return Err(vec![mistake]);
                    }
                    gathered.missing.push(mistake);
                }
            }
        }
        Ok(gathered)
    }

    /// The shelf of a bundle: the one that is there, unless its config has changed. A new one takes its place once it is
    /// applied, so that a config that is not taken changes nothing.
    fn shelf(&self, config: &BundleConfig) -> Result<Arc<Shelf>, String> {
        let known = self.shelves.lock().get(&config.name).cloned();
        match known {
            Some(shelf) if shelf.config == *config && shelf.trust == shelf::trust(config) => {
                Ok(shelf)
            }
            _ => Ok(Arc::new(Shelf::new(config.clone(), &self.folder)?)),
        }
    }

    /// Tells metrics how a bundle is.
    pub(crate) fn tell(&self, name: &str, recorder: &Recorder) {
        let all = self.board.all();
        if let Some(status) = all.iter().find(|status| status.name == name) {
            recorder.bundle(name, status.problem.is_none());
        }
    }

    /// Asks the servers of these bundles from now on, and no others.
    pub(crate) fn tend(
        &self,
        gathered: Option<&Gathered>,
        reloader: &Arc<Reloader>,
        stop: &CancellationToken,
    ) {
        let applied = gathered.map(|gathered| gathered.shelves.as_slice());
        let applied = applied.unwrap_or_default();
        let name = |shelf: &Arc<Shelf>| shelf.config.name.clone();
        let names: Vec<String> = applied.iter().map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.board.keep(&names);
        for shelf in applied {
            shelf.show_on(&self.board);
        }
        reloader.ground.recorder.forget_bundles();
        for name in &names {
            self.tell(name, &reloader.ground.recorder);
        }
        let mut shelves = self.shelves.lock();
        *shelves = applied
            .iter()
            .map(|shelf| (name(shelf), Arc::clone(shelf)))
            .collect();
        let mut pollers = self.pollers.lock();
        pollers.retain(|name, (shelf, stop)| {
            let current = shelves.get(name);
            let is_current = current.is_some_and(|current| Arc::ptr_eq(current, shelf));
            if !is_current {
                stop.cancel();
                shelf.hide();
            }
            is_current
        });
        for (name, shelf) in shelves.iter() {
            if shelf.server.is_none() || pollers.contains_key(name) {
                continue;
            }
            let stop = stop.child_token();
            pollers.insert(name.clone(), (Arc::clone(shelf), stop.clone()));
            let polling = polling::poll(Arc::clone(shelf), Arc::clone(reloader), stop);
            tokio::spawn(polling);
        }
    }
}
