//! What of Rego there is here, in the form in which OPA's tools are told: `capabilities.json`.

use std::collections::BTreeMap;

use regorus::unstable::BUILTINS;
use serde_json::{Value, json};

use crate::{builtins, check};

/// The builtins that a policy may call, and the language it is written in. `opa check --capabilities FILE` and Regal
/// then find what `policy check` would find. Types are left open, but for how many arguments there are.
pub fn capabilities() -> Value {
    let engine = BUILTINS
        .iter()
        .map(|(name, (_, arguments))| (*name, *arguments));
    let own = builtins::all().map(|builtin| (builtin.name, builtin.arguments));
    let known: BTreeMap<&str, u8> = engine.chain(own).collect();
    let known = known
        .into_iter()
        .filter(|(name, _)| !check::is_banned(name) && !name.starts_with("__"));
    let builtins: Vec<Value> = known
        .map(|(name, arguments)| declared(name, arguments))
        .collect();
    json!({
        "builtins": builtins,
        "future_keywords": ["contains", "every", "if", "in"],
        "features": ["rego_v1", "rule_head_ref_string_prefixes"],
        "allow_net": [],
    })
}

fn declared(name: &str, arguments: u8) -> Value {
    let any = json!({ "type": "any" });
    // A name without a dot is one of the language's own functions; any number of arguments is told as a variadic one.
    let mut decl = json!({ "type": "function", "result": any });
    if let Some(decl) = decl.as_object_mut() {
        match arguments {
            0 => decl.insert("variadic".to_owned(), any),
            _ => decl.insert("args".to_owned(), vec![any; usize::from(arguments)].into()),
        };
    }
    json!({ "name": name, "decl": decl })
}

#[cfg(test)]
mod tests {
    use super::capabilities;

    fn has(name: &str) -> bool {
        let capabilities = capabilities();
        let builtins = capabilities["builtins"].as_array().unwrap();
        builtins.iter().any(|builtin| builtin["name"] == name)
    }

    #[test]
    fn what_there_is_is_told() {
        assert!(has("startswith") && has("net.cidr_merge") && has("crypto.hmac.sha256"));
    }
    #[test]
    fn what_there_is_not_is_not() {
        assert!(!has("http.send") && !has("walk") && !has("io.jwt.verify_rs256"));
    }
}
