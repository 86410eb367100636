//! `crypto.*`: digests and message authentication codes, as hexadecimal text. Those of MD5 protect nothing: they are for
//! names that others made with it.

use ::hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use regorus::Value;
use ring::{digest, hmac};

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "crypto.md5",
        arguments: 1,
        function: |arguments| {
            let digest = Md5::digest(text(arguments, 0)?);
            Ok(Value::from(hex::encode(digest)))
        },
    },
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
        name: "crypto.hmac.md5",
        arguments: 2,
        function: |arguments| {
            let mut hmac = Hmac::<Md5>::new_from_slice(text(arguments, 1)?.as_bytes())?;
            hmac.update(text(arguments, 0)?.as_bytes());
            Ok(Value::from(hex::encode(hmac.finalize().into_bytes())))
        },
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

#[cfg(test)]
mod tests {
    use super::Value;
    use crate::builtins::find;

    #[track_caller]
    fn check(name: &str, arguments: &[&str], expect: &str) {
        let arguments: Vec<_> = arguments.iter().map(|text| Value::from(*text)).collect();
        let said = (find(name).unwrap().function)(&arguments);
        assert_eq!(said.unwrap(), Value::from(expect));
    }

    /// RFC 1321 A.5.
    #[test]
    fn md5_is_that_of_its_rfc() {
        check("crypto.md5", &[""], "d41d8cd98f00b204e9800998ecf8427e");
        check("crypto.md5", &["abc"], "900150983cd24fb0d6963f7d28e17f72");
    }
    /// RFC 2202 2.
    #[test]
    fn hmac_of_md5_is_that_of_its_rfc() {
        let expect = "750c783e6ab0b503eaa86e310a5db738";
        check(
            "crypto.hmac.md5",
            &["what do ya want for nothing?", "Jefe"],
            expect,
        );
        let (message, key) = ("Hi There", "\u{b}".repeat(16));
        let expect = "9294727a3638bb1c13f48ef8158bfc9d";
        check("crypto.hmac.md5", &[message, &key], expect);
    }
}
