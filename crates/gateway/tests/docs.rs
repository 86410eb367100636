//! The docs name what there is: tests that exist, files that exist, codes that the gateway answers with.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page for people, but for those of other folders.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![house().join("README.md")];
    let examples = std::fs::read_dir(house().join("examples")).unwrap();
    let mut folders: Vec<PathBuf> = examples.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.push(house().join("docs"));
    for folder in folders {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages
}

fn sources(folder: &Path, found: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push_str(&text(&path));
        }
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_of_the_threat_model_exists() {
    let mut code = String::new();
    sources(&house().join("crates"), &mut code);
    let page = text(&house().join("docs/threat-model.md"));
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let named: BTreeSet<&str> = rows
        .filter_map(|row| row.split('|').nth(3))
        .flat_map(quoted)
        .filter(|name| name.contains('_') && !name.contains(':') && *name != "compile_fail")
        .collect();
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<_> = named
        .into_iter()
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn every_config_of_the_pages_on_credentials_is_right() {
    for (page, expect) in [
        ("github-app.md", 2),
        ("google.md", 1),
        ("azure.md", 1),
        ("aws.md", 1),
        ("credentials.md", 3),
        ("from-static-keys.md", 2),
    ] {
        let page = text(&house().join("docs").join(page));
        let blocks: Vec<_> = page
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .filter(|block| block.starts_with("tools:") || block.starts_with("control:"))
            // Others show single keys.
            .filter(|block| block.contains("upstream:"))
            .collect();
        assert_eq!(blocks.len(), expect, "{page}");
        for block in blocks {
            let listen = "listen: { calls: 127.0.0.1:1, control: 127.0.0.1:2 }";
            let text = format!("policy: {{ path: p }}\n{listen}\n{block}");
            let parsed = gateway::config::parse(&text, "remit.yaml");
            parsed.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        }
    }
}

#[test]
fn every_config_of_the_page_on_workload_identity_is_right() {
    let page = text(&house().join("docs/workload-identity.md"));
    let blocks: Vec<_> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(blocks.len(), 7);
    for block in blocks {
        let listen = match block.starts_with("listen:") {
            true => "",
            false => "listen: { calls: 127.0.0.1:1, control: 127.0.0.1:2 }\n",
        };
        let text = format!("policy: {{ path: p }}\n{listen}{block}");
        let parsed = gateway::config::parse(&text, "remit.yaml");
        let identity = parsed
            .unwrap_or_else(|mistakes| panic!("{mistakes}"))
            .identity;
        let issuers = identity.issuers.len() + usize::from(identity.spiffe.is_some());
        let others = identity.clusters.len() + identity.wit_issuers.len();
        assert_eq!(issuers + others, 1, "{block}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = text(&page);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap();
            let elsewhere = target.contains("://") || file.is_empty();
            if !elsewhere && !page.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_command_that_the_pages_name_is_one() {
    let mut named = BTreeSet::new();
    for page in pages() {
        let text = text(&page);
        let (built, _) = text.split_once("## Not built yet").unwrap_or((&text, ""));
        for command in quoted(built).filter_map(|said| said.strip_prefix("remit ")) {
            let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            let words = command.split(' ').take(2).take_while(is_word);
            named.insert(words.map(str::to_owned).collect::<Vec<_>>());
        }
    }
    assert!(named.len() > 20, "{named:?}");
    for words in named {
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_remit"))
            .args(&words)
            .arg("--help")
            .output();
        assert!(help.unwrap().status.success(), "remit {}", words.join(" "));
    }
}

#[test]
fn every_code_that_the_readme_shows_is_one() {
    let page = text(&house().join("README.md"));
    let shown: Vec<&str> = page
        .split(r#""code":""#)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(shown, ["denied", "out_of_remit", "no_proof", "task_ended"]);
    for code in shown {
        assert!(
            proxy::CODES.iter().any(|known| known.code == code),
            "{code}"
        );
    }
}
