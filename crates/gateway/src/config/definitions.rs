//! What a schema says more than once, said once: `$defs` (JSON Schema 2020-12, section 8.2).

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// What belongs to a place rather than to what stands there.
const OF_THE_PLACE: [&str; 2] = ["default", "description"];

/// Moves each mapping that occurs more than once to `$defs`.
pub(super) fn define(schema: Value) -> Value {
    let mut definitions = Definitions::default();
    definitions.count(&schema);
    let mut schema = definitions.told(schema, "config");
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$defs".to_owned(), Value::Object(definitions.told_once));
    }
    schema
}

#[derive(Default)]
struct Definitions {
    /// How often a mapping occurs.
    counts: HashMap<String, usize>,
    names: HashMap<String, String>,
    told_once: Map<String, Value>,
}

impl Definitions {
    fn count(&mut self, schema: &Value) {
        if let Some(mapping) = mapping(schema) {
            let count = self.counts.entry(mapping).or_default();
            *count += 1;
            // What is in it is told with it.
            if *count > 1 {
                return;
            }
        }
        match schema {
            Value::Object(members) => members.values().for_each(|value| self.count(value)),
            Value::Array(values) => values.iter().for_each(|value| self.count(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// `near` is the key under which it stands.
    fn told(&mut self, schema: Value, near: &str) -> Value {
        let key = mapping(&schema);
        let schema = match schema {
            Value::Object(members) => members,
            Value::Array(values) => {
                let told = values.into_iter().map(|value| self.told(value, near));
                return Value::Array(told.collect());
            }
            other => return other,
        };
        let Some(key) = key.filter(|key| self.counts.get(key).is_some_and(|count| *count > 1))
        else {
            return Value::Object(self.members(schema, near));
        };
        let (of_the_place, mapping): (Map<_, _>, Map<_, _>) = schema
            .into_iter()
            .partition(|(name, _)| OF_THE_PLACE.contains(&name.as_str()));
        let name = match self.names.get(&key) {
            Some(name) => name.clone(),
            None => {
                let name = self.name(&mapping, near);
                self.names.insert(key, name.clone());
                let mapping = self.members(mapping, near);
                self.told_once.insert(name.clone(), Value::Object(mapping));
                name
            }
        };
        let mut told = of_the_place;
        told.insert("$ref".to_owned(), json!(format!("#/$defs/{name}")));
        Value::Object(told)
    }

    fn members(&mut self, members: Map<String, Value>, near: &str) -> Map<String, Value> {
        let is_keyword = |name: &str| {
            [
                "properties",
                "items",
                "anyOf",
                "oneOf",
                "additionalProperties",
            ]
            .contains(&name)
        };
        let told = members.into_iter().map(|(name, value)| {
            let near = if is_keyword(&name) { near } else { &name };
            let value = self.told(value, near);
            (name, value)
        });
        told.collect()
    }

    /// By its provider or method, else by the key under which it stands first.
    fn name(&self, mapping: &Map<String, Value>, near: &str) -> String {
        let told = ["provider", "method"].into_iter().find_map(|kind| {
            let text = mapping
                .get("properties")?
                .get(kind)?
                .get("const")?
                .as_str()?;
            Some(format!("{kind}_{text}"))
        });
        let name = told.unwrap_or_else(|| near.to_owned());
        let is_taken = |name: &String| self.names.values().any(|taken| taken == name);
        let mut free = name.clone();
        let mut number = 1;
        while is_taken(&free) {
            number += 1;
            free = format!("{name}_{number}");
        }
        free
    }
}

/// What tells one mapping from another: all but what belongs to its place.
fn mapping(schema: &Value) -> Option<String> {
    let members = schema.as_object()?;
    members.get("properties")?.as_object()?;
    let rest = members
        .iter()
        .filter(|(name, _)| !OF_THE_PLACE.contains(&name.as_str()));
    let rest: Map<String, Value> = rest
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Some(Value::Object(rest).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurs_twice_is_told_once() {
        let inner = json!({ "properties": { "c": { "type": "string" } } });
        let mut described = inner.clone();
        described["description"] = "of this place".into();
        let schema = json!({ "properties": {
            "a": { "properties": { "x": inner } },
            "b": { "items": described },
        } });
        let expect = json!({
            "properties": {
                "a": { "properties": { "x": { "$ref": "#/$defs/x" } } },
                "b": { "items": { "$ref": "#/$defs/x", "description": "of this place" } },
            },
            "$defs": { "x": { "properties": { "c": { "type": "string" } } } },
        });
        assert_eq!(define(schema), expect);
    }

    #[test]
    fn two_that_differ_have_two_names() {
        let of = |key: &str| json!({ "properties": { key: true } });
        let schema = json!({ "properties": {
            "a": { "anyOf": [of("x"), of("y"), of("x"), of("y")] },
        } });
        let refs =
            ["a", "a_2", "a", "a_2"].map(|name| json!({ "$ref": format!("#/$defs/{name}") }));
        assert_eq!(define(schema)["properties"]["a"]["anyOf"], json!(refs));
    }
}
