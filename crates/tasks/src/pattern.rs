//! A pattern of operations.

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest pattern, in bytes; our own bound.
const MAX_LENGTH: usize = 1024;

/// A pattern of operations: `GET /repos/*/issues`, `* /admin/**`, or a name such as `create_*`.
///
/// In a route, `METHOD /path`, the method may be `*`; a segment that is `*` or `{name}` stands for one
/// segment that is not empty, `**` at the end for any number of them, none included; any other segment
/// stands for itself, decoded and in this case. In a name `*` stands for any characters, none included.
/// Routes never cover names, and names never cover routes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationPattern {
    text: Arc<str>,
    form: Form,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Form {
    Route {
        /// Any unless given.
        method: Option<Box<str>>,
        segments: Box<[Segment]>,
        /// Whether more segments may follow: `**`.
        open: bool,
    },
    /// The text between the stars.
    Name(Box<[Box<str>]>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Any,
    Literal(Box<str>),
}

/// The one thing a call asks for, in the form that patterns are matched against.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// An HTTP method and the decoded path segments below the tool.
    Route {
        /// Upper case.
        method: &'a str,
        /// Without the leading `/`; a trailing `/` gives a last empty segment.
        segments: &'a [String],
    },
    /// A named operation, such as an MCP tool.
    Name(&'a str),
}

impl OperationPattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern covers what is asked.
    pub fn covers(&self, asked: Asked<'_>) -> bool {
        match (&self.form, asked) {
            (
                Form::Route {
                    method,
                    segments,
                    open,
                },
                Asked::Route {
                    method: asked_method,
                    segments: asked_segments,
                },
            ) => {
                method
                    .as_deref()
                    .is_none_or(|method| method == asked_method)
                    && covers_path(segments, *open, asked_segments)
            }
            (Form::Name(pieces), Asked::Name(name)) => covers_name(pieces, name),
            (Form::Route { .. }, Asked::Name(_)) | (Form::Name(_), Asked::Route { .. }) => false,
        }
    }

    /// Whether everything that this pattern covers is covered by the other one.
    ///
    /// It may say no where only several patterns together cover it all; it never says yes where something is left over.
    pub fn within(&self, other: &Self) -> bool {
        match (&self.form, &other.form) {
            (
                Form::Route {
                    method,
                    segments,
                    open,
                },
                Form::Route {
                    method: other_method,
                    segments: other_segments,
                    open: other_open,
                },
            ) => {
                let is_method = other_method.is_none() || method == other_method;
                let is_long_enough = if *other_open {
                    segments.len() >= other_segments.len()
                } else {
                    !open && segments.len() == other_segments.len()
                };
                let mut pairs = segments.iter().zip(other_segments);
                is_method && is_long_enough && pairs.all(|(one, other)| one.within(other))
            }
            // A star is none of the other's letters, so only a star of the other takes it.
            (Form::Name(_), Form::Name(pieces)) => covers_name(pieces, &self.text),
            (Form::Route { .. }, Form::Name(_)) | (Form::Name(_), Form::Route { .. }) => false,
        }
    }

    /// Whether it is a route (`METHOD /path`) rather than a name.
    pub fn is_route(&self) -> bool {
        match self.form {
            Form::Route { .. } => true,
            Form::Name(_) => false,
        }
    }
}

impl Segment {
    /// Whether everything it stands for the other one stands for, too.
    fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) => true,
            (Self::Any, Self::Literal(_)) => false,
            // `*` stands for no empty segment.
            (Self::Literal(literal), Self::Any) => !literal.is_empty(),
            (Self::Literal(one), Self::Literal(other)) => one == other,
        }
    }
}

fn covers_path(segments: &[Segment], open: bool, asked: &[String]) -> bool {
    // `/` has no segments, or one that is empty: the same path.
    let asked = match asked {
        [only] if only.is_empty() => &[],
        asked => asked,
    };
    // Dots are resolved before a call is observed. Should one be left, nothing covers it.
    if asked
        .iter()
        .any(|segment| segment == "." || segment == "..")
    {
        return false;
    }
    let enough = if open {
        asked.len() >= segments.len()
    } else {
        asked.len() == segments.len()
    };
    enough
        && segments
            .iter()
            .zip(asked)
            .all(|(segment, asked)| match segment {
                Segment::Any => !asked.is_empty(),
                Segment::Literal(literal) => **literal == *asked.as_str(),
            })
}

