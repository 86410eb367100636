//! `provider: kubernetes_secret` and `kubernetes_token`: what a Kubernetes API server gives.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::binding::{ProviderConfig, RawInject};
use super::collection::OneOrMore;
use super::mistake::{At, Notes};
use super::shape::section;
use super::tools::is_loopback;

/// An API server that is asked for one object.
#[derive(Clone, Debug)]
pub struct KubernetesAsked {
    /// Its address; that of the cluster that the gateway runs in, unless given.
    pub server: Option<Url>,
    /// The authorities that vouch for it, PEM; those of that cluster, or the system's, unless given.
    pub ca: Option<PathBuf>,
    /// The file with the gateway's own token.
    pub token: PathBuf,
    /// The namespace of the object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How long obtaining it may take.
    pub timeout: Duration,
}

section! {
    /// A `Secret` of a Kubernetes cluster, read from its API server.
    struct RawKubernetesSecret (provider: "kubernetes_secret") {
        /// Its namespace.
        namespace: String = required;
        /// Its name.
        name: String = required;
        /// Which of its keys are taken; all that are texts of one line unless given.
        keys: Vec<At<String>> = default([]);
        /// The API server: `https://`, or `http://` on loopback. That of the cluster that the gateway runs in unless given.
        server: Url = optional;
        /// The authorities that vouch for it, PEM. Unless given, those of that cluster; with `server` the system's roots.
        ca: PathBuf = optional;
        /// The file with the gateway's own token, whose service account may `get` this secret. It is read anew for each question.
        token: PathBuf = default("/var/run/secrets/kubernetes.io/serviceaccount/token");
        /// How long obtaining it may take; at most `30s`.
        timeout: Duration = default("10s");
        /// Where the secret enters a request, or a list where its fields go to several places; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

section! {
    /// A token of a service account of a Kubernetes cluster (`TokenRequest`), made for the task. It lives for 10 minutes at least, and nobody can take it back.
    struct RawKubernetesToken (provider: "kubernetes_token") {
        /// The namespace of the service account.
        namespace: String = required;
        /// Its name.
        name: String = required;
        /// Whom the token is for; the API server itself unless given.
        audiences: Vec<At<String>> = default([]);
        /// The API server: `https://`, or `http://` on loopback. That of the cluster that the gateway runs in unless given.
        server: Url = optional;
        /// The authorities that vouch for it, PEM. Unless given, those of that cluster; with `server` the system's roots.
        ca: PathBuf = optional;
        /// The file with the gateway's own token, whose service account may `create` `serviceaccounts/token`. It is read anew for each question.
        token: PathBuf = default("/var/run/secrets/kubernetes.io/serviceaccount/token");
        /// How long obtaining one may take; at most `30s`.
        timeout: Duration = default("10s");
        /// Where the secret enters a request, or a list where its fields go to several places; as the tool says unless given.
        inject: OneOrMore<RawInject> = optional;
    }
}

/// With some room less than the minute a provider has.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

impl RawKubernetesSecret {
    pub(super) fn provider(self, notes: &mut Notes) -> Option<ProviderConfig> {
        let asked = RawAsked {
            namespace: self.namespace,
            name: self.name,
            server: self.server,
            ca: self.ca,
            token: self.token,
            timeout: self.timeout,
        };
        Some(ProviderConfig::KubernetesSecret {
            asked: asked.parse(notes)?,
            keys: texts(self.keys?.value),
        })
    }
}

impl RawKubernetesToken {
    pub(super) fn provider(self, notes: &mut Notes) -> Option<ProviderConfig> {
        let asked = RawAsked {
            namespace: self.namespace,
            name: self.name,
            server: self.server,
            ca: self.ca,
            token: self.token,
            timeout: self.timeout,
        };
        Some(ProviderConfig::KubernetesToken {
            asked: asked.parse(notes)?,
            audiences: texts(self.audiences?.value),
        })
    }
}

fn texts(texts: Vec<At<String>>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}

/// What both have.
struct RawAsked {
    namespace: Option<At<String>>,
    name: Option<At<String>>,
    server: Option<At<Url>>,
    ca: Option<At<PathBuf>>,
    token: Option<At<PathBuf>>,
    timeout: Option<At<Duration>>,
}

impl RawAsked {
    fn parse(self, notes: &mut Notes) -> Option<KubernetesAsked> {
        for name in [&self.namespace, &self.name].into_iter().flatten() {
            if !is_name(&name.value) {
                let message = "expected a name as Kubernetes has them: `a-z`, `0-9`, `-` and `.`";
                notes.mistake(&name.place, "wrong_value", message);
            }
        }
        if let Some(server) = &self.server
            && server.value.scheme() == "http"
            && !is_loopback(&server.value)
        {
            let message = "secrets are asked for over `https://`; `http://` is for loopback";
            notes.mistake(&server.place, "plaintext_cluster", message);
        }
        if let Some(timeout) = &self.timeout
            && timeout.value > LONGEST_TIMEOUT
        {
            notes.mistake(&timeout.place, "wrong_value", "it is at most `30s`");
        }
        Some(KubernetesAsked {
            server: self.server.map(|server| server.value),
            ca: self.ca.map(|ca| ca.value),
            token: self.token?.value,
            namespace: self.namespace?.value,
            name: self.name?.value,
            timeout: self.timeout?.value,
        })
    }
}

/// RFC 1123, as Kubernetes has it for subdomains.
fn is_name(text: &str) -> bool {
    let is_of_name = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    let is_edge = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    text.len() <= 253
        && text.bytes().all(is_of_name)
        && text.starts_with(is_edge)
        && text.ends_with(is_edge)
}
