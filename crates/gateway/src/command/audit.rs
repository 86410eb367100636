//! `remit audit`: verifies the audit file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::command::outcome::{Failure, Screen};

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Verify that nobody edited, cut or reordered the file; say where if somebody did.
    ///
    /// Note the last hash where whoever could rewrite the whole file can't reach it.
    Verify {
        /// The audit file, such as `audit.jsonl` in the state folder of `remit up`.
        file: PathBuf,
    },
}

impl Audit {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let Self::Verify { file } = self;
        match telemetry::verify(&file) {
            Ok(verified) => screen.show(
                &json!({ "whole": true, "lines": verified.lines, "last": verified.last_hash }),
                |screen| {
                    format!(
                        "{} {} lines, last hash {}",
                        screen.good("whole:"),
                        verified.lines,
                        verified.last_hash
                    )
                },
            ),
            Err(broken) if broken.line == 0 => Err(Failure::new(
                "io",
                format!("audit `{}`: {}", file.display(), broken.why),
            )),
            Err(broken) => Err(Failure::new(
                "audit_broken",
                format!("audit `{}`: {broken}", file.display()),
            )
            .hint("keep the file as it is: the lines before this one are proven")),
        }
    }
}
