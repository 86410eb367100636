//! `docs/configuration.md` and `docs/remit.schema.json` are what the schema says; `REMIT_BLESS=1` writes them anew.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic, its helpers too"
)]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use gateway::config::schema;
use serde_json::Value;

#[test]
fn the_schema_file_is_the_schema() {
    let path = docs().join("remit.schema.json");
    if blessed() {
        std::fs::write(&path, format!("{:#}\n", schema())).unwrap();
    }
    // Compared as values: the order of keys depends on the features of other crates.
    let found: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        found == schema(),
        "docs/remit.schema.json is old: run this with REMIT_BLESS=1"
    );
}

#[test]
fn the_reference_is_the_schema() {
    let path = docs().join("configuration.md");
    let expected = reference();
    if blessed() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert!(
        found == expected,
        "docs/configuration.md is old: run this with REMIT_BLESS=1"
    );
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn blessed() -> bool {
    std::env::var_os("REMIT_BLESS").is_some()
}

const HEAD: &str = "# Configuration

A gateway is configured by one file, `remit.yaml`. This page lists every key;
[`examples/remit.yaml`](../examples/remit.yaml) shows them in use. It is made from the JSON Schema in
[`remit.schema.json`](remit.schema.json), which `remit config schema` prints and editors understand.

* `remit config check` tells every mistake at once, with line and column.
* Relative paths start at the config file's folder.
* Secrets are named (`env:NAME`, `file:/path`, `cmd:program args`), never written in the file.
* One YAML 1.2 document of at most 1 MiB, without aliases and tags. Durations are spelled `15m` or
  `1h 30m`, sizes `1MiB`.
";

/// One table for each mapping, the outer before the inner; what looks the same is told once.
fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut told: Vec<Value> = Vec::new();
    let whole = schema();
    let mut next = VecDeque::from([(String::new(), whole.clone())]);
    while let Some((path, schema)) = next.pop_front() {
        let schema = defined(&whole, schema);
        if schema["properties"].is_object() {
            if !told.contains(&schema["properties"]) {
                told.push(schema["properties"].clone());
                table(&mut text, &path, &schema);
                for key in order(&schema) {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    next.push_back((path, schema["properties"][&key].clone()));
                }
            }
        } else if schema["additionalProperties"].is_object() {
            next.push_back((
                format!("{path}.NAME"),
                schema["additionalProperties"].clone(),
            ));
        } else if schema["items"].is_object() {
            next.push_back((format!("{path}[]"), schema["items"].clone()));
        }
        for variants in [&schema["oneOf"], &schema["anyOf"]] {
            for variant in variants.as_array().into_iter().flatten() {
                next.push_back((path.clone(), variant.clone()));
            }
        }
    }
    text
}

/// With what a reference stands for.
fn defined(whole: &Value, schema: Value) -> Value {
    let Some(name) = schema["$ref"].as_str() else {
        return schema;
    };
    let mut defined = whole.pointer(name.trim_start_matches('#')).unwrap().clone();
    let place = schema.as_object().unwrap().clone();
    defined
        .as_object_mut()
        .unwrap()
        .extend(place.into_iter().filter(|(name, _)| name != "$ref"));
    defined
}

fn table(text: &mut String, path: &str, schema: &Value) {
    let title = match (path, schema["properties"]["provider"]["const"].as_str()) {
        ("", _) => "The file".to_owned(),
        (path, Some(provider)) => format!("`{path}`, `provider: {provider}`"),
        (path, None) => format!("`{path}`"),
    };
    let about = schema["description"].as_str().unwrap_or_default();
    write!(
        text,
        "\n## {title}\n\n{about}\n\n| key | type | default | |\n|---|---|---|---|\n"
    )
    .unwrap();
    let required = schema["required"].as_array().unwrap();
    for key in order(schema) {
        let property = &schema["properties"][&key];
        let default = match &property["default"] {
            _ if required.contains(&key.as_str().into()) => "required".to_owned(),
            Value::Null => String::new(),
            Value::Object(map) if map.is_empty() => String::new(),
            Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        let about = property["description"].as_str().unwrap_or_default();
        writeln!(
            text,
            "| `{key}` | {} | {default} | {about} |",
            kind(property)
        )
        .unwrap();
    }
}

fn order(schema: &Value) -> Vec<String> {
    serde_json::from_value(schema["x-order"].clone()).unwrap()
}

/// A type in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap()))
            .collect();
        return words.join(", ");
    }
    if let Some(title) = schema["title"].as_str() {
        return title.to_owned();
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        return variants.iter().map(kind).collect::<Vec<_>>().join(", or ");
    }
    if schema["items"].is_object() {
        return format!("list of {}", kind(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return "mapping by name".to_owned();
    }
    "mapping".to_owned()
}
