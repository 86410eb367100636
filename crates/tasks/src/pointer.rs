//! Where in a call's arguments one of them stands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

// Our own bounds: arguments are read 64 deep.
const MAX_BYTES: usize = 256;
const MAX_DEPTH: usize = 16;

/// A JSON pointer (RFC 6901) to one of a call's arguments: `/repo`, `/items/0/price`; at most 256 bytes and 16 deep. `~0` stands for
/// `~`, `~1` for `/`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArgumentPointer {
    /// Each argument has one text, so texts tell pointers apart.
    text: Box<str>,
    tokens: Box<[Box<str>]>,
}

/// What stands where a pointer points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'a> {
    /// One value, for every reader.
    Value(&'a Value),
    /// Nothing, for every reader.
    Missing,
    /// Readers may differ.
    Doubtful,
}

impl ArgumentPointer {
    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its parts, without their escapes.
    pub fn tokens(&self) -> &[Box<str>] {
        &self.tokens
    }

    /// What stands there. A key that some reader might take for the one that is meant makes it doubtful, and so does a
    /// value on the way that holds no others.
    pub fn find<'a>(&self, arguments: &'a Value) -> Found<'a> {
        let mut value = arguments;
        for token in &self.tokens {
            let next = match value {
                Value::Object(fields) => field(fields, token),
                Value::Array(items) => item(items, token),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                    Found::Doubtful
                }
            };
            match next {
                Found::Value(inner) => value = inner,
                Found::Missing | Found::Doubtful => return next,
            }
        }
        Found::Value(value)
    }

    /// Whether one of two stands in the way of the other, or is the same.
    pub fn meets(&self, other: &Self) -> bool {
        let mut both = self.tokens.iter().zip(&other.tokens);
        both.all(|(one, other)| folded(one) == folded(other))
    }

    /// Whether a reader that takes arguments from elsewhere, such as the query, might take this key for the argument, or for
    /// what it stands in.
    pub(crate) fn is_named_by(&self, key: &str) -> bool {
        let mut tokens = self.tokens.iter();
        tokens
            .next()
            .is_some_and(|token| is_spelled_like(key, token))
    }
}

fn field<'a>(fields: &'a Map<String, Value>, token: &str) -> Found<'a> {
    let is_twin = |key: &&String| **key != *token && is_spelled_like(key, token);
    match (fields.keys().find(is_twin), fields.get(token)) {
        (Some(_), _) => Found::Doubtful,
        (None, Some(value)) => Found::Value(value),
        (None, None) => Found::Missing,
    }
}

fn item<'a>(items: &'a [Value], token: &str) -> Found<'a> {
    // RFC 6901 section 4: digits, without a zero before others.
    let is_index = token.bytes().all(|byte| byte.is_ascii_digit())
        && !token.is_empty()
        && (token == "0" || !token.starts_with('0'));
    if !is_index {
        return Found::Doubtful;
    }
    // One that is too large for this machine is past every end.
    let index = token.parse().unwrap_or(usize::MAX);
    items.get(index).map_or(Found::Missing, Found::Value)
}

/// Whether some reader might take a key for another one: in another case, as a part of it (`a[]`, `a[b]`, `a.b`, `[a]`), with
/// what can't stand in a name made `_`, as PHP does, or with words joined in another way (`force_push`, `forcePush`).
fn is_spelled_like(key: &str, token: &str) -> bool {
    let joined = |key: &str| folded(key).replace(['_', '-', ' ', '.', '[', ']'], "");
    let whole = key.trim_start_matches('[');
    let whole = whole.split(['.', '[', ']']).next().unwrap_or(whole);
    joined(whole) == joined(token) || joined(key) == joined(token)
}

/// A key as readers see it that don't tell cases (Go's `encoding/json`, which folds `ſ` and `K` too).
pub fn folded(key: &str) -> String {
    key.to_lowercase().replace('ſ', "s")
}

impl fmt::Display for ArgumentPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ArgumentPointer> for String {
    fn from(pointer: ArgumentPointer) -> Self {
        pointer.text.into()
    }
}

/// A text that points to no argument.
#[derive(Debug, thiserror::Error)]
#[error("argument pointer `{0}` {1}")]
pub struct InvalidPointer(String, &'static str);

impl FromStr for ArgumentPointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        let tokens = parse(text).map_err(|problem| InvalidPointer(text.to_owned(), problem))?;
        Ok(Self {
            text: text.into(),
            tokens,
        })
    }
}

impl TryFrom<String> for ArgumentPointer {
    type Error = InvalidPointer;

    fn try_from(text: String) -> Result<Self, InvalidPointer> {
        text.parse()
    }
}

fn parse(text: &str) -> Result<Box<[Box<str>]>, &'static str> {
    if text.len() > MAX_BYTES {
        return Err("is longer than 256 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err("does not begin with `/`");
    };
    let tokens: Box<[Box<str>]> = rest.split('/').map(token).collect::<Result<_, _>>()?;
    if tokens.len() > MAX_DEPTH {
        return Err("is more than 16 deep");
    }
    Ok(tokens)
}

