//! The way of a policy from its files to the data path: parse, check, compile, test, compare.

use std::sync::Arc;
use std::time::Duration;

use regorus::Value;
use ring::digest;

use crate::bounded;
use crate::check::{self, Parsed};
use crate::compile;
use crate::coverage::FileCoverage;
use crate::failing;
use crate::finding::{Finding, Severity};
use crate::interpreted::Interpreted;
use crate::log::LogRules;
use crate::machine::{Machine, Phase};
use crate::policy::{Files, Policy, Reads};
use crate::reference::{self, TestResult};
use crate::source::{self, Kind, Source};
use crate::wanted_engine::WantedEngine;

/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many failing tests are explained.
const MOST_EXPLAINED: usize = 20;

/// Loads a policy, or says everything that is wrong with it. Where another one is there already and only data changed,
/// nothing is compiled.
pub(crate) fn load(
    sources: Vec<Source>,
    previous: Option<Arc<Policy>>,
) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    bounded::run(DEADLINE, move || {
        let (policy, mut findings) =
            match previous.filter(|previous| has_rules_of(previous, &sources)) {
                Some(previous) => with_data(&previous, sources)?,
                None => compile(sources)?,
            };
        findings.extend(tested(&policy)?);
        compare(&policy)?;
        findings.extend(cost(&policy));
        findings.sort_by(|one, other| one.file.cmp(&other.file));
        Ok((policy, findings))
    })
    .unwrap_or_else(|overrun| Err(vec![overran(&overrun)]))
}

/// Runs a policy's own tests.
pub(crate) fn test(sources: Vec<Source>) -> Result<Vec<TestResult>, Vec<Finding>> {
    bounded::run(DEADLINE, move || results(&compile(sources)?.0))
        .unwrap_or_else(|overrun| Err(vec![overran(&overrun)]))
}

/// Which lines of a policy's rules its tests evaluate.
pub(crate) fn coverage(sources: Vec<Source>) -> Result<Vec<FileCoverage>, Vec<Finding>> {
    bounded::run(DEADLINE, move || {
        let rules = sources.iter().filter(|source| source.kind() == Kind::Rules);
        let asked: Vec<String> = rules.map(Source::name).collect();
        let files = compile(sources)?.0.files;
        let together = reference::coverage(files.sources.clone(), files.data.clone());
        let together = together.map_err(|overrun| vec![overran(&overrun)])?;
        Ok(together.files(|file| asked.iter().any(|asked| asked == file)))
    })
    .unwrap_or_else(|overrun| Err(vec![overran(&overrun)]))
}

fn overran(overrun: &bounded::Overrun) -> Finding {
    Finding::of_file("load", "", format!("loading the policy {overrun}"))
}

/// Parses, checks and compiles.
fn compile(sources: Vec<Source>) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    let revision = revision(&sources);
    let mut library = source::library();
    let engine = WantedEngine::of(&sources).map_err(|finding| vec![finding])?;
    let (mut parsed, warnings) = check::check(&library, &sources, engine)?;
    let admit = ["remit", "admit"];
    if !parsed.iter().any(|module| module.package == admit) {
        for source in source::default_admission() {
            parsed.push(check::parse_ours(&source).map_err(|finding| vec![finding])?);
            library.push(source);
        }
    }
    let data = data(&sources)?;
    let ours = library.len();
    library.extend(sources);
    let files = Files {
        sources: library,
        ours,
        parsed,
        data,
    };
    let machine = match engine {
        WantedEngine::Machine => compile::machine(&files),
        WantedEngine::Interpreter => interpreted(&files),
    };
    let machine = machine.map_err(|finding| vec![finding])?;
    let log = compile::log_rules(&files).map_err(|finding| vec![finding])?;
    let policy = Policy {
        revision: revision.into(),
        reads: Arc::new(Reads::of(&files.parsed)),
        machine,
        log,
        warnings: warnings.clone(),
        files: Arc::new(files),
    };
    Ok((policy, warnings))
}

fn interpreted(files: &Files) -> Result<Machine, Finding> {
    let interpreted = Interpreted::new(files);
    let interpreted =
        interpreted.map_err(|error| Finding::of_engine("compile", "", &error.to_string()))?;
    Ok(Machine::interpreted(interpreted))
}

/// What a decision costs, where the author asked for the engine that takes longer.
fn cost(policy: &Policy) -> Option<Finding> {
    if !policy.machine.is_interpreted() {
        return None;
    }
    let sample = source::samples(&policy.files.sources).next();
    let timed = sample.and_then(|(name, text)| {
        let input = serde_json::from_str(text).ok()?;
        Some((name, policy.time(&input).ok()?))
    });
    let cost = match timed {
        Some((name, timing)) => {
            format!("`{name}` takes {} µs", timing.median_ns.div_ceil(1_000))
        }
        None => "put an input into `samples/*.json` to see what it costs".to_owned(),
    };
    let message = format!("the interpreter decides, as the manifest asks: {cost}");
    Some(Finding {
        severity: Severity::Warning,
        ..Finding::of_file("interpreter", source::MANIFEST, message)
    })
}

