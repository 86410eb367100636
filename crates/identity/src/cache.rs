//! The tokens that were verified already.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync;

use crate::clock;
use crate::digest::Digest;
use crate::verified::Verified;

/// How many tokens are expected at a time: it sizes the tables, and is no limit.
const EXPECTED: usize = 10_000;

/// How much is kept, in rough bytes; at about 6 KiB a token the 10,000 that are expected fit.
const CAPACITY: u64 = 64 * 1024 * 1024;

/// Verified tokens by the digest of the whole token, until they expire or their keys change.
///
/// **Invariant.** What [`Cache::find`] answers would be verified again just now: a key set that
/// changed makes all of its tokens unknown, even those that are kept a moment after the change.
pub(crate) struct Cache(sync::Cache<(Place, Digest), Arc<Verified>, Bytes>);

/// Where a proof stood. What is good in one place proves nothing in another, whatever text stands there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Place {
    /// Where bearers stand.
    Slot,
    /// The handshake.
    Certificate,
    /// `Workload-Identity-Token`.
    WorkloadIdentity,
    /// `Txn-Token`.
    Transaction,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self(sync::Cache::with_weighter(EXPECTED, CAPACITY, Bytes))
    }

    pub(crate) fn find(&self, place: Place, digest: &Digest) -> Option<Arc<Verified>> {
        let key = (place, *digest);
        let verified = self.0.get(&key)?;
        if verified.holds(clock::now()) {
            return Some(verified);
        }
        self.0.remove(&key);
        None
    }

    pub(crate) fn keep(&self, place: Place, verified: &Arc<Verified>) {
        let key = (place, verified.digest);
        self.0.insert(key, Arc::clone(verified));
    }
}

// Not what is in it: claims name people.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("len", &self.0.len())
            .finish_non_exhaustive()
    }
}

/// Weighs a token by what its claims take in memory, roughly.
#[derive(Clone)]
struct Bytes;

impl Weighter<(Place, Digest), Arc<Verified>> for Bytes {
    fn weight(&self, _: &(Place, Digest), verified: &Arc<Verified>) -> u64 {
        // A claim's text, and about 200 bytes for each node of the tree around it; twice, since policy keeps
        // a form of its own beside it.
        let once = verified.claims.iter().fold(1024_u64, |sum, (name, value)| {
            sum.saturating_add(name.len() as u64)
                .saturating_add(weight(value))
        });
        once.saturating_mul(2)
    }
}

fn weight(value: &serde_json::Value) -> u64 {
    use serde_json::Value::{Array, Object, String};
    const NODE: u64 = 200;
    match value {
        String(text) => NODE.saturating_add(text.len() as u64),
        Array(items) => items
            .iter()
            .fold(NODE, |sum, item| sum.saturating_add(weight(item))),
        Object(entries) => entries.iter().fold(NODE, |sum, (name, value)| {
            sum.saturating_add(name.len() as u64)
                .saturating_add(weight(value))
        }),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => NODE,
    }
}
