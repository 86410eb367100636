//! `regex.globs_match`: whether there is a text that two globs of a kind have in common.
//!
//! A glob here is a row of characters, `.` for any and sets like `[a-z_]`, each of which may have `*` or `+` after it;
//! what comes after a backslash is a character.

use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::str::Chars;

use regorus::Value;

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[Builtin {
    name: "regex.globs_match",
    arguments: 2,
    function: |arguments| {
        let (one, other) = (glob(text(arguments, 0)?)?, glob(text(arguments, 1)?)?);
        Ok(Value::from(have_common(&one, &other)))
    },
}];

/// The longest glob, in bytes. No pair of what they hold is compared twice, so that there is an end after a million.
const LONGEST: usize = 1_000;

/// What stands for one character, or with a star for any number of them.
struct Token {
    /// One of them.
    characters: Vec<RangeInclusive<char>>,
    is_starred: bool,
}

impl Token {
    /// Whether there is a character that is of both.
    fn meets(&self, other: &Self) -> bool {
        let overlaps = |one: &RangeInclusive<char>, other: &RangeInclusive<char>| {
            one.start() <= other.end() && other.start() <= one.end()
        };
        let meets = |one| self.characters.iter().any(|range| overlaps(range, one));
        other.characters.iter().any(meets)
    }
}

/// Reads a glob.
fn glob(text: &str) -> anyhow::Result<Vec<Token>> {
    anyhow::ensure!(text.len() <= LONGEST, "a glob has at most {LONGEST} bytes");
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let characters = match character {
            '.' => vec!['\0'..=char::MAX],
            '[' => set(&mut rest)?,
            ']' => anyhow::bail!("a `]` without a `[`"),
            '+' | '*' => anyhow::bail!("a `{character}` after nothing that it could repeat"),
            _ => {
                let character = literal(character, &mut rest)?;
                vec![character..=character]
            }
        };
        let token = |is_starred| Token {
            characters: characters.clone(),
            is_starred,
        };
        match rest.next_if(|next| matches!(next, '+' | '*')) {
            Some('*') => tokens.push(token(true)),
            Some(_) => tokens.extend([token(false), token(true)]),
            None => tokens.push(token(false)),
        }
    }
    Ok(tokens)
}

/// The ranges up to the end of a set.
fn set(rest: &mut Peekable<Chars<'_>>) -> anyhow::Result<Vec<RangeInclusive<char>>> {
    let mut ranges = Vec::new();
    loop {
        let next = rest.next();
        let first = match next.ok_or_else(|| anyhow::anyhow!("a `[` without a `]`"))? {
            ']' => return Ok(ranges),
            '-' => anyhow::bail!("a range must have a first character"),
            first => literal(first, rest)?,
        };
        let mut last = first;
        if rest.next_if_eq(&'-').is_some() {
            last = match rest.next() {
                None | Some(']' | '-') => anyhow::bail!("a range must have a last character"),
                Some(last) => literal(last, rest)?,
            };
        }
        anyhow::ensure!(first <= last, "a range that ends before it begins");
        ranges.push(first..=last);
    }
}

/// A character, or that after a backslash.
fn literal(character: char, rest: &mut Peekable<Chars<'_>>) -> anyhow::Result<char> {
    match character {
        '\\' => rest
            .next()
            .ok_or_else(|| anyhow::anyhow!("a backslash at the end")),
        character => Ok(character),
    }
}

/// Goes along both with the same text, whatever it is: a row holds how far one can be in the other glob, for one place in
/// this.
fn have_common(one: &[Token], other: &[Token]) -> bool {
    let mut row = vec![false; other.len() + 1];
    reach(&mut row, 0);
    for mine in one {
        let mut next = vec![false; row.len()];
        for (at, theirs) in other.iter().enumerate() {
            if !is_reached(&row, at) {
                continue;
            }
            let meets = mine.meets(theirs);
            if mine.is_starred || (meets && theirs.is_starred) {
                reach(&mut next, at);
            }
            if theirs.is_starred || (meets && mine.is_starred) {
                reach(&mut row, at + 1);
            }
            if meets {
                reach(&mut next, at + 1);
            }
        }
        if mine.is_starred && is_reached(&row, other.len()) {
            reach(&mut next, other.len());
        }
        row = next;
    }
    let rest = other.iter().rev().take_while(|theirs| theirs.is_starred);
    row.iter().rev().take(rest.count() + 1).any(|place| *place)
}

fn is_reached(row: &[bool], at: usize) -> bool {
    row.get(at).copied().unwrap_or_default()
}