/// Whether the rules and tests are those of a policy.
fn has_rules_of(policy: &Policy, sources: &[Source]) -> bool {
    // An engine of the reference holds its data.
    if policy.machine.is_interpreted() {
        return false;
    }
    let is_code =
        |source: &&Source| matches!(source.kind(), Kind::Rules | Kind::Tests | Kind::Manifest);
    let own = policy.files.sources.iter().skip(policy.files.ours);
    let same = |(one, other): (&Source, &Source)| one.path == other.path && one.text == other.text;
    let (own, new) = (own.filter(is_code), sources.iter().filter(is_code));
    own.clone().count() == new.clone().count() && own.zip(new).all(same)
}

/// The same rules over other data and samples. Data is no part of a program: it can't define what rules define.
fn with_data(
    policy: &Policy,
    sources: Vec<Source>,
) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    let data = data(&sources)?;
    let revision = revision(&sources);
    let ours = policy.files.ours;
    let library = policy.files.sources.iter().take(ours).cloned();
    let warnings = policy.warnings.clone();
    let policy = Policy {
        revision: revision.into(),
        reads: Arc::clone(&policy.reads),
        warnings: policy.warnings.clone(),
        machine: policy.machine.with_data(data.clone()),
        log: policy.log.as_ref().map(|rules| LogRules {
            machine: rules.machine.with_data(data.clone()),
            ..rules.clone()
        }),
        files: Arc::new(Files {
            sources: library.chain(sources).collect(),
            ours,
            parsed: policy.files.parsed.clone(),
            data,
        }),
    };
    Ok((policy, warnings))
}

