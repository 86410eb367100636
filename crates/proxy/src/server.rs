//! Takes connections, tells what they speak, and hands them to the engine.
//!
//! The listener is ours and not pingora's: so a port can be chosen by the system, connections are
//! counted, a preface is waited for no longer than a head, and workers have the deep stacks that
//! policy needs.

use std::any::Any;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use identity::ClientTrust;
use pingora_core::listeners::TlsAccept;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::tls::TlsRef;
use pingora_core::protocols::tls::server::handshake_with_callback;
use pingora_core::protocols::{GetSocketDigest, SocketDigest, Stream, l4};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Way;
use crate::engine::{Begins, Engine};

/// How an HTTP/2 connection begins (RFC 9113, section 3.4). No HTTP/1 request begins so.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait before looking again for the rest of a preface that came in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);
/// How long to wait after the system could not give a connection (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection that has brought nothing yet is waited for when the server stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The bounds of the data path.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the system's queue. 10,240 unless configured.
    pub connections: usize,
    /// For a connection to bring a whole head, idle time included. 60 s unless configured.
    pub idle: Duration,
    /// For a body that is read before the decision. 60 s unless configured.
    pub body: Duration,
    /// For an agent to take what is written to it. 60 s unless configured.
    pub write: Duration,
    /// Bytes of bodies that may wait for a decision, over all calls. 256 MiB unless configured.
    pub buffered: usize,
    /// How long calls in flight may take to finish when the gateway stops. 30 s unless configured.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_240,
            idle: Duration::from_secs(60),
            body: Duration::from_secs(60),
            write: Duration::from_secs(60),
            buffered: 256 * 1024 * 1024,
            drain: Duration::from_secs(30),
        }
    }
}

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// What it shows of itself, and whose certificates get past the handshake.
    pub config: rustls::ServerConfig,
    /// Whose these are, if clients are asked for one.
    pub clients: Option<Arc<ClientTrust>>,
}

/// One listener of the data path.
pub struct Server {
    way: Arc<Way>,
    engine: Arc<Engine>,
    tls: Option<Acceptor>,
    clients: Option<Arc<ClientTrust>>,
    connections: Arc<Semaphore>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a server of the way; with TLS, ALPN chooses between HTTP/2 and HTTP/1.1.
    pub fn new(way: &Arc<Way>, tls: Option<ServerTls>) -> Self {
        let clients = tls.as_ref().and_then(|tls| tls.clients.clone());
        let tls = tls.map(|ServerTls { mut config, .. }| {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Acceptor::from_server_config(Arc::new(config))
        });
        Self {
            way: Arc::clone(way),
            engine: Engine::new(way),
            tls,
            clients,
            connections: Arc::new(Semaphore::new(way.limits.connections)),
        }
    }

    /// Serves a listener until `stop`; then lets calls in flight finish, for as long as the limits say.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let server = Arc::new(self);
        let (stopping, shutdown) = watch::channel(false);
        let open = TaskTracker::new();
        let cut = CancellationToken::new();
        let take = |stream, client, permit| {
            let (server, shutdown, cut) = (Arc::clone(&server), shutdown.clone(), cut.clone());
            open.spawn(async move {
                tokio::select! {
                    () = server.talk(stream, client, shutdown) => {}
                    () = cut.cancelled() => {}
                }
                drop(permit);
            });
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                (stream, client, permit) = server.accept(&listener) => take(stream, client, permit),
            }
        }
        // Who was connected before the listener closes has not been refused.
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, client)) = listener.accept() {
                let stream = stream
                    .set_nonblocking(true)
                    .and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    take(stream, client, None);
                }
            }
        }
        stopping.send_replace(true);
        server.engine.stop().await;
        open.close();
        if timeout(server.way.limits.drain, open.wait()).await.is_err() {
            tracing::warn!(
                open = open.len(),
                "calls were cut: they did not finish in time"
            );
            cut.cancel();
            // What they cost is settled before the store is closed.
            open.wait().await;
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> (
        TcpStream,
        SocketAddr,
        Option<tokio::sync::OwnedSemaphorePermit>,
    ) {
        // The semaphore is never closed, so there always is a permit in the end.
        let permit = Arc::clone(&self.connections).acquire_owned().await.ok();
        loop {
            match listener.accept().await {
                Ok((stream, client)) => return (stream, client, permit),
                Err(error) => {
                    tracing::warn!(%error, "connection can't be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Talks on one connection until it closes.
    async fn talk(&self, stream: TcpStream, client: SocketAddr, shutdown: watch::Receiver<bool>) {
        // Only latency suffers where it can't be set.
        stream.set_nodelay(true).ok();
        let opened = tokio::select! {
            opened = timeout(self.way.limits.idle, self.open(stream, client)) => opened,
            () = stopped(shutdown.clone()) => return,
        };
        if let Ok(Some((stream, begins))) = opened {
            self.engine.talk(stream, begins, &shutdown).await;
        }
    }

    /// Learns what a connection speaks.
    async fn open(&self, stream: TcpStream, client: SocketAddr) -> Option<(Stream, Begins)> {
        if let Some(acceptor) = &self.tls {
            let stream = with_client(stream, client);
            let reader = CertificateReader {
                clients: self.clients.as_deref(),
                failed: AtomicBool::new(false),
            };
            // Boxed: it takes 7 KiB, which every connection would hold as long as it lasts.
            let handshake = Box::pin(handshake_with_callback(acceptor, stream, &reader));
            let stream = handshake.await.ok()?;
            // A certificate that nobody could check a token against is none to go on with.
            let is_readable = !reader.failed.load(Ordering::Relaxed);
            return is_readable.then(|| (Box::new(stream) as Stream, Begins::Otherwise));
        }
        let begins = if begins_http2(&stream).await {
            Begins::WithPreface
        } else {
            Begins::Otherwise
        };
        Some((Box::new(with_client(stream, client)), begins))
    }
}

/// Keeps the client's certificate where its calls find it.
struct CertificateReader<'s> {
    clients: Option<&'s ClientTrust>,
    failed: AtomicBool,
}

#[async_trait]
impl TlsAccept for CertificateReader<'_> {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Extension> {
        let chain = tls.peer_cert_chain_der()?;
        match self.clients?.read(chain) {
            Ok(certificate) => Some(Arc::new(Arc::new(certificate))),
            Err(error) => {
                tracing::warn!(%error, "connection is refused");
                self.failed.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}

/// What pingora keeps beside a TLS connection.
type Extension = Arc<dyn Any + Send + Sync>;

/// Waits until the server stops, and then for what was on its way to it.
pub(crate) async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // A server that is gone has stopped.
    shutdown.wait_for(|stopping| *stopping).await.ok();
    sleep(LAST_WORDS).await;
}

/// Whether the whole preface of HTTP/2 is there. A connection that sends nothing is waited for.
async fn begins_http2(stream: &TcpStream) -> bool {
    let mut begin = [0; PREFACE.len()];
    loop {
        let Ok(length) = stream.peek(&mut begin).await else {
            return false;
        };
        let seen = begin.get(..length).unwrap_or_default();
        if length == 0 || !PREFACE.starts_with(seen) {
            return false;
        }
        if length == PREFACE.len() {
            return true;
        }
        sleep(PREFACE_PAUSE).await;
    }
}

fn with_client(stream: TcpStream, client: SocketAddr) -> l4::stream::Stream {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // The cell is new, so it is empty.
    digest.peer_addr.set(Some(client.into())).ok();
    let mut stream = l4::stream::Stream::from(stream);
    stream.set_socket_digest(digest);
    stream
}
