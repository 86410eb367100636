//! What is asked of GitHub: what the config allows at most, narrowed by the decision.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{GithubAppConfig, Level, REPOSITORY_BYTES};
use crate::endpoint::MAX_BYTES;
use crate::{ProviderError, Wish, narrowing};

/// What is asked for, as GitHub reads it.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    /// None for all that the installation has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) repositories: Vec<String>,
    pub(super) permissions: BTreeMap<String, Level>,
}

impl Asked {
    pub(super) fn new(wish: &Wish, most: &GithubAppConfig) -> Result<Self, ProviderError> {
        if !wish.scopes.is_empty() {
            return Err(failed(
                "decision narrows by scopes, and GitHub Apps have none: narrow by `permissions`",
            ));
        }
        narrowing::only(&wish.narrow, &["repositories", "permissions"])?;
        let repositories = match wish.narrow.get("repositories") {
            Some(asked) => repositories(asked, &most.repositories)?,
            None => most.repositories.clone(),
        };
        let permissions = match wish.narrow.get("permissions") {
            Some(asked) => permissions(asked, &most.permissions)?,
            None => most.permissions.clone(),
        };
        Ok(Self {
            repositories,
            permissions,
        })
    }

    /// How much of an answer is read, in bytes: each repository is told at length.
    pub(super) fn room(&self) -> usize {
        MAX_BYTES + self.repositories.len() * REPOSITORY_BYTES
    }
}

/// Those that the decision names, where `most` are all, or none for all that there are. GitHub's names have no case.
fn repositories(asked: &Value, most: &[String]) -> Result<Vec<String>, ProviderError> {
    let asked = narrowing::texts(asked).ok_or_else(|| {
        failed("decision's `narrow.repositories` is neither a name nor a list of names")
    })?;
    for name in &asked {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(failed(
                "decision's `narrow.repositories` has what is no name of a repository, without its owner",
            ));
        }
        let is_allowed = most.iter().any(|one| one.eq_ignore_ascii_case(name));
        if !most.is_empty() && !is_allowed {
            return Err(failed(&format!(
                "decision asks for repository `{name}`, which the config does not allow"
            )));
        }
    }
    Ok(asked)
}

fn permissions(
    asked: &Value,
    most: &BTreeMap<String, Level>,
) -> Result<BTreeMap<String, Level>, ProviderError> {
    let wrong = || {
        failed(
            "decision's `narrow.permissions` is no mapping of names to `read`, `write` or `admin`",
        )
    };
    let asked = asked.as_object().filter(|asked| !asked.is_empty());
    let mut permissions = BTreeMap::new();
    for (name, level) in asked.ok_or_else(wrong)? {
        let level: Level = level
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(wrong)?;
        if most.get(name).is_none_or(|most| level > *most) {
            return Err(failed(&format!(
                "decision asks for permission `{name}: {}`, which the config does not allow",
                level.as_str()
            )));
        }
        permissions.insert(name.clone(), level);
    }
    Ok(permissions)
}

fn failed(cause: &str) -> ProviderError {
    ProviderError::Failed(cause.to_owned())
}
