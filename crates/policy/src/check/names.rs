//! Which packages may be written by whom.

use regorus::Value;
use regorus::unstable::Expr;

use super::Parsed;
use crate::finding::Finding;

/// The words of a reference as far as they are fixed: `a.b["c"][x]` is `a`, `b`, `c`.
pub(crate) fn path(expression: &Expr) -> Vec<String> {
    let mut words = Vec::new();
    collect(expression, &mut words);
    words
}

/// Collects the words; false once one is not fixed.
pub(super) fn collect(expression: &Expr, words: &mut Vec<String>) -> bool {
    match expression {
        Expr::Var { value, .. } => push(value, words),
        Expr::RefDot { refr, field, .. } => collect(refr, words) && push(&field.1, words),
        Expr::RefBrack { refr, index, .. } => {
            collect(refr, words)
                && match index.as_ref() {
                    Expr::String { value, .. } | Expr::RawString { value, .. } => {
                        push(value, words)
                    }
                    _ => false,
                }
        }
        _ => false,
    }
}

fn push(value: &Value, words: &mut Vec<String>) -> bool {
    match value {
        Value::String(word) => {
            words.push(word.to_string());
            true
        }
        _ => false,
    }
}

/// Checks a file's package.
pub(super) fn check(module: &Parsed) -> Vec<Finding> {
    let package: Vec<&str> = module.package.iter().map(String::as_str).collect();
    let fits = match package.as_slice() {
        ["remit", "tools", tool] => is_word(tool),
        ["remit", "all" | "admit" | "list"] => true,
        ["remit", "lib", name] => is_word(name),
        // What is told of decisions, under OPA's name for it.
        ["system", "log"] => true,
        _ => false,
    };
    // Not below `remit.tools`: the reference evaluates all that is there, and a test would test itself.
    let tests = match package.as_slice() {
        [name] | ["remit", name] => name.ends_with("_test"),
        _ => false,
    };
    let complaint = match (module.is_test, fits, tests) {
        (false, true, _) | (true, _, true) => return Vec::new(),
        (true, ..) => "a test file begins with `package remit.<name>_test`",
        (false, ..) => {
            "write `package remit.tools.<tool>`, `remit.all`, `remit.admit`, `remit.list` or `remit.lib.<name>`; tests go into `*_test.rego`"
        }
    };
    vec![Finding::at(
        "package",
        &module.module.package.span,
        complaint,
    )]
}

/// A word that a tool or a helper can be called.
fn is_word(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_lowercase())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
