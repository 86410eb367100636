//! `remit config`: checks a config, or prints its JSON Schema.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::command::outcome::{Failure, Screen, pretty};

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Say every mistake in a config, with line and column.
    Check {
        /// The config.
        #[arg(default_value = "remit.yaml")]
        file: PathBuf,
    },
    /// Print the JSON Schema of a config.
    Schema,
}

impl Config {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        match self {
            Self::Check { file } => check(&file, screen),
            Self::Schema => {
                screen.line(&pretty(&crate::config::schema()))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn check(file: &std::path::Path, screen: &Screen) -> Result<ExitCode, Failure> {
    match crate::config::load(file) {
        Ok(config) => {
            let warnings = &config.warnings;
            screen.show(
                &json!({ "ok": true, "hash": config.hash, "warnings": warnings }),
                |screen| {
                    let mut text: String = warnings
                        .iter()
                        .map(|warning| format!("{warning}\n"))
                        .collect();
                    text.push_str(&format!(
                        "{} {} tools, hash {}",
                        screen.good("ok:"),
                        config.tools.len(),
                        config.hash
                    ));
                    text
                },
            )
        }
        Err(mistakes) => {
            screen.show(&json!({ "ok": false, "mistakes": mistakes }), |_| {
                mistakes.to_string()
            })?;
            Ok(ExitCode::FAILURE)
        }
    }
}
