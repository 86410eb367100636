//! Which of several patterns wins.

use http::Method;
use tasks::Access::{self, Execute, Read, Write};

use super::{choose, judged};

#[track_caller]
fn check(patterns: &[(Access, &str)], expect: Option<(Access, &str)>) {
    let found = choose(patterns, |pattern| pattern.starts_with("yes"));
    assert_eq!(found.map(|(access, pattern)| (access, *pattern)), expect);
}

#[test]
fn the_only_match_wins() {
    check(&[(Write, "no"), (Read, "yes")], Some((Read, "yes")));
}
#[test]
fn execute_beats_write_beats_read() {
    check(
        &[(Read, "yes 1"), (Execute, "yes 2"), (Write, "yes 3")],
        Some((Execute, "yes 2")),
    );
    check(&[(Write, "yes 1"), (Read, "yes 2")], Some((Write, "yes 1")));
}
#[test]
fn the_first_of_a_class_wins() {
    check(
        &[(Write, "yes 1"), (Write, "yes 2")],
        Some((Write, "yes 1")),
    );
}
#[test]
fn without_a_match_there_is_none() {
    check(&[(Read, "no")], None);
}

#[test]
fn head_is_judged_as_get() {
    assert_eq!(
        judged(&Method::HEAD, ["GET /**", "* /**"].into_iter()),
        "GET"
    );
}
#[test]
fn head_is_judged_as_itself_if_named() {
    assert_eq!(judged(&Method::HEAD, ["HEAD /**"].into_iter()), "HEAD");
}
#[test]
fn other_methods_are_judged_as_themselves() {
    assert_eq!(judged(&Method::PUT, ["GET /**"].into_iter()), "PUT");
}
