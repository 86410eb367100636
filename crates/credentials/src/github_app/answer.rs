//! What GitHub answers, as far as it is believed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Level;
use super::asked::Asked;
use crate::oauth::answer::{secret, wiped};
use crate::{ProviderError, Secret};

/// The longest life that is believed, in seconds: GitHub gives an hour.
const LONGEST_LIFE: i64 = 86_400;

/// A token, as it is answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) token: Secret,
    /// Its life in seconds; or why it may not be used all the same, and can be taken back.
    pub(super) life: Result<u64, &'static str>,
}

/// An installation that was looked up.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) id: u64,
    pub(super) account: Account,
}

#[derive(Debug, Deserialize)]
pub(super) struct Account {
    pub(super) login: String,
}

/// Keys that are not known here are GitHub's own; one that stands twice is refused.
#[derive(Deserialize)]
struct Raw {
    #[serde(deserialize_with = "wiped")]
    token: Zeroizing<String>,
    // What is wrong below is found when the token is known, which can be taken back then.
    #[serde(default)]
    expires_at: Value,
    #[serde(default)]
    permissions: Value,
    #[serde(default)]
    repository_selection: Value,
    #[serde(default)]
    repositories: Value,
}

impl Answer {
    /// Reads an answer; nothing of it is repeated in an error.
    pub(super) fn read(document: &[u8], asked: &Asked) -> Result<Self, ProviderError> {
        let raw: Raw = parse(document, "one with a token")?;
        Ok(Self {
            token: secret(&raw.token)?,
            life: raw.life(asked),
        })
    }
}

impl Found {
    pub(super) fn read(document: &[u8]) -> Result<Self, ProviderError> {
        parse(document, "an installation")
    }
}

impl Raw {
    fn life(&self, asked: &Asked) -> Result<u64, &'static str> {
        let expires_at = self.expires_at.as_str();
        let expires_at = expires_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let expires_at = expires_at.ok_or("it does not say when its token expires")?;
        let life = expires_at.as_second() - jiff::Timestamp::now().as_second();
        if life > LONGEST_LIFE {
            return Err("its token lives for over a day");
        }
        let life = u64::try_from(life).ok().filter(|life| *life > 0);
        let life = life.ok_or("its token was expired on arrival")?;
        self.check_permissions(asked)?;
        self.check_repositories(asked)?;
        Ok(life)
    }

    fn check_permissions(&self, asked: &Asked) -> Result<(), &'static str> {
        let given = BTreeMap::<String, Level>::deserialize(&self.permissions);
        let given = given.map_err(|_| "it does not say which permissions its token has")?;
        for (name, level) in given {
            // GitHub gives it with any permission on a repository.
            let is_implied = name == "metadata" && level == Level::Read;
            let is_asked = asked
                .permissions
                .get(&name)
                .is_some_and(|most| level <= *most);
            if !is_asked && !is_implied {
                return Err("its token has a permission that was not asked for");
            }
        }
        Ok(())
    }

    fn check_repositories(&self, asked: &Asked) -> Result<(), &'static str> {
        #[derive(Deserialize)]
        struct Repository {
            name: String,
        }
        if asked.repositories.is_empty() {
            return Ok(());
        }
        let given = Vec::<Repository>::deserialize(&self.repositories);
        let given = given.map_err(|_| "it does not say which repositories its token is for")?;
        if self.repository_selection != "selected" {
            return Err("its token is for all repositories");
        }
        let is_asked = |given: &Repository| {
            let mut asked = asked.repositories.iter();
            asked.any(|name| name.eq_ignore_ascii_case(&given.name))
        };
        if !given.iter().all(is_asked) {
            return Err("its token is for a repository that was not asked for");
        }
        Ok(())
    }
}

fn parse<'de, T: Deserialize<'de>>(document: &'de [u8], what: &str) -> Result<T, ProviderError> {
    let failed =
        |place: String| ProviderError::Failed(format!("GitHub's answer is not {what}{place}"));
    // A list would be read as the values of the keys in their order.
    if document.trim_ascii_start().first() != Some(&b'{') {
        return Err(failed(String::new()));
    }
    serde_json::from_slice(document).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        failed(format!(", at line {line} column {column}"))
    })
}
