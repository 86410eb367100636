//! What is the same for all that give credentials over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::mistake::{At, Notes};
use super::tools::is_loopback;

/// A provider that asks somebody over HTTP.
#[derive(Clone, Debug)]
pub struct Asked<T> {
    /// Its config, without the authorities of whom it asks.
    pub config: T,
    /// These, PEM; the system's, unless given.
    pub ca: Option<PathBuf>,
}

/// With the time for taking back what is not believed, still less than the minute a provider has.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Notes an address to which secrets would go in the clear.
pub(super) fn check_url(url: Option<&At<Url>>, notes: &mut Notes) {
    if let Some(url) = url
        && url.value.scheme() == "http"
        && !is_loopback(&url.value)
    {
        let message = "secrets are sent over `https://`; `http://` is for loopback";
        notes.mistake(&url.place, "plaintext_token_url", message);
    }
}

/// Notes a timeout that leaves no time for the rest.
pub(super) fn check_timeout(timeout: Option<&At<Duration>>, notes: &mut Notes) {
    if let Some(timeout) = timeout
        && timeout.value > LONGEST_TIMEOUT
    {
        notes.mistake(&timeout.place, "wrong_value", "it is at most `30s`");
    }
}

/// Notes what goes only with something that is not there.
pub(super) fn check_goes<T>(
    key: Option<&At<T>>,
    code: &'static str,
    message: &str,
    notes: &mut Notes,
) {
    if let Some(key) = key {
        notes.mistake(&key.place, code, message);
    }
}
