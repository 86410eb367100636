//! `remit doctor`: finds out why something does not work, and says what to do.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use control::{BundleStatus, ListenerStatus};
use serde::Serialize;

use crate::command::outcome::{Failure, Screen};
use crate::command::serve::reachable;
use crate::command::whereabouts::{APPROVER_TOKEN, OPERATOR_TOKEN, Whereabouts, ask};

/// How long a listener may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    gateway: Whereabouts,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            ok: true,
            found: found.into(),
            advice: None,
        }
    }

    fn bad(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            what,
            ok: false,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }
}

impl Doctor {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let mut findings = Vec::new();
        findings.extend(self.state());
        findings.extend(self.gateway());
        let healthy = findings.iter().all(|finding| finding.ok);
        screen.show(&findings, |screen| text(screen, &findings))?;
        Ok(if healthy {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn state(&self) -> Vec<Finding> {
        let Ok(folder) = self.gateway.state_dir() else {
            return vec![Finding::bad(
                "state folder",
                "neither XDG_STATE_HOME nor HOME is set",
                "set one, or give `--state DIR`",
            )];
        };
        if !folder.exists() {
            return vec![Finding::good(
                "state folder",
                format!("`{}` is not there yet", folder.display()),
            )];
        }
        vec![
            private("state folder", &folder),
            private("operator token", &folder.join(OPERATOR_TOKEN)),
            private("approver token", &folder.join(APPROVER_TOKEN)),
            private("task key", &folder.join("task.key")),
        ]
    }

    fn gateway(&self) -> Vec<Finding> {
        let client = match self.gateway.client() {
            Ok(client) => client,
            Err(failure) => {
                return vec![Finding::bad(
                    "gateway",
                    failure.to_string(),
                    failure.hint.unwrap_or_default(),
                )];
            }
        };
        let status = match ask(client.status()) {
            Ok(status) => status,
            Err(failure) => {
                return vec![Finding::bad(
                    "gateway",
                    failure.to_string(),
                    failure.hint.unwrap_or_default(),
                )];
            }
        };
        let mut findings = vec![
            Finding::good(
                "gateway",
                format!(
                    "version {}, config revision {}",
                    status.status.version, status.status.revision
                ),
            ),
            Finding::good("policy", format!("revision {}", status.policy_revision)),
        ];
        if let Some(error) = status
            .status
            .last_reload
            .as_ref()
            .and_then(|reload| reload.error.as_ref())
        {
            findings.push(Finding::bad(
                "last reload",
                error.as_str(),
                "correct the file; the running config stays until then",
            ));
        }
        findings.extend(status.status.listeners.iter().map(listens));
        for warning in &status.status.warnings {
            findings.push(Finding::good("warning", warning.as_str()));
        }
        findings.extend(status.bundles.iter().map(bundle));
        for bridge in &status.bridges {
            let found = format!(
                "{} of `{}` takes a static key until {}",
                bridge.access.as_str(),
                bridge.tool,
                bridge.until
            );
            findings.push(if bridge.days_left < 0 {
                Finding::bad(
                    "bridge",
                    found,
                    "its calls are refused: configure a real provider",
                )
            } else {
                Finding::good("bridge", found)
            });
        }
        findings
    }
}

/// How a bundle of the policy is.
fn bundle(bundle: &BundleStatus) -> Finding {
    let counts = match &bundle.active_revision {
        Some(revision) => format!("`{}`, revision `{revision}` counts", bundle.name),
        None => format!("`{}` has not come: every call is refused", bundle.name),
    };
    match &bundle.problem {
        None => Finding::good("bundle", counts),
        Some(problem) => Finding::bad(
            "bundle",
            format!("{counts}; {} ({})", problem.message, problem.code),
            "what counts stays until another one is whole; `GET /v1/status` tells when it was last asked for",
        ),
    }
}

/// Whether a listener can be reached from here.
fn listens(listener: &ListenerStatus) -> Finding {
    let found = format!("{} at {}", listener.name, listener.address);
    let address = listener.address.parse().map(reachable);
    let reached = address
        .map_err(|error| error.to_string())
        .and_then(|address| {
            TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.to_string())
        });
    match reached {
        Ok(_) => Finding::good("listener", found),
        Err(error) => Finding::bad(
            "listener",
            format!("{found}: {error}"),
            "it can't be reached from this machine: look at firewalls and at `limits.connections`",
        ),
    }
}

/// Whether nobody but its owner can read it.
fn private(what: &'static str, path: &Path) -> Finding {
    match std::fs::metadata(path) {
        Err(error) => Finding::good(what, format!("`{}`: {error}", path.display())),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            let found = format!("`{}` has mode {mode:o}", path.display());
            if mode & 0o077 == 0 {
                Finding::good(what, found)
            } else {
                Finding::bad(what, found, format!("chmod go= {}", path.display()))
            }
        }
    }
}

fn text(screen: &Screen, findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding {
        what,
        ok,
        found,
        advice,
    } in findings
    {
        let mark = if *ok {
            screen.good("ok")
        } else {
            screen.bad("no")
        };
        text.push_str(&format!("{mark}  {what}: {found}\n"));
        if let Some(advice) = advice {
            text.push_str(&format!("    {advice}\n"));
        }
    }
    text
}
