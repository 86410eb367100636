//! What comes off a head before anything else sees it: keys, and what only the gateway may say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::Agent;

use crate::found_key::{Notes, without_scheme};
use crate::head::{Pair, QUERY_TOKEN, folded};
use crate::keys;

/// What becomes of a header.
enum Fate {
    /// It goes on, unless its value is a key.
    Stays,
    /// It is between the agent and the gateway alone.
    Ends,
    /// Its name says that it carries a key.
    IsKey,
}

/// Takes the proofs off that the gateway asked for, and answers with them: they are no keys of the agent's.
pub(crate) fn take_proofs(headers: &mut HeaderMap, agent: &Agent) -> Vec<HeaderValue> {
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
    proofs.into_iter().map(|(_, proof)| proof).collect()
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
/// caller, the declarations, and every key. Those under a name that says so are answered with if they are to pass: they go
/// on the wire, and nobody sees them before.
pub(crate) fn take_headers(
    headers: &mut HeaderMap,
    declarations: &[HeaderName],
    connection: Connection,
    notes: &mut Notes<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut passing = Vec::new();
    let mut off: Vec<HeaderName> = Vec::new();
    let may_hold_key = may_hold_key(headers);
    for (name, value) in &*headers {
        let folded = folded(name);
        let fate = if declarations.iter().any(|named| named.as_str() == folded) {
            Fate::Ends
        } else {
            fate(&folded)
        };
        let stays = match fate {
            Fate::Ends => false,
            Fate::Stays => {
                if !holds_key(name, value, may_hold_key) {
                    continue;
                }
                let passes = notes.passes(value.as_bytes());
                note_header(name, value, passes, notes);
                passes
            }
            Fate::IsKey => {
                let passes = notes.passes(value.as_bytes()) && !keys::is_proof(&folded);
                note_header(name, value, passes, notes);
                if passes {
                    passing.push((name.clone(), value.clone()));
                }
                false
            }
        };
        if !stays && off.last() != Some(name) {
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
    passing
}

/// Writes down the keys in a header that holds one.
fn note_header(name: &HeaderName, value: &HeaderValue, passes: bool, notes: &mut Notes<'_>) {
    let fate = notes.fate(passes);
    let (place, kind) = match name.as_str() {
        "cookie" | "cookie2" => ("cookie".to_owned(), "cookie"),
        name => (format!("header:{name}"), keys::UNKNOWN),
    };
    let token = without_scheme(value.as_bytes());
    if notes.note_known(&place, value.as_bytes(), fate) {
        return;
    }
    // `https://key@host/` becomes one of these, and Git sends its tokens so.
    match basic(value.as_bytes()) {
        Some(pair) if notes.note_known(&place, &pair, fate) => {}
        Some(pair) => notes.note(&place, "basic", &pair, fate),
        None => notes.note(&place, kind, token, fate),
    }
}

/// User and password of the `Basic` scheme (RFC 7617).
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, _) = value.split_at_checked(6)?;
    let is_basic = scheme.eq_ignore_ascii_case(b"basic ");
    is_basic.then(|| STANDARD.decode(without_scheme(value)).ok())?
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

/// Takes every key off a query that does not pass.
pub(crate) fn take_query(query: &mut Vec<Pair>, notes: &mut Notes<'_>) {
    query.retain(|pair| {
        let (key, value) = (pair.key.as_bytes(), pair.value.as_bytes());
        let is_named = keys::is_query_key(&pair.key);
        if !is_named && !keys::may_hold(key) && !keys::may_hold(value) {
            return true;
        }
        let passes = notes.passes(value) && notes.passes(key);
        let fate = notes.fate(passes);
        // A query key may itself be the secret, and then is not told.
        let is_secret = notes.note_known("query:?", key, fate);
        let place = if is_secret {
            "query:?".to_owned()
        } else {
            format!("query:{}", pair.key)
        };
        let is_known = notes.note_known(&place, value, fate);
        if is_named && !is_known {
            notes.note(&place, keys::UNKNOWN, value, fate);
        }
        passes || !(is_named || is_secret || is_known)
    });
}

/// Whether a header whose name does not say so holds a key: of a known format, with a scheme before it, or in
/// the one header that a browser's WebSocket can set (Kubernetes reads tokens there).
fn holds_key(name: &HeaderName, value: &HeaderValue, may_hold_key: bool) -> bool {
    let bytes = value.as_bytes();
    may_hold_key && keys::find(bytes).is_some()
        || keys::after_scheme(bytes).is_some()
        || *name == SEC_WEBSOCKET_PROTOCOL && names_key(bytes)
}

fn names_key(protocols: &[u8]) -> bool {
    let lower = protocols.to_ascii_lowercase();
    [&b"bearer"[..], b"authorization", b"api-key", b"token"]
        .iter()
        .any(|word| lower.windows(word.len()).any(|window| window == *word))
}

#[cfg(test)]
mod tests;
