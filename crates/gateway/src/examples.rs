//! The two example tools of `remit up`: real upstreams inside the process that demand real keys.

mod desk;
mod notes;

use std::future::Future;

use axum::Router;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use desk::{Desk, DeskKey};
pub use notes::{Notes, NotesKeys};

/// Whether the request brings this key as its bearer token. Hashed first, so that the time it takes tells nothing.
fn holds(headers: &HeaderMap, key: &str) -> bool {
    let digest = |text: &[u8]| ring::digest::digest(&ring::digest::SHA256, text);
    let brought = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let brought = brought
        .and_then(|value| value.strip_prefix(b"Bearer "))
        .unwrap_or_default();
    digest(brought).as_ref() == digest(key.as_bytes()).as_ref()
}

/// Serves until `stop`.
fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "example tool stopped");
        }
    }
}
