//! Every spelling, every border.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

use super::*;
use crate::{Field, Fields, Place, Secret, User};

/// As keys look, with what encoders treat in different ways.
const SECRETS: [&str; 5] = [
    "ghp_0123456789abcdefABCDEF",
    "wJalrXUtnFEMI/K7MDENG+bPx/RfiCYEXAMPLEKEY==",
    "a&b<c>\"d'%41\\u0042\\e",
    "user name:pass word",
    "abababababab",
];

fn scrubber(secret: &str) -> Arc<Scrubber> {
    injected(secret, &bearer()).unwrap()
}

fn bearer() -> Injection {
    Injection::from(Place::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".to_owned(),
    })
}

fn basic() -> Injection {
    let user = User::Named("alice".to_owned());
    Place::Basic { user }.into()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).unwrap()
}

fn injected(text: &str, injection: &Injection) -> Option<Arc<Scrubber>> {
    let material = secret(text).into();
    let injections = std::slice::from_ref(injection);
    Scrubber::new([(&material, injections)]).map(Arc::new)
}

/// A JSON string without its quotes.
fn inner(json: &str) -> String {
    let inner = json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'));
    inner.unwrap().to_owned()
}

/// Every character spelled by `spell`.
fn each(secret: &str, spell: impl Fn(char) -> String) -> String {
    secret.chars().map(spell).collect()
}

fn only(secret: &str, which: &str, spell: impl Fn(char) -> String) -> String {
    each(secret, |letter| {
        if which.contains(letter) {
            spell(letter)
        } else {
            letter.to_string()
        }
    })
}

/// Every way in which an upstream may spell it, by name.
fn spellings(secret: &str) -> Vec<(&'static str, String)> {
    let json = serde_json::to_string(secret).unwrap();
    let json = inner(&json);
    let twice = serde_json::to_string(&json).unwrap();
    let percent = percent_encode(secret.as_bytes(), NON_ALPHANUMERIC).to_string();
    let html = only(secret, "&<>\"'", |letter| {
        match letter {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            _ => "&#39;",
        }
        .to_owned()
    });
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let aligned = |before: &str, engine: &dyn Fn(&[u8]) -> String| {
        engine([before, secret, "zz"].concat().as_bytes())
    };
    let standard = |bytes: &[u8]| STANDARD.encode(bytes);
    let url = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    vec![
        ("plain", secret.to_owned()),
        ("base64 at 0", aligned("", &standard)),
        ("base64 at 1", aligned("x", &standard)),
        ("base64 at 2", aligned("xy", &standard)),
        ("base64url at 0", aligned("", &url)),
        ("base64url at 1", aligned("x", &url)),
        ("base64url at 2", aligned("xy", &url)),
        (
            "base64, percent-encoded",
            percent_encode(standard(secret.as_bytes()).as_bytes(), NON_ALPHANUMERIC).to_string(),
        ),
        ("hex", hex.clone()),
        ("upper-case hex", hex.to_uppercase()),
        ("percent", percent.clone()),
        ("lower-case percent", percent_lower(&percent)),
        (
            "percent, all",
            each(secret, |letter| format!("%{:02X}", letter as u32)),
        ),
        ("percent, twice", percent.replace('%', "%25")),
        ("query", percent.replace("%20", "+")),
        ("JSON", json.clone()),
        ("JSON of PHP", json.replace('/', "\\/")),
        ("JSON in JSON", inner(&twice)),
        (
            "JSON, all",
            each(secret, |letter| format!("\\u{:04x}", letter as u32)),
        ),
        (
            "JSON, all in JSON",
            each(secret, |letter| format!("\\\\u{:04X}", letter as u32)),
        ),
        (
            "JavaScript",
            each(secret, |letter| format!("\\x{:02x}", letter as u32)),
        ),
        ("HTML", html.clone()),
        ("HTML, twice", html.replace('&', "&amp;")),
        (
            "HTML, decimal",
            each(secret, |letter| format!("&#{};", letter as u32)),
        ),
        (
            "HTML, hex",
            each(secret, |letter| format!("&#x{:X};", letter as u32)),
        ),
        (
            "HTML, zeros",
            each(secret, |letter| format!("&#{:07};", letter as u32)),
        ),
        ("every other", {
            let spelled = secret.chars().enumerate();
            spelled
                .map(|(at, letter)| {
                    if at % 2 == 1 {
                        format!("\\u{:04x}", letter as u32)
                    } else {
                        letter.to_string()
                    }
                })
                .collect()
        }),
    ]
}

