//! Which JSON has one reading.

use proptest::prelude::*;
use serde_json::Value;

use super::parse;

#[track_caller]
fn check(text: &str) {
    let expect: Value = serde_json::from_str(text).unwrap();
    assert_eq!(parse(text.as_bytes()).unwrap(), expect);
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>) {
    assert!(parse(bytes.as_ref()).is_err());
}

#[test]
fn ordinary_json_is_read() {
    check(r#" {"a": [1, -2, 3.5, "x\n\"é\u00e9", true, null, {}], "b": {"a": []}} "#);
}
#[test]
fn any_value_may_be_at_the_top() {
    for text in ["1", "\"x\"", "null", "[]", "true"] {
        check(text);
    }
}
#[test]
fn numbers_that_survive_are_read() {
    check(
        "[0, -0, 18446744073709551615, -9223372036854775808, 0.1, 1e3, 1.50000000000000000000, 1E-300, 5e-324]",
    );
}
#[test]
fn number_like_text_in_strings_is_text() {
    check(r#"["1e999", "\"12345678901234567890123", {"99999999999999999999": 1}]"#);
}
#[test]
fn keys_that_repeat_in_other_objects_are_read() {
    check(r#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}"#);
}
#[test]
fn upper_case_keys_are_read() {
    check(r#"{"Amount": 1, "amounts": 2, "É": 3}"#);
}

#[test]
fn keys_that_stand_twice_are_refused() {
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"x":{"a":1,"b":2,"a":1}}]"#,
    ] {
        refused(text);
    }
}
#[test]
fn keys_that_differ_by_case_only_are_refused() {
    for text in [
        r#"{"amount":1,"Amount":2}"#,
        r#"{"é":1,"É":2}"#,
        "{\"items\":1,\"item\u{17f}\":2}",
        "{\"key\":1,\"\u{212a}ey\":2}",
    ] {
        refused(text);
    }
}
#[test]
fn numbers_that_do_not_survive_are_refused() {
    for text in [
        "18446744073709551616",
        "-9223372036854775809",
        "1e999",
        "-1e999",
        "1e-999",
        "0.12345678901234567891",
        "[123456789012345678901234567890]",
    ] {
        refused(text);
    }
}
#[test]
fn malformed_numbers_are_refused() {
    for text in [
        "01", "1.", ".5", "+1", "1e", "--1", "0x10", "NaN", "Infinity", "1_0",
    ] {
        refused(text);
    }
}
#[test]
fn deep_nesting_is_refused() {
    check(&format!("{}{}", "[".repeat(64), "]".repeat(64)));
    refused(format!("{}{}", "[".repeat(65), "]".repeat(65)));
    refused("[".repeat(1_000_000));
    refused("{\"a\":".repeat(100_000));
}
#[test]
fn what_is_not_utf8_is_refused() {
    refused(b"\"\xff\"");
    refused(b"\"\xc0\xaf\"");
    refused(b"{\"a\xed\xa0\x80\":1}");
}
#[test]
fn lone_surrogates_are_refused() {
    refused(r#""\ud800""#);
    refused(r#""\udc00x""#);
}
#[test]
fn a_byte_order_mark_is_refused() {
    refused("\u{feff}{}");
}
#[test]
fn trailing_data_is_refused() {
    for text in ["{} {}", "{}x", "1 2", "[],", "{}\0"] {
        refused(text);
    }
}
#[test]
fn comments_and_trailing_commas_are_refused() {
    for text in [
        "{}//x",
        "/*x*/{}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "",
    ] {
        refused(text);
    }
}
#[test]
fn reserved_keys_are_refused() {
    refused(r#"{"$serde_json::private::Number":"1"}"#);
}
#[test]
fn an_error_does_not_quote_the_text() {
    for text in [
        r#"{"s3cret":1,"s3cret":2}"#,
        "\"s3cret",
        "s3cret",
        "[\"s3cret\" 1]",
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes));
    }

    #[test]
    fn json_like_text_never_panics(text in "[\\[\\]{}\",:0-9eE.+\\\\a-c\\- ]{0,60}") {
        if let Ok(value) = parse(text.as_bytes()) {
            prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
        }
    }
}
