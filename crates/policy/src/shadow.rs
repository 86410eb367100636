//! What would another policy say? Calls are judged by it on a thread of its own, and differences are counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use call::Call;
use parking_lot::Mutex;
use regorus::Value;
use serde::{Deserialize, Serialize};
use tasks::Granted;
use telemetry::DecisionId;

use crate::bounded::STACK;
use crate::decision::Judgement;
use crate::fields::Fields;
use crate::input;
use crate::log::{DecisionLog, Event, Log, LogRules};
use crate::machine::Phase;
use crate::policy::Policy;
use crate::recording::{Recorded, Recording};

/// How many calls may wait to be judged; a call beyond is not judged and counted.
const WAITING: usize = 1_024;

/// How many kinds of difference are told apart.
const MOST_KINDS: usize = 1_000;

/// What a policy said of a call.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Said {
    /// `allow`, `deny`, `escalate`, or `error` where it failed.
    pub verdict: String,
    /// Its code, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Said {
    pub(crate) fn of(judgement: &Judgement) -> Self {
        Self {
            verdict: judgement.verdict().to_owned(),
            reason: judgement.reason().map(str::to_owned),
        }
    }

    /// Whether the call is made.
    pub fn allows(&self) -> bool {
        self.verdict == "allow"
    }
}

/// Calls of one kind that two policies judge differently.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// The called tool.
    pub tool: String,
    /// The operation, as the config writes it.
    pub operation: String,
    /// `read`, `write` or `execute`.
    pub access: String,
    /// What counted.
    pub enforced: Said,
    /// What did not.
    pub shadow: Said,
    /// How many.
    pub calls: u64,
    /// The decision id of the first.
    pub example: String,
}

/// What came of a trial.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ShadowReport {
    /// `enforce` or `shadow`: whether the policy's own answers count.
    pub mode: String,
    /// The policy that is asked.
    pub policy_revision: String,
    /// The one that is tried beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_revision: Option<String>,
    /// Calls judged twice since the policies were loaded.
    pub calls: u64,
    /// Those on which both say the same.
    pub agreed: u64,
    /// Calls that came too fast to be judged twice.
    pub not_judged: u64,
    /// The others, by kind, most frequent first.
    pub differences: Vec<Difference>,
    /// Calls that differ in more ways than are told apart.
    pub untold: u64,
    /// The file in which calls are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
}

impl ShadowReport {
    /// How many calls would be allowed that are not, and refused that are allowed.
    pub fn changes(&self) -> (u64, u64) {
        let count = |from: bool| -> u64 {
            let changed = |found: &&Difference| {
                found.enforced.allows() == from && found.shadow.allows() != from
            };
            self.differences
                .iter()
                .filter(changed)
                .map(|found| found.calls)
                .sum()
        };
        (count(false), count(true))
    }
}

type Kind = (String, String, String, Said, Said);

/// Differences, counted.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    calls: u64,
    agreed: u64,
    untold: u64,
    kinds: BTreeMap<Kind, (u64, String)>,
}

impl Differences {
    /// Counts one call. `tool`, `operation` and `access` are those of its input.
    pub(crate) fn add(&mut self, input: &Value, id: &str, enforced: Said, shadow: Said) {
        self.calls += 1;
        if enforced == shadow {
            self.agreed += 1;
            return;
        }
        let tool = &input["tool"];
        let text = |name: &str| match &tool[name] {
            Value::String(text) => text.to_string(),
            _ => String::new(),
        };
        let kind = (
            text("name"),
            text("operation"),
            text("access"),
            enforced,
            shadow,
        );
        let is_new = !self.kinds.contains_key(&kind);
        if is_new && self.kinds.len() == MOST_KINDS {
            self.untold += 1;
            return;
        }
        let (calls, _) = self.kinds.entry(kind).or_insert_with(|| (0, id.to_owned()));
        *calls += 1;
    }

    pub(crate) fn report(&self) -> ShadowReport {
        let differences = self.kinds.iter();
        let mut differences: Vec<Difference> = differences
            .map(
                |((tool, operation, access, enforced, shadow), (calls, example))| Difference {
                    tool: tool.clone(),
                    operation: operation.clone(),
                    access: access.clone(),
                    enforced: enforced.clone(),
                    shadow: shadow.clone(),
                    calls: *calls,
                    example: example.clone(),
                },
            )
            .collect();
        differences.sort_by_key(|found| std::cmp::Reverse(found.calls));
        ShadowReport {
            calls: self.calls,
            agreed: self.agreed,
            untold: self.untold,
            differences,
            ..ShadowReport::default()
        }
    }
}

/// What is done with a call, and what the policy that is asked said of it.
#[derive(Clone, Copy)]
pub(crate) struct Verdicts<'a> {
    pub(crate) enforced: &'a Judgement,
    pub(crate) judged: &'a Judgement,
    /// The approval that it was judged with.
    pub(crate) granted: Option<&'a Granted>,
}

