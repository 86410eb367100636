//! The keys of one issuer or trust domain, fetched when needed and kept while they are good.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::DecodingKey;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use url::Url;

use crate::fetch::{FetchError, Fetcher};
use crate::key_set::KeySet;
use crate::spiffe_id::TrustDomain;
use crate::workload_api::Bundles;
use crate::{Algorithm, BundleConfig, Svid, clock};

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

/// How often a bundle in a file is read again. That costs little, and a key that was taken back is gone soon.
const FILE: Pace = Pace {
    debounce: Duration::from_secs(1),
    refresh: Duration::from_secs(10),
    patience: Duration::from_secs(5),
};

/// How often a bundle endpoint is asked that says nothing of it (SPIFFE Federation, 4.1), in seconds.
const ENDPOINT_REFRESH: Duration = Duration::from_secs(300);

/// The least time between two of our own accord.
const MIN_REFRESH: Duration = Duration::from_secs(1);

/// The longest that a bundle endpoint may ask to be left alone: for as long, keys that it takes back may still count.
const MAX_REFRESH: Duration = Duration::from_secs(3600);

/// Where keys are from.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Origin {
    Issuer {
        issuer: Url,
        jwks_uri: Option<Url>,
    },
    TrustDomain {
        name: TrustDomain,
        bundle: BundleConfig,
        /// Of the Workload API, which has a bundle for each kind of SVID.
        part: Option<Svid>,
    },
}

impl Origin {
    fn of_bundle(name: &TrustDomain, bundle: &BundleConfig, svid: Svid) -> Self {
        let part = match bundle {
            BundleConfig::File(_) | BundleConfig::Endpoint(_) => None,
            BundleConfig::WorkloadApi(_) => Some(svid),
        };
        Self::TrustDomain {
            name: name.clone(),
            bundle: bundle.clone(),
            part,
        }
    }
}

/// How keys come.
#[derive(Debug)]
enum Way {
    Fetched(Result<Fetcher, FetchError>),
    /// The Workload API gives them whenever they change.
    Given(Bundles),
}

/// The keys of one issuer or trust domain: the last good set, and how to get a newer one.
#[derive(Debug)]
pub(crate) struct KeySource {
    name: String,
    origin: Origin,
    way: Way,
    pace: Pace,
    keys: ArcSwapOption<KeySet>,
    /// When the last fetch began, in seconds since the epoch.
    fetched_at: AtomicI64,
    /// The age at which keys are fetched again, in seconds.
    refresh: AtomicU64,
    fetching: Mutex<Fetching>,
    finished: watch::Sender<()>,
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct Fetching {
    running: bool,
    began: Option<Instant>,
    /// What follows the Workload API.
    following: Option<AbortHandle>,
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
        let origin = Origin::Issuer {
            issuer: issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
        };
        let way = Way::Fetched(Fetcher::new(issuer, jwks_uri));
        Self::of(issuer.to_string(), origin, way, pace)
    }

    /// The keys of a trust domain for one kind of SVID.
    pub(crate) fn of_bundle(
        name: &TrustDomain,
        bundle: &BundleConfig,
        svid: Svid,
        pace: Pace,
    ) -> Self {
        let (way, pace) = match bundle {
            BundleConfig::File(path) => (
                Way::Fetched(Ok(Fetcher::BundleFile(path.clone()))),
                Pace {
                    debounce: pace.debounce.min(FILE.debounce),
                    refresh: pace.refresh.min(FILE.refresh),
                    patience: pace.patience.min(FILE.patience),
                },
            ),
            BundleConfig::Endpoint(url) => (
                Way::Fetched(Fetcher::of_endpoint(url)),
                Pace {
                    refresh: pace.refresh.min(ENDPOINT_REFRESH),
                    ..pace
                },
            ),
            BundleConfig::WorkloadApi(socket) => (
                Way::Given(Bundles::new(socket, name, svid)),
                Pace {
                    refresh: Duration::MAX,
                    ..pace
                },
            ),
        };
        let origin = Origin::of_bundle(name, bundle, svid);
        Self::of(name.id(), origin, way, pace)
    }

