//! How a tool's calls are counted besides how many they are: what they cost, and what they are made on.

use http::HeaderName;
use serde_json::Value;
use tasks::{Access, Amount, ArgumentPointer, Found, OperationPattern, Unit};

use crate::head::Pair;

/// How what some calls of a tool cost is read from their answers.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Of what.
    pub unit: Unit,
    /// The operations; all unless given.
    pub operations: Vec<OperationPattern>,
    /// The access classes; all unless given.
    pub access: Vec<Access>,
    /// Where the answer tells it.
    pub source: MeterSource,
    /// What each one of the number found costs.
    pub price: f64,
    /// The most that one call is expected to cost. It is held before the call, and counts where the answer tells nothing.
    pub reserve: Amount,
}

/// Where an answer tells what its call cost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MeterSource {
    /// Nowhere: each call that succeeds costs what is reserved for it.
    Fixed,
    /// In a header.
    Header(HeaderName),
    /// In the JSON of its body, or of one of the events that it streams: the largest number found at one of these pointers
    /// (RFC 6901).
    Json(Vec<ArgumentPointer>),
}

/// What the calls of a tool are made on, as distinct resources are counted.
#[derive(Clone, Debug, Default)]
pub struct ResourceRule {
    /// Beginnings of paths: a call below one of them is made on what it matched, any other on its whole path.
    pub paths: Vec<PathStart>,
    /// Pointers into the arguments, whose values are a part of the resource.
    pub arguments: Vec<ArgumentPointer>,
    /// Keys of the query, whose values are a part of it, too.
    pub query: Vec<String>,
}

/// The beginning of a path, such as `/repos/*/*`: a `*` stands for one segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathStart(Vec<Option<String>>);

/// No beginning of a path.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no beginning of a path, such as `/repos/*/*`")]
pub struct InvalidPathStart(String);

impl std::str::FromStr for PathStart {
    type Err = InvalidPathStart;

    fn from_str(text: &str) -> Result<Self, InvalidPathStart> {
        let segments = text.strip_prefix('/').filter(|rest| !rest.is_empty());
        let segments = segments.ok_or_else(|| InvalidPathStart(text.to_owned()))?;
        let is_plain =
            |segment: &str| segment == "*" || !(segment.is_empty() || segment.contains(['*', '%']));
        if !segments.split('/').all(is_plain) {
            return Err(InvalidPathStart(text.to_owned()));
        }
        let segments = segments
            .split('/')
            .map(|segment| (segment != "*").then(|| segment.to_owned()));
        Ok(Self(segments.collect()))
    }
}

impl PathStart {
    /// The segments that it covers, if the path begins with them.
    fn of<'a>(&self, segments: &'a [String]) -> Option<&'a [String]> {
        let start = segments.get(..self.0.len())?;
        let fits = |(own, segment): (&Option<String>, &String)| {
            own.as_ref().is_none_or(|own| own == segment)
        };
        self.0.iter().zip(start).all(fits).then_some(start)
    }
}

impl ResourceRule {
    /// What a call is made on: the tool, then what is called in it, then the arguments that tell it. Where readers may differ
    /// about one of them all of them do.
    pub(crate) fn of(&self, tool: &str, called: Called<'_>, asked: Asked<'_>) -> String {
        let mut resource = tool.to_owned();
        match called {
            Called::Name(name) => {
                resource.push('/');
                resource.push_str(name);
            }
            Called::Path(segments) => {
                let mut starts = self.paths.iter();
                let start = starts.find_map(|start| start.of(segments));
                for segment in start.unwrap_or(segments) {
                    resource.push('/');
                    resource.push_str(segment);
                }
            }
        }
        let all = asked.arguments.unwrap_or(&Value::Null);
        for pointer in &self.arguments {
            resource.push(' ');
            match pointer.find(all) {
                Found::Value(value) => resource.push_str(&value.to_string()),
                Found::Missing => resource.push_str("null"),
                Found::Doubtful => resource.push_str(&all.to_string()),
            }
        }
        for key in &self.query {
            let pairs = asked.query.iter().filter(|pair| pair.key == *key);
            for pair in pairs {
                resource.push_str(" ?");
                resource.push_str(&pair.value);
            }
        }
        resource
    }
}

/// What a call brings that may tell what it is made on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) arguments: Option<&'a Value>,
    pub(crate) query: &'a [Pair],
}

/// What is called in a tool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Called<'a> {
    /// An operation by its name.
    Name(&'a str),
    /// A path below the tool.
    Path(&'a [String]),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(rule: (&[&str], &[&str]), path: &str, expect: &str) {
        let (paths, arguments) = rule;
        let rule = ResourceRule {
            paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
            arguments: arguments
                .iter()
                .map(|pointer| pointer.parse().unwrap())
                .collect(),
            query: Vec::new(),
        };
        let segments: Vec<_> = path.split('/').skip(1).map(str::to_owned).collect();
        let arguments = json!({"owner": "acme", "n": 1, "Owner2": 2});
        let asked = Asked {
            arguments: Some(&arguments),
            query: &[],
        };
        let resource = rule.of("github", Called::Path(&segments), asked);
        assert_eq!(resource, expect);
    }

    #[test]
    fn a_resource_is_what_a_rule_matches() {
        check(
            (&[], &[]),
            "/repos/a/b/issues/1",
            "github/repos/a/b/issues/1",
        );
        check(
            (&["/repos/*/*"], &[]),
            "/repos/a/b/issues/1",
            "github/repos/a/b",
        );
        check((&["/repos/*/*"], &[]), "/repos/a", "github/repos/a");
        check((&["/orgs/*", "/*"], &[]), "/user/keys", "github/user");
        check((&[], &["/owner", "/n"]), "/x", "github/x \"acme\" 1");
        check((&[], &["/none"]), "/x", "github/x null");
        // A reader that doesn't tell cases finds one.
        let all = r#"github/x {"Owner2":2,"n":1,"owner":"acme"}"#;
        check((&[], &["/owner2"]), "/x", all);
    }

    #[test]
    fn a_named_operation_is_one() {
        let rule = ResourceRule::default();
        assert_eq!(
            rule.of(
                "tickets",
                Called::Name("create_issue"),
                Asked {
                    arguments: None,
                    query: &[]
                }
            ),
            "tickets/create_issue"
        );
    }

    #[test]
    fn what_begins_no_path_is_refused() {
        for text in ["", "/", "repos", "/a//b", "/a*", "/**", "/a/", "/%61"] {
            assert!(text.parse::<PathStart>().is_err(), "{text}");
        }
    }
}
