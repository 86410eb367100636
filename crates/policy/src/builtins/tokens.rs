//! `io.jwt.decode`: what a token says, which proves nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regorus::Value;

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[Builtin {
    name: "io.jwt.decode",
    arguments: 1,
    function: decode,
}];

/// Header, payload and signature (as hexadecimal text) of a compact JWS (RFC 7515 7.1).
fn decode(arguments: &[Value]) -> anyhow::Result<Value> {
    let mut parts = text(arguments, 0)?.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        anyhow::bail!("a token has three parts");
    };
    let header = object(header)?;
    anyhow::ensure!(
        header["enc"] == Value::Undefined,
        "an encrypted token can't be read"
    );
    let signature = URL_SAFE_NO_PAD.decode(signature.trim_end_matches('='))?;
    Ok(Value::from(vec![
        header,
        object(payload)?,
        Value::from(hex::encode(signature)),
    ]))
}

fn object(part: &str) -> anyhow::Result<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('='))?;
    let value = Value::from_json_str(std::str::from_utf8(&bytes)?)?;
    anyhow::ensure!(value.as_object().is_ok(), "a part of a token is an object");
    Ok(value)
}
