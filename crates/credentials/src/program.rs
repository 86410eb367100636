//! A program that is run for what it prints.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::ProviderError;

/// A program that is run for what it prints. No shell; of the environment it sees `PATH` and `HOME` alone.
#[derive(Debug)]
pub(crate) struct Program {
    argv: Vec<String>,
    patience: Duration,
}

/// The most that is taken from stdout, in bytes.
const LONGEST: usize = 64 * 1024;

/// The most that is kept of stderr, in bytes; the rest is read and forgotten, so that the program can go on.
const COMPLAINT: usize = 1024;

impl Program {
    pub(crate) fn new(argv: Vec<String>, patience: Duration) -> Self {
        Self { argv, patience }
    }

    pub(crate) fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Runs it once; answers with its whole stdout.
    pub(crate) async fn run(&self, stdin: &[u8]) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let mut group = self.spawn()?;
        match timeout(self.patience, group.converse(stdin)).await {
            Ok(output) => output,
            Err(_) => Err(failed("program took too long and was killed").lost()),
        }
    }

    fn spawn(&self) -> Result<Group, ProviderError> {
        let (program, arguments) = self
            .argv
            .split_first()
            .ok_or_else(|| failed("no program is named"))?;
        let inherited = ["PATH", "HOME"];
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(
                inherited
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&format!("program `{program}` can't be run: {error}")))?;
        Ok(Group(child))
    }
}

/// A running program and all that it started. Dropped early, all of it is killed.
#[derive(Debug)]
struct Group(Child);

impl Group {
    async fn converse(&mut self, stdin: &[u8]) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let (mut input, output, errors) = (
            self.0.stdin.take(),
            self.0.stdout.take(),
            self.0.stderr.take(),
        );
        let write = async {
            if let Some(input) = &mut input {
                // A program that does not read its wish has closed the pipe: no failure.
                let _ = input.write_all(stdin).await.is_ok();
            }
            drop(input);
        };
        let ((), output, errors) = tokio::join!(write, read(output), kept(errors));
        let output = output?;
        let status = self
            .0
            .wait()
            .await
            .map_err(|_| failed("program was lost"))?;
        if !status.success() {
            let complaint = complaint(&errors, &output);
            return Err(failed(&format!("program ended with {status}: {complaint}")));
        }
        Ok(output)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not yet waited for, so its id is still its own, and that of its group.
        let group = self
            .0
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // Fails only where nothing is left to kill.
            let _ = kill_process_group(group, Signal::KILL).is_ok();
        }
    }
}

async fn read(output: Option<impl AsyncRead + Unpin>) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    // All the room at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    if let Some(output) = output {
        let limit = u64::try_from(LONGEST + 1).unwrap_or(u64::MAX);
        output
            .take(limit)
            .read_to_end(&mut text)
            .await
            .map_err(|_| failed("stdout can't be read"))?;
    }
    if text.len() > LONGEST {
        return Err(failed("stdout is longer than 64 KiB").lost());
    }
    Ok(text)
}

async fn kept(errors: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut errors) = errors {
        let mut chunk = [0; COMPLAINT];
        while let Ok(count @ 1..) = errors.read(&mut chunk).await {
            let room = COMPLAINT.saturating_sub(kept.len());
            kept.extend(chunk.iter().take(count.min(room)));
        }
    }
    kept
}

/// The first line, printable, without words that are or may be keys.
fn complaint(errors: &[u8], output: &[u8]) -> String {
    let errors = String::from_utf8_lossy(errors);
    let output = Zeroizing::new(String::from_utf8_lossy(output).into_owned());
    let line = errors.lines().next().unwrap_or_default();
    let words = line.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if may_be_key(word) || (bare.len() >= 4 && output.contains(bare)) {
            "…".to_owned()
        } else {
            word.chars().filter(|c| !c.is_control()).collect()
        }
    });
    words.collect::<Vec<String>>().join(" ")
}

/// Long words with digits in them, and very long ones, are rather keys than words: what is lost is a path now and then.
fn may_be_key(word: &str) -> bool {
    let long = word.len() >= 12 && word.bytes().any(|byte| byte.is_ascii_digit());
    long || word.len() >= 24
}

fn failed(cause: &str) -> ProviderError {
    ProviderError::Failed(cause.to_owned())
}
