//! Against AWS's own cases, its documentation's examples, and a verifier that was written by itself.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::{Method, Request};
use serde::Deserialize;
use testkit::aws::{self, Keys};

use super::*;
use crate::Field;

/// AWS's suite of cases.
const SUITE: &str = include_str!("suite.json");

#[derive(Deserialize)]
struct Suite {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    request: String,
    header_signature: String,
    query_signature: String,
    token: Option<String>,
    #[serde(default)]
    sign_body: bool,
}

/// A request as a text, its lines folded or not.
struct Written<'t> {
    method: &'t str,
    target: &'t str,
    headers: Vec<(String, String)>,
    body: &'t str,
}

impl<'t> Written<'t> {
    fn read(text: &'t str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
        let target = rest.strip_suffix(" HTTP/1.1").unwrap();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            match line.strip_prefix(' ') {
                Some(more) => headers.last_mut().unwrap().1 += &format!(" {}", more.trim()),
                None => {
                    let (name, value) = line.split_once(':').unwrap();
                    headers.push((name.to_lowercase(), value.trim().to_owned()));
                }
            }
        }
        Self {
            method,
            target,
            headers,
            body,
        }
    }
}

fn keys(id: &str, secret: &str, token: Option<&str>) -> Fields {
    let secret_of = |text: &str| Secret::new(text.into()).unwrap();
    let mut fields = vec![
        Field::public(ACCESS_KEY_ID, secret_of(id)),
        Field::new(SECRET_ACCESS_KEY, secret_of(secret)),
    ];
    fields.extend(token.map(|token| Field::new(SESSION_TOKEN, secret_of(token))));
    Fields::new(fields).unwrap()
}

fn sigv4(service: &str, location: SigV4Location) -> SigV4 {
    SigV4 {
        service: service.to_owned(),
        region: "us-east-1".to_owned(),
        location,
        allow_headers: Vec::new(),
    }
}

/// The signature of one of AWS's cases.
fn signature(case: &Case, location: SigV4Location) -> String {
    let written = Written::read(&case.request);
    let uri = format!("https://example.amazonaws.com{}", written.target);
    let request = Request::builder().method(written.method).uri(uri);
    let (head, ()) = request.body(()).unwrap().into_parts();
    let mut headers: Vec<(&str, &str)> = written
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let hash = aws::sha256(written.body.as_bytes());
    if case.sign_body && location == SigV4Location::Header {
        headers.push(("x-amz-content-sha256", &hash));
    }
    let plain = Plain {
        head: &head,
        headers,
        payload: Payload::Bytes(written.body.as_bytes()),
        life: Duration::from_secs(3600),
    };
    // 2015-08-30T12:36:00Z
    let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let keys = keys("AKIDEXAMPLE", secret, case.token.as_deref());
    let signed = sigv4("service", location).signature(plain, &keys, time);
    let (headers, params) = signed.unwrap().into_parts();
    let signature = match location {
        SigV4Location::Header => headers
            .iter()
            .find(|header| header.name() == "authorization")
            .and_then(|header| header.value().split_once("Signature="))
            .map(|(_, signature)| signature.to_owned()),
        SigV4Location::Query => params
            .iter()
            .find(|(name, _)| *name == "X-Amz-Signature")
            .map(|(_, signature)| signature.to_string()),
    };
    signature.unwrap()
}

#[test]
fn awss_own_cases_come_out_as_they_should() {
    let suite: Suite = serde_json::from_str(SUITE).unwrap();
    assert_eq!(suite.cases.len(), 29);
    for case in &suite.cases {
        let header = signature(case, SigV4Location::Header);
        assert_eq!(header, case.header_signature, "{}", case.name);
        let query = signature(case, SigV4Location::Query);
        assert_eq!(query, case.query_signature, "{}", case.name);
    }
}

/// A request that is signed, and what of it the verifier says.
struct Signed {
    head: Parts,
    body: Body,
}

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN_TEXT: &str =
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeM==";

