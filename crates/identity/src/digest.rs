//! The SHA-256 that stands for a whole text, so that no bearer token is kept in memory.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

/// The SHA-256 of something.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut sha256 = [0; 32];
        let digest = digest::digest(&digest::SHA256, bytes);
        for (to, from) in sha256.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(sha256)
    }

    /// Reads one in base64url without padding.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Self::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?)
    }

    /// In base64url without padding.
    pub(crate) fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Takes the 32 bytes of one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
