//! What needs code to run: `cargo xtask test` checks everything, as a fresh machine would, `cargo xtask bench`
//! measures, and `cargo xtask conformance` compares with others' cases.

#![expect(
    clippy::print_stdout,
    reason = "progress on the terminal is what this program is for"
)]

mod bench;
mod components;
mod conformance;
mod house;
mod process;
mod suite;
mod tally;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::house::House;
use crate::suite::Step;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check everything: format, lints, tests, doctests, then the gateway against real parts.
    Test {
        /// Run one step.
        #[arg(long, value_name = "STEP")]
        only: Option<Step>,
    },
    /// Measure the gateway beside nginx, a bare proxy and Envoy, in one run; needs a quiet machine.
    Bench(bench::Wish),
    /// Run others' cases, and compare what becomes of them with what is expected.
    #[command(subcommand)]
    Conformance(conformance::Wish),
}

fn main() -> ExitCode {
    let house = House::here();
    match Cli::parse().command {
        Command::Test { only } => suite::run(&house, only),
        Command::Bench(wish) => bench::run(&house, &wish),
        Command::Conformance(wish) => conformance::run(&house, &wish),
    }
}
