//! Finds what an engine takes for something else than Rego does: it would be silent, or mean two things.

use std::collections::BTreeMap;

use regorus::unstable::{Rule, RuleHead};

use super::Parsed;
use super::reading::Reading;
use crate::finding::Finding;

/// What an engine takes for something else. (regorus 0.14.1: by its own cases and OPA's, in both engines.)
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Oddity {
    /// `not {…}`, where a body is meant and a literal is read.
    NegatedLiteral,
    /// `not list[_] == 3`: there is one that isn't, instead of there is none that is.
    NegatedLoop,
    /// `not [_, 2] = list`, and patterns in a comprehension after `not`.
    NegatedPattern,
    /// `"k", "v" in object`: the key is not looked at.
    KeyedMembership,
    /// `{"k": v} = object`: whatever else is in it.
    ObjectPattern,
    /// `{a: 1, "b": 2}`: the last wins, if two keys are the same.
    ComputedKeys,
    /// `{"a": 1, "a": 2}`: the last wins.
    RepeatedKey,
    /// `some i` where a rule is called `i`.
    ShadowedName,
    /// `data.numbers[_][n]`: a number is the name of a field of data for OPA alone.
    DataKey,
    /// `x if {…} {…}`: the second is not looked at.
    ChainedBody,
    /// `_ := x`: it holds for one engine where there is no `x`.
    AssignedWildcard,
    /// `f(x) := x.y if {…} else := 0`: one engine takes the `else` where there is no `x.y`.
    ElseValue,
}

impl Oddity {
    fn code(self) -> &'static str {
        match self {
            Self::NegatedLiteral => "negated-literal",
            Self::NegatedLoop => "negated-loop",
            Self::NegatedPattern => "negated-pattern",
            Self::KeyedMembership => "membership",
            Self::ObjectPattern => "object-pattern",
            Self::ComputedKeys | Self::RepeatedKey => "object-key",
            Self::ShadowedName => "shadowed-name",
            Self::DataKey => "data-key",
            Self::ChainedBody => "chained-body",
            Self::AssignedWildcard => "wildcard",
            Self::ElseValue => "else-value",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::NegatedLiteral => {
                "this engine reads `not {…}` as a literal; put the body into a rule and write `not that_rule`"
            }
            Self::NegatedLoop => {
                "`not` with `[_]`, or with a key that nothing else names, looks for one that does not hold; write `not x in list`, or put the loop into a rule and write `not that_rule`"
            }
            Self::NegatedPattern => {
                "patterns after `not` are not read as such; compare by `==`, or put them before the `not` or into a rule"
            }
            Self::KeyedMembership => {
                "`key, value in object` does not look at the key; write `object[key] == value`"
            }
            Self::ObjectPattern => {
                "a pattern `{…}` takes objects with other fields too; write `value := object.field`, or compare by `==`"
            }
            Self::ComputedKeys => {
                "next to a computed key there may be no other: two keys could be the same; write `object.union({key: …}, {…})`"
            }
            Self::RepeatedKey => "a key has one value; leave one out",
            Self::ShadowedName => "a variable is called like a rule or an import; rename it",
            Self::DataKey => {
                "after a key that is looked for in `data`, name what was found: `some item in data.list` and then `item[key]`"
            }
            Self::AssignedWildcard => "`_ := x` says nothing; write `x` alone, or give it a name",
            Self::ElseValue => {
                "where this value of a function is undefined, `else` may count or not; write `f(x) := y if { y := …; … } else := …`"
            }
            Self::ChainedBody => "a second body is not read as one; write a rule of its own",
        }
    }
}

/// The most parameters of a function: those beyond would be left out.
const MOST_PARAMETERS: usize = 8;

/// Checks one file among all.
pub(super) fn check(module: &Parsed, reading: &Reading, functions: &Functions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in &reading.rules {
        let oddities = rule.oddities.iter();
        findings.extend(
            oddities.map(|(oddity, span)| Finding::at(oddity.code(), span, oddity.message())),
        );
        for call in &rule.calls {
            let name = call.path.join(".");
            let Some(expected) = functions.0.get(&call.path) else {
                continue;
            };
            if call.arguments != *expected {
                let message = format!(
                    "`{name}` takes {expected} arguments and gets {}; write `x := {name}(…)`",
                    call.arguments
                );
                findings.push(Finding::at("arguments", &call.span, message));
            }
        }
    }
    for rule in module.rules() {
        if parameters(rule).is_some_and(|parameters| parameters > MOST_PARAMETERS) {
            let message =
                format!("a function takes at most {MOST_PARAMETERS} arguments; give it an object");
            findings.push(Finding::at("arguments", rule.span(), message));
        }
    }
    findings
}

/// How many arguments each function takes, by its path from `data` on.
pub(super) struct Functions(BTreeMap<Vec<String>, usize>);

impl Functions {
    pub(super) fn of(modules: &[Parsed]) -> Self {
        let rules = modules
            .iter()
            .flat_map(|module| module.rules().map(move |rule| (module, rule)));
        let functions = rules.filter_map(|(module, rule)| {
            let mut path = vec!["data".to_owned()];
            path.extend(module.whole(rule));
            Some((path, parameters(rule)?))
        });
        Self(functions.collect())
    }
}

fn parameters(rule: &Rule) -> Option<usize> {
    match rule {
        Rule::Spec {
            head: RuleHead::Func { args, .. },
            ..
        } => Some(args.len()),
        _ => None,
    }
}