/// A digest of all sources: SHA-256 over names, lengths and texts.
pub(crate) fn revision(sources: &[Source]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for source in source::library().iter().chain(sources) {
        for part in [source.name().as_bytes(), source.text.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    let digest = context.finish();
    // Half of it tells revisions apart, and can be read.
    hex::encode(digest.as_ref().iter().take(16).copied().collect::<Vec<_>>())
}

/// The data of every file, below the names of its folders.
fn data(sources: &[Source]) -> Result<Value, Vec<Finding>> {
    let mut engine = regorus::Engine::new();
    let mut findings = Vec::new();
    for source in sources {
        let name = source.name();
        let value = match source.kind() {
            Kind::Json => Value::from_json_str(&source.text),
            Kind::Yaml => Value::from_yaml_str(&source.text),
            Kind::Rules | Kind::Tests | Kind::Sample | Kind::Manifest | Kind::Other => continue,
        };
        let added = value.and_then(|value| {
            let folders = source
                .path
                .parent()
                .into_iter()
                .flat_map(|parent| parent.iter());
            let value = folders.rev().fold(value, |inner, folder| {
                let key = Value::from(folder.to_string_lossy().as_ref());
                Value::from(std::collections::BTreeMap::from([(key, inner)]))
            });
            anyhow::ensure!(value.as_object().is_ok(), "data is an object");
            for taken in ["remit", "system"] {
                anyhow::ensure!(
                    value[taken] == Value::Undefined,
                    "`{taken}` is where rules are; give the data another name"
                );
            }
            engine.add_data(value)
        });
        if let Err(error) = added {
            findings.push(Finding::of_file("data", name, error.to_string()));
        }
    }
    if findings.is_empty() {
        Ok(engine.get_data())
    } else {
        Err(findings)
    }
}

/// What the policy's own tests say: those that fail block, and a policy without any is warned of.
fn tested(policy: &Policy) -> Result<Vec<Finding>, Vec<Finding>> {
    let results = results(policy)?;
    let failed: Vec<Finding> = results
        .iter()
        .filter(|result| !result.passed)
        .map(|result| Finding {
            line: result.line,
            ..Finding::of_file(
                "test-failed",
                result.file.as_str(),
                match &result.error {
                    Some(error) => format!("`{}` failed: {error}", result.name),
                    None => format!("`{}` does not hold{}", result.name, because(result)),
                },
            )
        })
        .collect();
    if !failed.is_empty() {
        return Err(failed);
    }
    let untested = results.is_empty().then(|| Finding {
        severity: Severity::Warning,
        ..Finding::of_file(
            "no-tests",
            "",
            "the policy has no tests; write `test_…` rules in `*_test.rego`",
        )
    });
    Ok(untested.into_iter().collect())
}

/// Which condition of a test fails, and what was compared.
fn because(result: &TestResult) -> String {
    let mut conditions = result.conditions.iter();
    let Some(failing) = conditions.find(|condition| condition.holds == Some(false)) else {
        return String::new();
    };
    let compared = match failing.values.as_slice() {
        [left, right] => format!(": left is {left}, right is {right}"),
        [value] => format!(": it is {value}"),
        _ => String::new(),
    };
    format!(": `{}` in line {}{compared}", failing.text, failing.line)
}

fn results(policy: &Policy) -> Result<Vec<TestResult>, Vec<Finding>> {
    let files = &policy.files;
    let told = |overrun: bounded::Overrun| {
        vec![Finding::of_file(
            "tests",
            "",
            format!("the tests {overrun}"),
        )]
    };
    let mut sources = files.sources.iter();
    if !sources.any(|source| source.kind() == Kind::Tests) {
        return Ok(Vec::new());
    }
    let mut results = reference::test(files.sources.clone(), files.data.clone()).map_err(told)?;
    let failed = results
        .iter_mut()
        .filter(|result| !result.passed && result.error.is_none());
    for result in failed.take(MOST_EXPLAINED) {
        result.conditions = failing::conditions(files, result);
    }
    Ok(results)
}

/// Judges every sample in both engines: where they differ, the data path would not do what the author wrote.
fn compare(policy: &Policy) -> Result<(), Vec<Finding>> {
    let samples = policy.files.sources.iter();
    let samples = samples.filter(|source| source.kind() == Kind::Sample);
    let findings: Vec<Finding> = samples
        .filter_map(|sample| {
            difference(policy, sample)
                .map(|message| Finding::of_file("sample", sample.name(), message))
        })
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

fn difference(policy: &Policy, sample: &Source) -> Option<String> {
    let input = match Value::from_json_str(&sample.text) {
        Ok(input) => input,
        Err(error) => return Some(format!("not JSON: {error}")),
    };
    differs(policy, input)
}

/// How the engines differ on an input.
pub(crate) fn differs(policy: &Policy, input: Value) -> Option<String> {
    let phase = match &input["operator"] {
        Value::Undefined => Phase::Call,
        _ => Phase::Admission,
    };
    let quick = policy.machine.run(phase, &input);
    let rules = vec![phase.entrypoint().to_owned()];
    let slow = match policy.ask(input, rules) {
        Ok(mut answers) => answers.pop()?,
        Err(overrun) => return Some(overrun),
    };
    match (quick, slow) {
        (Ok(quick), Ok(slow)) if quick == slow => None,
        (Err(_), Err(_)) => None,
        (Ok(_), Ok(_)) => Some("both engines answer, but not the same".to_owned()),
        (Err(failure), Ok(_)) => Some(format!("only the data path fails: {failure}")),
        (Ok(_), Err(error)) => Some(format!("only the reference fails: {error}")),
    }
}

impl Parsed {
    /// The names of the rules that have a value of their own, with their lines.
    pub(crate) fn values(&self) -> impl Iterator<Item = (String, u32)> {
        use regorus::unstable::{Rule, RuleHead};
        self.rules()
            .filter(|rule| {
                !matches!(
                    rule,
                    Rule::Spec {
                        head: RuleHead::Func { .. },
                        ..
                    }
                )
            })
            .map(|rule| (check::head(rule).join("."), rule.span().line))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use crate::{Judgement, Policy, Source};

    fn sources(limit: u32, rule: &str) -> Vec<Source> {
        let source = |path: &str, text: String| Source {
            path: path.into(),
            text,
        };
        vec![
            source(
                "data.json",
                format!("{{\"limits\": {{\"notes\": {limit}}}}}"),
            ),
            source(
                "notes.rego",
                format!(
                    "package remit.tools.notes\n{rule} input.request.arguments.size <= data.limits.notes"
                ),
            ),
        ]
    }

    fn allows(policy: &Policy, size: u32) -> bool {
        let input =
            json!({ "tool": { "name": "notes" }, "request": { "arguments": { "size": size } } });
        matches!(policy.judge(&input), Judgement::Allow(_))
    }

    #[test]
    fn new_data_needs_no_compiler() {
        let (first, _) = Policy::load(sources(5, "allow if")).unwrap();
        let first = Arc::new(first);
        let (second, _) = Policy::load_after(&first, sources(50, "allow if")).unwrap();
        assert!(second.machine.shares_programs_of(&first.machine));
        assert!(allows(&second, 20) && !allows(&first, 20));
        assert_ne!(first.revision(), second.revision());
        let input =
            json!({ "tool": { "name": "notes" }, "request": { "arguments": { "size": 20 } } });
        let reference = second.eval("data.remit.decision", &input).unwrap();
        assert_eq!(reference["verdict"], "allow");
    }
    #[test]
    fn new_rules_do() {
        let (first, _) = Policy::load(sources(5, "allow if")).unwrap();
        let first = Arc::new(first);
        let (second, _) = Policy::load_after(&first, sources(5, "allow if not")).unwrap();
        assert!(!second.machine.shares_programs_of(&first.machine));
        assert!(allows(&second, 20) && !allows(&first, 20));
    }
    #[test]
    fn data_can_not_stand_where_rules_are() {
        let (first, _) = Policy::load(sources(5, "allow if")).unwrap();
        let mut second = sources(5, "allow if");
        second[0].text = r#"{"system": {"log": {}}}"#.to_owned();
        let findings = Policy::load_after(&Arc::new(first), second).unwrap_err();
        assert_eq!(findings[0].code, "data");
    }
}
