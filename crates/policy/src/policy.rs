//! One revision of a policy, and what can be asked of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use call::Call;
use serde_json::{Value as Json, json};
use tasks::{Approved, Done, Granted, Opening, ToolName};
use telemetry::DecisionId;

use crate::admission::{Admitted, Opener};
use crate::bundle::{self, BadBundle, Bundle, Verification};
use crate::check::Parsed;
use crate::coverage::FileCoverage;
use crate::decision::{self, Judgement};
use crate::explanation::Explanation;
use crate::fields::Fields;
use crate::finding::Finding;
use crate::load;
use crate::log::LogRules;
use crate::machine::{Machine, Phase};
use crate::permit::{Denial, DenialKind, Pending, Permit, Ruling};
use crate::reference::{self, TestResult};
use crate::source::{self, Source};
use crate::{bounded, input};

/// How long an admission may wait for its thread.
const ADMISSION_DEADLINE: Duration = Duration::from_secs(1);

/// One revision of a policy: parsed, checked, compiled and tested. Never changed.
pub struct Policy {
    pub(crate) revision: Arc<str>,
    pub(crate) machine: Machine,
    /// The rules of what is told of decisions, if there are any.
    pub(crate) log: Option<LogRules>,
    /// What of its rules is worth a look.
    pub(crate) warnings: Vec<Finding>,
    /// Which fields of a call are worth building.
    pub(crate) reads: Arc<Reads>,
    /// For the reference: explanations and questions.
    pub(crate) files: Arc<Files>,
}

/// Which fields of a call's input are read, by the called tool.
pub(crate) struct Reads {
    /// Of every call: by the library, `remit.all`, `remit.lib`.
    every: Fields,
    /// Of calls of a tool.
    tools: HashMap<String, Fields>,
}

impl Reads {
    pub(crate) fn of(parsed: &[Parsed]) -> Self {
        let mut every = Fields::NONE;
        let mut tools: HashMap<String, Fields> = HashMap::new();
        for module in parsed.iter().filter(|module| !module.is_test) {
            let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
            match package.as_slice() {
                // They see no call.
                ["remit", "admit", ..] | ["system", ..] => {}
                ["remit", "tools", tool, ..] => {
                    let own = tools.entry((*tool).to_owned()).or_insert(Fields::NONE);
                    *own = own.and(module.reads);
                }
                _ => every = every.and(module.reads),
            }
        }
        Self { every, tools }
    }

    fn by(&self, tool: &ToolName) -> Fields {
        let own = self.tools.get(tool.as_str());
        own.map_or(self.every, |own| self.every.and(*own))
    }
}

/// The files of a policy, as the reference evaluates them.
pub(crate) struct Files {
    pub(crate) sources: Vec<Source>,
    /// How many of the sources are ours, the first ones.
    pub(crate) ours: usize,
    /// Of each source that holds rules, in the same order.
    pub(crate) parsed: Vec<Parsed>,
    pub(crate) data: regorus::Value,
}

impl Policy {
    /// Reads every `.rego`, `data.json`, `data.yaml` and `samples/*.json` below a folder; hidden files are left alone.
    pub fn read(folder: &Path) -> Result<Vec<Source>, std::io::Error> {
        source::read(folder)
    }

    /// [`Policy::read`] for whom a signature matters: with a verification nothing but a bundle that it holds for is read.
    pub fn read_verified(
        path: &Path,
        verification: Option<&Verification>,
    ) -> Result<Vec<Source>, std::io::Error> {
        source::read_verified(path, verification)
    }

    /// The policy of the examples (`notes`, `desk`).
    pub fn example() -> Vec<Source> {
        source::example()
    }

    /// The files of several bundles, by the bundles' names: each owns names of its own.
    pub fn join(bundles: Vec<(String, Bundle)>) -> Result<Vec<Source>, BadBundle> {
        bundle::join(bundles)
    }

    /// The policy where there is none: it refuses every call and every task, as `no_policy`.
    pub fn absent() -> Vec<Source> {
        source::absent()
    }

    /// Whether it is the one where there is none.
    pub fn is_absent(&self) -> bool {
        *self.revision == load::revision(&Self::absent())
    }

