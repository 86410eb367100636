//! What must outlive the process: sealed, bound to where it belongs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::{InvalidKey, TaskTokens};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use tasks::TaskId;
use zeroize::Zeroizing;

use crate::{ProviderError, Secret};

/// Seals what goes into the store (AES-256-GCM, a random nonce each), so that it can be read after a crash by who has
/// the key, and by nobody else.
///
/// **Invariant.** What was sealed for one place is opened for that place alone.
#[derive(Debug)]
pub struct Seal {
    key: Key,
    /// Keys of before: what they sealed is opened still.
    old: Vec<Key>,
}

/// A key, and how what it sealed is told from what others did.
#[derive(Debug)]
struct Key {
    aead: LessSafeKey,
    id: [u8; KEY_ID],
}

/// What begins a sealed value; no JSON begins so.
const VERSION: u8 = 1;

/// How many bytes name a key: enough to tell a few apart, useless for guessing one.
const KEY_ID: usize = 4;

/// The fewest bytes that a key is made of: what AES-256 takes.
const SHORTEST: usize = 32;

/// Where all keys that are derived from the one that signs our tokens come from.
const PURPOSE: &str = "secrets of leases, sealed in the ledger";

/// What was sealed can't be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unopened {
    /// It was sealed by a key that is not among ours.
    #[error("it was sealed by a key that is not known here")]
    OtherKey,
    /// It was changed, or it stood elsewhere.
    #[error("it was altered, or moved from another place")]
    Altered,
    /// It is no sealed value.
    #[error("it is not sealed")]
    Unsealed,
}

/// How a value was found.
pub struct Opened {
    /// What was sealed.
    pub value: Zeroizing<Vec<u8>>,
    /// Whether a key of before sealed it.
    pub is_old: bool,
}

