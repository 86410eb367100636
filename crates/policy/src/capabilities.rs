//! What of Rego there is here, in the form in which OPA's tools are told: `capabilities.json`.

use std::collections::BTreeMap;

use regorus::unstable::BUILTINS;
use serde_json::{Value, json};

use crate::{builtins, check};

/// What the compiler of OPA makes of operators and keywords: a name, how it is written, and how many arguments it has.
const OPERATORS: [(&str, &str, u8); 15] = [
    ("assign", ":=", 2),
    ("eq", "=", 2),
    ("equal", "==", 2),
    ("neq", "!=", 2),
    ("lt", "<", 2),
    ("lte", "<=", 2),
    ("gt", ">", 2),
    ("gte", ">=", 2),
    ("plus", "+", 2),
    ("minus", "-", 2),
    ("mul", "*", 2),
    ("div", "/", 2),
    ("rem", "%", 2),
    ("and", "&", 2),
    ("or", "|", 2),
];

/// What `in` and `print` become.
const KEYWORDS: [(&str, u8); 3] = [
    ("internal.member_2", 2),
    ("internal.member_3", 3),
    ("internal.print", 1),
];

/// The builtins that a policy may call, and the language it is written in. `opa check --capabilities FILE` and Regal
/// then find what `policy check` would find. Types are left open, but for how many arguments there are.
pub fn capabilities() -> Value {
    let engine = BUILTINS
        .iter()
        .map(|(name, (_, arguments))| (*name, *arguments));
    let own = builtins::all().map(|builtin| (builtin.name, builtin.arguments));
    let known: BTreeMap<&str, u8> = engine.chain(own).chain(KEYWORDS).collect();
    let known = known
        .into_iter()
        .filter(|(name, _)| !check::is_banned(name) && !name.starts_with("__"));
    let named = known.map(|(name, arguments)| declared(name, arguments));
    let operators = OPERATORS.iter().map(|(name, infix, arguments)| {
        let mut operator = declared(name, *arguments);
        if let Some(operator) = operator.as_object_mut() {
            operator.insert("infix".to_owned(), Value::from(*infix));
        }
        operator
    });
    let builtins: Vec<Value> = operators.chain(named).collect();
    json!({
        "builtins": builtins,
        "future_keywords": ["contains", "every", "if", "in"],
        "features": ["rego_v1", "rule_head_ref_string_prefixes"],
        "allow_net": [],
    })
}

/// `print` alone takes any number of arguments, and has no result.
fn declared(name: &str, arguments: u8) -> Value {
    let any = json!({ "type": "any" });
    let decl = match name {
        "print" => json!({ "type": "function", "variadic": any }),
        "internal.print" => {
            json!({ "type": "function", "args": [{ "type": "array", "dynamic": any }] })
        }
        _ => {
            json!({ "type": "function", "args": vec![&any; usize::from(arguments)], "result": any })
        }
    };
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
        assert!(has("io.jwt.verify_rs256") && has("io.jwt.decode_verify"));
    }
    #[test]
    fn what_there_is_not_is_not() {
        assert!(!has("http.send") && !has("walk") && !has("io.jwt.verify_es512"));
    }
}
