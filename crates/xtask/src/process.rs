//! Programs that are run, and what may go wrong with them.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;

use crate::house::House;
use crate::tally::Tally;

/// Why a step did not succeed.
#[derive(Debug, Error)]
pub(crate) enum Failed {
    #[error("`{program}` can't be run: {source}")]
    Start { program: String, source: io::Error },
    #[error("`{program}` ended with {status}")]
    Status { program: String, status: ExitStatus },
    #[error("`{path}`: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Lacks(String),
}

impl Failed {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// cargo in the house's root, as if it had been called from a shell.
pub(crate) fn cargo(house: &House, arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(house.root());
    // What `cargo run` tells this program about its own package: some build scripts (ring's) look at
    // it, and would be run again each time.
    let own = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for (name, _) in env::vars_os().filter(|(name, _)| own(name)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a command to its end; what it prints is seen.
pub(crate) fn run(command: &mut Command) -> Result<(), Failed> {
    let status = command.status().map_err(start(command))?;
    ended(command, status)
}

/// Runs a command to its end and returns what it printed on standard output.
pub(crate) fn read(command: &mut Command) -> Result<String, Failed> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(start(command))?;
    ended(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `cargo test`; what it prints is seen, and counted into `tally`.
pub(crate) fn count(command: &mut Command, tally: &mut Tally) -> Result<(), Failed> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(start(command))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            tally.add_line(&text);
            line.clear();
        }
    }
    let status = child.wait().map_err(start(command))?;
    ended(command, status)
}

/// Whether a program is on the path, or where the system keeps its servers.
pub(crate) fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(program))
        .any(|file| file.is_file())
}

fn start(command: &Command) -> impl FnOnce(io::Error) -> Failed {
    let program = spelled(command);
    |source| Failed::Start { program, source }
}

fn ended(command: &Command, status: ExitStatus) -> Result<(), Failed> {
    if status.success() {
        Ok(())
    } else {
        Err(Failed::Status {
            program: spelled(command),
            status,
        })
    }
}

/// The command as one would type it, its program without its folder.
fn spelled(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let words: Vec<_> = [program]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}
