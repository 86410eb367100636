//! `policy.bundles`, `policy.decision_logs`, `policy.status`: a control plane as OPA has it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use credentials::SecretRef;
use url::Url;

use super::collection::Table;
use super::mistake::{At, Notes};
use super::rules::{RawVerify, VerifyConfig};
use super::scalar::Size;
use super::shape::{section, words};
use super::tools::is_loopback;

/// One of the bundles that make the policy together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BundleConfig {
    /// `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Where it is.
    pub origin: BundleOrigin,
    /// Whose signature it must have.
    pub verify: Option<VerifyConfig>,
    /// Whether an older revision is taken.
    pub rollback: Rollback,
}

/// Where a bundle is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BundleOrigin {
    /// A folder or a file.
    Path(PathBuf),
    /// A server gives it.
    Server(ServiceConfig, Polling),
}

/// A server of a control plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceConfig {
    /// The whole address.
    pub url: Url,
    /// Where the bearer token is kept.
    pub token: Option<SecretRef>,
    /// The authorities of its certificate; the system's unless given.
    pub ca: Option<PathBuf>,
}

/// How often a server is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Polling {
    /// The least time between two questions.
    pub min_delay: Duration,
    /// The most.
    pub max_delay: Duration,
    /// How long the server may wait for something new before it answers.
    pub long_polling: Option<Duration>,
}

/// Whether a revision may follow a later one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rollback {
    /// It may.
    Accept,
    /// It may not.
    Refuse,
}

/// Where decisions are sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecisionLogsConfig {
    /// The server.
    pub service: ServiceConfig,
    /// How often.
    pub polling: Polling,
    /// How many bytes of events may wait.
    pub buffer: usize,
    /// How many bytes one request has, compressed.
    pub upload: usize,
    /// What is masked of the input.
    pub mask: Vec<String>,
}

/// Where the state of bundles is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusConfig {
    /// The server.
    pub service: ServiceConfig,
    /// How often, where nothing happens.
    pub every: Duration,
}

words! { Rollback { "accept" => Self::Accept, "refuse" => Self::Refuse } }

section! {
    /// One of the bundles that make the policy together. Each owns the names that its manifest claims as `roots`.
    struct RawBundle {
        /// A folder, or a file in OPA's bundle format.
        path: PathBuf = optional;
        /// Where a server gives it, instead: `https://`; `http://` is for loopback.
        url: Url = optional;
        /// Where the bearer token is kept that the server asks for.
        token: SecretRef = optional;
        /// The authorities of the server's certificate, a PEM file; the system's unless given.
        ca: PathBuf = optional;
        /// Whose signature it must have.
        verify: RawVerify = optional;
        /// Whether a revision is taken that is older than the last: `refuse` needs revisions that are numbers, versions or times.
        rollback: Rollback = default("accept");
        /// How often the server is asked.
        polling: RawPolling = default({});
    }
}

section! {
    /// How often a server is asked: after a time between two bounds; where it does not answer, after ever longer ones.
    struct RawPolling {
        /// The least time between two questions, at least 10 ms.
        min_delay: Duration = default("10s");
        /// The most.
        max_delay: Duration = default("30s");
        /// How long the server may wait for something new before it answers, if it can; then it is asked again at once.
        long_polling: Duration = optional;
    }
}

section! {
    /// Where decisions are sent in OPA's format: as much as policy saw, and what it said. `package system.log` masks and drops.
    struct RawDecisionLogs {
        /// The whole address, such as `https://opa.example/logs`.
        url: Url = required;
        /// Where the bearer token is kept.
        token: SecretRef = optional;
        /// The authorities of the server's certificate, a PEM file; the system's unless given.
        ca: PathBuf = optional;
        /// The least time between two uploads, at least 10 ms.
        min_delay: Duration = default("10s");
        /// The most.
        max_delay: Duration = default("30s");
        /// How much may wait to be sent; the oldest are dropped beyond, and counted.
        buffer: Size = default("8MiB");
        /// The longest upload, compressed.
        upload: Size = default("32KiB");
        /// What is masked of each input, besides what the policy masks: paths below `input`, `*` for any one name.
        mask: Vec<At<String>> = default(["request.headers.*", "agent.claims.*"]);
    }
}

section! {
    /// Where the state of the bundles is sent in OPA's format, at each change and from time to time.
    struct RawStatus {
        /// The whole address, such as `https://opa.example/status`.
        url: Url = required;
        /// Where the bearer token is kept.
        token: SecretRef = optional;
        /// The authorities of the server's certificate, a PEM file; the system's unless given.
        ca: PathBuf = optional;
        /// How often, where nothing happens; at least 10 ms apart.
        every: Duration = default("1m");
    }
}

