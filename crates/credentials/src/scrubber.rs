//! Finds a secret in what a tool answers, however it is spelled, and masks it.

mod escapes;
mod flow;
mod form;

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use memchr::memchr3_iter;
use zeroize::Zeroizing;

use self::escapes::{Escapes, LONGEST_UNIT};
use self::form::{Form, Found};
use crate::{Injection, Material};

pub use self::flow::Flow;

/// The shortest text that is looked for, in bytes: what is shorter would mask innocent text.
const SHORTEST: usize = 8;
/// How many bytes of each form the automaton looks for; the rest is compared where they stand.
const EARLY: usize = 4;
/// What stands where a secret stood.
const MASK: u8 = b'*';

/// Finds a secret, and the form in which it was injected, and masks each byte of it with `*`.
///
/// It is found as it is, in Base64 of both alphabets at each alignment, in hex, and where any of its characters
/// are percent-encoded or escaped as in JSON or HTML, also when that was done more than once.
/// It is **not** found where it was cut into parts, compressed, or encoded in two ways of which the first is none of
/// the escapes.
///
/// A secret of less than 8 bytes is found only in the form in which it was injected, if that is longer.
///
/// **Invariant.** Of the secret the automaton, whose memory is not wiped, holds no more than the first four bytes of each form.
pub struct Scrubber {
    forms: Vec<Form>,
    early: AhoCorasick,
    /// Which forms begin with each text of the automaton.
    owners: Vec<Vec<usize>>,
    /// Whether a byte is among the first four of a form.
    is_early: [bool; 256],
    /// Whether a form, spelled in any way, can begin with a byte.
    is_first: [bool; 256],
}

/// Whether a text goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rest {
    /// It may.
    Follows,
    /// It does not.
    None,
}

/// Where a text holds what is looked for, and from where on it may hold a part of it.
#[derive(Debug)]
struct Scan {
    /// In order, apart from each other.
    hits: Vec<Range<usize>>,
    keep: usize,
    rest: Rest,
}

