//! One spelling of an authority.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::request::Parts;

use super::Malformed;

/// A host and its port, if it is not the default one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Authority {
    /// Lower case; IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Finds the one authority of a request: the target's and `Host` must agree (RFC 9112
    /// section 3.2.2, RFC 9113 section 8.3.1), and one of them must be there.
    pub(super) fn of(parts: &Parts) -> Result<Self, Malformed> {
        let scheme = parts.uri.scheme_str();
        let mut hosts = parts.headers.get_all(HOST).iter();
        let header = hosts.next();
        if hosts.next().is_some() {
            return Err(Malformed::Host("two `Host` headers"));
        }
        let header = header
            .map(|value| {
                let text = value.to_str();
                text.map_err(|_| Malformed::Host("it is not ASCII"))
                    .and_then(|text| Self::parse(text, scheme))
            })
            .transpose()?;
        let target = parts
            .uri
            .authority()
            .map(|authority| Self::parse(authority.as_str(), scheme))
            .transpose()?;
        match (target, header) {
            (Some(target), Some(header)) if target != header => {
                Err(Malformed::Host("the target's differs from `Host`"))
            }
            (Some(authority), _) | (None, Some(authority)) => Ok(authority),
            (None, None) => Err(Malformed::Host("there is none")),
        }
    }

    /// Reads `host[:port]`. Without a scheme both 80 and 443 count as default ports.
    pub(crate) fn parse(text: &str, scheme: Option<&str>) -> Result<Self, Malformed> {
        if text.contains('@') {
            return Err(Malformed::Host("it holds userinfo"));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest
                    .split_once(']')
                    .ok_or(Malformed::Host("a bracket is open"))?;
                let port = match rest {
                    "" => None,
                    rest => Some(
                        rest.strip_prefix(':')
                            .ok_or(Malformed::Host("something follows the bracket"))?,
                    ),
                };
                let address: Ipv6Addr = address
                    .parse()
                    .map_err(|_| Malformed::Host("it is no IPv6 address"))?;
                (format!("[{address}]"), port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (host(name)?, Some(port)),
                None => (host(text)?, None),
            },
        };
        let port = port.map(port_number).transpose()?;
        Ok(Self {
            host,
            port: port.filter(|port| !is_default(*port, scheme)),
        })
    }
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

fn is_default(port: u16, scheme: Option<&str>) -> bool {
    match scheme {
        Some("http") => port == 80,
        Some("https") => port == 443,
        _ => port == 80 || port == 443,
    }
}

fn port_number(text: &str) -> Result<u16, Malformed> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse()
        .ok()
        .filter(|_| is_plain)
        .ok_or(Malformed::Host("its port is no plain number"))
}

/// A name of letters, digits and hyphens (RFC 952, RFC 1123), or an IPv4 address in its usual form.
/// What ends in a number is an address to many resolvers, whatever its form (WHATWG URL 3.5).
fn host(text: &str) -> Result<String, Malformed> {
    if text.is_empty() || text.len() > 253 {
        return Err(Malformed::Host("it is empty or too long"));
    }
    if text.ends_with('.') {
        return Err(Malformed::Host("it ends with a dot"));
    }
    let mut last: &[u8] = b"";
    for label in text.as_bytes().split(|byte| *byte == b'.') {
        if !is_label(label) {
            return Err(Malformed::Host("it is no plain name"));
        }
        last = label;
    }
    let is_number = last.iter().all(u8::is_ascii_digit)
        || last
            .get(..2)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"0x"));
    if is_number && text.parse::<Ipv4Addr>().is_err() {
        return Err(Malformed::Host("it is an unusual form of an address"));
    }
    Ok(text.to_ascii_lowercase())
}

fn is_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with(b"-")
        && !label.ends_with(b"-")
        && label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

#[cfg(test)]
mod tests;
