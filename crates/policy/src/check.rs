//! Checks what the engine does not: what would be silent, endless or fatal when a call is judged.

mod builtins;
mod fields;
mod graph;
mod heads;
mod language;
mod names;
mod odd;
mod patterns;
mod reading;
mod scopes;
mod silent;
mod unreached;

use regorus::Engine;
use regorus::unstable::{Module, Ref, Rule};

use crate::fields::Fields;
use crate::finding::Finding;
use crate::nesting;
use crate::source::{Kind, LONGEST_FILE, MOST_FILES, Source};
use crate::wanted_engine::WantedEngine;

pub(crate) use builtins::is_banned;
pub(crate) use heads::head;
pub(crate) use names::path;

/// A parsed file of rules.
#[derive(Clone)]
pub(crate) struct Parsed {
    /// The file's name.
    pub(crate) file: String,
    /// Whether it is a `*_test.rego`.
    pub(crate) is_test: bool,
    /// Whether it is ours.
    pub(crate) is_library: bool,
    /// The package without `data`: `["remit", "tools", "notes"]`.
    pub(crate) package: Vec<String>,
    /// The fields of a call's input that its rules read.
    pub(crate) reads: Fields,
    pub(crate) module: Ref<Module>,
}

impl Parsed {
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.module.policy.iter().map(Ref::as_ref)
    }

    /// The whole path of one of its rules, without `data`.
    pub(crate) fn whole(&self, rule: &Rule) -> Vec<String> {
        let mut whole = self.package.clone();
        whole.extend(head(rule));
        whole
    }
}

/// Parses every file and checks all of them; every error at once, or else what is worth a look.
pub(crate) fn check(
    library: &[Source],
    sources: &[Source],
    engine: WantedEngine,
) -> Result<(Vec<Parsed>, Vec<Finding>), Vec<Finding>> {
    let mut findings = sizes(sources);
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut parsed = Vec::new();
    let ours = library.iter().map(|source| (source, true));
    for (source, is_library) in ours.chain(sources.iter().map(|source| (source, false))) {
        if !matches!(source.kind(), Kind::Rules | Kind::Tests) {
            continue;
        }
        match parse(source, is_library) {
            Ok(module) => parsed.push(module),
            Err(finding) => findings.push(finding),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let readings: Vec<_> = parsed
        .iter()
        .map(|module| reading::Reading::new(module, &parsed))
        .collect();
    let functions = language::Functions::of(&parsed);
    for (module, reading) in parsed.iter().zip(&readings) {
        if !module.is_library {
            findings.extend(names::check(module));
            findings.extend(heads::check(module, engine));
            findings.extend(builtins::check(module, reading, engine));
            findings.extend(language::check(module, reading, &functions));
            findings.extend(fields::check(module, reading, &parsed));
            findings.extend(patterns::check(reading));
        }
    }
    findings.extend(heads::conflicts(&parsed));
    findings.extend(graph::check(&parsed, &readings));
    let mut warnings = silent::check(&parsed);
    warnings.extend(unreached::check(&parsed, &readings));
    for (module, reading) in parsed.iter_mut().zip(&readings) {
        // `with` may read more than stands there.
        module.reads = match engine {
            WantedEngine::Machine => fields::read(reading),
            WantedEngine::Interpreter => Fields::ALL,
        };
    }
    if findings.is_empty() {
        Ok((parsed, warnings))
    } else {
        Err(findings)
    }
}

/// The name that another was meant to be, if it is almost written so.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let distances = known
        .iter()
        .map(|known| (strsim::osa_distance(known, name), *known));
    // One letter of three: short names are too alike.
    let almost = distances.filter(|(distance, known)| distance * 3 <= known.len());
    almost.min().map(|(_, known)| known)
}

/// Parses a file of the library that needs no check.
pub(crate) fn parse_ours(source: &Source) -> Result<Parsed, Finding> {
    parse(source, true)
}

/// What is too large to be looked at.
fn sizes(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if sources.len() > MOST_FILES {
        findings.push(Finding::of_file(
            "too-many-files",
            "",
            format!("a policy has at most {MOST_FILES} files; put alike ones together"),
        ));
    }
    for source in sources {
        if source.text.len() > LONGEST_FILE {
            findings.push(Finding::of_file(
                "file-too-long",
                source.name(),
                format!("a file has at most {LONGEST_FILE} bytes; split it"),
            ));
        }
    }
    findings
}

fn parse(source: &Source, is_library: bool) -> Result<Parsed, Finding> {
    let file = source.name();
    nesting::check(&file, &source.text)?;
    let mut engine = Engine::new();
    engine
        .add_policy(file.clone(), source.text.clone())
        .map_err(|error| Finding::of_engine("parse", &file, &error.to_string()))?;
    let module = engine
        .get_modules()
        .first()
        .cloned()
        .ok_or_else(|| Finding::of_file("parse", file.as_str(), "there is no package in it"))?;
    Ok(Parsed {
        is_test: source.kind() == Kind::Tests,
        is_library,
        package: path(&module.package.refr),
        reads: Fields::ALL,
        file,
        module,
    })
}
