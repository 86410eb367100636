//! The config: `remit.yaml` in, parsed types out, or every mistake at once with line and column.
//!
//! **Invariant.** Only parsed types leave this module, and no secret enters it: a config names
//! secrets, and one that contains them is refused without being repeated.

mod approvals;
mod azure;
mod binding;
mod book;
mod certificate;
mod clusters;
mod collection;
mod control_plane;
mod definitions;
mod endpoint;
mod federated;
mod github_app;
mod google;
mod issuers;
mod kubernetes;
mod limits;
mod listen;
mod mistake;
mod node;
mod oauth;
mod operators;
mod outputs;
mod rules;
mod scalar;
mod shape;
mod signals;
mod spiffe;
mod state;
mod sts;
mod tools;
mod transactions;
mod usage;
mod vault;
mod wimse;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use credentials::{SecretRef, VaultLink};
use identity::SvidRule;
use serde_json::Value;

pub use approvals::{ApprovalsConfig, WebhookConfig};
pub use binding::{BindingConfig, ProviderConfig};
pub use book::{StoreConfig, TasksConfig};
pub use clusters::ClusterAsked;
pub use control_plane::{
    BundleConfig, BundleOrigin, DecisionLogsConfig, Polling, Rollback, ServiceConfig, StatusConfig,
};
pub use endpoint::Asked;
pub use issuers::IdentityConfig;
pub use kubernetes::KubernetesAsked;
pub use listen::{ClientCertificates, Listen, Plaintext, ServerTls};
pub use mistake::{Mistake, Mistakes};
pub use oauth::{ConsentAsked, OAuthAsked};
pub use operators::{ControlConfig, OperatorConfig};
pub use rules::{PolicyConfig, PolicyOrigin, RecordConfig, VerifyConfig};
pub use signals::SignalsConfig;
pub use state::StateConfig;
pub use tools::{ClientCertificate, ToolConfig, UpstreamConfig};
pub use vault::{VaultAsked, VaultSecretAsked};

use collection::Table;
use mistake::{At, Notes, Place};
use node::Node;
use shape::{Here, Shape, annotate, section};

/// How many bytes a config may have.
const MAX_BYTES: usize = 1 << 20;

/// A whole config, parsed.
#[derive(Debug)]
pub struct Config {
    /// Where the gateway listens.
    pub listen: Listen,
    /// Who is believed.
    pub identity: IdentityConfig,
    /// How long tasks live, who signs their tokens, where they are kept.
    pub tasks: TasksConfig,
    /// By which key what the gateway keeps is sealed.
    pub state: StateConfig,
    /// How people are asked for approvals.
    pub approvals: ApprovalsConfig,
    /// Whose security events end tasks; no two of one issuer.
    pub signals: Vec<SignalsConfig>,
    /// The upstreams, in the file's order; no two of one name or host.
    pub tools: Vec<ToolConfig>,
    /// Who may use the control listener.
    pub control: ControlConfig,
    /// Where the rules are.
    pub policy: PolicyConfig,
    /// Where records go, the audit file among it.
    pub telemetry: telemetry::Config,
    /// What the gateway takes on at once.
    pub limits: proxy::Limits,
    /// Where `vault:` references lead, and tools with `provider: vault`.
    pub vault: Option<VaultAsked>,
    /// What these references are read from, once it is made.
    pub vault_link: VaultLink,
    /// What is unwise, but no mistake.
    pub warnings: Vec<Mistake>,
    /// The SHA-256 of the text, in hex: what status calls the applied config.
    pub hash: String,
}

section! {
    /// The config of a Remit gateway.
    struct RawConfig {
        /// Where the gateway listens.
        listen: listen::RawListen = required;
        /// Who vouches for agents, besides the gateway's own task tokens.
        identity: issuers::RawIdentity = default({});
        /// How long tasks live, who signs their tokens, where they are kept.
        tasks: book::RawTasks = default({});
        /// By which key the ledger of leases is sealed in the store.
        state: state::RawState = default({});
        /// How people are asked for approvals.
        approvals: approvals::RawApprovals = default({});
        /// Transmitters of shared signals: what they say was revoked ends the tasks of whom it is about.
        signals: Vec<At<signals::RawSignals>> = default([]);
        /// The upstreams that agents may call, by name: `[a-z][a-z0-9_]*` without `__`; `mcp`, `oauth2` and `all` are reserved.
        tools: Table<tools::RawTool> = default({});
        /// Who may tell the gateway what to do.
        control: operators::RawControl = default({});
        /// Where the rules are.
        policy: rules::RawPolicy = required;
        /// Where traces, metrics and logs go.
        telemetry: outputs::RawTelemetry = default({});
        /// The audit file; none is written unless given.
        audit: outputs::RawAudit = optional;
        /// What one gateway takes on at once.
        limits: limits::RawLimits = default({});
        /// The HashiCorp Vault or OpenBao that `vault:mount/path#field` is read from wherever a secret is named, and that `provider: vault` asks.
        vault: vault::RawVault = optional;
    }
}

