//! What is wrong with a policy, where, and what to write instead.

use regorus::unstable::Span;

/// Something wrong with a policy.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    /// Stable, kebab case.
    pub code: &'static str,
    /// `error` blocks, `warning` doesn't.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// From 1; 0 if unknown.
    pub line: u32,
    /// From 1; 0 if unknown.
    pub column: u32,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Whether a finding blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It blocks.
    Error,
    /// It doesn't.
    Warning,
}

impl Finding {
    /// An error about a whole file.
    pub(crate) fn of_file(
        code: &'static str,
        file: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            message: message.into(),
        }
    }

    /// An error at a place in a file.
    pub(crate) fn at(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self {
            line: span.line,
            column: span.col,
            ..Self::of_file(code, span.source.get_path().as_str(), message)
        }
    }

    /// An error of the engine, whose text names the place as `--> file:line:column`.
    pub(crate) fn of_engine(code: &'static str, file: &str, error: &str) -> Self {
        let place = error
            .split_once("--> ")
            .and_then(|(_, rest)| rest.lines().next());
        let mut parts = place.unwrap_or_default().rsplitn(3, ':');
        let column = parts.next().and_then(|part| part.trim().parse().ok());
        let line = parts.next().and_then(|part| part.trim().parse().ok());
        let named = parts.next();
        // The last line says what is wrong; the others draw the place.
        let message = error
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("can't be understood");
        Self {
            line: line.unwrap_or(0),
            column: column.unwrap_or(0),
            ..Self::of_file(
                code,
                named.unwrap_or(file),
                message.trim_start_matches("error: "),
            )
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            file,
            line,
            column,
            message,
            ..
        } = self;
        write!(f, "{file}:{line}:{column}: {message} ({code})")
    }
}
