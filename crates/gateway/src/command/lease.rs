//! `remit lease`: lists, shows and revokes leases of upstream credentials.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use control::LeaseFilter;
use credentials::{LeaseDetail, LeaseView};
use serde_json::Value;
use tasks::TaskId;

use crate::command::outcome::{Failure, Screen};
use crate::command::whereabouts::{Whereabouts, ask};

#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// List leases, newest first. The gateway tells no secrets.
    List(List),
    /// Show one, with everything that is known of it but its secret.
    Show(One),
    /// Take one back at its upstream, or try to once more. The next call that needs one gets another.
    Revoke(One),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of one task.
    #[arg(long)]
    task: Option<TaskId>,
    /// Only those for one tool.
    #[arg(long)]
    tool: Option<String>,
    /// Only those of one agent.
    #[arg(long)]
    agent: Option<String>,
    /// Only those in this state.
    #[arg(long, value_enum)]
    only: Option<State>,
    /// Only those that nobody could take back: look after their secrets upstream.
    #[arg(long, conflicts_with = "only")]
    orphans: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The lease's id.
    id: String,
    #[command(flatten)]
    gateway: Whereabouts,
}

/// The states, as words of the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// In use.
    Active,
    /// Could not be taken back yet, is tried again.
    Ending,
    /// Could not be taken back, is not tried again.
    Orphaned,
    /// Over.
    Ended,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ending => "ending",
            Self::Orphaned => "orphaned",
            Self::Ended => "ended",
        }
    }
}

impl Lease {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::List(list) => {
                let state = if list.orphans {
                    Some(State::Orphaned)
                } else {
                    list.only
                };
                let wanted = LeaseFilter {
                    task: list.task,
                    tool: list.tool,
                    agent: list.agent,
                    state: state.map(State::as_str),
                };
                let leases = ask(list.gateway.client()?.leases(&wanted))?;
                screen.show(&leases, |screen| table(screen, &leases))
            }
            Self::Show(one) => {
                let lease = ask(one.gateway.client()?.lease(&one.id))?;
                screen.show(&lease, |screen| text(screen, &lease))
            }
            Self::Revoke(one) => {
                let lease = ask(one.gateway.client()?.revoke_lease(&one.id))?;
                screen.show(&lease, |screen| text(screen, &lease))
            }
        }
    }
}

fn table(screen: &Screen, leases: &[LeaseView]) -> String {
    if leases.is_empty() {
        return "no leases".to_owned();
    }
    let heading = [
        "ID", "STATE", "TOOL", "ACCESS", "PROVIDER", "TASK", "EXPIRES", "OUTCOME",
    ]
    .map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    rows.extend(leases.iter().map(|lease| {
        vec![
            lease.id.clone(),
            lease.state.clone(),
            lease.tool.to_string(),
            lease.access.as_str().to_owned(),
            lease.provider.clone(),
            lease.task.to_string(),
            expiry(lease),
            lease.outcome.clone().unwrap_or_default(),
        ]
    }));
    screen.table(&rows)
}

fn expiry(lease: &LeaseView) -> String {
    let expires_at = lease.expires_at.clone();
    expires_at.unwrap_or_else(|| "with the task".to_owned())
}

/// What there is to say, one line each.
fn text(screen: &Screen, detail: &LeaseDetail) -> String {
    let lease = &detail.lease;
    let context = &detail.context;
    let some = |value: &Option<String>| value.clone().unwrap_or_default();
    let state = match &lease.outcome {
        Some(outcome) => format!("{}, {outcome}", lease.state),
        None => lease.state.clone(),
    };
    let json = |map: &serde_json::Map<String, Value>| {
        if map.is_empty() {
            String::new()
        } else {
            Value::Object(map.clone()).to_string()
        }
    };
    let attempts = match &detail.last_error {
        Some(error) => format!("{} failed, the last one: {error}", detail.attempts),
        None => String::new(),
    };
    let network = context.network.map(|network| network.to_string());
    let lines = [
        ("lease", lease.id.clone()),
        ("state", state),
        ("tool", lease.tool.to_string()),
        ("access", lease.access.as_str().to_owned()),
        ("provider", lease.provider.clone()),
        ("scopes", lease.scopes.join(" ")),
        ("narrowed", json(&detail.narrow)),
        ("agent", lease.agent.clone()),
        ("task", lease.task.to_string()),
        ("decision", lease.decision.clone()),
        ("obtained", lease.obtained_at.clone()),
        ("used until", expiry(lease)),
        ("dies", some(&detail.dies_at)),
        ("owner", context.owner.clone()),
        ("environment", some(&context.environment)),
        ("labels", context.labels.join(" ")),
        ("network", network.unwrap_or_default()),
        ("declared", json(&context.declared)),
        ("attempts", attempts),
        ("ending since", some(&detail.ending_since)),
        ("tried again", some(&detail.next_attempt_at)),
    ];
    let rows = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let rows: Vec<_> = rows
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    screen.table(&rows)
}
