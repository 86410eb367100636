//! What a task may touch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::opening::{MAX_LABELS, is_label};
use crate::{Access, ArgumentPointer, Condition, OperationPattern, ToolName, Wanted};

/// The most arguments that one grant limits; our own bound.
const MAX_ARGUMENTS: usize = 32;

/// What a task may touch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The tool.
    pub tool: ToolName,
    /// The tool's environment; any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The access classes.
    pub access: Vec<Access>,
    /// The operations; all of the access classes unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationPattern>,
    /// What arguments must be; at most 32. Each must hold, and one that isn't there holds for `absent` alone. A call whose arguments are
    /// not read is not covered; a tool's lifecycle has none.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "each_once"
    )]
    pub arguments: BTreeMap<ArgumentPointer, Condition>,
    /// Labels without which it holds: once the task carries one of them, its own or inherited, the grant covers nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unless_labels: Vec<String>,
}

impl Grant {
    /// Whether this grant is for it: tool, environment, access class and operation, whatever arguments and labels.
    pub(crate) fn reaches(&self, wanted: &Wanted<'_>) -> bool {
        let is_here = self.tool == *wanted.tool
            && (self.environment.is_none() || self.environment.as_deref() == wanted.environment);
        is_here
            && wanted.operation.is_none_or(|operation| {
                let is_meant = |pattern: &OperationPattern| {
                    let mut forms = operation.forms.iter();
                    forms.any(|form| pattern.covers(*form))
                };
                self.access.contains(&operation.access)
                    && (self.operations.is_empty() || self.operations.iter().any(is_meant))
            })
    }

    /// Whether everything that this grant covers is covered by the others: each access class with each operation by one
    /// of them, whose limits of arguments and labels are this one's, too.
    pub(crate) fn within(&self, others: &[Self]) -> bool {
        let covered = |access: Access, operation: Option<&OperationPattern>| {
            others.iter().any(|other| {
                other.tool == self.tool
                    && (other.environment.is_none() || other.environment == self.environment)
                    && other.access.contains(&access)
                    && other.takes(operation)
                    && self.keeps_limits_of(other)
            })
        };
        self.access.iter().all(|access| match &*self.operations {
            [] => covered(*access, None),
            operations => operations
                .iter()
                .all(|operation| covered(*access, Some(operation))),
        })
    }

    /// Whether its operations take in those of a pattern, or all there are.
    fn takes(&self, operation: Option<&OperationPattern>) -> bool {
        self.operations.is_empty()
            || operation.is_some_and(|operation| {
                let mut own = self.operations.iter();
                own.any(|pattern| operation.within(pattern))
            })
    }

    /// Whether arguments and labels that this grant takes the other one takes, too.
    fn keeps_limits_of(&self, other: &Self) -> bool {
        let mut arguments = other.arguments.iter();
        let mut labels = other.unless_labels.iter();
        labels.all(|label| self.unless_labels.contains(label))
            && arguments.all(|(pointer, condition)| {
                let own = self.arguments.get(pointer);
                own.is_some_and(|own| own.implies(condition))
            })
    }

    /// What is wrong with its limits, and where.
    pub(crate) fn check_limits(&self) -> Result<(), (&'static str, String)> {
        if self.arguments.len() > MAX_ARGUMENTS {
            let problem = format!("must be at most {MAX_ARGUMENTS} for `{}`", self.tool);
            return Err(("grants.arguments", problem));
        }
        let labels: BTreeSet<&String> = self.unless_labels.iter().collect();
        let is_unique = labels.len() == self.unless_labels.len();
        if labels.len() > MAX_LABELS || !is_unique || !labels.iter().all(|label| is_label(label)) {
            let problem = format!(
                "must be at most {MAX_LABELS} different ones of `[a-z0-9_-]{{1,64}}` for `{}`",
                self.tool
            );
            return Err(("grants.unless_labels", problem));
        }
        Ok(())
    }
}

