//! Tells keys apart without telling them.

use std::fmt;

use identity::{InvalidKey, TaskTokens};
use ring::hmac;
use ring::rand::SystemRandom;

/// Tells keys apart without telling them: by the first 16 hex digits of an HMAC-SHA-256.
///
/// Gateways whose task tokens are signed by one key give a key one fingerprint, whenever they meet it. Whoever has
/// fingerprints alone can't try out which keys they are of.
pub struct Fingerprints(hmac::Key);

impl Fingerprints {
    /// By a key that is derived from the one that signs our tokens.
    ///
    /// # Errors
    /// None in practice, as [`TaskTokens::derive`] has it.
    pub fn new(tokens: &TaskTokens) -> Result<Self, InvalidKey> {
        let key = tokens.derive("fingerprints of the keys that agents bring")?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*key)))
    }

    /// By a random key: they tell keys apart as long as this value lives.
    pub(crate) fn random() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        #[expect(
            clippy::expect_used,
            reason = "without random numbers no TLS and no token could be had either"
        )]
        let key = key.expect("random numbers");
        Self(key)
    }

    /// The fingerprint of a key.
    pub(crate) fn of(&self, key: &[u8]) -> String {
        hmac::sign(&self.0, key)
            .as_ref()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints(..)")
    }
}

#[cfg(test)]
mod tests {
    use identity::KeyKind;

    use super::*;

    #[test]
    fn they_tell_keys_apart_and_nothing_else() {
        let prints = Fingerprints::random();
        assert_eq!(prints.of(b"one"), prints.of(b"one"));
        assert_ne!(prints.of(b"one"), prints.of(b"two"));
        assert_eq!(prints.of(b"one").len(), 16);
        assert_ne!(prints.of(b"one"), Fingerprints::random().of(b"one"));
    }
    #[test]
    fn gateways_with_one_key_give_one_fingerprint() {
        let pem = TaskTokens::generate(KeyKind::P256).unwrap();
        let prints = |issuer| {
            let tokens = TaskTokens::from_pem(pem.as_bytes(), issuer).unwrap();
            Fingerprints::new(&tokens).unwrap().of(b"one")
        };
        assert_eq!(prints("https://one.example"), prints("https://two.example"));
    }
}
