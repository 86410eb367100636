//! The house guards itself: first lines, names, arrows between crates, what may come in from outside.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, its helpers too"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use toml::{Table, Value as Toml};

/// The crates of the six questions, and the first line of each.
const QUESTIONS: [(&str, &str); 6] = [
    ("identity", "//! Who asks?"),
    ("tasks", "//! What for?"),
    ("call", "//! What is asked?"),
    ("policy", "//! May it?"),
    ("credentials", "//! With what?"),
    ("telemetry", "//! What happened?"),
];

/// Every arrow between crates that there may be. They are the way of a call read backwards: a step can be
/// taken only with the value that the one before it made. A new arrow is a decision: make it here first.
const ARROWS: [(&str, &[&str]); 12] = [
    ("identity", &[]),
    ("tasks", &["identity"]),
    ("call", &["identity", "tasks"]),
    ("telemetry", &[]),
    ("policy", &["call", "identity", "tasks", "telemetry"]),
    (
        "credentials",
        &["call", "identity", "policy", "tasks", "telemetry"],
    ),
    (
        "proxy",
        &[
            "call",
            "credentials",
            "identity",
            "policy",
            "tasks",
            "telemetry",
        ],
    ),
    (
        "control",
        &["credentials", "identity", "policy", "tasks", "telemetry"],
    ),
    (
        "gateway",
        &[
            "call",
            "control",
            "credentials",
            "identity",
            "policy",
            "proxy",
            "tasks",
            "telemetry",
        ],
    ),
    (
        "benches",
        &[
            "call",
            "credentials",
            "identity",
            "policy",
            "proxy",
            "tasks",
            "telemetry",
            "testkit",
        ],
    ),
    ("testkit", &[]),
    ("xtask", &["policy"]),
];

/// Names that say nothing.
const VAGUE: [&str; 10] = [
    "util", "utils", "common", "type", "types", "helper", "helpers", "misc", "manager", "handler",
];

#[track_caller]
fn check(rule: &str, offences: impl IntoIterator<Item = String>) {
    let offences: Vec<_> = offences.into_iter().collect();
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn every_file_opens_with_its_sentence() {
    let silent = sources().into_iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        !first.starts_with("//! ")
    });
    check(
        "the first line of a file is `//!` and what it is for",
        silent.map(|source| source.name),
    );
}

#[test]
fn the_crates_of_the_way_open_with_their_questions() {
    let wrong = QUESTIONS.into_iter().filter(|(name, question)| {
        read(&format!("crates/{name}/src/lib.rs")).lines().next() != Some(question)
    });
    check(
        "a crate's first line is its question",
        wrong.map(|(name, question)| format!("{name}: {question}")),
    );
}

#[test]
fn arrows_between_crates_go_down() {
    let allowed = BTreeMap::from(ARROWS);
    let mut offences = Vec::new();
    for package in packages(&["--no-deps"]) {
        let name = text(&package, "name");
        let Some(allowed) = allowed.get(name) else {
            offences.push(format!("{name} is a new crate"));
            continue;
        };
        // Everybody's tests may use the testkit.
        let here = array(&package, "dependencies")
            .iter()
            .filter(|arrow| arrow["source"].is_null());
        let real = here.filter(|arrow| !(arrow["kind"] == "dev" && arrow["name"] == "testkit"));
        let new = real
            .map(|arrow| text(arrow, "name"))
            .filter(|to| !allowed.contains(to));
        offences.extend(new.map(|to| format!("{name} → {to}")));
    }
    check("an arrow between crates that is not in the table", offences);
}

#[test]
fn bans_hold() {
    let lock = table("Cargo.lock");
    let deny = table(".deny.toml");
    let mut offences = Vec::new();
    for ban in deny["bans"]["deny"].as_array().unwrap() {
        let banned = ban["name"].as_str().unwrap();
        let wrappers = ban.get("wrappers").map(strings);
        for package in lock["package"].as_array().unwrap() {
            let name = package["name"].as_str().unwrap();
            if name == banned && wrappers.is_none() {
                offences.push(format!("{banned} is in Cargo.lock"));
            }
            // Where there are two versions of a package, its dependents name one: `name version`.
            let uses = package.get("dependencies").map(strings).unwrap_or_default();
            let uses_it = uses
                .iter()
                .any(|used| used.split(' ').next() == Some(banned));
            if uses_it
                && !wrappers
                    .as_ref()
                    .is_some_and(|wrappers| wrappers.contains(&name))
            {
                offences.push(format!("{name} → {banned}"));
            }
        }
    }
    check("a ban of .deny.toml", offences);
}

