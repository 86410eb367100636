//! Where a tool is, and how a connection to it is made and kept apart from others.
//!
//! **Invariant.** A pooled connection is used again only for the same tool, trust anchors, client
//! certificate and connection-bound credential. pingora's own pool key leaves out the trust anchors
//! and tells client certificates apart by serial number alone, so the key here holds both.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::panic::catch_unwind;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use credentials::{ClientIdentity, Outbound};
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora_core::{BError, Error, ErrorType};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tasks::ToolName;
use tokio::time::Instant;
use url::{Host, Url};

use crate::refusal::Refusal;
use crate::web_socket::WebSockets;

/// How long a name's addresses are used before they are looked up again.
const ADDRESSES_LIVE: Duration = Duration::from_secs(30);
/// LLM APIs close idle connections after some 15 s; a connection that was idle longer is not used again.
const IDLE: Duration = Duration::from_secs(10);
/// Streams on one HTTP/2 connection; pingora's default is one connection per concurrent call.
const STREAMS: usize = 128;

/// Random per process, so that nobody can aim at a pool.
static POOLS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Every tool's upstream.
#[derive(Debug, Default)]
pub struct Upstreams(HashMap<ToolName, Arc<Upstream>>);

impl Upstreams {
    /// Collects them.
    pub fn new(upstreams: impl IntoIterator<Item = (ToolName, Upstream)>) -> Self {
        Self(
            upstreams
                .into_iter()
                .map(|(name, upstream)| (name, Arc::new(upstream)))
                .collect(),
        )
    }

    /// The upstream that a request leaves for.
    pub(crate) fn of(&self, outbound: &Outbound) -> Result<Arc<Upstream>, Refusal> {
        let tool = outbound.tool();
        let found = self.0.get(&tool.name).cloned();
        found.ok_or_else(|| Refusal::Internal(format!("tool `{}` has no upstream", tool.name)))
    }
}

/// Which HTTP is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HttpVersion {
    /// What ALPN chooses over TLS, HTTP/1.1 in plain text.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in plain text by prior knowledge (gRPC).
    Http2,
}

/// What a call goes on to speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Talk {
    /// A request and its answer.
    Http,
    /// A WebSocket, once the answer says so. It begins in HTTP/1.1, on a connection of its own.
    WebSocket,
}

/// What a connection is kept apart from others by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Apart<'a> {
    /// The lease that it belongs to.
    pub(crate) lease: Option<&'a str>,
    /// The certificate of that lease, which is shown on it.
    pub(crate) certificate: Option<&'a ClientIdentity>,
}

/// How long an upstream may be waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To a connection, with TLS; 3 s unless configured.
    pub connect: Duration,
    /// Between two reads of an answer; 60 s unless configured.
    pub read: Duration,
    /// For a write; 30 s unless configured.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            read: Duration::from_secs(60),
            write: Duration::from_secs(30),
        }
    }
}

/// The certificate that the gateway shows to an upstream.
#[derive(Debug)]
pub struct ClientCertificate(Arc<CertKey>, Vec<u8>);

impl ClientCertificate {
    /// Takes a chain, the leaf first, and its PKCS#8, PKCS#1 or SEC1 key.
    pub fn new(
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<Self, Unusable> {
        let leaf = chain.first().ok_or(Unusable::NoCertificate)?.to_vec();
        let provider = rustls::crypto::ring::default_provider();
        rustls::sign::CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider)
            .map_err(|error| Unusable::Certificate(error.to_string()))?;
        let chain: Vec<Vec<u8>> = chain
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect();
        let key = key.secret_der().to_vec();
        let pair = catch_unwind(move || CertKey::new(chain, key));
        let pair =
            pair.map_err(|_| Unusable::Certificate("not an X.509 certificate".to_owned()))?;
        Ok(Self(Arc::new(pair), leaf))
    }
}

/// A certificate that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// The chain is empty.
    #[error("there is no certificate")]
    NoCertificate,
    /// It can't be parsed, or the key is another one's.
    #[error("certificate can't be used: {0}")]
    Certificate(String),
    /// The URL names no host.
    #[error("upstream names no host")]
    NoHost,
}

/// Where a tool is, and how it is connected to.
#[derive(Debug)]
pub struct Upstream {
    host: Host<String>,
    port: u16,
    tls: bool,
    authorities: Option<Arc<[WrappedX509]>>,
    certificate: Option<Arc<CertKey>>,
    version: HttpVersion,
    timeouts: Timeouts,
    pool: u64,
    label: Arc<str>,
    /// What the name stood for, and since when.
    addresses: ArcSwapOption<(Instant, Vec<SocketAddr>)>,
}

