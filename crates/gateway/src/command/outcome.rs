//! What a command prints: text for people, JSON for machines, and errors that say what to do.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

/// The code of a failure that needs no words: `remit … | head` has read enough.
const NOBODY_READS: &str = "nobody_reads";

/// Where a command prints to, and in which form.
#[derive(Debug)]
pub(crate) struct Screen {
    json: bool,
    colour: bool,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// For scripts.
    pub(crate) code: String,
    /// What happened.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over")]
    pub(crate) fn new(code: &str, message: impl ToString) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_string(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let is_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self::new(if is_pipe { NOBODY_READS } else { "io" }, error)
    }
}

impl From<control::ClientError> for Failure {
    fn from(error: control::ClientError) -> Self {
        match error.problem() {
            Some(problem) => Self::new(&problem.code, words(problem)).hint(problem.hint.clone()),
            None => Self::new("no_gateway", &error)
                .hint("start one with `remit up`, or set REMIT_CONTROL and REMIT_OPERATOR_TOKEN"),
        }
    }
}

/// A problem of the control API, with all that it says.
fn words(problem: &control::Problem) -> String {
    let mut words = problem.detail.clone();
    for more in [problem.reason.as_ref(), problem.cause.as_ref()]
        .into_iter()
        .flatten()
    {
        words.push_str(": ");
        words.push_str(more);
    }
    for mistake in &problem.mistakes {
        words.push_str("\n  ");
        words.push_str(mistake);
    }
    words
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some();
        Self {
            json,
            colour: !plain && io::stdout().is_terminal(),
        }
    }

    /// Prints a value as JSON, or as the text that people read.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&Self) -> String,
    ) -> Result<ExitCode, Failure> {
        if self.json {
            let line = serde_json::to_string(value).map_err(|error| Failure::new("json", error))?;
            self.line(&line)?;
        } else {
            self.line(text(self).trim_end())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints one line.
    #[expect(clippy::unused_self, reason = "whoever prints holds the screen")]
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    /// Prints bytes as they are.
    #[expect(clippy::unused_self, reason = "whoever prints holds the screen")]
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(io::stdout().lock().write_all(bytes)?)
    }

    /// Prints a failure to standard error.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        if failure.code == NOBODY_READS {
            return ExitCode::FAILURE;
        }
        let mut out = io::stderr().lock();
        let text = if self.json {
            json!({ "error": { "code": failure.code, "message": failure.message, "hint": failure.hint } }).to_string()
        } else {
            let hint = failure.hint.as_ref().map(|hint| format!("\n  {hint}"));
            format!("remit: {}{}", failure.message, hint.unwrap_or_default())
        };
        // Where standard error is closed there is nobody to tell.
        writeln!(out, "{text}").ok();
        ExitCode::FAILURE
    }

    /// Bold on a terminal.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Green on a terminal.
    pub(crate) fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Red on a terminal.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Dim on a terminal.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Lines up columns; the first row is the heading.
    pub(crate) fn table(&self, rows: &[Vec<String>]) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (index, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            let line = line.join("  ");
            let line = line.trim_end();
            text.push_str(&if index == 0 {
                self.bold(line)
            } else {
                line.to_owned()
            });
            text.push('\n');
        }
        text
    }
}

/// Pretty JSON for people.
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let screen = Screen {
            json: false,
            colour: false,
        };
        let rows = [
            vec!["ID".to_owned(), "STATE".to_owned()],
            vec!["long-id".to_owned(), "open".to_owned()],
        ];
        assert_eq!(screen.table(&rows), "ID       STATE\nlong-id  open\n");
    }
}