    fn of(name: String, origin: Origin, way: Way, pace: Pace) -> Self {
        if let Way::Fetched(Err(error)) = &way {
            warn!(issuer = name, %error, "issuer keys can't be fetched");
        }
        Self {
            name,
            origin,
            way,
            pace,
            keys: ArcSwapOption::empty(),
            fetched_at: AtomicI64::new(0),
            refresh: AtomicU64::new(pace.refresh.as_secs()),
            fetching: Mutex::default(),
            finished: watch::Sender::new(()),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Whether it can fetch, and from the same place.
    pub(crate) fn is_for(&self, issuer: &Url, jwks_uri: Option<&Url>) -> bool {
        let origin = Origin::Issuer {
            issuer: issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
        };
        self.is_usable() && self.origin == origin
    }

    /// Whether it can fetch, and what holds the keys of this trust domain for this kind of SVID.
    pub(crate) fn is_for_bundle(
        &self,
        name: &TrustDomain,
        bundle: &BundleConfig,
        svid: Svid,
    ) -> bool {
        self.is_usable() && self.origin == Origin::of_bundle(name, bundle, svid)
    }

    fn is_usable(&self) -> bool {
        !matches!(self.way, Way::Fetched(Err(_)))
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
        self.look(|keys| keys.find(id, algorithm).map(Arc::clone))
            .await
    }

    /// Looks for something in the keys, and answers with the set it is of. What is not at hand is worth one fetch.
    pub(crate) async fn look<T>(
        self: &Arc<Self>,
        find: impl Fn(&KeySet) -> Option<T>,
    ) -> Result<(Arc<KeySet>, T), NoKey> {
        let at_hand = || {
            let keys = self.keys.load_full()?;
            let found = find(&keys)?;
            Some((keys, found))
        };
        if let Some(found) = at_hand() {
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
        at_hand().ok_or_else(missing)
    }

    fn refresh_if_old(self: &Arc<Self>, now: i64) {
        let age = now.saturating_sub(self.fetched_at.load(Ordering::Relaxed));
        let refresh = self.refresh.load(Ordering::Relaxed);
        if u64::try_from(age).is_ok_and(|age| age >= refresh) {
            self.begin();
        }
    }

    /// Begins a fetch unless one has just begun; whether one is running now.
    ///
    /// It runs by itself: a caller that goes away must not take it along.
    fn begin(self: &Arc<Self>) -> bool {
        let mut fetching = self.fetching.lock();
        if let Way::Given(bundles) = &self.way {
            if fetching.following.is_none() {
                fetching.running = true;
                let following = follow(Arc::downgrade(self), bundles.clone(), self.pace);
                fetching.following = Some(tokio::spawn(following).abort_handle());
            }
            return fetching.running;
        }
        if fetching.running {
            return true;
        }
        if fetching
            .began
            .is_some_and(|began| began.elapsed() < self.pace.debounce)
        {
            return false;
        }
        fetching.running = true;
        fetching.began = Some(Instant::now());
        drop(fetching);
        self.fetched_at.store(clock::now(), Ordering::Relaxed);
        let running = Running(Arc::clone(self));
        tokio::spawn(async move { running.0.fetch().await });
        true
    }

    /// Fetches the keys; what fails leaves the last good ones in place.
    async fn fetch(&self) {
        let Way::Fetched(Ok(fetcher)) = &self.way else {
            return;
        };
        let fetched = timeout(self.pace.patience, fetcher.fetch())
            .await
            .unwrap_or(Err(FetchError::Late));
        match fetched {
            Ok(keys) => self.take(keys),
            Err(error) => {
                warn!(issuer = self.name, %error, "issuer keys could not be fetched");
            }
        }
    }

    /// Has these keys from now on, and no others.
    fn take(&self, keys: KeySet) {
        let known = self.keys.load();
        if let Way::Fetched(Ok(Fetcher::BundleEndpoint { .. })) = &self.way {
            // What a cache on the way kept for too long may hold keys that were taken back (SPIFFE Federation, 4.2).
            if known.as_ref().is_some_and(|known| keys.is_older(known)) {
                warn!(
                    issuer = self.name,
                    "issuer keys are older than those at hand, and not taken"
                );
                return;
            }
            let refresh = refresh_by(keys.refresh_hint(), self.pace);
            self.refresh.store(refresh.as_secs(), Ordering::Relaxed);
        }
        if known.as_ref().is_some_and(|known| known.is_same(&keys)) {
            return;
        }
        info!(issuer = self.name, keys = keys.len(), "issuer keys changed");
        self.keys.store(Some(Arc::new(keys)));
    }

    /// Nobody has to wait any longer.
    fn settle(&self) {
        self.fetching.lock().running = false;
        self.finished.send_replace(());
    }
}

impl Drop for KeySource {
    fn drop(&mut self) {
        if let Some(following) = self.fetching.get_mut().following.take() {
            following.abort();
        }
    }
}

/// The age at which a bundle endpoint is asked again that wants to be after `hint`.
fn refresh_by(hint: Option<Duration>, pace: Pace) -> Duration {
    hint.map_or(pace.refresh, |hint| {
        hint.max(pace.debounce).clamp(MIN_REFRESH, MAX_REFRESH)
    })
}

/// How long after the Workload API fell silent it is called again; it is on this machine.
const RECONNECT: Duration = Duration::from_secs(1);

/// Takes the bundles of the Workload API as they change, for as long as somebody has use for them. The last good
/// one stays while it is away.
async fn follow(source: Weak<KeySource>, bundles: Bundles, pace: Pace) {
    loop {
        let taken = |keys| {
            if let Some(source) = source.upgrade() {
                source.take(keys);
                source.settle();
            }
        };
        let error = bundles.follow(pace.patience, taken).await;
        let Some(source) = source.upgrade() else {
            return;
        };
        warn!(issuer = source.name, %error, "issuer keys could not be fetched");
        source.settle();
        drop(source);
        sleep(pace.debounce.min(RECONNECT)).await;
    }
}

/// A fetch that is running; its end is told however it ends.
struct Running(Arc<KeySource>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.settle();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pace, refresh_by};

    #[track_caller]
    fn check(hint: Option<u64>, expect: u64) {
        let pace = Pace {
            refresh: Duration::from_secs(300),
            ..Pace::default()
        };
        let refresh = refresh_by(hint.map(Duration::from_secs), pace);
        assert_eq!(refresh.as_secs(), expect);
    }

    #[test]
    fn a_hint_is_heeded_within_bounds() {
        check(None, 300);
        check(Some(60), 60);
        check(Some(600), 600);
        check(Some(0), 10);
        check(Some(u64::MAX), 3600);
    }
}