#[test]
fn licences_are_known() {
    let deny = table(".deny.toml");
    let allowed = strings(&deny["licenses"]["allow"]);
    let fits = |licence: &str| {
        let licence = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).unwrap();
        licence.evaluate(|wanted| {
            let plain = wanted.addition.is_none();
            plain
                && wanted
                    .license
                    .id()
                    .is_some_and(|id| allowed.contains(&id.name))
        })
    };
    let foreign = packages(&["--filter-platform", &host()])
        .into_iter()
        .filter(|package| !package["license"].as_str().is_some_and(fits));
    let named =
        foreign.map(|package| format!("{}: {}", text(&package, "name"), package["license"]));
    check("a licence that .deny.toml doesn't allow", named);
}

#[test]
fn every_crate_keeps_the_lints() {
    let lax = packages(&["--no-deps"]).into_iter().filter(|package| {
        let manifest: Table = fs::read_to_string(text(package, "manifest_path"))
            .unwrap()
            .parse()
            .unwrap();
        manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            != Some(&true.into())
    });
    check(
        "a manifest without `lints.workspace = true`",
        lax.map(|package| text(&package, "name").to_owned()),
    );
}

#[test]
fn every_file_is_part_of_its_crate() {
    // Neither the compiler nor a lint sees a file that nobody declares.
    let sources = sources();
    let declares = |parent: &Path, module: &str| {
        let parent = parent.to_str().unwrap();
        let mut parents = sources.iter().filter(|source| source.name == parent);
        parents.any(|source| {
            let mut lines = source.text.lines();
            lines.any(|line| line.trim_end().ends_with(&format!("mod {module};")))
        })
    };
    let lost = sources.iter().filter(|source| {
        let path = Path::new(&source.name);
        let module = path.file_stem().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        let in_root = folder.ends_with("src");
        let declared = match (in_root, module) {
            (true, "lib" | "main") => true,
            (true, _) => ["lib.rs", "main.rs"]
                .iter()
                .any(|root| declares(&folder.join(root), module)),
            (false, _) => declares(&folder.with_extension("rs"), module),
        };
        source.name.contains("/src/") && !declared
    });
    check(
        "a file that no `mod` declares",
        lost.map(|source| source.name.clone()),
    );
}

#[test]
fn names_say_something() {
    let vague = sources()
        .into_iter()
        .map(|source| source.name)
        .filter(|name| {
            let path = Path::new(name);
            let parts = path.with_extension("");
            path.ends_with("mod.rs")
                || parts
                    .iter()
                    .any(|part| VAGUE.contains(&part.to_str().unwrap()))
        });
    check("a file whose name says nothing", vague);
}

#[test]
fn nothing_is_left_to_do() {
    let open = concat!("todo", "!(");
    // Examples that must not compile may have holes.
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let unfinished = sources().into_iter().filter(|source| {
        let mut code = source.text.lines().filter(is_code);
        code.any(|line| line.contains(open))
    });
    check("a file with a hole", unfinished.map(|source| source.name));
}

#[test]
fn the_matrix_is_there() {
    assert!(
        !read("policies/matrix.txt").trim().is_empty(),
        "who may do what"
    );
}

/// A Rust file of the house, its name relative to the root.
struct Source {
    name: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

#[track_caller]
fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
}

#[track_caller]
fn table(name: &str) -> Table {
    read(name).parse().unwrap()
}

fn strings(list: &Toml) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

fn sources() -> Vec<Source> {
    let mut folders = vec![root().join("crates"), root().join("benches")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                sources.push(Source {
                    name,
                    text: fs::read_to_string(path).unwrap(),
                });
            }
        }
    }
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    sources
}

/// The packages that `cargo metadata` names. It neither reaches for the network nor changes the lock.
fn packages(arguments: &[&str]) -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(arguments);
    let output = cargo.current_dir(root()).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    array(&metadata, "packages").clone()
}

/// The target triple of this machine: the packages of others were not fetched by a build.
fn host() -> String {
    let output = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

fn array<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}