// By hand: what was sealed is told by nobody.
impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("is_old", &self.is_old)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// Seals by a key that is derived from the one that signs our tokens; when that is exchanged, nothing of before can
    /// be opened.
    ///
    /// # Errors
    /// No key can be derived.
    pub fn new(tokens: &TaskTokens) -> Result<Self, InvalidKey> {
        Ok(Self {
            key: Key::of_tokens(tokens)?,
            old: Vec::new(),
        })
    }

    /// Seals by a key of its own: a secret of at least 32 bytes that nobody guesses, or a PEM that signs our tokens.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_secret(secret: &[u8]) -> Result<Self, InvalidKey> {
        Ok(Self {
            key: Key::of_secret(secret)?,
            old: Vec::new(),
        })
    }

    /// Opens what was sealed by this key, too, which is read as [`Seal::from_secret`] reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn with_old(mut self, secret: &[u8]) -> Result<Self, InvalidKey> {
        self.old.push(Key::of_secret(secret)?);
        Ok(self)
    }

    /// Seals a value for one place, such as table, key and task.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn seal_for(&self, place: &[&str], value: &[u8]) -> Result<Vec<u8>, InvalidKey> {
        let failed = |_| InvalidKey("value can't be sealed".to_owned());
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        let head = 1 + KEY_ID + NONCE_LEN;
        // All the room at once: a buffer that grows leaves copies behind.
        let mut sealed = Vec::with_capacity(head + value.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.key.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = sealed.get_mut(head..).unwrap_or_default();
        let aead = &self.key.aead;
        let tag = aead.seal_in_place_separate_tag(nonce, Aad::from(associated(place)), text);
        let tag = tag.map_err(failed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// [`Unopened`] says why not.
    pub fn open_for(&self, place: &[&str], sealed: &[u8]) -> Result<Opened, Unopened> {
        let (version, rest) = sealed.split_first().ok_or(Unopened::Unsealed)?;
        if *version != VERSION {
            return Err(Unopened::Unsealed);
        }
        let (id, rest) = rest.split_at_checked(KEY_ID).ok_or(Unopened::Altered)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(Unopened::Altered)?;
        let mut keys =
            std::iter::once((&self.key, false)).chain(self.old.iter().map(|old| (old, true)));
        let (key, is_old) = keys
            .find(|(key, _)| key.id == id)
            .ok_or(Unopened::OtherKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened::Altered)?;
        let mut value = Zeroizing::new(text.to_vec());
        let opened = key
            .aead
            .open_in_place(nonce, Aad::from(associated(place)), &mut value);
        let length = opened.map_err(|_| Unopened::Altered)?.len();
        value.truncate(length);
        Ok(Opened { value, is_old })
    }

    /// Seals a secret as text; only for its task can it be opened.
    #[expect(clippy::disallowed_methods, reason = "to encrypt it")]
    pub(crate) fn seal(&self, task: &TaskId, secret: &Secret) -> Result<String, ProviderError> {
        let failed = |_| ProviderError::Failed("secret can't be sealed".to_owned());
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        // All the room at once: a buffer that grows leaves copies behind.
        let length = secret.expose().len() + AES_256_GCM.tag_len();
        let mut text = Vec::with_capacity(length);
        text.extend_from_slice(secret.expose());
        let context = Aad::from(task.as_str().as_bytes());
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.key
            .aead
            .seal_in_place_append_tag(nonce_used, context, &mut text)
            .map_err(failed)?;
        let sealed = [nonce.as_slice(), &text].concat();
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what was sealed for a task; none if it was not, or by a key that is not among ours.
    pub(crate) fn open(&self, task: &TaskId, sealed: &str) -> Option<Secret> {
        let sealed = Zeroizing::new(URL_SAFE_NO_PAD.decode(sealed).ok()?);
        // It does not say which key it was: all are tried.
        let mut keys = std::iter::once(&self.key).chain(&self.old);
        keys.find_map(|key| key.open(task, &sealed))
    }
}

impl Key {
    fn open(&self, task: &TaskId, sealed: &[u8]) -> Option<Secret> {
        // A failure leaves nothing of the text: each key has its own.
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let context = Aad::from(task.as_str().as_bytes());
        let text = self.aead.open_in_place(nonce, context, text).ok()?;
        Secret::new(text.to_vec()).ok()
    }

    fn new(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        let key = UnboundKey::new(&AES_256_GCM, bytes);
        let aead = key.map_err(|_| InvalidKey("no key can be derived".to_owned()))?;
        let name = expand(bytes, &[b"name of a key"])?;
        let mut id = [0; KEY_ID];
        id.iter_mut().zip(&*name).for_each(|(to, from)| *to = *from);
        Ok(Self {
            aead: LessSafeKey::new(aead),
            id,
        })
    }

    fn of_tokens(tokens: &TaskTokens) -> Result<Self, InvalidKey> {
        Self::new(&*tokens.derive(PURPOSE)?)
    }

    fn of_secret(secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Self::of_tokens(&TaskTokens::from_pem(secret, "urn:remit")?);
        }
        let secret = secret.trim_ascii_end();
        if secret.len() < SHORTEST {
            let short = format!("key is shorter than {SHORTEST} bytes");
            return Err(InvalidKey(short));
        }
        Self::new(&*expand(secret, &[b"key of the state"])?)
    }
}

/// HKDF-SHA256 (RFC 5869).
fn expand(secret: &[u8], info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"remit").extract(secret);
    let mut key = Zeroizing::new([0; 32]);
    let expanded = extracted.expand(info, hkdf::HKDF_SHA256);
    let filled = expanded.and_then(|expanded| expanded.fill(&mut *key));
    filled.map_err(|_| InvalidKey("no key can be derived".to_owned()))?;
    Ok(key)
}

