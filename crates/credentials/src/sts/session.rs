//! A session as it is asked for: what it is called, what it tells, how long it lives, what it may do.

use serde_json::{Map, Value, json};

use super::{SHORTEST_LIFE, StsConfig};
use crate::provider::digest;
use crate::{ProviderError, Wish};

/// The longest policy that a session may have, in characters (AWS STS API reference, `Policy`).
pub const LONGEST_POLICY: usize = 2048;

/// The longest value of a tag, in characters (AWS STS API reference, `Tag`).
const LONGEST_VALUE: usize = 256;

/// What a session tells of its task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionTag {
    /// The id of the task.
    Task,
    /// The agent.
    Agent,
    /// On whose behalf.
    Owner,
}

impl SessionTag {
    /// The tag's key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Agent => "agent",
            Self::Owner => "owner",
        }
    }
}

/// A session as it is asked for.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) role_arn: String,
    pub(super) name: String,
    pub(super) tags: Vec<(SessionTag, String)>,
    pub(super) transitive_tags: Vec<SessionTag>,
    pub(super) policy: Option<String>,
    /// In seconds.
    pub(super) life: u64,
}

impl Session {
    /// What a wish comes to, within the config.
    pub(super) fn new(config: &StsConfig, wish: &Wish) -> Result<Self, ProviderError> {
        let tags = config.tags.iter().map(|tag| {
            let value = match tag {
                SessionTag::Task => wish.task.as_str(),
                SessionTag::Agent => &wish.agent,
                SessionTag::Owner => &wish.owner,
            };
            (*tag, clean(value))
        });
        Ok(Self {
            role_arn: role(config, wish)?,
            // 42 characters of the 64 that there may be; it is what CloudTrail shows.
            name: format!("remit-{}", wish.task),
            tags: tags.filter(|(_, value)| !value.is_empty()).collect(),
            transitive_tags: config.transitive_tags.clone(),
            policy: policy(config.policy.as_ref(), wish)?,
            // AWS gives no shorter one; the lease ends with its task all the same.
            life: config
                .ttl
                .as_secs()
                .min(wish.ttl_seconds)
                .max(SHORTEST_LIFE),
        })
    }

    /// The tags as a statement has them.
    pub(super) fn tags_claim(&self) -> Value {
        let tags = self.tags.iter();
        let tags = tags.map(|(tag, value)| (tag.as_str().to_owned(), json!([value])));
        let transitive: Vec<&str> = self
            .transitive_tags
            .iter()
            .map(|tag| tag.as_str())
            .collect();
        json!({ "principal_tags": tags.collect::<Map<_, _>>(), "transitive_tag_keys": transitive })
    }
}

/// The decision's role, which must be among the config's, or the config's.
fn role(config: &StsConfig, wish: &Wish) -> Result<String, ProviderError> {
    let Some(asked) = wish.narrow.get("role_arn") else {
        return Ok(config.role_arn.clone());
    };
    let asked = asked
        .as_str()
        .ok_or_else(|| failed("decision's `narrow.role_arn` is no text"))?;
    if asked != config.role_arn && !config.other_role_arns.iter().any(|role| role == asked) {
        return Err(failed(
            "decision asks for a role that the config does not allow",
        ));
    }
    Ok(asked.to_owned())
}

/// The policy of a session: the config's, the decision's, or what both allow. The role's own bound it in any case.
fn policy(most: Option<&Map<String, Value>>, wish: &Wish) -> Result<Option<String>, ProviderError> {
    let asked = match wish.narrow.get("policy") {
        None => None,
        Some(Value::Object(policy)) => Some(policy),
        Some(_) => return Err(failed("decision's `narrow.policy` is no object")),
    };
    let policy = match (most, asked) {
        (None, None) => return Ok(None),
        (Some(policy), None) | (None, Some(policy)) => policy.clone(),
        (Some(most), Some(asked)) => within(most, asked)?,
    };
    let text = Value::Object(policy).to_string();
    if text.chars().count() > LONGEST_POLICY {
        return Err(failed(
            "session's policy is longer than the 2048 characters that AWS takes",
        ));
    }
    Ok(Some(text))
}

/// A policy that allows what both do. AWS takes one alone, so that what the first does not allow is denied in the second.
fn within(
    most: &Map<String, Value>,
    asked: &Map<String, Value>,
) -> Result<Map<String, Value>, ProviderError> {
    let (actions, resources) = allowed(most).ok_or_else(|| {
        failed(
            "decision narrows by `policy`, which goes with a config's `policy` of one statement \
             that has `Effect: Allow`, `Action` and `Resource` alone",
        )
    })?;
    let statements = match asked.get("Statement") {
        Some(Value::Array(statements)) => statements.clone(),
        Some(statement @ Value::Object(_)) => vec![statement.clone()],
        Some(_) | None => return Err(failed("decision's `narrow.policy` has no `Statement`")),
    };
    let mut both = asked.clone();
    let mut statements = statements;
    statements.push(json!({ "Effect": "Deny", "NotAction": actions, "Resource": "*" }));
    if resources != "*" {
        statements.push(json!({ "Effect": "Deny", "Action": "*", "NotResource": resources }));
    }
    both.insert("Statement".to_owned(), Value::Array(statements));
    Ok(both)
}

