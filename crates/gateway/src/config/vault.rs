//! `vault` and `provider: vault`: HashiCorp Vault or OpenBao, for secrets that the config names and those of tools.

use std::path::PathBuf;
use std::time::Duration;

use credentials::{
    SecretRef, Signer, VaultConfig, VaultDynamic, VaultEngine, VaultJwt, VaultLogin, VaultSecret,
    is_vault_path,
};
use serde_json::{Value, json};
use url::Url;

use super::binding::{ProviderConfig, RawInject};
use super::collection::{NonEmpty, OneOrMore, Table};
use super::mistake::{At, Notes, Place};
use super::node::Kind;
use super::oauth::{RawKey, signer};
use super::shape::{Here, Shape, not_a_choice, section, words};
use super::tools::is_loopback;

/// A Vault that is asked for secrets.
#[derive(Clone, Debug)]
pub struct VaultAsked {
    /// Where it is, without the authorities that vouch for it.
    pub vault: VaultConfig,
    /// These, PEM; the system's, unless given.
    pub ca: Option<PathBuf>,
}

/// A secret of a Vault.
#[derive(Clone, Debug)]
pub struct VaultSecretAsked {
    /// Which.
    pub secret: VaultSecret,
    /// Which Vault has it; that of the section `vault`, unless given.
    pub server: Option<VaultAsked>,
}

section! {
    /// A HashiCorp Vault or OpenBao, and how the gateway shows it who it is.
    struct RawVault {
        /// Its address: `https://`, or `http://` on loopback. Where there are several nodes, it has to reach the active one.
        address: Url = required;
        /// The namespace.
        namespace: String = optional;
        /// The authorities that vouch for it, PEM. The system's roots unless given.
        ca: PathBuf = optional;
        /// How the gateway shows who it is.
        login: RawLogin = required;
        /// How long obtaining a secret may take, the login included; at most `30s`.
        timeout: Duration = default("10s");
    }
}

section! {
    /// Login by a token that somebody gave the gateway.
    struct RawTokenLogin (method: "token") {
        /// The token.
        token: SecretRef = required;
    }
}

section! {
    /// Login by a role (`auth/approle`).
    struct RawAppRoleLogin (method: "approle") {
        /// The role.
        role_id: String = required;
        /// Its secret, unless the role needs none (`bind_secret_id: false`).
        secret_id: SecretRef = optional;
        /// Where the method is mounted.
        mount: String = default("approle");
    }
}

section! {
    /// Login by a JWT (`auth/jwt`): one in a file, or one that the gateway signs.
    struct RawJwtLogin (method: "jwt") {
        /// The role; the method's default unless given.
        role: String = optional;
        /// A file with the JWT that others keep fresh, such as a JWT-SVID or a projected token.
        token: PathBuf = optional;
        /// Whom a JWT that the gateway signs is for (`bound_audiences`). The method takes its keys from `/.well-known/jwks.json` of the control listener.
        audience: String = optional;
        /// Whom it is about (`sub`).
        subject: String = default("remit");
        /// The `iss`, where it is signed by `key`; the gateway's issuer unless given.
        issuer: String = optional;
        /// The key that signs it; that of task tokens unless given.
        key: RawKey = optional;
        /// Where the method is mounted.
        mount: String = default("jwt");
    }
}

section! {
    /// Login by the token of the gateway's Kubernetes service account (`auth/kubernetes`).
    struct RawKubernetesLogin (method: "kubernetes") {
        /// The role.
        role: String = required;
        /// The file with the token.
        token: PathBuf = default("/var/run/secrets/kubernetes.io/serviceaccount/token");
        /// Where the method is mounted.
        mount: String = default("kubernetes");
    }
}

