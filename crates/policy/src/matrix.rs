//! What does a policy say of its samples? A table that shows at a glance what a change of rules changes.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use crate::bounded;
use crate::policy::Policy;
use crate::shadow::Said;
use crate::source::{Kind, Source};

/// How long it may take to judge all samples.
const DEADLINE: Duration = Duration::from_secs(60);

/// One sample, judged.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Row {
    /// The sample's file.
    pub sample: String,
    /// Who asks; empty where the sample does not say.
    pub agent: String,
    /// The called tool.
    pub tool: String,
    /// The operation.
    pub operation: String,
    /// `read`, `write` or `execute`.
    pub access: String,
    /// What policy says.
    #[serde(flatten)]
    pub said: Said,
}

impl Policy {
    /// Judges samples, its own or another's, in the order of their files. Those of admission are left out: no tool is called.
    pub fn matrix(self: &Arc<Self>, samples: &[Source]) -> Result<Vec<Row>, String> {
        let policy = Arc::clone(self);
        let samples: Vec<Source> = samples.to_vec();
        let judged = bounded::run(DEADLINE, move || {
            let samples = samples
                .iter()
                .filter(|source| source.kind() == Kind::Sample);
            samples.filter_map(|sample| row(&policy, sample)).collect()
        });
        judged.map_err(|overrun| format!("judging the samples {overrun}"))
    }
}

fn row(policy: &Policy, sample: &Source) -> Option<Row> {
    let input: Json = serde_json::from_str(&sample.text).ok()?;
    input.get("tool")?;
    let text = |path: &str| {
        let text = input.pointer(path).and_then(Json::as_str);
        text.unwrap_or_default().to_owned()
    };
    Some(Row {
        sample: sample.name(),
        agent: text("/agent/id"),
        tool: text("/tool/name"),
        operation: text("/tool/operation"),
        access: text("/tool/access"),
        said: Said::of(&policy.judge(&input)),
    })
}
