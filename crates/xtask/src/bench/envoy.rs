//! Envoy as a plain proxy, and with task tokens checked by `jwt_authn` and judged by RBAC.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use serde_json::{Value, json};

use super::field::{CallTo, Target};
use super::server::{Server, free_address};
use crate::components;
use crate::house::House;
use crate::process::{Failed, read};

/// What the gateway is to be faster than.
pub(super) const UNCACHED: &str = "envoy + JWT + RBAC";

/// Starts one Envoy with a listener for each way. It is given the task token of the first gateway.
pub(super) fn start(
    house: &House,
    folder: &Path,
    upstream: SocketAddr,
    workers: usize,
    issuer: &Issuer,
) -> Result<Vec<Target>, Failed> {
    let program = components::envoy::fetch(house)?;
    let addresses = [free_address()?, free_address()?, free_address()?];
    let [plain, uncached, cached] = addresses;
    let listeners = [
        listener("plain", plain, vec![]),
        listener(
            "uncached",
            uncached,
            vec![issuer.jwt_authn(None)?, issuer.rbac()],
        ),
        listener(
            "cached",
            cached,
            vec![issuer.jwt_authn(Some(1000))?, issuer.rbac()],
        ),
    ];
    let config =
        json!({ "static_resources": { "listeners": listeners, "clusters": [cluster(upstream)] } });
    let path = folder.join("envoy.json");
    fs::write(&path, config.to_string()).map_err(Failed::file(&path))?;
    let mut command = Command::new(program);
    command.args([
        "--log-level",
        "error",
        "--disable-hot-restart",
        "--concurrency",
    ]);
    command
        .arg(workers.to_string())
        .arg("--config-path")
        .arg(&path);
    let server = Server::start(&mut command, &folder.join("envoy.log"), plain)?;
    let server = Rc::new(server);
    let named = [(UNCACHED, uncached), ("envoy + cached JWT", cached)];
    let named = [("envoy plain", plain)].into_iter().chain(named);
    let targets = named.map(|(name, address)| Target {
        name,
        call: CallTo {
            address,
            path: "/mcp",
            token: issuer.token.clone(),
        },
        server: Rc::clone(&server),
    });
    Ok(targets.collect())
}

/// Who signed the token: a gateway.
pub(super) struct Issuer {
    pub(super) token: String,
    /// Where its keys are.
    pub(super) jwks: String,
}

impl Issuer {
    fn jwt_authn(&self, cached: Option<u32>) -> Result<Value, Failed> {
        let jwks = read(Command::new("curl").args(["--silent", "--fail", &self.jwks]))?;
        let keys: Value = serde_json::from_str(&jwks)
            .map_err(|error| Failed::Lacks(format!("key set of the gateway: {error}")))?;
        // Without a name of its own, a gateway's issuer is named by its key.
        let key_id = keys
            .pointer("/keys/0/kid")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let issuer = format!("urn:remit:{key_id}");
        let mut provider = json!({
            "issuer": issuer,
            "audiences": [issuer],
            "forward": false,
            "payload_in_metadata": "jwt",
            "local_jwks": { "inline_string": jwks },
        });
        if let (Some(cached), Some(provider)) = (cached, provider.as_object_mut()) {
            provider.insert(
                "jwt_cache_config".to_owned(),
                json!({ "jwt_cache_size": cached }),
            );
        }
        Ok(filter(
            "jwt_authn",
            "jwt_authn.v3.JwtAuthentication",
            &json!({
                "providers": { "gateway": provider },
                "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "gateway" } }],
            }),
        ))
    }

    #[expect(clippy::unused_self, reason = "it judges what `jwt_authn` checked")]
    fn rbac(&self) -> Value {
        let post = json!({ "header": { "name": ":method", "string_match": { "exact": "POST" } } });
        let path = json!({ "url_path": { "path": { "prefix": "/mcp" } } });
        let agent = json!({ "metadata": {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{ "key": "jwt" }, { "key": "client_id" }],
            "value": { "string_match": { "exact": "bench" } },
        } });
        filter(
            "rbac",
            "rbac.v3.RBAC",
            &json!({ "rules": { "action": "ALLOW", "policies": { "agents": {
            "permissions": [{ "and_rules": { "rules": [post, path] } }],
            "principals": [agent],
        } } } }),
        )
    }
}

fn filter(name: &str, kind: &str, config: &Value) -> Value {
    let mut typed =
        json!({ "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}") });
    if let (Some(typed), Some(config)) = (typed.as_object_mut(), config.as_object()) {
        typed.extend(config.clone());
    }
    json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": typed })
}

fn listener(name: &str, address: SocketAddr, mut filters: Vec<Value>) -> Value {
    filters.push(filter("router", "router.v3.Router", &json!({})));
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "up" } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
        "http_filters": filters,
    });
    let manager =
        json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    json!({
        "name": name,
        "address": socket(address),
        "filter_chains": [{ "filters": [manager] }],
    })
}

fn cluster(upstream: SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": socket(upstream) } });
    json!({
        "name": "up",
        "type": "STATIC",
        "connect_timeout": "3s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000,
        }] },
        "load_assignment": {
            "cluster_name": "up",
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
