//! How the bundles of the policy are: kept up to date by whoever fetches them, read by status and its uploads.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How one bundle is.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct BundleStatus {
    /// Its name in the config.
    pub name: String,
    /// The revision that counts, as its manifest names it; none before one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_revision: Option<String>,
    /// When its server was last asked, RFC 3339, like those below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<String>,
    /// When it last answered as it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_request: Option<String>,
    /// When a bundle last came that is whole and signed as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_download: Option<String>,
    /// When the one that counts was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_activation: Option<String>,
    /// What is wrong with it now; the one that counts stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<BundleProblem>,
}

/// What is wrong with a bundle.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BundleProblem {
    /// Stable, kebab case.
    pub code: String,
    /// What it is, and what to do.
    pub message: String,
    /// The HTTP status of the server's answer, where that is the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

/// How all bundles are.
#[derive(Debug, Default)]
pub struct BundleBoard {
    bundles: Mutex<BTreeMap<String, BundleStatus>>,
    changed: watch::Sender<()>,
}

impl BundleBoard {
    /// All of them, by name.
    pub fn all(&self) -> Vec<BundleStatus> {
        self.bundles.lock().values().cloned().collect()
    }

    /// Says how one is now.
    pub fn put(&self, status: BundleStatus) {
        let told = |status: &BundleStatus| (status.active_revision.clone(), status.problem.clone());
        let now = told(&status);
        let before = self.bundles.lock().insert(status.name.clone(), status);
        if before.as_ref().map(told) != Some(now) {
            self.changed.send_replace(());
        }
    }

    /// Forgets those that are not among the names.
    pub fn keep(&self, names: &[&str]) {
        let mut bundles = self.bundles.lock();
        bundles.retain(|name, _| names.contains(&name.as_str()));
    }

    /// Tells whenever one has another revision or another problem.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
