//! Runs a folder of OPA's own cases in both engines, prints a table, and compares with what is expected.

mod expected;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use policy::conformance::{self, Outcome, Verdict};

use crate::house::House;
use expected::Expected;

/// Whose cases are run.
#[derive(Debug, Subcommand)]
pub(crate) enum Wish {
    /// OPA's cases of Rego: folders of YAML files.
    Rego {
        /// Where the folders are.
        #[arg(long, value_name = "DIR")]
        cases: PathBuf,
        /// Take what becomes of the cases for what is expected from now on.
        #[arg(long)]
        bless: bool,
        /// Show every case that OPA answers otherwise, and how the engines differ.
        #[arg(long)]
        verbose: bool,
    },
}

/// What became of the cases of one folder, or of all.
#[derive(Default)]
struct Count {
    cases: usize,
    reference: usize,
    machine: usize,
    inapplicable: usize,
    strict: usize,
    differ: usize,
    refused: usize,
}

/// Runs the cases.
pub(crate) fn run(house: &House, wish: &Wish) -> ExitCode {
    let Wish::Rego {
        cases,
        bless,
        verbose,
    } = wish;
    let path = house.root().join("crates/policy/conformance.txt");
    let done = found(cases, *verbose).and_then(|(found, unrefused)| {
        println!();
        for difference in &unrefused {
            println!("not refused by `policy check`: {difference}");
        }
        if *bless {
            fs::write(&path, found.written())?;
            println!("written to {}", path.display());
            return Ok(unrefused.len());
        }
        let expected = Expected::read(&fs::read_to_string(&path)?);
        let unexpected = found.differences(&expected);
        let unexpected = unexpected.map(|line| println!("unexpected: {line}"));
        Ok(unexpected.count() + unrefused.len())
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            println!(
                "{wrong} findings: no difference may be left that is not refused, and `--bless` takes what is \
                 unexpected for expected"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("{}: {error}", cases.display());
            ExitCode::FAILURE
        }
    }
}

/// Runs all folders, one line of the table each; with the differences that `policy check` does not refuse.
fn found(cases: &Path, verbose: bool) -> io::Result<(Expected, Vec<String>)> {
    let mut found = Expected::default();
    let mut sum = Count::default();
    let mut unrefused = Vec::new();
    println!("{}", Count::heading());
    for folder in sorted(cases)?.into_iter().filter(|path| path.is_dir()) {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut count = Count::default();
        let mut seen = BTreeMap::new();
        for file in sorted(&folder)? {
            let outcomes = conformance::run(&fs::read_to_string(&file)?);
            let outcomes = outcomes
                .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
            for outcome in outcomes {
                count.add(&outcome);
                let times = seen.entry(outcome.note.clone()).or_insert(0_usize);
                *times += 1;
                let line = format!("{}#{times}: {}", outcome.note, shown(&outcome));
                if outcome.difference.is_some() && outcome.refused.is_none() {
                    unrefused.push(line.clone());
                }
                if verbose && (outcome.difference.is_some() || outcome.reference != Verdict::Pass) {
                    println!("    {line}");
                }
                found.add(&name, *times, &outcome);
            }
        }
        println!("{}", count.row(&name));
        sum.merge(&count);
    }
    println!("{}", sum.row("all"));
    if sum.cases == 0 {
        return Err(io::Error::other("there are no cases here"));
    }
    Ok((found, unrefused))
}

fn shown(outcome: &Outcome) -> String {
    let machine = outcome
        .machine
        .map_or_else(|| "-".to_owned(), |machine| machine.to_string());
    let refused = outcome.refused.as_deref().unwrap_or("-");
    let difference = outcome.difference.as_deref().unwrap_or_default();
    format!("{} {machine} {refused} {difference}", outcome.reference)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

impl Count {
    fn add(&mut self, outcome: &Outcome) {
        let is_strict = |verdict| verdict == Verdict::Strict;
        self.merge(&Self {
            cases: 1,
            reference: usize::from(outcome.reference == Verdict::Pass),
            machine: usize::from(outcome.machine == Some(Verdict::Pass)),
            inapplicable: usize::from(outcome.machine.is_none()),
            strict: usize::from(
                is_strict(outcome.reference) || outcome.machine.is_some_and(is_strict),
            ),
            differ: usize::from(outcome.difference.is_some()),
            refused: usize::from(outcome.refused.is_some()),
        });
    }

    fn merge(&mut self, other: &Self) {
        self.cases += other.cases;
        self.reference += other.reference;
        self.machine += other.machine;
        self.inapplicable += other.inapplicable;
        self.strict += other.strict;
        self.differ += other.differ;
        self.refused += other.refused;
    }

    fn heading() -> String {
        let columns = [
            "cases",
            "reference",
            "machine",
            "n/a",
            "strict",
            "refused",
            "differ",
        ];
        let columns = columns.map(|column| format!("{column:>10}"));
        format!("{:40}{}", "folder", columns.concat())
    }

    fn row(&self, name: &str) -> String {
        let columns = [
            self.cases,
            self.reference,
            self.machine,
            self.inapplicable,
            self.strict,
            self.refused,
            self.differ,
        ];
        let columns = columns.map(|column| format!("{column:>10}"));
        format!("{name:40}{}", columns.concat())
    }
}
