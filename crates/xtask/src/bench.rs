//! `cargo xtask bench`: what the gateway costs beside what it stands next to, on this machine, in one run.
//!
//! Machines differ and are busy, so only ratios mean something: every target is called in every round, one
//! after the other, and ratios are taken within a round. CPU time per request is what noise disturbs least.

mod envoy;
mod field;
mod gateway;
mod load;
mod nginx;
mod pace;
mod report;
mod server;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::components::debian;
use crate::house::House;
use crate::process::{Failed, cargo, run as run_to_end};

use field::{Field, Target};
use load::{Load, Round};
use report::Report;

/// How many connections a gateway is to carry in little memory.
const CROWD: usize = 1_000;

/// What to measure, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Wish {
    /// How often every target is called.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// For how long each time.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Over how many connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Worker threads of each server; as many as there are cores, at most 2, unless given.
    #[arg(long)]
    workers: Option<usize>,
    /// Only targets whose name contains this; may be repeated. `pingora` is what the others are compared to.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Measure what `target/release` holds, without building it anew.
    #[arg(long)]
    as_built: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

impl Wish {
    fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.unwrap_or_else(|| cores.min(2))
    }
}

pub(crate) fn run(house: &House, wish: &Wish) -> ExitCode {
    match measure(house, wish) {
        Ok(report) if wish.json => println!("{}", report.json()),
        Ok(report) => println!("{}", report.table()),
        Err(failed) => {
            println!("FAILED   bench: {failed}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(house: &House, wish: &Wish) -> Result<Report, Failed> {
    debian::fetch()?;
    if !wish.as_built {
        build(house)?;
    }
    let folder = house.root().join("target/bench");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Failed::file(&folder))?;
    }
    fs::create_dir_all(&folder).map_err(Failed::file(&folder))?;
    let field = Field::start(house, &folder, wish)?;
    let mut report = Report::new(wish.workers(), wish.connections, &field);
    let load = Load {
        folder: &folder,
        connections: wish.connections,
        time: Duration::from_secs(wish.seconds),
    };
    for round in 0..=wish.rounds {
        for target in &field.targets {
            let seen = call(target, &load)?;
            // The first round fills caches, pools and heaps.
            if round > 0 {
                report.add(target.name, seen);
            }
        }
    }
    hold_half(&field, &mut report)?;
    crowd(&field, &folder, &mut report)?;
    Ok(report)
}

/// Two commands, so that the gateway is built with no feature that only the benches want.
fn build(house: &House) -> Result<(), Failed> {
    let gateway = ["build", "--release", "--package", "gateway"];
    run_to_end(&mut cargo(house, &gateway))?;
    let bare = [
        "build",
        "--release",
        "--package",
        "benches",
        "--example",
        "bare_proxy",
    ];
    run_to_end(&mut cargo(house, &bare))
}

fn call(target: &Target, load: &Load<'_>) -> Result<Round, Failed> {
    let before = target.cpu();
    let mut seen = load.put_on(&target.call, target.name)?;
    let spent = target.cpu().saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
    let requests = seen.requests.max(1) as f64;
    seen.cpu_us = spent.as_secs_f64() * 1e6 / requests;
    seen.rss_kib = target.rss_kib();
    Ok(seen)
}

/// What a call waits longer for, when all are called at the same fixed pace: half of what the gateway can do.
fn hold_half(field: &Field, report: &mut Report) -> Result<(), Failed> {
    let Some(rate) = report.requests_per_second(gateway::EVERYTHING) else {
        return Ok(());
    };
    let rate = rate / 2.0;
    report.pace = Some(rate);
    let paced = [
        "direct",
        field::BARE,
        gateway::INJECTION,
        gateway::EVERYTHING,
    ];
    for _ in 0..3 {
        for target in field
            .targets
            .iter()
            .filter(|target| paced.contains(&target.name))
        {
            let middle = pace::keep(&target.call, rate, Duration::from_secs(2))?;
            report.add_paced(target.name, middle);
        }
    }
    Ok(())
}

/// Memory while a thousand connections are busy.
fn crowd(field: &Field, folder: &std::path::Path, report: &mut Report) -> Result<(), Failed> {
    let load = Load {
        folder,
        connections: CROWD,
        time: Duration::from_secs(3),
    };
    for target in field
        .targets
        .iter()
        .filter(|target| target.name != "direct")
    {
        let rss = load.watch(&target.call, target.name, || target.rss_kib())?;
        report.add_crowd(target.name, rss);
    }
    Ok(())
}
