//! `policy`: where the rules are, whether they count, and what is tried beside them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use policy::Mode;

use super::collection::Table;
use super::control_plane::{
    self, BundleConfig, BundleOrigin, DecisionLogsConfig, RawBundle, RawDecisionLogs, RawStatus,
    StatusConfig,
};
use super::mistake::{At, Notes, Place};
use super::scalar::Count;
use super::shape::{section, words};

/// Where the rules are.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// Where its files are.
    pub origin: PolicyOrigin,
    /// Whether its answers count.
    pub mode: Mode,
    /// A folder whose policy is tried beside it.
    pub candidate: Option<PathBuf>,
    /// By which key a bundle is verified; then nothing but a bundle is taken.
    pub verify: Option<VerifyConfig>,
    /// Where decisions are sent.
    pub decision_logs: Option<DecisionLogsConfig>,
    /// Where the state of bundles is sent.
    pub status: Option<StatusConfig>,
    /// What is sent with both.
    pub labels: BTreeMap<String, String>,
    /// How calls are kept, if they are.
    pub record: Option<RecordConfig>,
}

/// Where a policy's files are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PolicyOrigin {
    /// A folder of Rego and data, or a bundle.
    Path(PathBuf),
    /// Bundles that make one policy together; at least one.
    Bundles(Vec<BundleConfig>),
}

impl PolicyConfig {
    /// Everything on this machine that its files are read from.
    pub fn paths(&self) -> Vec<PathBuf> {
        let own: Vec<PathBuf> = match &self.origin {
            PolicyOrigin::Path(path) => vec![path.clone()],
            PolicyOrigin::Bundles(bundles) => {
                let paths = bundles.iter().filter_map(|bundle| match &bundle.origin {
                    BundleOrigin::Path(path) => Some(path.clone()),
                    BundleOrigin::Server(..) => None,
                });
                paths.collect()
            }
        };
        own.into_iter().chain(self.candidate.clone()).collect()
    }
}

/// Whose signature a bundle must have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifyConfig {
    /// The public key's file, PEM.
    pub key: PathBuf,
    /// The `kid` that the signature must name.
    pub key_id: Option<String>,
    /// The scope that it must be of.
    pub scope: Option<String>,
}

/// How calls are kept.
#[derive(Clone, Debug)]
pub struct RecordConfig {
    /// How many.
    pub calls: usize,
    /// What of them is masked.
    pub mask: Vec<String>,
}

words! { Mode { "enforce" => Self::Enforce, "shadow" => Self::Shadow } }

section! {
    /// Where the rules are.
    struct RawPolicy {
        /// A folder of Rego and data, or one file in OPA's bundle format; `data.remit.decision` in it decides.
        path: PathBuf = optional;
        /// Instead of `path`: bundles that make one policy together, by name, from servers or from this machine.
        bundles: Table<RawBundle> = default({});
        /// Whether its answers count: `shadow` allows whatever a task's grants cover, and reports what policy would refuse.
        mode: Mode = default("enforce");
        /// A folder or bundle of a policy that is asked too, without effect: `remit policy shadow` tells where it differs.
        candidate: PathBuf = optional;
        /// Whose signature the bundle must have: then neither a folder nor a bundle that is not signed is taken.
        verify: RawVerify = optional;
        /// Where decisions are sent, in OPA's format.
        decision_logs: RawDecisionLogs = optional;
        /// Where the state of the bundles is sent, in OPA's format.
        status: RawStatus = optional;
        /// What is sent with both, by name.
        labels: Table<String> = default({});
        /// Keeps calls in the state folder, so that policies can be tried on them. None are kept unless given.
        record: RawRecord = optional;
    }
}

section! {
    /// Whose signature a bundle must have.
    struct RawVerify {
        /// The public key, a PEM file: ECDSA P-256, Ed25519 or RSA.
        key: PathBuf = required;
        /// The `kid` that the signature must name; any unless given.
        key_id: String = optional;
        /// The scope that the signature must be of; none unless given.
        scope: String = optional;
    }
}

section! {
    /// Calls that are kept to try policies on: what policy saw of each, and what it said.
    struct RawRecord {
        /// How many of the last calls.
        calls: Count = default(1000);
        /// What is masked of each: paths below `input`, `*` for any one name.
        mask: Vec<At<String>> = default(["request.headers.*", "agent.claims.*"]);
    }
}

/// A path of this machine; a server's address is not taken for one.
fn folder(path: At<PathBuf>, notes: &mut Notes) -> Option<PathBuf> {
    if path.value.to_string_lossy().contains("://") {
        let message =
            "a server's bundle stands in `policy.bundles`, by a name: `{ company: { url: … } }`";
        notes.mistake(&path.place, "wrong_value", message);
        return None;
    }
    Some(path.value)
}

impl RawPolicy {
    /// `place` is where it stands.
    pub(super) fn parse(self, place: &Place, notes: &mut Notes) -> Option<PolicyConfig> {
        // Each is parsed before any is missed, so that no mistake hides another.
        let bundles = self
            .bundles
            .and_then(|raw| control_plane::bundles(raw.value, notes));
        let decision_logs = self.decision_logs.map(|raw| raw.value.parse(notes));
        let status = self.status.map(|raw| raw.value.parse(notes));
        let path = self.path.map(|path| folder(path, notes));
        let candidate = self.candidate.map(|path| folder(path, notes));
        let origin = match (path, bundles?) {
            (Some(path), bundles) if bundles.is_empty() => PolicyOrigin::Path(path?),
            (None, bundles) if !bundles.is_empty() => {
                if let Some(verify) = &self.verify {
                    let message = "each of `bundles` has a `verify` of its own";
                    notes.mistake(&verify.place, "wrong_value", message);
                }
                PolicyOrigin::Bundles(bundles)
            }
            _ => {
                let message = "a policy has a `path` or `bundles`, one of the two";
                notes.mistake(place, "wrong_value", message);
                return None;
            }
        };
        let decision_logs = match decision_logs {
            Some(parsed) => Some(parsed?),
            None => None,
        };
        let status = match status {
            Some(parsed) => Some(parsed?),
            None => None,
        };
        let candidate = match candidate {
            Some(parsed) => Some(parsed?),
            None => None,
        };
        let record = match self.record {
            Some(record) => Some(record.value.parse()?),
            None => None,
        };
        let verify = match self.verify {
            Some(verify) => Some(verify.value.parse()?),
            None => None,
        };
        Some(PolicyConfig {
            origin,
            verify,
            decision_logs,
            status,
            labels: control_plane::labels(self.labels?.value),
            mode: self.mode?.value,
            candidate,
            record,
        })
    }
}

impl RawVerify {
    pub(super) fn parse(self) -> Option<VerifyConfig> {
        Some(VerifyConfig {
            key: self.key?.value,
            key_id: self.key_id.map(|id| id.value),
            scope: self.scope.map(|scope| scope.value),
        })
    }
}

impl RawRecord {
    fn parse(self) -> Option<RecordConfig> {
        let mask = self.mask?.value.into_iter();
        Some(RecordConfig {
            calls: self.calls?.value.0,
            mask: mask.map(|path| path.value).collect(),
        })
    }
}
