//! Checks what is called: what blocks, aborts, grows without limit or lies in this engine.

use regorus::unstable::{BUILTINS, Span};

use super::Parsed;
use super::reading::{Call, Reading, RuleReading};
use crate::builtins;
use crate::finding::Finding;
use crate::wanted_engine::WantedEngine;

/// Builtins that can't be had, and why. (regorus 0.14.1, measured.)
const BANNED: [(&str, &str); 3] = [
    (
        "http.send",
        "a policy reaches no network; put what it needs into data or input",
    ),
    ("opa.runtime", "it tells nothing true here"),
    ("walk", "a loop over it finds nothing here; name the paths"),
];

/// The largest width in a format: `%100d`.
const WIDEST: usize = 3;

/// Whether a builtin can't be had although the engine has it.
pub(crate) fn is_banned(name: &str) -> bool {
    BANNED.iter().any(|(banned, _)| *banned == name)
}

/// Checks the calls of one file.
pub(super) fn check(module: &Parsed, reading: &Reading, engine: WantedEngine) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in &reading.rules {
        for call in &rule.calls {
            findings.extend(banned(module, call));
        }
        findings.extend(syntax(module, rule, engine));
    }
    findings
}

fn banned(module: &Parsed, call: &Call) -> Option<Finding> {
    let name = call.path.join(".");
    let finding = |code, message: String| Some(Finding::at(code, &call.span, message));
    if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| *banned == name) {
        return finding("builtin", format!("`{name}` can't be used: {instead}"));
    }
    match name.as_str() {
        "print" if !module.is_test => {
            finding("print", "`print` belongs into `*_test.rego`".to_owned())
        }
        "sprintf" if !format(call).is_some_and(is_narrow) => finding(
            "sprintf",
            format!(
                "`sprintf` takes a format written as a text, with widths of less than {WIDEST} digits"
            ),
        ),
        "print" | "sprintf" => None,
        _ if call.path.first().is_some_and(|first| first == "data") => None,
        _ if expected(&name).is_some() => arguments(call, &name),
        _ => finding(
            "unknown-function",
            format!("there is no function `{name}` here"),
        ),
    }
}

/// The format of `sprintf`, where it is a text.
fn format(call: &Call) -> Option<&str> {
    call.texts.first()?.as_deref()
}

/// How many arguments a builtin takes: 0 for any number.
fn expected(name: &str) -> Option<u8> {
    let own = builtins::find(name).map(|builtin| builtin.arguments);
    own.or_else(|| BUILTINS.get(name).map(|(_, arguments)| *arguments))
}

/// A builtin that is given one argument more takes it for its result, which this engine only half knows.
fn arguments(call: &Call, name: &str) -> Option<Finding> {
    let expected = usize::from(expected(name)?);
    (expected != 0 && call.arguments != expected).then(|| {
        let message = format!(
            "`{name}` takes {expected} arguments and gets {}; write `x := {name}(…)`",
            call.arguments
        );
        Finding::at("arguments", &call.span, message)
    })
}

/// Whether a format makes no text much longer than what it is given.
fn is_narrow(format: &str) -> bool {
    let mut directives = format.split('%').skip(1);
    directives.all(|directive| {
        let is_width = |character: &char| !character.is_alphabetic();
        let width = directive.chars().take_while(is_width);
        let digits = width.clone().filter(char::is_ascii_digit).count();
        digits < WIDEST && !width.clone().any(|character| character == '*')
    })
}

fn syntax(module: &Parsed, rule: &RuleReading, engine: WantedEngine) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |code, span: &Span, message| findings.push(Finding::at(code, span, message));
    for (span, _, by) in &rule.replacements {
        let by = by.as_ref().map(|path| path.join("."));
        if !module.is_test && engine == WantedEngine::Machine {
            find("with", span, "`with` belongs into `*_test.rego`");
        } else if BANNED
            .iter()
            .any(|(banned, _)| Some(*banned) == by.as_deref())
        {
            find("builtin", span, "this builtin can't take another's place");
        }
    }
    findings
}
