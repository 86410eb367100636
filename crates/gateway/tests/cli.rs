//! The commands as people meet them: what `up` prints can be typed, and what fails says what to do.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use testkit::remit::Remit;

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// Runs `remit` where no gateway is configured.
fn remit(arguments: &[&str]) -> Output {
    Command::new(REMIT)
        .args(arguments)
        .env_remove("REMIT_CONTROL")
        .env_remove("REMIT_OPERATOR_TOKEN")
        .env_remove("REMIT_STATE")
        .output()
        .unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn fails(arguments: &[&str], code: i32, said: &[&str]) {
    let output = remit(arguments);
    let told = words(&output.stderr) + &words(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for said in said {
        assert!(told.contains(said), "`{said}` is not in: {told}");
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Gone already, if the test stopped it.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts `up` as people do, and answers with what it prints.
fn up(state: &Path) -> (Killed, String) {
    let mut child = Command::new(REMIT)
        .args(["up", "--calls", "127.0.0.1:0", "--control", "127.0.0.1:0"])
        .arg("--state")
        .arg(state)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let child = Killed(child);
    let mut printed = String::new();
    for line in out.lines().map(Result::unwrap) {
        printed.push_str(&line);
        printed.push('\n');
        if line.starts_with("Stop it") {
            break;
        }
    }
    (child, printed)
}

#[test]
fn what_up_prints_works_as_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (_up, printed) = up(&folder.path().join("a state folder"));
    let commands = printed.lines().filter_map(|line| line.strip_prefix("   "));
    let script: Vec<&str> = commands.collect();
    let output = Command::new("sh")
        .args(["-c", &script.join("\n")])
        .env_remove("REMIT_CONTROL")
        .env_remove("REMIT_OPERATOR_TOKEN")
        .env_remove("REMIT_STATE")
        .output()
        .unwrap();
    let told = words(&output.stdout);
    let replies = told.split("HTTP/1.1 ").skip(1);
    let statuses: Vec<&str> = replies.filter_map(|reply| reply.lines().next()).collect();
    assert_eq!(
        statuses,
        [
            "201 Created",
            "403 Forbidden",
            "403 Forbidden",
            "401 Unauthorized",
            "403 Forbidden"
        ],
        "{printed}\n{told}\n{}",
        words(&output.stderr)
    );
    for code in ["denied", "out_of_remit", "no_proof", "task_ended"] {
        assert!(
            told.contains(&format!(r#""code":"{code}""#)),
            "{code}: {told}"
        );
    }
    assert!(told.contains("verdict    deny"), "{told}");
}

#[test]
fn a_second_gateway_in_one_state_folder_leaves_the_first_alone() {
    let state = tempfile::tempdir().unwrap();
    let first = Remit::up(REMIT, state.path());
    let config = std::fs::read(state.path().join("remit.yaml")).unwrap();
    let told = std::fs::read(state.path().join("running.json")).unwrap();
    let folder = state.path().to_str().unwrap();
    let second = ["--calls", "127.0.0.1:0", "--control", "127.0.0.1:0"];
    let up = [&["up", "--state", folder], second.as_slice()].concat();
    fails(&up, 1, &["a gateway is running in", "--state DIR"]);
    let config_file = state.path().join("remit.yaml");
    let config_file = config_file.to_str().unwrap();
    let serve = ["serve", "-c", config_file, "--state", folder];
    fails(&serve, 1, &["a gateway is running in"]);
    assert_eq!(std::fs::read(config_file).unwrap(), config);
    assert_eq!(
        std::fs::read(state.path().join("running.json")).unwrap(),
        told
    );
    drop(first);
}

#[test]
fn without_a_gateway_it_is_said_how_to_start_one() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    fails(
        &["task", "list", "--state", folder],
        1,
        &["no gateway is running in", "remit up"],
    );
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/example");
    fails(
        &["policy", "eval", policy, "-i", "/nowhere.json"],
        1,
        &["`/nowhere.json`"],
    );
    fails(&["policy", "check", "/nowhere"], 1, &["`/nowhere`"]);
    fails(
        &["audit", "verify", "/nowhere.jsonl"],
        1,
        &["`/nowhere.jsonl`"],
    );
    fails(&["config", "check", "/nowhere.yaml"], 1, &["/nowhere.yaml"]);
}

#[test]
fn wrong_usage_is_two() {
    fails(&["task", "show", "x"], 2, &["is not a UUID"]);
    fails(&["nothing"], 2, &["unrecognized subcommand"]);
    fails(&["task", "open"], 2, &["--tool"]);
}

#[test]
fn help_tells_the_exit_codes() {
    let help = words(&remit(&["--help"]).stdout);
    for words in ["0 ", "1 ", "2 ", "REMIT_LOG"] {
        assert!(help.contains(words), "{help}");
    }
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = words(&remit(&["completions", shell]).stdout);
        assert!(script.contains("explain"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_read_enough_is_no_mistake() {
    let script = format!("'{REMIT}' config schema | head -c 1");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(words(&output.stderr), "");
}
