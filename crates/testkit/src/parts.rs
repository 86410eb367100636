//! The real parts of `tests/components`, started for a test and stopped with it.
#![expect(clippy::panic, reason = "test support: a failure here fails a test")]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A server that doesn't do what is expected is given up after this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A real part that serves; it is killed when it is dropped.
#[derive(Debug)]
pub struct Part {
    child: Child,
    lines: Receiver<String>,
    /// What it printed after `ready `.
    pub ready: String,
}

impl Part {
    /// Starts a fixture of `tests/components` and waits until it is ready.
    #[track_caller]
    pub fn start(fixture: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_with(fixture, &[], environment)
    }

    /// Starts a fixture with flags.
    #[track_caller]
    pub fn start_with(fixture: &str, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(fixture)
            .args(flags)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            // Read to the end, so that the server never waits for a reader.
            for line in output.lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        let mut server = Self {
            child,
            lines,
            ready: String::new(),
        };
        let line = server.line(|line| line.starts_with("ready "));
        line.trim_start_matches("ready ")
            .clone_into(&mut server.ready);
        server
    }

    /// The lines that it printed and nobody read yet.
    pub fn lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// The next line that it prints of which `is_it` holds.
    #[track_caller]
    pub fn line(&self, is_it: impl Fn(&str) -> bool) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if is_it(&line) => return line,
                Ok(_) => {}
                Err(error) => panic!("the server printed no such line: {error}"),
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a client and returns the JSON that it printed.
#[track_caller]
pub fn ask(fixture: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let output = command(fixture)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs curl and returns what it printed.
#[track_caller]
pub fn curl(arguments: &[&str]) -> String {
    said(
        "curl",
        &[&["--silent", "--noproxy", "*"], arguments].concat(),
    )
}

/// Runs h2load, a client of HTTP/2 and HTTP/1.1 that keeps many connections and streams busy, and answers with its report.
pub fn h2load(arguments: &[&str]) -> String {
    said("h2load", arguments)
}

/// What a program of the system says, which must succeed.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A fixture, by the interpreter that its ending asks for.
fn command(fixture: &str) -> Command {
    let interpreter = if fixture.ends_with(".py") {
        "python/bin/python"
    } else {
        "bin/node"
    };
    let mut command = Command::new(components().join(interpreter));
    command
        .arg(fixtures().join(fixture))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1");
    command
}

/// The folder that the parts were fetched into.
pub(crate) fn components() -> PathBuf {
    env::var_os("REMIT_COMPONENTS").map_or_else(|| root().join(".components"), PathBuf::from)
}

/// The folder of the fixtures.
pub fn fixtures() -> PathBuf {
    root().join("tests/components")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}
