//! Which texts hold a key. The keys are made up here, in two parts, so that no scanner takes them for real.

use proptest::prelude::*;

use super::{FORMATS, Rest, SHORTEST, find};

const ALNUM: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6a7B8c9D0e1F2g3H4";

fn some(length: usize) -> &'static str {
    ALNUM.get(..length).unwrap()
}

fn key(prefix: &str, length: usize) -> String {
    format!("{prefix}{}", some(length))
}

#[track_caller]
fn check(key: &str) {
    for text in [
        key.to_owned(),
        format!("Bearer {key}"),
        format!("the key is \"{key}\", keep it"),
        format!("openai-insecure-api-key.{key}"),
    ] {
        let found = find(text.as_bytes());
        assert!(
            found.is_some_and(|found| key.as_bytes().starts_with(found)),
            "{text}"
        );
    }
}

#[track_caller]
fn no_key(text: &str) {
    assert_eq!(find(text.as_bytes()), None, "{text}");
}

#[test]
fn keys_of_github_are_found() {
    for prefix in ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"] {
        check(&key(prefix, 36));
    }
}
#[test]
fn keys_of_models_are_found() {
    for prefix in [
        "sk-",
        "sk-proj-",
        "sk-ant-api03-",
        "sk-or-v1-",
        "gsk_",
        "hf_",
    ] {
        check(&key(prefix, 48));
    }
}
#[test]
fn keys_of_slack_are_found() {
    check("xoxb-1234567890-abcdef");
    check(&key("xoxp-", 20));
}
#[test]
fn keys_of_stripe_are_found() {
    check(&key("sk_live_", 24));
    check(&key("rk_live_", 24));
}
#[test]
fn keys_of_clouds_are_found() {
    check(concat!("AKIA", "IOSFODNN7EXAMPLE"));
    check(concat!("ASIA", "IOSFODNN7EXAMPLE"));
    check(&key("AIza", 35));
}
#[test]
fn keys_of_registries_are_found() {
    check(&key("glpat-", 20));
    check(&key("npm_", 36));
    check(&key("pypi-Ag", 60));
}
#[test]
fn keys_of_mail_and_phone_are_found() {
    check(&format!("SG.{}.{}", some(22), some(43)));
    check(concat!("SK", "0123456789abcdef0123456789abcdef"));
}
#[test]
fn private_keys_are_found() {
    for label in ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "] {
        let text = format!("x-----BEGIN {label}PRIVATE KEY-----\nMII");
        assert!(find(text.as_bytes()).is_some(), "{text}");
    }
}
#[test]
fn tokens_are_found() {
    check(concat!(
        "eyJhbGciOiJFUzI1NiJ9",
        ".eyJzdWIiOiJ4In0aaaa",
        ".c2lnbmF0dXJlc2lnbmF0dXJl"
    ));
}
#[test]
fn a_key_after_a_false_start_is_found() {
    assert!(find(format!("sk-sk-{}", some(30)).as_bytes()).is_some());
    assert!(find(format!("ghp_ghp_{}", some(36)).as_bytes()).is_some());
}

#[test]
fn ordinary_text_holds_no_key() {
    for text in [
        "",
        "task-force-meeting-on-thursday-at-noon",
        "ask-1234567890123456789012345",
        "sk-a-long-slug-in-slovak-2024-with-words",
        "the prefix sk- and ghp_ are known",
        "AKIA",
        "AKIAshort",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        "eyJhbGciOiJFUzI1NiJ9",
        "eyJhbGciOiJFUzI1NiJ9.not.atoken",
        "application/json, text/event-stream",
        "SKIP THE 0123456789abcdef",
        "550e8400-e29b-41d4-a716-446655440000",
        "SG.short.short",
    ] {
        no_key(text);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = find(&bytes);
    }

    #[test]
    fn key_like_text_never_panics(text in "(sk-|eyJ|SG\\.|AKIA|-----BEGIN |SK|\\.|[a-zA-Z0-9]{0,40}){0,6}") {
        let _ = find(text.as_bytes());
    }
}

#[test]
fn no_key_is_shorter_than_what_is_looked_at() {
    for format in FORMATS {
        let rest = match format.rest {
            Rest::Long(least) | Rest::Plain(least) | Rest::Upper(least) | Rest::Hex(least) => least,
            Rest::Jwt => 8 + 1 + 8 + 1 + 16,
            Rest::Pem => "PRIVATE KEY".len(),
            Rest::Parts(first, second) => first + 1 + second,
        };
        assert!(format.prefix.len() + rest >= SHORTEST, "{}", format.prefix);
    }
}

#[test]
fn a_prefix_needs_no_escape_but_by_number() {
    for format in FORMATS {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_. ".contains(&byte);
        assert!(format.prefix.bytes().all(is_plain), "{}", format.prefix);
    }
}
