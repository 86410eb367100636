//! Which texts hold a key. The keys are made up here, in two parts, so that no scanner takes them for real.
#![expect(clippy::string_slice, reason = "the texts are ASCII")]

use std::path::PathBuf;

use proptest::prelude::*;

use super::{FORMATS, Format, Lead, Rest, SIGNS, find, find_all, may_hold};

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
            found.is_some_and(|found| key.as_bytes().starts_with(found.key)),
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
        "hooks.slack.com/services/TXXXXXXXX/BXXXXXXXX/XXXXXXXXXXXXXXXXXXXXXXXX",
        "hf_thisisnotatokenbutalongidentifier",
        "sk-aGk3V2hhdCBpcyB0aGlzPw-bHVja3kgeW91",
        "12:34:56:AAB",
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

/// A key of this format, as short as there is.
fn example(format: &Format) -> String {
    let hex = "0123456789abcdef".repeat(10);
    let joined = |separator: u8, sizes: &[usize]| {
        let parts: Vec<String> = sizes.iter().map(|size| long(*size)).collect();
        parts.join(&char::from(separator).to_string())
    };
    let rest = match format.rest {
        Rest::Long(size)
        | Rest::Plain(size)
        | Rest::Mixed(size)
        | Rest::Whole(size)
        | Rest::Exactly(size)
        | Rest::Base64(size) => long(size),
        Rest::Upper(size) => long(size).to_uppercase(),
        Rest::Hex(size) => hex[..size].to_owned(),
        Rest::Parts(separator, sizes) | Rest::Joined(separator, sizes) => joined(separator, sizes),
        Rest::Jwt => "hbGciOi0.eyJzdWIi.c2lnbmF0dXJlc2ln".to_owned(),
        Rest::Pem => "PRIVATE KEY-----".to_owned(),
    };
    let lead = match format.lead {
        Lead::Nothing => String::new(),
        Lead::Letters(size) => long(size),
        Lead::Digits(size) => "1234567890"[..size].to_owned(),
    };
    format!("{lead}{}{rest}", format.fixed)
}

fn long(size: usize) -> String {
    ALNUM.repeat(4)[..size].to_owned()
}

#[test]
fn every_format_is_found_and_told_by_its_kind() {
    for format in FORMATS {
        let key = example(format);
        for text in [key.clone(), format!("\"{key}\""), format!("a: {key}, b")] {
            let found = find(text.as_bytes());
            let found = found.unwrap_or_else(|| panic!("{text}"));
            let end = if matches!(format.rest, Rest::Pem) {
                text.len()
            } else {
                found.start + key.len()
            };
            assert_eq!((found.kind, found.end()), (format.kind, end), "{text}");
        }
        // What begins in the last bytes of a text is not looked at.
        assert!(key.len() >= 8 && format.fixed.len() >= 2, "{key}");
    }
}

#[test]
fn there_are_formats_of_many_issuers() {
    let kinds: std::collections::BTreeSet<_> = FORMATS.iter().map(|format| format.kind).collect();
    assert!(
        FORMATS.len() > 220 && kinds.len() > 110,
        "{} of {}",
        FORMATS.len(),
        kinds.len()
    );
    for kind in kinds {
        // It is a label of a metric.
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(kind.bytes().all(is_plain), "{kind}");
    }
}

#[test]
fn few_beginnings_are_looked_at_twice() {
    let set: u32 = SIGNS.bits.iter().map(|word| word.count_ones()).sum();
    // One in thirty.
    assert!(set < (1 << 18) / 30, "{set}");
    for format in FORMATS {
        let key = example(format);
        assert!(may_hold(key.as_bytes()), "{key}");
        assert!(may_hold(format!("x{key}").as_bytes()), "{key}");
    }
}

#[test]
fn all_keys_of_a_text_are_found() {
    let text = format!(
        "{} and {}, {}",
        key("ghp_", 36),
        key("glpat-", 20),
        key("ghp_", 36)
    );
    let kinds: Vec<_> = find_all(text.as_bytes()).map(|found| found.kind).collect();
    assert_eq!(kinds, ["github", "gitlab", "github"]);
}

#[test]
fn a_private_key_ends_where_it_says() {
    let text = "a -----BEGIN EC PRIVATE KEY-----\nMII\n-----END EC PRIVATE KEY----- b";
    let found = find(text.as_bytes()).unwrap();
    assert_eq!((found.start, found.end()), (2, text.len() - 2));
}

