//! A server that is measured: its processes, their CPU time and their memory.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::process::Failed;

/// The unit of CPU times in `/proc/PID/stat`: `USER_HZ`, which is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// A running server; stopped when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
}

impl Server {
    /// Starts a server, its errors written to a file, and waits until it listens.
    pub(super) fn start(
        command: &mut Command,
        errors: &Path,
        address: SocketAddr,
    ) -> Result<Self, Failed> {
        let mut server = Self::spawn(command.stdout(Stdio::null()), errors)?;
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            if server.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        Err(lacks(command, errors))
    }

    pub(super) fn spawn(command: &mut Command, errors: &Path) -> Result<Self, Failed> {
        let file = fs::File::create(errors).map_err(Failed::file(errors))?;
        command.stdin(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|source| Failed::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        Ok(Self { child })
    }

    /// User and system time so far, of the process and its children.
    pub(super) fn cpu(&self) -> Duration {
        let ticks: u32 = self.family().iter().map(|stat| stat.ticks).sum();
        TICK * ticks
    }

    /// Resident memory, of the process and its children.
    pub(super) fn rss_kib(&self) -> u64 {
        self.family().iter().map(|stat| rss_kib(stat.pid)).sum()
    }

    fn family(&self) -> Vec<Stat> {
        let own = self.child.id();
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Stat::read)
            .filter(|stat| stat.pid == own || stat.parent == own)
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // With SIGTERM nginx takes its workers along.
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        for _ in 0..100 {
            if told.is_err() || self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(super) fn lacks(command: &Command, errors: &Path) -> Failed {
    let said = fs::read_to_string(errors).unwrap_or_default();
    let program = command.get_program().to_string_lossy();
    Failed::Lacks(format!("`{program}` did not start: {}", said.trim()))
}

/// An address that nobody listens on just now.
pub(super) fn free_address() -> Result<SocketAddr, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0");
    listener
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Failed::Lacks(format!("no free port: {error}")))
}

/// What is wanted of `/proc/PID/stat` (proc(5)).
struct Stat {
    pid: u32,
    parent: u32,
    ticks: u32,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, and ends at the last parenthesis.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u32>().ok();
        Some(Self {
            pid,
            parent: number(1)?,
            ticks: number(11)?.saturating_add(number(12)?),
        })
    }
}

fn rss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