/// Reads a config file. Relative paths in it start at its folder.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    let origin = path.display().to_string();
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut notes = Notes::new(&origin, folder);
    let mut text = String::new();
    // One byte more than is allowed shows that there is more, without reading it.
    let limit = MAX_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
    if let Err(error) = read {
        notes.mistake(
            &Place::default(),
            "unreadable",
            format!("can't be read: {error}"),
        );
        return notes.finish(None).map(|(config, _)| config);
    }
    read_text(&text, notes)
}

/// Reads a config text; `origin` names it in mistakes. Relative paths in it start where the process does.
pub fn parse(text: &str, origin: &str) -> Result<Config, Mistakes> {
    read_text(text, Notes::new(origin, Path::new("")))
}

/// The JSON Schema (2020-12) of a config file.
pub fn schema() -> Value {
    let schema = definitions::define(RawConfig::schema());
    let schema = annotate(schema, "title", "remit.yaml".into());
    annotate(
        schema,
        "$schema",
        "https://json-schema.org/draft/2020-12/schema".into(),
    )
}

fn read_text(text: &str, mut notes: Notes) -> Result<Config, Mistakes> {
    if text.len() > MAX_BYTES {
        notes.mistake(&Place::default(), "too_large", "a config has at most 1 MiB");
        return notes.finish(None).map(|(config, _)| config);
    }
    let config = Node::parse(text, &mut notes)
        .and_then(|node| RawConfig::read(&Here::root(&node), &mut notes))
        .and_then(|raw| raw.parse(&mut notes));
    let (mut config, warnings) = notes.finish(config)?;
    config.warnings = warnings;
    config.hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()));
    Ok(config)
}

impl RawConfig {
    /// Parses each section on its own first, so that no mistake hides another.
    fn parse(self, notes: &mut Notes) -> Option<Config> {
        let control_listener = self
            .listen
            .as_ref()
            .and_then(|listen| listen.value.control.clone());
        let identity = self.identity.as_ref();
        let svids = identity.map_or(SvidRule::LikeOthers, |raw| raw.value.svids());
        let listen = self.listen.and_then(|raw| raw.value.parse(svids, notes));
        let identity = self
            .identity
            .and_then(|raw| raw.value.parse(listen.as_ref(), notes));
        let tasks = self.tasks.and_then(|raw| raw.value.parse(notes));
        let state = self.state.and_then(|raw| raw.value.parse());
        let approvals = self.approvals.and_then(|raw| raw.value.parse(notes));
        let signals = self
            .signals
            .and_then(|raw| signals::parse(raw.value, notes));
        let tools = self.tools.and_then(|raw| tools::parse(raw.value, notes));
        if let Some(tools) = &tools {
            oauth::check_issuers(tools, notes);
        }
        let tasks = tasks.map(|tasks| tasks.counting(tools.as_deref().unwrap_or_default()));
        let control = self
            .control
            .and_then(|raw| raw.value.parse(control_listener.as_ref(), notes));
        let policy = self
            .policy
            .and_then(|raw| raw.value.parse(&raw.place, notes));
        let audit = self.audit.and_then(|raw| raw.value.parse());
        let telemetry = self.telemetry.and_then(|raw| raw.value.parse(audit, notes));
        let vault_place = self.vault.as_ref().map(|raw| raw.place.clone());
        let vault_link = notes.vault(vault_place.as_ref());
        let vault = match self.vault {
            Some(raw) => Some(raw.value.parse(notes)?),
            None => None,
        };
        if let (Some(place), Some(vault), Some(tasks)) = (&vault_place, &vault, &tasks)
            && matches!(tasks.signing_key, Some(SecretRef::Vault(_)))
            && vault::needs_own_key(&vault.vault.login)
        {
            let message = "the login is signed by `tasks.signing_key`, which is kept in this Vault";
            notes.mistake(place, "circular_vault", message);
        }
        Some(Config {
            listen: listen?,
            identity: identity?,
            tasks: tasks?,
            state: state?,
            approvals: approvals?,
            signals: signals?,
            tools: tools?,
            control: control?,
            policy: policy?,
            telemetry: telemetry?,
            limits: self.limits?.value.parse()?,
            vault,
            vault_link,
            warnings: Vec::new(),
            hash: String::new(),
        })
    }
}
