//! Finds keys of known formats in a text, by one pass for all of their fixed parts.

use std::sync::LazyLock;

use memchr::memmem;

use super::known::FORMATS;

/// A known format of keys.
#[derive(Debug)]
pub(super) struct Format {
    /// Who issues such keys.
    kind: &'static str,
    /// What comes before the fixed part.
    lead: Lead,
    /// The part that is always the same.
    fixed: &'static str,
    rest: Rest,
}

/// What comes before the fixed part of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lead {
    /// Nothing: the key begins with it.
    Nothing,
    /// Exactly so many letters, digits or `_.~`.
    Letters(usize),
    /// At least so many digits.
    Digits(usize),
}

/// How a key goes on after its fixed part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    /// At least so many letters, digits, `_` or `-`, one of them a digit.
    Long(usize),
    /// At least so many letters and digits, one of them a digit.
    Plain(usize),
    /// At least so many letters and digits of more than one sort (upper case, lower case, digits), and no `_` or `-` follows.
    Mixed(usize),
    /// The same as `Plain`, and no `_` or `-` follows: for parts that are so short that they stand in Base64 by chance.
    Whole(usize),
    /// Exactly so many letters and digits, one of them a digit.
    Exactly(usize),
    /// Exactly so many upper-case letters and digits.
    Upper(usize),
    /// Exactly so many hex digits.
    Hex(usize),
    /// At least so many characters of Base64, one of them a digit, and its padding.
    Base64(usize),
    /// Parts of at least so many letters, digits, `_` or `-`, with a separator between, one of them with a digit.
    Parts(u8, &'static [usize]),
    /// Parts of exactly so many letters and digits, with a separator between, one of them with a digit.
    Joined(u8, &'static [usize]),
    /// `header.payload.signature`, the payload an object too (RFC 7515).
    Jwt,
    /// The rest of a PEM label that says `PRIVATE KEY`, and all to its end.
    Pem,
}

/// A format that begins with its fixed part.
pub(super) const fn format(kind: &'static str, fixed: &'static str, rest: Rest) -> Format {
    after(kind, Lead::Nothing, fixed, rest)
}

/// A format whose fixed part is in the middle.
pub(super) const fn after(
    kind: &'static str,
    lead: Lead,
    fixed: &'static str,
    rest: Rest,
) -> Format {
    Format {
        kind,
        lead,
        fixed,
        rest,
    }
}

/// A key in a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Found<'t> {
    /// Who issues such keys: `github`, `aws`, `jwt`.
    pub(crate) kind: &'static str,
    /// Where it begins.
    pub(crate) start: usize,
    /// All of it.
    pub(crate) key: &'t [u8],
}

impl Found<'_> {
    /// Where it ends.
    pub(crate) fn end(&self) -> usize {
        self.start + self.key.len()
    }
}

/// The longest part of a key in several parts: far longer than they are.
const LONGEST_PART: usize = 512;

/// What finds the fixed parts of all formats, by one pass over a text: four bytes at each place are looked up in a small
/// table, and only where it says so they are compared. It is about as quick as an automaton (a DFA) of as many patterns,
/// costs the same however many there are, and is a thirtieth of its size.
struct Signs {
    /// A bit for each four bytes with which a key may begin, by their hash.
    bits: Box<[u64; WORDS]>,
    /// The formats by the first two bytes of their fixed parts, in order; of several the longest fixed part comes first.
    formats: Vec<([u8; 2], Vec<&'static Format>)>,
}

/// 2^18 bits: 32 KiB, which a core keeps near, and few enough of them are set.
const WORDS: usize = 4096;

static SIGNS: LazyLock<Signs> = LazyLock::new(|| {
    let mut signs = Signs {
        bits: Box::new([0; WORDS]),
        formats: Vec::new(),
    };
    for format in FORMATS {
        let fixed = format.fixed.as_bytes();
        for beginning in beginnings(fixed) {
            let hash = hash(beginning);
            if let Some(word) = signs.bits.get_mut(hash / 64) {
                *word |= 1 << (hash % 64);
            }
        }
        let &[first, second, ..] = fixed else {
            continue;
        };
        let place = signs
            .formats
            .binary_search_by_key(&[first, second], |(two, _)| *two);
        match place {
            Ok(place) => {
                if let Some((_, formats)) = signs.formats.get_mut(place) {
                    formats.push(format);
                    formats.sort_by_key(|format| std::cmp::Reverse(format.fixed.len()));
                }
            }
            Err(place) => signs.formats.insert(place, ([first, second], vec![format])),
        }
    }
    signs
});

/// The four bytes with which a key of such a fixed part may begin.
fn beginnings(fixed: &[u8]) -> Vec<[u8; 4]> {
    let next = || (0..=u8::MAX).filter(|byte| is_word(*byte) || b"+/".contains(byte));
    match *fixed {
        [a, b, c, d, ..] => vec![[a, b, c, d]],
        [a, b, c] => next().map(|d| [a, b, c, d]).collect(),
        [a, b] => next()
            .flat_map(|c| next().map(move |d| [a, b, c, d]))
            .collect(),
        _ => Vec::new(),
    }
}

/// Of 18 bits (Knuth, The Art of Computer Programming 3, 6.4: multiplicative hashing).
fn hash(bytes: [u8; 4]) -> usize {
    let product = u32::from_le_bytes(bytes).wrapping_mul(0x9e37_79b1);
    usize::try_from(product >> 14).unwrap_or_default()
}

impl Signs {
    fn may_begin(&self, word: u64) -> bool {
        let [a, b, c, d, ..] = word.to_le_bytes();
        let hash = hash([a, b, c, d]);
        let bits = self.bits.get(hash / 64);
        bits.is_some_and(|bits| bits >> (hash % 64) & 1 == 1)
    }

