//! Nonces that make an agent sign its proof now, and for this process.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;

/// For how long one nonce is given out, in seconds. It is taken for as long again.
const SLICE: i64 = 60;

/// Makes nonces (RFC 9449 section 8) and knows its own again, without remembering any: each is the HMAC of
/// a slice of time, by a key that no other process has.
pub(crate) struct Nonces(hmac::Key);

impl Nonces {
    /// Nonces by a new key; `None` where the system has no randomness to give.
    pub(crate) fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        Some(Self(key))
    }

    /// The nonce of this moment.
    pub(crate) fn current(&self, now: i64) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &slice(now, 0)))
    }

    /// Whether it was given out by this key, and not long ago.
    pub(crate) fn knows(&self, nonce: &str, now: i64) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(nonce) else {
            return false;
        };
        [0, 1]
            .into_iter()
            .any(|back| hmac::verify(&self.0, &slice(now, back), &tag).is_ok())
    }
}

// By hand, since the key is a secret.
impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(..)")
    }
}

fn slice(now: i64, back: i64) -> [u8; 8] {
    now.div_euclid(SLICE).saturating_sub(back).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::{Nonces, SLICE};

    const NOW: i64 = 1_000_000 * SLICE;

    #[track_caller]
    fn check(at: i64, expect: bool) {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.current(NOW);
        assert_eq!(nonces.knows(&nonce, at), expect);
    }

    #[test]
    fn a_nonce_is_taken_for_a_while() {
        check(NOW, true);
        check(NOW + SLICE, true);
        check(NOW + 2 * SLICE, false);
    }
    #[test]
    fn a_nonce_of_the_future_is_not_known() {
        check(NOW - 1, false);
    }
    #[test]
    fn a_nonce_of_another_process_is_not_known() {
        let nonce = Nonces::new().unwrap().current(NOW);
        assert!(!Nonces::new().unwrap().knows(&nonce, NOW));
    }
    #[test]
    fn what_is_no_nonce_is_not_known() {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.current(NOW);
        for text in [
            "",
            "AAAA",
            "*",
            nonce.get(1..).unwrap(),
            &format!("{nonce}="),
        ] {
            assert!(!nonces.knows(text, NOW), "{text}");
        }
    }
}
