//! How a character is escaped: percent-encoding, JSON, HTML, each also more than once.

/// How many times over a character may be escaped.
const DEEPEST: usize = 4;
/// Digits of a character reference, leading zeros included.
const DIGITS: usize = 8;
/// Backslashes before an escape: each time over doubles them.
const BACKSLASHES: usize = (1 << DEEPEST) - 1;
/// The most bytes that one character takes: `&amp;amp;amp;amp;#x00000041;`.
pub(super) const LONGEST_UNIT: usize = 1 + 4 * DEEPEST + 2 + DIGITS + 1;

/// Names of characters in HTML (the named character references of the HTML standard that stand for ASCII).
const NAMES: [(&[u8], u8); 34] = [
    (b"amp", b'&'),
    (b"apos", b'\''),
    (b"ast", b'*'),
    (b"bsol", b'\\'),
    (b"colon", b':'),
    (b"comma", b','),
    (b"commat", b'@'),
    (b"dollar", b'$'),
    (b"equals", b'='),
    (b"excl", b'!'),
    (b"grave", b'`'),
    (b"gt", b'>'),
    (b"Hat", b'^'),
    (b"lbrace", b'{'),
    (b"lbrack", b'['),
    (b"lcub", b'{'),
    (b"lowbar", b'_'),
    (b"lpar", b'('),
    (b"lsqb", b'['),
    (b"lt", b'<'),
    (b"num", b'#'),
    (b"percnt", b'%'),
    (b"period", b'.'),
    (b"plus", b'+'),
    (b"quest", b'?'),
    (b"quot", b'"'),
    (b"rbrace", b'}'),
    (b"rbrack", b']'),
    (b"rcub", b'}'),
    (b"rpar", b')'),
    (b"rsqb", b']'),
    (b"semi", b';'),
    (b"sol", b'/'),
    (b"vert", b'|'),
];

/// Whether an escape begins with it.
pub(super) fn is_intro(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&')
}

/// What an escape of two or three bytes stands for, such as `\n` or `%20`; none where more has to be read.
pub(super) fn short(text: &[u8], at: usize) -> Option<u8> {
    match text.get(at..)? {
        [b'\\', b'u' | b'x' | b'\\', ..] => None,
        [b'\\', byte, ..] => Some(*byte),
        [b'%', first, second, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (first, second) = (digit(*first)?, digit(*second)?);
            u8::try_from(first * 16 + second)
                .ok()
                .filter(|byte| *byte != b'%')
        }
        _ => None,
    }
}

/// What an escape may stand for, and where it then ends.
#[derive(Debug, Default)]
pub(super) struct Escapes {
    readings: [(u8, usize); 8],
    count: usize,
    /// Whether the text ends before it is known.
    pub(super) is_cut: bool,
}

impl Escapes {
    /// Reads what begins at `at`; nothing where no escape does.
    pub(super) fn at(text: &[u8], at: usize) -> Self {
        let mut escapes = Self::default();
        match text.get(at) {
            Some(b'%') => escapes.percent(text, at + 1),
            Some(b'\\') => escapes.backslash(text, at),
            Some(b'&') => escapes.reference(text, at + 1),
            _ => {}
        }
        escapes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, usize)> {
        self.readings.iter().take(self.count).copied()
    }

    fn add(&mut self, byte: u8, end: usize) {
        if let Some(reading) = self.readings.get_mut(self.count) {
            *reading = (byte, end);
            self.count += 1;
        }
    }

    /// `%41`, `%2541`.
    fn percent(&mut self, text: &[u8], mut at: usize) {
        for _ in 0..DEEPEST {
            match hex(text, at, 2) {
                Digits::Are(value) => self.add_value(value, at + 2, u32::from(u8::MAX)),
                Digits::Cut => self.is_cut = true,
                Digits::Not => {}
            }
            if !text.get(at..).is_some_and(|rest| rest.starts_with(b"25")) {
                return;
            }
            at += 2;
        }
    }

    /// `\u0041`, `\x41`, `\/`, and with more backslashes.
    fn backslash(&mut self, text: &[u8], at: usize) {
        let rest = text.get(at..).unwrap_or_default();
        let backslashes = rest
            .iter()
            .take(BACKSLASHES)
            .take_while(|byte| **byte == b'\\')
            .count();
        for spelled in [2, 4, 8] {
            if spelled <= backslashes {
                self.add(b'\\', at + spelled);
            }
        }
        let at = at + backslashes;
        let (digits, ascii) = match text.get(at) {
            None => {
                self.is_cut = true;
                return;
            }
            Some(b'u') => (hex(text, at + 1, 4), 5),
            Some(b'x') => (hex(text, at + 1, 2), 3),
            Some(other) => {
                if other.is_ascii_punctuation() {
                    self.add(*other, at + 1);
                }
                return;
            }
        };
        match digits {
            // Beyond ASCII a character is more than a byte.
            Digits::Are(value) => self.add_value(value, at + ascii, 0x7f),
            Digits::Cut => self.is_cut = true,
            Digits::Not => {}
        }
    }

    /// `&#65;`, `&#x41;`, `&sol;`, `&amp;#65;`.
    fn reference(&mut self, text: &[u8], mut at: usize) {
        for _ in 0..DEEPEST {
            self.character(text, at);
            let rest = text.get(at..).unwrap_or_default();
            if !rest.starts_with(b"amp;") {
                return;
            }
            at += 4;
        }
        self.character(text, at);
    }

    fn character(&mut self, text: &[u8], at: usize) {
        let rest = text.get(at..).unwrap_or_default();
        let (start, radix) = match rest {
            [] | [b'#'] => {
                self.is_cut = true;
                return;
            }
            [b'#', b'x' | b'X', ..] => (2, 16),
            [b'#', ..] => (1, 10),
            _ => return self.named(rest, at),
        };
        let digits = rest.get(start..).unwrap_or_default();
        let count = digits
            .iter()
            .take(DIGITS)
            .take_while(|byte| char::from(**byte).is_digit(radix))
            .count();
        // Without a semicolon it is one too.
        let length = match digits.get(count) {
            Some(b';') => count + 1,
            Some(_) => count,
            None => {
                self.is_cut = true;
                count
            }
        };
        let value = digits
            .get(..count)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, radix).ok());
        if let Some(value) = value {
            self.add_value(value, at + start + length, 0x7f);
        }
    }

    fn named(&mut self, rest: &[u8], at: usize) {
        for (name, byte) in NAMES {
            match rest.strip_prefix(name) {
                Some([b';', ..]) => self.add(byte, at + name.len() + 1),
                Some([]) => self.is_cut = true,
                Some(_) => {}
                None => self.is_cut |= name.starts_with(rest),
            }
        }
    }

    fn add_value(&mut self, value: u32, end: usize, most: u32) {
        if let Some(byte) = u8::try_from(value).ok().filter(|_| value <= most) {
            self.add(byte, end);
        }
    }
}

enum Digits {
    Are(u32),
    Not,
    Cut,
}

/// So many hex digits.
fn hex(text: &[u8], at: usize, count: usize) -> Digits {
    let mut value = 0;
    for place in at..at + count {
        let Some(byte) = text.get(place) else {
            return Digits::Cut;
        };
        let Some(digit) = char::from(*byte).to_digit(16) else {
            return Digits::Not;
        };
        value = value * 16 + digit;
    }
    Digits::Are(value)
}
