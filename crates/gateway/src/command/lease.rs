//! `remit lease`: lists leases of upstream credentials.

use std::process::ExitCode;

use clap::Subcommand;
use tasks::TaskId;

use crate::command::outcome::{Failure, Screen};
use crate::command::whereabouts::{Whereabouts, ask};

#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// List leases, newest first. The gateway tells no secrets.
    List {
        /// Only those of one task.
        #[arg(long)]
        task: Option<TaskId>,
        #[command(flatten)]
        gateway: Whereabouts,
    },
}

impl Lease {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let Self::List { task, gateway } = self;
        let leases = ask(gateway.client()?.leases(task.as_ref()))?;
        screen.show(&leases, |screen| {
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
                    lease
                        .expires_at
                        .clone()
                        .unwrap_or_else(|| "with the task".to_owned()),
                    lease.outcome.clone().unwrap_or_default(),
                ]
            }));
            screen.table(&rows)
        })
    }
}
