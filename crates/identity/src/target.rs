//! Whether a proof was made for the URL that was asked.

use url::{Origin, Url};

use crate::Presented;

/// Whether `htu` names the target of the request, its query and fragment aside (RFC 9449 section 4.3).
///
/// Where `origins` are given, the gateway goes by these alone. Otherwise it goes by what the request says.
pub(crate) fn is_target(htu: &str, presented: &Presented<'_>, origins: &[Origin]) -> bool {
    let (Ok(claimed), Some(asked)) = (Url::parse(htu), asked(presented)) else {
        return false;
    };
    if !claimed.username().is_empty() || claimed.password().is_some() {
        return false;
    }
    let origin = claimed.origin();
    let is_here = if origins.is_empty() {
        origin == asked.origin()
    } else {
        origins.contains(&origin)
    };
    is_here && normal(claimed.path()) == normal(asked.path())
}

fn asked(presented: &Presented<'_>) -> Option<Url> {
    let (scheme, host, path) = (presented.transport.scheme(), presented.host, presented.path);
    let port = presented.port.map(|port| format!(":{port}"));
    let port = port.unwrap_or_default();
    Url::parse(&format!("{scheme}://{host}{port}{path}")).ok()
}

/// A path with what need not be encoded decoded, and the digits of what must be in upper case (RFC 3986
/// section 6.2.2).
fn normal(path: &str) -> Vec<u8> {
    let mut normal = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octet = (first == b'%').then(|| octet(after)).flatten();
        match octet {
            Some((octet, after)) if is_unreserved(octet) => {
                normal.push(octet);
                rest = after;
            }
            Some((octet, after)) => {
                normal.extend_from_slice(format!("%{octet:02X}").as_bytes());
                rest = after;
            }
            None => {
                normal.push(first);
                rest = after;
            }
        }
    }
    normal
}

fn octet(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = digits.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((u8::from_str_radix(digits, 16).ok()?, after))
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use url::{Origin, Url};

    use super::is_target;
    use crate::{Presented, Transport};

    /// Whether `htu` fits a request for `path` at `gateway.example:8080`.
    #[track_caller]
    fn check(htu: &str, path: &str, origins: &[&str], expect: bool) {
        let presented = Presented {
            headers: &HeaderMap::new(),
            method: &Method::GET,
            host: "gateway.example",
            port: Some(8080),
            path,
            query_token: None,
            transport: &Transport::Plain,
        };
        let origins: Vec<Origin> = origins
            .iter()
            .map(|origin| Url::parse(origin).unwrap().origin())
            .collect();
        assert_eq!(is_target(htu, &presented, &origins), expect, "{htu}");
    }

    #[test]
    fn the_url_that_was_asked_fits() {
        check("http://gateway.example:8080/a/b", "/a/b", &[], true);
        check("http://gateway.example:8080/", "/", &[], true);
        check("http://gateway.example:8080", "/", &[], true);
    }
    #[test]
    fn query_and_fragment_are_passed_over() {
        check("http://gateway.example:8080/a?b=c#d", "/a", &[], true);
    }
    #[test]
    fn another_spelling_of_the_same_fits() {
        check("HTTP://Gateway.EXAMPLE:8080/a", "/a", &[], true);
        check("http://gateway.example:8080/%61%2f", "/a%2F", &[], true);
    }
    #[test]
    fn another_place_does_not_fit() {
        for htu in [
            "",
            "/a",
            "https://gateway.example:8080/a",
            "http://gateway.example/a",
            "http://gateway.example:8081/a",
            "http://gateway.example.evil:8080/a",
            "http://other.example:8080/a",
            "http://user@gateway.example:8080/a",
            "http://:word@gateway.example:8080/a",
            "http://gateway.example:8080/A",
            "http://gateway.example:8080/a/",
            "http://gateway.example:8080/a%2F",
            "http://gateway.example:8080/",
            "data:/a",
        ] {
            check(htu, "/a", &[], false);
        }
    }
    #[test]
    fn origins_that_are_given_stand_for_the_one_that_was_seen() {
        let origins = ["https://a.example", "https://b.example:444"];
        check("https://a.example/x", "/x", &origins, true);
        check("https://a.example:443/x", "/x", &origins, true);
        check("https://b.example:444/x", "/x", &origins, true);
        check("https://b.example/x", "/x", &origins, false);
        check("http://a.example/x", "/x", &origins, false);
        check("https://a.example/y", "/x", &origins, false);
        check("http://gateway.example:8080/x", "/x", &origins, false);
    }
}
