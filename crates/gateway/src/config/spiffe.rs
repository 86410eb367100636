//! `identity.spiffe`: the SPIFFE trust domains that vouch for agents, and where their keys are.

use std::path::PathBuf;

use identity::{BundleConfig, SpiffeConfig, Svid, TrustDomain, TrustDomainConfig};
use serde_json::{Value, json};
use url::Url;

use super::collection::NonEmpty;
use super::listen::Listen;
use super::mistake::{At, Notes, Place};
use super::shape::{Here, Shape, section, words};
use super::tools::is_loopback;

words! { Svid { "jwt" => Self::Jwt, "x509" => Self::X509 } }

section! {
    /// SPIFFE trust domains whose SVIDs are believed.
    struct RawSpiffe {
        /// What must be among a JWT-SVID's `aud`.
        audience: String = required;
        /// The kinds of SVID that are believed. `x509` needs `listen.tls`, which then asks clients for certificates: one with a SPIFFE ID is for the bundle of its trust domain alone to vouch for.
        svids: NonEmpty<Svid> = default(["jwt"]);
        /// The trust domains. No other is believed, even if the Workload API gives its bundle.
        trust_domains: NonEmpty<RawTrustDomain> = required;
        /// The SPIFFE Workload API, such as that of a SPIRE agent: it gives the bundles of trust domains that have none here, and tells when they change.
        workload_api: Socket = optional;
    }
}

section! {
    /// One SPIFFE trust domain.
    struct RawTrustDomain {
        /// Its name, such as `example.org`.
        name: TrustDomain = required;
        /// Its bundle, a JWK Set: a file, or the `https://` URL of its bundle endpoint (profile `https_web`). Both are read again while the gateway runs. The Workload API gives it unless given.
        bundle: BundlePlace = optional;
    }
}

/// The Unix socket of a Workload API.
#[derive(Clone, Debug)]
pub(super) struct Socket(pub(super) PathBuf);

/// Where a bundle is.
#[derive(Clone, Debug)]
pub(super) enum BundlePlace {
    File(PathBuf),
    Endpoint(Url),
}

impl Shape for Socket {
    fn schema() -> Value {
        json!({ "type": "string", "title": "Unix socket", "pattern": "^unix://",
                "examples": ["unix:///run/spire/agent.sock"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let expects = "the absolute path of a socket such as `unix:///run/spire/agent.sock`";
        let path = here.text(expects, notes)?.strip_prefix("unix://");
        match path {
            Some(path) if path.starts_with('/') && !path.contains('\0') => Some(Self(path.into())),
            Some(_) | None => here.wrong_value(format!("expected {expects}"), notes),
        }
    }
}

impl Shape for BundlePlace {
    fn schema() -> Value {
        json!({ "type": "string", "title": "path or URL", "minLength": 1 })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let text = here.text("a path, or a URL such as `https://host/path`", notes)?;
        if text.contains("://") {
            Url::read(here, notes).map(Self::Endpoint)
        } else {
            PathBuf::read(here, notes).map(Self::File)
        }
    }
}

impl Shape for TrustDomain {
    fn schema() -> Value {
        json!({ "type": "string", "title": "trust domain", "pattern": "^[a-z0-9._-]{1,255}$",
                "examples": ["example.org"] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        match here
            .text("a trust domain such as `example.org`", notes)?
            .parse()
        {
            Ok(domain) => Some(domain),
            Err(error) => {
                let error: identity::InvalidTrustDomain = error;
                here.wrong_value(error.to_string(), notes)
            }
        }
    }
}

impl RawSpiffe {
    /// Whether this kind of SVID is believed.
    pub(super) fn takes(&self, svid: Svid) -> bool {
        let svids = self.svids.iter().flat_map(|svids| &svids.value.0);
        svids.map(|taken| taken.value).any(|taken| taken == svid)
    }

    pub(super) fn parse(self, listen: Option<&Listen>, notes: &mut Notes) -> Option<SpiffeConfig> {
        let speaks_tls = listen.is_none_or(Listen::speaks_tls);
        if let (true, false, Some(svids)) = (self.takes(Svid::X509), speaks_tls, &self.svids) {
            let message = "X.509-SVIDs are shown in a handshake: give the listener `listen.tls`";
            notes.mistake(&svids.place, "no_tls", message);
        }
        let svids = self.svids?.value.0.into_iter().map(|svid| svid.value);
        let mut trust_domains: Vec<TrustDomainConfig> = Vec::new();
        let mut asks = false;
        for raw in self.trust_domains?.value.0 {
            asks |= raw.value.bundle.is_none();
            let Some(parsed) = raw
                .value
                .parse(&raw.place, self.workload_api.as_ref(), notes)
            else {
                continue;
            };
            if trust_domains.iter().any(|other| other.name == parsed.name) {
                notes.mistake(
                    &raw.place,
                    "duplicate_trust_domain",
                    "this trust domain is already there",
                );
            }
            trust_domains.push(parsed);
        }
        if let (Some(socket), false) = (&self.workload_api, asks) {
            let message = "nobody asks it: each trust domain has a `bundle` of its own";
            notes.warning(&socket.place, "unused_workload_api", message);
        }
        Some(SpiffeConfig {
            audience: self.audience?.value,
            svids: svids.collect(),
            trust_domains,
        })
    }
}

impl RawTrustDomain {
    fn parse(
        self,
        place: &Place,
        workload_api: Option<&At<Socket>>,
        notes: &mut Notes,
    ) -> Option<TrustDomainConfig> {
        let bundle = match (self.bundle, workload_api) {
            (Some(bundle), _) => {
                if let BundlePlace::Endpoint(url) = &bundle.value
                    && url.scheme() == "http"
                    && !is_loopback(url)
                {
                    let message = "bundles are fetched over `https://`; `http://` is for loopback";
                    notes.mistake(&bundle.place, "plaintext_bundle", message);
                }
                match bundle.value {
                    BundlePlace::File(path) => BundleConfig::File(path),
                    BundlePlace::Endpoint(url) => BundleConfig::Endpoint(url),
                }
            }
            (None, Some(socket)) => BundleConfig::WorkloadApi(socket.value.0.clone()),
            (None, None) => {
                let message =
                    "it needs a `bundle`, or `identity.spiffe.workload_api` that gives it";
                notes.mistake(place, "no_bundle", message);
                return None;
            }
        };
        Some(TrustDomainConfig {
            name: self.name?.value,
            bundle,
        })
    }
}
