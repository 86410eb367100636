//! Which spellings of a path are one, and which are refused.

use proptest::prelude::*;

use super::{Path, encode};

#[track_caller]
fn check(raw: &str, wire: &str) {
    assert_eq!(Path::canonical(raw).unwrap().wire, wire, "{raw}");
}

#[track_caller]
fn segments(raw: &str, segments: &[&str]) {
    assert_eq!(Path::canonical(raw).unwrap().segments, segments, "{raw}");
}

#[track_caller]
fn refused(raw: &str) {
    assert!(Path::canonical(raw).is_err(), "{raw}");
}

#[test]
fn a_plain_path_stays() {
    check("/repos/acme/x-1/issues.json", "/repos/acme/x-1/issues.json");
}
#[test]
fn unreserved_characters_are_decoded() {
    check("/%72epos/%2d%2E%5f%7Ex", "/repos/-._~x");
}
#[test]
fn hex_digits_become_upper_case() {
    check("/caf%c3%a9/%20", "/caf%C3%A9/%20");
}
#[test]
fn characters_that_a_segment_may_hold_are_decoded() {
    check("/v1/models/x%3Agenerate/%40me", "/v1/models/x:generate/@me");
}
#[test]
fn characters_that_a_segment_may_not_hold_are_encoded() {
    check("/a{b}|\"^", "/a%7Bb%7D%7C%22%5E");
}
#[test]
fn a_plus_has_one_spelling() {
    check("/c++/%2b", "/c%2B%2B/%2B");
}
#[test]
fn a_lone_percent_sign_stays_encoded() {
    check("/100%25", "/100%25");
}
#[test]
fn the_root_has_no_segments() {
    segments("/", &[]);
}
#[test]
fn a_trailing_slash_is_an_empty_segment() {
    segments("/a/", &["a", ""]);
}
#[test]
fn segments_are_decoded() {
    segments("/a%20b/caf%C3%A9", &["a b", "café"]);
}
#[test]
fn three_dots_are_a_name() {
    check("/.../.a", "/.../.a");
}

#[test]
fn dot_segments_are_refused() {
    for raw in [
        "/.",
        "/..",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/%2e%2e/b",
        "/.%2E",
        "/a/%2E",
    ] {
        refused(raw);
    }
}
#[test]
fn empty_segments_are_refused() {
    for raw in ["//", "//a", "/a//b", "/a//"] {
        refused(raw);
    }
}
#[test]
fn parameters_are_refused() {
    for raw in ["/a;b=1", "/..;/a", "/a%3Bb", "/a%3bb"] {
        refused(raw);
    }
}
#[test]
fn encoded_separators_are_refused() {
    for raw in [
        "/a%2Fb", "/a%2fb", "/a%5Cb", "/a%5cb", "/a\\b", "/a%3Fb", "/a%23b",
    ] {
        refused(raw);
    }
}
#[test]
fn control_characters_are_refused() {
    for raw in [
        "/a%00", "/a%0d%0a", "/a%7F", "/a\tb", "/a b", "/a\u{7f}", "/a%C2%85",
    ] {
        refused(raw);
    }
}
#[test]
fn what_is_not_utf8_is_refused() {
    for raw in [
        "/%ff",
        "/%C0%AF",
        "/%c0%ae%c0%ae",
        "/%E0%80%AF",
        "/%ED%A0%80",
        "/%C3/%A9",
    ] {
        refused(raw);
    }
}
#[test]
fn raw_non_ascii_is_refused() {
    refused("/café");
}
#[test]
fn double_encoding_is_refused() {
    for raw in ["/%252e%252e", "/a%252Fb", "/%25%32%66", "/%2525"] {
        refused(raw);
    }
}
#[test]
fn broken_escapes_are_refused() {
    for raw in ["/%", "/%2", "/%zz", "/a%+1"] {
        refused(raw);
    }
}
#[test]
fn a_path_without_its_slash_is_refused() {
    for raw in ["", "*", "a/b"] {
        refused(raw);
    }
}

#[track_caller]
fn below(raw: &str, skip: usize, expect: &str) {
    assert_eq!(Path::canonical(raw).unwrap().below(skip), expect);
}

#[test]
fn below_a_tool_is_the_rest() {
    below("/github/repos/x", 1, "/repos/x");
}
#[test]
fn below_a_tool_alone_is_nothing() {
    below("/github", 1, "");
}
#[test]
fn below_a_tool_with_a_slash_is_the_slash() {
    below("/github/", 1, "/");
}
#[test]
fn below_no_segment_is_the_whole() {
    below("/a/b", 0, "/a/b");
}

proptest! {
    #[test]
    fn any_path_is_refused_or_has_a_spelling_that_stays(raw in "/[ -~]{0,40}|/(%[0-9a-fA-F]{2}|[a-z/.]){0,20}|\\PC*") {
        if let Ok(path) = Path::canonical(&raw) {
            prop_assert_eq!(&Path::canonical(&path.wire).unwrap(), &path);
        }
    }

    #[test]
    fn decoded_segments_make_the_wire(raw in "/([a-zA-Z0-9+~ -]|%[2-7][0-9A-F]|%C3%A9){1,12}(/[a-z%@:]{1,5}){0,4}/?") {
        if let Ok(path) = Path::canonical(&raw) {
            let mut wire = String::new();
            for segment in &path.segments {
                wire.push('/');
                encode(segment, &mut wire);
            }
            prop_assert_eq!(wire, path.wire);
        }
    }
}