/// The actions and resources of a policy that has nothing else.
fn allowed(policy: &Map<String, Value>) -> Option<(&Value, &Value)> {
    let statement = match policy.get("Statement")? {
        Value::Array(statements) => match statements.as_slice() {
            [only] => only,
            _ => return None,
        },
        only => only,
    };
    let statement = statement.as_object()?;
    let known = ["Sid", "Effect", "Action", "Resource"];
    if statement.keys().any(|key| !known.contains(&key.as_str())) {
        return None;
    }
    let is_allow = statement.get("Effect")? == "Allow";
    is_allow.then_some((statement.get("Action")?, statement.get("Resource")?))
}

/// A value as a tag may have it: letters, digits, spaces and `_.:/=+-@`. What is changed or cut is told apart by a digest.
fn clean(value: &str) -> String {
    let fits =
        |letter: char| letter.is_alphanumeric() || letter == ' ' || "_.:/=+-@".contains(letter);
    if value.chars().all(fits) && value.chars().count() <= LONGEST_VALUE {
        return value.to_owned();
    }
    let digest: String = digest(&[value]).chars().take(16).collect();
    let kept = value.chars().take(LONGEST_VALUE - 17);
    let kept: String = kept
        .map(|letter| if fits(letter) { letter } else { '_' })
        .collect();
    format!("{kept}_{digest}")
}

fn failed(cause: &str) -> ProviderError {
    ProviderError::Failed(cause.to_owned())
}

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "documents are written in place"
)]
mod tests {
    use super::*;

    fn wish(narrow: Value) -> Wish {
        Wish {
            agent: "triage".to_owned(),
            task: "0190a2b4-7f00-7000-8000-000000000001".parse().unwrap(),
            owner: "alice".to_owned(),
            tool: "files".parse().unwrap(),
            access: tasks::Access::Read,
            scopes: Vec::new(),
            narrow: narrow.as_object().unwrap().clone(),
            ttl_seconds: 600,
        }
    }

    #[track_caller]
    fn check_policy(most: Option<Value>, asked: Option<Value>, expect: Option<Value>) {
        let narrow = asked.map_or_else(|| json!({}), |asked| json!({ "policy": asked }));
        let most = most.map(|most| most.as_object().unwrap().clone());
        let policy = policy(most.as_ref(), &wish(narrow)).ok().flatten();
        let policy: Option<Value> = policy.map(|text| serde_json::from_str(&text).unwrap());
        assert_eq!(policy, expect);
    }

    fn of(statements: Value) -> Value {
        json!({ "Version": "2012-10-17", "Statement": statements })
    }

    fn read() -> Value {
        json!({ "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::b/*"] })
    }

    #[test]
    fn a_session_has_one_policy() {
        check_policy(None, None, None);
        check_policy(Some(of(json!([read()]))), None, Some(of(json!([read()]))));
        check_policy(None, Some(of(json!(read()))), Some(of(json!(read()))));
    }
    #[test]
    fn a_decision_allows_no_more_than_the_config() {
        let most =
            of(json!([{ "Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*" }]));
        let both = of(json!([
            read(),
            { "Effect": "Deny", "NotAction": "s3:*", "Resource": "*" },
            { "Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::b/*" },
        ]));
        check_policy(Some(most), Some(of(json!(read()))), Some(both));
        let most = of(json!({ "Effect": "Allow", "Action": "s3:*", "Resource": "*" }));
        let both = of(json!([read(), { "Effect": "Deny", "NotAction": "s3:*", "Resource": "*" }]));
        check_policy(Some(most), Some(of(json!([read()]))), Some(both));
    }
    #[test]
    fn two_policies_that_make_no_one_are_refused() {
        check_policy(
            Some(of(json!([read(), read()]))),
            Some(of(json!([read()]))),
            None,
        );
        let deny = json!({ "Effect": "Deny", "Action": "s3:*", "Resource": "*" });
        check_policy(Some(of(json!([deny]))), Some(of(json!([read()]))), None);
        let mut limited = read();
        limited["Condition"] = json!({});
        check_policy(Some(of(json!([limited]))), Some(of(json!([read()]))), None);
    }
    #[test]
    fn a_policy_that_is_none_is_refused() {
        check_policy(None, Some(json!("read")), None);
        check_policy(Some(of(json!([read()]))), Some(json!({})), None);
    }
    #[test]
    fn a_policy_is_as_long_as_aws_takes() {
        let long = of(json!([{ "Effect": "Allow", "Action": "x".repeat(2048), "Resource": "*" }]));
        check_policy(None, Some(long), None);
    }

    #[track_caller]
    fn check_clean(value: &str, expect: &str) {
        assert_eq!(clean(value), expect);
    }

    #[test]
    fn most_names_are_told_as_they_are() {
        check_clean(
            "spiffe://example.org/agents/triage",
            "spiffe://example.org/agents/triage",
        );
        check_clean("alice+x@example.org", "alice+x@example.org");
    }
    #[test]
    fn others_are_told_apart() {
        check_clean(
            "a*b",
            &format!("a_b_{}", digest(&["a*b"]).get(..16).unwrap()),
        );
        assert_ne!(clean("a*b"), clean("a#b"));
    }
    #[test]
    fn a_long_one_is_cut() {
        let long = clean(&"x".repeat(300));
        assert_eq!(long.len(), LONGEST_VALUE);
        assert_ne!(long, clean(&"x".repeat(301)));
    }
}
