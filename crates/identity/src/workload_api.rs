//! The SPIFFE Workload API, as far as it gives bundles.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{Stream, StreamExt};
use spiffe::transport::Endpoint;
use spiffe::{JwtBundle, JwtBundleSet, WorkloadApiClient, WorkloadApiError, X509BundleSet};
use tokio::time::timeout;

use crate::Svid;
use crate::key_set::{Bundle, KeySet};
use crate::spiffe_id::TrustDomain;

/// The bundle of one trust domain for one kind of SVID, as a Workload API gives it.
#[derive(Clone, Debug)]
pub(crate) struct Bundles {
    socket: PathBuf,
    domain: TrustDomain,
    svid: Svid,
}

/// Why the Workload API gives nothing any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silent {
    #[error("the Workload API does not answer: {0}")]
    Refused(WorkloadApiError),
    #[error("the Workload API gives no bundles in time")]
    Late,
    #[error("the Workload API has gone")]
    Gone,
    #[error("the Workload API gives a bundle that is none")]
    NoBundle,
}

impl Bundles {
    pub(crate) fn new(socket: &Path, domain: &TrustDomain, svid: Svid) -> Self {
        Self {
            socket: socket.to_owned(),
            domain: domain.clone(),
            svid,
        }
    }

    /// Tells `taken` the keys, and again whenever they change, until the Workload API falls silent. The first have
    /// to come within `patience`.
    pub(crate) async fn follow(&self, patience: Duration, taken: impl Fn(KeySet)) -> Silent {
        match self.svid {
            Svid::Jwt => {
                let opening = async { self.client().await?.stream_jwt_bundles().await };
                tell(opening, patience, |all| self.keys(&all), taken).await
            }
            Svid::X509 => {
                let opening = async { self.client().await?.stream_x509_bundles().await };
                tell(opening, patience, |all| Some(self.authorities(&all)), taken).await
            }
        }
    }

    async fn client(&self) -> Result<WorkloadApiClient, WorkloadApiError> {
        WorkloadApiClient::connect(Endpoint::Unix(self.socket.clone())).await
    }

    /// The keys of the one trust domain. A domain that is not there any more has none: each message of the
    /// Workload API replaces the one before (SPIFFE Workload API, 4.4).
    fn keys(&self, all: &JwtBundleSet) -> Option<KeySet> {
        let mut domains = all.iter();
        let found = domains.find(|(domain, _)| domain.as_str() == self.domain.as_str());
        let document = found.map_or_else(|| document(None), |(_, bundle)| document(Some(bundle)));
        KeySet::read_bundle(&document?, Bundle::OfJwts)
    }

    /// The X.509 authorities of the one trust domain.
    fn authorities(&self, all: &X509BundleSet) -> KeySet {
        let of_domain = all
            .iter()
            .filter(|(domain, _)| domain.as_str() == self.domain.as_str());
        let authorities = of_domain.flat_map(|(_, bundle)| bundle.authorities());
        let mut certificates: Vec<_> = authorities
            .map(|authority| authority.as_bytes().to_vec())
            .collect();
        certificates.sort_unstable();
        KeySet::of_authorities(certificates)
    }
}

/// Tells `taken` what `read` makes of each message.
async fn tell<T, S>(
    opening: impl Future<Output = Result<S, WorkloadApiError>>,
    patience: Duration,
    read: impl Fn(T) -> Option<KeySet>,
    taken: impl Fn(KeySet),
) -> Silent
where
    S: Stream<Item = Result<T, WorkloadApiError>> + Unpin,
{
    let opening = async {
        let mut messages = opening.await?;
        Ok((messages.next().await, messages))
    };
    let (mut next, mut messages) = match timeout(patience, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Silent::Refused(error),
        Err(_) => return Silent::Late,
    };
    loop {
        match next {
            Some(Ok(all)) => match read(all) {
                Some(keys) => taken(keys),
                None => return Silent::NoBundle,
            },
            Some(Err(error)) => return Silent::Refused(error),
            None => return Silent::Gone,
        }
        next = messages.next().await;
    }
}

/// A bundle as a document again. The library has no order of keys, and the same keys are to be the same document.
fn document(bundle: Option<&JwtBundle>) -> Option<Vec<u8>> {
    let authorities = bundle.into_iter().flat_map(JwtBundle::jwt_authorities);
    let mut keys: Vec<_> = authorities
        .map(|authority| (authority.key_id(), authority.jwk_json()))
        .collect();
    keys.sort_unstable();
    let keys = keys.into_iter();
    let keys = keys.map(|(_, key)| serde_json::from_slice::<serde_json::Value>(key));
    let keys = keys.collect::<Result<Vec<_>, _>>().ok()?;
    serde_json::to_vec(&serde_json::json!({ "keys": keys })).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use spiffe::{JwtBundle, JwtBundleSet};

    use super::Bundles;
    use crate::Svid;

    /// What a Workload API gives that has these keys for `example.org`.
    fn all(kids: &[&str]) -> JwtBundleSet {
        let key =
            |kid: &&str| json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": "AA", "y": "AA"});
        let keys: Vec<Value> = kids.iter().map(key).collect();
        let document = json!({ "keys": keys }).to_string();
        let domain = spiffe::TrustDomain::new("example.org").unwrap();
        let mut all = JwtBundleSet::new();
        all.add_bundle(JwtBundle::from_jwt_authorities(domain, document.as_bytes()).unwrap());
        all
    }

    fn bundles(domain: &str) -> Bundles {
        Bundles::new("/s".as_ref(), &domain.parse().unwrap(), Svid::Jwt)
    }

    #[test]
    fn the_same_keys_are_the_same_set() {
        let bundles = bundles("example.org");
        let keys = |kids| bundles.keys(&all(kids)).unwrap();
        for _ in 0..20 {
            assert!(keys(&["a", "b", "c", "d"]).is_same(&keys(&["d", "c", "b", "a"])));
        }
        assert!(!keys(&["a"]).is_same(&keys(&["b"])));
    }
    #[test]
    fn a_trust_domain_that_is_not_given_has_no_keys() {
        let keys = bundles("other.example").keys(&all(&["a"])).unwrap();
        assert_eq!(keys.len(), 0);
    }
}
