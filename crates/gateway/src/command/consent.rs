//! `remit consent`: lists what people consented to, and takes it back.

use std::process::ExitCode;

use clap::Subcommand;
use control::WithdrawnConsent;

use crate::command::outcome::{Failure, Screen};
use crate::command::whereabouts::{Whereabouts, ask};

#[derive(Debug, Subcommand)]
pub(crate) enum Consent {
    /// List consents, newest first. The gateway tells no secrets.
    List {
        /// Only those of one owner.
        #[arg(long)]
        owner: Option<String>,
        #[command(flatten)]
        gateway: Whereabouts,
    },
    /// Take a consent back: its leases end, and so does its token at the server.
    Revoke {
        /// The consent's id.
        id: String,
        #[command(flatten)]
        gateway: Whereabouts,
    },
}

impl Consent {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::List { owner, gateway } => {
                let consents = ask(gateway.client()?.consents(owner.as_deref()))?;
                screen.show(&consents, |screen| {
                    if consents.is_empty() {
                        return "no consents".to_owned();
                    }
                    let heading = ["ID", "OWNER", "TOOL", "SERVER", "GIVEN", "SCOPES"];
                    let mut rows = vec![heading.map(str::to_owned).to_vec()];
                    rows.extend(consents.iter().map(|consent| {
                        vec![
                            consent.id.clone(),
                            consent.owner.clone(),
                            consent.tool.to_string(),
                            consent.server.clone(),
                            consent.given_at.clone(),
                            consent.scopes.join(" "),
                        ]
                    }));
                    screen.table(&rows)
                })
            }
            Self::Revoke { id, gateway } => {
                let withdrawn = ask(gateway.client()?.withdraw(&id))?;
                screen.show(&withdrawn, |_| text(&withdrawn))
            }
        }
    }
}

fn text(withdrawn: &WithdrawnConsent) -> String {
    let consent = &withdrawn.revoked.consent;
    let token = if withdrawn.revoked.taken_back {
        "the server took its token back"
    } else {
        "the server did NOT take its token back; it is dropped here"
    };
    format!(
        "{} has taken back the consent to {}: {token}; {} leases have ended",
        consent.owner,
        consent.tool,
        withdrawn.leases.len()
    )
}
