//! `remit serve`: starts the gateway with a config.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use identity::AgentId;
use serde_json::json;
use telemetry::LogFormat;
use zeroize::Zeroizing;

use crate::command::outcome::{Failure, Screen};
use crate::command::whereabouts::{
    APPROVER_TOKEN, OPERATOR_TOKEN, READY, Ready, default_state_dir, read_token,
};
use crate::config::{self, Config};
use crate::fixed::Fixed;
use crate::ground::{StartError, write_private};
use crate::process;
use crate::running::{self, Listening, Plan};
use crate::setup::OwnTokens;
use crate::state_folder::StateFolder;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The config.
    #[arg(short, long, default_value = "remit.yaml")]
    config: PathBuf,
    /// The state folder; `$XDG_STATE_HOME/remit` unless given.
    #[arg(long, env = "REMIT_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenFlags,
}

/// Listeners on the command line go before those of the config.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ListenFlags {
    /// Where agents call, such as `127.0.0.1:4180`; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) calls: Option<SocketAddr>,
    /// Where operators call, such as `127.0.0.1:4190`; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) control: Option<SocketAddr>,
    /// Log lines as JSON.
    #[arg(long)]
    pub(crate) log_json: bool,
}

impl Serve {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        process::forbid_core_dumps()?;
        process::raise_descriptors()?;
        let folder = self.state.map_or_else(default_state_dir, Ok)?;
        let held = StateFolder::hold(&folder)?;
        serve(&self.config, &held, &self.listen, None, |ready| {
            screen
                .show(ready, |screen| {
                    format!(
                        "{}\n  calls    {}\n  control  {}\n  state    {}",
                        screen.bold("remit is ready"),
                        ready.calls,
                        ready.control,
                        ready.state_dir.display()
                    )
                })
                .map(drop)
        })
    }
}

/// Runs the gateway of a config until it is told to stop. `ready` prints what its caller wants to tell.
pub(crate) fn serve(
    path: &Path,
    held: &StateFolder,
    listen: &ListenFlags,
    default_agent: Option<AgentId>,
    ready: impl FnOnce(&Ready) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let mut config = config::load(path).map_err(|mistakes| {
        Failure::new("config", mistakes).hint("`remit config schema` prints what a config may hold")
    })?;
    let fixed = Fixed::of(&config);
    if let Some(calls) = listen.calls {
        config.listen.calls = vec![calls];
    }
    if let Some(control) = listen.control {
        config.listen.control = control;
    }
    let format = if listen.log_json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    // Writes what waits when it goes, so it stays to the end.
    let _logs = telemetry::init_logs(format).map_err(StartError::from)?;
    let state = held.path();
    let own = own_tokens(&config, state)?;
    let shown_token = own.as_ref().map(|own| own.operator.clone());
    let shown_token = shown_token.unwrap_or_default();
    let ready_file = state.join(READY);
    let plan = Plan {
        config,
        fixed,
        path: path.to_owned(),
        state: state.to_owned(),
        default_agent,
        own,
    };
    let outcome = running::run(plan, |listening| {
        let told = told(listening, &shown_token, state);
        let without_token = Ready {
            operator_token: String::new(),
            ..told.clone()
        };
        write_private(&ready_file, json!(without_token).to_string().as_bytes())?;
        ready(&told)
    });
    // Gone or not, nobody answers there any more.
    fs::remove_file(&ready_file).ok();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The tokens of this machine's operators: whoever can read the state folder. None where the config names operators.
fn own_tokens(config: &Config, state: &Path) -> Result<Option<OwnTokens>, Failure> {
    if !config.control.operators.is_empty() {
        return Ok(None);
    }
    let kept = |file: &str| -> Result<Zeroizing<String>, Failure> {
        let path = state.join(file);
        if !path.exists() {
            write_private(&path, random_token()?.as_bytes())?;
        }
        Ok(read_token(&path)?)
    };
    Ok(Some(OwnTokens {
        operator: kept(OPERATOR_TOKEN)?,
        approver: kept(APPROVER_TOKEN)?,
    }))
}

/// 32 random bytes, in hex.
pub(crate) fn random_token() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    let random = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&random, bytes.as_mut())
        .map_err(|_| Failure::new("random", "the system gives no random bytes"))?;
    Ok(Zeroizing::new(hex::encode(bytes.as_ref())))
}

fn told(listening: &Listening, operator_token: &str, state: &Path) -> Ready {
    let scheme = if listening.tls { "https" } else { "http" };
    let calls = listening
        .calls
        .first()
        .map(|address| format!("{scheme}://{}", reachable(*address)));
    let control = format!("http://{}", reachable(listening.control));
    Ready {
        calls: calls.unwrap_or_default(),
        jwks: format!("{control}/.well-known/jwks.json"),
        control,
        operator_token: operator_token.to_owned(),
        state_dir: state.to_owned(),
    }
}

/// A listener on every address is reached by the loopback one.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        SocketAddr::new(loopback, address.port())
    } else {
        address
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let (code, hint) = match &error {
            StartError::File { .. } => {
                ("state", "check who owns it, or give another `--state DIR`")
            }
            StartError::Held { .. } => ("state_held", "stop it, or give another `--state DIR`"),
            StartError::Store(_) => (
                "store",
                "stop the other gateway, or give another `tasks.store`",
            ),
            StartError::Key(_) | StartError::Secret { .. } => {
                ("secret", "correct what the config names")
            }
            StartError::Telemetry(_) => {
                ("telemetry", "look at `telemetry` and `audit` in the config")
            }
            StartError::Setup(_) => (
                "config",
                "`remit config check` and `remit policy check` say more",
            ),
            StartError::Listen { .. } => (
                "listen",
                "stop what listens there, or choose others with `--calls` and `--control`",
            ),
            StartError::Threads(_) => ("threads", "raise the limits of this user"),
        };
        Self::new(code, error).hint(hint)
    }
}
