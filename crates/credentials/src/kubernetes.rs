//! Secrets of a Kubernetes cluster, and tokens of its service accounts: its API server is asked.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use crate::endpoint::{Endpoint, Request, known_code};
use crate::vault::{Data, Datum, read_token};
use crate::{
    Field, Fields, LeaseView, Material, Obtained, Provider, ProviderError, Revocation, Secret,
    Wish, narrowing,
};

/// An API server, and who asks it.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// Its address; over https, or on this machine.
    pub server: Url,
    /// Who vouches for it; the system's roots, if none are given.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The file with the gateway's own token; read anew for each question.
    pub token: PathBuf,
    /// The namespace of what is asked for.
    pub namespace: String,
    /// The name of what is asked for: a secret, or a service account.
    pub name: String,
    /// How long all of one obtaining may take.
    pub timeout: Duration,
}

/// The largest answer that is read, in bytes: a secret has 1 MiB at most, which base64 makes a third larger.
const MAX_BYTES: usize = 1536 * 1024;

/// One `Secret` of a Kubernetes cluster.
///
/// It stays there when a task ends (`drop_only`).
#[derive(Debug)]
pub struct KubernetesSecret {
    server: Server,
    keys: Vec<String>,
}

/// Tokens of a service account of a Kubernetes cluster (`TokenRequest`), each for a task.
///
/// Nobody can take one back: its leases end with `expires_at`.
#[derive(Debug)]
pub struct KubernetesToken {
    server: Server,
    audiences: Vec<String>,
}

#[derive(Debug)]
struct Server {
    config: KubernetesConfig,
    endpoint: Endpoint,
}

/// The shortest life that an API server gives a token, in seconds.
const SHORTEST: u64 = 600;

impl KubernetesSecret {
    /// `keys` are those that are taken; all that are texts of one line, if none are named.
    ///
    /// # Errors
    /// What is wrong with the address or authorities.
    pub fn new(config: KubernetesConfig, keys: Vec<String>) -> Result<Self, String> {
        let server = Server::new(config)?;
        Ok(Self { server, keys })
    }

    fn material(&self, mut data: Data) -> Result<Material, ProviderError> {
        if self.keys.is_empty() {
            let texts = data.0.into_iter().filter_map(|(name, datum)| match datum {
                Datum::Text(text) => Some(Field::new(name, decoded(&text.0).ok()?)),
                Datum::Other => None,
            });
            let fields = Fields::new(texts.collect()).map(Material::Fields);
            return fields.map_err(|_| self.server.failed("has no key with a text of one line"));
        }
        let take = |key: &String| match data.take(key) {
            Some(Datum::Text(text)) => {
                let secret = decoded(&text.0);
                let secret = secret.map_err(|error| {
                    self.server
                        .failed(&format!("has a key `{key}` that can't be used: {error}"))
                });
                Ok(Field::new(key.clone(), secret?))
            }
            Some(Datum::Other) | None => Err(self.server.failed(&format!("has no key `{key}`"))),
        };
        let fields: Result<Vec<_>, _> = self.keys.iter().map(take).collect();
        Fields::new(fields?).map(Material::Fields)
    }
}

/// The value of a key; one line break at its end is taken off, as of a file.
fn decoded(text: &str) -> Result<Secret, ProviderError> {
    let bytes = Zeroizing::new(
        STANDARD
            .decode(text)
            .map_err(|_| ProviderError::Failed("it is not base64".to_owned()))?,
    );
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Secret::new(line.to_vec())
}

#[async_trait::async_trait]
impl Provider for KubernetesSecret {
    fn name(&self) -> &'static str {
        "kubernetes_secret"
    }

    fn digest(&self) -> String {
        self.server.digest(&self.keys)
    }

    fn rereads(&self) -> bool {
        true
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::scopes(wish, &[])?;
        narrowing::only(&wish.narrow, &[])?;
        let document = self.server.ask(Method::GET, "secrets", None).await?;
        let answer: SecretAnswer = self.server.read(&document)?;
        let is_it = answer.kind == "Secret"
            && answer.metadata.name == self.server.config.name
            && answer.metadata.namespace == self.server.config.namespace;
        if !is_it {
            return Err(self.server.failed("is answered with something else"));
        }
        let data = answer.data;
        let data = data.ok_or_else(|| self.server.failed("has no keys"))?;
        Ok(Obtained {
            material: self.material(data)?,
            ttl_seconds: None,
            // There is nothing to take back.
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::DropOnly
    }
}

impl KubernetesToken {
    /// `audiences` are those that the tokens are for; the API server itself, if none are given.
    ///
    /// # Errors
    /// What is wrong with the address or authorities.
    pub fn new(config: KubernetesConfig, audiences: Vec<String>) -> Result<Self, String> {
        let server = Server::new(config)?;
        Ok(Self { server, audiences })
    }
}

#[async_trait::async_trait]
impl Provider for KubernetesToken {
    fn name(&self) -> &'static str {
        "kubernetes_token"
    }

    fn digest(&self) -> String {
        self.server.digest(&self.audiences)
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        narrowing::scopes(wish, &[])?;
        narrowing::only(&wish.narrow, &[])?;
        let life = wish.ttl_seconds.max(SHORTEST);
        let asked = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": self.audiences, "expirationSeconds": life },
        });
        let document = self
            .server
            .ask(Method::POST, "serviceaccounts", Some(asked));
        let document = document.await?;
        self.token(&document).map_err(ProviderError::lost)
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::ExpiresAt
    }
}