/// A call on its way to the thread.
struct Seen {
    id: DecisionId,
    at: jiff::Timestamp,
    revision: Arc<str>,
    enforced: Said,
    /// What the policy that is asked said, where that is not what was done.
    judged: Said,
    /// The same in whole, where decisions are logged.
    logged: Option<Judgement>,
    /// Whether there is no policy, and so nobody who says what is masked.
    is_hidden: bool,
    input: Value,
}

/// What the thread does with calls.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Asks another policy.
    pub(crate) candidate: Option<Arc<Policy>>,
    /// Keeps them.
    pub(crate) recording: Option<Recording>,
    /// Tells of them.
    pub(crate) log: Option<Log>,
}

impl Work {
    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        self.candidate.is_some() || self.recording.is_some() || self.log.is_some()
    }
}

/// The thread that judges calls once more, and keeps them.
#[derive(Debug)]
pub(crate) struct Shadow {
    calls: SyncSender<Seen>,
    candidate: Option<Arc<Policy>>,
    recorded: Option<String>,
    found: Arc<Mutex<Differences>>,
    not_judged: AtomicU64,
    /// Where it is counted that a decision is not logged.
    log: Option<Arc<DecisionLog>>,
    /// Whether there is no policy, and so nobody who says what is masked.
    is_hidden: bool,
}

impl Shadow {
    /// It ends with the [`Shadow`], once it has judged what waits.
    pub(crate) fn start(work: Work, policy: &Policy) -> std::io::Result<Self> {
        let rules = policy.log.clone();
        let (calls, waiting) = sync_channel(WAITING);
        let found = Arc::default();
        let shadow = Self {
            calls,
            recorded: work.recording.as_ref().map(Recording::shown),
            candidate: work.candidate.clone(),
            found: Arc::clone(&found),
            not_judged: AtomicU64::new(0),
            log: work.log.as_ref().map(Log::queue),
            is_hidden: policy.is_absent(),
        };
        std::thread::Builder::new()
            .name("remit-shadow".to_owned())
            .stack_size(STACK)
            .spawn(move || judge(&waiting, work, rules.as_ref(), &found))?;
        Ok(shadow)
    }

    /// Hands a call on; never waits.
    pub(crate) fn saw(
        &self,
        policy: &Policy,
        call: &Call,
        id: &DecisionId,
        verdicts: Verdicts<'_>,
    ) {
        // All of it, for whatever the candidate reads.
        let Ok(input) = input::of_call(call, Fields::ALL, verdicts.granted) else {
            return;
        };
        let seen = Seen {
            id: id.clone(),
            at: jiff::Timestamp::now(),
            revision: Arc::clone(policy.revision()),
            enforced: Said::of(verdicts.enforced),
            judged: Said::of(verdicts.judged),
            logged: self.log.as_ref().map(|_| verdicts.judged.clone()),
            is_hidden: self.is_hidden,
            input,
        };
        if let Some(log) = &self.log {
            log.announce();
        }
        if self.calls.try_send(seen).is_err() {
            self.not_judged.fetch_add(1, Ordering::Relaxed);
            if let Some(log) = &self.log {
                log.drop_events(1);
                log.arrive();
            }
        }
    }

    pub(crate) fn report(&self) -> ShadowReport {
        let candidate = self.candidate.as_ref();
        ShadowReport {
            candidate_revision: candidate.map(|candidate| candidate.revision().to_string()),
            not_judged: self.not_judged.load(Ordering::Relaxed),
            recorded: self.recorded.clone(),
            ..self.found.lock().report()
        }
    }
}

fn judge(calls: &Receiver<Seen>, work: Work, rules: Option<&LogRules>, found: &Mutex<Differences>) {
    let Work {
        candidate,
        mut recording,
        log,
    } = work;
    while let Ok(seen) = calls.recv() {
        if let (Some(log), Some(judged)) = (&log, &seen.logged) {
            let event = Event {
                id: seen.id.as_str(),
                at: seen.at.to_string(),
                revision: &seen.revision,
                input: (!seen.is_hidden).then_some(&seen.input),
                judged,
            };
            log.tell(&event, rules);
            log.arrive();
        }
        let shadow = match &candidate {
            Some(candidate) => Said::of(&candidate.judge_input(Phase::Call, &seen.input)),
            None => seen.judged,
        };
        if let Some(recording) = &mut recording {
            recording.keep(Recorded {
                id: seen.id.to_string(),
                at: seen.at.to_string(),
                policy_revision: seen.revision.to_string(),
                said: seen.enforced.clone(),
                input: serde_json::to_value(&seen.input).unwrap_or_default(),
            });
        }
        let mut found = found.lock();
        found.add(&seen.input, seen.id.as_str(), seen.enforced, shadow);
    }
}
