//! `crypto.*`: digests, as hexadecimal text.

use regorus::Value;
use ring::digest;

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[Builtin {
    name: "crypto.sha256",
    arguments: 1,
    function: |arguments| {
        let digest = digest::digest(&digest::SHA256, text(arguments, 0)?.as_bytes());
        Ok(Value::from(hex::encode(digest)))
    },
}];