impl KubernetesToken {
    fn token(&self, document: &[u8]) -> Result<Obtained, ProviderError> {
        let answer: TokenAnswer = self.server.read(document)?;
        let TokenStatus {
            token,
            expiration_timestamp,
        } = answer.status;
        let now = jiff::Timestamp::now().as_second();
        let dies_at: jiff::Timestamp = expiration_timestamp
            .parse()
            .map_err(|_| self.server.failed("does not say when its token expires"))?;
        let left = dies_at.as_second().saturating_sub(now);
        let left = u64::try_from(left).unwrap_or_default();
        if left == 0 {
            return Err(self
                .server
                .failed("is answered with a token that has expired"));
        }
        let token = Secret::new(token.0.as_bytes().to_vec());
        let token = token.map_err(|_| self.server.failed("is answered without a token"))?;
        Ok(Obtained {
            material: token.into(),
            ttl_seconds: Some(left),
            handle: None,
        })
    }
}

/// `v1` `Secret`.
#[derive(Deserialize)]
struct SecretAnswer {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
}

/// `authentication.k8s.io/v1` `TokenRequest`.
#[derive(Deserialize)]
struct TokenAnswer {
    status: TokenStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenStatus {
    token: crate::vault::Wiped,
    expiration_timestamp: String,
}

impl Server {
    fn new(config: KubernetesConfig) -> Result<Self, String> {
        let endpoint = Endpoint::new(config.server.clone(), &config.authorities)?;
        Ok(Self {
            endpoint: endpoint.with_reason(reason).with_max_bytes(MAX_BYTES),
            config,
        })
    }

    fn what(&self) -> String {
        format!("{}/{}", self.config.namespace, self.config.name)
    }

    fn digest(&self, more: &[String]) -> String {
        let KubernetesConfig {
            server,
            namespace,
            name,
            ..
        } = &self.config;
        let mut texts = vec![server.as_str(), namespace, name];
        texts.extend(more.iter().map(String::as_str));
        crate::provider::digest(&texts)
    }

    /// Asks for the object, or for its token.
    async fn ask(
        &self,
        method: Method,
        kind: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let deadline = Instant::now() + self.config.timeout;
        let request = async || {
            let KubernetesConfig {
                token,
                namespace,
                name,
                ..
            } = &self.config;
            let token = read_token(token).await?;
            let token = Secret::new(token.as_bytes().to_vec())?;
            let path = ["api", "v1", "namespaces", namespace, kind, name];
            let request = Request::new(method.clone()).at(&path).bearer(&token)?;
            match &body {
                Some(body) => request.at(&["token"]).json(body),
                None => Ok(request),
            }
        };
        let answered = self.endpoint.ask(deadline, request).await?;
        let good = [StatusCode::OK, StatusCode::CREATED];
        let accepted = self.endpoint.accept(answered, &good);
        accepted.map_err(|error| ProviderError::Failed(format!("`{}`: {error}", self.what())))
    }

    fn read<'de, T: Deserialize<'de>>(&self, document: &'de [u8]) -> Result<T, ProviderError> {
        serde_json::from_slice(document).map_err(|error| {
            // Only where it went wrong, since the parser's own words may quote the secret.
            let (line, column) = (error.line(), error.column());
            self.failed(&format!(
                "is answered with something else, at line {line} column {column}"
            ))
        })
    }

    fn failed(&self, problem: &str) -> ProviderError {
        let server = self.endpoint.url();
        ProviderError::Failed(format!("`{}` of `{server}` {problem}", self.what()))
    }
}

/// Why an API server says no: `reason` of its `Status`.
fn reason(document: &[u8]) -> Option<Cow<'static, str>> {
    const KNOWN: [&str; 9] = [
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "Invalid",
        "BadRequest",
        "Timeout",
        "TooManyRequests",
        "ServiceUnavailable",
        "InternalError",
    ];
    known_code(document, "/reason", &KNOWN)
}

#[cfg(test)]
mod tests;
