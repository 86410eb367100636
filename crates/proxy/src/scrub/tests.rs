//! Heads, bodies, messages and codings, at every border.

use std::io::Write;

use credentials::{Place, Secret};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

const SECRET: &str = "ghp_0123456789abcdefABCDEF";
const STARS: &str = "**************************";

fn scrub() -> Scrub {
    let place = Place::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".to_owned(),
    };
    Scrub::new(&scrubber(SECRET, place))
}

fn scrubber(secret: &str, place: Place) -> Arc<Scrubber> {
    let material = Secret::new(secret.into()).unwrap().into();
    let scrubber = Scrubber::new([(&material, [place.into()].as_slice())]);
    Arc::new(scrubber.unwrap())
}

fn response(status: u16, headers: &[(&str, &str)]) -> ResponseHeader {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for (name, value) in headers {
        response
            .append_header((*name).to_owned(), (*value).to_owned())
            .unwrap();
    }
    response
}

const GET: Asked<'_> = Asked {
    method: &Method::GET,
    is_http2: false,
};

/// What passes of a body, in these pieces, behind a head.
fn pass(status: u16, headers: &[(&str, &str)], pieces: &[&[u8]]) -> Result<Vec<u8>, Unscrubbable> {
    let mut scrub = scrub();
    scrub.head(&mut response(status, headers), GET)?;
    let mut passed = Vec::new();
    for piece in pieces {
        let mut body = Some(Bytes::copy_from_slice(piece));
        scrub.body(&mut body, false)?;
        passed.extend_from_slice(&body.unwrap_or_default());
    }
    let mut body = None;
    scrub.body(&mut body, true)?;
    passed.extend_from_slice(&body.unwrap_or_default());
    Ok(passed)
}

/// At every border, and byte by byte.
#[track_caller]
fn check(status: u16, headers: &[(&str, &str)], body: &[u8], expect: &[u8]) {
    for at in 0..=body.len() {
        let (first, second) = body.split_at(at);
        let passed = pass(status, headers, &[first, second]).unwrap();
        assert_eq!(passed, expect, "{headers:?} at {at}");
    }
    let pieces: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(pass(status, headers, &pieces).unwrap(), expect);
}

fn text() -> String {
    format!("{{\"a\": \"{SECRET}\", \"b\": \"{SECRET}\"}}")
}

fn stars() -> String {
    text().replace(SECRET, STARS)
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" | "x-gzip" => {
            let mut coder = GzEncoder::new(Vec::new(), Compression::default());
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        "deflate" => {
            let mut coder = ZlibEncoder::new(Vec::new(), Compression::default());
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        "br" => {
            let mut coder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            coder.write_all(text).unwrap();
            coder.into_inner()
        }
        _ => zstd::encode_all(text, 3).unwrap(),
    }
}

#[test]
fn a_body_is_masked_at_every_border() {
    check(200, &[], text().as_bytes(), stars().as_bytes());
}

#[test]
fn a_coded_body_is_decoded_and_masked() {
    for coding in ["gzip", "x-gzip", "GZIP", "deflate", "br", "zstd"] {
        let body = coded(&coding.to_lowercase(), text().as_bytes());
        check(
            200,
            &[("content-encoding", coding)],
            &body,
            stars().as_bytes(),
        );
    }
}

#[test]
fn a_raw_deflate_is_decoded_too() {
    let mut coder = DeflateEncoder::new(Vec::new(), Compression::default());
    coder.write_all(text().as_bytes()).unwrap();
    let body = coder.finish().unwrap();
    check(
        200,
        &[("content-encoding", "deflate")],
        &body,
        stars().as_bytes(),
    );
}

#[test]
fn a_decoded_answer_says_so() {
    let headers = [
        ("content-encoding", "gzip"),
        ("content-length", "99"),
        ("content-digest", "sha-256=:x:"),
    ];
    let mut head = response(200, &headers);
    scrub().head(&mut head, GET).unwrap();
    let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["transfer-encoding"]);
}

