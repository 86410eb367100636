//! The keys that were found on one call, and what became of them.

use http::HeaderValue;

use crate::keys::{Fingerprints, find_all};
use crate::phantom::is_phantom;
use crate::placeholder::Placeholder;
use crate::tools::StripMode;

/// A key of the agent's that was found, told by fingerprint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundKey {
    /// `header:x-api-key`, `query:api_key`, `cookie`, `path`, `body:/arguments/token`.
    pub place: String,
    /// Who issues such keys, as its format tells: `github`, `aws`, `jwt`; else `basic`, `cookie` or `unknown`.
    pub kind: &'static str,
    /// The first 16 hex digits of a keyed hash.
    pub fingerprint: String,
    /// What became of it.
    pub fate: KeyFate,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyFate {
    /// It came off.
    Stripped,
    /// The call was refused.
    Refused,
    /// It went on to the tool.
    Reported,
}

impl KeyFate {
    /// The name in telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stripped => "stripped",
            Self::Refused => "refused",
            Self::Reported => "reported",
        }
    }
}

/// The most keys that are written down of one call: a body may hold thousands.
const MOST: usize = 64;

/// The longest place, in bytes: an agent names the members of its JSON.
const LONGEST_PLACE: usize = 128;

/// What becomes of keys, and where those that are found are written down.
pub(crate) struct Notes<'a> {
    pub(crate) mode: StripMode,
    pub(crate) prints: &'a Fingerprints,
    /// The proofs that the gateway asked for: whatever the mode, they go no further.
    pub(crate) proofs: &'a [HeaderValue],
    /// What agents write where a key of the tool goes.
    pub(crate) placeholders: &'a [Placeholder],
    pub(crate) keys: &'a mut Vec<FoundKey>,
}

impl Notes<'_> {
    /// The same for another part of the call, for which something else is configured.
    pub(crate) fn for_mode(&mut self, mode: StripMode) -> Notes<'_> {
        Notes {
            mode,
            prints: self.prints,
            proofs: self.proofs,
            placeholders: self.placeholders,
            keys: &mut *self.keys,
        }
    }

    /// Whether a text only stands for a key, and is none.
    pub(crate) fn is_none(&self, text: &str) -> bool {
        let mut placeholders = self.placeholders.iter();
        is_phantom(text) || placeholders.any(|placeholder| placeholder.text == *text)
    }

    /// Whether a value with a key in it goes on to the tool.
    pub(crate) fn passes(&self, value: &[u8]) -> bool {
        self.mode == StripMode::Report && !self.holds_proof(value)
    }

    /// What becomes of a key, now that it is known whether it goes on.
    pub(crate) fn fate(&self, passes: bool) -> KeyFate {
        match self.mode {
            StripMode::Refuse => KeyFate::Refused,
            StripMode::Strip => KeyFate::Stripped,
            StripMode::Report if passes => KeyFate::Reported,
            StripMode::Report => KeyFate::Stripped,
        }
    }

    fn holds_proof(&self, value: &[u8]) -> bool {
        let mut proofs = self
            .proofs
            .iter()
            .map(|proof| without_scheme(proof.as_bytes()));
        proofs.any(|proof| memchr::memmem::find(value, proof).is_some())
    }

    /// Writes down every key of a known format; answers whether there was one.
    pub(crate) fn note_known(&mut self, place: &str, value: &[u8], fate: KeyFate) -> bool {
        let mut has_key = false;
        for found in find_all(value) {
            has_key = true;
            self.note(place, found.kind, found.key, fate);
        }
        has_key
    }

    /// Writes down a key.
    pub(crate) fn note(&mut self, place: &str, kind: &'static str, key: &[u8], fate: KeyFate) {
        if self.keys.len() >= MOST {
            return;
        }
        let end = place.floor_char_boundary(LONGEST_PLACE);
        self.keys.push(FoundKey {
            place: place.get(..end).unwrap_or_default().to_owned(),
            kind,
            fingerprint: self.prints.of(key),
            fate,
        });
    }
}

/// The part of `Bearer x` that tells one key from another, so that it has one fingerprint everywhere.
pub(crate) fn without_scheme(value: &[u8]) -> &[u8] {
    let space = value.iter().position(|byte| *byte == b' ');
    let token = space.and_then(|space| value.get(space + 1..));
    token.unwrap_or(value).trim_ascii()
}
