//! A gateway with the tools that a test names, and a certificate authority for both of its sides.

use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use testkit::certificates::Certified;
use testkit::remit::Remit;
use testkit::{Answer, Authority, Upstream};

use crate::caller::{Caller, Wire};

/// Whatever a task covers is allowed: these tests are about what happens to it then.
const POLICY: &str = "package remit.all\n\nallow if input.task.id\n";

/// A gateway and the files it was started with.
pub(crate) struct World {
    pub(crate) remit: Remit,
    pub(crate) authority: Authority,
    pub(crate) tools: Vec<String>,
    witness: Witness,
    _folder: tempfile::TempDir,
}

/// A gateway that is about to be started.
pub(crate) struct Plan {
    authority: Authority,
    folder: tempfile::TempDir,
    tools: Map<String, Value>,
    limits: Value,
    tls: Option<Value>,
    policy: String,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self {
            authority: Authority::new("test"),
            folder: tempfile::tempdir().unwrap(),
            tools: Map::new(),
            limits: json!({}),
            tls: None,
            policy: POLICY.to_owned(),
        }
    }

    /// The authority whose certificates this plan's upstreams have.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A tool; what `more` does not say is that everything is allowed.
    pub(crate) fn tool(mut self, name: &str, upstream: &str, more: Value) -> Self {
        let mut tool = json!({
            "upstream": upstream,
            "access": { "read": ["GET /**"], "write": ["POST /**"] },
        });
        merge(&mut tool, more);
        self.tools.insert(name.to_owned(), tool);
        self
    }

    /// A tool over TLS, its certificate verified against this plan's authority.
    pub(crate) fn tls_tool(self, name: &str, upstream: &str, mut more: Value) -> Self {
        let ca = self.file("ca.pem", &self.authority.pem());
        merge(&mut more, json!({ "ca": ca }));
        self.tool(name, upstream, more)
    }

    /// An upstream over TLS that speaks only these protocols.
    pub(crate) async fn tls_upstream(&self, answer: Answer, alpn: &[&str]) -> Upstream {
        let certified = self.authority.server(&["127.0.0.1"]);
        let mut config = certified.server_config(None);
        config.alpn_protocols = alpn
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Upstream::start_tls(answer, config).await
    }

    pub(crate) fn limits(mut self, limits: Value) -> Self {
        self.limits = limits;
        self
    }

    /// Adds rules to the policy of all tools.
    pub(crate) fn rules(mut self, rules: &str) -> Self {
        self.policy.push_str(rules);
        self
    }

    /// Agents call over TLS.
    pub(crate) fn over_tls(mut self) -> Self {
        let server = self.authority.server(&["127.0.0.1"]);
        self.tls = Some(self.pair("server", &server));
        self
    }

    /// Writes a file beside the config.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes a certificate and its key, and names them as the config does.
    pub(crate) fn pair(&self, name: &str, certified: &Certified) -> Value {
        json!({
            "certificate": self.file(&format!("{name}.crt"), &certified.certificate),
            "key": self.file(&format!("{name}.key"), &certified.key),
        })
    }

    pub(crate) fn start(self) -> World {
        let policy = self.folder.path().join("policy");
        std::fs::create_dir(&policy).unwrap();
        std::fs::write(policy.join("all.rego"), &self.policy).unwrap();
        let mut listen = json!({ "calls": "127.0.0.1:0", "control": "127.0.0.1:0" });
        if let Some(tls) = &self.tls {
            merge(&mut listen, json!({ "tls": tls }));
        }
        let audit = self.folder.path().join("audit.jsonl");
        let names = self.tools.keys().cloned().collect();
        let config = json!({
            "listen": listen,
            "tools": self.tools,
            "limits": self.limits,
            "policy": { "path": policy },
            "audit": { "path": audit },
        });
        // JSON is YAML.
        let path = self.file("remit.yaml", &config.to_string());
        let state = self.folder.path().join("state");
        let remit = Remit::serve(env!("CARGO_BIN_EXE_remit"), &state, &path);
        let witness = Witness {
            log: Arc::clone(&remit.log),
            audit,
        };
        World {
            remit,
            authority: self.authority,
            tools: names,
            witness,
            _folder: self.folder,
        }
    }
}

impl World {
    /// Opens a task that may read and write with every tool; answers with its id and token.
    pub(crate) fn task(&self) -> (String, String) {
        let mut arguments = vec!["--agent", "flow", "--access", "read,write", "--ttl", "50m"];
        for tool in &self.tools {
            arguments.extend(["--tool", tool]);
        }
        self.remit.open_task(&arguments)
    }

    /// A caller with a task of its own.
    pub(crate) async fn caller(&self, wire: Wire) -> Caller {
        let (_, token) = self.task();
        self.caller_with(wire, &token).await
    }

    pub(crate) async fn caller_with(&self, wire: Wire, token: &str) -> Caller {
        Caller::connect(self.remit.calls_address(), wire, &self.authority, token).await
    }

    /// The lines of the audit, so far.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.witness.audit);
        let text = text.unwrap_or_default();
        let whole = text.lines().map(serde_json::from_str);
        whole.filter_map(Result::ok).collect()
    }

    /// A line of `/proc/PID/status` in KiB.
    pub(crate) fn memory(&self, line: &str) -> usize {
        let path = format!("/proc/{}/status", self.remit.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let found = status.lines().find_map(|each| each.strip_prefix(line));
        let found = found.unwrap().trim_start_matches(':').trim();
        found.split(' ').next().unwrap().parse().unwrap()
    }
}

/// Tells what the gateway said, if the test fails.
struct Witness {
    log: Arc<Mutex<String>>,
    audit: PathBuf,
}

impl Drop for Witness {
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the gateway said"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Records are written behind.
            std::thread::sleep(Duration::from_millis(300));
            let audit = std::fs::read_to_string(&self.audit).unwrap_or_default();
            println!("{}\n{audit}", self.log.lock().unwrap());
        }
    }
}

/// Lays one object over another.
fn merge(under: &mut Value, over: Value) {
    let (Value::Object(under), Value::Object(over)) = (under, over) else {
        panic!("objects are merged");
    };
    under.extend(over);
}

/// So far away that a test is over before.
pub(crate) const FAR: Duration = Duration::from_secs(3600);

/// Fails a test that would wait for ever.
#[track_caller]
pub(crate) fn in_time<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    within(Duration::from_secs(60), future)
}

/// A task's end is felt in under a second.
#[track_caller]
pub(crate) fn in_a_second<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    within(Duration::from_secs(1), future)
}

#[track_caller]
fn within<T>(patience: Duration, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let done = tokio::time::timeout(patience, future).await;
        done.unwrap_or_else(|_| panic!("not within {patience:?}: {caller}"))
    }
}