    /// Parse, check, compile, test. Warnings come with the policy, errors instead of it.
    ///
    /// It works on a thread of its own, and waits for it: seconds where a policy has many tests.
    pub fn load(sources: Vec<Source>) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        load::load(sources, None)
    }

    /// [`Policy::load`] where another policy is there already: if only data changed, its programs are taken as they are.
    pub fn load_after(
        previous: &Arc<Self>,
        sources: Vec<Source>,
    ) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        load::load(sources, Some(Arc::clone(previous)))
    }

    /// Everything wrong with a policy, tests included; empty where [`Policy::load`] has nothing to say.
    pub fn check(sources: Vec<Source>) -> Vec<Finding> {
        match Self::load(sources) {
            Ok((_, findings)) | Err(findings) => findings,
        }
    }

    /// Runs a policy's own tests. What keeps it from being compiled comes instead.
    pub fn test(sources: Vec<Source>) -> Result<Vec<TestResult>, Vec<Finding>> {
        load::test(sources)
    }

    /// Which lines of a policy's rules its tests evaluate; those of the library and of the tests are not counted.
    pub fn coverage(sources: Vec<Source>) -> Result<Vec<FileCoverage>, Vec<Finding>> {
        load::coverage(sources)
    }

    /// The revision: a digest of all sources.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// Decides one call that nobody approved, and reserves its place in the task's limits.
    pub async fn decide(&self, call: Call, id: DecisionId) -> Result<Ruling, Denial> {
        let judgement = self.judge_call(&call, None);
        self.rule(call, id, judgement, None).await
    }

    /// Makes a ruling of what was judged of a call.
    pub(crate) async fn rule(
        &self,
        call: Call,
        id: DecisionId,
        judgement: Judgement,
        approved: Option<Approved>,
    ) -> Result<Ruling, Denial> {
        match judgement {
            Judgement::Allow(terms) => {
                let task = call.task();
                // Another call may have given the task a label, while this one waited or was judged.
                call.check_cover()?;
                let spending = task.reserve(&call.costs()).await?;
                // Before the call is made: what it brings is in the agent's hands from then on.
                let labels = [call.marks(), &terms.labels].concat();
                task.mark(&labels).await?;
                task.note(Done {
                    tool: call.tool().name.clone(),
                    operation: call.operation().to_owned(),
                    access: call.access(),
                    labels,
                });
                let spent = (approved, spending);
                Ok(Ruling::Allow(Permit::new(call, id, terms, spent)))
            }
            Judgement::Escalate {
                reason,
                message,
                demands,
            } => Ok(Ruling::Escalate(Pending::new(
                call, reason, message, demands,
            ))),
            Judgement::Deny {
                kind,
                reason,
                message,
                cause,
                failure,
            } => Err(Denial {
                kind,
                reason,
                message,
                cause,
                failure,
            }),
        }
    }

    /// Judges one input of the shape that calls have (`design.md` 4.3), on the data path's engine. Nothing is reserved.
    pub fn judge(&self, input: &Json) -> Judgement {
        match input::of_json(input) {
            Ok(input) => self.judge_input(Phase::Call, &input),
            Err(error) => Judgement::no(DenialKind::Failed, error.to_string()),
        }
    }

    pub(crate) fn judge_call(&self, call: &Call, granted: Option<&Granted>) -> Judgement {
        let reads = self.reads.by(&call.tool().name);
        match input::of_call(call, reads, granted) {
            Ok(input) => self.judge_input(Phase::Call, &input),
            Err(error) => Judgement::no(DenialKind::Failed, error.to_string()),
        }
    }

    pub(crate) fn judge_input(&self, phase: Phase, input: &regorus::Value) -> Judgement {
        match self.machine.run(phase, input) {
            Ok(answer) => decision::read(&answer),
            Err(failed) => Judgement::failed(&failed),
        }
    }

    /// Decides whether a task may be opened.
    pub fn admit(&self, opening: Opening, opener: &Opener) -> Result<Admitted, Denial> {
        match self.judge_opening(&opening.as_input(), opener) {
            Judgement::Allow(_) => Ok(Admitted::new(opening)),
            Judgement::Escalate { .. } => Err(Denial::new(
                DenialKind::Failed,
                "an admission can't be escalated",
            )),
            Judgement::Deny {
                kind,
                reason,
                message,
                cause,
                failure,
            } => Err(Denial {
                kind,
                reason,
                message,
                cause,
                failure,
            }),
        }
    }

    /// Judges the wish to open a task, as [`Opening::as_input`] tells it.
    ///
    /// It works on a thread of its own: those of the control API have no large stacks, and tasks are opened rarely.
    pub fn judge_opening(&self, opening: &Json, opener: &Opener) -> Judgement {
        let input = match input::of_opening(opening, opener) {
            Ok(input) => input,
            Err(error) => return Judgement::no(DenialKind::Failed, error.to_string()),
        };
        let machine = self.machine.clone();
        bounded::run(ADMISSION_DEADLINE, move || {
            match machine.run(Phase::Admission, &input) {
                Ok(answer) => decision::read(&answer),
                Err(failed) => Judgement::failed(&failed),
            }
        })
        .unwrap_or_else(|overrun| Judgement::no(DenialKind::Failed, format!("policy {overrun}")))
    }

    /// What would be decided, and why. Nothing is reserved.
    ///
    /// It asks the reference, rule by rule, and waits for it: not for the data path.
    pub fn explain(&self, call: &Call) -> Explanation {
        match input::of_call(call, Fields::ALL, None) {
            Ok(input) => self.explain_input(&input),
            Err(error) => Explanation {
                verdict: "error".to_owned(),
                reason: None,
                message: Some(error.to_string()),
                decision: Json::Null,
                rules: Vec::new(),
                conditions: Vec::new(),
                input: Json::Null,
            },
        }
    }

    /// [`Policy::explain`] for an input as it was recorded.
    pub fn explain_json(&self, input: &Json) -> Result<Explanation, String> {
        let input = input::of_json(input).map_err(|error| error.to_string())?;
        Ok(self.explain_input(&input))
    }

    fn explain_input(&self, input: &regorus::Value) -> Explanation {
        let machine = self.machine.clone();
        let asked = input.clone();
        let answer = bounded::run(ADMISSION_DEADLINE, move || machine.run(Phase::Call, &asked));
        let (judgement, decision) = match answer {
            Ok(Ok(answer)) => (decision::read(&answer), json_of(&answer)),
            Ok(Err(failed)) => (Judgement::failed(&failed), Json::Null),
            Err(overrun) => (
                Judgement::no(DenialKind::Failed, overrun.to_string()),
                Json::Null,
            ),
        };
        let failure = match &judgement {
            Judgement::Deny { kind, cause, .. } if *kind != DenialKind::Denied => {
                Some(cause.clone())
            }
            _ => None,
        };
        Explanation {
            verdict: judgement.verdict().to_owned(),
            reason: judgement.reason().map(str::to_owned),
            message: judgement.message().map(str::to_owned).or(failure),
            decision,
            rules: self.held(input),
            conditions: self.closest(input, tool(input)),
            input: json_of(input),
        }
    }

    /// The rules of the called tool's package and of `remit.all` that hold.
    fn held(&self, input: &regorus::Value) -> Vec<Json> {
        let tool = tool(input);
        let mut rules: Vec<(String, String, u32)> = Vec::new();
        for module in &self.files.parsed {
            let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
            let is_asked = match package.as_slice() {
                ["remit", "all"] => true,
                ["remit", "tools", name] => Some(*name) == tool,
                _ => false,
            };
            for (name, line) in module.values().filter(|_| is_asked && !module.is_test) {
                let whole = format!("data.{}.{name}", module.package.join("."));
                if !rules.iter().any(|(known, ..)| *known == whole) {
                    rules.push((whole, module.file.clone(), line));
                }
            }
        }
        let names = rules.iter().map(|(name, ..)| name.clone()).collect();
        let answers = self.ask(input.clone(), names).unwrap_or_default();
        rules
            .into_iter()
            .zip(answers)
            .filter_map(|((rule, file, line), answer)| {
                let value = match answer {
                    Ok(value) if !holds(&value) => return None,
                    Ok(value) => json!({ "value": json_of(&value) }),
                    Err(error) => json!({ "error": error }),
                };
                let mut entry = json!({ "rule": rule, "file": file, "line": line });
                if let (Some(entry), Json::Object(value)) = (entry.as_object_mut(), value) {
                    entry.extend(value);
                }
                Some(entry)
            })
            .collect()
    }

    /// Evaluates one rule, such as `data.remit.decision`, in the reference; null where it is undefined.
    /// What kept it from being evaluated comes as text for authors.
    pub fn eval(&self, entrypoint: &str, input: &Json) -> Result<Json, String> {
        let input = input::of_json(input).map_err(|error| error.to_string())?;
        let answers = self.ask(input, vec![entrypoint.to_owned()])?;
        match answers.into_iter().next() {
            Some(answer) => answer.map(|value| json_of(&value)),
            None => Err("no answer".to_owned()),
        }
    }

    /// [`Policy::eval`] of one of the three rules that the data path asks, by its engine.
    pub fn eval_quick(&self, entrypoint: &str, input: &Json) -> Result<Json, String> {
        let phase = Phase::ALL
            .into_iter()
            .find(|phase| phase.entrypoint() == entrypoint);
        let Some(phase) = phase else {
            let known = Phase::ALL.map(Phase::entrypoint).join("`, `");
            return Err(format!(
                "the data path asks for `{known}` and no other rule"
            ));
        };
        let input = input::of_json(input).map_err(|error| error.to_string())?;
        let machine = self.machine.clone();
        let answer = bounded::run(ADMISSION_DEADLINE, move || machine.run(phase, &input));
        match answer {
            Ok(Ok(value)) => Ok(json_of(&value)),
            Ok(Err(failed)) => Err(failed.to_string()),
            Err(overrun) => Err(format!("evaluation {overrun}")),
        }
    }

    /// Asks the reference with the called tool's package alone: it would evaluate all of them.
    pub(crate) fn ask(
        &self,
        input: regorus::Value,
        rules: Vec<String>,
    ) -> Result<Vec<Result<regorus::Value, String>>, String> {
        let tool = tool(&input).map(str::to_owned);
        self.files.ask(tool.as_deref(), input, rules, Vec::new())
    }
}

