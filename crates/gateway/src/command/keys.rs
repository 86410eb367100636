//! `remit keys`: lists the keys that agents bring.

use std::process::ExitCode;

use clap::Args;

use crate::command::outcome::{Failure, Screen};
use crate::command::whereabouts::{Whereabouts, ask};

/// List the keys that agents brought since the gateway started, those last seen first. They are told by fingerprint; the
/// gateway keeps no key.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Only those that more than one agent brought.
    #[arg(long)]
    reused: bool,
    #[command(flatten)]
    gateway: Whereabouts,
}

impl Keys {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let Self { reused, gateway } = self;
        let (keys, forgotten) = ask(gateway.client()?.keys(reused.then_some(true)))?;
        screen.show(&keys, |screen| {
            if keys.is_empty() {
                return "no keys".to_owned();
            }
            let heading = [
                "FINGERPRINT",
                "KIND",
                "REUSED",
                "AGENTS",
                "TOOLS",
                "PLACES",
                "BECAME",
                "COUNT",
                "FIRST SEEN",
                "LAST SEEN",
            ]
            .map(str::to_owned);
            let mut rows = vec![heading.to_vec()];
            rows.extend(keys.iter().map(|key| {
                vec![
                    key.fingerprint.clone(),
                    key.kind.clone(),
                    if key.reused { "reused" } else { "" }.to_owned(),
                    key.agents.join(", "),
                    key.tools.join(", "),
                    key.places.join(", "),
                    key.actions.join(", "),
                    key.count.to_string(),
                    key.first_seen.clone(),
                    key.last_seen.clone(),
                ]
            }));
            let table = screen.table(&rows);
            if forgotten == 0 {
                return table;
            }
            format!("{table}\n{forgotten} more were seen, and are forgotten")
        })
    }
}
