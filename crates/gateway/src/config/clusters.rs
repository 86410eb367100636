//! `identity.clusters`: the Kubernetes clusters whose service accounts are agents.

use std::path::PathBuf;
use std::time::Duration;

use identity::{AgentTemplate, ClusterConfig};
use url::Url;

use super::mistake::Notes;
use super::shape::section;
use super::tools::is_loopback;

/// A Kubernetes cluster that is asked whose a token is.
#[derive(Clone, Debug)]
pub struct ClusterAsked {
    /// The cluster, without the authorities of its API server.
    pub cluster: ClusterConfig,
    /// These, PEM; the system's, unless given.
    pub ca: Option<PathBuf>,
}

section! {
    /// A Kubernetes cluster that is asked whose a token is (`TokenReview`).
    struct RawCluster {
        /// The `iss` of its tokens: its `--service-account-issuer`. Tokens of another are not sent to it.
        issuer: String = required;
        /// What a token must be for: the `audience` of the projected volume.
        audience: String = required;
        /// Its API server. The gateway's own token goes there, so it is `https://`, or on loopback.
        server: Url = required;
        /// The authorities that vouch for the API server, PEM. The system's roots unless given.
        ca: PathBuf = optional;
        /// The file with the gateway's own token, whose service account may create `tokenreviews` (`system:auth-delegator`). It is read anew for each question.
        token: PathBuf = default("/var/run/secrets/kubernetes.io/serviceaccount/token");
        /// How the agent's id is made of `username`, `uid`, `namespace`, `service_account` and `pod`.
        agent: AgentTemplate = default("{username}");
        /// How tokens of this cluster begin that are no JWTs, such as `sha256~`. Only those are sent to it, since others may be keys of the agent's.
        opaque_prefix: String = optional;
        /// For how long a yes is believed, and never past the token's own time; a no for at most 5 s. At most `10m`.
        cache: Duration = default("60s");
    }
}

/// The longest that a pod that is gone may still be believed to be there.
const MAX_CACHE: Duration = Duration::from_secs(600);

/// The shortest beginning that tells a cluster's tokens from anything else.
const MIN_PREFIX: usize = 4;

impl RawCluster {
    pub(super) fn parse(self, notes: &mut Notes) -> Option<ClusterAsked> {
        if let Some(server) = &self.server
            && server.value.scheme() == "http"
            && !is_loopback(&server.value)
        {
            let message = "tokens are sent over `https://`; `http://` is for loopback";
            notes.mistake(&server.place, "plaintext_cluster", message);
        }
        if let Some(prefix) = &self.opaque_prefix
            && (prefix.value.len() < MIN_PREFIX || prefix.value.contains('.'))
        {
            let message = "it is at least 4 characters, none of them a dot";
            notes.mistake(&prefix.place, "wrong_value", message);
        }
        let cache = self.cache?;
        if cache.value > MAX_CACHE || cache.value < Duration::from_secs(1) {
            notes.mistake(&cache.place, "wrong_value", "it is from `1s` to `10m`");
        }
        Some(ClusterAsked {
            cluster: ClusterConfig {
                issuer: self.issuer?.value,
                opaque_prefix: self.opaque_prefix.map(|prefix| prefix.value),
                audience: self.audience?.value,
                server: self.server?.value,
                authorities: Vec::new(),
                token: self.token?.value,
                agent: self.agent?.value,
                cache: cache.value,
            },
            ca: self.ca.map(|ca| ca.value),
        })
    }
}