/// Takes the pieces between the stars from left to right, each at its first place: linear in the number of
/// pieces times the name, without going back.
pub(crate) fn covers_name(pieces: &[Box<str>], name: &str) -> bool {
    let (first, middle, last) = match pieces {
        [] => return false,
        [only] => return **only == *name,
        [first, middle @ .., last] => (first, middle, last),
    };
    let Some(name) = name.strip_prefix(&**first) else {
        return false;
    };
    let Some(mut name) = name.strip_suffix(&**last) else {
        return false;
    };
    for piece in middle {
        let Some((_, rest)) = name.split_once(&**piece) else {
            return false;
        };
        name = rest;
    }
    true
}

impl From<OperationPattern> for String {
    fn from(pattern: OperationPattern) -> Self {
        pattern.text.to_string()
    }
}

/// A text that is no operation pattern.
#[derive(Debug, thiserror::Error)]
#[error("operation pattern `{0}`: {1}")]
pub struct InvalidPattern(String, &'static str);

impl FromStr for OperationPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let form = parse(text).map_err(|problem| InvalidPattern(text.to_owned(), problem))?;
        Ok(Self {
            text: text.into(),
            form,
        })
    }
}

impl TryFrom<String> for OperationPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

fn parse(text: &str) -> Result<Form, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > MAX_LENGTH {
        return Err("is longer than 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    match text.split_once(' ') {
        Some((method, path)) => parse_route(method, path),
        None => parse_name(text),
    }
}

fn parse_route(method: &str, path: &str) -> Result<Form, &'static str> {
    let method = match method {
        "*" => None,
        method => Some(parse_method(method)?),
    };
    let Some(path) = path.strip_prefix('/') else {
        return Err("its path does not begin with `/`");
    };
    let (path, open) = match path {
        "**" => ("", true),
        path => match path.strip_suffix("/**") {
            Some("") => return Err("has an empty segment"),
            Some(path) => (path, true),
            None => (path, false),
        },
    };
    let segments = if path.is_empty() {
        Box::default()
    } else {
        parse_segments(path, open)?
    };
    Ok(Form::Route {
        method,
        segments,
        open,
    })
}

fn parse_method(method: &str) -> Result<Box<str>, &'static str> {
    let well_formed = !method.is_empty()
        && method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if well_formed {
        Ok(method.into())
    } else {
        Err("its method is neither `*` nor upper case")
    }
}

fn parse_segments(path: &str, open: bool) -> Result<Box<[Segment]>, &'static str> {
    let mut texts = path.split('/').peekable();
    let mut segments = Vec::new();
    while let Some(text) = texts.next() {
        // Only the last may be empty: the pattern of a path that ends in `/`.
        if text.is_empty() && (open || texts.peek().is_some()) {
            return Err("has an empty segment");
        }
        segments.push(parse_segment(text)?);
    }
    Ok(segments.into())
}

fn parse_segment(text: &str) -> Result<Segment, &'static str> {
    if text == "*" {
        return Ok(Segment::Any);
    }
    if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        let named = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return if named {
            Ok(Segment::Any)
        } else {
            Err("a segment in braces is not `{name}`")
        };
    }
    if text == "**" {
        return Err("`**` stands elsewhere than at the end");
    }
    if text.contains('*') {
        return Err("`*` stands for a part of a segment");
    }
    if text == "." || text == ".." {
        return Err("has a dot segment");
    }
    if text.contains(['{', '}', '?', '#', '%', '\\']) {
        return Err(
            "has one of `{ } ? # % \\` in a segment; write segments decoded, without a query",
        );
    }
    Ok(Segment::Literal(text.into()))
}

