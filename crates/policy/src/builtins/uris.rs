//! `uri.*`: the parts of a URI reference (RFC 3986), read as OPA does.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use regorus::Value;

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "uri.parse",
        arguments: 1,
        function: |arguments| Ok(Uri::new(text(arguments, 0)?)?.parts()),
    },
    Builtin {
        name: "uri.is_valid",
        arguments: 1,
        function: |arguments| {
            let uri = text(arguments, 0).ok().filter(|text| !text.is_empty());
            Ok(Value::from(uri.is_some_and(|text| Uri::new(text).is_ok())))
        },
    },
];

/// What was read. A part that is not there is empty.
#[derive(Default)]
struct Uri<'a> {
    scheme: String,
    /// Without the brackets of an IPv6 address.
    host: Vec<u8>,
    port: &'a str,
    path: Vec<u8>,
    raw_path: &'a str,
    query: &'a str,
    fragment: Vec<u8>,
}

impl<'a> Uri<'a> {
    fn new(text: &'a str) -> anyhow::Result<Self> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        anyhow::ensure!(
            !text.bytes().any(|byte| byte.is_ascii_control()),
            "a control character in a URI"
        );
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self {
            scheme: scheme.to_ascii_lowercase(),
            query,
            fragment: Part::Other.decode(fragment)?,
            ..Self::default()
        };
        if !rest.starts_with('/') {
            // What follows here has no parts: `mailto:user@example.com`.
            if !scheme.is_empty() {
                return Ok(uri);
            }
            let first = rest.split('/').next().unwrap_or_default();
            anyhow::ensure!(!first.contains(':'), "a colon before the first slash");
        }
        let has_authority = !scheme.is_empty() || !rest.starts_with("///");
        uri.raw_path = match rest.strip_prefix("//").filter(|_| has_authority) {
            Some(rest) => uri.read_authority(rest)?,
            None => rest,
        };
        uri.path = Part::Other.decode(uri.raw_path)?;
        Ok(uri)
    }

    /// Reads `user:password@host:port`, and gives what follows it.
    fn read_authority(&mut self, text: &'a str) -> anyhow::Result<&'a str> {
        let end = text.find('/').unwrap_or(text.len());
        let (authority, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        anyhow::ensure!(user.bytes().all(is_of_user), "invalid user information");
        Part::Other.decode(user)?;
        match host.rsplit_once('[') {
            Some(("", literal)) => self.read_literal(literal)?,
            Some(_) => anyhow::bail!("an address in brackets must be a whole host"),
            None => self.read_name(host)?,
        }
        Ok(rest)
    }

    /// An IPv6 address after its bracket, with the zone that it may have (RFC 6874).
    fn read_literal(&mut self, text: &'a str) -> anyhow::Result<()> {
        let closed = text.rsplit_once(']');
        let (address, port) = closed.ok_or_else(|| anyhow::anyhow!("a bracket is open"))?;
        self.port = port_of(port)?;
        let zone = address
            .find("%25")
            .and_then(|at| address.split_at_checked(at));
        let (address, zone) = zone.unwrap_or((address, ""));
        self.host = Part::Host.decode(address)?;
        self.host.extend(Part::Zone.decode(zone)?);
        address.parse::<Ipv6Addr>()?;
        anyhow::ensure!(zone != "%25", "an empty zone");
        Ok(())
    }

    /// A name. Lists of hosts with ports, as some databases have, are a name but for the last port.
    fn read_name(&mut self, text: &'a str) -> anyhow::Result<()> {
        let is_http = matches!(self.scheme.as_str(), "http" | "https");
        let last = match is_http {
            true => text.find(':'),
            false => text.rfind(':'),
        };
        let split = last.and_then(|at| text.split_at_checked(at));
        let (name, port) = split.unwrap_or((text, ""));
        self.port = port_of(port)?;
        self.host = Part::Host.decode(name)?;
        Ok(())
    }

    fn parts(&self) -> Value {
        // The text as it was written, unless to write the path again gives the same.
        let raw_path = match escaped(&self.path) == self.raw_path {
            true => &self.path,
            false => self.raw_path.as_bytes(),
        };
        let parts: [(_, &[u8]); 7] = [
            ("scheme", self.scheme.as_bytes()),
            ("hostname", &self.host),
            ("port", self.port.as_bytes()),
            ("path", &self.path),
            ("raw_path", raw_path),
            ("raw_query", self.query.as_bytes()),
            ("fragment", &self.fragment),
        ];
        let parts = parts.into_iter().filter(|(_, part)| !part.is_empty());
        let parts = parts.map(|(name, part)| {
            let part = String::from_utf8_lossy(part);
            (Value::from(name), Value::from(part.as_ref()))
        });
        Value::from(parts.collect::<BTreeMap<_, _>>())
    }
}

/// The scheme, if the text begins with one (RFC 3986 3.1), and what follows it.
fn scheme(text: &str) -> anyhow::Result<(&str, &str)> {
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    match text.split_once(':') {
        Some(("", _)) => anyhow::bail!("a scheme is missing"),
        Some((scheme, rest))
            if scheme.bytes().all(is_of_scheme)
                && scheme.starts_with(|first: char| first.is_ascii_alphabetic()) =>
        {
            Ok((scheme, rest))
        }
        _ => Ok(("", text)),
    }
}

/// The digits after a colon, if there are any.
fn port_of(text: &str) -> anyhow::Result<&str> {
    let port = text.strip_prefix(':').unwrap_or(text);
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    anyhow::ensure!(is_port && (text.is_empty() || port != text), "invalid port");
    Ok(port)
}

fn is_of_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte)
}

