//! Everything that is called: one upstream, and what stands before it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use super::server::{Server, free_address};
use super::{Wish, envoy, gateway, nginx};
use crate::house::House;
use crate::process::Failed;

/// What the others are compared to.
pub(super) const BARE: &str = "pingora bare";

/// Something that is called.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) call: CallTo,
    pub(super) server: Rc<Server>,
}

/// Where a call goes, and with which proof.
#[derive(Clone, Debug)]
pub(super) struct CallTo {
    pub(super) address: SocketAddr,
    pub(super) path: &'static str,
    pub(super) token: String,
}

impl CallTo {
    fn upstream(address: SocketAddr) -> Self {
        Self {
            address,
            path: "/mcp",
            token: "none".to_owned(),
        }
    }
}

impl Target {
    pub(super) fn cpu(&self) -> Duration {
        self.server.cpu()
    }

    pub(super) fn rss_kib(&self) -> u64 {
        self.server.rss_kib()
    }
}

/// All targets, running.
pub(super) struct Field {
    pub(super) targets: Vec<Target>,
    /// What could not be had, and why.
    pub(super) missing: Vec<String>,
    /// It outlives what stands before it.
    _upstream: Rc<Server>,
}

impl Field {
    pub(super) fn start(house: &House, folder: &Path, wish: &Wish) -> Result<Self, Failed> {
        let workers = wish.workers();
        let (upstream, address) = nginx::upstream(folder, workers)?;
        let upstream = Rc::new(upstream);
        let mut targets = vec![Target {
            name: "direct",
            call: CallTo::upstream(address),
            server: Rc::clone(&upstream),
        }];
        let (server, proxy) = nginx::proxy(folder, address, workers)?;
        targets.push(Target {
            name: "nginx proxy_pass",
            call: CallTo::upstream(proxy),
            server: Rc::new(server),
        });
        targets.push(bare(house, folder, address, workers)?);
        let (gateways, issuer) = gateway::start(house, folder, address, workers)?;
        let mut missing = Vec::new();
        match envoy::start(house, folder, address, workers, &issuer) {
            Ok(envoys) => targets.extend(envoys),
            Err(failed) => missing.push(format!("envoy: {failed}")),
        }
        targets.extend(gateways);
        targets.retain(|target| {
            let named = |text: &String| target.name.contains(text.as_str());
            wish.only.is_empty() || target.name == BARE || wish.only.iter().any(named)
        });
        Ok(Self {
            targets,
            missing,
            _upstream: upstream,
        })
    }
}

fn bare(
    house: &House,
    folder: &Path,
    upstream: SocketAddr,
    workers: usize,
) -> Result<Target, Failed> {
    let address = free_address()?;
    let program = house.root().join("target/release/examples/bare_proxy");
    let mut command = Command::new(program);
    command.args([
        address.to_string(),
        upstream.to_string(),
        workers.to_string(),
    ]);
    let server = Server::start(&mut command, &folder.join("bare.log"), address)?;
    Ok(Target {
        name: BARE,
        call: CallTo::upstream(address),
        server: Rc::new(server),
    })
}
