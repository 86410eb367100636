//! The request as policy sees it.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::OnceLock;

use http::{HeaderMap, header};
use serde_json::Value;

/// The request as policy sees it (`input.request`).
pub struct Request {
    /// Upper case.
    pub method: String,
    /// The agent's authority, lower case.
    pub host: String,
    /// The path below the tool, as on the wire.
    pub path: String,
    /// Its segments, decoded; none if the tool itself is called.
    pub segments: Vec<String>,
    /// The query, decoded; keys are unique, keys of stripped credentials are gone.
    pub query: Vec<(String, String)>,
    /// Lower-case names; repeated ones joined by `, `; without credentials. Values that are not
    /// UTF-8 are left out.
    pub headers: Headers,
    /// The arguments: a JSON body, form fields, or MCP `params.arguments`. None if there are none.
    pub arguments: Option<Value>,
    /// The body's bytes, if known.
    pub size: Option<u64>,
    /// Whether the body streams past unread.
    pub streamed: bool,
    /// The caller's network address (`input.client.address`).
    pub client: Option<SocketAddr>,
}

// By hand, since arguments may be large and private.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The headers that are left when keys and hop-by-hop ones are off: a list of names and values, made when it is first
/// read. Few policies read it.
#[derive(Debug)]
pub struct Headers {
    map: HeaderMap,
    list: OnceLock<Vec<(String, String)>>,
}

impl Headers {
    pub(crate) fn new(map: HeaderMap) -> Self {
        Self {
            map,
            list: OnceLock::new(),
        }
    }

    pub(crate) fn map(&self) -> &HeaderMap {
        &self.map
    }

    /// The headers as they were given.
    pub(crate) fn into_map(self) -> HeaderMap {
        self.map
    }
}

impl Deref for Headers {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        self.list.get_or_init(|| list(&self.map))
    }
}

fn list(map: &HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(map.keys_len());
    for (name, value) in map {
        if name == header::HOST {
            continue;
        }
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
            continue;
        };
        // The values of one name come one after the other.
        match headers.last_mut() {
            Some((last, joined)) if last == name.as_str() => {
                joined.push_str(", ");
                joined.push_str(text);
            }
            _ => headers.push((name.as_str().to_owned(), text.to_owned())),
        }
    }
    headers
}
