//! Looks for keys in a body that is not read, as it passes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::call::Unobservable;
use crate::found_key::{FoundKey, KeyFate, Notes};
use crate::keys::{Fingerprints, find_all, may_hold};
use crate::tools::StripMode;

/// How much of what has passed is looked at again with what follows: longer than any key that is not a token or a PEM.
const TAIL: usize = 1024;

/// Longer than any fixed part of a key.
const BORDER: usize = 32;

/// Looks for keys of known formats in a body that streams. Nothing is held back: of a key that comes in two pieces the
/// first has passed when the second gives it away.
///
/// Where keys are refused, the piece that holds one goes no further, and neither does the rest. Where they are stripped, a
/// key that came in one piece becomes `*`, byte for byte, so that no length is wrong afterwards; any other is refused.
#[derive(Debug)]
pub struct Watch {
    mode: StripMode,
    prints: Arc<Fingerprints>,
    tail: Vec<u8>,
    /// Whether the tail is all that has passed.
    is_whole: bool,
}

impl Watch {
    pub(crate) fn new(mode: StripMode, prints: Arc<Fingerprints>) -> Self {
        Self {
            mode,
            prints,
            tail: Vec::new(),
            is_whole: true,
        }
    }

    /// Looks at the next piece; answers with what is to be sent instead, if something is.
    ///
    /// # Errors
    /// [`Unobservable::KeyRefused`]: nothing more may be sent.
    pub fn see(
        &mut self,
        piece: &Bytes,
        is_last: bool,
        keys: &mut Vec<FoundKey>,
    ) -> Result<Option<Bytes>, Unobservable> {
        let border = piece.get(..BORDER).unwrap_or(piece);
        let sent = if may_hold(piece) || may_hold(&[&self.tail, border].concat()) {
            self.look(piece, is_last, keys)?
        } else {
            None
        };
        self.pass(piece);
        Ok(sent)
    }

    fn look(
        &self,
        piece: &Bytes,
        is_last: bool,
        keys: &mut Vec<FoundKey>,
    ) -> Result<Option<Bytes>, Unobservable> {
        let before = self.tail.len();
        let text = [&self.tail, &piece[..]].concat();
        let mut notes = Notes {
            mode: self.mode,
            prints: &self.prints,
            proofs: &[],
            placeholders: &[],
            keys,
        };
        let mut masked: Option<BytesMut> = None;
        for found in find_all(&text) {
            // The beginning of a tail may be the middle of a word.
            let is_beginning = found.start > 0 || self.is_whole;
            if found.end() <= before || !is_beginning {
                continue;
            }
            let is_in_one_piece = found.start >= before && (is_last || found.end() < text.len());
            let fate = match self.mode {
                StripMode::Report => KeyFate::Reported,
                StripMode::Strip if is_in_one_piece => KeyFate::Stripped,
                StripMode::Strip | StripMode::Refuse => KeyFate::Refused,
            };
            notes.note("body", found.kind, found.key, fate);
            match fate {
                KeyFate::Reported => {}
                KeyFate::Refused => return Err(Unobservable::KeyRefused("body".to_owned())),
                KeyFate::Stripped => {
                    let masked = masked.get_or_insert_with(|| BytesMut::from(&piece[..]));
                    if let Some(key) = masked.get_mut(found.start - before..found.end() - before) {
                        key.fill(b'*');
                    }
                }
            }
        }
        Ok(masked.map(BytesMut::freeze))
    }

    fn pass(&mut self, piece: &[u8]) {
        let kept = piece
            .get(piece.len().saturating_sub(TAIL)..)
            .unwrap_or(piece);
        self.tail.extend_from_slice(kept);
        let over = self.tail.len().saturating_sub(TAIL);
        self.is_whole &= over == 0 && kept.len() == piece.len();
        self.tail.drain(..over);
    }
}

#[cfg(test)]
#[expect(clippy::string_slice, reason = "the texts are ASCII")]
mod tests {
    use super::*;

    const KEY: &str = concat!("ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");

    /// What arrives of a body that comes in these pieces, whether all of it does, and how many keys were told.
    fn watched(mode: StripMode, pieces: &[&str]) -> (String, bool, usize) {
        let mut watch = Watch::new(mode, Arc::new(Fingerprints::random()));
        let (mut sent, mut keys) = (String::new(), Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            match watch.see(&piece, at + 1 == pieces.len(), &mut keys) {
                Ok(instead) => {
                    let piece = instead.unwrap_or(piece);
                    sent.push_str(std::str::from_utf8(&piece).unwrap());
                }
                Err(_) => return (sent, false, keys.len()),
            }
        }
        (sent, true, keys.len())
    }

    #[test]
    fn a_body_without_keys_passes() {
        let filler = "sk- and ghp_ are prefixes. ".repeat(500);
        let pieces = [&*filler, "", "and so on", &filler];
        for mode in [StripMode::Strip, StripMode::Refuse, StripMode::Report] {
            assert_eq!(watched(mode, &pieces), (pieces.concat(), true, 0));
        }
    }
    #[test]
    fn what_holds_a_key_goes_no_further() {
        let pieces = ["a", &format!("b {KEY} c"), "d"];
        assert_eq!(
            watched(StripMode::Refuse, &pieces),
            ("a".to_owned(), false, 1)
        );
    }
    #[test]
    fn a_key_is_masked_byte_for_byte() {
        let pieces = ["a", &format!("b {KEY} c {KEY}"), "d"];
        let (sent, whole, _) = watched(StripMode::Strip, &pieces[..1]);
        assert!(whole && sent == "a");
        let text = format!("b {KEY} c");
        let (sent, whole, keys) = watched(StripMode::Strip, &["a", &text, "d"]);
        let stars = "*".repeat(KEY.len());
        assert_eq!((sent, whole, keys), (format!("ab {stars} cd"), true, 1));
        // This one may go on in the next piece.
        assert!(!watched(StripMode::Strip, &pieces).1);
        assert!(watched(StripMode::Strip, &pieces[..2]).1);
    }
    #[test]
    fn a_reported_key_passes() {
        let text = format!("b {KEY} c");
        let expect = (format!("a{text}d"), true, 1);
        assert_eq!(watched(StripMode::Report, &["a", &text, "d"]), expect);
    }
    #[test]
    fn no_cut_hides_a_key() {
        let text = format!("the key is {KEY}, and more");
        let begin = "the key is ".len();
        let filler = "x ".repeat(2000);
        for cut in 0..text.len() {
            for before in ["", &filler] {
                let (first, second) = text.split_at(cut);
                let pieces = [before, first, second, "the end"];
                let (sent, whole, keys) = watched(StripMode::Refuse, &pieces);
                assert!(!whole && keys == 1, "{cut}");
                assert!(!sent.contains(&KEY[..KEY.len() - 1]) || cut >= begin + KEY.len() - 1);
                assert!(!watched(StripMode::Strip, &pieces).0.contains(KEY), "{cut}");
            }
        }
    }
    #[test]
    fn one_byte_after_the_other_hides_no_key() {
        let text = format!("{}{KEY} and more", "x ".repeat(1000));
        let pieces: Vec<&str> = text.split("").collect();
        assert!(!watched(StripMode::Refuse, &pieces).1);
    }
}