    /// The formats whose fixed part is here in a text.
    fn here<'t>(
        &self,
        text: &'t [u8],
        at: usize,
    ) -> impl Iterator<Item = &'static Format> + use<'_, 't> {
        let rest = text.get(at..).unwrap_or_default();
        let formats = match *rest {
            [first, second, ..] => self
                .formats
                .binary_search_by_key(&[first, second], |(two, _)| *two)
                .ok()
                .and_then(|place| self.formats.get(place)),
            _ => None,
        };
        let formats = formats.into_iter().flat_map(|(_, formats)| formats);
        formats
            .copied()
            .filter(|format| rest.starts_with(format.fixed.as_bytes()))
    }

    /// The next place, from one on, where a fixed part may be.
    fn next(&self, text: &[u8], mut at: usize) -> Option<usize> {
        // A key is longer than what is left over at the end.
        while let Some(word) = text.get(at..at + 8).and_then(|word| word.first_chunk()) {
            let word = u64::from_le_bytes(*word);
            let hits = [0, 8, 16, 24].map(|bits| self.may_begin(word >> bits));
            if hits.contains(&true) {
                let first = hits.iter().position(|hit| *hit).unwrap_or_default();
                return Some(at + first);
            }
            at += hits.len();
        }
        None
    }
}

/// Whether a text may hold a key of a known format, in any part of it. Where it says no, [`find`] finds none in the
/// text, nor in any part: so many texts are asked about at once.
pub(crate) fn may_hold(text: &[u8]) -> bool {
    let mut at = 0;
    while let Some(place) = SIGNS.next(text, at) {
        if SIGNS.here(text, place).next().is_some() {
            return true;
        }
        at = place + 1;
    }
    false
}

/// Finds the first key of a known format.
pub(crate) fn find(text: &[u8]) -> Option<Found<'_>> {
    find_all(text).next()
}

/// Finds the keys of known formats, in their order.
pub(crate) fn find_all(text: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    let mut end = 0;
    let mut no_jwt_before = 0;
    std::iter::from_fn(move || {
        while let Some(place) = SIGNS.next(text, at) {
            at = place + 1;
            for format in SIGNS.here(text, place) {
                let after = place + format.fixed.len();
                let is_jwt = matches!(format.rest, Rest::Jwt);
                if is_jwt && place < no_jwt_before {
                    continue;
                }
                let found = format.at(text, place, after);
                if is_jwt && found.is_none() {
                    // A token that begins later in the same run of letters would go on in the same way.
                    no_jwt_before = after + run(text.get(after..)?, is_word);
                }
                if let Some(found) = found.filter(|found| found.start >= end) {
                    end = found.end();
                    at = end;
                    return Some(found);
                }
            }
        }
        None
    })
}

impl Format {
    /// The key whose fixed part is here in a text, if one is.
    fn at<'t>(&self, text: &'t [u8], start: usize, end: usize) -> Option<Found<'t>> {
        let before = text.get(..start)?;
        let lead = self.lead.length(before)?;
        let before = before.get(..start - lead)?;
        let is_inside_a_word = before.last().is_some_and(u8::is_ascii_alphanumeric);
        if is_inside_a_word && !matches!(self.rest, Rest::Pem) {
            return None;
        }
        let rest = self.rest.length(text.get(end..)?)?;
        Some(Found {
            kind: self.kind,
            start: start - lead,
            key: text.get(start - lead..end + rest)?,
        })
    }
}