#[test]
fn an_answer_without_a_body_keeps_its_coding() {
    let headers = [("content-encoding", "compress"), ("content-length", "9")];
    let head = Asked {
        method: &Method::HEAD,
        is_http2: false,
    };
    for (status, asked) in [(200, head), (204, GET), (304, GET), (103, GET)] {
        let mut response = response(status, &headers);
        scrub().head(&mut response, asked).unwrap();
        assert_eq!(response.headers["content-encoding"], "compress", "{status}");
    }
}

#[test]
fn what_is_coded_in_another_way_is_refused() {
    for headers in [
        &[("content-encoding", "compress")][..],
        &[("content-encoding", "gzip, br")],
        &[("content-encoding", "gzip"), ("content-encoding", "gzip")],
        &[("content-encoding", "\u{e4}")],
        &[("transfer-encoding", "gzip, chunked")],
    ] {
        let refused = scrub().head(&mut response(200, headers), GET);
        assert!(matches!(refused, Err(Unscrubbable::Coding)), "{headers:?}");
    }
    let plain = [
        ("content-encoding", "identity"),
        ("transfer-encoding", "chunked"),
    ];
    scrub().head(&mut response(200, &plain), GET).unwrap();
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let headers = [("content-encoding", coding)];
        let whole = coded(coding, text().as_bytes());
        let half = whole.split_at(whole.len() / 2).0;
        for body in [&b"\xff\xffneither of them"[..], half] {
            let refused = pass(200, &headers, &[body]);
            assert!(
                matches!(refused, Err(Unscrubbable::Broken(_))),
                "{coding}: {refused:?}"
            );
        }
    }
}

#[test]
fn what_grows_beyond_measure_is_refused() {
    let much = vec![b'x'; 16 * 1024 * 1024];
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let body = coded(coding, &much);
        let refused = pass(200, &[("content-encoding", coding)], &[&body]);
        assert!(matches!(refused, Err(Unscrubbable::Broken(_))), "{coding}");
    }
}

/// A message of gRPC.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat()
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];

#[test]
fn messages_of_grpc_are_masked_at_every_border() {
    let texts = [SECRET, "", "plain", &text()];
    let body = texts.map(message).concat();
    let masked = [STARS, "", "plain", &stars()].map(message).concat();
    check(200, GRPC, &body, &masked);
}

#[test]
fn nothing_is_held_back_past_a_message_of_grpc() {
    let mut scrub = scrub();
    scrub.head(&mut response(200, GRPC), GET).unwrap();
    for end in 1..SECRET.len() {
        let whole = Bytes::from(message(SECRET.split_at(end).0));
        let mut body = Some(whole.clone());
        scrub.body(&mut body, false).unwrap();
        assert_eq!(body, Some(whole));
    }
}

#[test]
fn a_compressed_message_of_grpc_is_refused() {
    let mut body = message("x");
    body[0] = 1;
    assert!(matches!(
        pass(200, GRPC, &[&body]),
        Err(Unscrubbable::Message)
    ));
}

/// A frame of a WebSocket, as a server sends it.
fn frame(first: u8, text: &[u8]) -> Vec<u8> {
    let length = match text.len() {
        short @ ..126 => vec![u8::try_from(short).unwrap()],
        long @ ..65536 => {
            let length = u16::try_from(long).unwrap().to_be_bytes();
            [&[126][..], &length].concat()
        }
        long => [&[127][..], &(long as u64).to_be_bytes()].concat(),
    };
    [&[first][..], &length, text].concat()
}

#[test]
fn frames_of_web_sockets_are_masked_at_every_border() {
    let make = |secret: &str| {
        let (first, second) = secret.split_at(9);
        let long = format!("{}{secret}", "x".repeat(200));
        [
            frame(0x81, secret.as_bytes()),
            frame(0x82, b""),
            frame(0x82, long.as_bytes()),
            // A message in three parts, with a ping between.
            frame(0x01, first.as_bytes()),
            frame(0x89, secret.as_bytes()),
            frame(0x00, b""),
            frame(0x80, second.as_bytes()),
            frame(0x88, format!("\u{3}{secret}").as_bytes()),
        ]
        .concat()
    };
    check(101, &[], &make(SECRET), &make(STARS));
}

