//! A text that comes in pieces.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroize;

use super::{Rest, Scrubber, cover};

/// A text that comes in pieces, and leaves without what is looked for, of the same length.
///
/// It holds back what may be the beginning of it, never more, and passes that on as soon as it turns out to be
/// something else, or the text ends.
#[derive(Debug)]
pub struct Flow {
    scrubber: Arc<Scrubber>,
    held: Held,
    found: usize,
}

/// The beginning of what is looked for, perhaps.
#[derive(Default)]
struct Held {
    text: Vec<u8>,
    /// How much of it belonged to what was found before.
    covered: usize,
    /// What stands between, such as the heads of frames, each after so many bytes of the text.
    beside: Vec<(usize, Vec<u8>)>,
}

impl Flow {
    /// Begins a text.
    pub fn new(scrubber: Arc<Scrubber>) -> Self {
        Self {
            scrubber,
            held: Held::default(),
            found: 0,
        }
    }

    /// How many times it was found so far.
    pub fn found(&self) -> usize {
        self.found
    }

    /// Takes a piece, and answers with what may pass.
    pub fn push(&mut self, mut piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            let scan = self.scrubber.scan(&piece, Rest::Follows);
            if scan.hits.is_empty() {
                let held = piece.split_off(scan.keep.min(piece.len()));
                self.held.text.extend_from_slice(&held);
                return piece;
            }
        }
        let mut passed = BytesMut::with_capacity(self.held.text.len() + piece.len());
        self.push_to(&piece, &mut passed);
        passed.freeze()
    }

    /// Takes a piece, and adds what may pass to `passed`.
    pub fn push_to(&mut self, piece: &[u8], passed: &mut BytesMut) {
        self.held.text.extend_from_slice(piece);
        self.go_on(Rest::Follows, passed);
    }

    fn go_on(&mut self, rest: Rest, passed: &mut BytesMut) {
        let Held { text, covered, .. } = &mut self.held;
        let scan = self.scrubber.scan(text, rest);
        let keep = if rest == Rest::None {
            text.len()
        } else {
            scan.keep
        };
        let kept = text.get(keep..).unwrap_or_default().to_vec();
        let mut end = std::mem::take(covered);
        cover(text, &(0..end));
        // What begins later is found again.
        for hit in scan.hits.iter().filter(|hit| hit.start < keep) {
            cover(text, hit);
            end = end.max(hit.end);
            self.found += 1;
        }
        self.held.pass(keep, passed);
        self.held.text.zeroize();
        self.held.text = kept;
        self.held.covered = end.saturating_sub(keep);
    }

    /// Passes on what is no part of the text, in its place.
    pub fn pass(&mut self, beside: &[u8], passed: &mut BytesMut) {
        if self.held.is_empty() {
            passed.extend_from_slice(beside);
        } else {
            let place = self.held.text.len();
            self.held.beside.push((place, beside.to_vec()));
        }
    }

    /// Ends a text: nothing is held back any more. Another may begin.
    pub fn end(&mut self, passed: &mut BytesMut) {
        if !self.held.is_empty() {
            self.go_on(Rest::None, passed);
        }
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.beside.is_empty()
    }

    /// Passes so much of the text on, and what stands between.
    fn pass(&mut self, length: usize, passed: &mut BytesMut) {
        let mut from = 0;
        let mut left = Vec::new();
        for (place, beside) in std::mem::take(&mut self.beside) {
            if place > length {
                left.push((place - length, beside));
                continue;
            }
            passed.extend_from_slice(self.text.get(from..place).unwrap_or_default());
            passed.extend_from_slice(&beside);
            from = place;
        }
        passed.extend_from_slice(self.text.get(from..length).unwrap_or_default());
        self.beside = left;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

// By hand: it may hold a part of the secret.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
