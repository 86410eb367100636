//! Puts load on a target with wrk, and reads what came of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::field::CallTo;
use crate::process::{Failed, read};

/// A JSON-RPC message of 340 bytes.
pub(super) const BODY: &str = include_str!("../../../../benches/mcp_call.json");

/// How much load, and for how long.
pub(super) struct Load<'a> {
    pub(super) folder: &'a Path,
    pub(super) connections: usize,
    pub(super) time: Duration,
}

/// What one target did in one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    pub(super) requests: u64,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) cpu_us: f64,
    pub(super) rss_kib: u64,
}

impl Load<'_> {
    /// Calls a target over connections that stay, as fast as it answers.
    pub(super) fn put_on(&self, call: &CallTo, name: &str) -> Result<Round, Failed> {
        let said = read(&mut self.command(call)?)?;
        let line = said.lines().find(|line| line.starts_with('{'));
        let summary: Value = serde_json::from_str(line.unwrap_or_default())
            .map_err(|error| Failed::Lacks(format!("wrk said nothing of `{name}`: {error}")))?;
        let number = |key: &str| summary.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        if number("errors") > 0.0 {
            return Err(Failed::Lacks(format!("`{name}` failed calls: {summary}")));
        }
        Ok(Round {
            requests: summary.get("requests").and_then(Value::as_u64).unwrap_or(0),
            per_second: number("requests") * 1e6 / number("duration_us").max(1.0),
            p50_us: number("p50_us"),
            p99_us: number("p99_us"),
            ..Round::default()
        })
    }

    /// Asks something of a target shortly before the load on it ends.
    pub(super) fn watch<T>(
        &self,
        call: &CallTo,
        name: &str,
        ask: impl FnOnce() -> T,
    ) -> Result<T, Failed> {
        let mut command = self.command(call)?;
        let started = command.stdout(Stdio::null()).spawn();
        let mut wrk = started.map_err(|source| Failed::Start {
            program: "wrk".to_owned(),
            source,
        })?;
        sleep(self.time.saturating_sub(Duration::from_millis(500)));
        let answer = ask();
        match wrk.wait() {
            Ok(status) if status.success() => Ok(answer),
            _ => Err(Failed::Lacks(format!("wrk failed on `{name}`"))),
        }
    }

    fn command(&self, call: &CallTo) -> Result<Command, Failed> {
        let script = self.folder.join("call.lua");
        fs::write(&script, lua(&call.token)).map_err(Failed::file(&script))?;
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "1", "--timeout", "10s"]);
        wrk.args(["--connections", &self.connections.to_string()]);
        wrk.args(["--duration", &format!("{}s", self.time.as_secs())]);
        wrk.arg("--script").arg(script);
        wrk.arg(format!("http://{}{}", call.address, call.path));
        Ok(wrk)
    }
}

/// What wrk sends, and how it tells the end.
fn lua(token: &str) -> String {
    let (body, proof) = (json!(BODY), json!(format!("Bearer {token}")));
    format!(
        r#"wrk.method = "POST"
wrk.body = {body}
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
wrk.headers["Authorization"] = {proof}
function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '{{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"errors":%d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#
    )
}
