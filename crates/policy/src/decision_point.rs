//! Judges every call by the policy that counts, and shows it to one that does not.

use std::path::PathBuf;
use std::sync::Arc;

use call::Call;
use telemetry::DecisionId;

use crate::decision::{Judgement, Terms};
use crate::log::{DecisionLogConfig, Log};
use crate::permit::{Denial, Ruling};
use crate::policy::Policy;
use crate::recording::Recording;
use crate::shadow::{Shadow, ShadowReport, Verdicts, Work};

/// The reason of a call that is allowed although policy says no.
const NOT_ENFORCED: &str = "not_enforced";

/// Whether a policy's answer counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is reported alone: whatever the task's grants cover is allowed.
    Shadow,
}

impl Mode {
    /// The word of the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// What is done with calls besides deciding them.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// A policy whose verdicts are reported, not enforced.
    pub candidate: Option<Arc<Policy>>,
    /// Where calls are kept, to be judged again.
    pub recording: Option<RecordingConfig>,
    /// Where decisions are logged, to be sent to OPA's control plane.
    pub decisions: Option<DecisionLogConfig>,
}

/// Where calls are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordingConfig {
    /// The file, of JSON lines. Only its owner may read it.
    pub path: PathBuf,
    /// How many calls are kept; at times the file holds twice as many.
    pub most: usize,
    /// What is masked: paths below `input`, `*` for any one name.
    pub mask: Vec<String>,
}

/// Decides calls: by one policy that counts, beside which another may be tried.
#[derive(Debug)]
pub struct DecisionPoint {
    policy: Arc<Policy>,
    mode: Mode,
    shadow: Option<Shadow>,
}

impl DecisionPoint {
    /// One that enforces a policy and does nothing else.
    pub fn enforcing(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            mode: Mode::Enforce,
            shadow: None,
        }
    }

    /// One that also tries a candidate, or keeps calls, on a thread of its own.
    pub fn new(policy: Arc<Policy>, mode: Mode, trial: &Trial) -> std::io::Result<Self> {
        // Where there is no policy nothing is allowed, whatever is to count.
        let mode = if policy.is_absent() {
            Mode::Enforce
        } else {
            mode
        };
        let recording = trial.recording.as_ref().map(Recording::open).transpose()?;
        let work = Work {
            candidate: trial.candidate.clone(),
            recording,
            log: trial.decisions.clone().map(Log::new),
        };
        let shadow = if mode == Mode::Shadow || work.is_some() {
            Some(Shadow::start(work, &policy)?)
        } else {
            None
        };
        Ok(Self {
            policy,
            mode,
            shadow,
        })
    }

    /// The policy that counts.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Decides one call, and reserves its place in the task's limits.
    pub async fn decide(&self, call: Call, id: DecisionId) -> Result<Ruling, Denial> {
        let judged = self.policy.judge_call(&call);
        let enforced = match self.mode {
            Mode::Enforce => None,
            Mode::Shadow => Some(unenforced(&judged)),
        };
        if let Some(shadow) = &self.shadow {
            let verdicts = Verdicts {
                enforced: enforced.as_ref().unwrap_or(&judged),
                judged: &judged,
            };
            shadow.saw(&self.policy, &call, &id, verdicts);
        }
        let judgement = enforced.unwrap_or(judged);
        self.policy.rule(call, id, judgement).await
    }

    /// What was found besides deciding.
    pub fn report(&self) -> ShadowReport {
        let found = self.shadow.as_ref().map(Shadow::report).unwrap_or_default();
        ShadowReport {
            mode: self.mode.as_str().to_owned(),
            policy_revision: self.policy.revision().to_string(),
            ..found
        }
    }
}

/// What is done where a policy's answer does not count.
fn unenforced(judgement: &Judgement) -> Judgement {
    match judgement {
        Judgement::Allow(_) => judgement.clone(),
        Judgement::Escalate { .. } | Judgement::Deny { .. } => Judgement::Allow(Terms {
            reason: Some(NOT_ENFORCED.to_owned()),
            ..Terms::default()
        }),
    }
}
