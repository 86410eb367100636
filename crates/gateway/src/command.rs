//! The commands of `remit`, one file each.

mod approval;
mod audit;
mod config;
mod consent;
mod doctor;
mod explain;
mod keys;
mod lease;
mod outcome;
mod policy;
mod policy_bench;
mod policy_bundle;
mod policy_matrix;
mod policy_new;
mod policy_test;
mod policy_trial;
mod revocation;
mod serve;
mod story;
mod task;
mod up;
mod whereabouts;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::command::outcome::{Failure, Screen};

/// What every command has in common.
const AFTER_HELP: &str = "\
Exit codes:
  0  it was done; what was asked about is allowed, whole, right
  1  no: refused, broken, failed; standard error says why and what to do
  2  the command was written wrongly

Environment:
  REMIT_STATE           The state folder
  REMIT_CONTROL         The control address of the gateway that commands speak to
  REMIT_OPERATOR_TOKEN  The operator's token
  REMIT_LOG             What `up` and `serve` log: `info`, `warn,remit::call=info`, …
  NO_COLOR              No colours

Start with `remit up`.";

/// Remit takes the keys away from AI agents: it authorizes each of their calls and brings the credential itself.
#[derive(Debug, Parser)]
#[command(name = "remit", version, propagate_version = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON for machines instead of text for people.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on this machine, with nothing to configure: gateway, example tools, policies.
    Up(up::Up),
    /// Start the gateway with a config.
    Serve(serve::Serve),
    /// Open, show, list and end tasks.
    #[command(subcommand)]
    Task(task::Task),
    /// List, show, grant and refuse approvals of single calls.
    #[command(subcommand)]
    Approval(approval::Approval),
    /// Revoke everything of an agent, issuer, tool or owner, at once.
    #[command(subcommand)]
    Revoke(revocation::Revoke),
    /// List and lift what is revoked.
    #[command(subcommand)]
    Revocation(revocation::Revocation),
    /// List what people consented to, and take it back.
    #[command(subcommand)]
    Consent(consent::Consent),
    /// List, show and revoke leases of upstream credentials.
    #[command(subcommand)]
    Lease(lease::Lease),
    /// List the keys that agents bring, by fingerprint.
    Keys(keys::Keys),
    /// Check, test and evaluate policies.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Say what would be decided for a call, and why. Nothing is sent.
    Explain(explain::Explain),
    /// Verify the audit file.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Check a config, or print its JSON Schema.
    #[command(subcommand)]
    Config(config::Config),
    /// Find out why something does not work, and say what to do.
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the key of an example tool, as the `cmd` provider reads it. `up` calls this.
    #[command(hide = true)]
    ExampleKey {
        /// The file that holds the key.
        file: std::path::PathBuf,
    },
}

impl Cli {
    /// Runs the command. The exit code is 0 for success, 1 for a no, 2 for wrong usage.
    pub fn run(self) -> ExitCode {
        let screen = Screen::new(self.json);
        match self.command.run(&screen) {
            Ok(code) => code,
            Err(failure) => screen.fail(&failure),
        }
    }
}

impl Command {
    fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::Up(up) => up.run(screen),
            Self::Serve(serve) => serve.run(screen),
            Self::Task(task) => task.run(screen),
            Self::Approval(approval) => approval.run(screen),
            Self::Revoke(revoke) => revoke.run(screen),
            Self::Revocation(revocation) => revocation.run(screen),
            Self::Consent(consent) => consent.run(screen),
            Self::Lease(lease) => lease.run(screen),
            Self::Keys(keys) => keys.run(screen),
            Self::Policy(policy) => policy.run(screen),
            Self::Explain(explain) => explain.run(screen),
            Self::Audit(audit) => audit.run(screen),
            Self::Config(config) => config.run(screen),
            Self::Doctor(doctor) => doctor.run(screen),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "remit", &mut script);
                screen.raw(&script)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::ExampleKey { file } => up::print_example_key(&file, screen),
        }
    }
}
