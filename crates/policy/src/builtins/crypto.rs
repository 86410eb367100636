//! `crypto.*`: digests and message authentication codes, as hexadecimal text.

use regorus::Value;
use ring::{digest, hmac};

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "crypto.sha1",
        arguments: 1,
        function: |arguments| digest_of(&digest::SHA1_FOR_LEGACY_USE_ONLY, arguments),
    },
    Builtin {
        name: "crypto.sha256",
        arguments: 1,
        function: |arguments| digest_of(&digest::SHA256, arguments),
    },
    Builtin {
        name: "crypto.hmac.sha1",
        arguments: 2,
        function: |arguments| hmac_of(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, arguments),
    },
    Builtin {
        name: "crypto.hmac.sha256",
        arguments: 2,
        function: |arguments| hmac_of(hmac::HMAC_SHA256, arguments),
    },
    Builtin {
        name: "crypto.hmac.sha512",
        arguments: 2,
        function: |arguments| hmac_of(hmac::HMAC_SHA512, arguments),
    },
    Builtin {
        name: "crypto.hmac.equal",
        arguments: 2,
        function: equal,
    },
];

fn digest_of(algorithm: &'static digest::Algorithm, arguments: &[Value]) -> anyhow::Result<Value> {
    let digest = digest::digest(algorithm, text(arguments, 0)?.as_bytes());
    Ok(Value::from(hex::encode(digest)))
}

fn hmac_of(algorithm: hmac::Algorithm, arguments: &[Value]) -> anyhow::Result<Value> {
    let key = hmac::Key::new(algorithm, text(arguments, 1)?.as_bytes());
    let tag = hmac::sign(&key, text(arguments, 0)?.as_bytes());
    Ok(Value::from(hex::encode(tag)))
}

/// Equal texts, compared without telling by the time it takes where they differ: what is compared are their codes
/// under a key that nobody knows.
fn equal(arguments: &[Value]) -> anyhow::Result<Value> {
    let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new());
    let key = key.map_err(|_| anyhow::anyhow!("there is no randomness"))?;
    let tag = hmac::sign(&key, text(arguments, 0)?.as_bytes());
    let same = hmac::verify(&key, text(arguments, 1)?.as_bytes(), tag.as_ref());
    Ok(Value::from(same.is_ok()))
}
