//! Credential access boundaries: on what a token may be used.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ProviderError;

/// One resource on which a token may be used, and for what.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct BoundaryRule {
    /// The resource, such as `//storage.googleapis.com/projects/_/buckets/BUCKET`.
    pub resource: String,
    /// For what, such as `inRole:roles/storage.objectViewer`.
    pub permissions: Vec<String>,
    /// On what condition (CEL), such as that the name of the object starts with something.
    #[serde(default)]
    pub condition: Option<String>,
}

/// The most rules that Google takes.
const MOST_RULES: usize = 10;

impl BoundaryRule {
    /// What of it makes a config.
    pub(super) fn text(&self) -> String {
        json!([self.resource, self.permissions, self.condition]).to_string()
    }
}

/// The decision's rules, each of which must be within one of `most`; or `most`, where it names none.
///
/// Where a rule of the config has a condition, that stays: a decision can't bring another for its resource, since a text
/// can't be joined to a condition without a way out of it.
pub(super) fn narrowed(
    asked: Option<&Value>,
    most: &[BoundaryRule],
) -> Result<Vec<BoundaryRule>, ProviderError> {
    let Some(asked) = asked else {
        return Ok(most.to_vec());
    };
    let rules = Vec::<BoundaryRule>::deserialize(asked);
    let rules = rules.ok().filter(|rules| {
        let is_whole = |rule: &BoundaryRule| !rule.permissions.is_empty();
        !rules.is_empty() && rules.len() <= MOST_RULES && rules.iter().all(is_whole)
    });
    let mut rules = rules.ok_or_else(|| {
        failed(
            "decision's `narrow.access_boundary` is no list of one to ten `resource`, `permissions` and `condition`",
        )
    })?;
    if most.is_empty() {
        return Ok(rules);
    }
    for rule in &mut rules {
        let within = most.iter().find(|most| is_within(rule, most));
        let within = within.ok_or_else(|| {
            failed("decision's `narrow.access_boundary` is wider than that of the config")
        })?;
        if within.condition.is_some() {
            rule.condition.clone_from(&within.condition);
        }
    }
    Ok(rules)
}

fn is_within(rule: &BoundaryRule, most: &BoundaryRule) -> bool {
    let is_allowed = |permission: &String| most.permissions.contains(permission);
    let is_free = most.condition.is_none() || rule.condition.is_none();
    rule.resource == most.resource
        && rule.permissions.iter().all(is_allowed)
        && (is_free || rule.condition == most.condition)
}

/// As Google's security token service reads it.
pub(super) fn options(rules: &[BoundaryRule]) -> String {
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| {
            let condition = rule.condition.as_ref();
            let mut told = Map::new();
            told.insert("availableResource".to_owned(), json!(rule.resource));
            told.insert("availablePermissions".to_owned(), json!(rule.permissions));
            if let Some(condition) = condition {
                let condition = json!({ "expression": condition });
                told.insert("availabilityCondition".to_owned(), condition);
            }
            told
        })
        .collect();
    json!({ "accessBoundary": { "accessBoundaryRules": rules } }).to_string()
}

fn failed(cause: &str) -> ProviderError {
    ProviderError::Failed(cause.to_owned())
}
