//! Compiles a policy for the data path: a program for every so many tools, with what concerns every call in each.
//!
//! A program has room for 256 files and 65,535 instructions, and a policy may have a file for each of a thousand tools.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;

use regorus::languages::rego::compiler::Compiler;

use crate::check::Parsed;
use crate::finding::Finding;
use crate::log::LogRules;
use crate::machine::{Entrypoint, Machine, Phase};
use crate::policy::Files;
use crate::source::{Kind, Source};
use crate::vm::Code;
use crate::{builtins, check, compose, reference};

/// How many files a program has at most, with room for what is composed.
const MOST_FILES: usize = 250;

/// How many files of tools share a program, as far as there is room: more programs repeat what concerns every call,
/// larger ones take longer to compile than they have rules.
const TOGETHER: usize = 50;

/// Compiles the entrypoints of the data path: one for each phase, and one for each tool's decision.
pub(crate) fn machine(files: &Files) -> Result<Machine, Finding> {
    let rules = files.parsed.iter().filter(|module| !module.is_test);
    let mut shared = Vec::new();
    let mut tools: BTreeMap<&str, Vec<&Parsed>> = BTreeMap::new();
    for module in rules {
        match module.package.as_slice() {
            [remit, tool, name, ..] if remit == "remit" && tool == "tools" => {
                tools.entry(name).or_default().push(module);
            }
            // They are not asked when a call is decided.
            [system, ..] if system == "system" => {}
            _ => shared.push(module),
        }
    }
    let mut programs = Vec::new();
    let mut entrypoints = HashMap::new();
    for part in parts(tools.into_values(), MOST_FILES.saturating_sub(shared.len())) {
        let modules: Vec<&Parsed> = shared.iter().copied().chain(part).collect();
        let (code, tools) = program(files, &modules)?;
        let numbered = tools.into_iter().zip(Phase::ALL.len()..);
        entrypoints.extend(numbered.map(|(tool, index)| {
            let program = programs.len();
            (tool, Entrypoint { program, index })
        }));
        programs.push(Arc::new(code));
    }
    Ok(Machine::new(programs, files.data.clone(), entrypoints))
}

/// Shares files out over programs, those of a tool together. There is at least one.
fn parts<'a>(tools: impl Iterator<Item = Vec<&'a Parsed>>, room: usize) -> Vec<Vec<&'a Parsed>> {
    let mut parts = vec![Vec::new()];
    for files in tools {
        match parts.last_mut() {
            Some(last) if last.is_empty() || last.len() + files.len() <= room.min(TOGETHER) => {
                last.extend(files);
            }
            _ => parts.push(files),
        }
    }
    parts
}

/// Compiles the rules of what is told of decisions, apart from those that decide.
pub(crate) fn log_rules(files: &Files) -> Result<Option<LogRules>, Finding> {
    let is_of_log = |module: &&Parsed| module.package == ["system", "log"];
    let is_helper = |module: &&Parsed| matches!(module.package.as_slice(), [remit, lib, ..] if remit == "remit" && lib == "lib");
    let rules = files.parsed.iter().filter(|module| !module.is_test);
    let own: Vec<&Parsed> = rules.clone().filter(is_of_log).collect();
    let names: Vec<String> = own
        .iter()
        .flat_map(|module| module.rules())
        .filter_map(|rule| check::head(rule).into_iter().next())
        .collect();
    let asked =
        ["mask", "drop"].map(|name| names.iter().any(|known| known == name).then_some(name));
    let entrypoints: Vec<String> = asked
        .iter()
        .flatten()
        .map(|name| format!("data.system.log.{name}"))
        .collect();
    if entrypoints.is_empty() {
        return Ok(None);
    }
    let modules: Vec<&Parsed> = own.into_iter().chain(rules.filter(is_helper)).collect();
    let entrypoints: Vec<&str> = entrypoints.iter().map(String::as_str).collect();
    let code = code(files, &modules, None, &entrypoints)?;
    let machine = Machine::new(vec![Arc::new(code)], files.data.clone(), HashMap::new());
    let [mask, drop] = asked;
    let mut index = 0..;
    let mut numbered = |rule: Option<&str>| {
        let index = rule.and_then(|_| index.next())?;
        Some(Entrypoint { program: 0, index })
    };
    let (mask, drop) = (numbered(mask), numbered(drop));
    Ok(Some(LogRules {
        machine,
        mask,
        drop,
    }))
}

/// Compiles one program: its code, and the tools whose entrypoints follow those of the phases.
fn program(files: &Files, modules: &[&Parsed]) -> Result<(Code, Vec<String>), Finding> {
    let composed = compose::decisions(modules);
    let own = composed.tools.iter().map(|(_, rule)| rule.as_str());
    let phases = Phase::ALL.map(Phase::entrypoint);
    let entrypoints: Vec<&str> = phases.into_iter().chain(own).collect();
    let code = code(files, modules, Some(&composed.source), &entrypoints)?;
    let tools = composed.tools.into_iter().map(|(tool, _)| tool);
    Ok((code, tools.collect()))
}

/// Compiles files, and one more, for the rules that are asked.
fn code(
    files: &Files,
    modules: &[&Parsed],
    more: Option<&Source>,
    entrypoints: &[&str],
) -> Result<Code, Finding> {
    let of_engine = |error: &dyn Display| Finding::of_engine("compile", "", &error.to_string());
    let names: Vec<&str> = modules.iter().map(|module| module.file.as_str()).collect();
    let is_of_it =
        |source: &&Source| source.kind() == Kind::Rules && names.contains(&source.name().as_str());
    let sources = files.sources.iter().filter(is_of_it);
    let sources: Vec<Source> = sources.chain(more).cloned().collect();
    let mut engine = reference::engine(&sources, files.data.clone());
    let engine = engine.as_mut().map_err(|error| of_engine(error))?;
    let first = entrypoints.first().copied().unwrap_or_default();
    let compiled = engine.compile_with_entrypoint(&first.into());
    let compiled = compiled.map_err(|error| of_engine(&error))?;
    let ours = builtins::unknown();
    let program = Compiler::compile_from_policy_with_host_await(&compiled, entrypoints, &ours);
    let program = program.map_err(|error| of_engine(&error))?;
    Code::new(Arc::unwrap_or_clone(program)).map_err(|error| of_engine(&error))
}
