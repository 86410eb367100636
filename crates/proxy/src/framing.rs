//! What pingora's HTTP/1 parser tolerates and a gateway must not.
//!
//! Measured against 0.9.1: it drops `Content-Length` beside `Transfer-Encoding`, collapses equal
//! duplicates, and takes bare line feeds. HTTP/2 has one framing, and its parser is strict.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use memchr::memchr_iter;
use pingora_proxy::Session;

use crate::refusal::Refusal;

/// Refuses a head whose message could be framed in two ways.
pub(crate) fn check(session: &Session) -> Result<(), Refusal> {
    let head = session.req_header();
    check_headers(&head.headers, head.version)?;
    match session.as_downstream().as_http1() {
        Some(http1) => check_raw(&http1.get_headers_raw_bytes(), &head.headers),
        None => Ok(()),
    }
}

fn check_headers(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(Refusal::Framing("no host"));
    }
    if headers.get_all(HOST).iter().count() > 1 {
        return Err(Refusal::Framing("two hosts"));
    }
    let lengths = headers.get_all(CONTENT_LENGTH);
    let mut lengths = lengths.iter();
    if let Some(length) = lengths.next() {
        if lengths.next().is_some() {
            return Err(Refusal::Framing("two content lengths"));
        }
        if length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit) {
            return Err(Refusal::Framing("content length is not a number"));
        }
    }
    let codings = headers.get_all(TRANSFER_ENCODING);
    let mut codings = codings.iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !chunked || codings.next().is_some() || version != Version::HTTP_11 {
            return Err(Refusal::Framing("transfer encoding is not `chunked`"));
        }
    }
    let expectations = headers.get_all(EXPECT);
    if expectations
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Refusal::Framing("expectation is not `100-continue`"));
    }
    Ok(())
}

/// The bytes as received still hold what the parser dropped.
fn check_raw(raw: &[u8], headers: &HeaderMap) -> Result<(), Refusal> {
    let mut rest = raw;
    let mut lengths = 0;
    for end in memchr_iter(b'\n', raw) {
        let start = raw.len() - rest.len();
        let line = raw
            .get(start..end)
            .and_then(|line| line.strip_suffix(b"\r"));
        let line = line.ok_or(Refusal::Framing("a line ends without carriage return"))?;
        if start == 0 {
            check_request_line(line)?;
        }
        lengths += usize::from(is_header(line, b"content-length"));
        rest = raw.get(end + 1..).unwrap_or_default();
    }
    if lengths > 1 || (lengths == 1 && headers.contains_key(TRANSFER_ENCODING)) {
        return Err(Refusal::Framing("two framings"));
    }
    Ok(())
}

/// `METHOD target HTTP/1.x`, one space between; a fragment would be dropped without a word.
fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    let is_plain = |byte: &u8| (byte.is_ascii_graphic() && *byte != b'#') || *byte == b' ';
    if !line.iter().all(is_plain) || memchr_iter(b' ', line).count() != 2 {
        return Err(Refusal::Framing("request line is not plain"));
    }
    Ok(())
}

fn is_header(line: &[u8], name: &[u8]) -> bool {
    // Most lines tell by their first letter, after spaces, that they are another's.
    let line = line.trim_ascii_start();
    let Some((start, rest)) = line.split_at_checked(name.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(name) && rest.trim_ascii_start().starts_with(b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_headers_of(lines: &[(&'static str, &'static str)], expect: bool) {
        let headers = lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        assert_eq!(
            check_headers(&headers, Version::HTTP_11).is_ok(),
            expect,
            "{lines:?}"
        );
    }

    #[track_caller]
    fn check_raw_of(raw: &str, chunked: bool, expect: bool) {
        let mut headers = HeaderMap::new();
        if chunked {
            headers.insert(TRANSFER_ENCODING, "chunked".parse().unwrap());
        }
        assert_eq!(
            check_raw(raw.as_bytes(), &headers).is_ok(),
            expect,
            "{raw:?}"
        );
    }

    #[test]
    fn one_host_is_needed() {
        check_headers_of(&[("host", "a")], true);
        check_headers_of(&[], false);
        check_headers_of(&[("host", "a"), ("host", "a")], false);
    }

    #[test]
    fn one_length_is_a_number() {
        check_headers_of(&[("host", "a"), ("content-length", "5")], true);
        for odd in ["+5", "0x5", "-1", "5, 5", ""] {
            check_headers_of(&[("host", "a"), ("content-length", odd)], false);
        }
        check_headers_of(
            &[
                ("host", "a"),
                ("content-length", "5"),
                ("content-length", "5"),
            ],
            false,
        );
    }

    #[test]
    fn one_coding_is_chunked() {
        check_headers_of(&[("host", "a"), ("transfer-encoding", "chunked")], true);
        for odd in ["xchunked", "gzip, chunked", "chunked, identity", "identity"] {
            check_headers_of(&[("host", "a"), ("transfer-encoding", odd)], false);
        }
    }

    #[test]
    fn request_lines_are_plain() {
        check_raw_of("GET /a%20b HTTP/1.1\r\n\r\n", false, true);
        for odd in ["/a b", "/a#b", "/\u{e9}", " /a", "/a\t"] {
            check_raw_of(&format!("GET {odd} HTTP/1.1\r\n\r\n"), false, false);
        }
    }

    #[test]
    fn raw_heads() {
        check_raw_of("GET / HTTP/1.1\r\nhost: a\r\n\r\n", false, true);
        check_raw_of("GET / HTTP/1.1\nhost: a\r\n\r\n", false, false);
        check_raw_of("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", true, false);
        check_raw_of(
            "GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            false,
            false,
        );
    }
}
