//! Which spellings of a query are one, and which are refused.

use proptest::prelude::*;

use super::{Pair, pairs};

fn wire(pairs: &[Pair]) -> String {
    let wires: Vec<&str> = pairs.iter().map(|pair| pair.wire.as_str()).collect();
    wires.join("&")
}

#[track_caller]
fn check(raw: &str, expect: &str) {
    assert_eq!(wire(&pairs(raw).unwrap()), expect);
}

#[track_caller]
fn decoded(raw: &str, expect: &[(&str, &str)]) {
    let pairs = pairs(raw).unwrap();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.as_str()))
        .collect();
    assert_eq!(pairs, expect);
}

#[track_caller]
fn refused(raw: &str) {
    assert!(pairs(raw).is_err(), "{raw}");
}

#[test]
fn the_order_stays() {
    check("b=2&a=1&c", "b=2&a=1&c");
}
#[test]
fn an_encoded_key_name_is_decoded() {
    check("api%5Fkey=x&%61=1", "api_key=x&a=1");
}
#[test]
fn plus_and_encoded_space_stay_as_sent() {
    check("q=a+b%20c", "q=a+b%20c");
}
#[test]
fn plus_and_encoded_space_are_spaces_for_policy() {
    decoded("q=a+b%20c%2B", &[("q", "a b c+")]);
}
#[test]
fn hex_digits_become_upper_case() {
    check("u=https%3a%2f%2fx", "u=https%3A%2F%2Fx");
}
#[test]
fn a_value_may_be_encoded_twice() {
    decoded("u=a%252Fb", &[("u", "a%2Fb")]);
}
#[test]
fn a_key_without_value_stays_so() {
    check("a&b=", "a&b=");
}
#[test]
fn empty_pairs_fall_away() {
    check("&a=1&&b=2&", "a=1&b=2");
}
#[test]
fn equals_signs_in_a_value_stay() {
    decoded("a=b=c", &[("a", "b=c")]);
}
#[test]
fn quotes_are_encoded() {
    check("q=\"x\"|{}", "q=%22x%22%7C%7B%7D");
}
#[test]
fn an_encoded_semicolon_is_data() {
    decoded("q=a%3Bb", &[("q", "a;b")]);
}

#[test]
fn a_key_twice_is_refused() {
    for raw in ["a=1&a=2", "a=1&a=1", "a&a", "a=1&%61=2", "a=1&b=2&A=3"] {
        refused(raw);
    }
}
#[test]
fn semicolons_are_refused() {
    for raw in ["a=1;b=2", "a;b"] {
        refused(raw);
    }
}
#[test]
fn what_is_not_utf8_is_refused() {
    for raw in ["a=%ff", "%C0%AF=1", "a=%E0%80%AF", "a=é"] {
        refused(raw);
    }
}
#[test]
fn nul_and_controls_in_keys_are_refused() {
    for raw in ["a=%00", "%00=1", "a%0d=1", "a=\u{1}"] {
        refused(raw);
    }
}
#[test]
fn keys_that_could_be_read_as_others_are_refused() {
    for raw in ["=v", "+a=1", "a%20=1", "api%255Fkey=x"] {
        refused(raw);
    }
}
#[test]
fn broken_escapes_are_refused() {
    for raw in ["a=%", "a=%1", "%g1=1"] {
        refused(raw);
    }
}
#[test]
fn a_method_override_is_refused() {
    for raw in ["_method=DELETE", "a=1&%5Fmethod=PUT", "_METHOD=x"] {
        refused(raw);
    }
}

proptest! {
    #[test]
    fn any_query_is_refused_or_has_a_spelling_that_stays(raw in "[ -~]{0,40}|(%[0-9a-fA-F]{2}|[a-z=&+]){0,20}|\\PC*") {
        if let Ok(canonical) = pairs(&raw) {
            prop_assert_eq!(&pairs(&wire(&canonical)).unwrap(), &canonical);
        }
    }
}
