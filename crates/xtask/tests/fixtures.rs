//! The fixtures of the real parts work by themselves, so that what fails behind the gateway is the gateway's.
//!
//! `cargo xtask test --only fixtures` fetches the parts and runs these.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, its helpers too"
)]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A server that doesn't do what is expected is given up after this long.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs real parts"]
fn the_identity_provider_signs_workload_tokens() {
    let idp = Server::start("idp.mjs", &[]);
    let reply = curl(&[
        "-u",
        "triage:triage-secret",
        "-d",
        "grant_type=client_credentials",
        "-d",
        "resource=urn:remit",
        &format!("{}/token", idp.ready),
    ]);
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply["token_type"], "Bearer");
    assert_eq!(
        reply["access_token"].as_str().unwrap().split('.').count(),
        3
    );
    let discovery = curl(&[&format!("{}/.well-known/openid-configuration", idp.ready)]);
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    assert_eq!(discovery["issuer"], idp.ready);
}

#[test]
#[ignore = "needs real parts"]
fn the_typescript_client_calls_a_tool() {
    mcp("mcp_client.mjs", &[]);
}

#[test]
#[ignore = "needs real parts"]
fn the_python_client_calls_a_tool() {
    mcp("mcp_client.py", &[]);
}

#[test]
#[ignore = "needs real parts"]
fn the_python_client_calls_a_tool_after_initialize() {
    mcp("mcp_client.py", &["--mode", "legacy"]);
}

#[track_caller]
fn mcp(client: &str, flags: &[&str]) {
    let server = Server::start("mcp_server.mjs", &[("MCP_KEY", "right")]);
    let arguments = [flags, &[&server.ready, "echo", r#"{"message":"hi"}"#]].concat();
    let reply = ask(client, &arguments, &[("TOKEN", "right")]);
    assert_eq!(reply["result"]["content"][0]["text"], "Echo: hi");
    let seen = server.line(|line| line.starts_with("request ") && line.contains("tools/call"));
    assert!(seen.contains("Bearer right"), "{seen}");

    let refused = ask(client, &arguments, &[("TOKEN", "wrong")]);
    assert!(refused["error"]["message"].is_string(), "{refused}");
}

#[test]
#[ignore = "needs real parts"]
fn the_openai_client_asks_a_model() {
    let server = Server::start("llm_server.mjs", &[("LLM_KEY", "right")]);
    let base = ("OPENAI_BASE_URL", &*server.ready);
    let reply = ask(
        "openai_client.py",
        &[],
        &[base, ("OPENAI_API_KEY", "right")],
    );
    let answer = "hello from the model";
    assert_eq!(
        reply,
        json!({ "content": answer, "streamed": answer, "decision": null })
    );
    let refused = ask(
        "openai_client.py",
        &[],
        &[base, ("OPENAI_API_KEY", "wrong")],
    );
    assert_eq!(refused["error"]["status"], 401);
}

#[test]
#[ignore = "needs real parts"]
fn a_unary_call_ends_with_trailers() {
    grpc(
        "right",
        "Unary",
        &json!({ "code": "OK", "messages": ["hi"], "trailers": { "echo-length": "2" } }),
    );
}

#[test]
#[ignore = "needs real parts"]
fn a_stream_ends_with_trailers() {
    grpc(
        "right",
        "Stream",
        &json!({ "code": "OK", "messages": ["hi", "hi", "hi"], "trailers": { "echo-count": "3" } }),
    );
}

#[test]
#[ignore = "needs real parts"]
fn a_stream_may_end_with_an_error() {
    grpc(
        "right",
        "Fail",
        &json!({ "code": "FAILED_PRECONDITION", "messages": ["hi"], "trailers": {} }),
    );
}

#[test]
#[ignore = "needs real parts"]
fn a_call_without_the_key_is_unauthenticated() {
    grpc(
        "wrong",
        "Unary",
        &json!({ "code": "UNAUTHENTICATED", "messages": [], "trailers": {} }),
    );
}

#[track_caller]
fn grpc(token: &str, method: &str, expected: &Value) {
    let server = Server::start("grpc_server.py", &[("GRPC_KEY", "right")]);
    let reply = ask(
        "grpc_client.py",
        &[&server.ready, method, "hi"],
        &[("TOKEN", token)],
    );
    for name in ["code", "messages", "trailers"] {
        assert_eq!(reply[name], expected[name], "{reply}");
    }
}

#[test]
#[ignore = "needs real parts"]
fn nginx_demands_its_key_and_takes_large_bodies() {
    let server = Server::start("nginx_server.py", &[("NGINX_KEY", "right")]);
    let with_key = ["-H", "authorization: Bearer right"];
    let code = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
    let url = |path: &str| format!("{}{path}", server.ready);
    assert_eq!(
        curl(&[&code[..], &[&url("/")]].concat()).split(' ').next(),
        Some("401")
    );
    let large = curl(&[&code[..], &with_key, &[&url("/files/large")]].concat());
    assert_eq!(large, format!("200 {}", 64 << 20));
    let manifest = fixtures().join("package-lock.json");
    let length = manifest.metadata().unwrap().len().to_string();
    let upload = format!("@{}", manifest.display());
    let reply = curl(&[&with_key[..], &["--data-binary", &upload, &url("/upload")]].concat());
    assert_eq!(reply, json!({ "length": length }).to_string());
    server.line(|line| line.starts_with("request ") && line.contains("/upload"));
}

#[test]
#[ignore = "needs real parts"]
fn the_collector_prints_spans() {
    let collector = Server::start("collector.py", &[]);
    let http = collector.ready.rsplit("http=").next().unwrap();
    let span = json!({
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "a call", "kind": 2,
        "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000000",
        "attributes": [{ "key": "some.attribute", "value": { "stringValue": "its value" } }],
    });
    let spans =
        json!({ "resourceSpans": [{ "resource": {}, "scopeSpans": [{ "spans": [span] }] }] });
    curl(&[
        "-H",
        "content-type: application/json",
        "-d",
        &spans.to_string(),
        &format!("{http}/v1/traces"),
    ]);
    collector.line(|line| line.contains("5b8efff798038103d269b633813fc60c"));
    collector.line(|line| line.contains("some.attribute") && line.contains("its value"));
}

/// A fixture that serves; it is killed when it is dropped.
struct Server {
    child: Child,
    lines: Receiver<String>,
    /// What it printed after `ready `.
    ready: String,
}

impl Server {
    #[track_caller]
    fn start(fixture: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = command(fixture)
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

    /// The next line that it prints of which `is_it` holds.
    #[track_caller]
    fn line(&self, is_it: impl Fn(&str) -> bool) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if is_it(&line) => return line,
                Ok(_) => {}
                Err(error) => panic!("the server printed no such line: {error}"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a client and returns the JSON that it printed.
#[track_caller]
fn ask(fixture: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let output = command(fixture)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[track_caller]
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--noproxy", "*"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A fixture, by the interpreter that its ending asks for.
fn command(fixture: &str) -> Command {
    let components =
        env::var_os("REMIT_COMPONENTS").map_or_else(|| root().join(".components"), PathBuf::from);
    let interpreter = if fixture.ends_with(".py") {
        "python/bin/python"
    } else {
        "bin/node"
    };
    let mut command = Command::new(components.join(interpreter));
    command
        .arg(fixtures().join(fixture))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1");
    command
}

fn fixtures() -> PathBuf {
    root().join("tests/components")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}
