//! The keys of one issuer, fetched when needed and kept while they are good.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::DecodingKey;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use url::Url;

use crate::fetch::{FetchError, Fetcher};
use crate::key_set::KeySet;
use crate::{Algorithm, clock};

/// How many calls may wait for one issuer's keys. As many connections are served in 128 MiB;
/// the calls beyond it are refused at once.
pub(crate) const MAX_WAITING: usize = 1024;

/// How often keys are fetched, and for how long they are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The least time between two fetches, whatever tokens come: else anyone could make us flood the issuer.
    pub(crate) debounce: Duration,
    /// The age at which keys that are used are fetched again.
    pub(crate) refresh: Duration,
    /// How long one fetch may take, discovery included.
    pub(crate) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_secs(10),
            refresh: Duration::from_secs(600),
            patience: Duration::from_secs(5),
        }
    }
}

/// The keys of one issuer: the last good set, and how to get a newer one.
#[derive(Debug)]
pub(crate) struct KeySource {
    issuer: Url,
    jwks_uri: Option<Url>,
    fetcher: Result<Fetcher, FetchError>,
    pace: Pace,
    keys: ArcSwapOption<KeySet>,
    /// When the last fetch began, in seconds since the epoch.
    fetched_at: AtomicI64,
    fetching: Mutex<Fetching>,
    finished: watch::Sender<()>,
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct Fetching {
    running: bool,
    began: Option<Instant>,
}

/// Why there is no key.
#[derive(Debug)]
pub(crate) enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// The issuer's keys were never had, or may be newer than those at hand but can't be waited for.
    Unavailable,
}

impl KeySource {
    pub(crate) fn new(issuer: &Url, jwks_uri: Option<&Url>, pace: Pace) -> Self {
        let fetcher = Fetcher::new(issuer, jwks_uri);
        if let Err(error) = &fetcher {
            warn!(%issuer, %error, "issuer keys can't be fetched");
        }
        Self {
            issuer: issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
            fetcher,
            pace,
            keys: ArcSwapOption::empty(),
            fetched_at: AtomicI64::new(0),
            fetching: Mutex::default(),
            finished: watch::Sender::new(()),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Whether it can fetch, and from the same place.
    pub(crate) fn is_for(&self, issuer: &Url, jwks_uri: Option<&Url>) -> bool {
        self.fetcher.is_ok() && self.issuer == *issuer && self.jwks_uri.as_ref() == jwks_uri
    }

    /// Whether `keys` are still the newest; has them fetched again when they are old.
    pub(crate) fn is_current(self: &Arc<Self>, keys: &Arc<KeySet>, now: i64) -> bool {
        self.refresh_if_old(now);
        self.keys
            .load()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, keys))
    }

    /// Finds a key, and the set it is of. A key that is not at hand is worth one fetch.
    pub(crate) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(Arc<KeySet>, Arc<DecodingKey>), NoKey> {
        if let Some(found) = self.at_hand(id, algorithm) {
            self.refresh_if_old(clock::now());
            return Ok(found);
        }
        // From before the fetch begins, so that its end can't be missed.
        let mut finished = self.finished.subscribe();
        if self.begin() {
            let _place = self.waiting.try_acquire().map_err(|_| NoKey::Unavailable)?;
            // The fetch itself is bounded by the same time; this bounds the wait if its runtime is gone.
            let waited = timeout(self.pace.patience * 2, finished.changed()).await;
            if waited.is_err() {
                return Err(NoKey::Unavailable);
            }
        }
        let missing = || {
            if self.keys.load().is_some() {
                NoKey::Unknown
            } else {
                NoKey::Unavailable
            }
        };
        self.at_hand(id, algorithm).ok_or_else(missing)
    }

    fn at_hand(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<(Arc<KeySet>, Arc<DecodingKey>)> {
        let keys = self.keys.load_full()?;
        let key = Arc::clone(keys.find(id, algorithm)?);
        Some((keys, key))
    }

    fn refresh_if_old(self: &Arc<Self>, now: i64) {
        let age = now.saturating_sub(self.fetched_at.load(Ordering::Relaxed));
        if u64::try_from(age).is_ok_and(|age| age >= self.pace.refresh.as_secs()) {
            self.begin();
        }
    }

    /// Begins a fetch unless one has just begun; whether one is running now.
    ///
    /// It runs by itself: a caller that goes away must not take it along.
    fn begin(self: &Arc<Self>) -> bool {
        let mut fetching = self.fetching.lock();
        if fetching.running {
            return true;
        }
        if fetching
            .began
            .is_some_and(|began| began.elapsed() < self.pace.debounce)
        {
            return false;
        }
        *fetching = Fetching {
            running: true,
            began: Some(Instant::now()),
        };
        drop(fetching);
        self.fetched_at.store(clock::now(), Ordering::Relaxed);
        let running = Running(Arc::clone(self));
        tokio::spawn(async move { running.0.fetch().await });
        true
    }

    /// Fetches the keys; what fails leaves the last good ones in place.
    async fn fetch(&self) {
        let Ok(fetcher) = &self.fetcher else { return };
        let fetched = timeout(self.pace.patience, fetcher.fetch())
            .await
            .unwrap_or(Err(FetchError::Late));
        let issuer = &self.issuer;
        match fetched {
            Ok(keys)
                if self
                    .keys
                    .load()
                    .as_ref()
                    .is_some_and(|known| known.is_same(&keys)) => {}
            Ok(keys) => {
                info!(%issuer, keys = keys.len(), "issuer keys changed");
                self.keys.store(Some(Arc::new(keys)));
            }
            Err(error) => warn!(%issuer, %error, "issuer keys could not be fetched"),
        }
    }
}

/// A fetch that is running; its end is told however it ends.
struct Running(Arc<KeySource>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetching.lock().running = false;
        self.0.finished.send_replace(());
    }
}