/// A map in which each argument comes once: of two conditions the last would win, and the first would be lost.
fn each_once<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<ArgumentPointer, Condition>, D::Error> {
    struct Once;

    impl<'de> Visitor<'de> for Once {
        type Value = BTreeMap<ArgumentPointer, Condition>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("conditions by argument pointer")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut arguments = BTreeMap::new();
            while let Some((pointer, condition)) = access.next_entry::<ArgumentPointer, _>()? {
                let text = pointer.to_string();
                if arguments.insert(pointer, condition).is_some() {
                    return Err(A::Error::custom(format!("argument `{text}` comes twice")));
                }
            }
            Ok(arguments)
        }
    }

    deserializer.deserialize_map(Once)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arguments, Asked, WantedOperation};

    const GRANT: &str = r#"{"tool": "github", "environment": "prod", "access": ["read", "write"], "operations": ["get_*"]}"#;

    #[track_caller]
    fn check(grant: &str, asked: (&str, Option<&str>, Access, &str), expect: bool) {
        let grant: Grant = serde_json::from_str(grant).unwrap();
        let (tool, environment, access, name) = asked;
        let wanted = Wanted {
            tool: &tool.parse().unwrap(),
            environment,
            operation: Some(WantedOperation {
                access,
                forms: &[Asked::Name(name)],
                arguments: Arguments::Unknown,
            }),
        };
        assert_eq!(grant.reaches(&wanted), expect, "{asked:?}");
    }

    #[test]
    fn what_is_granted_is_covered() {
        check(GRANT, ("github", Some("prod"), Access::Read, "get_x"), true);
        check(
            GRANT,
            ("github", Some("prod"), Access::Write, "get_x"),
            true,
        );
    }

    #[test]
    fn another_tool_is_not_covered() {
        check(
            GRANT,
            ("gitlab", Some("prod"), Access::Read, "get_x"),
            false,
        );
    }

    #[test]
    fn another_environment_is_not_covered() {
        check(GRANT, ("github", Some("dev"), Access::Read, "get_x"), false);
        check(GRANT, ("github", None, Access::Read, "get_x"), false);
    }

    #[test]
    fn another_access_class_is_not_covered() {
        check(
            GRANT,
            ("github", Some("prod"), Access::Execute, "get_x"),
            false,
        );
    }

    #[test]
    fn another_operation_is_not_covered() {
        check(
            GRANT,
            ("github", Some("prod"), Access::Read, "set_x"),
            false,
        );
    }

    #[test]
    fn without_operations_all_of_the_access_class_are_covered() {
        let grant = r#"{"tool": "github", "access": ["read"]}"#;
        check(grant, ("github", Some("prod"), Access::Read, "x"), true);
        check(grant, ("github", None, Access::Read, "x"), true);
        check(grant, ("github", None, Access::Write, "x"), false);
    }

    #[test]
    fn without_access_nothing_is_covered() {
        let grant = r#"{"tool": "github", "access": []}"#;
        check(grant, ("github", None, Access::Read, "x"), false);
    }

    #[track_caller]
    fn check_within(child: &str, parents: &[&str], expect: bool) {
        let read = |text: &str| serde_json::from_str::<Grant>(text).unwrap();
        let parents: Vec<Grant> = parents.iter().map(|text| read(text)).collect();
        assert_eq!(read(child).within(&parents), expect);
    }

    #[test]
    fn the_same_and_less_are_within() {
        check_within(GRANT, &[GRANT], true);
        let less = r#"{"tool": "github", "environment": "prod", "access": ["read"], "operations": ["get_issue", "get_i*"]}"#;
        check_within(less, &[GRANT], true);
    }

    #[test]
    fn more_of_anything_is_not() {
        for more in [
            r#"{"tool": "gitlab", "environment": "prod", "access": ["read"], "operations": ["get_*"]}"#,
            r#"{"tool": "github", "environment": "dev", "access": ["read"], "operations": ["get_*"]}"#,
            r#"{"tool": "github", "access": ["read"], "operations": ["get_*"]}"#,
            r#"{"tool": "github", "environment": "prod", "access": ["execute"], "operations": ["get_*"]}"#,
            r#"{"tool": "github", "environment": "prod", "access": ["read"], "operations": ["get*"]}"#,
            r#"{"tool": "github", "environment": "prod", "access": ["read"], "operations": ["get_*", "set_x"]}"#,
            r#"{"tool": "github", "environment": "prod", "access": ["read"]}"#,
        ] {
            check_within(more, &[GRANT], false);
        }
    }

    #[test]
    fn several_grants_may_cover_it_together() {
        let read = r#"{"tool": "github", "access": ["read"]}"#;
        let write = r#"{"tool": "github", "access": ["write"], "operations": ["set_*"]}"#;
        let both = r#"{"tool": "github", "access": ["read", "write"], "operations": ["set_x"]}"#;
        check_within(both, &[read, write], true);
        let more = r#"{"tool": "github", "access": ["read", "write"]}"#;
        check_within(more, &[read, write], false);
        check_within(read, &[], false);
    }

    const LIMITED: &str = r#"{"tool": "github", "access": ["write"], "arguments": {"/repo": {"pattern": "acme/*"}, "/n": {"max": 9}}, "unless_labels": ["untrusted"]}"#;

    #[test]
    fn a_child_keeps_the_limits_of_its_parent() {
        let parent = "{\"tool\": \"github\", \"access\": [\"write\"]}";
        check_within(LIMITED, &[LIMITED], true);
        check_within(LIMITED, &[parent], true);
        check_within(parent, &[LIMITED], false);
        // One that limits them lies beside one that doesn't.
        check_within(parent, &[LIMITED, parent], true);
        let tighter = r#"{"tool": "github", "access": ["write"], "operations": ["POST /a"], "unless_labels": ["secret", "untrusted"],
            "arguments": {"/repo": {"one_of": ["acme/x", "acme/y"]}, "/n": {"min": 1, "max": 9}, "/force": {"absent": true}}}"#;
        check_within(tighter, &[LIMITED], true);
        check_within(LIMITED, &[tighter], false);
    }

    #[test]
    fn a_child_with_wider_limits_is_not_within() {
        let labels = r#""unless_labels": ["untrusted"]"#;
        for (arguments, labels) in [
            (r#"{"/repo": {"pattern": "acme/*"}}"#, labels),
            (
                r#"{"/repo": {"pattern": "acme*"}, "/n": {"max": 9}}"#,
                labels,
            ),
            (
                r#"{"/Repo": {"pattern": "acme/*"}, "/n": {"max": 9}}"#,
                labels,
            ),
            (
                r#"{"/repo": {"one_of": ["acme/x", "evil/y"]}, "/n": {"max": 9}}"#,
                labels,
            ),
            (
                r#"{"/repo": {"one_of": ["acme/../evil/y"]}, "/n": {"max": 9}}"#,
                labels,
            ),
            (r#"{"/repo": {"absent": true}, "/n": {"max": 9}}"#, labels),
            (
                r#"{"/repo": {"pattern": "acme/*"}, "/n": {"max": 9.5}}"#,
                labels,
            ),
            (
                r#"{"/repo": {"pattern": "acme/*"}, "/n": {"min": 1}}"#,
                labels,
            ),
            (
                r#"{"/repo": {"pattern": "acme/*"}, "/n": {"max": 9}}"#,
                r#""unless_labels": []"#,
            ),
            (
                r#"{"/repo": {"pattern": "acme/*"}, "/n": {"max": 9}}"#,
                r#""unless_labels": ["secret"]"#,
            ),
        ] {
            let child = format!(
                r#"{{"tool": "github", "access": ["write"], "arguments": {arguments}, {labels}}}"#
            );
            check_within(&child, &[LIMITED], false);
        }
    }

    #[test]
    fn limits_of_two_grants_are_not_put_together() {
        let one = r#"{"tool": "github", "access": ["write"], "arguments": {"/n": {"max": 5}}}"#;
        let other = r#"{"tool": "github", "access": ["write"], "arguments": {"/n": {"min": 5}}}"#;
        let both =
            r#"{"tool": "github", "access": ["write"], "arguments": {"/n": {"min": 1, "max": 9}}}"#;
        check_within(both, &[one, other], false);
        let some =
            r#"{"tool": "github", "access": ["write"], "arguments": {"/n": {"min": 6, "max": 9}}}"#;
        check_within(some, &[one, other], true);
    }

    #[track_caller]
    fn check_refused(limits: &str, problem: &str) {
        let grant = format!(r#"{{"tool": "github", "access": ["write"], {limits}}}"#);
        let refused = match serde_json::from_str::<Grant>(&grant) {
            Ok(grant) => grant.check_limits().unwrap_err().1,
            Err(error) => error.to_string(),
        };
        assert!(refused.starts_with(problem), "{refused}");
    }

    #[test]
    fn odd_limits_are_refused() {
        check_refused(
            r#""arguments": {"/a": {"max": 1}, "/a": {"max": 9}}"#,
            "argument `/a` comes twice",
        );
        check_refused(
            r#""arguments": {"a": {"max": 1}}"#,
            "argument pointer `a` does not begin with `/`",
        );
        check_refused(
            r#""arguments": {"/~2": {"max": 1}}"#,
            "argument pointer `/~2` has a `~`",
        );
        check_refused(r#""arguments": {"/a": {}}"#, "a condition is one of");
        check_refused(
            r#""arguments": [1]"#,
            "invalid type: sequence, expected conditions",
        );
        let many = (0..33)
            .map(|n| format!(r#""/{n}": {{"max": 1}}"#))
            .collect::<Vec<_>>();
        check_refused(
            &format!(r#""arguments": {{{}}}"#, many.join(",")),
            "must be at most 32",
        );
        for labels in [r#"["A"]"#, r#"["a", "a"]"#, r#"[""]"#] {
            check_refused(
                &format!(r#""unless_labels": {labels}"#),
                "must be at most 32 different",
            );
        }
    }

    #[test]
    fn a_grant_of_before_is_read_and_written_as_it_was() {
        let grant: Grant = serde_json::from_str(GRANT).unwrap();
        assert!(grant.arguments.is_empty() && grant.unless_labels.is_empty());
        let written = serde_json::to_string(&grant).unwrap();
        assert_eq!(written, GRANT.replace(": ", ":").replace(", ", ","));
        let grant: Grant = serde_json::from_str(LIMITED).unwrap();
        let written = serde_json::to_value(&grant).unwrap();
        assert_eq!(
            written,
            serde_json::from_str::<serde_json::Value>(LIMITED).unwrap()
        );
    }
}