impl Scrubber {
    /// Makes one for what was obtained, each with where it goes; none where all that could be found is too short.
    #[expect(
        clippy::disallowed_methods,
        reason = "what must not come back has to be known"
    )]
    pub fn new<'a>(
        materials: impl IntoIterator<Item = (&'a Material, &'a [Injection])>,
    ) -> Option<Self> {
        let mut texts: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for (material, injections) in materials {
            for secret in material.secrets() {
                texts.push(Zeroizing::new(secret.expose().to_vec()));
            }
            for injection in injections {
                let secret = material.secret(injection.field.as_deref());
                let is_short = secret.is_ok_and(|secret| secret.expose().len() < SHORTEST);
                // A secret that stands there as it is was taken already.
                if is_short || injection.encodes() {
                    texts.extend(injection.written(material));
                }
            }
        }
        texts.retain(|text| text.len() >= SHORTEST);
        let apart = texts
            .iter()
            .enumerate()
            .filter(|(place, text)| !texts.iter().take(*place).any(|other| other == *text));
        let forms: Vec<Form> = apart.flat_map(|(_, text)| Form::all(text)).collect();
        Self::of(forms)
    }

    fn of(forms: Vec<Form>) -> Option<Self> {
        let mut prefixes: Vec<Vec<u8>> = Vec::new();
        let mut owners: Vec<Vec<usize>> = Vec::new();
        let mut is_early = [false; 256];
        let mut is_first = [false; 256];
        for intro in *b"%\\&" {
            mark(&mut is_first, intro);
        }
        for (whose, form) in forms.iter().enumerate() {
            for prefix in form.prefixes() {
                prefix.iter().for_each(|byte| mark(&mut is_early, *byte));
                mark(&mut is_first, *prefix.first()?);
                let known = prefixes.iter().position(|known| *known == prefix);
                match known.and_then(|known| owners.get_mut(known)) {
                    Some(owners) => owners.push(whose),
                    None => {
                        prefixes.push(prefix);
                        owners.push(vec![whose]);
                    }
                }
            }
        }
        if prefixes.is_empty() {
            return None;
        }
        let early = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&prefixes)
            .ok()?;
        Some(Self {
            forms,
            early,
            owners,
            is_early,
            is_first,
        })
    }

    /// Masks what a whole text holds; answers how many times it was found.
    pub fn mask(&self, text: &mut [u8]) -> usize {
        let scan = self.scan(text, Rest::None);
        for hit in &scan.hits {
            cover(text, hit);
        }
        scan.hits.len()
    }

    /// Whether a name that is told apart by its letters alone, not by their case, holds what is looked for.
    pub fn is_in_name(&self, name: &str) -> bool {
        let holds = |form: &Form| {
            name.as_bytes()
                .windows(form.text.len())
                .any(|part| part.eq_ignore_ascii_case(&form.text))
        };
        name.len() >= SHORTEST && self.forms.iter().any(holds)
    }

    fn scan(&self, text: &[u8], rest: Rest) -> Scan {
        let mut scan = Scan {
            hits: Vec::new(),
            keep: text.len(),
            rest,
        };
        self.scan_early(text, &mut scan);
        self.scan_escapes(text, &mut scan);
        if rest == Rest::Follows {
            self.scan_end(text, &mut scan);
        }
        scan.join();
        scan
    }

    /// Forms whose first bytes stand there as they are.
    fn scan_early(&self, text: &[u8], scan: &mut Scan) {
        let mut from = 0;
        while let Some(found) = self.early.find(Input::new(text).span(from..text.len())) {
            let owners = self.owners.get(found.pattern().as_usize());
            for whose in owners.into_iter().flatten() {
                self.look(text, *whose, found.start(), scan);
            }
            from = found.start() + 1;
        }
    }

    /// Forms of whose first bytes one is escaped.
    fn scan_escapes(&self, text: &[u8], scan: &mut Scan) {
        for at in memchr3_iter(b'%', b'\\', b'&', text) {
            let is_early = |byte: u8| self.is_early.get(usize::from(byte)) == Some(&true);
            if escapes::short(text, at).is_some_and(|byte| !is_early(byte)) {
                continue;
            }
            let escapes = Escapes::at(text, at);
            if !escapes.iter().any(|(byte, _)| is_early(byte)) {
                continue;
            }
            for (whose, form) in self.forms.iter().enumerate() {
                for before in 0..EARLY.min(at + 1) {
                    if form.ends(text.get(..at).unwrap_or_default(), before) {
                        self.look(text, whose, at - before, scan);
                    }
                }
            }
        }
    }

    /// Forms of which too little is there to be found by their first bytes.
    fn scan_end(&self, text: &[u8], scan: &mut Scan) {
        let start = text.len().saturating_sub(EARLY * LONGEST_UNIT);
        let end = text.get(start..).unwrap_or_default();
        for (at, byte) in end.iter().enumerate() {
            if self.is_first.get(usize::from(*byte)) != Some(&true) {
                continue;
            }
            let at = start + at;
            if at >= scan.keep {
                return;
            }
            let mut forms = self.forms.iter();
            if forms.any(|form| form.find(text, at, Rest::Follows) == Found::Part) {
                scan.keep = at;
            }
        }
    }

    fn look(&self, text: &[u8], whose: usize, at: usize, scan: &mut Scan) {
        match self
            .forms
            .get(whose)
            .map(|form| form.find(text, at, scan.rest))
        {
            Some(Found::Whole(end)) => scan.hits.push(at..end),
            Some(Found::Part) => scan.keep = scan.keep.min(at),
            Some(Found::Nothing) | None => {}
        }
    }
}

// By hand: it holds the secret.
impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

impl Scan {
    /// Hits that overlap are one.
    fn join(&mut self) {
        self.hits.sort_unstable_by_key(|hit| (hit.start, hit.end));
        self.hits.dedup_by(|next, hit| {
            let is_joined = next.start < hit.end;
            if is_joined {
                hit.end = hit.end.max(next.end);
            }
            is_joined
        });
    }
}

fn mark(table: &mut [bool; 256], byte: u8) {
    if let Some(marked) = table.get_mut(usize::from(byte)) {
        *marked = true;
    }
}

/// Masks a part of a text.
fn cover(text: &mut [u8], part: &Range<usize>) {
    if let Some(part) = text.get_mut(part.clone()) {
        part.fill(MASK);
    }
}

#[cfg(test)]
mod tests;
