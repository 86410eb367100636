//! The control API's own server: connections within bounds, until it is told to stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::door::Peer;
use crate::{Control, routes};

/// How many connections are served at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 256;
/// How long a request head may take, which is also how long a connection may idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The longest request head, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;
/// How long requests in flight are waited for at the end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The control API can't be served.
#[derive(Debug, thiserror::Error)]
#[error("control listener can't be used: {0}")]
pub struct ServeError(#[from] std::io::Error);

impl Control {
    /// Answers on this listener until `stop`, then lets requests in flight finish, for 10 s at most.
    ///
    /// Speaks HTTP/1.1 without TLS. Runs on the runtime that awaits it.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = routes::router(Arc::new(self));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let connections = GracefulShutdown::new();
        loop {
            let (stream, peer, place) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            serve_connection(stream, peer, place, router.clone(), &connections);
        }
        drop(listener);
        let finished = tokio::time::timeout(STOP_PATIENCE, connections.shutdown()).await;
        if finished.is_err() {
            tracing::warn!("control requests still in flight were dropped");
        }
        Ok(())
    }
}

/// Waits for a place first, so that a crowd waits outside.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Peer, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there is always a place to wait for.
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, Peer(peer), place),
            Err(error) => {
                // Out of file descriptors, mostly: asking again at once would only burn the processor.
                tracing::warn!(%error, "control connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn serve_connection(
    stream: TcpStream,
    peer: Peer,
    place: Option<OwnedSemaphorePermit>,
    router: Router,
    connections: &GracefulShutdown,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let request: Request = request.map(Body::new);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_header_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "control connection broke off");
        }
        drop(place);
    });
}
