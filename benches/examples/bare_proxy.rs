//! A pingora proxy that does nothing but pass calls on: what the gateway is measured against.
//!
//! `cargo run --release -p benches --example bare_proxy -- LISTEN UPSTREAM THREADS`
#![expect(
    clippy::unwrap_used,
    reason = "a proxy that can't start has nothing to say"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::BError;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// Passes everything to one upstream.
struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>, BError> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        peer.options.idle_timeout = Some(Duration::from_secs(10));
        Ok(Box::new(peer))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, threads] = arguments.as_slice() else {
        return;
    };
    let upstream = upstream.parse().unwrap();
    let conf = ServerConf {
        threads: threads.parse().unwrap(),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let conf = Arc::clone(&server.configuration);
    let mut service = http_proxy_service(&conf, Bare { upstream });
    service.add_tcp(listen);
    server.add_service(service);
    server.run(RunArgs::default());
}
