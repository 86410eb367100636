//! Which engine a policy asks for in its manifest: `{"metadata": {"remit": {"engine": "interpreter"}}}`.

use serde::Deserialize;
use serde_json::Value;

use crate::bundle::Manifest;
use crate::finding::Finding;
use crate::source::{Kind, Source};

/// What decides on the data path.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WantedEngine {
    /// The machine, for which all of the checks are.
    #[default]
    Machine,
    /// The reference: what only it can run is accepted then.
    Interpreter,
}

/// What a manifest says to the gateway.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    #[serde(default)]
    engine: WantedEngine,
}

impl WantedEngine {
    /// What the manifests among the files ask for; one that owns all rules and asks for the interpreter is enough.
    pub(crate) fn of(sources: &[Source]) -> Result<Self, Finding> {
        let manifests = sources.iter();
        let manifests = manifests.filter(|source| source.kind() == Kind::Manifest);
        let mut wanted = Self::Machine;
        for source in manifests {
            let refused = |error: String| Finding::of_file("manifest", source.name(), error);
            let manifest = Manifest::parse(source.text.as_bytes());
            let manifest = manifest.map_err(|error| refused(error.to_string()))?;
            let told = manifest.metadata.get("remit").cloned();
            let told: Told =
                serde_json::from_value(told.unwrap_or_else(|| Value::Object(Default::default())))
                    .map_err(|error| refused(format!("`metadata.remit`: {error}")))?;
            if told.engine == Self::Interpreter {
                if !manifest.owns_remit() {
                    let message = "`metadata.remit.engine` is chosen by the bundle that owns `remit`, for all of the policy";
                    return Err(refused(message.to_owned()));
                }
                wanted = Self::Interpreter;
            }
        }
        Ok(wanted)
    }
}
