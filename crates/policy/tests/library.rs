//! The policies to start from: each alone, and all of them together.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::path::{Path, PathBuf};

use policy::{Policy, Source};

const FOLDERS: [&str; 10] = [
    "read_only",
    "business_hours",
    "argument_limits",
    "separation",
    "environment_fence",
    "data_residency",
    "delegation",
    "budget",
    "two_person_approval",
    "untrusted_then_send",
];

fn read(name: &str) -> Vec<Source> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/library");
    Policy::read(&library.join(name)).unwrap()
}

/// Loads without a finding, passes its tests, and has every line of its rules evaluated by some of them.
#[track_caller]
fn check(sources: &[Source]) {
    let findings = Policy::check(sources.to_vec());
    assert!(findings.is_empty(), "{findings:#?}");
    let samples = policy::samples(sources).count();
    assert!(samples > 1, "{samples} samples");
    let results = Policy::test(sources.to_vec()).unwrap();
    assert!(results.len() > 3, "{} tests", results.len());
    let failed: Vec<_> = results.iter().filter(|result| !result.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for file in Policy::coverage(sources.to_vec()).unwrap() {
        assert!(file.not_covered.is_empty(), "{file:#?}");
    }
}

#[test]
fn every_folder_is_a_policy() {
    for folder in FOLDERS {
        check(&read(folder));
    }
}

#[test]
fn all_of_them_together_are_one() {
    // Files of one name are told apart by their folder, whose data stays where it was.
    let mut all = Vec::new();
    let mut data = serde_json::Map::new();
    for folder in FOLDERS {
        for source in read(folder) {
            if source.path == Path::new("data.json") {
                let more: serde_json::Value = serde_json::from_str(&source.text).unwrap();
                data.extend(more.as_object().unwrap().clone());
            } else {
                let path = PathBuf::from(folder).join(&source.path);
                all.push(Source { path, ..source });
            }
        }
    }
    all.push(Source {
        path: "data.json".into(),
        text: serde_json::Value::from(data).to_string(),
    });
    check(&all);
}

#[test]
fn every_folder_has_its_page() {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/library");
    let table = std::fs::read_to_string(library.join("README.md")).unwrap();
    for folder in FOLDERS {
        assert!(library.join(folder).join("README.md").exists(), "{folder}");
        assert!(table.contains(&format!("]({folder})")), "{folder}");
    }
}