/// Where there is a text, which decides what it may hold.
#[derive(Clone, Copy)]
enum Part {
    /// Only what is not ASCII is escaped here, so that a name is written in one way.
    Host,
    /// What may be escaped here is what need not be.
    Zone,
    Other,
}

impl Part {
    fn decode(self, text: &str) -> anyhow::Result<Vec<u8>> {
        let mut decoded = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let (byte, is_allowed) = match byte {
                b'%' => {
                    let digits = [bytes.next(), bytes.next()].map(Option::unwrap_or_default);
                    let mut byte = [0];
                    hex::decode_to_slice(digits, &mut byte)?;
                    let [byte] = byte;
                    (byte, self.may_escape(byte))
                }
                _ => (byte, self.may_hold(byte)),
            };
            anyhow::ensure!(is_allowed, "a character that can't be there");
            decoded.push(byte);
        }
        Ok(decoded)
    }

    fn may_hold(self, byte: u8) -> bool {
        match self {
            Self::Host | Self::Zone => !byte.is_ascii() || is_of_host(byte),
            Self::Other => true,
        }
    }

    fn may_escape(self, byte: u8) -> bool {
        match self {
            Self::Host => !byte.is_ascii() || byte == b'%',
            Self::Zone => b"% ".contains(&byte) || is_of_host(byte),
            Self::Other => true,
        }
    }
}

