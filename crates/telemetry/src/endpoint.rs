//! The address of a collector.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The base URL of an OTLP collector: `http` or `https`, a host, perhaps a port and a path, nothing else.
///
/// It holds no secret: userinfo and queries are refused. Headers for a collector that wants a key come
/// from `OTEL_EXPORTER_OTLP_HEADERS`.
/// ```compile_fail,E0423
/// let unchecked = telemetry::Endpoint("http://user:password@collector".parse().unwrap());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint(Url);

/// Not the address of a collector.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// Not a URL at all.
    #[error("not a URL: {0}")]
    Url(#[from] url::ParseError),
    /// Neither `http` nor `https`.
    #[error("`{0}` is neither `http` nor `https`")]
    Scheme(String),
    /// A user, a password, a query or a fragment. The text isn't repeated: it may be a secret.
    #[error("a collector's address has no user, password, query or fragment")]
    Excess,
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NotAnEndpoint::Scheme(url.scheme().to_owned()));
        }
        let userinfo = !url.username().is_empty() || url.password().is_some();
        if userinfo || url.query().is_some() || url.fragment().is_some() {
            return Err(NotAnEndpoint::Excess);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Endpoint {
    /// Is the connection encrypted?
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Where one signal goes over HTTP: the base and `/v1/traces`, `/v1/logs` or `/v1/metrics`
    /// (OTLP specification, "OTLP/HTTP Request").
    pub(crate) fn signal(&self, name: &str) -> String {
        format!("{self}/v1/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[track_caller]
    fn check(text: &str, expect: Result<&str, &str>) {
        let found = text
            .parse::<Endpoint>()
            .map(|endpoint| endpoint.signal("traces"));
        assert_eq!(
            found.map_err(|e| e.to_string()),
            expect.map(str::to_owned).map_err(str::to_owned)
        );
    }

    #[test]
    fn a_host_and_port_is_an_endpoint() {
        check(
            "http://127.0.0.1:4318",
            Ok("http://127.0.0.1:4318/v1/traces"),
        );
    }
    #[test]
    fn a_base_path_is_kept() {
        check(
            "https://otel.example/base/",
            Ok("https://otel.example/base/v1/traces"),
        );
    }
    #[test]
    fn another_scheme_is_refused() {
        check("ftp://h", Err("`ftp` is neither `http` nor `https`"));
    }
    #[test]
    fn a_password_is_refused_and_not_repeated() {
        check(
            "http://u:secret@h",
            Err("a collector's address has no user, password, query or fragment"),
        );
    }
    #[test]
    fn a_query_is_refused() {
        check(
            "http://h/?key=1",
            Err("a collector's address has no user, password, query or fragment"),
        );
    }
    #[test]
    fn words_are_refused() {
        check("collector", Err("not a URL: relative URL without a base"));
    }
}
