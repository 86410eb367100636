//! `policy`: where the rules are.

use std::path::PathBuf;

use super::mistake::Notes;
use super::node::Kind;
use super::shape::{Here, Shape, section, words};
use serde_json::Value;

/// Where the rules are.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// A folder of Rego and data.
    pub path: PathBuf,
}

/// Whether a policy's answer counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    Enforce,
}
words! { Mode { "enforce" => Self::Enforce } later { "shadow": "`mode: shadow`" } }

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
        /// Whether its answers count.
        mode: Mode = default("enforce");
    }
}

impl RawPolicy {
    pub(super) fn parse(self) -> Option<PolicyConfig> {
        match self.mode?.value {
            Mode::Enforce => Some(PolicyConfig {
                path: self.path?.value.0,
            }),
        }
    }
}