fn reach(row: &mut [bool], at: usize) {
    if let Some(place) = row.get_mut(at) {
        *place = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(one: &str, other: &str) -> Option<Value> {
        let function = BUILTINS.first().unwrap().function;
        function(&[Value::from(one), Value::from(other)]).ok()
    }

    #[track_caller]
    fn check(one: &str, other: &str, expect: bool) {
        assert_eq!(call(one, other), Some(Value::from(expect)));
        assert_eq!(call(other, one), Some(Value::from(expect)));
    }

    #[track_caller]
    fn check_broken(glob: &str) {
        assert_eq!(call(glob, "a"), None);
        assert_eq!(call("a", glob), None);
    }

    #[test]
    fn the_same_text_is_common() {
        check("abc", "abc", true);
        check("abc", "abd", false);
        check("abc", "ab", false);
        check("", "", true);
        check("", "a", false);
    }
    #[test]
    fn a_dot_is_any_character() {
        check("a.c", ".b.", true);
        check(".", "", false);
    }
    #[test]
    fn a_set_is_one_of_its_characters() {
        check("[a-cx]", "x", true);
        check("[a-cx]", "d", false);
        check("[a-c]", "[c-e]", true);
        check("[]", ".", false);
    }
    #[test]
    fn a_plus_is_once_or_more() {
        check("a+", "aaa", true);
        check("a+", "", false);
        check("a+b", "a.+", true);
        check("a+", "b+", false);
    }
    #[test]
    fn a_star_is_any_number() {
        check("a*", "", true);
        check("a*b*c*", "", true);
        check("a*b", "aac", false);
        check("[a-z]+", "[0-9]*", false);
        check("[a-z]*", "[0-9]*", true);
        check("a.a.[0-9]+z", ".b.b2359825792*594823z", true);
        check("x.*y", "xz*", false);
        check("x.*y", "xz*y", true);
    }
    #[test]
    fn what_comes_after_a_backslash_is_a_character() {
        check(r"[a-z]+\[[0-9]+\]", r"foo\[1\]", true);
        check(r"[a-z]+\[[0-9]+\]", "foo[\"bar\"]", false);
        check(r"[\]\-]", r"\]", true);
        check(r"\.", "a", false);
    }
    #[test]
    fn what_is_no_glob_fails() {
        for broken in [
            "pqrs]", "[a", "[a-", "[a-]", "[-a]", "[z-a]", "[a-c-e]", "+a", "a**",
        ] {
            check_broken(broken);
        }
        check_broken("\\");
        check_broken("[\\");
    }
    #[test]
    fn long_globs_fail() {
        check(&"a".repeat(1_000), &"a".repeat(1_000), true);
        check_broken(&"a".repeat(1_001));
    }
    #[test]
    fn what_would_take_ever_to_try_does_not() {
        let one = ".*a".repeat(333);
        check(&one, &"a*".repeat(500), true);
        check(&format!("{one}x"), &"[ab]*".repeat(200), false);
    }
    /// What is common of two globs is found by going through all short texts of two letters.
    #[test]
    fn short_globs_have_in_common_what_both_match() {
        let parts = ["a", "b", "a*", "b+", ".", ".*", "[ab]+"];
        let mut globs = vec![String::new()];
        for _ in 0..3 {
            let longer = globs
                .iter()
                .flat_map(|glob| parts.map(|part| format!("{glob}{part}")));
            globs = globs.iter().cloned().chain(longer).collect();
        }
        globs.sort();
        globs.dedup();
        let mut texts = vec![String::new()];
        for _ in 0..6 {
            let longer = texts
                .iter()
                .flat_map(|text| ["a", "b"].map(|end| format!("{text}{end}")));
            texts = texts.iter().cloned().chain(longer).collect();
        }
        texts.sort();
        texts.dedup();
        let read: Vec<_> = globs.iter().map(|text| glob(text).unwrap()).collect();
        let plain: Vec<_> = texts.iter().map(|text| glob(text).unwrap()).collect();
        let matched: Vec<Vec<bool>> = read
            .iter()
            .map(|glob| plain.iter().map(|text| have_common(glob, text)).collect())
            .collect();
        for (one, of_one) in read.iter().zip(&matched) {
            for (other, of_other) in read.iter().zip(&matched) {
                let both = of_one
                    .iter()
                    .zip(of_other)
                    .any(|(one, other)| *one && *other);
                assert_eq!(have_common(one, other), both);
            }
        }
    }
}