section! {
    /// A secret of HashiCorp Vault or OpenBao: one that it keeps (`kv`), or one that it makes for the task (`path`).
    struct RawVaultSecret (provider: "vault") {
        /// A secret of a KV engine, version 1 or 2, as `vault kv get` takes it: `secret/shop`. It stays there when the task ends.
        kv: String = optional;
        /// What makes a secret: `database/creds/{role}`, `aws/creds/deploy`, `pki/issue/agents`. It is revoked with its lease when the task ends.
        path: String = optional;
        /// How `path` is asked.
        method: Method = default("get");
        /// What is said with it.
        parameters: Table<String> = default({});
        /// The parameter that takes the life that the decision and the task leave it, such as `ttl`. A lease that can be renewed is set to it in any case.
        ttl_parameter: String = optional;
        /// What a decision may choose, by the name that stands in braces in `kv`, `path` or `parameters`: the first unless `credential.narrow` has another of them.
        choices: Table<NonEmpty<String>> = default({});
        /// Which fields are taken; all that are texts of one line unless given. Keys of AWS are `access_key_id`, `secret_access_key` and `session_token`.
        fields: Vec<At<String>> = default([]);
        /// How long a secret of `path` lives that comes without a lease. Unless given, it is held to live on.
        ttl: Duration = optional;
        /// Which Vault it is; that of the section `vault` unless given.
        server: RawVault = optional;
        /// Where the secret enters a request, or a list where its fields go to several places; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

/// How a path is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Get,
    Post,
}

words! { Method { "get" => Self::Get, "post" => Self::Post } }

/// How the gateway shows who it is; its other keys are those of its method.
#[derive(Clone, Debug)]
pub(super) enum RawLogin {
    Token(RawTokenLogin),
    AppRole(RawAppRoleLogin),
    Jwt(Box<RawJwtLogin>),
    Kubernetes(RawKubernetesLogin),
}

const METHODS: [&str; 4] = ["token", "approle", "jwt", "kubernetes"];

impl Shape for RawLogin {
    fn schema() -> Value {
        json!({ "oneOf": [RawTokenLogin::schema(), RawAppRoleLogin::schema(), RawJwtLogin::schema(), RawKubernetesLogin::schema()] })
    }

    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let Kind::Map(pairs) = &here.node.kind else {
            return here.wrong_type("a mapping", notes);
        };
        let Some(pair) = pairs.iter().find(|pair| pair.key == "method") else {
            let message = "key `method` is missing: `method: approle`, `jwt`, `kubernetes` or \
                           `token`, its keys beside it";
            notes.mistake(&here.section_place(), "missing_key", message);
            return None;
        };
        let method = here.at_key("method", pair.mark, &pair.node);
        match method.text("the name of a method", notes)? {
            "token" => RawTokenLogin::read(here, notes).map(Self::Token),
            "approle" => RawAppRoleLogin::read(here, notes).map(Self::AppRole),
            "jwt" => RawJwtLogin::read(here, notes).map(|raw| Self::Jwt(Box::new(raw))),
            "kubernetes" => RawKubernetesLogin::read(here, notes).map(Self::Kubernetes),
            other => method.wrong_value(not_a_choice(other, &METHODS), notes),
        }
    }
}

/// With the time for taking back what is not believed, still less than the minute a provider has.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

impl RawVault {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<VaultAsked> {
        if let Some(address) = &self.address
            && address.value.scheme() == "http"
            && !is_loopback(&address.value)
        {
            let message = "secrets are asked for over `https://`; `http://` is for loopback";
            notes.mistake(&address.place, "plaintext_vault", message);
        }
        if let Some(timeout) = &self.timeout
            && timeout.value > LONGEST_TIMEOUT
        {
            notes.mistake(&timeout.place, "wrong_value", "it is at most `30s`");
        }
        if let Some(namespace) = &self.namespace {
            path(namespace, notes);
        }
        let login = self.login?;
        let login = login.value.parse(&login.place, notes);
        Some(VaultAsked {
            vault: VaultConfig {
                address: self.address?.value,
                namespace: self.namespace.map(|namespace| namespace.value),
                authorities: Vec::new(),
                login: login?,
                timeout: self.timeout?.value,
            },
            ca: self.ca.map(|ca| ca.value),
        })
    }
}

impl RawLogin {
    fn parse(self, place: &Place, notes: &mut Notes) -> Option<VaultLogin> {
        match self {
            Self::Token(raw) => Some(VaultLogin::Token(own(raw.token, notes)?)),
            Self::AppRole(raw) => {
                let secret_id = match raw.secret_id {
                    Some(secret_id) => Some(own(Some(secret_id), notes)?),
                    None => None,
                };
                Some(VaultLogin::AppRole {
                    mount: mount(raw.mount, notes)?,
                    role_id: raw.role_id?.value,
                    secret_id,
                })
            }
            Self::Jwt(raw) => raw.parse(place, notes),
            Self::Kubernetes(raw) => Some(VaultLogin::Kubernetes {
                mount: mount(raw.mount, notes)?,
                role: raw.role?.value,
                token: raw.token?.value,
            }),
        }
    }
}

impl RawJwtLogin {
    fn parse(self, place: &Place, notes: &mut Notes) -> Option<VaultLogin> {
        if let Some(key) = &self.key {
            let secret = key.value.secret.clone();
            if let Some(secret) = secret {
                own(Some(secret), notes)?;
            }
        }
        let jwt = match (self.token, self.audience) {
            (Some(token), None) => VaultJwt::File(token.value),
            (None, Some(audience)) => VaultJwt::Signed {
                audience: audience.value,
                subject: self.subject?.value,
                signer: signer(self.issuer, self.key, notes)?,
            },
            (Some(_), Some(_)) | (None, None) => {
                let message = "expected `token`, a file with a JWT, or `audience`, for one that \
                               the gateway signs";
                notes.mistake(place, "wrong_login", message);
                return None;
            }
        };
        Some(VaultLogin::Jwt {
            mount: mount(self.mount, notes)?,
            role: self.role.map(|role| role.value),
            jwt,
        })
    }
}

/// What opens a Vault is not kept in it.
fn own(secret: Option<At<SecretRef>>, notes: &mut Notes) -> Option<SecretRef> {
    let secret = secret?;
    if matches!(secret.value, SecretRef::Vault(_)) {
        let message = "what the gateway logs in with can't be kept in a Vault: \
                       `env:NAME`, `file:/path` or `cmd:program args`";
        notes.mistake(&secret.place, "circular_vault", message);
        return None;
    }
    Some(secret.value)
}

