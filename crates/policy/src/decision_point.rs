//! Judges every call by the policy that counts, and shows it to one that does not.

use std::path::PathBuf;
use std::sync::Arc;

use call::Call;
use tasks::{Approvals, Demand, Granted, Unspent};
use telemetry::DecisionId;

use crate::decision::{Judgement, Terms};
use crate::log::{DecisionLogConfig, Log};
use crate::permit::{Denial, DenialKind, Ruling};
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
    ///
    /// What policy escalates is judged again with an approval of this very call, if there is one: policy may still say
    /// no, and then the approval stays. Where it says yes the approval is spent, before there is a permit.
    pub async fn decide(
        &self,
        call: Call,
        id: DecisionId,
        approvals: &Approvals,
    ) -> Result<Ruling, Denial> {
        // A call that waited for its approval doesn't spend it for nothing.
        call.check_cover()?;
        let judged = self.policy.judge_call(&call, None);
        let enforced = match self.mode {
            Mode::Enforce => None,
            Mode::Shadow => Some(unenforced(&judged)),
        };
        let asked = enforced.as_ref().unwrap_or(&judged);
        let granted = match asked {
            Judgement::Escalate { demands, .. } => find(&call, demands, approvals),
            Judgement::Allow(_) | Judgement::Deny { .. } => None,
        };
        let Some(granted) = granted else {
            let verdicts = Verdicts {
                enforced: asked,
                judged: &judged,
                granted: None,
            };
            self.saw(&call, &id, verdicts);
            let judgement = enforced.unwrap_or(judged);
            return self.policy.rule(call, id, judgement, None).await;
        };
        let again = self.policy.judge_call(&call, Some(&granted));
        let spent = match &again {
            Judgement::Allow(_) => approvals.spend(&granted).await.map(Some),
            Judgement::Escalate { .. } | Judgement::Deny { .. } => Ok(None),
        };
        // Another call was quicker, or it may have been: then this one was not approved.
        let is_judged_again = spent.is_ok();
        let judgement = if is_judged_again { again } else { judged };
        let verdicts = Verdicts {
            enforced: &judgement,
            judged: &judgement,
            granted: is_judged_again.then_some(&granted),
        };
        self.saw(&call, &id, verdicts);
        match (spent, judgement) {
            (Err(Unspent::Store(error)), _) => {
                Err(Denial::new(DenialKind::StoreFailed, error.to_string()))
            }
            (Ok(_), Judgement::Escalate { .. }) => Err(Denial::new(
                DenialKind::Failed,
                "the policy escalates what was approved",
            )),
            (spent, judgement) => {
                let approved = spent.ok().flatten();
                self.policy.rule(call, id, judgement, approved).await
            }
        }
    }

    fn saw(&self, call: &Call, id: &DecisionId, verdicts: Verdicts<'_>) {
        if let Some(shadow) = &self.shadow {
            shadow.saw(&self.policy, call, id, verdicts);
        }
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

/// An approval of this very call. A call that can't be told from others has none.
fn find(call: &Call, demands: &[Demand], approvals: &Approvals) -> Option<Granted> {
    let digest = call.digest().ok()?;
    approvals.find_granted(call.task().id(), digest.as_str(), demands)
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
