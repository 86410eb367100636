//! What comes off a head before anything else sees it: keys, and what only the gateway may say.

use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::Agent;

use crate::head::{Pair, QUERY_TOKEN, folded};
use crate::keys;

/// A key that came off, told by fingerprint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stripped {
    /// `header:x-api-key`, `query:api_key`, `cookie`.
    pub place: String,
    /// The first 16 hex digits of a keyed hash; the key is random per process.
    pub fingerprint: String,
}

/// What becomes of a header.
enum Fate {
    /// It goes on, unless its value is a key.
    Stays,
    /// It is between the agent and the gateway alone.
    Ends,
    /// Its name says that it carries a key.
    IsKey,
}

/// Takes the proofs off that the gateway asked for: they are no keys of the agent's.
pub(crate) fn take_proofs(headers: &mut HeaderMap, agent: &Agent) {
    let proofs: Vec<(HeaderName, HeaderValue)> = headers
        .iter()
        .filter(|(name, value)| agent.presented(name, value) && is_slot(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, _) in &proofs {
        if headers.get_all(name).iter().nth(1).is_none() {
            headers.remove(name);
            continue;
        }
        let others: Vec<HeaderValue> = headers
            .get_all(name)
            .iter()
            .filter(|value| !proofs.iter().any(|(_, proof)| proof == *value))
            .cloned()
            .collect();
        headers.remove(name);
        for other in others {
            headers.append(name, other);
        }
    }
}

/// Takes the proof off a URL that was presigned for AWS.
pub(crate) fn take_query_proof(query: &mut Vec<Pair>, agent: &Agent) {
    const SLOT: HeaderName = HeaderName::from_static("x-amz-security-token");
    query.retain(|pair| {
        let value = HeaderValue::from_str(&pair.value);
        pair.key != QUERY_TOKEN || !value.is_ok_and(|value| agent.presented(&SLOT, &value))
    });
}

fn is_slot(name: &HeaderName) -> bool {
    keys::is_header(&folded(name))
}

/// Takes off hop-by-hop headers (RFC 9110 section 7.6.1), what only the gateway may say of the
/// caller, the declarations, and every key; answers with the keys.
pub(crate) fn take_headers(
    headers: &mut HeaderMap,
    declarations: &[HeaderName],
    connection: Connection,
) -> Vec<Stripped> {
    let mut stripped = Vec::new();
    let mut off: Vec<HeaderName> = Vec::new();
    let may_hold_key = may_hold_key(headers);
    for (name, value) in &*headers {
        let folded = folded(name);
        let fate = if declarations.iter().any(|named| named.as_str() == folded) {
            Fate::Ends
        } else {
            fate(&folded)
        };
        let key = match fate {
            Fate::Stays => match key_in(name, value, may_hold_key) {
                Some(key) => Some(key),
                None => continue,
            },
            Fate::Ends => None,
            Fate::IsKey => Some(without_scheme(value)),
        };
        if let Some(key) = key {
            stripped.push(Stripped {
                place: place(name),
                fingerprint: keys::fingerprint(key),
            });
        }
        if off.last() != Some(name) {
            off.push(name.clone());
        }
    }
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    let takes_trailers = headers.get_all(TE).iter().any(|value| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"trailers")
    });
    for name in off {
        headers.remove(name);
    }
    match connection {
        Connection::WebSocket => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        Connection::Streams if is_chunked => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Connection::Streams | Connection::Closes => {}
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    stripped
}

/// Whether some value may hold a key of a known format: one look at all values tells most heads.
fn may_hold_key(headers: &HeaderMap) -> bool {
    let mut values = Vec::with_capacity(1024);
    for value in headers.values() {
        values.extend_from_slice(value.as_bytes());
        // No prefix of a key holds it, so none comes of two values.
        values.push(b'\n');
    }
    keys::may_hold(&values)
}

/// What follows a head, which decides on the hop-by-hop headers that the gateway sets anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Connection {
    /// Nothing, or a body that was read.
    Closes,
    /// A body whose end only its framing tells.
    Streams,
    /// A WebSocket.
    WebSocket,
}

fn fate(name: &str) -> Fate {
    match name {
        // what nearly every call has, so that the rest is asked of few
        "accept" | "accept-encoding" | "accept-language" | "content-length" | "content-type"
        | "host" | "traceparent" | "tracestate" | "user-agent" => Fate::Stays,
        // hop-by-hop
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer"
        | "transfer-encoding" | "upgrade" | "http2-settings"
        // an agent does not speak for the gateway
        | "forwarded" | "via" | "true-client-ip" | "cf-connecting-ip" | "client-ip"
        | "fastly-client-ip" | "remote-user" | "x-remote-user" | "x-real-ip" | "x-client-ip"
        | "x-cluster-client-ip" | "x-host" | "x-original-host" | "x-original-forwarded-for"
        | "client-cert" | "client-cert-chain" => Fate::Ends,
        name if keys::is_header(name) => Fate::IsKey,
        name if ["x-forwarded", "x-envoy-", "x-auth-request-", "ssl-client-", "x-ssl-client-", "remit-"]
            .iter()
            .any(|start| name.starts_with(start)) =>
        {
            Fate::Ends
        }
        _ => Fate::Stays,
    }
}

/// Takes every key off a query.
pub(crate) fn take_query(query: &mut Vec<Pair>) -> Vec<Stripped> {
    let mut stripped = Vec::new();
    query.retain(|pair| {
        let key = if keys::is_query_key(&pair.key) {
            Some(pair.value.as_bytes())
        } else {
            keys::find(pair.value.as_bytes())
        };
        let found = key.or_else(|| keys::find(pair.key.as_bytes()));
        if let Some(key) = found {
            stripped.push(Stripped {
                place: format!("query:{}", shown(pair)),
                fingerprint: keys::fingerprint(key),
            });
        }
        found.is_none()
    });
    stripped
}

/// A query key may itself be the secret, and then is not told.
fn shown(pair: &Pair) -> &str {
    if keys::find(pair.key.as_bytes()).is_some() {
        "?"
    } else {
        &pair.key
    }
}

fn place(name: &HeaderName) -> String {
    match name.as_str() {
        "cookie" | "cookie2" => "cookie".to_owned(),
        name => format!("header:{name}"),
    }
}

/// A key in a header whose name does not say so: of a known format, with a scheme before it, or in
/// the one header that a browser's WebSocket can set (Kubernetes reads tokens there).
fn key_in<'v>(name: &HeaderName, value: &'v HeaderValue, may_hold_key: bool) -> Option<&'v [u8]> {
    let bytes = value.as_bytes();
    may_hold_key
        .then(|| keys::find(bytes))
        .flatten()
        .or_else(|| keys::after_scheme(bytes))
        .or_else(|| (*name == SEC_WEBSOCKET_PROTOCOL && names_key(bytes)).then_some(bytes))
}

fn names_key(protocols: &[u8]) -> bool {
    let lower = protocols.to_ascii_lowercase();
    [&b"bearer"[..], b"authorization", b"api-key", b"token"]
        .iter()
        .any(|word| lower.windows(word.len()).any(|window| window == *word))
}

/// The part of `Bearer x` that tells one key from another, so that it has one fingerprint everywhere.
fn without_scheme(value: &HeaderValue) -> &[u8] {
    let bytes = value.as_bytes();
    let space = bytes.iter().position(|byte| *byte == b' ');
    space
        .and_then(|space| bytes.get(space + 1..))
        .unwrap_or(bytes)
        .trim_ascii()
}

#[cfg(test)]
mod tests;