/// Parses the bundles of a policy; no two have one name, the sections see to it.
pub(super) fn bundles(table: Table<RawBundle>, notes: &mut Notes) -> Option<Vec<BundleConfig>> {
    let entries = table.0.into_iter();
    let bundles = entries.map(|(name, raw)| {
        if !is_name(&name.value) {
            let message = "a bundle's name is `[a-z][a-z0-9_]*`";
            notes.mistake(&name.place, "wrong_name", message);
            return None;
        }
        raw.parse(&name, notes)
    });
    // Each notes its own mistakes.
    let bundles: Vec<Option<BundleConfig>> = bundles.collect();
    bundles.into_iter().collect()
}

fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(is_inner)
}

impl RawBundle {
    fn parse(self, name: &At<String>, notes: &mut Notes) -> Option<BundleConfig> {
        let polling = self.polling?.value.parse(notes)?;
        let is_signed = self.verify.is_some();
        let origin = match (self.path, self.url) {
            (Some(path), None) => {
                for (what, place) in [
                    ("token", self.token.map(|token| token.place)),
                    ("ca", self.ca.map(|ca| ca.place)),
                ] {
                    if let Some(place) = place {
                        let message = format!("`{what}` is for a server; a path needs none");
                        notes.mistake(&place, "wrong_value", message);
                    }
                }
                BundleOrigin::Path(path.value)
            }
            (None, Some(url)) => {
                if !is_signed {
                    let message = "this bundle has no `verify`: whoever has the server decides what agents may do";
                    notes.warning(&url.place, "unsigned_bundle", message);
                }
                BundleOrigin::Server(service(url, self.token, self.ca, notes)?, polling)
            }
            _ => {
                let message = "a bundle has a `path` or a `url`, one of the two";
                notes.mistake(&name.place, "wrong_value", message);
                return None;
            }
        };
        let verify = match self.verify {
            Some(verify) => Some(verify.value.parse()?),
            None => None,
        };
        Some(BundleConfig {
            name: name.value.clone(),
            origin,
            verify,
            rollback: self.rollback?.value,
        })
    }
}

impl RawPolling {
    fn parse(self, notes: &mut Notes) -> Option<Polling> {
        Some(Polling {
            long_polling: self.long_polling.map(|wait| wait.value),
            ..bounds(&self.min_delay?, &self.max_delay?, notes)?
        })
    }
}

/// Nobody is asked or told more often.
const OFTEN: Duration = Duration::from_millis(10);

/// A time between two questions.
fn pause(time: &At<Duration>, notes: &mut Notes) -> Option<Duration> {
    if time.value < OFTEN {
        let message = "a server is asked or told every 10 ms at most";
        notes.mistake(&time.place, "wrong_value", message);
        return None;
    }
    Some(time.value)
}

fn bounds(min: &At<Duration>, max: &At<Duration>, notes: &mut Notes) -> Option<Polling> {
    let min_delay = pause(min, notes)?;
    if min.value > max.value {
        let message = "`min_delay` is at most `max_delay`";
        notes.mistake(&min.place, "wrong_value", message);
        return None;
    }
    Some(Polling {
        min_delay,
        max_delay: max.value,
        long_polling: None,
    })
}

pub(super) fn service(
    url: At<Url>,
    token: Option<At<SecretRef>>,
    ca: Option<At<PathBuf>>,
    notes: &mut Notes,
) -> Option<ServiceConfig> {
    if url.value.scheme() == "http" && !is_loopback(&url.value) {
        let message = "a control plane is spoken to over `https://`; `http://` is for loopback";
        notes.mistake(&url.place, "plaintext_control_plane", message);
        return None;
    }
    Some(ServiceConfig {
        url: url.value,
        token: token.map(|token| token.value),
        ca: ca.map(|ca| ca.value),
    })
}

impl RawDecisionLogs {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<DecisionLogsConfig> {
        let mask = self.mask?.value.into_iter();
        Some(DecisionLogsConfig {
            service: service(self.url?, self.token, self.ca, notes)?,
            polling: bounds(&self.min_delay?, &self.max_delay?, notes)?,
            buffer: self.buffer?.value.0,
            upload: self.upload?.value.0,
            mask: mask.map(|path| path.value).collect(),
        })
    }
}

impl RawStatus {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<StatusConfig> {
        Some(StatusConfig {
            service: service(self.url?, self.token, self.ca, notes)?,
            every: pause(&self.every?, notes)?,
        })
    }
}

/// The labels of whoever tells of decisions.
pub(super) fn labels(table: Table<String>) -> BTreeMap<String, String> {
    let pairs = table.0.into_iter();
    pairs.map(|(name, value)| (name.value, value)).collect()
}
