//! `policy`: where the rules are, whether they count, and what is tried beside them.

use std::path::PathBuf;

use policy::Mode;

use super::mistake::{At, Notes};
use super::node::Kind;
use super::scalar::Count;
use super::shape::{Here, Shape, section, words};
use serde_json::Value;

/// Where the rules are.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// A folder of Rego and data.
    pub path: PathBuf,
    /// Whether its answers count.
    pub mode: Mode,
    /// A folder whose policy is tried beside it.
    pub candidate: Option<PathBuf>,
    /// By which key the bundle is verified; then nothing but a bundle is taken.
    pub verify: Option<VerifyConfig>,
    /// How calls are kept, if they are.
    pub record: Option<RecordConfig>,
}

/// Whose signature a bundle must have.
#[derive(Clone, Debug)]
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

/// A folder of policies; a bundle's URL is not taken for one.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Shape for Folder {
    fn schema() -> Value {
        PathBuf::schema()
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        if let Kind::Scalar(Value::String(text)) = &here.node.kind
            && text.contains("://")
        {
            notes.not_built(&here.place, "a policy bundle by URL");
            return None;
        }
        PathBuf::read(here, notes).map(Self)
    }
}

section! {
    /// Where the rules are.
    struct RawPolicy {
        /// A folder of Rego and data, or one file in OPA's bundle format; `data.remit.decision` in it decides.
        path: Folder = required;
        /// Whether its answers count: `shadow` allows whatever a task's grants cover, and reports what policy would refuse.
        mode: Mode = default("enforce");
        /// A folder of a policy that is asked too, without effect: `remit policy shadow` tells where it differs.
        candidate: Folder = optional;
        /// Whose signature the bundle must have: then neither a folder nor a bundle that is not signed is taken.
        verify: RawVerify = optional;
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

impl RawPolicy {
    pub(super) fn parse(self) -> Option<PolicyConfig> {
        let record = match self.record {
            Some(record) => Some(record.value.parse()?),
            None => None,
        };
        let verify = match self.verify {
            Some(verify) => Some(verify.value.parse()?),
            None => None,
        };
        Some(PolicyConfig {
            verify,
            path: self.path?.value.0,
            mode: self.mode?.value,
            candidate: self.candidate.map(|candidate| candidate.value.0),
            record,
        })
    }
}

impl RawVerify {
    fn parse(self) -> Option<VerifyConfig> {
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