impl Lead {
    /// How long the lead of a key is at the end of a text; `None` if there is none.
    fn length(self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Nothing => Some(0),
            Self::Letters(exact) => {
                let lead = text.get(text.len().checked_sub(exact)?..)?;
                let is_lead = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.~".contains(byte);
                lead.iter().all(is_lead).then_some(exact)
            }
            Self::Digits(least) => {
                let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit());
                Some(digits.count()).filter(|length| *length >= least)
            }
        }
    }
}

impl Rest {
    /// How long the rest of a key is at the start of a text; `None` if there is none.
    fn length(self, text: &[u8]) -> Option<usize> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
        match self {
            Self::Long(least) => at_least(text, least, is_word),
            Self::Plain(least) => at_least(text, least, is_plain),
            Self::Mixed(least) => Some(run(text, is_plain))
                .filter(|length| *length >= least && is_mixed(text, *length))
                .filter(|length| is_word_over(text, *length)),
            Self::Whole(least) => {
                at_least(text, least, is_plain).filter(|length| is_word_over(text, *length))
            }
            Self::Exactly(exact) => {
                exactly(text, exact, is_plain).filter(|length| has_digit(text, *length))
            }
            Self::Upper(exact) => exactly(text, exact, |byte| {
                byte.is_ascii_uppercase() || byte.is_ascii_digit()
            }),
            Self::Hex(exact) => exactly(text, exact, |byte| byte.is_ascii_hexdigit()),
            Self::Base64(least) => {
                let length = at_least(text, least, |byte| is_plain(byte) || b"+/".contains(&byte))?;
                let padding = text.get(length..)?.iter().take(2);
                Some(length + padding.take_while(|byte| **byte == b'=').count())
            }
            Self::Parts(separator, least) => parts(text, separator, least, |text, least| {
                let part = text.get(..LONGEST_PART).unwrap_or(text);
                Some(run(part, is_word)).filter(|length| *length >= least)
            }),
            Self::Joined(separator, exact) => parts(text, separator, exact, |text, exact| {
                exactly(text, exact, is_plain)
            }),
            Self::Jwt => jwt(text),
            Self::Pem => pem(text),
        }
    }
}

fn parts(
    text: &[u8],
    separator: u8,
    sizes: &[usize],
    part: impl Fn(&[u8], usize) -> Option<usize>,
) -> Option<usize> {
    let mut length = 0;
    for (at, size) in sizes.iter().enumerate() {
        if at > 0 {
            text.get(length..)?.strip_prefix(&[separator])?;
            length += 1;
        }
        length += part(text.get(length..)?, *size)?;
    }
    has_digit(text, length).then_some(length)
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

/// `-----BEGIN RSA PRIVATE KEY-----` and its kin (RFC 7468), to the end of what it begins; the label is short.
fn pem(text: &[u8]) -> Option<usize> {
    const LABEL: &[u8] = b"PRIVATE KEY";
    let label = text.get(..text.len().min(40))?;
    let at = memmem::find(label, LABEL)?;
    let is_label = label
        .iter()
        .take(at)
        .all(|byte| byte.is_ascii_uppercase() || *byte == b' ');
    if !is_label {
        return None;
    }
    // Without an end it is all that follows.
    let end = memmem::find(text, b"-----END ").and_then(|end| {
        let last = text.get(end..)?;
        let close = memmem::find(last, b"KEY")?;
        let dashes = memmem::find(last.get(close..)?, b"-----")?;
        Some(end + close + dashes + 5)
    });
    Some(end.unwrap_or(text.len()))
}

fn run(text: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| is_part(**byte)).count()
}

/// A run of at least so many. Whether it is a key its beginning says, so that the time is bounded by what is found.
fn at_least(text: &[u8], least: usize, is_part: impl Fn(u8) -> bool) -> Option<usize> {
    let beginning = text.get(..least + 64).unwrap_or(text);
    let length = run(beginning, &is_part);
    let is_key = length >= least && has_digit(beginning, length);
    is_key.then(|| run(text, is_part))
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

fn is_word_over(text: &[u8], length: usize) -> bool {
    text.get(length).is_none_or(|byte| !is_word(*byte))
}

fn has_digit(text: &[u8], length: usize) -> bool {
    text.iter().take(length).any(u8::is_ascii_digit)
}

fn is_mixed(text: &[u8], length: usize) -> bool {
    let has = |is: fn(&u8) -> bool| usize::from(text.iter().take(length).any(is));
    let sorts = has(u8::is_ascii_digit) + has(u8::is_ascii_lowercase) + has(u8::is_ascii_uppercase);
    sorts > 1
}

#[cfg(test)]
mod tests;