/// Texts that begin many keys and end none: each is read through a bounded number of times. Without that this would take
/// minutes.
#[test]
fn hostile_texts_take_no_longer_than_others() {
    for text in [
        "glpat-",
        "xoxb-",
        "00D_",
        "eyJ-",
        "eyJaaaaaaaa.eyJ-",
        "+ABSK",
        "-----BEGIN ",
        "SG.",
        "1:AA",
    ] {
        let hostile = text.repeat((1 << 18) / text.len());
        assert_eq!(find(hostile.as_bytes()), None, "{text}");
    }
    let hostile = "-----BEGIN PRIVATE KEY-----".repeat(1 << 13);
    assert_eq!(find_all(hostile.as_bytes()).count(), 1);
}

#[test]
fn a_fixed_part_needs_no_escape_but_by_number() {
    for format in FORMATS {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_. :=~$!".contains(&byte);
        let fixed = format.fixed.replace('/', "");
        assert!(fixed.bytes().all(is_plain), "{}", format.fixed);
    }
}

/// Texts without keys: what this repository is made of. Its tests spell their keys in parts.
fn sources() -> Vec<(PathBuf, Vec<u8>)> {
    let kinds = [
        "rs", "md", "toml", "lock", "yaml", "yml", "json", "rego", "sh", "py", "mjs", "txt",
    ];
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().unwrap();
            let is_ours = !name.to_string_lossy().starts_with('.')
                && name != "target"
                && name != "node_modules";
            if kind.is_dir() && is_ours {
                folders.push(path);
            } else if kind.is_file()
                && path
                    .extension()
                    .is_some_and(|kind| kinds.iter().any(|known| kind == *known))
            {
                sources.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    sources
}

#[test]
fn sources_and_docs_hold_no_key() {
    let sources = sources();
    let size: usize = sources.iter().map(|(_, text)| text.len()).sum();
    assert!(size > 2 << 20, "{size}");
    for (path, text) in sources {
        // What is written as one is none by mistake: tests try keys that are made up, PEM and tokens.
        let is_test = path.iter().any(|part| {
            ["tests", "tests.rs", "benches", "testkit"]
                .iter()
                .any(|of| part == *of)
        }) || path.ends_with("gateway/src/webhook.rs");
        let found: Vec<_> = find_all(&text)
            .filter(|found| found.kind != "private_key" && found.kind != "jwt")
            .map(|found| (found.kind, String::from_utf8_lossy(found.key).into_owned()))
            .collect();
        assert!(is_test || found.is_empty(), "{}: {found:?}", path.display());
    }
}

/// Random text in an alphabet, in lines.
fn random(alphabet: &[u8], line: usize, size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut text = Vec::with_capacity(size);
    while text.len() < size {
        // xorshift64 (Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state >> 33).unwrap() % alphabet.len();
        text.push(if text.len() % line == line - 1 {
            b'\n'
        } else {
            alphabet[at]
        });
    }
    text
}

/// Less than one key in a MiB is found where there is none; by 512 MiB of each it is far less (`docs/keys.md`).
#[test]
fn random_texts_hold_next_to_no_key() {
    const SIZE: usize = 1 << 20;
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let base64 = [&letters[..], b"+/"].concat();
    let base64url = [&letters[..], b"-_"].concat();
    for (name, alphabet, line) in [
        ("hex", &b"0123456789abcdef"[..], 65),
        ("base64 in lines", &base64, 77),
        ("base64url", &base64url, SIZE),
        ("base64url in tokens", &base64url, 44),
        ("words", b"abcdefghijklmnopqrstuvwxyz -_.", 80),
        (
            "identifiers",
            b"abcdefghijklmnopqrstuvwxyz0123456789_- ",
            120,
        ),
    ] {
        let text = random(alphabet, line, SIZE);
        let found: Vec<_> = find_all(&text).map(|found| found.kind).collect();
        assert!(found.len() <= 1, "{name}: {found:?}");
    }
}

#[test]
fn names_of_things_are_no_keys() {
    let text = random(b"0123456789abcdef", 1 << 20, 1 << 16);
    for digits in text.chunks(32) {
        let hex = std::str::from_utf8(digits).unwrap();
        let uuid = format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        );
        for text in [
            uuid.clone(),
            format!("arn:aws:iam::123456789012:role/{hex}"),
            format!("sha256:{hex}{hex}"),
            format!("sha256-{uuid}"),
            format!("req_{hex}"),
            format!("00-{hex}-{}-01", &hex[..16]),
            format!("https://x.example/{uuid}?page_token={hex}"),
            format!("user-{hex}@x.example"),
        ] {
            no_key(&text);
        }
    }
}
