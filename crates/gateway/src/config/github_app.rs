//! `provider: github_app`: tokens of a GitHub App's installation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use credentials::{GithubAppConfig, Installation, Level, SecretRef};
use serde_json::{Value, json};
use url::Url;

use super::binding::{ProviderConfig, RawInject};
use super::collection::{OneOrMore, Table};
use super::endpoint::{Asked, check_timeout, check_url};
use super::mistake::{At, Notes, Place};
use super::node::Kind;
use super::shape::{Here, Shape, section, words};

words! { Level { "read" => Self::Read, "write" => Self::Write, "admin" => Self::Admin } }

section! {
    /// A token of a GitHub App's installation.
    struct RawGithubApp (provider: "github_app") {
        /// The app's client id (`Iv…`) or app id.
        app_id: AppId = required;
        /// The app's private key, as GitHub gives it: RSA, PEM.
        private_key: SecretRef = required;
        /// The number of the installation. One of this, `account` and `repository` says where the app is installed.
        installation_id: InstallationId = optional;
        /// The user or organization that has it installed; its number is looked up.
        account: String = optional;
        /// A repository that it is installed on, as `OWNER/NAME`; its number is looked up.
        repository: String = optional;
        /// The most repositories that a token is for, by name without the owner. A decision's `credential.narrow.repositories` must be among them. All that the installation has, unless given.
        repositories: Vec<At<RepositoryName>> = default([]);
        /// The most that a token permits, such as `{ contents: read, issues: write }`. A decision's `credential.narrow.permissions` must be within.
        permissions: Table<Level> = required;
        /// The API; `https://HOST/api/v3` of a GitHub Enterprise Server.
        api: Url = default("https://api.github.com");
        /// The authorities that vouch for it, PEM. The system's roots unless given.
        ca: PathBuf = optional;
        /// How long obtaining one may take, waiting included where GitHub asks for patience; at most `30s`.
        timeout: Duration = default("10s");
        /// Where the secret enters a request; as the tool says unless given. Git over HTTPS takes `basic: x-access-token`.
        inject: OneOrMore<RawInject> = optional;
    }
}

/// A client id or an app id.
#[derive(Clone, Debug)]
pub(super) struct AppId(String);

impl Shape for AppId {
    fn schema() -> Value {
        json!({ "type": ["string", "integer"], "title": "app id", "minLength": 1, "minimum": 1 })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        match &here.node.kind {
            Kind::Scalar(Value::Number(number)) if number.as_u64().is_some_and(|id| id > 0) => {
                Some(Self(number.to_string()))
            }
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) | Kind::Broken => {
                String::read(here, notes).map(Self)
            }
        }
    }
}

/// The number of an installation.
#[derive(Clone, Copy, Debug)]
pub(super) struct InstallationId(u64);

impl Shape for InstallationId {
    fn schema() -> Value {
        json!({ "type": "integer", "title": "number", "minimum": 1 })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let Kind::Scalar(Value::Number(number)) = &here.node.kind else {
            return here.wrong_type("a number", notes);
        };
        match number.as_u64() {
            Some(0) | None => here.wrong_value("expected a whole number from 1", notes),
            Some(id) => Some(Self(id)),
        }
    }
}

/// The name of a repository, without its owner.
#[derive(Clone, Debug)]
pub(super) struct RepositoryName(String);

impl Shape for RepositoryName {
    fn schema() -> Value {
        json!({ "type": "string", "title": "repository", "pattern": "^[A-Za-z0-9._-]+$" })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let name = String::read(here, notes)?;
        if !is_name(&name) {
            return here.wrong_value(
                "expected the name of a repository, without its owner",
                notes,
            );
        }
        Some(Self(name))
    }
}

fn is_name(text: &str) -> bool {
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !matches!(text, "" | "." | "..") && text.bytes().all(is_in_name)
}

impl RawGithubApp {
    pub(super) fn parse(
        self,
        notes: &mut Notes,
    ) -> (Option<ProviderConfig>, Option<At<OneOrMore<RawInject>>>) {
        let inject = self.inject.clone();
        let parsed = self.asked(notes);
        (
            parsed.map(|asked| ProviderConfig::GithubApp(Box::new(asked))),
            inject,
        )
    }

    fn asked(self, notes: &mut Notes) -> Option<Asked<GithubAppConfig>> {
        check_url(self.api.as_ref(), notes);
        check_timeout(self.timeout.as_ref(), notes);
        let place = self.app_id.as_ref().map(|app| app.place.clone());
        let which = RawPlace {
            id: self.installation_id,
            account: self.account,
            repository: self.repository,
        };
        let installation = place.and_then(|place| installation(which, &place, notes));
        let permissions = self.permissions.and_then(|table| permissions(table, notes));
        Some(Asked {
            config: GithubAppConfig {
                api: self.api?.value,
                authorities: Vec::new(),
                app: self.app_id?.value.0,
                key: self.private_key?.value,
                installation: installation?,
                repositories: self
                    .repositories?
                    .value
                    .into_iter()
                    .map(|at| at.value.0)
                    .collect(),
                permissions: permissions?,
                timeout: self.timeout?.value,
            },
            ca: self.ca.map(|ca| ca.value),
        })
    }
}

/// The keys that say where the app is installed.
struct RawPlace {
    id: Option<At<InstallationId>>,
    account: Option<At<String>>,
    repository: Option<At<String>>,
}

/// Where the app is installed, said in one of three ways.
fn installation(which: RawPlace, place: &Place, notes: &mut Notes) -> Option<Installation> {
    match (which.id, which.account, which.repository) {
        (Some(id), None, None) => Some(Installation::Id(id.value.0)),
        (None, Some(account), None) => {
            if !is_name(&account.value) {
                let message = "expected the name of a user or an organization";
                notes.mistake(&account.place, "wrong_value", message);
                return None;
            }
            Some(Installation::Account(account.value))
        }
        (None, None, Some(repository)) => match repository.value.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) => {
                Some(Installation::Repository {
                    owner: owner.to_owned(),
                    name: name.to_owned(),
                })
            }
            Some(_) | None => {
                notes.mistake(&repository.place, "wrong_value", "expected `OWNER/NAME`");
                None
            }
        },
        _ => {
            let message = "one of `installation_id`, `account` and `repository` says where the app is installed";
            notes.mistake(place, "missing_key", message);
            None
        }
    }
}

fn permissions(table: At<Table<Level>>, notes: &mut Notes) -> Option<BTreeMap<String, Level>> {
    let mut permissions = BTreeMap::new();
    for (name, level) in table.value.0 {
        let is_in_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if !name.value.bytes().all(is_in_name) {
            let message = "expected a permission as GitHub's API has it, such as `pull_requests`";
            notes.mistake(&name.place, "wrong_value", message);
        }
        permissions.insert(name.value, level);
    }
    if permissions.is_empty() {
        let message = "expected at least one, such as `contents: read`: without any, a token has all of the app's";
        notes.mistake(&table.place, "wrong_value", message);
        return None;
    }
    Some(permissions)
}
