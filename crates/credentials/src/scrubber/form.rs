//! One form of a text, and whether it stands somewhere, however its characters are spelled.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::escapes::{self, Escapes};
use super::{EARLY, Rest};

/// One form of a text.
pub(super) struct Form {
    pub(super) text: Zeroizing<Vec<u8>>,
    fold: Fold,
}

/// Which characters are the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fold {
    /// Each is itself; a space may be a `+`, as in a query.
    Plain,
    /// Both alphabets of RFC 4648, sections 4 and 5.
    Base64,
    /// Both cases.
    Hex,
}

/// Whether a form stands at a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found {
    Nothing,
    /// The text ends before it is known.
    Part,
    /// Up to here.
    Whole(usize),
}

impl Form {
    /// All forms of a text.
    pub(super) fn all(text: &[u8]) -> Vec<Self> {
        let mut forms = vec![Self {
            text: Zeroizing::new(text.to_vec()),
            fold: Fold::Plain,
        }];
        forms.extend((0..3).map(|before| Self {
            text: base64(text, before),
            fold: Fold::Base64,
        }));
        // Of one allocation: none that is not wiped is left behind.
        let mut hex = Zeroizing::new(Vec::with_capacity(text.len() * 2));
        for byte in text {
            hex.extend([byte >> 4, byte & 15].map(digit));
        }
        forms.push(Self {
            text: hex,
            fold: Fold::Hex,
        });
        forms
    }

    /// How it may begin when nothing of that is escaped.
    pub(super) fn prefixes(&self) -> Vec<Vec<u8>> {
        let early = self.text.get(..EARLY).unwrap_or_default();
        let other = |byte: &u8| match (self.fold, byte) {
            (Fold::Plain, b' ') => b'+',
            (Fold::Base64, b'+') => b'-',
            (Fold::Base64, b'/') => b'_',
            (Fold::Hex, byte) => byte.to_ascii_uppercase(),
            (_, byte) => *byte,
        };
        let others: Vec<u8> = early.iter().map(other).collect();
        let mut prefixes = vec![early.to_vec(), others];
        prefixes.dedup();
        prefixes
    }

    /// Whether a text ends with the first `count` characters, none of them escaped.
    pub(super) fn ends(&self, text: &[u8], count: usize) -> bool {
        let end = text.len().checked_sub(count).and_then(|at| text.get(at..));
        let start = self.text.get(..count);
        let (Some(end), Some(start)) = (end, start) else {
            return false;
        };
        let mut pairs = start.iter().zip(end);
        pairs.all(|(expected, byte)| self.fold.is_same(*expected, *byte))
    }

    /// Whether it stands at `at`.
    pub(super) fn find(&self, text: &[u8], at: usize, rest: Rest) -> Found {
        // Mostly nothing is escaped: it is told as fast as two texts are compared.
        let plain = text.get(at..).unwrap_or_default();
        let pairs = self.text.iter().zip(plain);
        let count = pairs
            .take_while(|(expected, byte)| {
                self.fold.is_same(**expected, **byte) && !escapes::is_intro(**byte)
            })
            .count();
        let (left, next) = (self.text.get(count..), plain.get(count));
        if next.is_some_and(|byte| !escapes::is_intro(*byte))
            && left.is_some_and(|left| !left.is_empty())
        {
            return Found::Nothing;
        }
        let mut places = Places::default();
        places.add(at + count);
        let mut is_cut = false;
        for expected in left.unwrap_or_default() {
            let mut next = Places::default();
            for place in places.iter() {
                let Some(byte) = text.get(place) else {
                    is_cut = true;
                    continue;
                };
                if self.fold.is_same(*expected, *byte) {
                    next.add(place + 1);
                }
                if escapes::is_intro(*byte) {
                    let escapes = Escapes::at(text, place);
                    is_cut |= escapes.is_cut;
                    for (byte, end) in escapes.iter() {
                        if self.fold.is_same(*expected, byte) {
                            next.add(end);
                        }
                    }
                }
            }
            if next.count == 0 {
                return if is_cut && rest == Rest::Follows {
                    Found::Part
                } else {
                    Found::Nothing
                };
            }
            places = next;
        }
        if is_cut && rest == Rest::Follows {
            // How far the last character goes is not known yet.
            return Found::Part;
        }
        places.iter().max().map_or(Found::Nothing, Found::Whole)
    }
}

impl Fold {
    fn is_same(self, expected: u8, byte: u8) -> bool {
        expected == byte
            || match self {
                Self::Plain => expected == b' ' && byte == b'+',
                Self::Base64 => matches!((expected, byte), (b'+', b'-') | (b'/', b'_')),
                Self::Hex => expected == byte.to_ascii_lowercase(),
            }
    }
}

/// Where the next character may stand: mostly one place, more where a text has several readings.
#[derive(Default)]
struct Places {
    list: [usize; 16],
    count: usize,
}

impl Places {
    fn add(&mut self, place: usize) {
        if self.iter().any(|known| known == place) {
            return;
        }
        if let Some(free) = self.list.get_mut(self.count) {
            *free = place;
            self.count += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.list.iter().take(self.count).copied()
    }
}

/// What of the Base64 of any text with so many bytes (of three) before this one is its own alone.
fn base64(text: &[u8], before: usize) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(vec![0; before]);
    padded.extend_from_slice(text);
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&padded));
    let start = (before * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    let own = encoded.as_bytes().get(start..end).unwrap_or_default();
    Zeroizing::new(own.to_vec())
}

fn digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + (value - 10),
    }
}
