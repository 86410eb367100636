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
    /// How calls are kept, if they are.
    pub record: Option<RecordConfig>,
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
        /// A folder of Rego and data; `data.remit.decision` in it decides.
        path: Folder = required;
        /// Whether its answers count: `shadow` allows whatever a task's grants cover, and reports what policy would refuse.
        mode: Mode = default("enforce");
        /// A folder of a policy that is asked too, without effect: `remit policy shadow` tells where it differs.
        candidate: Folder = optional;
        /// Keeps calls in the state folder, so that policies can be tried on them. None are kept unless given.
        record: RawRecord = optional;
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
        Some(PolicyConfig {
            path: self.path?.value.0,
            mode: self.mode?.value,
            candidate: self.candidate.map(|candidate| candidate.value.0),
            record,
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
