//! Composes for each tool what the library composes for the called one, so that the data path looks nothing up.
//!
//! `data.remit.decision` asks two packages for every rule that an author may write, and finds most of them
//! missing: that costs more than the rules that are there. What is composed here asks for those alone, by name.
//! The reference knows nothing of it, and activation compares the two.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{self, Parsed};
use crate::source::Source;

/// The decisions of all tools that have rules of their own.
pub(crate) struct Composed {
    pub(crate) source: Source,
    /// Each tool, and the rule that answers for it.
    pub(crate) tools: Vec<(String, String)>,
}

/// Composes one file of all decisions: a program has room for few files.
pub(crate) fn decisions(parsed: &[&Parsed]) -> Composed {
    let mut rules: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for module in parsed.iter().filter(|module| !module.is_test) {
        let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
        let names = match package.as_slice() {
            ["remit", "tools", tool] => rules.entry(tool).or_default(),
            ["remit", "all"] => &mut all,
            _ => continue,
        };
        let heads = module.rules().map(check::head);
        names.extend(heads.filter_map(|head| head.into_iter().next()));
    }
    let mut text = "package remit.composed\n".to_owned();
    let mut tools = Vec::new();
    for (number, (tool, own)) in rules.iter().enumerate() {
        let rules = Rules {
            number,
            tool,
            own,
            all: &all,
        };
        if let Some(decision) = rules.text() {
            text.push_str(&decision);
            let entrypoint = format!("data.remit.composed.t{number}_decision");
            tools.push(((*tool).to_owned(), entrypoint));
        }
    }
    let path = "composed.rego".into();
    let source = Source { path, text };
    Composed { source, tools }
}

/// The rules there are for one tool.
struct Rules<'a> {
    number: usize,
    tool: &'a str,
    own: &'a BTreeSet<String>,
    all: &'a BTreeSet<String>,
}

impl Rules<'_> {
    /// The rules that decide; none where nothing does.
    fn text(&self) -> Option<String> {
        let number = self.number;
        let mut text = String::new();
        let mut branches = Vec::new();
        if let Some(entries) = self.set("deny") {
            let rule = format!("t{number}_deny");
            text.push_str(&format!("\n{rule} := {entries}\n"));
            branches.push(format!(
                "data.remit.answer(\"deny\", {rule}) if {{\n\tcount({rule}) > 0\n}}"
            ));
        }
        if let Some(entries) = self.set("escalate") {
            let rule = format!("t{number}_escalate");
            text.push_str(&format!("\n{rule} := {entries}\n"));
            branches.push(format!(
                "data.remit.escalation({rule}) if {{\n\tcount({rule}) > 0\n\tnot data.remit.approved\n}}"
            ));
        }
        if self.own.contains("credential") {
            let own = self.own_rule("credential");
            text.push_str(&format!(
                "\ndefault t{number}_credential := {{}}\n\nt{number}_credential := {own}\n"
            ));
        }
        let allowed = self.allowed();
        let branch = |allow| format!("{allowed} if {{\n\t{allow} == true\n}}");
        branches.extend(self.references("allow").map(branch));
        if branches.is_empty() {
            return None;
        }
        let decision = branches.join(" else := ");
        text.push_str(&format!("\nt{number}_decision := {decision}\n"));
        Some(text)
    }

    /// The answer of a call that is allowed, with every field that the library's has.
    fn allowed(&self) -> String {
        let credential = if self.own.contains("credential") {
            format!("t{}_credential", self.number)
        } else {
            "{}".to_owned()
        };
        let [labels, redact, warnings] = ["labels", "redact", "warnings"]
            .map(|rule| self.set(rule).unwrap_or_else(|| "set()".to_owned()));
        format!(
            "{{\n\t\"verdict\": \"allow\",\n\t\"credential\": {credential},\n\t\"labels\": {labels},\n\t\"redact\": {redact},\n\t\"warnings\": {warnings},\n}}"
        )
    }

    /// All entries of a set that both packages may have: what is called so is a set, the checks see to it.
    fn set(&self, rule: &str) -> Option<String> {
        let references: Vec<String> = self.references(rule).collect();
        (!references.is_empty()).then(|| references.join(" | "))
    }

    fn references(&self, rule: &str) -> impl Iterator<Item = String> {
        let own = self.own.contains(rule).then(|| self.own_rule(rule));
        let all = self.all.contains(rule);
        let all = all.then(|| format!("data.remit.all.{rule}"));
        own.into_iter().chain(all)
    }

    fn own_rule(&self, rule: &str) -> String {
        format!("data.remit.tools[\"{}\"].{rule}", self.tool)
    }
}
