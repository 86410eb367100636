//! The wrapper that surrounds each call once.
//!
//! It closes the record when the call is over, however it ends, and cuts the call when its task ends.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use telemetry::Ending;
use tokio::time::sleep;

use crate::Way;
use crate::exchange::{Exchange, Told};
use crate::line::{Line, Turn};
use crate::phases::{EXCHANGE, Phases};
use crate::server::stopped;

/// One try and one more: another address, or a fresh connection in place of a stale one.
const TRIES: usize = 2;

/// How a connection begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Begins {
    /// With the preface of HTTP/2 in plain text.
    WithPreface,
    /// With what ALPN chose, or HTTP/1.
    Otherwise,
}

/// Talks on the connections of one listener, over one proxy and its pools of upstream connections.
pub(crate) struct Engine {
    way: Arc<Way>,
    proxy: Arc<HttpProxy<Phases>>,
}

impl Engine {
    pub(crate) fn new(way: &Arc<Way>) -> Arc<Self> {
        let conf = Arc::new(ServerConf {
            max_retries: TRIES,
            ..ServerConf::default()
        });
        let phases = Phases {
            way: Arc::clone(way),
        };
        let mut proxy = http_proxy(&conf, phases);
        // Not to be followed: so that it is refused like any other method that is not forwarded.
        let mut options = HttpServerOptions::default();
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        Arc::new(Self {
            way: Arc::clone(way),
            proxy: Arc::new(proxy),
        })
    }

    /// Talks on one connection until it closes, or was silent for too long.
    pub(crate) async fn talk(
        self: &Arc<Self>,
        stream: Stream,
        begins: Begins,
        shutdown: &ShutdownWatch,
    ) {
        let mut options = HttpServerOptions::default();
        options.h2c = begins == Begins::WithPreface;
        options.h2_idle_timeout = Some(self.way.limits.idle);
        let turn = Turn::new(&stream);
        let is_http2 = options.h2c || stream.selected_alpn_proto() == Some(ALPN::H2);
        let stream = if is_http2 {
            stream
        } else {
            Box::new(Line::new(stream, Arc::clone(&turn)))
        };
        let connection = Arc::new(Connection {
            engine: Arc::clone(self),
            options,
            turn,
            begun: AtomicBool::new(false),
        });
        tokio::select! {
            _ = connection.process_new(stream, shutdown) => {}
            () = connection.stays_silent(shutdown.clone()) => {}
        }
    }

    /// Tells idle connections that the server stops.
    pub(crate) async fn stop(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// One connection of an agent.
struct Connection {
    engine: Arc<Engine>,
    options: HttpServerOptions,
    turn: Arc<Turn>,
    /// Whether it got as far as a first call.
    begun: AtomicBool,
}

impl Connection {
    /// Waits until a connection has been without a call for too long. pingora waits for the preface of HTTP/2 over
    /// TLS without a limit; from the first call on, [`no_head`] and its own limits hold.
    async fn stays_silent(&self, shutdown: ShutdownWatch) {
        tokio::select! {
            () = sleep(self.engine.way.limits.idle) => {}
            () = stopped(shutdown) => {}
        }
        if self.begun.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.begun.store(true, Ordering::Relaxed);
        let (exchange, told) = Exchange::new();
        self.turn.begin(&exchange);
        let way = EXCHANGE.scope(
            Arc::clone(&exchange),
            self.engine.proxy.process_new_http(session, shutdown),
        );
        let (ending, reused) = tokio::select! {
            done = AssertUnwindSafe(way).catch_unwind() => match done {
                Ok(reused) => (None, reused),
                Err(_) => (Some(Ending::Internal), None),
            },
            () = task_ended(told) => (Some(Ending::Cut), None),
            () = exchange.stopped() => (Some(Ending::Cut), None),
            () = no_head(&exchange, self.engine.way.limits.idle) => (None, None),
        };
        self.turn.end();
        let recorder = &self.engine.way.recorder;
        if let Some(audited) = exchange.read_unheard(|record| recorder.decided(record)) {
            // It was refused already, and stands refused; the recorder counts what it lost.
            audited.await.ok();
        }
        if let Some(closed) = exchange.close(ending) {
            recorder.close(closed.record);
        }
        reused
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Waits until the task that the call was bound to ends.
async fn task_ended(told: Told) {
    match told.await {
        Ok(ended) => ended.cancelled_owned().await,
        Err(_) => std::future::pending().await,
    }
}

/// Waits until a connection has been without a whole head for too long.
async fn no_head(exchange: &Exchange, patience: Duration) {
    let mut over = pin!(sleep(patience));
    // Once a head is in, the timer is not asked any more, however often the call is woken.
    poll_fn(|context| {
        if exchange.is_open() {
            return Poll::Pending;
        }
        over.as_mut().poll(context)
    })
    .await;
}