fn token(text: &str) -> Result<Box<str>, &'static str> {
    let mut escaped = text.split('~').skip(1);
    if escaped.any(|after| !after.starts_with(['0', '1'])) {
        return Err("has a `~` that is neither `~0` nor `~1`");
    }
    // In this order, so that `~01` is `~1` (RFC 6901 section 4).
    Ok(text.replace("~1", "/").replace("~0", "~").into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pointer: &str, arguments: &Value, expect: Found<'_>) {
        let pointer: ArgumentPointer = pointer.parse().unwrap();
        assert_eq!(pointer.find(arguments), expect, "{pointer} in {arguments}");
    }

    #[track_caller]
    fn check_refused(pointer: &str, problem: &str) {
        let refused = pointer.parse::<ArgumentPointer>().unwrap_err();
        assert_eq!(refused.1, problem, "{pointer}");
    }

    #[test]
    fn an_argument_is_found() {
        let arguments = json!({"a": {"b": [1, {"c": 2}]}, "": 3, "m~n": 4, "x/y": 5, "~1": 6});
        check("/a/b/0", &arguments, Found::Value(&json!(1)));
        check("/a/b/1/c", &arguments, Found::Value(&json!(2)));
        check("/", &arguments, Found::Value(&json!(3)));
        check("/m~0n", &arguments, Found::Value(&json!(4)));
        check("/x~1y", &arguments, Found::Value(&json!(5)));
        check("/~01", &arguments, Found::Value(&json!(6)));
        check("/null", &json!({"null": null}), Found::Value(&Value::Null));
    }

    #[test]
    fn two_meet_where_one_is_on_the_way_of_the_other() {
        for (one, other, expect) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/A", true),
            ("/a/b", "/a/c", false),
            ("/a", "/ab", false),
        ] {
            let [one, other]: [ArgumentPointer; 2] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!(one.meets(&other), expect, "{one} {other}");
        }
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let arguments = json!({"a": {"b": [1]}});
        for pointer in [
            "/b",
            "/a/c",
            "/a/c/d",
            "/a/b/1",
            "/a/b/99999999999999999999999",
        ] {
            check(pointer, &arguments, Found::Missing);
        }
        check("/a", &json!({}), Found::Missing);
    }

    #[test]
    fn what_some_reader_might_take_for_it_makes_it_doubtful() {
        for key in [
            "Repo", "REPO", "repo[]", "repo[x]", "repo.x", "repo.", "repo[", "Repo[x]", "[repo]",
            "[repo", "re_po", "re-po", "rePo", "repo_",
        ] {
            let arguments = json!({ key: 1 });
            check("/repo", &arguments, Found::Doubtful);
            check("/repo", &json!({ key: 1, "repo": 2 }), Found::Doubtful);
            check("/a/repo", &json!({ "a": arguments }), Found::Doubtful);
        }
        check("/k_s", &json!({"K_S": 1}), Found::Doubtful);
        check("/ks", &json!({"Kſ": 1}), Found::Doubtful);
        check("/a_b", &json!({"a.b": 1}), Found::Doubtful);
        check("/a_b", &json!({"a b": 1}), Found::Doubtful);
        check("/force_push", &json!({"forcePush": 1}), Found::Doubtful);
        check(
            "/repo",
            &json!({"repos": 1, "re": 2, "re_po2": 3}),
            Found::Missing,
        );
    }

    #[test]
    fn other_values_on_the_way_make_it_doubtful() {
        for arguments in [
            json!({"a": 1}),
            json!({"a": "{}"}),
            json!({"a": null}),
            json!({"a": [1]}),
        ] {
            check("/a/b", &arguments, Found::Doubtful);
        }
        for index in ["-", "01", "+1", "-1", "1e0", " 1", "", "٣"] {
            check(
                &format!("/a/{index}"),
                &json!({"a": [1, 2]}),
                Found::Doubtful,
            );
        }
        check("/a", &json!([{"a": 1}]), Found::Doubtful);
    }

    #[test]
    fn forms_of_unicode_are_different_keys() {
        check("/caf\u{e9}", &json!({"cafe\u{301}": 1}), Found::Missing);
    }

    #[test]
    fn odd_pointers_are_refused() {
        check_refused("", "does not begin with `/`");
        check_refused("repo", "does not begin with `/`");
        check_refused("#/repo", "does not begin with `/`");
        for escape in ["/~", "/~2", "/a~b", "/a~", "/~~0"] {
            check_refused(escape, "has a `~` that is neither `~0` nor `~1`");
        }
        check_refused("/a\nb", "holds a control character");
        check_refused(&"/a".repeat(17), "is more than 16 deep");
        check_refused(&"/".repeat(257), "is longer than 256 bytes");
        assert!("/a".repeat(16).parse::<ArgumentPointer>().is_ok());
    }

    #[test]
    fn a_key_elsewhere_names_it() {
        let pointer: ArgumentPointer = "/repo/name".parse().unwrap();
        for key in ["repo", "Repo", "repo[name]", "repo.name", "repo[]"] {
            assert!(pointer.is_named_by(key), "{key}");
        }
        for key in ["name", "repos", "x[repo]"] {
            assert!(!pointer.is_named_by(key), "{key}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(pointer in any::<String>(), key in any::<String>()) {
            for pointer in [pointer.clone(), format!("/{pointer}")] {
                if let Ok(pointer) = pointer.parse::<ArgumentPointer>() {
                    pointer.find(&json!({ key.clone(): [1] }));
                    pointer.is_named_by(&key);
                }
            }
        }
    }
}