/// A place as one text: lengths keep `a b`, `c` apart from `a`, `b c`.
fn associated(place: &[&str]) -> Vec<u8> {
    let mut text = b"remit".to_vec();
    for part in place {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    text
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
    #[expect(clippy::disallowed_methods, reason = "to compare it")]
    fn it_is_opened_by_a_key_of_before() {
        let task = TASK.parse().unwrap();
        let secret = Secret::new(b"s3cr3t".to_vec()).unwrap();
        let before = Seal::from_secret(&[7; 32]).unwrap();
        let sealed = before.seal(&task, &secret).unwrap();
        let other = Seal::from_secret(&[8; 32]).unwrap();
        assert!(other.open(&task, &sealed).is_none());
        let rotated = other.with_old(&[6; 32]).unwrap().with_old(&[7; 32]);
        let rotated = rotated.unwrap();
        let opened = rotated.open(&task, &sealed).unwrap();
        assert_eq!(opened.expose(), b"s3cr3t");
        let elsewhere = rotated.open(&OTHER_TASK.parse().unwrap(), &sealed);
        assert!(elsewhere.is_none());
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

    /// What is sealed for one place by one key, and opened for another by keys.
    #[track_caller]
    fn check_place(place: &[&str], opens: Result<bool, Unopened>) {
        let sealed = Seal::from_secret(&[7; 32]).unwrap();
        let sealed = sealed.seal_for(&["leases", "t/1"], b"line").unwrap();
        let seal = Seal::from_secret(&[7; 32]).unwrap();
        check_opened(&seal, place, &sealed, opens);
    }

    #[track_caller]
    fn check_opened(seal: &Seal, place: &[&str], sealed: &[u8], opens: Result<bool, Unopened>) {
        let opened = seal.open_for(place, sealed);
        if let Ok(opened) = &opened {
            assert_eq!(&**opened.value, b"line");
        }
        assert_eq!(opened.map(|opened| opened.is_old), opens);
    }

    #[test]
    fn a_value_is_opened_where_it_was_sealed_for() {
        check_place(&["leases", "t/1"], Ok(false));
    }
    #[test]
    fn a_value_is_not_opened_in_another_row_or_table() {
        check_place(&["leases", "t/2"], Err(Unopened::Altered));
        check_place(&["tasks", "t/1"], Err(Unopened::Altered));
        check_place(&["leases", "t/", "1"], Err(Unopened::Altered));
        check_place(&["leasest/1"], Err(Unopened::Altered));
    }
    #[test]
    fn a_value_of_another_key_says_so_and_is_opened_by_an_old_one() {
        let sealed = Seal::from_secret(&[7; 32]).unwrap();
        let sealed = sealed.seal_for(&["leases", "t/1"], b"line").unwrap();
        let other = Seal::from_secret(&[8; 32]).unwrap();
        check_opened(&other, &["leases", "t/1"], &sealed, Err(Unopened::OtherKey));
        let rotated = other.with_old(&[7; 32]).unwrap();
        check_opened(&rotated, &["leases", "t/1"], &sealed, Ok(true));
    }
    #[test]
    fn a_value_that_was_changed_anywhere_is_not_opened() {
        let seal = Seal::from_secret(&[7; 32]).unwrap();
        let sealed = seal.seal_for(&["leases", "t/1"], b"line").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"line"));
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            seal.open_for(&["leases", "t/1"], &changed).unwrap_err();
            seal.open_for(&["leases", "t/1"], &sealed[..place])
                .unwrap_err();
        }
    }
    #[test]
    fn what_is_not_sealed_says_so() {
        let seal = Seal::from_secret(&[7; 32]).unwrap();
        check_opened(&seal, &["leases", "t/1"], b"{}", Err(Unopened::Unsealed));
    }
    #[test]
    fn a_key_of_task_tokens_is_the_one_derived_from_them() {
        let pem = TaskTokens::generate(identity::KeyKind::P256).unwrap();
        let tokens = TaskTokens::from_pem(pem.as_bytes(), "https://gateway.example").unwrap();
        let sealed = Seal::new(&tokens)
            .unwrap()
            .seal_for(&["leases", "t/1"], b"line")
            .unwrap();
        let other = Seal::from_secret(&[8; 32])
            .unwrap()
            .with_old(pem.as_bytes())
            .unwrap();
        check_opened(&other, &["leases", "t/1"], &sealed, Ok(true));
    }
    #[test]
    fn a_short_key_is_refused_and_a_line_break_is_no_part_of_one() {
        Seal::from_secret(b"short\n").unwrap_err();
        let key = b"0123456789abcdef0123456789abcdef";
        let sealed = Seal::from_secret(key)
            .unwrap()
            .seal_for(&["a"], b"line")
            .unwrap();
        let seal = Seal::from_secret(&[key.as_slice(), b"\n"].concat()).unwrap();
        check_opened(&seal, &["a"], &sealed, Ok(false));
    }
}
