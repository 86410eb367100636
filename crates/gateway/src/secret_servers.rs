//! The Vaults and clusters that secrets are had of, made from the config.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use credentials::{KubernetesConfig, Vault, VaultConfig, VaultSecrets};
use identity::TaskTokens;
use url::Url;

use crate::config::{Config, KubernetesAsked, VaultAsked, VaultSecretAsked};
use crate::setup::certificates;

/// Where a pod finds what it needs to ask its own API server.
const IN_CLUSTER_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// The Vault of the section `vault`, if there is one. From now on the config's `vault:` references are read from it.
///
/// Without `tokens` it can't be logged in to by the gateway's own signature.
pub(crate) fn vault(
    config: &Config,
    tokens: Option<&Arc<TaskTokens>>,
) -> Result<Option<Arc<Vault>>, String> {
    let link = &config.vault_link;
    if let Some(known) = link.vault() {
        return Ok(Some(Arc::clone(known)));
    }
    let Some(asked) = &config.vault else {
        return Ok(None);
    };
    let made = made(asked.clone(), tokens).map_err(|mistake| format!("vault: {mistake}"))?;
    link.connect(Arc::clone(&made));
    Ok(Some(made))
}

/// The provider of a secret of a Vault: of its own, or that of the section.
pub(crate) fn vault_secrets(
    asked: VaultSecretAsked,
    section: Option<&Arc<Vault>>,
    tokens: &Arc<TaskTokens>,
) -> Result<VaultSecrets, String> {
    let VaultSecretAsked { secret, server } = asked;
    let vault = match (server, section) {
        (Some(own), _) => made(own, Some(tokens))?,
        (None, Some(section)) => Arc::clone(section),
        (None, None) => return Err("there is no section `vault`".to_owned()),
    };
    Ok(VaultSecrets::new(vault, secret))
}

fn made(asked: VaultAsked, tokens: Option<&Arc<TaskTokens>>) -> Result<Arc<Vault>, String> {
    let VaultAsked { vault, ca } = asked;
    let config = VaultConfig {
        authorities: ca
            .as_deref()
            .map(certificates)
            .transpose()?
            .unwrap_or_default(),
        ..vault
    };
    Vault::new(config, tokens.cloned()).map(Arc::new)
}

/// An API server: the one that is named, or that of the cluster that the gateway runs in.
pub(crate) fn cluster(asked: KubernetesAsked) -> Result<KubernetesConfig, String> {
    let ca: Option<PathBuf> = match (&asked.server, asked.ca) {
        (_, Some(ca)) => Some(ca),
        (Some(_), None) => None,
        (None, None) => Some(Path::new(IN_CLUSTER_CA).to_owned()),
    };
    let server = match asked.server {
        Some(server) => server,
        None => own_server()?,
    };
    Ok(KubernetesConfig {
        server,
        authorities: ca
            .as_deref()
            .map(certificates)
            .transpose()?
            .unwrap_or_default(),
        token: asked.token,
        namespace: asked.namespace,
        name: asked.name,
        timeout: asked.timeout,
    })
}

/// As every pod is told where its API server is.
fn own_server() -> Result<Url, String> {
    let told = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let host = told("KUBERNETES_SERVICE_HOST");
    let host = host.ok_or(
        "the gateway runs in no cluster: `KUBERNETES_SERVICE_HOST` is not set; write `server: https://…`",
    )?;
    let port = told("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let url = format!("https://{host}:{port}").parse();
    url.map_err(|_| "`KUBERNETES_SERVICE_HOST` names no host".to_owned())
}