impl Upstream {
    /// Takes where a tool is. `authorities` replace the system's trust anchors when there are any.
    pub fn new(
        url: &Url,
        authorities: &[CertificateDer<'static>],
        certificate: Option<ClientCertificate>,
        version: HttpVersion,
        timeouts: Timeouts,
    ) -> Result<Self, Unusable> {
        let host = url.host().ok_or(Unusable::NoHost)?.to_owned();
        let port = url.port_or_known_default().ok_or(Unusable::NoHost)?;
        let leaf = certificate
            .as_ref()
            .map(|certificate| certificate.1.clone());
        let anchors: Vec<&[u8]> = authorities.iter().map(AsRef::as_ref).collect();
        let pool = POOLS.hash_one((url.as_str(), &anchors, leaf));
        Ok(Self {
            label: host.to_string().into(),
            host,
            port,
            tls: url.scheme() == "https",
            authorities: trust(authorities)?,
            certificate: certificate.map(|certificate| certificate.0),
            version,
            timeouts,
            pool,
            addresses: ArcSwapOption::empty(),
        })
    }

    /// Host and port, for telemetry.
    pub(crate) fn name(&self) -> (Arc<str>, u16) {
        (Arc::clone(&self.label), self.port)
    }

    /// How many addresses the name stood for when it was last looked up.
    pub(crate) fn addresses(&self) -> usize {
        self.addresses
            .load()
            .as_ref()
            .map_or(1, |known| known.1.len())
    }

    /// The peer of one try: each further try takes the next address.
    pub(crate) async fn peer(
        &self,
        tries: usize,
        talk: Talk,
        apart: Apart<'_>,
    ) -> Result<HttpPeer, BError> {
        let address = self.address(tries).await?;
        let name = if self.tls {
            self.server_name()
        } else {
            String::new()
        };
        let mut peer = HttpPeer::new(address, self.tls, name);
        peer.client_cert_key = match apart.certificate {
            Some(identity) => Some(cert_key(identity)?),
            None => self.certificate.clone(),
        };
        // No two leases have one id, so that what one of them shows is never shown for another.
        peer.group_key = POOLS.hash_one((self.pool, talk == Talk::WebSocket, apart.lease));
        let options = &mut peer.options;
        options.ca.clone_from(&self.authorities);
        options.alpn = match (self.version, self.tls) {
            (HttpVersion::Http2, _) => ALPN::H2,
            (HttpVersion::Auto, true) => ALPN::H2H1,
            (HttpVersion::Auto, false) | (HttpVersion::Http1, _) => ALPN::H1,
        };
        if talk == Talk::WebSocket {
            options.alpn = ALPN::H1;
            options.custom_l4 = Some(Arc::new(WebSockets(self.timeouts.connect)));
        }
        options.max_h2_streams = STREAMS;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(self.timeouts.read);
        options.write_timeout = Some(self.timeouts.write);
        options.idle_timeout = Some(IDLE);
        Ok(peer)
    }

    /// The name that the upstream's certificate must be for; an address is verified as one.
    fn server_name(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    async fn address(&self, tries: usize) -> Result<SocketAddr, BError> {
        match &self.host {
            Host::Ipv4(address) => Ok(SocketAddr::new(IpAddr::V4(*address), self.port)),
            Host::Ipv6(address) => Ok(SocketAddr::new(IpAddr::V6(*address), self.port)),
            Host::Domain(name) => {
                let known = self.look_up(name).await?;
                let chosen = known.1.get(tries % known.1.len().max(1)).copied();
                chosen.ok_or_else(|| unknown_host("name has no address"))
            }
        }
    }

    async fn look_up(&self, name: &str) -> Result<Arc<(Instant, Vec<SocketAddr>)>, BError> {
        if let Some(known) = self.addresses.load_full()
            && known.0.elapsed() < ADDRESSES_LIVE
        {
            return Ok(known);
        }
        let looking = tokio::net::lookup_host((name, self.port));
        let found = tokio::time::timeout(self.timeouts.connect, looking).await;
        let found = found.map_err(|_| unknown_host("name look-up timed out"))?;
        let mut found: Vec<SocketAddr> = found
            .map_err(|error| unknown_host(&error.to_string()))?
            .collect();
        // Where both are known, the older protocol is the one that is reachable more often.
        found.sort_by_key(SocketAddr::is_ipv6);
        let known = Arc::new((Instant::now(), found));
        self.addresses.store(Some(Arc::clone(&known)));
        Ok(known)
    }
}

/// A certificate in the form that pingora takes; whoever obtained it checked that it is one.
fn cert_key(identity: &ClientIdentity) -> Result<Arc<CertKey>, BError> {
    let chain = identity.chain().iter().map(|one| one.to_vec()).collect();
    let key = identity.key().to_vec();
    let pair = catch_unwind(move || CertKey::new(chain, key));
    pair.map(Arc::new)
        .map_err(|_| Error::explain(ErrorType::InvalidCert, "not an X.509 certificate").into_up())
}

fn unknown_host(why: &str) -> BError {
    Error::explain(ErrorType::ConnectNoRoute, why.to_owned()).into_up()
}

/// Trust anchors in the form that pingora takes, once rustls has taken them too.
fn trust(authorities: &[CertificateDer<'static>]) -> Result<Option<Arc<[WrappedX509]>>, Unusable> {
    if authorities.is_empty() {
        return Ok(None);
    }
    let mut store = RootCertStore::empty();
    let mut wrapped = Vec::with_capacity(authorities.len());
    for authority in authorities {
        store
            .add(authority.clone())
            .map_err(|error| Unusable::Certificate(error.to_string()))?;
        let der = authority.to_vec();
        let one = catch_unwind(move || WrappedX509::new(der, parse_x509));
        wrapped
            .push(one.map_err(|_| Unusable::Certificate("not an X.509 certificate".to_owned()))?);
    }
    Ok(Some(wrapped.into()))
}
