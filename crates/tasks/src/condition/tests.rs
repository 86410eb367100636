//! Conditions by their table, and what implies what.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use serde_json::{Value, json};

use super::{Condition, Found};

fn condition(text: &Value) -> Condition {
    serde_json::from_value(text.clone()).unwrap()
}

#[track_caller]
fn check(text: &Value, values: &[(Value, bool)]) {
    let condition = condition(text);
    for (value, expect) in values {
        let holds = condition.holds(Found::Value(value));
        assert_eq!(holds, *expect, "{text} for {value}");
    }
    assert!(!condition.holds(Found::Doubtful));
    assert_eq!(serde_json::to_value(&condition).unwrap(), *text);
}

#[track_caller]
fn check_refused(text: &str, problem: &str) {
    let refused = serde_json::from_str::<Condition>(text).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.starts_with(problem), "{text}: {refused}");
}

#[test]
fn one_of_them_is_taken_as_it_is() {
    check(
        &json!({"one_of": ["a", 1, 0.5, true, null, "", "caf\u{e9}"]}),
        &[
            (json!("a"), true),
            (json!("A"), false),
            (json!("a "), false),
            (json!(""), true),
            (json!(1), true),
            (json!(1.0), true),
            (json!("1"), false),
            (json!(0.5), true),
            (json!(true), true),
            (json!(false), false),
            (json!("true"), false),
            (Value::Null, true),
            (json!("caf\u{e9}"), true),
            (json!("cafe\u{301}"), false),
            (json!(["a"]), false),
            (json!({"a": 1}), false),
        ],
    );
}

#[test]
fn zero_has_one_worth() {
    check(
        &json!({"one_of": [0]}),
        &[
            (json!(0), true),
            (json!(-0.0), true),
            (json!(1e-300), false),
        ],
    );
}

#[test]
fn a_pattern_is_for_texts() {
    check(
        &json!({"pattern": "acme/repo-*"}),
        &[
            (json!("acme/repo-1"), true),
            (json!("acme/repo-"), true),
            (json!("acme/repo-é 漢"), true),
            (json!("acme/repo"), false),
            (json!("Acme/repo-1"), false),
            (json!(" acme/repo-1"), false),
            (json!("x/acme/repo-1"), false),
            (json!(1), false),
            (Value::Null, false),
            (json!(["acme/repo-1"]), false),
        ],
    );
    check(
        &json!({"pattern": "*"}),
        &[(json!(""), true), (json!("*"), true)],
    );
}

#[test]
fn a_star_is_not_led_elsewhere() {
    for path in [
        "a/../b",
        "a/..",
        "a/.",
        "a/./b",
        "a\\..\\b",
        "a/..;x/b",
        "a/.. /b",
        "a/%2e%2e/b",
        "a/%2E./b",
        "a/..%2fb",
        "a/%252e%252e/b",
        "a/%25252e/b",
        "a%5c..",
        "a/x\0",
        "a/x\nb",
        "a/x\r",
        "a/\u{85}",
    ] {
        check(&json!({"pattern": "a*"}), &[(json!(path), false)]);
    }
    for path in [
        "a/..b", "a/b..", "a/...", "a/100%", "a/%41", "a/%", "a/%2", "a/x y",
    ] {
        check(&json!({"pattern": "a*"}), &[(json!(path), true)]);
    }
    // Without a star nothing is left to whoever calls.
    check(&json!({"pattern": "a/../b"}), &[(json!("a/../b"), true)]);
}

#[test]
fn a_range_is_exact() {
    check(
        &json!({"min": 1, "max": 10}),
        &[
            (json!(1), true),
            (json!(1.0), true),
            (json!(10), true),
            (json!(10.0), true),
            (json!(0), false),
            (json!(11), false),
            (json!(0.999_999_999_999_999_9), false),
            (json!(10.000_000_000_000_002), false),
            (json!("5"), false),
            (json!(true), false),
            (json!([5]), false),
        ],
    );
    let most = 9_007_199_254_740_991_i64;
    check(
        &json!({"max": most}),
        &[
            (json!(most), true),
            (json!(-most), true),
            (json!(most - 1), true),
            (json!(most + 1), false),
            (json!(most + 2), false),
        ],
    );
    check(
        &json!({"max": most - 1}),
        &[(json!(most - 1), true), (json!(most), false)],
    );
}

