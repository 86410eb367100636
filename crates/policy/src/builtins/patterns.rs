//! `regex.match` without a copy of the pattern for each call: each thread keeps those that it compiled.
//!
//! regorus keeps them for all threads behind a lock and hands out copies, and a copy has to make its working memory anew.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};
use regorus::{LimitError, Value};

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[Builtin {
    name: "regex.match",
    arguments: 2,
    function: is_match,
}];

/// The largest pattern, compiled, in bytes: the engine's own limit.
const LARGEST: usize = 100 * 1024;

/// The most working memory of a pattern, in bytes.
const WORKING_MEMORY: usize = 128 * 1024;

/// How many patterns a thread keeps; patterns may come from agents. All together they take at most 15 MiB.
const MOST: usize = 64;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn is_match(arguments: &[Value]) -> anyhow::Result<Value> {
    let (pattern, value) = (text(arguments, 0)?, text(arguments, 1)?);
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(regex) = compiled.get(pattern) {
            return Ok(Value::from(regex.is_match(value)));
        }
        let regex = compile(pattern)?;
        let answer = Value::from(regex.is_match(value));
        // Policies have few; where there are many, none is asked for often.
        if compiled.len() >= MOST {
            compiled.clear();
        }
        compiled.insert(pattern.to_owned(), regex);
        Ok(answer)
    })
}

fn compile(pattern: &str) -> anyhow::Result<Regex> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(LARGEST).dfa_size_limit(WORKING_MEMORY);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            anyhow::Error::new(LimitError::RegexSizeLimitExceeded { limit: LARGEST })
        }
        _ => anyhow::anyhow!("the pattern is none"),
    })
}

#[cfg(test)]
mod tests {
    use regorus::Value;

    use super::{COMPILED, MOST, is_match};

    fn asked(pattern: &str, value: &str) -> Result<bool, String> {
        let arguments = [Value::from(pattern), Value::from(value)];
        let answer = is_match(&arguments).map_err(|error| error.to_string())?;
        Ok(answer == Value::Bool(true))
    }

    #[test]
    fn it_says_what_the_engine_says() {
        for (pattern, value) in [
            ("^a+$", "aaa"),
            ("^a+$", "aab"),
            ("b", "abc"),
            ("", ""),
            ("(?i)ABC", "xabcx"),
            ("^[0-9A-Za-z_]{1,64}$", "é"),
            ("\\d", "٣"),
        ] {
            let arguments = [Value::from(pattern), Value::from(value)];
            let engine = crate::builtins::named("regex.match", &arguments).unwrap();
            // Twice: the second is of the one that is kept.
            for _ in 0..2 {
                assert_eq!(is_match(&arguments).unwrap(), engine, "{pattern} {value}");
            }
        }
    }
    #[test]
    fn what_is_no_pattern_fails() {
        assert!(asked("(", "x").is_err());
        assert!(asked("(a", "x").is_err());
    }
    #[test]
    fn one_that_is_too_large_fails_by_its_own_name() {
        let arguments = [Value::from("((a{1,100}){1,100}){1,100}"), Value::from("a")];
        let error = is_match(&arguments).unwrap_err();
        assert!(error.downcast_ref::<regorus::LimitError>().is_some());
    }
    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        for number in 0..1_000 {
            assert_eq!(asked(&format!("^{number}$"), &number.to_string()), Ok(true));
        }
        COMPILED.with_borrow(|compiled| assert!(compiled.len() <= MOST));
    }
}
