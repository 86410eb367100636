//! Fetches a key set, trusting neither network nor server with more than it needs.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use url::{Host, Url};

use crate::issuer::is_name_of;
use crate::key_set::{Bundle, KeySet};

/// The largest answer that is read, in bytes; key sets of large providers have a few KiB.
const MAX_BYTES: usize = 256 * 1024;

/// Whether keys fetched from `url` can be trusted: over TLS, or from this machine.
pub fn is_trustworthy(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)
}

/// Where a key set is, and the client that gets it.
#[derive(Debug)]
pub(crate) enum Fetcher {
    /// Of an issuer.
    Issuer {
        issuer: Url,
        jwks_uri: Option<Url>,
        client: Client,
    },
    /// A SPIFFE bundle endpoint of the `https_web` profile.
    BundleEndpoint { url: Url, client: Client },
    /// A SPIFFE bundle in a file.
    BundleFile(PathBuf),
}

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("client for issuer keys can't be made: {0}")]
    Client(String),
    #[error("`{0}` is neither https nor on this machine")]
    Untrustworthy(Url),
    #[error("`{0}` does not answer: {1}")]
    Transport(Url, String),
    #[error("`{0}` answers {1} instead of 200")]
    Status(Url, StatusCode),
    #[error("`{0}` answers with more than 256 KiB")]
    TooLarge(Url),
    #[error("`{0}` is not a discovery document of OpenID Connect")]
    NoDiscovery(Url),
    #[error("`{0}` is of another issuer")]
    OtherIssuer(Url),
    #[error("`{0}` is not a key set")]
    NoKeySet(Url),
    #[error("`{0}` is not a SPIFFE bundle")]
    NoBundle(String),
    #[error("`{0}` can't be read: {1}")]
    File(PathBuf, io::Error),
    #[error("`{0}` has more than 256 KiB")]
    LargeFile(PathBuf),
    #[error("its keys did not come in time")]
    Late,
}

impl Fetcher {
    pub(crate) fn new(issuer: &Url, jwks_uri: Option<&Url>) -> Result<Self, FetchError> {
        Ok(Self::Issuer {
            issuer: issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
            client: client_of(jwks_uri.unwrap_or(issuer))?,
        })
    }

    pub(crate) fn of_endpoint(url: &Url) -> Result<Self, FetchError> {
        Ok(Self::BundleEndpoint {
            url: url.clone(),
            client: client_of(url)?,
        })
    }

    /// Fetches the key set; an issuer's by way of discovery unless its address is known.
    pub(crate) async fn fetch(&self) -> Result<KeySet, FetchError> {
        match self {
            Self::Issuer {
                issuer,
                jwks_uri,
                client,
            } => {
                let url = match jwks_uri {
                    Some(url) => url.clone(),
                    None => discover(issuer, client).await?,
                };
                let document = get(client, &url).await?;
                KeySet::read(&document).ok_or(FetchError::NoKeySet(url))
            }
            Self::BundleEndpoint { url, client } => {
                let document = get(client, url).await?;
                let bundle = KeySet::read_bundle(&document, Bundle::Whole);
                bundle.ok_or_else(|| FetchError::NoBundle(url.to_string()))
            }
            Self::BundleFile(path) => {
                let document = read(path).await?;
                let bundle = KeySet::read_bundle(&document, Bundle::Whole);
                bundle.ok_or_else(|| FetchError::NoBundle(path.display().to_string()))
            }
        }
    }
}

/// The client for one address; it follows no redirects.
fn client_of(url: &Url) -> Result<Client, FetchError> {
    let builder = Client::builder()
        .redirect(Policy::none())
        // A connection kept open would belong to whichever runtime fetched first.
        .pool_max_idle_per_host(0);
    // What is fetched in the clear comes from this machine: no proxy may see it, and no roots are needed.
    let builder = match url.scheme() {
        "http" => builder.no_proxy().tls_certs_only([]),
        _ => builder,
    };
    builder
        .build()
        .map_err(|error| FetchError::Client(causes(&error)))
}

/// OpenID Connect Discovery 1.0, section 4.
async fn discover(issuer: &Url, client: &Client) -> Result<Url, FetchError> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: Url,
    }
    let url = discovery_of(issuer);
    let document = get(client, &url).await?;
    let Ok(discovery) = serde_json::from_slice::<Discovery>(&document) else {
        return Err(FetchError::NoDiscovery(url));
    };
    if !is_name_of(issuer, &discovery.issuer) {
        return Err(FetchError::OtherIssuer(url));
    }
    // An issuer elsewhere must not lead to what listens on this machine.
    if discovery.jwks_uri.scheme() != issuer.scheme() {
        return Err(FetchError::Untrustworthy(discovery.jwks_uri));
    }
    Ok(discovery.jwks_uri)
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, FetchError> {
    if !is_trustworthy(url) {
        return Err(FetchError::Untrustworthy(url.clone()));
    }
    let silent = |error: reqwest::Error| FetchError::Transport(url.clone(), causes(&error));
    let request = client
        .get(url.clone())
        .header(http::header::ACCEPT, "application/json");
    let mut response = request.send().await.map_err(silent)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(url.clone(), response.status()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(silent)? {
        if document.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLarge(url.clone()));
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document)
}

async fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    let unreadable = |error| FetchError::File(path.to_owned(), error);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut document = Vec::new();
    let mut first = file.take(MAX_BYTES as u64 + 1);
    first.read_to_end(&mut document).await.map_err(unreadable)?;
    if document.len() > MAX_BYTES {
        return Err(FetchError::LargeFile(path.to_owned()));
    }
    Ok(document)
}

/// Where an issuer's discovery document is: any `/` at its end is taken away first.
fn discovery_of(issuer: &Url) -> Url {
    let mut url = issuer.clone();
    let path = issuer.path().trim_end_matches('/');
    url.set_path(&format!("{path}/.well-known/openid-configuration"));
    url
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// An error with its causes, since reqwest's own text leaves out why.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = if text.is_empty() {
            error.to_string()
        } else {
            format!("{text}: {error}")
        };
        cause = error.source();
    }
    if text.is_empty() {
        "unknown".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{discovery_of, is_trustworthy};

    #[track_caller]
    fn check(url: &str, expect: bool) {
        assert_eq!(is_trustworthy(&url.parse().unwrap()), expect, "{url}");
    }

    #[test]
    fn tls_is_trusted() {
        check("https://idp.example/jwks", true);
    }
    #[test]
    fn this_machine_is_trusted() {
        check("http://127.0.0.1:8080/jwks", true);
        check("http://[::1]/jwks", true);
        check("http://localhost/jwks", true);
    }
    #[test]
    fn the_clear_network_is_not() {
        check("http://idp.example/jwks", false);
        check("http://10.0.0.1/jwks", false);
        check("http://localhost.example/jwks", false);
        check("http://127.0.0.1.nip.io/jwks", false);
    }
    #[test]
    fn other_schemes_are_not() {
        check("file:///etc/keys", false);
        check("ftp://127.0.0.1/keys", false);
    }

    #[track_caller]
    fn discovery(issuer: &str, expect: &str) {
        assert_eq!(discovery_of(&issuer.parse().unwrap()).as_str(), expect);
    }

    #[test]
    fn discovery_is_below_the_issuer() {
        discovery(
            "https://a.example",
            "https://a.example/.well-known/openid-configuration",
        );
        discovery(
            "https://a.example/r/x",
            "https://a.example/r/x/.well-known/openid-configuration",
        );
        discovery(
            "https://a.example/r/x/",
            "https://a.example/r/x/.well-known/openid-configuration",
        );
    }
}