#[test]
fn numbers_that_readers_differ_over_are_none_that_is_allowed() {
    let huge = [
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e16),
        json!(1e308),
    ];
    for huge in huge {
        check(&json!({"min": 0}), &[(huge, false)]);
    }
    check(
        &json!({"max": 0}),
        &[
            (json!(i64::MIN), false),
            (json!(-1e308), false),
            (json!(-5e-324), true),
        ],
    );
}

#[test]
fn a_length_is_of_a_text_in_characters() {
    check(
        &json!({"max_length": 3}),
        &[
            (json!(""), true),
            (json!("abc"), true),
            (json!("é漢𝒳"), true),
            (json!("abcd"), false),
            (json!("e\u{301}abc"), false),
            (json!(1), false),
            (json!([]), false),
        ],
    );
}

#[test]
fn what_is_to_be_absent_is_not_there() {
    check(
        &json!({"absent": true}),
        &[(json!(1), false), (Value::Null, false)],
    );
    assert!(condition(&json!({"absent": true})).holds(Found::Missing));
    for text in [
        json!({"one_of": [null, ""]}),
        json!({"pattern": "*"}),
        json!({"min": 0}),
        json!({"max_length": 9}),
    ] {
        assert!(!condition(&text).holds(Found::Missing));
    }
}

