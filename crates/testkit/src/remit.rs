//! The real `remit` binary, started for a test and stopped with it.
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a failure here fails a test"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// A running gateway.
#[derive(Debug)]
pub struct Remit {
    /// What it printed when it was ready.
    pub ready: Value,
    /// What it logs, as it comes.
    pub log: Arc<Mutex<String>>,
    program: PathBuf,
    child: Child,
}

impl Remit {
    /// `remit up` on ports that the system chooses.
    pub fn up(program: &str, state: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg("up");
        Self::start(program, command, state)
    }

    /// `remit up` with more flags.
    pub fn up_with(program: &str, state: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.arg("up").args(flags);
        Self::start(program, command, state)
    }

    /// `remit serve` with a config.
    pub fn serve(program: &str, state: &Path, config: &Path) -> Self {
        Self::serve_with(program, state, config, &[])
    }

    /// `remit serve` with a config and more in the environment.
    pub fn serve_with(
        program: &str,
        state: &Path,
        config: &Path,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(config);
        command.envs(environment.iter().copied());
        Self::start(program, command, state)
    }

    fn start(program: &str, mut command: Command, state: &Path) -> Self {
        command.args([
            "--json",
            "--calls",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--state",
        ]);
        command
            .arg(state)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().unwrap(), &log);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            child.kill().ok();
            child.wait().ok();
            panic!("not ready: {error}: {line:?}\n{}", log.lock().unwrap())
        });
        Self {
            ready,
            log,
            program: program.into(),
            child,
        }
    }

    fn told(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }

    /// A URL of the calls listener.
    pub fn call(&self, path: &str) -> String {
        format!("{}{path}", self.told("calls"))
    }

    /// `address:port` of the calls listener.
    pub fn calls_address(&self) -> &str {
        self.told("calls").split_once("://").unwrap().1
    }

    /// A URL of the control listener.
    pub fn control(&self, path: &str) -> String {
        format!("{}{path}", self.told("control"))
    }

    /// The operator's token.
    pub fn operator_token(&self) -> &str {
        self.told("operator_token")
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        Path::new(self.told("state_dir"))
    }

    /// Runs another command of the same binary against this gateway.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .env("REMIT_CONTROL", self.told("control"))
            .env("REMIT_OPERATOR_TOKEN", self.operator_token())
            .output()
            .unwrap()
    }

    /// Opens a task with `remit task open`; answers with its id and token.
    pub fn open_task(&self, arguments: &[&str]) -> (String, String) {
        let mut all = vec!["task", "open", "--json"];
        all.extend(arguments);
        let output = self.command(&all);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let opened: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |key: &str| opened[key].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }

    /// What `GET /v1/status` answers.
    pub fn status(&self) -> Value {
        let request = crate::http().get(self.control("/v1/status"));
        let answer = request.bearer_auth(self.operator_token()).send();
        answer.unwrap().json().unwrap()
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal, such as `-HUP`.
    pub fn signal(&self, signal: &str) {
        Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
    }

    /// `kill -9`: nothing is said or written any more.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; waits until it is gone, and answers whether it left in good order.
    pub fn stop(mut self) -> bool {
        self.signal("-TERM");
        self.child.wait().unwrap().success()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Remit {
    fn drop(&mut self) {
        // Gone already, if the test stopped it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
}

/// Asks again and again until it is so; fails the test after 10 s.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never so: {what}");
}
