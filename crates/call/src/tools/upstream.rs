//! Where a tool is, in the form that goes on the wire.

use http::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use url::Url;

use crate::head::Pair;

/// A tool's scheme, authority and base path, read once.
#[derive(Debug)]
pub(crate) struct Upstream {
    origin: Option<Origin>,
    /// Without a slash at its end.
    base: String,
    /// The path of the upstream itself.
    root: String,
}

#[derive(Debug)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
}

impl Upstream {
    /// Reads an upstream's URL; userinfo, query and fragment have no meaning there.
    pub(crate) fn of(url: &Url) -> Self {
        Self {
            origin: Origin::of(url),
            base: url.path().trim_end_matches('/').to_owned(),
            root: url.path().to_owned(),
        }
    }

    /// The value of `Host` on the wire.
    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        self.origin.as_ref().map(|origin| &origin.host)
    }

    /// The whole URI of a call. The tool alone (nothing, or `/`) is the upstream's own path; everything
    /// else goes below it, byte for byte.
    pub(crate) fn uri(&self, below: &str, query: &[Pair]) -> Option<Uri> {
        let origin = self.origin.as_ref()?;
        let mut target = match below {
            "" | "/" => self.root.clone(),
            below => format!("{}{below}", self.base),
        };
        let mut separator = '?';
        for pair in query {
            target.push(separator);
            target.push_str(&pair.wire);
            separator = '&';
        }
        let target = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).ok()?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(origin.scheme.clone());
        parts.authority = Some(origin.authority.clone());
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).ok()
    }
}

impl Origin {
    fn of(url: &Url) -> Option<Self> {
        let scheme = match url.scheme() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return None,
        };
        let host = url.host_str()?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Some(Self {
            scheme,
            host: HeaderValue::from_str(&authority).ok()?,
            authority: authority.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
