//! What an OAuth client is told of this gateway before it has a token (RFC 9728).

use http::header::HOST;
use http::uri::Authority;
use pingora_http::RequestHeader;
use serde_json::{Value, json};
use url::{Origin, Url};

/// Where the metadata of resources stands; what follows is the path of one (RFC 9728 section 3.1).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The longest path of a resource that is answered for, in bytes. Ours have the name of a tool.
const LONGEST: usize = 256;

/// The gateway as a resource that wants tokens of an authorization server: its own.
#[derive(Clone, Debug)]
pub struct ProtectedResource {
    issuer: String,
    /// Where agents say that they call, if something in front ends TLS.
    origins: Vec<String>,
}

impl ProtectedResource {
    /// `issuer` signs the tokens; `origins` are those that agents know the gateway by, where they differ from what
    /// requests name.
    pub fn new(issuer: &str, origins: &[Origin]) -> Self {
        Self {
            issuer: issuer.to_owned(),
            origins: spelled_out(origins),
        }
    }

    /// The same, known by these origins.
    #[must_use]
    pub fn moved(&self, origins: &[Origin]) -> Self {
        Self {
            issuer: self.issuer.clone(),
            origins: spelled_out(origins),
        }
    }

    /// The metadata that a request asks for, if it does. Whether there is such a tool it does not tell.
    pub(crate) fn metadata(&self, head: &RequestHeader, scheme: &str) -> Option<Value> {
        let path = head.uri.path().strip_prefix(WELL_KNOWN)?;
        if !is_resource(path) {
            return None;
        }
        let base = self.base(head, scheme)?;
        Some(json!({
            "resource": format!("{base}{path}"),
            "authorization_servers": [self.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "remit",
            "authorization_details_types_supported": ["remit_grant", "remit_task"],
            "dpop_signing_alg_values_supported": identity::Algorithm::ALL.map(identity::Algorithm::as_str),
        }))
    }

    /// Where the metadata stands of what a request was for: `/{tool}` (RFC 9728 section 5.1).
    pub(crate) fn pointer(&self, head: &RequestHeader, scheme: &str) -> Option<String> {
        let base = self.base(head, scheme)?;
        let tool = head.uri.path().split('/').nth(1).unwrap_or_default();
        let resource = format!("/{tool}");
        let resource = if tool.is_empty() || !is_resource(&resource) {
            ""
        } else {
            &resource
        };
        Some(format!("{base}{WELL_KNOWN}{resource}"))
    }

    /// How whoever sent this head knows the gateway.
    fn base(&self, head: &RequestHeader, scheme: &str) -> Option<String> {
        let authority = authority(head)?;
        let named = |origin: &&String| {
            let url = Url::parse(origin).ok();
            url.is_some_and(|url| url.host_str() == Some(authority.host()))
        };
        let known = self
            .origins
            .iter()
            .find(named)
            .or_else(|| self.origins.first());
        Some(known.map_or_else(|| format!("{scheme}://{authority}"), Clone::clone))
    }
}

fn spelled_out(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(Origin::ascii_serialization).collect()
}

/// Whether the path of a resource is nothing, or one that needs no encoding.
fn is_resource(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    path.is_empty() || path.starts_with('/') && path.len() <= LONGEST && path.bytes().all(plain)
}

/// The one authority that a head names.
fn authority(head: &RequestHeader) -> Option<Authority> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let named = match (head.uri.authority(), hosts.next()) {
        (Some(authority), None) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).ok()?,
        (Some(authority), Some(host)) => {
            let host = Authority::try_from(host.as_bytes()).ok()?;
            (host == *authority).then_some(host)?
        }
        (None, None) => return None,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let is_one = hosts.next().is_none() && named.as_str().bytes().all(plain);
    is_one.then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(origins: &[&str]) -> ProtectedResource {
        let origins: Vec<Origin> = origins
            .iter()
            .map(|origin| origin.parse::<Url>().unwrap().origin())
            .collect();
        ProtectedResource::new("https://remit.example", &origins)
    }

    fn head(path: &str, hosts: &[&str]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", path.as_bytes(), None).unwrap();
        for host in hosts {
            head.append_header("host", *host).unwrap();
        }
        head
    }

    #[track_caller]
    fn check(path: &str, expect: Option<&str>) {
        let metadata = resource(&[]).metadata(&head(path, &["gw.example:4180"]), "https");
        let found = metadata
            .as_ref()
            .and_then(|found| found["resource"].as_str());
        assert_eq!(found, expect);
    }

    #[test]
    fn a_resource_is_named_as_its_client_does() {
        check(WELL_KNOWN, Some("https://gw.example:4180"));
        check(
            "/.well-known/oauth-protected-resource/notes",
            Some("https://gw.example:4180/notes"),
        );
        check(
            "/.well-known/oauth-protected-resource/desk/mcp",
            Some("https://gw.example:4180/desk/mcp"),
        );
    }
    #[test]
    fn other_paths_are_calls() {
        check("/notes", None);
        check("/.well-known/oauth-protected-resources", None);
        check("/.well-known/oauth-protected-resource/%22", None);
        check("/.well-known/oauth-authorization-server", None);
    }

    #[track_caller]
    fn points(path: &str, hosts: &[&str], origins: &[&str], expect: Option<&str>) {
        let pointer = resource(origins).pointer(&head(path, hosts), "http");
        assert_eq!(pointer.as_deref(), expect);
    }

    #[test]
    fn a_challenge_points_to_the_metadata_of_the_tool() {
        let tool = "http://gw:1/.well-known/oauth-protected-resource/notes";
        points("/notes/notes/1", &["gw:1"], &[], Some(tool));
        let root = "http://gw:1/.well-known/oauth-protected-resource";
        points("/", &["gw:1"], &[], Some(root));
        points("/%22/x", &["gw:1"], &[], Some(root));
    }
    #[test]
    fn behind_a_terminator_the_gateway_goes_by_its_own_origins() {
        let origins = ["https://remit.example", "https://other.example"];
        let at = |origin: &str| format!("{origin}/.well-known/oauth-protected-resource/notes");
        let known = |host: &str, origin: &str| {
            points("/notes", &[host], &origins, Some(&at(origin)));
        };
        known("other.example", "https://other.example");
        known("10.0.0.7:4180", "https://remit.example");
    }
    #[test]
    fn where_the_host_is_in_doubt_nothing_is_said() {
        points("/notes", &[], &[], None);
        points("/notes", &["a", "b"], &[], None);
        points("/notes", &["a\"b"], &[], None);
        points("/notes", &["u@a"], &[], None);
    }
}