impl Files {
    /// The text of a parsed file.
    pub(crate) fn text(&self, module: &Parsed) -> &str {
        let mut sources = self.sources.iter();
        let source = sources.find(|source| source.name() == module.file);
        source
            .map(|source| source.text.as_str())
            .unwrap_or_default()
    }

    /// Asks the reference for rules, with more files of rules beside these.
    pub(crate) fn ask(
        &self,
        tool: Option<&str>,
        input: regorus::Value,
        rules: Vec<String>,
        extra: Vec<Source>,
    ) -> Result<Vec<Result<regorus::Value, String>>, String> {
        let sources = self.wanted(tool).cloned().chain(extra).collect();
        reference::ask(sources, self.data.clone(), input, rules)
            .map_err(|overrun| format!("evaluation {overrun}"))
    }

    /// The files of rules that a call of an input's tool is judged by, and the data.
    pub(crate) fn of_tool(&self, input: &regorus::Value) -> (Vec<Source>, regorus::Value) {
        let sources = self.wanted(tool(input)).cloned().collect();
        (sources, self.data.clone())
    }

    fn wanted(&self, tool: Option<&str>) -> impl Iterator<Item = &Source> {
        let wanted = self.parsed.iter().filter(move |module| {
            let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
            match package.as_slice() {
                ["remit", "tools", name] => tool.is_none_or(|tool| tool == *name),
                _ => true,
            }
        });
        let names: Vec<&str> = wanted
            .filter(|module| !module.is_test)
            .map(|module| module.file.as_str())
            .collect();
        let sources = self.sources.iter();
        sources.filter(move |source| names.contains(&source.name().as_str()))
    }
}

/// The called tool's name.
fn tool(input: &regorus::Value) -> Option<&str> {
    match &input["tool"]["name"] {
        regorus::Value::String(name) => Some(name),
        _ => None,
    }
}

/// Whether a rule's value says anything.
fn holds(value: &regorus::Value) -> bool {
    match value {
        regorus::Value::Undefined | regorus::Value::Bool(false) => false,
        regorus::Value::Set(items) => !items.is_empty(),
        _ => true,
    }
}

/// Null where it is undefined.
fn json_of(value: &regorus::Value) -> Json {
    match value {
        regorus::Value::Undefined => Json::Null,
        value => serde_json::to_value(value).unwrap_or(Json::Null),
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
