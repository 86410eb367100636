//! The guide of policy authors: every snippet is what it is said to be, and its first steps lead where it says.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure here fails a test"
)]

use std::path::Path;
use std::process::Command;

use clap::Parser;
use gateway::command::Cli;
use gateway::config;
use policy::{Finding, Policy, Source};
use serde_json::json;
use testkit::upstream::Answer;
use testkit::{Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");
const GUIDE: &str = include_str!("../../../docs/policy.md");
const README: &str = include_str!("../../../README.md");

/// A fenced block, and what stands before it.
struct Snippet<'g> {
    before: &'g str,
    language: &'g str,
    text: &'g str,
}

fn snippets(text: &str) -> Vec<Snippet<'_>> {
    let mut snippets = Vec::new();
    let mut rest = text;
    while let Some((before, opened)) = rest.split_once("```") {
        let (language, opened) = opened.split_once('\n').unwrap();
        let (text, after) = opened.split_once("```").expect("each is closed");
        snippets.push(Snippet {
            before,
            language,
            text,
        });
        rest = after;
    }
    snippets
}

fn of<'s, 'g>(all: &'s [Snippet<'g>], language: &'s str) -> impl Iterator<Item = &'s Snippet<'g>> {
    all.iter()
        .filter(move |snippet| snippet.language == language)
}

/// The first steps.
fn steps() -> &'static str {
    let (_, steps) = GUIDE.split_once("## From nothing").unwrap();
    steps.split_once("\n## ").unwrap().0
}

#[test]
fn rules_are_policies_without_a_finding() {
    let (guide, readme) = (snippets(GUIDE), snippets(README));
    let rules = of(&guide, "rego").chain(of(&readme, "rego"));
    let mut count = 0;
    for snippet in rules.filter(|snippet| !snippet.text.contains("_test\n")) {
        let source = Source {
            path: "snippet.rego".into(),
            text: snippet.text.to_owned(),
        };
        let findings = Policy::check(vec![source]);
        let is_found = |finding: &&Finding| finding.code != "no-tests";
        let found: Vec<&Finding> = findings.iter().filter(is_found).collect();
        assert!(found.is_empty(), "{}\n{found:#?}", snippet.text);
        count += 1;
    }
    assert!(count > 3, "{count} snippets");
}

#[test]
fn configs_are_configs() {
    let all = snippets(GUIDE);
    for snippet in of(&all, "yaml") {
        let listen = "listen: { calls: 127.0.0.1:0, control: 127.0.0.1:0 }\n";
        let head = if snippet.text.contains("listen:") {
            ""
        } else {
            listen
        };
        let text = format!("{head}{}", snippet.text);
        config::parse(&text, "guide").unwrap();
    }
}

#[test]
fn commands_are_commands() {
    let (guide, readme) = (snippets(GUIDE), snippets(README));
    let mut count = 0;
    for snippet in of(&guide, "sh").chain(of(&readme, "sh")) {
        for line in snippet
            .text
            .lines()
            .filter(|line| line.starts_with("remit "))
        {
            let words = words(line);
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{line}\n{words:?}\n{}", parsed.unwrap_err());
            count += 1;
        }
    }
    assert!(count > 30, "{count} commands");
}

/// The words of a command, as a shell takes them apart; a comment, a redirection and what follows are left out.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in line.chars() {
        match quote {
            Some(open) if character == open => quote = None,
            None if character == '\'' || character == '"' => quote = Some(character),
            None if character == ' ' => words.push(String::new()),
            None if matches!(character, '#' | '>' | '|') => break,
            _ => words.last_mut().unwrap().push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    // An id, where the guide has a name for one.
    let id = "01939f5e-7c1a-7d2b-8f3e-0123456789ab".to_owned();
    for word in &mut words {
        if word == "ID" || word == "$TASK" {
            word.clone_from(&id);
        }
    }
    words
}

#[test]
fn the_first_steps_lead_where_they_say() {
    let site = Site::new(REMIT);
    let upstream = site.run(Upstream::start(Answer::json(json!({ "refunded": true }))));
    let all = snippets(steps());
    let mut remit = None;
    let mut printed = String::new();
    for snippet in &all {
        match snippet.language {
            // The file is the last that is named before.
            "rego" => {
                let mut names = snippet.before.rsplit('`');
                let name = names.find(|name| name.ends_with(".rego")).unwrap();
                site.write(name, snippet.text);
            }
            "yaml" => {
                let text = snippet
                    .text
                    .replace("http://127.0.0.1:9000", &upstream.url());
                let text = text.replace("127.0.0.1:4180", "127.0.0.1:0");
                site.write("remit.yaml", &text.replace("127.0.0.1:4181", "127.0.0.1:0"));
            }
            "sh" if snippet.text.starts_with("remit serve") => remit = Some(site.serve()),
            "sh" => {
                let mut text = snippet.text.to_owned();
                let mut shell = Command::new("sh");
                let folder = Path::new(REMIT).parent().unwrap().display();
                let path = std::env::var("PATH").unwrap();
                shell.env("PATH", format!("{folder}:{path}"));
                if let Some(remit) = &remit {
                    text = text.replace("http://127.0.0.1:4180", &remit.call(""));
                    shell.env("REMIT_CONTROL", remit.control(""));
                    shell.env("REMIT_OPERATOR_TOKEN", remit.operator_token());
                    shell.env("REMIT_STATE", remit.state());
                }
                // A variable lives on from one block to the next.
                let kept = "[ -f task.json ] && TOKEN=$(sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/' task.json)\n";
                let text = format!("set -e\n{kept}true\n{text}");
                let text = text.replace("task.json)\ntrue", "task.json) || true");
                let output = shell
                    .arg("-c")
                    .arg(&text)
                    .current_dir(site.folder())
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(
                    output.status.success(),
                    "{text}\n{said}\n{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                printed.push_str(&said);
            }
            other => assert_eq!(other, "", "a language that nobody tries"),
        }
    }
    // Two refunds, one before and one after the other policy was tried, reached the shop; the large one did not.
    assert_eq!(upstream.received().len(), 2);
    for expect in [
        "4 passed, 0 failed",
        "100.0 %  together",
        "{\"refunded\":true}",
        "amount_too_high",
        "the closest allow:",
    ] {
        assert!(printed.contains(expect), "{expect}\n{printed}");
    }
    let now = std::fs::read_to_string(site.path("policy/shop.rego")).unwrap();
    assert!(now.contains("amount <= 50"), "{now}");
    let before = std::fs::read_to_string(site.path("policy.previous/shop.rego")).unwrap();
    assert!(before.contains("amount <= 100"), "{before}");
    let refused = "is at most 50";
    let remit = remit.unwrap();
    let (_, token) = remit.open_task(&["--agent", "triage", "--tool", "shop", "--access", "write"]);
    let request = testkit::http().post(remit.call("/shop/orders/1/refund"));
    let answer = request
        .bearer_auth(token)
        .json(&json!({ "amount": 80 }))
        .send()
        .unwrap();
    assert!(answer.text().unwrap().contains(refused));
}
