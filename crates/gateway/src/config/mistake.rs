//! What is wrong with a config: every mistake at once, each with its place.

use std::fmt;
use std::path::{Path, PathBuf};

use credentials::VaultLink;
use serde::Serialize;

/// Everything that is wrong with a config, in the order of the file.
#[derive(Clone, Debug, thiserror::Error, Serialize)]
#[serde(transparent)]
#[error("{}", .0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<Mistake>);

/// One thing that is wrong. It never repeats a value that might be a secret.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Mistake {
    /// Stable, snake case.
    pub code: &'static str,
    /// The file, as it was named.
    pub file: String,
    /// The keys down to it, such as `tools.github.upstream`; empty for the whole file.
    pub path: String,
    /// From 1; 0 if it has no line.
    pub line: usize,
    /// From 1, in characters; 0 if it has no line.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} [{}]", self.message, self.code)
    }
}

/// A line and a column of the file, both from 1.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Where something stands: its keys and its mark.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) mark: Mark,
}

/// Something that was read, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Collects what is wrong, and what is merely unwise, while a file is read.
#[derive(Debug)]
pub(super) struct Notes {
    file: String,
    folder: PathBuf,
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
    /// What the secrets of a Vault are read from, and who needs it.
    vault: VaultLink,
    vault_users: Vec<Place>,
}

impl Notes {
    /// Starts a list for a file; relative paths in it start at `folder`.
    pub(super) fn new(file: &str, folder: &Path) -> Self {
        Self {
            file: file.to_owned(),
            folder: folder.to_owned(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
            vault: VaultLink::default(),
            vault_users: Vec::new(),
        }
    }

    /// Notes something wrong.
    pub(super) fn mistake(
        &mut self,
        place: &Place,
        code: &'static str,
        message: impl Into<String>,
    ) {
        let mistake = self.note(place, code, &message.into());
        self.mistakes.push(mistake);
    }

    /// Whether a key of a mapping is there, though wrong; `beside` is another of its keys.
    pub(super) fn is_wrong(&self, key: &str, beside: &Place) -> bool {
        let (mapping, _) = beside.path.rsplit_once('.').unwrap_or_default();
        let path = format!("{mapping}.{key}");
        self.mistakes.iter().any(|mistake| {
            let rest = mistake.path.strip_prefix(&path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Notes something unwise.
    pub(super) fn warning(
        &mut self,
        place: &Place,
        code: &'static str,
        message: impl Into<String>,
    ) {
        let warning = self.note(place, code, &message.into());
        self.warnings.push(warning);
    }

    /// Notes something that is designed, but can't be used yet.
    pub(super) fn not_built(&mut self, place: &Place, what: &str) {
        self.mistake(place, "not_built", format!("{what} is not available yet"));
    }

    /// Notes that something needs the section `vault`. Answers with what its secrets will be read from.
    pub(super) fn needs_vault(&mut self, place: &Place) -> &VaultLink {
        self.vault_users.push(place.clone());
        &self.vault
    }

    /// What they are read from. Without the section, whoever needs it is a mistake.
    pub(super) fn vault(&mut self, there: Option<&Place>) -> VaultLink {
        for place in std::mem::take(&mut self.vault_users) {
            if there.is_none() {
                let message = "which Vault is meant stands in no section `vault`: write its `address` and `login` there";
                self.mistake(&place, "no_vault", message);
            }
        }
        self.vault.clone()
    }

    /// A path as the process finds it: relative ones start at the config's folder.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The value with its warnings if nothing was wrong, else all mistakes in the file's order.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Mistake>), Mistakes> {
        if self.mistakes.is_empty() {
            if let Some(value) = value {
                return Ok((value, self.warnings));
            }
            // Whoever answers `None` notes why; should one have forgotten, doubt denies.
            self.mistake(&Place::default(), "unreadable", "config can't be used");
        }
        self.mistakes
            .sort_by_key(|mistake| (mistake.line, mistake.column));
        Err(Mistakes(self.mistakes))
    }

    fn note(&self, place: &Place, code: &'static str, message: &str) -> Mistake {
        Mistake {
            code,
            file: self.file.clone(),
            path: place.path.clone(),
            line: place.mark.line,
            column: place.mark.column,
            message: printable(message),
        }
    }
}

/// A text that can't steer a terminal.
fn printable(text: &str) -> String {
    let mut printable = String::new();
    for char in text.chars() {
        if char.is_control() {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}