fn mount(mount: Option<At<String>>, notes: &mut Notes) -> Option<String> {
    path(&mount?, notes)
}

/// A path without what would lead elsewhere; slashes around it are taken off.
fn path(text: &At<String>, notes: &mut Notes) -> Option<String> {
    let path = text.value.trim_matches('/');
    if !is_vault_path(path) {
        let message = "expected a path such as `secret/shop`, without `v1/` and a query";
        notes.mistake(&text.place, "wrong_value", message);
        return None;
    }
    Some(path.to_owned())
}

/// Whether the gateway's own key is needed to log in.
pub(super) fn needs_own_key(login: &VaultLogin) -> bool {
    match login {
        VaultLogin::Jwt { jwt, .. } => matches!(
            jwt,
            VaultJwt::Signed {
                signer: Signer::Gateway,
                ..
            }
        ),
        VaultLogin::Token(_) | VaultLogin::AppRole { .. } | VaultLogin::Kubernetes { .. } => false,
    }
}

impl RawVaultSecret {
    pub(super) fn provider(self, notes: &mut Notes) -> Option<ProviderConfig> {
        let choices = choices(self.choices?.value, notes)?;
        let parameters = self.parameters?.value.0;
        let mut templates: Vec<&At<String>> =
            [&self.kv, &self.path].into_iter().flatten().collect();
        let place = match (&self.kv, &self.path) {
            (Some(one), None) | (None, Some(one)) => one.place.clone(),
            (Some(one), Some(_)) => {
                let message = "expected one of `kv` and `path`";
                notes.mistake(&one.place, "wrong_secret", message);
                return None;
            }
            (None, None) => {
                let Place { path, mark } = self.method?.place;
                let path = path.trim_end_matches(".method").to_owned();
                let place = Place { path, mark };
                let message =
                    "expected `kv`, for a secret that is kept, or `path`, for one that is made";
                notes.mistake(&place, "missing_key", message);
                return None;
            }
        };
        let values: Vec<At<String>> = parameters
            .iter()
            .map(|(name, value)| At {
                value: value.clone(),
                place: name.place.clone(),
            })
            .collect();
        templates.extend(&values);
        check_templates(&templates, &choices, &place, notes);
        let chosen_path = path(self.kv.as_ref().or(self.path.as_ref())?, notes);
        let engine = if self.kv.is_some() {
            if !parameters.is_empty() || self.ttl_parameter.is_some() || self.ttl.is_some() {
                let message = "`parameters`, `ttl_parameter` and `ttl` go with `path`: what is kept is only read";
                notes.mistake(&place, "wrong_secret", message);
            }
            VaultEngine::Kv
        } else {
            let is_post = self.method?.value == Method::Post;
            VaultEngine::Dynamic(VaultDynamic {
                is_post,
                parameters: parameters
                    .into_iter()
                    .map(|(name, value)| (name.value, value))
                    .collect(),
                ttl_parameter: self.ttl_parameter.map(|name| name.value),
                ttl: self.ttl.map(|ttl| ttl.value),
            })
        };
        let server = match self.server {
            Some(server) => Some(server.value.parse(notes)?),
            None => {
                notes.needs_vault(&place);
                None
            }
        };
        Some(ProviderConfig::Vault(Box::new(VaultSecretAsked {
            secret: VaultSecret {
                engine,
                path: chosen_path?,
                choices,
                fields: self.fields?.value.into_iter().map(|at| at.value).collect(),
            },
            server,
        })))
    }
}

/// What may be chosen: values that stay within a path.
fn choices(
    table: Table<NonEmpty<String>>,
    notes: &mut Notes,
) -> Option<Vec<(String, Vec<String>)>> {
    let mut choices = Vec::new();
    for (name, values) in table.0 {
        for value in &values.0 {
            if !is_vault_path(&value.value) {
                let message = "expected a text without `..`, `?`, `#` and `%`";
                notes.mistake(&value.place, "wrong_value", message);
                return None;
            }
        }
        let values = values.0.into_iter().map(|at| at.value);
        choices.push((name.value, values.collect()));
    }
    Some(choices)
}

/// Each name in braces is one of the choices, and each choice stands somewhere.
fn check_templates(
    templates: &[&At<String>],
    choices: &[(String, Vec<String>)],
    place: &Place,
    notes: &mut Notes,
) {
    for template in templates {
        let rest = choices
            .iter()
            .fold(template.value.clone(), |text, (name, _)| {
                text.replace(&format!("{{{name}}}"), "")
            });
        if rest.contains(['{', '}']) {
            let message = "what stands in braces has to be one of `choices`";
            notes.mistake(&template.place, "unknown_choice", message);
        }
    }
    for (name, _) in choices {
        let braced = format!("{{{name}}}");
        if !templates
            .iter()
            .any(|template| template.value.contains(&braced))
        {
            let message =
                format!("the choice `{name}` stands nowhere: write `{braced}` where it goes");
            notes.mistake(place, "unknown_choice", message);
        }
    }
}