/// A path as it is written, without choice.
fn escaped(path: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    let characters = path.iter().map(|byte| match is_plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    characters.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::builtins::find;

    fn call(name: &str, argument: impl Into<Value>) -> Option<Value> {
        (find(name).unwrap().function)(&[argument.into()]).ok()
    }

    #[track_caller]
    fn check(uri: &str, expect: serde_json::Value) {
        assert_eq!(call("uri.parse", uri), Some(Value::from(expect)));
        let is_valid = call("uri.is_valid", uri).unwrap();
        assert_eq!(is_valid, Value::from(!uri.is_empty()));
    }

    #[track_caller]
    fn check_invalid(uri: &str) {
        assert_eq!(call("uri.parse", uri), None);
        assert_eq!(call("uri.is_valid", uri), Some(Value::from(false)));
    }

    #[test]
    fn a_uri_has_parts() {
        check(
            "HTTPS://user:pass@example.com:8080/a/b?q=1&r=?#top",
            json!({
                "scheme": "https", "hostname": "example.com", "port": "8080",
                "path": "/a/b", "raw_path": "/a/b", "raw_query": "q=1&r=?", "fragment": "top",
            }),
        );
    }
    #[test]
    fn what_is_not_there_is_left_out() {
        check("", json!({}));
        check("https://a?", json!({ "scheme": "https", "hostname": "a" }));
        check(
            "https://a:?#",
            json!({ "scheme": "https", "hostname": "a" }),
        );
    }
    #[test]
    fn a_path_may_be_alone() {
        check("/a", json!({ "path": "/a", "raw_path": "/a" }));
        check("a/b:c", json!({ "path": "a/b:c", "raw_path": "a/b:c" }));
        check(
            "//a/b",
            json!({ "hostname": "a", "path": "/b", "raw_path": "/b" }),
        );
        check("///a", json!({ "path": "///a", "raw_path": "///a" }));
        check("*", json!({ "path": "*", "raw_path": "*" }));
    }
    #[test]
    fn what_has_no_slash_has_no_path() {
        let expect = json!({ "scheme": "mailto", "raw_query": "subject=x" });
        check("mailto:user@example.com?subject=x", expect);
    }
    #[test]
    fn an_address_is_without_brackets() {
        let expect = json!({ "scheme": "http", "hostname": "::1", "port": "80" });
        check("http://[::1]:80", expect);
        let expect = json!({ "scheme": "http", "hostname": "fe80::1%en 0" });
        check("http://[fe80::1%25en%200]", expect);
    }
    #[test]
    fn what_is_no_address_has_no_brackets() {
        for uri in [
            "http://[",
            "http://[::1",
            "http://[a]",
            "http://[1.2.3.4]",
            "http://a[::1]",
        ] {
            check_invalid(uri);
        }
        check_invalid("http://[fe80::1%25]");
        check_invalid("http://[fe80::1%25%41%C3]");
        check("http://a]b", json!({ "scheme": "http", "hostname": "a]b" }));
    }
    #[test]
    fn escapes_are_read_and_the_path_kept_as_it_was() {
        check(
            "http://a/x%2Fy%20z",
            json!({ "scheme": "http", "hostname": "a", "path": "/x/y z", "raw_path": "/x%2Fy%20z" }),
        );
    }
    #[test]
    fn the_one_way_of_writing_a_path_is_not_kept() {
        let expect = json!({ "path": "/a!b", "raw_path": "/a!b" });
        check("/a%21b", expect.clone());
        check("/a!b", expect);
    }
    #[test]
    fn a_name_is_not_escaped() {
        check_invalid("http://exa%6dple.com/");
        check(
            "http://%C3%A4",
            json!({ "scheme": "http", "hostname": "ä" }),
        );
    }
    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        check("/%ff", json!({ "path": "/\u{fffd}", "raw_path": "/%ff" }));
    }
    #[test]
    fn hosts_in_a_list_are_of_databases() {
        let expect = json!({ "scheme": "db", "hostname": "a:1,b", "port": "2" });
        check("db://a:1,b:2", expect);
        check_invalid("http://a:1,b:2");
    }
    #[test]
    fn what_is_broken_is_invalid() {
        for uri in [":a", "1:a", "%", "/%1", "/%gg", "#%", "/\n", "/a\u{7f}"] {
            check_invalid(uri);
        }
        check_invalid("http://a b/");
        check_invalid("http://a<b@example.com/");
        check_invalid("http://user name@example.com/");
        check_invalid("http://%@example.com/");
        check_invalid("http://example.com:٣٤/");
        check_invalid("http://example.com:1a/");
    }
    #[test]
    fn what_is_no_text_is_invalid() {
        assert_eq!(call("uri.is_valid", 1_u64), Some(Value::from(false)));
        assert_eq!(call("uri.parse", 1_u64), None);
    }
}
