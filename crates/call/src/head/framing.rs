//! The headers that frame a message, or say how it is to be read.

use std::borrow::Cow;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use memchr::memchr;

use super::Malformed;

/// Refuses heads whose framing or target has a second reading in their headers.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Malformed> {
    for name in headers.keys() {
        check_name(name)?;
    }
    // Names that differ are as many as values, unless one stands twice.
    if headers.keys_len() != headers.len() {
        for name in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING] {
            if headers.get_all(&name).iter().nth(1).is_some() {
                return Err(header(&name, "it stands twice"));
            }
        }
    }
    check_length(headers)?;
    check_connection(headers)
}

/// A header name as servers read it that can't tell `_` from `-` (CGI, WSGI).
pub(crate) fn folded(name: &HeaderName) -> Cow<'_, str> {
    let name = name.as_str();
    if memchr(b'_', name.as_bytes()).is_some() {
        Cow::Owned(name.replace('_', "-"))
    } else {
        Cow::Borrowed(name)
    }
}

fn check_name(name: &HeaderName) -> Result<(), Malformed> {
    let folded = folded(name);
    match &*folded {
        "x-http-method" | "x-http-method-override" | "x-method-override" => {
            Err(header(name, "it overrides the method"))
        }
        "x-original-url" | "x-rewrite-url" => Err(header(name, "it overrides the path")),
        "content-length" | "transfer-encoding" | "host" | "connection" | "content-type"
        | "content-encoding" | "upgrade"
            if name.as_str().contains('_') =>
        {
            Err(header(name, "some servers read `_` as `-`"))
        }
        _ => Ok(()),
    }
}

/// RFC 9112 section 6: one length, one way to tell it.
fn check_length(headers: &HeaderMap) -> Result<(), Malformed> {
    let length = headers.get(CONTENT_LENGTH);
    let coding = headers.get(TRANSFER_ENCODING);
    if length.is_some() && coding.is_some() {
        return Err(header(&CONTENT_LENGTH, "`transfer-encoding` says it too"));
    }
    if let Some(length) = length {
        let digits = length.as_bytes();
        if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(header(&CONTENT_LENGTH, "it is no plain number"));
        }
    }
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(header(&TRANSFER_ENCODING, "it is not `chunked`"));
    }
    Ok(())
}

/// A `Connection` that names an end-to-end header could delete what the gateway sets.
fn check_connection(headers: &HeaderMap) -> Result<(), Malformed> {
    for value in headers.get_all(CONNECTION) {
        for token in tokens(value) {
            let is_hop_by_hop = [
                "",
                "close",
                "keep-alive",
                "te",
                "trailer",
                "transfer-encoding",
                "upgrade",
                "http2-settings",
                "proxy-connection",
            ]
            .iter()
            .any(|known| token.eq_ignore_ascii_case(known.as_bytes()));
            if !is_hop_by_hop {
                return Err(header(&CONNECTION, "it names an end-to-end header"));
            }
        }
    }
    Ok(())
}

/// Whether a head opens a WebSocket (RFC 6455 section 4.1).
pub(super) fn is_websocket(parts: &Parts) -> bool {
    let headers = &parts.headers;
    let mut upgrades = headers.get_all(UPGRADE).iter();
    parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && upgrades
            .next()
            .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && upgrades.next().is_none()
        && headers.contains_key(SEC_WEBSOCKET_KEY)
        && headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
}

fn header(name: &HeaderName, problem: &'static str) -> Malformed {
    Malformed::Header(name.as_str().to_owned(), problem)
}

#[cfg(test)]
mod tests;