fn percent_lower(percent: &str) -> String {
    let mut parts = percent.split('%');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at(2);
        format!("{text}%{}{rest}", digits.to_lowercase())
    })
}

/// What is left of a text that comes in these pieces, and how much was found.
fn flow<'t>(scrubber: &Arc<Scrubber>, pieces: impl Iterator<Item = &'t [u8]>) -> (Vec<u8>, usize) {
    let mut flow = Flow::new(Arc::clone(scrubber));
    let mut passed = BytesMut::new();
    for piece in pieces {
        let some = flow.push(Bytes::copy_from_slice(piece));
        passed.extend_from_slice(&some);
    }
    flow.end(&mut passed);
    (passed.to_vec(), flow.found())
}

fn masked(scrubber: &Scrubber, text: &str) -> (Vec<u8>, usize) {
    let mut text = text.as_bytes().to_vec();
    let found = scrubber.mask(&mut text);
    (text, found)
}

/// What base64 leaves of a secret is less than a character of it at both ends.
fn is_gone(left: &[u8], before: &str, after: &str, spelled: &str) -> bool {
    let left = String::from_utf8(left.to_vec()).unwrap();
    let inner = left
        .strip_prefix(before)
        .and_then(|left| left.strip_suffix(after));
    let shown = inner
        .unwrap()
        .chars()
        .filter(|letter| *letter != '*')
        .count();
    inner.unwrap().len() == spelled.len() && shown <= 9 && !left.contains(spelled)
}

#[test]
fn every_spelling_is_masked_and_nothing_around_it() {
    for secret in SECRETS {
        let scrubber = scrubber(secret);
        for (name, spelled) in spellings(secret) {
            let (before, after) = ("{\"echo\": \"", "\", \"more\": 1}\n");
            let (left, found) = masked(&scrubber, &[before, &spelled, after].concat());
            let shown = String::from_utf8_lossy(&left);
            assert_eq!(found, 1, "{secret} as {name}: {spelled}: {shown}");
            assert!(
                is_gone(&left, before, after, &spelled),
                "{secret} as {name}: {shown}"
            );
            if !name.contains("base64") {
                assert_eq!(
                    left[before.len()..][..spelled.len()],
                    vec![MASK; spelled.len()],
                    "{secret} as {name}"
                );
            }
        }
    }
}

#[test]
fn it_is_masked_across_a_border_at_every_offset() {
    for secret in SECRETS {
        let scrubber = scrubber(secret);
        for (name, spelled) in spellings(secret) {
            let text = ["-- ", &spelled, " -- ", secret, &spelled].concat();
            let (whole, found) = masked(&scrubber, &text);
            for at in 0..=text.len() {
                let (first, second) = text.as_bytes().split_at(at);
                let left = flow(&scrubber, [first, second].into_iter());
                assert_eq!(left.0, whole, "{secret} as {name} at {at}");
                // Occurrences that overlap are one, or more if a border is between them.
                let is_periodic = secret.starts_with("abab");
                let is_right = left.1 == found || is_periodic && left.1 > found;
                assert!(is_right, "{secret} as {name} at {at}: {}", left.1);
            }
            for size in [1, 2, 3, 5, 64] {
                let left = flow(&scrubber, text.as_bytes().chunks(size));
                assert_eq!(left.0, whole, "{secret} as {name} by {size}");
            }
        }
    }
}

#[test]
fn a_part_of_it_is_passed_on() {
    for secret in SECRETS {
        let scrubber = scrubber(secret);
        for end in 1..secret.len() {
            let text = [secret.split_at(end).0, secret.split_at(end).1].join("\n");
            assert_eq!(masked(&scrubber, &text), (text.clone().into_bytes(), 0));
            assert_eq!(
                flow(&scrubber, text.as_bytes().chunks(3)).0,
                text.as_bytes()
            );
        }
    }
}

#[test]
fn nothing_is_held_back_that_is_no_beginning_of_it() {
    let mut flow = Flow::new(scrubber(SECRETS[0]));
    for text in [
        "data: {\"id\": 1}\n\n",
        "data: ghp_0123\n\n",
        "%\n",
        "\\u00\n",
        "&#\n",
    ] {
        assert_eq!(flow.push(text.into()), text);
    }
    assert_eq!(flow.push("to be ghp_01".into()), "to be ");
    assert_eq!(flow.push("3 or not".into()), "ghp_013 or not");
}

#[test]
fn what_is_held_back_leaves_at_the_end() {
    let mut flow = Flow::new(scrubber(SECRETS[0]));
    let mut passed = BytesMut::from(&flow.push("ghp_".into())[..]);
    assert_eq!(passed, "");
    flow.end(&mut passed);
    assert_eq!(passed, "ghp_");
}

