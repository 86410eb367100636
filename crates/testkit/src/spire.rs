//! A SPIRE server and its agent, the real ones: a trust domain whose Workload API listens at a socket.
#![expect(clippy::panic, reason = "test support: a failure here fails a test")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::certificates::Certified;
use crate::parts::{PATIENCE, components};

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(200);

/// A SPIRE server and its agent; both are stopped when it is dropped.
#[derive(Debug)]
pub struct Spire {
    folder: tempfile::TempDir,
    running: Vec<Child>,
}

impl Spire {
    /// Starts both for a trust domain, with one workload: whatever runs as this user has `id`.
    pub fn start(trust_domain: &str, id: &str) -> Self {
        let mut spire = Self {
            folder: tempfile::tempdir().unwrap(),
            running: Vec::new(),
        };
        let folder = spire.folder.path().to_owned();
        let path = |name: &str| folder.join(name).display().to_string();
        let port = free_port();
        let memory = "KeyManager \"memory\" { plugin_data {} }";
        let server = format!(
            "server {{ bind_address = \"127.0.0.1\" bind_port = \"{port}\" socket_path = \"{}\"
  trust_domain = \"{trust_domain}\" data_dir = \"{}\" }}
plugins {{
  DataStore \"sql\" {{ plugin_data {{ database_type = \"sqlite3\" connection_string = \"{}\" }} }}
  NodeAttestor \"join_token\" {{ plugin_data {{}} }}
  {memory}
}}
",
            path("server.sock"),
            path("server"),
            path("server.sqlite3"),
        );
        fs::write(spire.path("server.conf"), server).unwrap();
        spire.run("spire-server", &["run", "-config", &path("server.conf")]);
        spire.until_healthy("spire-server", "server.sock");

        let bundle = spire.server(&["bundle", "show"]);
        fs::write(spire.path("bundle.pem"), bundle).unwrap();
        let token = spire.server(&["token", "generate", "-output", "json"]);
        let token: Value = serde_json::from_slice(&token).unwrap();
        let token = token.get("value").and_then(Value::as_str).unwrap();
        let agent = format!(
            "agent {{ data_dir = \"{}\" server_address = \"127.0.0.1\" server_port = \"{port}\"
  socket_path = \"{}\" trust_bundle_path = \"{}\" trust_domain = \"{trust_domain}\" }}
plugins {{
  NodeAttestor \"join_token\" {{ plugin_data {{}} }}
  WorkloadAttestor \"unix\" {{ plugin_data {{}} }}
  {memory}
}}
",
            path("agent"),
            path("agent.sock"),
            path("bundle.pem"),
        );
        fs::write(spire.path("agent.conf"), agent).unwrap();
        let config = path("agent.conf");
        spire.run(
            "spire-agent",
            &["run", "-config", &config, "-joinToken", token],
        );
        spire.until_healthy("spire-agent", "agent.sock");

        let user = Command::new("id").arg("-u").output().unwrap().stdout;
        let user = format!("unix:uid:{}", String::from_utf8(user).unwrap().trim());
        let parent = format!("spiffe://{trust_domain}/spire/agent/join_token/{token}");
        let create = ["entry", "create", "-parentID", &parent, "-spiffeID", id];
        spire.server(&[&create[..], &["-selector", &user]].concat());
        spire
    }

    /// The socket of its Workload API.
    pub fn socket(&self) -> PathBuf {
        self.path("agent.sock")
    }

    /// A JWT-SVID of the workload.
    pub fn jwt_svid(&self, audience: &str) -> String {
        let fetched = self.fetch(&["jwt", "-audience", audience, "-output", "json"]);
        let answers: Value = serde_json::from_slice(&fetched).unwrap();
        let svid = answers.pointer("/0/svids/0/svid").and_then(Value::as_str);
        svid.unwrap().to_owned()
    }

    /// The X.509-SVID of the workload.
    pub fn x509_svid(&self) -> Certified {
        let folder = self.folder.path().display().to_string();
        self.fetch(&["x509", "-write", &folder]);
        let text = |name: &str| fs::read_to_string(self.path(name)).unwrap();
        Certified {
            certificate: text("svid.0.pem"),
            key: text("svid.0.key"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&mut self, program: &str, arguments: &[&str]) {
        let log = File::create(self.path(&format!("{program}.log"))).unwrap();
        let mut command = command(program, arguments);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.running.push(command.spawn().unwrap());
    }

    /// What the server's own command says, which must succeed.
    fn server(&self, arguments: &[&str]) -> Vec<u8> {
        let output = asked("spire-server", arguments, &self.path("server.sock"));
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    #[track_caller]
    fn until_healthy(&self, program: &str, socket: &str) {
        let healthy = || asked(program, &["healthcheck"], &self.path(socket));
        self.until(program, || healthy().status.success().then_some(()));
    }

    /// What the Workload API gives, once the agent has heard of the workload.
    #[track_caller]
    fn fetch(&self, arguments: &[&str]) -> Vec<u8> {
        let arguments = [&["api", "fetch"], arguments].concat();
        self.until("spire-agent", || {
            let output = asked("spire-agent", &arguments, &self.socket());
            output.status.success().then_some(output.stdout)
        })
    }

    #[track_caller]
    fn until<T>(&self, program: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let pauses = PATIENCE.as_millis() / PAUSE.as_millis();
        for _ in 0..pauses {
            if let Some(answer) = ask() {
                return answer;
            }
            thread::sleep(PAUSE);
        }
        let log = fs::read_to_string(self.path(&format!("{program}.log")));
        panic!("{program} is not ready: {}", log.unwrap_or_default());
    }
}

impl Drop for Spire {
    fn drop(&mut self) {
        for child in self.running.iter_mut().rev() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A port that the system chose a moment ago, so that nobody else has it but by great bad luck.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn asked(program: &str, arguments: &[&str], socket: &Path) -> Output {
    let mut command = command(program, arguments);
    command.arg("-socketPath").arg(socket).output().unwrap()
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(components().join("spire/bin").join(program));
    command.args(arguments);
    command
}
