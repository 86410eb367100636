//! The `remit` command.

use std::process::ExitCode;

use clap::Parser;
use gateway::command::Cli;

/// A call makes some hundreds of small, short-lived values; the system's allocator takes a fifth of a call's time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Backtraces of swallowed policy errors cost more than the policy; panics still have theirs.
    Cli::parse().run()
}