fn request(method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn apply(sigv4: &SigV4, mut head: Parts, mut body: Body) -> Result<Signed, Uninjectable> {
    let keys = Material::Fields(keys(ID, SECRET, Some(TOKEN_TEXT)));
    sigv4.apply((&mut head, &mut body), &keys)?;
    Ok(Signed { head, body })
}

/// Signs and verifies; answers with what was signed.
#[track_caller]
fn check(sigv4: &SigV4, head: Parts, body: Body) -> Signed {
    let signed = apply(sigv4, head, body).unwrap();
    let body = match &signed.body {
        Body::Whole(bytes) => bytes.clone(),
        Body::Empty | Body::Streamed => Bytes::new(),
    };
    let mut headers = signed.head.headers.clone();
    let authority = signed.head.uri.authority().unwrap().as_str();
    headers.insert(HOST, authority.parse().unwrap());
    let target = signed.head.uri.path_and_query().unwrap().as_str();
    let keys = Keys {
        id: ID.to_owned(),
        secret: SECRET.to_owned(),
        token: Some(TOKEN_TEXT.to_owned()),
    };
    let verified = aws::verify(
        (&signed.head.method, target, &headers),
        &body,
        matches!(signed.body, Body::Streamed),
        |id| (id == ID).then(|| keys.clone()),
    );
    let scope = verified.unwrap();
    assert_eq!(scope, format!("us-east-1/{}", sigv4.service));
    signed
}

fn s3() -> SigV4 {
    sigv4("s3", SigV4Location::Header)
}

fn whole(text: &'static str) -> Body {
    Body::Whole(Bytes::from_static(text.as_bytes()))
}

#[test]
fn a_body_that_was_read_is_signed() {
    let headers = [("content-type", "application/json"), ("x-other", "1")];
    let uri = "https://dynamodb.us-east-1.amazonaws.com/?a=1&b";
    let head = request(Method::POST, uri, &headers);
    check(&sigv4("dynamodb", SigV4Location::Header), head, whole("{}"));
}
#[test]
fn a_path_is_encoded_twice_but_for_s3() {
    for path in ["/a%20b/c%2B", "/a=b/c+d@e", "/%E1%88%B4", "/a~b_c-d.e"] {
        let uri = format!("https://h.example{path}?x=%2B");
        let head = || request(Method::GET, &uri, &[]);
        check(&s3(), head(), Body::Empty);
        check(
            &sigv4("execute-api", SigV4Location::Header),
            head(),
            Body::Empty,
        );
        check(
            &sigv4("execute-api", SigV4Location::Query),
            head(),
            Body::Empty,
        );
    }
}
#[test]
fn a_signature_may_stand_in_the_query() {
    let head = request(Method::GET, "https://h.example/x?list-type=2", &[]);
    let signed = check(&sigv4("s3", SigV4Location::Query), head, Body::Empty);
    let query = signed.head.uri.query().unwrap();
    assert!(query.starts_with("list-type=2&X-Amz-"), "{query}");
    assert!(!signed.head.headers.contains_key("authorization"));
}
#[test]
fn a_port_is_part_of_the_host() {
    let head = request(Method::GET, "http://127.0.0.1:9000/b/k", &[]);
    check(&s3(), head, Body::Empty);
}
#[test]
fn nothing_is_left_of_the_agents_signature() {
    let headers = [
        ("authorization", "AWS4-HMAC-SHA256 Credential=mine"),
        ("x-amz-date", "20200101T000000Z"),
        ("x-amz-security-token", "mine"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ];
    let head = request(Method::PUT, "https://h.example/x", &headers);
    let signed = check(&s3(), head, whole("hello"));
    for (name, value) in headers {
        let values: Vec<_> = signed.head.headers.get_all(name).iter().collect();
        assert!(values.len() == 1 && values[0] != value, "{name}");
    }
    let hash = signed.head.headers.get("x-amz-content-sha256").unwrap();
    assert_eq!(hash, aws::sha256(b"hello").as_str());
}
#[test]
fn what_streams_is_signed_by_the_hash_that_it_declares() {
    let hash = aws::sha256(b"hello");
    let head = request(
        Method::PUT,
        "https://h.example/x",
        &[("x-amz-content-sha256", &hash)],
    );
    let signed = check(&s3(), head, Body::Streamed);
    assert_eq!(
        signed.head.headers.get("x-amz-content-sha256").unwrap(),
        hash.as_str()
    );
    let head = request(
        Method::PUT,
        "http://h.example/x",
        &[("x-amz-content-sha256", &hash)],
    );
    check(
        &sigv4("glacier", SigV4Location::Header),
        head,
        Body::Streamed,
    );
}
#[test]
fn what_streams_to_s3_may_be_unsigned() {
    let head = request(Method::PUT, "https://h.example/x", &[]);
    check(&s3(), head, Body::Streamed);
    let trailer = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let head = request(Method::PUT, "https://h.example/x", &trailer);
    let signed = check(&s3(), head, Body::Streamed);
    for (name, value) in trailer {
        assert_eq!(signed.head.headers.get(name).unwrap(), value);
    }
}
#[test]
fn chunks_that_the_agent_signed_come_off() {
    let chunked = [
        (
            "x-amz-content-sha256",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        ),
        ("content-encoding", "aws-chunked,gzip"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let head = || request(Method::PUT, "https://h.example/x", &chunked);
    let body = "5;chunk-signature=ab\r\nhello\r\n0;chunk-signature=cd\r\nx-amz-checksum-crc32:AA==\r\n\r\n";
    let signed = check(&s3(), head(), whole(body));
    assert!(matches!(&signed.body, Body::Whole(bytes) if bytes == "hello"));
    assert_eq!(signed.head.headers.get("content-length").unwrap(), "5");
    let signed = check(&s3(), head(), Body::Streamed);
    assert!(signed.head.extensions.get::<Chunks>().is_some());
    let headers = &signed.head.headers;
    assert_eq!(headers.get("content-length").unwrap(), "5");
    assert_eq!(headers.get("content-encoding").unwrap(), "gzip");
    assert!(!headers.contains_key("x-amz-trailer"));
    assert!(!headers.contains_key("x-amz-decoded-content-length"));
    assert!(apply(&s3(), head(), whole("5\r\nhel")).is_err());
}

#[track_caller]
fn check_refused(sigv4: &SigV4, uri: &str, headers: &[(&'static str, &str)]) {
    let head = request(Method::PUT, uri, headers);
    let refused = apply(sigv4, head, Body::Streamed);
    assert!(refused.is_err());
}

#[test]
fn what_is_unsigned_goes_to_s3_alone_and_not_in_the_clear() {
    check_refused(&s3(), "http://h.example/x", &[]);
    let other = sigv4("dynamodb", SigV4Location::Header);
    check_refused(&other, "https://h.example/x", &[]);
    let unsigned = [("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
    check_refused(&other, "https://h.example/x", &unsigned);
    let trailer = [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")];
    check_refused(&other, "https://h.example/x", &trailer);
    let unknown = [(
        "x-amz-content-sha256",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    )];
    check_refused(&s3(), "https://h.example/x", &unknown);
}
#[test]
fn the_length_without_chunks_is_a_number_that_is_said_once() {
    for lengths in [
        &["+5"][..],
        &["-5"],
        &["5 "],
        &["0x5"],
        &[""],
        &["5,5"],
        &["5", "6"],
        &["18446744073709551616"],
        &["00000000000000000005"],
        &[],
    ] {
        for body in [Body::Streamed, whole("5\r\nhello\r\n0\r\n\r\n")] {
            let hash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
            let mut head = request(
                Method::PUT,
                "https://h.example/x",
                &[("x-amz-content-sha256", hash)],
            );
            for length in lengths {
                let length = HeaderValue::from_bytes(length.as_bytes()).unwrap();
                head.headers.append(DECODED_LENGTH, length);
            }
            assert!(apply(&s3(), head, body).is_err(), "{lengths:?}");
        }
    }
}
#[test]
fn what_reaches_further_than_its_path_is_told() {
    let mut s3 = s3();
    s3.allow_headers = vec![HeaderName::from_static("x-amz-acl")];
    for name in [
        "x-amz-copy-source",
        "X_Amz_Copy_Source",
        "x-amz-grant-read",
        "x-amz-bypass-governance-retention",
        "x-amz-website-redirect-location",
        "x-amz-object-lock-retain-until-date",
    ] {
        assert!(s3.unwanted_name(name).is_some(), "{name}");
    }
    for name in [
        "x-amz-acl",
        "x-amz-meta-acl",
        "x-amz-copy-source-range",
        "range",
    ] {
        assert_eq!(s3.unwanted_name(name), None);
    }
}
#[test]
fn what_is_no_key_signs_nothing() {
    let mut head = request(Method::GET, "https://h.example/", &[]);
    let text = Secret::new(b"key".to_vec()).unwrap().into();
    assert!(s3().apply((&mut head, &mut Body::Empty), &text).is_err());
    let keys = Material::Fields(keys("A K", SECRET, None));
    assert!(s3().apply((&mut head, &mut Body::Empty), &keys).is_err());
}
#[test]
fn nothing_of_it_is_in_debug() {
    let head = request(Method::GET, "https://h.example/", &[]);
    let signed = apply(&s3(), head, Body::Empty).unwrap();
    let debug = format!("{:?}", signed.head);
    assert!(!debug.contains("AQoD") && !debug.contains(SECRET));
}
