//! What a task may touch.

use serde::{Deserialize, Serialize};

use crate::{Access, Asked, OperationPattern, ToolName};

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
}

impl Grant {
    /// Whether this grant covers it all: tool, environment, access class and operation.
    pub(crate) fn covers(
        &self,
        tool: &ToolName,
        environment: Option<&str>,
        access: Access,
        asked: Asked<'_>,
    ) -> bool {
        self.tool == *tool
            && (self.environment.is_none() || self.environment.as_deref() == environment)
            && self.access.contains(&access)
            && (self.operations.is_empty()
                || self.operations.iter().any(|pattern| pattern.covers(asked)))
    }

    /// Whether everything that this grant covers is covered by the others: each access class with each operation by one
    /// of them.
    pub(crate) fn within(&self, others: &[Self]) -> bool {
        let covered = |access: Access, operation: Option<&OperationPattern>| {
            others.iter().any(|other| {
                other.tool == self.tool
                    && (other.environment.is_none() || other.environment == self.environment)
                    && other.access.contains(&access)
                    && other.takes(operation)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: &str = r#"{"tool": "github", "environment": "prod", "access": ["read", "write"], "operations": ["get_*"]}"#;

    #[track_caller]
    fn check(grant: &str, asked: (&str, Option<&str>, Access, &str), expect: bool) {
        let grant: Grant = serde_json::from_str(grant).unwrap();
        let (tool, environment, access, name) = asked;
        let covers = grant.covers(
            &tool.parse().unwrap(),
            environment,
            access,
            Asked::Name(name),
        );
        assert_eq!(covers, expect, "{asked:?}");
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
}
