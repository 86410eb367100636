//! The `remit` command.

use std::process::ExitCode;

use clap::Parser;
use gateway::command::Cli;

fn main() -> ExitCode {
    // Backtraces of swallowed policy errors cost more than the policy; panics still have theirs.
    Cli::parse().run()
}
