//! Finds rules that need themselves: they overflow the stack, which nothing can catch.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::Span;

use super::Parsed;
use super::reading::Reading;
use crate::finding::Finding;

/// Rules by their path without `data`, with what each needs and where it stands.
#[derive(Default)]
pub(super) struct Graph {
    rules: BTreeMap<Vec<String>, Vertex>,
}

#[derive(Default)]
struct Vertex {
    span: Option<Span>,
    needs: BTreeSet<Vec<String>>,
}

/// Finds every ring of rules, functions and test replacements once.
pub(super) fn check(modules: &[Parsed], readings: &[Reading]) -> Vec<Finding> {
    let graph = Graph::new(modules, readings);
    let mut findings = Vec::new();
    let mut done = BTreeSet::new();
    for start in graph.rules.keys() {
        if let Some(ring) = graph.ring(start, &mut Vec::new(), &mut done) {
            let span = ring.first().and_then(|rule| graph.rules.get(rule));
            let names: Vec<String> = ring.iter().map(|rule| rule.join(".")).collect();
            let message = format!(
                "`{}` needs itself; break the ring, or rename a local variable that is called like a rule",
                names.join("` needs `")
            );
            findings.push(match span.and_then(|vertex| vertex.span.as_ref()) {
                Some(span) => Finding::at("recursion", span, message),
                None => Finding::of_file("recursion", "", message),
            });
        }
    }
    findings
}

impl Graph {
    pub(super) fn new(modules: &[Parsed], readings: &[Reading]) -> Self {
        let mut graph = Self::default();
        for module in modules {
            for rule in module.rules() {
                let vertex = graph.rules.entry(module.whole(rule)).or_default();
                vertex.span.get_or_insert_with(|| rule.span().clone());
            }
        }
        for (module, reading) in modules.iter().zip(readings) {
            for (rule, read) in module.rules().zip(&reading.rules) {
                let references = read.references.iter().map(|reference| &reference.path);
                let calls = read.calls.iter().map(|call| &call.path);
                let needed = references.chain(calls);
                let needs: BTreeSet<_> = needed.flat_map(|path| graph.met(path)).collect();
                graph.need(&module.whole(rule), needs);
                // Where a test replaces a rule, the rule needs what takes its place.
                for (_, replaced, by) in &read.replacements {
                    let by: BTreeSet<_> = by.iter().flat_map(|path| graph.met(path)).collect();
                    for replaced in graph.met(replaced) {
                        graph.need(&replaced, by.clone());
                    }
                }
            }
        }
        graph
    }

    fn need(&mut self, rule: &[String], needs: BTreeSet<Vec<String>>) {
        if let Some(vertex) = self.rules.get_mut(rule) {
            vertex.needs.extend(needs);
        }
    }

    /// The rules that a path may reach: those above, at and below it.
    fn met(&self, path: &[String]) -> Vec<Vec<String>> {
        let Some(("data", path)) = path
            .split_first()
            .map(|(first, rest)| (first.as_str(), rest))
        else {
            return Vec::new();
        };
        let above = (1..path.len())
            .filter_map(|length| path.get(..length))
            .filter(|above| self.rules.contains_key(*above))
            .map(<[String]>::to_vec);
        let below = self
            .rules
            .range(path.to_vec()..)
            .map(|(rule, _)| rule)
            .take_while(|rule| rule.starts_with(path))
            .cloned();
        above.chain(below).collect()
    }

    /// The rules that some need, and those that these need, and so on; with themselves.
    pub(super) fn reached(&self, from: BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
        let mut reached = from.clone();
        let mut open: Vec<Vec<String>> = from.into_iter().collect();
        while let Some(rule) = open.pop() {
            let needs = self.rules.get(&rule).map(|vertex| &vertex.needs);
            for need in needs.into_iter().flatten() {
                if reached.insert(need.clone()) {
                    open.push(need.clone());
                }
            }
        }
        reached
    }

    /// A ring that is reached from here, if there is one that was not found before.
    fn ring(
        &self,
        rule: &Vec<String>,
        way: &mut Vec<Vec<String>>,
        done: &mut BTreeSet<Vec<String>>,
    ) -> Option<Vec<Vec<String>>> {
        if let Some(at) = way.iter().position(|passed| passed == rule) {
            return way.get(at..).map(<[_]>::to_vec);
        }
        if !done.insert(rule.clone()) {
            return None;
        }
        way.push(rule.clone());
        let mut needs = self.rules.get(rule)?.needs.iter();
        let ring = needs.find_map(|need| self.ring(need, way, done));
        way.pop();
        ring
    }
}