#[test]
fn odd_conditions_are_refused() {
    let one = "a condition is one of";
    check_refused("{}", one);
    check_refused(r#"{"min": null}"#, one);
    check_refused(r#"{"pattern": "a", "max_length": 1}"#, one);
    check_refused(r#"{"min": 1, "absent": true}"#, one);
    check_refused(r#"{"absent": false}"#, "`absent` is `true`");
    check_refused(r#"{"oneof": [1]}"#, "unknown field `oneof`");
    check_refused(r#"{"min": 1, "min": 2}"#, "duplicate field `min`");
    check_refused(r#"{"min": 2, "max": 1}"#, "`min` is more than `max`");
    check_refused(r#"{"min": "1"}"#, "invalid type");
    check_refused(
        r#"{"max": 9007199254740992}"#,
        "`min` and `max` are numbers",
    );
    check_refused(r#"{"max": 1e300}"#, "`min` and `max` are numbers");
    check_refused(r#"{"max": 1e999}"#, "number out of range");
    check_refused(r#"{"max_length": -1}"#, "invalid value");
    check_refused(r#"{"pattern": ""}"#, "`pattern` is");
    check_refused(r#"{"pattern": "a\u0000"}"#, "`pattern` is");
    let choices = "`one_of` is";
    check_refused(r#"{"one_of": []}"#, choices);
    check_refused(r#"{"one_of": [[1]]}"#, choices);
    check_refused(r#"{"one_of": [{}]}"#, choices);
    check_refused(r#"{"one_of": [9007199254740993]}"#, choices);
    check_refused(&json!({"one_of": vec![1; 101]}).to_string(), choices);
    check_refused(&json!({"one_of": ["x".repeat(1025)]}).to_string(), choices);
    check_refused(
        &json!({"pattern": "x".repeat(1025)}).to_string(),
        "`pattern` is",
    );
}

#[track_caller]
fn check_implies(one: &Value, other: &Value, expect: bool) {
    let implies = condition(one).implies(&condition(other));
    assert_eq!(implies, expect, "{one} implies {other}");
}

#[test]
fn what_is_narrower_is_known_to_be() {
    for (one, other) in [
        (
            json!({"one_of": ["a", 1]}),
            json!({"one_of": [1.0, "a", "b"]}),
        ),
        (
            json!({"one_of": ["repo-1", "repo-2"]}),
            json!({"pattern": "repo-*"}),
        ),
        (json!({"one_of": [1, 2.5]}), json!({"min": 1, "max": 3})),
        (json!({"one_of": ["ab"]}), json!({"max_length": 2})),
        (json!({"pattern": "repo-a*"}), json!({"pattern": "repo-*"})),
        (json!({"pattern": "a"}), json!({"one_of": ["a"]})),
        (json!({"pattern": "a/../b"}), json!({"one_of": ["a/../b"]})),
        (json!({"pattern": "ab"}), json!({"max_length": 2})),
        (json!({"min": 2, "max": 3}), json!({"min": 1.5})),
        (json!({"min": 2, "max": 2.0}), json!({"one_of": [2]})),
        (json!({"max_length": 2}), json!({"max_length": 3})),
        (json!({"absent": true}), json!({"absent": true})),
    ] {
        check_implies(&one, &other, true);
    }
}

#[test]
fn what_is_wider_or_unknown_is_not() {
    for (one, other) in [
        (json!({"one_of": ["a", 2]}), json!({"one_of": ["a"]})),
        (json!({"one_of": ["1"]}), json!({"one_of": [1]})),
        (
            json!({"one_of": ["repo-1", 1]}),
            json!({"pattern": "repo-*"}),
        ),
        (
            json!({"one_of": ["repo-/../x"]}),
            json!({"pattern": "repo-*"}),
        ),
        (json!({"one_of": [1, 4]}), json!({"min": 1, "max": 3})),
        (json!({"one_of": ["abc"]}), json!({"max_length": 2})),
        (json!({"one_of": [null]}), json!({"absent": true})),
        (json!({"pattern": "repo*"}), json!({"pattern": "repo-*"})),
        (json!({"pattern": "a/../b"}), json!({"pattern": "a/*"})),
        (json!({"pattern": "*"}), json!({"max_length": 1000})),
        (json!({"pattern": "a*"}), json!({"one_of": ["a"]})),
        (json!({"min": 1}), json!({"min": 1, "max": 3})),
        (json!({"max": 1}), json!({"min": 1})),
        (json!({"min": 0, "max": 3}), json!({"min": 1, "max": 3})),
        (json!({"min": 1, "max": 2}), json!({"one_of": [1, 2]})),
        (json!({"max_length": 3}), json!({"max_length": 2})),
        (json!({"max_length": 3}), json!({"pattern": "*"})),
        (json!({"absent": true}), json!({"one_of": [null]})),
        (json!({"min": 1}), json!({"absent": true})),
    ] {
        check_implies(&one, &other, false);
    }
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3..4_i64).prop_map(Value::from),
        (-6..8_i32).prop_map(|half| Value::from(f64::from(half) / 2.0)),
        Just(json!(-0.0)),
        (9_007_199_254_740_990..9_007_199_254_740_996_i64).prop_map(Value::from),
    ]
}

fn exact() -> impl Strategy<Value = Value> {
    number().prop_filter("exact", |number| {
        super::is_exact(number.as_number().unwrap())
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab/.]{0,5}", "(a|/|\\.\\.|%2e|é|\\n|\\*){0,4}"]
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let choice = prop_oneof![
        exact(),
        text().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(true))
    ];
    let bound = || proptest::option::of(exact());
    prop_oneof![
        proptest::collection::vec(choice, 1..4).prop_map(|choices| json!({"one_of": choices})),
        "[ab/.*]{1,5}".prop_map(|pattern| json!({"pattern": pattern})),
        (bound(), bound()).prop_map(|(min, max)| json!({"min": min, "max": max})),
        (0..5_u64).prop_map(|most| json!({"max_length": most})),
        Just(json!({"absent": true})),
    ]
    .prop_filter_map("well formed", |text| serde_json::from_value(text).ok())
}

fn value() -> impl Strategy<Value = Option<Value>> {
    let value = prop_oneof![
        number(),
        text().prop_map(Value::from),
        "[ab/.]{0,3}".prop_map(Value::from),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        Just(json!(["a"])),
    ];
    proptest::option::of(value)
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2048))]

    #[test]
    fn what_is_implied_holds(one in any_condition(), other in any_condition(), value in value()) {
        let found = || value.as_ref().map_or(Found::Missing, Found::Value);
        if one.implies(&other) && one.holds(found()) {
            assert!(other.holds(found()), "{one:?} {other:?} {value:?}");
        }
        assert!(one.implies(&one), "{one:?}");
    }

    #[test]
    fn it_reads_back_as_written(one in any_condition()) {
        let text = serde_json::to_string(&one).unwrap();
        let back: Condition = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert!(!one.to_string().contains('\n'));
    }
}
