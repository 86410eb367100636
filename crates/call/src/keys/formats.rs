//! Formats of keys that a fixed prefix gives away, as their issuers publish them.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};

/// How a key goes on after its prefix.
struct Format {
    prefix: &'static str,
    rest: Rest,
}

enum Rest {
    /// At least so many letters, digits, `_` or `-`, one of them a digit.
    Long(usize),
    /// At least so many letters and digits, one of them a digit.
    Plain(usize),
    /// Exactly so many upper-case letters and digits.
    Upper(usize),
    /// Exactly so many lower-case hex digits.
    Hex(usize),
    /// `header.payload.signature`, the payload an object too (RFC 7515).
    Jwt,
    /// The rest of a PEM label that says `PRIVATE KEY`.
    Pem,
    /// Two parts of at least so many characters, with a dot between (`SendGrid`).
    Parts(usize, usize),
}

const fn format(prefix: &'static str, rest: Rest) -> Format {
    Format { prefix, rest }
}

const FORMATS: &[Format] = &[
    // GitHub
    format("ghp_", Rest::Plain(30)),
    format("gho_", Rest::Plain(30)),
    format("ghu_", Rest::Plain(30)),
    format("ghs_", Rest::Plain(30)),
    format("ghr_", Rest::Plain(30)),
    format("github_pat_", Rest::Long(22)),
    // OpenAI, Anthropic, OpenRouter and others that took over their prefix
    format("sk-", Rest::Plain(20)),
    format("sk-proj-", Rest::Long(20)),
    format("sk-svcacct-", Rest::Long(20)),
    format("sk-admin-", Rest::Long(20)),
    format("sk-ant-", Rest::Long(20)),
    format("sk-or-", Rest::Long(20)),
    format("gsk_", Rest::Plain(40)),
    format("xai-", Rest::Plain(40)),
    format("hf_", Rest::Plain(30)),
    // Slack
    format("xoxa-", Rest::Long(10)),
    format("xoxb-", Rest::Long(10)),
    format("xoxc-", Rest::Long(10)),
    format("xoxd-", Rest::Long(10)),
    format("xoxe-", Rest::Long(10)),
    format("xoxe.xoxp-", Rest::Long(10)),
    format("xoxp-", Rest::Long(10)),
    format("xoxr-", Rest::Long(10)),
    format("xoxs-", Rest::Long(10)),
    format("xapp-", Rest::Long(10)),
    // Stripe
    format("sk_live_", Rest::Plain(16)),
    format("rk_live_", Rest::Plain(16)),
    format("sk_test_", Rest::Plain(16)),
    format("rk_test_", Rest::Plain(16)),
    format("whsec_", Rest::Plain(24)),
    // AWS access key ids
    format("AKIA", Rest::Upper(16)),
    format("ASIA", Rest::Upper(16)),
    // Google
    format("AIza", Rest::Long(35)),
    format("ya29.", Rest::Long(20)),
    format("GOCSPX-", Rest::Long(20)),
    // GitLab
    format("glpat-", Rest::Long(20)),
    format("gldt-", Rest::Long(20)),
    format("glrt-", Rest::Long(20)),
    // package registries
    format("npm_", Rest::Plain(36)),
    format("pypi-Ag", Rest::Long(50)),
    format("dckr_pat_", Rest::Long(20)),
    // others
    format("SG.", Rest::Parts(16, 32)),
    format("SK", Rest::Hex(32)),
    format("shpat_", Rest::Hex(32)),
    format("dop_v1_", Rest::Hex(64)),
    format("hvs.", Rest::Long(24)),
    format("lin_api_", Rest::Plain(32)),
    format("ATATT3x", Rest::Long(50)),
    format("-----BEGIN ", Rest::Pem),
    format("eyJ", Rest::Jwt),
];

/// The shortest key there is: `xox?-` and ten more. What is shorter need not be looked at.
const SHORTEST: usize = 15;

/// The prefixes of all formats.
struct Prefixes {
    /// Says that there is none, much quicker than `all` finds that out.
    any: AhoCorasick,
    /// Finds each, also those inside another.
    all: AhoCorasick,
}

