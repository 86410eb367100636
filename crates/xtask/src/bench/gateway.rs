//! The gateway itself, once for each step that is added.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use serde_json::Value;

use super::envoy::Issuer;
use super::field::{CallTo, Target};
use super::server::{Server, lacks};
use crate::house::House;
use crate::process::{Failed, read};

/// All steps of the way, no output.
pub(super) const INJECTION: &str = "remit + injection";
/// All steps and every output.
pub(super) const EVERYTHING: &str = "remit + OTLP, all on";

/// What a gateway does.
struct Step {
    name: &'static str,
    policy: Rego,
    injects: Injects,
    outputs: Outputs,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Rego {
    OneLine,
    SixtyLines,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Injects {
    Nothing,
    Secret,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Outputs {
    None,
    LogAndAudit,
    All,
}

/// Each adds to the one before.
const STEPS: [Step; 5] = [
    Step {
        name: "remit: task token",
        policy: Rego::OneLine,
        injects: Injects::Nothing,
        outputs: Outputs::None,
    },
    Step {
        name: "remit + 60 lines Rego",
        policy: Rego::SixtyLines,
        injects: Injects::Nothing,
        outputs: Outputs::None,
    },
    Step {
        name: INJECTION,
        policy: Rego::SixtyLines,
        injects: Injects::Secret,
        outputs: Outputs::None,
    },
    Step {
        name: "remit + log and audit",
        policy: Rego::SixtyLines,
        injects: Injects::Secret,
        outputs: Outputs::LogAndAudit,
    },
    Step {
        name: EVERYTHING,
        policy: Rego::SixtyLines,
        injects: Injects::Secret,
        outputs: Outputs::All,
    },
];

/// Starts one gateway for each step; the first is also who signs the tokens that Envoy is given.
pub(super) fn start(
    house: &House,
    folder: &Path,
    upstream: SocketAddr,
    workers: usize,
) -> Result<(Vec<Target>, Issuer), Failed> {
    let mut targets = Vec::new();
    let mut issuer = None;
    for (number, step) in STEPS.iter().enumerate() {
        let own = folder.join(format!("remit-{number}"));
        let (target, jwks) = step.start(house, &own, upstream, workers)?;
        let token = target.call.token.clone();
        issuer.get_or_insert(Issuer { token, jwks });
        targets.push(target);
    }
    let issuer = issuer.ok_or_else(|| Failed::Lacks("there are no steps".to_owned()))?;
    Ok((targets, issuer))
}

impl Step {
    fn start(
        &self,
        house: &House,
        folder: &Path,
        upstream: SocketAddr,
        workers: usize,
    ) -> Result<(Target, String), Failed> {
        let config = self.write(house, folder, upstream)?;
        let program = house.root().join("target/release/remit");
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--state")
            .arg(folder.join("state"));
        command.args([
            "--json",
            "--calls",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
        ]);
        command.env("TOKIO_WORKER_THREADS", workers.to_string());
        command.env(
            "REMIT_LOG",
            if self.outputs == Outputs::None {
                "error"
            } else {
                "info"
            },
        );
        let errors = folder.join("errors");
        let mut server = Server::spawn(command.stdout(Stdio::piped()), &errors)?;
        let mut line = String::new();
        if let Some(out) = server.child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .map_err(Failed::file(&errors))?;
        }
        let ready: Value = serde_json::from_str(&line).map_err(|_| lacks(&command, &errors))?;
        let call = CallTo {
            address: address(&ready)?,
            path: "/tickets",
            token: token(&program, &ready)?,
        };
        let target = Target {
            name: self.name,
            call,
            server: Rc::new(server),
        };
        Ok((target, text(&ready, "jwks")?.to_owned()))
    }

    /// Writes config, policy and secret.
    fn write(&self, house: &House, folder: &Path, upstream: SocketAddr) -> Result<PathBuf, Failed> {
        let policy = folder.join("policy");
        fs::create_dir_all(&policy).map_err(Failed::file(&policy))?;
        let text = match self.policy {
            Rego::OneLine => "package remit.tools.tickets\n\nallow := true\n".to_owned(),
            Rego::SixtyLines => {
                let path = house.root().join("benches/policy/tickets.rego");
                fs::read_to_string(&path).map_err(Failed::file(&path))?
            }
        };
        write(&policy.join("tickets.rego"), &text)?;
        // A secret that others may read is not taken.
        let secret = folder.join("secret");
        write(&secret, "the-upstream-s-own-key")?;
        fs::set_permissions(&secret, Permissions::from_mode(0o600))
            .map_err(Failed::file(&secret))?;
        let shown = folder.display();
        let credentials = match self.injects {
            Injects::Nothing => String::new(),
            Injects::Secret => format!(
                "    credentials:\n      write: {{ provider: static, secret: \"file:{shown}/secret\", bridge_until: 9999-12-31 }}\n"
            ),
        };
        let audit = format!("audit: {{ path: {shown}/audit.jsonl }}\n");
        let outputs = match self.outputs {
            Outputs::None => String::new(),
            Outputs::LogAndAudit => audit,
            Outputs::All => format!("{audit}telemetry: {{ otlp: http://{upstream} }}\n"),
        };
        let text = format!(
            "listen: {{ calls: 127.0.0.1:0, control: 127.0.0.1:0 }}
tasks: {{ store: \"embedded:{shown}/store\" }}
tools:
  tickets:
    upstream: http://{upstream}/mcp
    protocol: mcp
    environment: prod
    access: {{ read: [find_ticket], write: [update_ticket] }}
{credentials}policy: {{ path: {shown}/policy }}
{outputs}"
        );
        let config = folder.join("remit.yaml");
        write(&config, &text)?;
        Ok(config)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failed> {
    fs::write(path, text).map_err(Failed::file(path))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Failed> {
    let text = value.get(key).and_then(Value::as_str);
    text.ok_or_else(|| Failed::Lacks(format!("`remit` did not say its `{key}`")))
}

fn address(ready: &Value) -> Result<SocketAddr, Failed> {
    let url = text(ready, "calls")?;
    let address = url.trim_start_matches("http://").parse();
    address.map_err(|_| Failed::Lacks(format!("`{url}` is not an address")))
}

/// Opens a task and returns its token.
fn token(program: &Path, ready: &Value) -> Result<String, Failed> {
    let mut open = Command::new(program);
    open.args([
        "task", "open", "--json", "--tool", "tickets", "--access", "write", "--ttl", "1h",
    ])
    .args([
        "--purpose",
        "close OPS-1234",
        "--agent",
        "bench",
        "--owner",
        "alice",
    ])
    .env("REMIT_CONTROL", text(ready, "control")?)
    .env("REMIT_OPERATOR_TOKEN", text(ready, "operator_token")?);
    let opened = read(&mut open)?;
    let opened: Value =
        serde_json::from_str(&opened).map_err(|error| Failed::Lacks(error.to_string()))?;
    Ok(text(&opened, "token")?.to_owned())
}
