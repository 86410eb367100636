//! What comes off a head, and what stays.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Connection, take_headers, take_query};
use crate::found_key::{FoundKey, KeyFate, Notes};
use crate::head::{Pair, pairs};
use crate::keys::Fingerprints;
use crate::tools::StripMode;

const GITHUB: &str = concat!("ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

fn take(headers: &[(&str, &str)], connection: Connection) -> (HeaderMap, Vec<FoundKey>) {
    take_as(StripMode::Strip, headers, connection)
}

fn take_as(
    mode: StripMode,
    headers: &[(&str, &str)],
    connection: Connection,
) -> (HeaderMap, Vec<FoundKey>) {
    let mut map = map(headers);
    let declarations = ["agent-task", "agent-tool"].map(HeaderName::from_static);
    let keys = noted(mode, |notes| {
        let passing = take_headers(&mut map, &declarations, connection, notes);
        map.extend(passing);
    });
    (map, keys)
}

/// What is written down; `the-proof` is the gateway's.
fn noted(mode: StripMode, take: impl FnOnce(&mut Notes<'_>)) -> Vec<FoundKey> {
    let mut keys = Vec::new();
    take(&mut Notes {
        mode,
        prints: &PRINTS,
        proofs: &[HeaderValue::from_static("Bearer the-proof")],
        placeholders: &[],
        keys: &mut keys,
    });
    keys
}

static PRINTS: std::sync::LazyLock<Fingerprints> = std::sync::LazyLock::new(Fingerprints::random);

fn take_pairs(query: &mut Vec<Pair>) -> Vec<FoundKey> {
    noted(StripMode::Strip, |notes| take_query(query, notes))
}

#[track_caller]
fn is_key(name: &str, value: &str, place: &str) {
    let (map, stripped) = take(&[(name, value), ("accept", "x")], Connection::Closes);
    assert_eq!(map.len(), 1, "{map:?}");
    let places: Vec<_> = stripped.iter().map(|key| key.place.as_str()).collect();
    assert_eq!(places, [place]);
    assert!(!format!("{stripped:?}").contains(value));
}

#[track_caller]
fn ends(name: &str, value: &str) {
    let (map, stripped) = take(&[(name, value)], Connection::Closes);
    assert!(map.is_empty() && stripped.is_empty(), "{name}");
}

#[track_caller]
fn stays(name: &str, value: &str) {
    let (map, stripped) = take(&[(name, value)], Connection::Closes);
    assert_eq!(map.get(name).unwrap(), value);
    assert_eq!(stripped, []);
}

#[test]
fn an_authorization_is_a_key() {
    is_key("authorization", "Bearer opaque", "header:authorization");
}
#[test]
fn cookies_are_keys() {
    is_key("cookie", "session=1", "cookie");
}
#[test]
fn a_key_with_underscores_in_its_name_is_a_key() {
    is_key("x_api_key", "opaque", "header:x_api_key");
}
#[test]
fn a_known_format_is_a_key_under_any_name() {
    is_key("x-anything", GITHUB, "header:x-anything");
    is_key("user-agent", &format!("curl {GITHUB}"), "header:user-agent");
}
#[test]
fn a_scheme_gives_a_key_away() {
    is_key("x-upstream", "Bearer opaque-token", "header:x-upstream");
    is_key("x-upstream", "basic dXNlcjpwYXNz", "header:x-upstream");
    stays("x-plan", "Basic plan with notes");
}
#[test]
fn a_key_in_a_websocket_protocol_comes_off() {
    let value = "base64url.bearer.authorization.k8s.io.b3BhcXVl";
    is_key(
        "sec-websocket-protocol",
        value,
        "header:sec-websocket-protocol",
    );
    stays("sec-websocket-protocol", "graphql-ws, chat");
}
#[test]
fn a_key_has_one_fingerprint_everywhere() {
    let (_, stripped) = take(
        &[
            ("authorization", &format!("Bearer {GITHUB}")),
            ("x-api-key", GITHUB),
            ("x-other", &format!("a {GITHUB} b")),
            (
                "x-pair",
                &format!("Basic {}", STANDARD.encode(format!("git:{GITHUB}"))),
            ),
            ("cookie", &format!("a=b; c={GITHUB}")),
        ],
        Connection::Closes,
    );
    let mut query = pairs(&format!("q={GITHUB}")).unwrap();
    let mut prints: Vec<_> = stripped
        .into_iter()
        .chain(take_pairs(&mut query))
        .map(|key| key.fingerprint)
        .collect();
    assert_eq!(prints.len(), 6);
    prints.dedup();
    assert_eq!(prints.len(), 1);
}
#[test]
fn every_value_of_a_key_comes_off() {
    let (map, stripped) = take(
        &[("authorization", "a"), ("authorization", "b")],
        Connection::Closes,
    );
    assert!(map.is_empty());
    assert_eq!(stripped.len(), 2);
}
#[test]
fn hop_by_hop_headers_end_here() {
    ends("connection", "keep-alive");
    ends("keep-alive", "timeout=5");
    ends("proxy-connection", "keep-alive");
    ends("trailer", "x");
    ends("upgrade", "h2c");
    ends("http2-settings", "x");
    ends("te", "gzip");
}
#[test]
fn an_agent_does_not_speak_for_the_gateway() {
    for name in [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x_forwarded_proto",
        "x-real-ip",
        "via",
        "remit-decision",
        "x-forwarded-client-cert",
    ] {
        ends(name, "x");
    }
}
#[test]
fn declarations_end_here() {
    ends("agent-task", "x");
    ends("agent-tool", "x");
}
#[test]
fn other_headers_stay() {
    stays("accept", "application/json");
    stays("idempotency-key", "550e8400-e29b-41d4-a716-446655440000");
    stays("mcp-session-id", "abc");
    stays(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    stays("te", "trailers");
}
#[test]
fn a_websocket_keeps_its_handshake() {
    let (map, _) = take(
        &[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ],
        Connection::WebSocket,
    );
    assert_eq!(map.get("connection").unwrap(), "upgrade");
    assert_eq!(map.get("upgrade").unwrap(), "websocket");
    assert!(map.contains_key("sec-websocket-key"));
}
#[test]
fn a_streaming_body_keeps_its_framing() {
    let headers = [("transfer-encoding", "chunked")];
    let (map, _) = take(&headers, Connection::Streams);
    assert!(map.contains_key("transfer-encoding"));
    let (map, _) = take(&headers, Connection::Closes);
    assert!(map.is_empty());
}

#[track_caller]
fn query(raw: &str, wire: &str, places: &[&str]) {
    let mut query = pairs(raw).unwrap();
    let stripped = take_pairs(&mut query);
    let left: Vec<_> = query.iter().map(|pair| pair.wire.as_str()).collect();
    let found: Vec<_> = stripped.iter().map(|key| key.place.as_str()).collect();
    assert_eq!((left.join("&").as_str(), &*found), (wire, places));
}

#[test]
fn key_names_come_off_a_query() {
    query(
        "a=1&api%5Fkey=x&b=2&X-Amz-Signature=y",
        "a=1&b=2",
        &["query:api_key", "query:X-Amz-Signature"],
    );
}
#[test]
fn key_formats_come_off_a_query() {
    query(&format!("q={GITHUB}&a=1"), "a=1", &["query:q"]);
}
#[test]
fn a_key_as_a_query_key_is_not_told() {
    query(GITHUB, "", &["query:?"]);
}
#[test]
fn an_ordinary_query_stays() {
    query("q=a+b&page_token=x", "q=a+b&page_token=x", &[]);
}

#[track_caller]
fn kind(name: &str, value: &str, expect: &str) {
    let (_, keys) = take(&[(name, value)], Connection::Closes);
    let kinds: Vec<_> = keys.iter().map(|key| key.kind).collect();
    assert_eq!(kinds, [expect], "{name}");
}

#[test]
fn a_key_is_told_by_its_kind() {
    kind("authorization", &format!("token {GITHUB}"), "github");
    kind("x-api-key", "opaque", "unknown");
    kind("authorization", "Basic dXNlcjpwYXNz", "basic");
    kind("cookie", "session=1", "cookie");
    kind("cookie", &format!("session={GITHUB}"), "github");
}
#[test]
fn a_key_that_is_reported_goes_on() {
    let headers = [
        ("authorization", "Bearer opaque"),
        ("cookie", "s=1"),
        ("x-note", GITHUB),
    ];
    let (map, keys) = take_as(StripMode::Report, &headers, Connection::Closes);
    assert_eq!(map.len(), 3);
    assert!(keys.iter().all(|key| key.fate == KeyFate::Reported) && keys.len() == 3);
    let mut query = pairs(&format!("q={GITHUB}&key=x&a=1")).unwrap();
    let keys = noted(StripMode::Report, |notes| take_query(&mut query, notes));
    assert_eq!((query.len(), keys.len()), (3, 2));
}
#[test]
fn a_proof_goes_no_further_even_where_keys_are_reported() {
    let proofs = [
        ("dpop", "eyJ"),
        ("txn-token", "eyJ"),
        ("signature", "sig"),
        ("proxy-authorization", "Bearer x"),
        ("x-auth-token", "the-proof"),
        ("x-note", "Bearer the-proof"),
    ];
    let (map, keys) = take_as(StripMode::Report, &proofs, Connection::Closes);
    assert!(map.is_empty(), "{map:?}");
    assert!(keys.iter().all(|key| key.fate == KeyFate::Stripped) && keys.len() == 6);
    let mut query = pairs("token=the-proof").unwrap();
    noted(StripMode::Report, |notes| take_query(&mut query, notes));
    assert!(query.is_empty());
}