#[test]
fn what_stands_between_two_parts_keeps_its_place() {
    let secret = SECRETS[0];
    for at in 0..=secret.len() {
        let mut flow = Flow::new(scrubber(secret));
        let mut passed = BytesMut::new();
        flow.push_to(&[b"<", &secret.as_bytes()[..at]].concat(), &mut passed);
        flow.pass(b"[head]", &mut passed);
        flow.push_to(&[&secret.as_bytes()[at..], b">"].concat(), &mut passed);
        flow.end(&mut passed);
        let stars = "*".repeat(secret.len());
        let expect = format!("<{}[head]{}>", stars.split_at(at).0, stars.split_at(at).1);
        assert_eq!(passed, expect.as_bytes());
    }
}

#[test]
fn a_short_secret_is_found_only_as_it_was_injected() {
    let (left, _) = masked(&injected("abc", &bearer()).unwrap(), "abc Bearer abc abc");
    assert_eq!(left, b"abc ********** abc");
    let key = "api_key".to_owned();
    let query = Place::Query { key }.into();
    let (left, _) = masked(&injected("a/c", &query).unwrap(), "a/c ?api_key=a%2Fc&b");
    assert_eq!(left, b"a/c ?*************&b");
    let (left, _) = masked(
        &injected("pw", &basic()).unwrap(),
        "pw Basic YWxpY2U6cHc= pw",
    );
    assert_eq!(left, b"pw Basic ************ pw");
}

#[test]
fn one_that_is_too_short_in_every_form_is_not_looked_for() {
    let bare = Injection::from(Place::Header {
        name: http::HeaderName::from_static("x-key"),
        prefix: String::new(),
    });
    assert!(injected("1234567", &bare).is_none());
    assert!(injected("12345678", &bare).is_some());
}

#[test]
fn basic_is_masked_whole_and_its_password_alone() {
    let scrubber = injected("open sesame", &basic()).unwrap();
    let pair = STANDARD.encode("alice:open sesame");
    let (left, _) = masked(&scrubber, &format!("Basic {pair}; open+sesame"));
    assert_eq!(
        left,
        format!("Basic {}; ***********", "*".repeat(pair.len())).into_bytes()
    );
}

#[test]
fn names_are_told_apart_without_their_case() {
    let scrubber = scrubber(SECRETS[0]);
    assert!(scrubber.is_in_name(&format!("x-{}", SECRETS[0].to_lowercase())));
    assert!(!scrubber.is_in_name("x-request-id"));
}

#[test]
fn debug_tells_nothing_of_it() {
    let scrubber = scrubber(SECRETS[0]);
    let mut flow = Flow::new(Arc::clone(&scrubber));
    flow.push("ghp_0123".into());
    assert!(!format!("{scrubber:?} {flow:?}").contains("ghp_"));
}

/// Texts that are full of what looks like the beginning of a spelling.
fn texts(secret: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let spelled: Vec<String> = spellings(secret)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let count = spelled.len();
    let part = (
        0..count,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    )
        .prop_map(move |(which, from, to)| {
            let text = spelled[which].as_bytes();
            let (from, to) = (from.index(text.len() + 1), to.index(text.len() + 1));
            text.get(from..to).unwrap_or(text).to_vec()
        });
    let noise = prop::collection::vec(any::<u8>(), 0..4);
    let parts = prop::collection::vec(prop_oneof![3 => part, 1 => noise], 0..8);
    parts.prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn in_pieces_as_in_one(
        which in 0..SECRETS.len(),
        text in (0..SECRETS.len()).prop_flat_map(|which| texts(SECRETS[which])),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let scrubber = scrubber(SECRETS[which]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        let mut whole = text.clone();
        scrubber.mask(&mut whole);
        prop_assert_eq!(flow(&scrubber, pieces.into_iter()).0, whole);
    }
}

#[test]
fn all_secrets_of_a_call_are_found_but_what_is_public() {
    let fields = vec![
        Field::public("username", secret("alice-in-public")),
        Field::new("password", secret("open sesame")),
    ];
    let pair = Material::Fields(Fields::new(fields).unwrap());
    let token = Material::Text(secret("and-a-token"));
    let scrubber = Scrubber::new([(&pair, [].as_slice()), (&token, &[bearer()])]).unwrap();
    let (left, found) = masked(
        &Arc::new(scrubber),
        "alice-in-public open sesame, and-a-token",
    );
    assert_eq!(left, b"alice-in-public ***********, ***********");
    assert_eq!(found, 2);
}
