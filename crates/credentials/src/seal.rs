//! What of a secret must outlive the process that holds it: sealed, bound to its task.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::{InvalidKey, TaskTokens};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use tasks::TaskId;
use zeroize::Zeroizing;

use crate::{ProviderError, Secret};

/// Seals secrets for the ledger (AES-256-GCM, a random nonce each), so that they can be taken back after a crash.
///
/// The key is derived from the one that signs our tokens; when that is exchanged, nothing of before can be opened.
#[derive(Debug)]
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    pub(crate) fn new(tokens: &TaskTokens) -> Result<Self, InvalidKey> {
        Self::by(tokens, "secrets of leases, sealed in the ledger")
    }

    /// By another key, for the refresh tokens of consents.
    pub(crate) fn of_consents(tokens: &TaskTokens) -> Result<Self, InvalidKey> {
        Self::by(tokens, "refresh tokens of consents, sealed in the store")
    }

    fn by(tokens: &TaskTokens, purpose: &'static str) -> Result<Self, InvalidKey> {
        let key = tokens.derive(purpose)?;
        let key = UnboundKey::new(&AES_256_GCM, &*key);
        let key = key.map_err(|_| InvalidKey("no key can be derived".to_owned()))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals a secret as text; only for its task can it be opened.
    pub(crate) fn seal(&self, task: &TaskId, secret: &Secret) -> Result<String, ProviderError> {
        self.seal_for(task.as_str(), secret)
    }

    /// Seals a secret as text; only for what has this name can it be opened.
    #[expect(clippy::disallowed_methods, reason = "to encrypt it")]
    pub(crate) fn seal_for(&self, name: &str, secret: &Secret) -> Result<String, ProviderError> {
        let failed = |_| ProviderError::Failed("secret can't be sealed".to_owned());
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        // All the room at once: a buffer that grows leaves copies behind.
        let length = secret.expose().len() + AES_256_GCM.tag_len();
        let mut text = Vec::with_capacity(length);
        text.extend_from_slice(secret.expose());
        let context = Aad::from(name.as_bytes());
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce_used, context, &mut text)
            .map_err(failed)?;
        let sealed = [nonce.as_slice(), &text].concat();
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what was sealed for a task; none if it was not, or by another key.
    pub(crate) fn open(&self, task: &TaskId, sealed: &str) -> Option<Secret> {
        self.open_for(task.as_str(), sealed)
    }

    /// Opens what was sealed for what has this name.
    pub(crate) fn open_for(&self, name: &str, sealed: &str) -> Option<Secret> {
        let mut sealed = Zeroizing::new(URL_SAFE_NO_PAD.decode(sealed).ok()?);
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let context = Aad::from(name.as_bytes());
        let text = self.0.open_in_place(nonce, context, text).ok()?;
        Secret::new(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "0190a2b4-7f00-7000-8000-000000000001";
    const OTHER_TASK: &str = "0190a2b4-7f00-7000-8000-000000000002";

    fn seal() -> Seal {
        let pem = TaskTokens::generate(identity::KeyKind::P256).unwrap();
        Seal::new(&TaskTokens::from_pem(pem.as_bytes(), "https://gateway.example").unwrap())
            .unwrap()
    }

    /// What is sealed for one task, changed, and opened for another.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "to compare it")]
    fn check(change: impl FnOnce(&Seal, String) -> String, task: &str, opens: bool) {
        let seal = seal();
        let secret = Secret::new(b"s3cr3t".to_vec()).unwrap();
        let sealed = seal.seal(&TASK.parse().unwrap(), &secret).unwrap();
        assert!(!sealed.contains("s3cr3t"));
        let opened = seal.open(&task.parse().unwrap(), &change(&seal, sealed));
        assert_eq!(
            opened.as_ref().map(Secret::expose),
            opens.then_some(b"s3cr3t".as_slice())
        );
    }

    #[test]
    fn what_was_sealed_is_opened() {
        check(|_, sealed| sealed, TASK, true);
    }
    #[test]
    fn it_is_not_opened_for_another_task() {
        check(|_, sealed| sealed, OTHER_TASK, false);
    }
    #[test]
    fn it_is_not_opened_by_another_key() {
        let secret = Secret::new(b"s3cr3t".to_vec()).unwrap();
        let other = seal().seal(&TASK.parse().unwrap(), &secret).unwrap();
        check(|_, _| other, TASK, false);
    }
    #[test]
    fn it_is_not_opened_when_a_bit_has_changed() {
        let change = |_: &Seal, sealed: String| {
            let first = if sealed.chars().nth(20) == Some('A') {
                'B'
            } else {
                'A'
            };
            sealed
                .chars()
                .enumerate()
                .map(|(place, of)| if place == 20 { first } else { of })
                .collect()
        };
        check(change, TASK, false);
    }
    #[test]
    fn nothing_is_not_opened() {
        check(|_, _| String::new(), TASK, false);
        check(|_, _| "AAAA".to_owned(), TASK, false);
    }
    #[test]
    fn one_secret_is_sealed_differently_each_time() {
        let change = |seal: &Seal, sealed: String| {
            let secret = Secret::new(b"s3cr3t".to_vec()).unwrap();
            let again = seal.seal(&TASK.parse().unwrap(), &secret).unwrap();
            assert_ne!(sealed, again);
            again
        };
        check(change, TASK, true);
    }
}
