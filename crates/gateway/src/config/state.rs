//! `state`: by which key what the gateway keeps is sealed.

use credentials::SecretRef;

use super::mistake::At;
use super::shape::section;

/// By which key what the gateway keeps is sealed.
#[derive(Clone, Debug, Default)]
pub struct StateConfig {
    /// The key; derived from the one that signs task tokens unless given.
    pub key: Option<SecretRef>,
    /// Keys of before, which open what they sealed.
    pub old_keys: Vec<SecretRef>,
}

section! {
    /// By which key the ledger of leases and the consents of people are sealed in the store.
    struct RawState {
        /// At least 32 bytes that nobody guesses, such as those of `openssl rand -base64 32`; `cmd:` asks a KMS for it. Unless given, it is derived from the key that signs task tokens.
        key: SecretRef = optional;
        /// Keys of before: what they sealed is opened at the start, and sealed by the key of now. Name one until the tasks of its time have ended: it opens what their tokens are revoked by. The PEM that signed task tokens is one, too.
        old_keys: Vec<At<SecretRef>> = default([]);
    }
}

impl RawState {
    pub(super) fn parse(self) -> Option<StateConfig> {
        let old_keys = self.old_keys?.value.into_iter();
        Some(StateConfig {
            key: self.key.map(|key| key.value),
            old_keys: old_keys.map(|key| key.value).collect(),
        })
    }
}
