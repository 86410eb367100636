//! The SHA-256 that stands for a whole text, so that no bearer token is kept in memory.

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
}
