//! A request head with one spelling.

mod authority;
mod framing;
mod path;
mod query;

use std::fmt;
use std::net::SocketAddr;

use http::request::Parts;
use http::{HeaderMap, Method, Version, header};
use identity::{Presented, Transport};

pub(crate) use authority::Authority;
pub(crate) use framing::folded;
pub(crate) use path::Path;
pub(crate) use query::{Pair, pairs};

/// Where a URL that was presigned for AWS has its session token.
pub(crate) const QUERY_TOKEN: &str = "X-Amz-Security-Token";

/// A request head with one spelling: what policy judges and what the upstream reads are the same.
///
/// One authority, one path, one query (RFC 3986 section 6, with every choice made): see
/// [`Head::canonical`].
pub struct Head {
    parts: Box<Parts>,
    authority: Authority,
    path: Path,
    query: Vec<Pair>,
    client: Option<SocketAddr>,
    transport: Transport,
}

/// What a head is made of, for the step that reads and strips it.
pub(crate) struct Pieces {
    pub(crate) parts: Box<Parts>,
    pub(crate) authority: Authority,
    pub(crate) path: Path,
    pub(crate) query: Vec<Pair>,
    pub(crate) client: Option<SocketAddr>,
}

impl Head {
    /// Gives a head one spelling, or refuses it as ambiguous. `client` is the caller's network address.
    ///
    /// * Method: one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, in upper case; no header or
    ///   query key may override it.
    /// * Authority: the request target's and `Host` must agree; lower case, without a default port;
    ///   letters, digits and hyphens, or an IP literal in its usual form.
    /// * Path: decoded where RFC 3986 says that it makes no difference, encoded with upper-case
    ///   digits elsewhere. Dot segments, empty segments, `;`, and encoded separators are refused.
    /// * Query: `&` alone separates, no key stands twice.
    /// * Headers: those that frame the message or say how to read it stand once; `Connection`
    ///   names hop-by-hop headers only (RFC 9110 section 7.6.1).
    ///
    /// # Errors
    /// [`Malformed`] says what has more than one reading.
    pub fn canonical(parts: Parts, client: Option<SocketAddr>) -> Result<Self, Malformed> {
        if !is_forwarded(&parts.method) {
            return Err(Malformed::Method);
        }
        let authority = Authority::of(&parts)?;
        framing::check(&parts.headers)?;
        let path = Path::canonical(parts.uri.path())?;
        let query = match parts.uri.query() {
            Some(query) => query::canonical(query)?,
            None => Vec::new(),
        };
        Ok(Self {
            parts: Box::new(parts),
            authority,
            path,
            query,
            client,
            transport: Transport::Plain,
        })
    }

    /// Says how the head came; in the clear, unless this says otherwise.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// What the agent presents to tell who it is.
    pub fn presented(&self) -> Presented<'_> {
        Presented {
            headers: self.headers(),
            method: self.method(),
            host: self.host(),
            port: self.authority.port,
            path: self.path(),
            query_token: self.query_token(),
            transport: &self.transport,
        }
    }

    /// The session token of a URL that was presigned for AWS, in AWS's spelling.
    fn query_token(&self) -> Option<&str> {
        let value = |name: &str| {
            let pair = self.query.iter().find(|pair| pair.key == name);
            pair.map(|pair| pair.value.as_str())
        };
        let is_presigned = value("X-Amz-Algorithm") == Some("AWS4-HMAC-SHA256");
        value(QUERY_TOKEN).filter(|_| is_presigned)
    }

    /// The method, one of the known ones.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The version of HTTP that the agent spoke.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// Lower-case host, without the port.
    pub fn host(&self) -> &str {
        &self.authority.host
    }

    /// The path as it would go on the wire, before routing.
    pub fn path(&self) -> &str {
        &self.path.wire
    }

    /// The headers as the agent sent them, keys still on.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Whether this opens a WebSocket (RFC 6455 section 4.1): what follows the head is no body.
    pub fn is_websocket(&self) -> bool {
        framing::is_websocket(&self.parts)
    }

    /// The decoded segments of the path.
    pub(crate) fn segments(&self) -> &[String] {
        &self.path.segments
    }

    /// Whether the body comes in a coding that would have to be undone to read it.
    pub(crate) fn content_coding(&self) -> Option<&str> {
        self.parts
            .headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .map(|value| value.to_str().unwrap_or("?").trim())
            .find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
    }

    /// Takes the head apart.
    pub(crate) fn into_pieces(self) -> Pieces {
        let Self {
            parts,
            authority,
            path,
            query,
            client,
            transport: _,
        } = self;
        Pieces {
            parts,
            authority,
            path,
            query,
            client,
        }
    }
}

// By hand, since the keys are still on.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", self.method())
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

/// `Method` compares case-sensitively, so `get` is not among these.
fn is_forwarded(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
    )
}

/// A request that can't be understood in one way only.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The path has more than one reading.
    #[error("path is ambiguous: {0}")]
    Path(&'static str),
    /// The query has more than one reading.
    #[error("query is ambiguous: {0}")]
    Query(&'static str),
    /// The authority has more than one reading.
    #[error("host is ambiguous: {0}")]
    Host(&'static str),
    /// A header has more than one reading.
    #[error("header `{0}` is ambiguous: {1}")]
    Header(String, &'static str),
    /// A method that is not forwarded.
    #[error("method is not allowed")]
    Method,
}

/// Reads the two hex digits after a `%`; `None` if they are not there (RFC 3986 section 2.1).
fn octet(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let high = char::from(bytes.next()?).to_digit(16)?;
    let low = char::from(bytes.next()?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// Whether a text that was decoded once would change if it were decoded again.
fn is_encoded_twice(decoded: &[u8]) -> bool {
    decoded.windows(3).any(|window| {
        matches!(window, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

/// The bytes that mean the same encoded or not (RFC 3986 section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests;