fn parse_name(text: &str) -> Result<Form, &'static str> {
    if text.starts_with('/') {
        return Err("has no method, such as `GET /path`");
    }
    if text.contains("**") {
        return Err("`**` is for paths");
    }
    Ok(Form::Name(text.split('*').map(Box::from).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[track_caller]
    fn check(pattern: &str, asked: &str, expect: bool) {
        let parsed: OperationPattern = pattern.parse().unwrap();
        let covers = match asked.split_once(' ') {
            Some((method, path)) => {
                let segments: Vec<String> = path
                    .strip_prefix('/')
                    .unwrap()
                    .split('/')
                    .map(str::to_owned)
                    .collect();
                let segments = &segments;
                parsed.covers(Asked::Route { method, segments })
            }
            None => parsed.covers(Asked::Name(asked)),
        };
        assert_eq!(covers, expect, "`{pattern}` over `{asked}`");
    }

    #[track_caller]
    fn check_refused(pattern: &str, expect: &str) {
        let error = pattern.parse::<OperationPattern>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("operation pattern `{pattern}`: {expect}")
        );
    }

    #[test]
    fn a_literal_route_covers_itself_alone() {
        check("GET /a/b", "GET /a/b", true);
        check("GET /a/b", "GET /a", false);
        check("GET /a/b", "GET /a/b/c", false);
        check("GET /a/b", "GET /a/b/", false);
        check("GET /a/b", "GET /a/B", false);
        check("GET /a/b", "POST /a/b", false);
        check("GET /a/b", "get /a/b", false);
    }

    #[test]
    fn a_star_method_covers_every_method() {
        check("* /a", "DELETE /a", true);
    }

    #[test]
    fn a_star_segment_covers_one_segment() {
        check("GET /r/*/i", "GET /r/x/i", true);
        check("GET /r/*/i", "GET /r/x/y/i", false);
        check("GET /r/*/i", "GET /r//i", false);
        check("GET /r/*", "GET /r/", false);
        check("GET /r/*", "GET /r", false);
        check("GET /*", "GET /", false);
    }

    #[test]
    fn a_named_segment_is_a_star() {
        check("GET /notes/{id}", "GET /notes/7", true);
        check("GET /notes/{id}", "GET /notes/7/8", false);
    }

    #[test]
    fn two_stars_cover_any_rest() {
        check("GET /**", "GET /", true);
        check("GET /**", "GET /a/b/c", true);
        check("GET /a/**", "GET /a", true);
        check("GET /a/**", "GET /a/", true);
        check("GET /a/**", "GET /a/b/c", true);
        check("GET /a/**", "GET /b/a", false);
        check("GET /a/**", "GET /ab", false);
        check("* /r/*/*/actions/**", "POST /r/x/y/actions/run", true);
        check("* /r/*/*/actions/**", "POST /r/x/actions/run", false);
    }

    #[test]
    fn the_root_covers_the_root() {
        check("GET /", "GET /", true);
        check("GET /", "GET /a", false);
    }

    #[test]
    fn no_segments_are_the_root() {
        let pattern: OperationPattern = "GET /".parse().unwrap();
        let (method, segments) = ("GET", [].as_slice());
        assert!(pattern.covers(Asked::Route { method, segments }));
    }

    #[test]
    fn a_trailing_slash_is_kept() {
        check("GET /a/", "GET /a/", true);
        check("GET /a/", "GET /a", false);
    }

    #[test]
    fn nothing_covers_a_dot_segment() {
        check("GET /**", "GET /a/../b", false);
        check("GET /*/b", "GET /./b", false);
    }

    #[test]
    fn a_name_covers_itself() {
        check("create_issue", "create_issue", true);
        check("create_issue", "Create_issue", false);
        check("create_issue", "create_issues", false);
    }

    #[test]
    fn a_star_in_a_name_covers_any_characters() {
        check("create_*", "create_issue", true);
        check("create_*", "create_", true);
        check("create_*", "recreate_x", false);
        check("*_issue", "create_issue", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("ab*ba", "aba", false);
        check("*", "anything/at all".split(' ').next().unwrap(), true);
    }

    #[test]
    fn routes_and_names_keep_apart() {
        check("*", "GET /a", false);
        check("* /**", "create_issue", false);
    }

    #[test]
    fn odd_routes_are_refused() {
        check_refused("get /a", "its method is neither `*` nor upper case");
        check_refused(" /a", "its method is neither `*` nor upper case");
        check_refused("G* /a", "its method is neither `*` nor upper case");
        check_refused("GET a", "its path does not begin with `/`");
        check_refused("GET  /a", "its path does not begin with `/`");
        check_refused("GET ", "its path does not begin with `/`");
        check_refused("GET /a/**/b", "`**` stands elsewhere than at the end");
        check_refused("GET /**/**", "`**` stands elsewhere than at the end");
        check_refused("GET /**/", "`**` stands elsewhere than at the end");
        check_refused("GET //a", "has an empty segment");
        check_refused("GET //", "has an empty segment");
        check_refused("GET //**", "has an empty segment");
        check_refused("GET /a//**", "has an empty segment");
        check_refused("GET /a/../b", "has a dot segment");
        check_refused("GET /./b", "has a dot segment");
        check_refused("GET /a*", "`*` stands for a part of a segment");
        check_refused("GET /a/***", "`*` stands for a part of a segment");
        check_refused("GET /{}", "a segment in braces is not `{name}`");
        check_refused("GET /{a*}", "a segment in braces is not `{name}`");
    }

    #[test]
    fn routes_are_written_decoded_and_without_a_query() {
        let problem =
            "has one of `{ } ? # % \\` in a segment; write segments decoded, without a query";
        for pattern in [
            "GET /a?b",
            "GET /a#b",
            "GET /a%20b",
            "GET /a{b}",
            "GET /a\\b",
        ] {
            check_refused(pattern, problem);
        }
    }

    #[test]
    fn odd_names_are_refused() {
        check_refused("", "is empty");
        check_refused("/repos/**", "has no method, such as `GET /path`");
        check_refused("a**", "`**` is for paths");
        check_refused("a\nb", "holds a control character");
        check_refused(&"a".repeat(1025), "is longer than 1024 bytes");
    }

    #[test]
    fn it_reads_back_as_written() {
        let pattern: OperationPattern = serde_json::from_str(r#""GET /a/*""#).unwrap();
        assert_eq!(serde_json::to_string(&pattern).unwrap(), r#""GET /a/*""#);
        assert!(pattern.is_route());
    }

    proptest! {
        #[test]
        fn no_text_panics(pattern in any::<String>(), name in any::<String>()) {
            if let Ok(pattern) = pattern.parse::<OperationPattern>() {
                pattern.covers(Asked::Name(&name));
            }
        }

        #[test]
        fn a_name_matches_as_the_plain_definition_says(pattern in "[ab*]{1,6}", name in "[ab]{0,8}") {
            if let Ok(parsed) = pattern.parse::<OperationPattern>() {
                let expect = by_definition(pattern.as_bytes(), name.as_bytes());
                assert_eq!(parsed.covers(Asked::Name(&name)), expect);
            }
        }
    }

    #[track_caller]
    fn check_within(one: &str, other: &str, expect: bool) {
        let (parsed, wider): (OperationPattern, OperationPattern) =
            (one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(parsed.within(&wider), expect, "`{one}` within `{other}`");
    }

    #[test]
    fn a_narrower_route_is_within_a_wider_one() {
        check_within("GET /a/b", "GET /a/b", true);
        check_within("GET /a/b", "GET /a/*", true);
        check_within("GET /a/{id}", "GET /*/*", true);
        check_within("GET /a/b/**", "* /a/**", true);
        check_within("GET /a", "GET /a/**", true);
        check_within("GET /", "GET /**", true);
    }

    #[test]
    fn a_wider_route_is_not_within_a_narrower_one() {
        check_within("* /a", "GET /a", false);
        check_within("GET /a/*", "GET /a/b", false);
        check_within("GET /a/**", "GET /a/*", false);
        check_within("GET /**", "GET /a/**", false);
        check_within("GET /a/", "GET /a/*", false);
        check_within("GET /a/b", "GET /a", false);
    }

    #[test]
    fn names_and_routes_are_not_within_each_other() {
        check_within("create_issue", "create_*", true);
        check_within("create_i*", "create_*", true);
        check_within("create*", "create_*", false);
        check_within("*", "*_*", false);
        check_within("*", "* /**", false);
        check_within("GET /a", "*", false);
    }

    proptest! {
        #[test]
        fn what_is_within_covers_no_more(
            one in "[ab*]{1,5}", other in "[ab*]{1,5}", name in "[ab]{0,6}",
        ) {
            check_no_more(&one, &other, Asked::Name(&name));
        }

        #[test]
        fn a_route_within_another_covers_no_more(
            one in "(GET|\\*) (/[ab*]){1,3}(/|/\\*\\*)?", other in "(GET|\\*) (/[ab*]){0,3}(/|/\\*\\*)?",
            method in "GET|POST", path in "(/[ab]){0,4}/?",
        ) {
            let path = path.strip_prefix('/').unwrap_or_default();
            let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            let segments = &segments;
            check_no_more(&one, &other, Asked::Route { method: &method, segments });
        }

        #[test]
        fn everything_is_within_itself(one in "[ab*]{1,5}|(GET|\\*) (/[ab*]){1,3}(/|/\\*\\*)?") {
            if let Ok(pattern) = one.parse::<OperationPattern>() {
                assert!(pattern.within(&pattern));
            }
        }
    }

    fn check_no_more(one: &str, other: &str, asked: Asked<'_>) {
        if let (Ok(one), Ok(other)) = (
            one.parse::<OperationPattern>(),
            other.parse::<OperationPattern>(),
        ) && one.within(&other)
            && one.covers(asked)
        {
            assert!(other.covers(asked), "{one:?} {other:?} {asked:?}");
        }
    }

    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|skip| by_definition(rest, &name[skip..])),
            [first, rest @ ..] => name.first() == Some(first) && by_definition(rest, &name[1..]),
        }
    }
}
