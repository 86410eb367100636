//! `remit policy shadow|promote|replay`: tries a policy on real calls before it counts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use policy::{Policy, Recorded, Said, ShadowReport};
use serde_json::Value;

use crate::command::outcome::{Failure, Screen};
use crate::command::policy::{broken, read};
use crate::command::whereabouts::{Whereabouts, ask};
use crate::setup::RECORDED;

#[derive(Debug, Subcommand)]
pub(crate) enum Trial {
    /// Tell where the candidate policy differs from the one that counts, on the calls of the running gateway.
    Shadow {
        #[command(flatten)]
        gateway: Whereabouts,
    },
    /// Put the candidate policy in the place of the one that counts. The old one stays beside, in `<folder>.previous`.
    Promote {
        #[command(flatten)]
        gateway: Whereabouts,
    },
    /// Judge recorded calls by a policy, and tell what would change. Exits with 1 if a call would be judged differently.
    Replay {
        /// The folder of Rego and data.
        folder: PathBuf,
        #[command(flatten)]
        recorded: RecordedCalls,
    },
}

/// Where calls are recorded.
#[derive(Args, Debug)]
pub(crate) struct RecordedCalls {
    /// The recorded calls; those of the state folder unless given.
    #[arg(long, value_name = "FILE")]
    calls: Option<PathBuf>,
    #[command(flatten)]
    gateway: Whereabouts,
}

impl RecordedCalls {
    fn read(&self) -> Result<Vec<Recorded>, Failure> {
        let path = match &self.calls {
            Some(path) => path.clone(),
            None => self.gateway.state_dir()?.join(RECORDED),
        };
        Recorded::read(&path).map_err(|error| {
            let text = format!("recorded calls `{}` can't be read: {error}", path.display());
            Failure::new("unreadable", text)
                .hint("`policy: { record: { calls: 1000 } }` in the config keeps calls")
        })
    }

    /// What policy saw of one call.
    pub(crate) fn input(&self, id: &str) -> Result<Value, Failure> {
        let found = self.read()?.into_iter().find(|call| call.id == id);
        found.map(|call| call.input).ok_or_else(|| {
            let failure = Failure::new("unknown_call", format!("no call `{id}` is recorded"));
            failure.hint("name the `Remit-Decision` of its answer; only the last calls are kept")
        })
    }
}

impl Trial {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::Shadow { gateway } => {
                let report = ask(gateway.client()?.shadow())?;
                screen.show(&report, |screen| shadow(&report, screen))?;
            }
            Self::Promote { gateway } => {
                let reloaded = ask(gateway.client()?.promote())?;
                screen.show(&reloaded, |screen| {
                    let done = format!("promoted: policy {} counts now", reloaded.policy_revision);
                    screen.good(&done)
                })?;
            }
            Self::Replay { folder, recorded } => return replay(&folder, &recorded, screen),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn replay(folder: &Path, recorded: &RecordedCalls, screen: &Screen) -> Result<ExitCode, Failure> {
    let calls = recorded.read()?;
    let (policy, _) = Policy::load(read(folder)?).map_err(|findings| broken(&findings, screen))?;
    let report = Arc::new(policy)
        .replay(calls)
        .map_err(|error| Failure::new("replay", error))?;
    screen.show(&report, |screen| differences(&report, screen))?;
    Ok(if report.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn shadow(report: &ShadowReport, screen: &Screen) -> String {
    let mut text = format!(
        "policy     {}, mode {}\n",
        report.policy_revision, report.mode
    );
    match &report.candidate_revision {
        Some(revision) => text.push_str(&format!("candidate  {revision}\n")),
        None if report.mode == "shadow" => {}
        None => {
            text.push_str("candidate  none; name its folder as `policy.candidate` in the config\n");
            return text;
        }
    }
    text.push_str(&differences(report, screen));
    if report.not_judged > 0 {
        let missed = format!(
            "\n{} calls came too fast to be judged twice",
            report.not_judged
        );
        text.push_str(&screen.dim(&missed));
    }
    text
}

fn differences(report: &ShadowReport, screen: &Screen) -> String {
    let (allowed, refused) = report.changes();
    let mut text = format!(
        "{} calls, {} judged alike; {allowed} allowed anew, {refused} refused anew",
        report.calls, report.agreed
    );
    if report.differences.is_empty() {
        return text;
    }
    let heading = [
        "CALLS",
        "TOOL",
        "OPERATION",
        "ACCESS",
        "NOW",
        "THEN",
        "EXAMPLE",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(report.differences.iter().map(|found| {
        vec![
            found.calls.to_string(),
            found.tool.clone(),
            found.operation.clone(),
            found.access.clone(),
            said(&found.enforced),
            said(&found.shadow),
            found.example.clone(),
        ]
    }));
    text.push('\n');
    text.push_str(&screen.table(&rows));
    text
}

fn said(said: &Said) -> String {
    match &said.reason {
        Some(reason) => format!("{} ({reason})", said.verdict),
        None => said.verdict.clone(),
    }
}