static PREFIXES: LazyLock<Prefixes> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "fifty constant prefixes make an automaton"
    )]
    let build = |builder: &mut AhoCorasickBuilder| {
        builder
            .build(FORMATS.iter().map(|format| format.prefix))
            .expect("constant prefixes")
    };
    Prefixes {
        any: build(AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst)),
        all: build(AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA))),
    }
});

/// Whether a text may hold a key of a known format, in any part of it. Where it says no, [`find`] finds none in the
/// text, nor in any part: so many texts are asked about at once.
pub(crate) fn may_hold(text: &[u8]) -> bool {
    text.len() >= SHORTEST && PREFIXES.any.is_match(text)
}

/// Finds the first key of a known format.
pub(crate) fn find(text: &[u8]) -> Option<&[u8]> {
    if !may_hold(text) {
        return None;
    }
    PREFIXES.all.find_overlapping_iter(text).find_map(|hit| {
        let format = FORMATS.get(hit.pattern().as_usize())?;
        let before = hit.start().checked_sub(1).and_then(|at| text.get(at));
        let is_inside_a_word = before.is_some_and(u8::is_ascii_alphanumeric);
        if is_inside_a_word && !matches!(format.rest, Rest::Pem) {
            return None;
        }
        let length = format.rest.length(text.get(hit.end()..)?)?;
        text.get(hit.start()..hit.end() + length)
    })
}

impl Rest {
    /// How long the rest of a key is at the start of a text; `None` if there is none.
    fn length(&self, text: &[u8]) -> Option<usize> {
        match *self {
            Self::Long(min) => {
                Some(run(text, is_word)).filter(|length| *length >= min && has_digit(text, *length))
            }
            Self::Plain(min) => Some(run(text, |byte| byte.is_ascii_alphanumeric()))
                .filter(|length| *length >= min && has_digit(text, *length)),
            Self::Upper(exact) => exactly(text, exact, |byte| {
                byte.is_ascii_uppercase() || byte.is_ascii_digit()
            }),
            Self::Hex(exact) => exactly(text, exact, |byte| {
                byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')
            }),
            Self::Jwt => jwt(text),
            Self::Pem => pem(text),
            Self::Parts(first, second) => {
                let head = Some(run(text, is_word)).filter(|length| *length >= first)?;
                let tail = text.get(head..)?.strip_prefix(b".")?;
                let tail = Some(run(tail, is_word)).filter(|length| *length >= second)?;
                Some(head + 1 + tail)
            }
        }
    }
}

/// Three runs of base64url, the second an object: enough of each to be a token, not a mention.
fn jwt(text: &[u8]) -> Option<usize> {
    let head = Some(run(text, is_word)).filter(|length| *length >= 8)?;
    let rest = text.get(head..)?.strip_prefix(b".")?;
    let payload = Some(run(rest, is_word)).filter(|length| *length >= 8)?;
    if !rest.starts_with(b"eyJ") {
        return None;
    }
    let rest = rest.get(payload..)?.strip_prefix(b".")?;
    let signature = Some(run(rest, is_word)).filter(|length| *length >= 16)?;
    Some(head + 1 + payload + 1 + signature)
}

/// `-----BEGIN RSA PRIVATE KEY-----` and its kin (RFC 7468); the label is short.
fn pem(text: &[u8]) -> Option<usize> {
    const LABEL: &[u8] = b"PRIVATE KEY";
    let label = text.get(..text.len().min(40))?;
    let at = label.windows(LABEL.len()).position(|part| part == LABEL)?;
    let is_label = label
        .iter()
        .take(at)
        .all(|byte| byte.is_ascii_uppercase() || *byte == b' ');
    is_label.then_some(at + LABEL.len())
}

fn run(text: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| is_part(**byte)).count()
}

fn exactly(text: &[u8], exact: usize, is_part: impl Fn(u8) -> bool) -> Option<usize> {
    let length = run(text, is_part);
    let is_word_over = text
        .get(length)
        .is_none_or(|byte| !byte.is_ascii_alphanumeric());
    (length == exact && is_word_over).then_some(length)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn has_digit(text: &[u8], length: usize) -> bool {
    text.iter().take(length).any(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