#[test]
fn frames_of_every_length_pass() {
    for length in [0, 125, 126, 65_535, 65_536, 100_000] {
        let body = frame(0x82, &vec![b'x'; length]);
        assert_eq!(pass(101, &[], &[&body]).unwrap(), body);
    }
}

#[test]
fn nothing_is_held_back_past_a_message_of_a_web_socket() {
    let mut scrub = scrub();
    scrub.head(&mut response(101, &[]), GET).unwrap();
    for end in 1..SECRET.len() {
        let whole = Bytes::from(frame(0x81, &SECRET.as_bytes()[..end]));
        let mut body = Some(whole.clone());
        scrub.body(&mut body, false).unwrap();
        assert_eq!(body, Some(whole));
    }
}

#[test]
fn frames_that_are_compressed_masked_or_none_are_refused() {
    let long = [b'x'; 126];
    for body in [
        frame(0xc1, b"x"),
        vec![0x81, 0x80],
        frame(0x89, &long),
        frame(0x09, b"x"),
    ] {
        let refused = pass(101, &[], &[&body]);
        assert!(matches!(refused, Err(Unscrubbable::Message)), "{body:?}");
    }
}

#[test]
fn a_head_is_masked() {
    let mut scrub = scrub();
    let location = format!("https://a.example/?key={SECRET}&b");
    let headers = [
        ("location", location.as_str()),
        ("set-cookie", "a=b"),
        ("set-cookie", SECRET),
        (SECRET, "x"),
        ("content-type", "text/plain"),
    ];
    let mut head = response(302, &headers);
    head.set_reason_phrase(Some(SECRET)).unwrap();
    scrub.head(&mut head, GET).unwrap();
    assert_eq!(
        head.headers["location"],
        format!("https://a.example/?key={STARS}&b")
    );
    let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=b", STARS]);
    assert_eq!(head.headers["content-type"], "text/plain");
    assert_eq!(head.headers.len(), 4);
    assert_eq!(head.get_reason_phrase(), Some("Found"));
    assert_eq!(scrub.found(), 4);
}

#[test]
fn a_length_that_is_the_secret_is_refused() {
    let key = "k".to_owned();
    let scrubber = scrubber("12345678", Place::Query { key });
    let mut head = response(200, &[("content-length", "12345678")]);
    let refused = Scrub::new(&scrubber).head(&mut head, GET);
    assert!(matches!(refused, Err(Unscrubbable::Framing)));
}

#[test]
fn trailers_are_masked_and_what_was_held_back_leaves_before_them() {
    let mut scrub = scrub();
    let mut body = Some(Bytes::from("to be ghp_"));
    scrub.body(&mut body, false).unwrap();
    assert_eq!(body.unwrap(), "to be ");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("3"));
    trailers.append("grpc-message", HeaderValue::from_static("why"));
    trailers.append("grpc-message", HeaderValue::from_static(SECRET));
    let name = HeaderName::from_bytes(SECRET.as_bytes()).unwrap();
    trailers.insert(name, HeaderValue::from_static("x"));
    assert_eq!(scrub.trailers(&mut trailers).unwrap(), "ghp_");
    let messages: Vec<_> = trailers.get_all("grpc-message").iter().collect();
    assert_eq!(messages, ["why", STARS]);
    assert_eq!(trailers["grpc-status"], "3");
    assert_eq!(trailers.len(), 3);
    assert_eq!(scrub.found(), 2);
}

#[test]
fn the_upstream_is_asked_for_what_can_be_seen() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("accept-encoding", "gzip, br"),
        ("grpc-accept-encoding", "gzip"),
        ("range", "bytes=5-"),
        ("if-range", "x"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("accept", "a/b"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Scrub::ask(&mut headers);
    assert_eq!(headers.len(), 3);
    assert_eq!(headers["accept"], "a/b");
    assert_eq!(headers["accept-encoding"], "identity");
    assert_eq!(headers["grpc-accept-encoding"], "identity");
}
