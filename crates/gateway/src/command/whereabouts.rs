//! Where the running gateway is: told by the environment, or by the state folder of `remit up`.

use std::path::{Path, PathBuf};

use control::Client;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::command::outcome::Failure;

/// What `remit up` and `remit serve` print when they are ready, and leave in the state folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where agents call, `http://address:port`.
    pub(crate) calls: String,
    /// Where operators call.
    pub(crate) control: String,
    /// The operator's token; in the state folder it has a file of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) operator_token: String,
    /// Where the keys of task tokens are published.
    pub(crate) jwks: String,
    /// The state folder.
    pub(crate) state_dir: PathBuf,
}

/// The name of the file in the state folder that tells where the gateway is.
pub(crate) const READY: &str = "running.json";
/// The name of the file in the state folder that holds the operator's token.
pub(crate) const OPERATOR_TOKEN: &str = "operator.token";

/// The name of the file in the state folder that holds the token of whoever approves on this machine.
pub(crate) const APPROVER_TOKEN: &str = "approver.token";

/// How a command finds the gateway it speaks to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Whereabouts {
    /// The gateway's control address, such as `http://127.0.0.1:4190`; that of the gateway in the
    /// state folder unless given.
    #[arg(long, env = "REMIT_CONTROL", value_name = "URL")]
    control: Option<Url>,
    /// The operator's token; the one in the state folder unless given. Better in the environment,
    /// where other users don't see it.
    #[arg(
        long,
        env = "REMIT_OPERATOR_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    operator_token: Option<String>,
    /// The state folder of the running gateway; `$XDG_STATE_HOME/remit` unless given.
    #[arg(long, env = "REMIT_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Whereabouts {
    /// The gateway's control API, as the operator.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_as(OPERATOR_TOKEN)
    }

    /// The gateway's control API, as whoever approves: on one's own machine the operator opened the task, and nobody
    /// approves for its own.
    pub(crate) fn client_as_approver(&self) -> Result<Client, Failure> {
        self.client_as(APPROVER_TOKEN)
    }

    fn client_as(&self, token: &str) -> Result<Client, Failure> {
        let base = match &self.control {
            Some(control) => control.clone(),
            None => {
                let ready = self.ready()?;
                ready
                    .control
                    .parse()
                    .map_err(|error| Failure::new("state", error))?
            }
        };
        Ok(Client::new(base, &self.token(token)?)?)
    }

    /// What the running gateway left in its state folder.
    pub(crate) fn ready(&self) -> Result<Ready, Failure> {
        let folder = self.state_dir()?;
        let text = std::fs::read_to_string(folder.join(READY)).map_err(|_| {
            Failure::new(
                "no_gateway",
                format!("no gateway is running in `{}`", folder.display()),
            )
            .hint("start one with `remit up`, say where its state is with `--state DIR`, or set REMIT_CONTROL and REMIT_OPERATOR_TOKEN")
        })?;
        serde_json::from_str(&text).map_err(|error| Failure::new("state", error))
    }

    /// The state folder.
    pub(crate) fn state_dir(&self) -> Result<PathBuf, Failure> {
        self.state.clone().map_or_else(default_state_dir, Ok)
    }

    fn token(&self, file: &str) -> Result<Zeroizing<String>, Failure> {
        if let Some(token) = &self.operator_token {
            return Ok(Zeroizing::new(token.clone()));
        }
        let path = self.state_dir()?.join(file);
        read_token(&path).map_err(|_| {
            Failure::new(
                "no_operator_token",
                format!("no operator token in `{}`", path.display()),
            )
            .hint("set REMIT_OPERATOR_TOKEN")
        })
    }
}

/// Reads a token file, without its line end.
pub(crate) fn read_token(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    Ok(Zeroizing::new(text.trim_end().to_owned()))
}

/// `$XDG_STATE_HOME/remit`, or `~/.local/state/remit`.
pub(crate) fn default_state_dir() -> Result<PathBuf, Failure> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("remit"))
        .ok_or_else(|| {
            Failure::new("no_state_dir", "neither XDG_STATE_HOME nor HOME is set")
                .hint("give `--state DIR`")
        })
}

/// Runs one exchange with the control API.
pub(crate) fn ask<T>(
    asking: impl Future<Output = Result<T, control::ClientError>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(asking)?)
}
