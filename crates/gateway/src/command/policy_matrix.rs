//! `remit policy matrix`: what a policy says of its samples, kept as a file, and what a change of rules changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use policy::{Policy, Row, Said, Source};
use serde_json::json;

use crate::command::outcome::{Failure, Screen};
use crate::command::policy::{broken, read};

#[derive(Args, Debug)]
pub(crate) struct PolicyMatrix {
    /// The folder of Rego and data, with `samples/*.json`.
    folder: PathBuf,
    /// Write the table into a file, to be kept beside the policy.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "diff"])]
    write: Option<PathBuf>,
    /// Fail if the table is not what a file says.
    #[arg(long, value_name = "FILE", conflicts_with = "diff")]
    check: Option<PathBuf>,
    /// Tell what another policy, such as the one before the change, says otherwise of the same samples. Exits with 1 if
    /// a call is allowed that was not.
    #[arg(long, value_name = "FOLDER")]
    diff: Option<PathBuf>,
}

impl PolicyMatrix {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let sources = read(&self.folder)?;
        let rows = judged(&load(sources.clone(), screen)?, &sources)?;
        if rows.is_empty() {
            return Err(Failure::new("samples_missing", "the policy has no samples")
                .hint("put inputs into `samples/*.json`; `remit explain --json …` prints the input of a call"));
        }
        if let Some(other) = &self.diff {
            let before = judged(&load(read(other)?, screen)?, &sources)?;
            return differences(&before, &rows, screen);
        }
        let text = table(&rows);
        if let Some(path) = &self.write {
            let written = fs::write(path, &text);
            written.map_err(|error| unusable(path, &error))?;
        }
        if let Some(path) = &self.check {
            let kept = fs::read_to_string(path).map_err(|error| unusable(path, &error))?;
            return compare(&kept, &text, screen);
        }
        screen.show(&json!({ "rows": rows }), |_| text.trim_end().to_owned())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn load(sources: Vec<Source>, screen: &Screen) -> Result<Arc<Policy>, Failure> {
    let loaded = Policy::load(sources).map_err(|findings| broken(&findings, screen));
    loaded.map(|(policy, _)| Arc::new(policy))
}

fn judged(policy: &Arc<Policy>, samples: &[Source]) -> Result<Vec<Row>, Failure> {
    let rows = policy.matrix(samples);
    rows.map_err(|error| Failure::new("matrix", error))
}

/// The table as it is kept: the same text for the same verdicts.
fn table(rows: &[Row]) -> String {
    let heading = ["AGENT", "TOOL", "OPERATION", "ACCESS", "VERDICT", "SAMPLE"];
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.agent.clone(),
            row.tool.clone(),
            row.operation.clone(),
            row.access.clone(),
            said(&row.said),
            row.sample.clone(),
        ]
    }));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn said(said: &Said) -> String {
    match &said.reason {
        Some(reason) => format!("{} ({reason})", said.verdict),
        None => said.verdict.clone(),
    }
}

fn compare(kept: &str, found: &str, screen: &Screen) -> Result<ExitCode, Failure> {
    let missing: Vec<&str> = kept
        .lines()
        .filter(|line| !found.lines().any(|new| new == *line))
        .collect();
    let new: Vec<&str> = found
        .lines()
        .filter(|line| !kept.lines().any(|old| old == *line))
        .collect();
    let same = missing.is_empty() && new.is_empty();
    screen.show(
        &json!({ "same": same, "missing": missing, "new": new }),
        |screen| {
            let mut text = String::new();
            for line in &missing {
                text.push_str(&screen.bad(&format!("- {line}\n")));
            }
            for line in &new {
                text.push_str(&screen.good(&format!("+ {line}\n")));
            }
            if same {
                text.push_str(&screen.good("the same"));
            }
            text
        },
    )?;
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn differences(before: &[Row], after: &[Row], screen: &Screen) -> Result<ExitCode, Failure> {
    let pairs = before.iter().zip(after);
    let changed: Vec<(&Row, &Row)> = pairs.filter(|(old, new)| old.said != new.said).collect();
    let count = |allows: bool| {
        let moved =
            |(old, new): &&(&Row, &Row)| old.said.allows() != allows && new.said.allows() == allows;
        changed.iter().filter(moved).count()
    };
    let (allowed, refused) = (count(true), count(false));
    let told: Vec<_> = changed
        .iter()
        .map(|(old, new)| json!({ "sample": new.sample, "before": old.said, "after": new.said }))
        .collect();
    let told = json!({ "allowed_anew": allowed, "refused_anew": refused, "changed": told });
    screen.show(&told, |screen| {
        let mut text = format!("{allowed} allowed anew, {refused} refused anew");
        if !changed.is_empty() {
            let heading = ["SAMPLE", "BEFORE", "AFTER"].map(str::to_owned);
            let mut rows = vec![heading.to_vec()];
            let row = |(old, new): &(&Row, &Row)| {
                vec![new.sample.clone(), said(&old.said), said(&new.said)]
            };
            rows.extend(changed.iter().map(row));
            text.push('\n');
            text.push_str(&screen.table(&rows));
        }
        text
    })?;
    Ok(if allowed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("unusable", format!("`{}`: {error}", path.display()))
}
