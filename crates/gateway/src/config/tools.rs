//! `tools`: the upstreams that agents may call, by name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use call::{BodyMode, Mark, Meter, Protocol, StripMode, Tool};
use credentials::{ContextRule, Injection, NetworkRule, Place as Where};
use proxy::{HttpVersion, Timeouts};
use serde_json::{Map, Value};
use tasks::{Access, OperationPattern, ToolName};
use url::{Host, Url};

use super::binding::{BindingConfig, ProviderConfig, RawBindings, RawInject};
use super::book::RawGate;
use super::collection::{OneOrMore, Table};
use super::listen::Plaintext;
use super::mistake::{At, Notes, Place};
use super::scalar::{HostName, Size};
use super::shape::{section, words};
use super::usage::{RawResource, RawUsage};

/// A tool, how it is reached, and which credentials it takes.
#[derive(Debug)]
pub struct ToolConfig {
    /// What the call's way knows of it.
    pub tool: Tool,
    /// How it is reached.
    pub upstream: UpstreamConfig,
    /// What happens to keys in the bodies of its calls.
    pub body_keys: StripMode,
    /// The operations that answer with tokens.
    pub token_endpoints: Vec<OperationPattern>,
    /// What its leases belong to.
    pub context: ContextRule,
    /// Its credentials, at most one for each access class.
    pub bindings: Vec<BindingConfig>,
}

/// How a tool is reached. Its address is in [`Tool::upstream`].
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The authorities its certificate is verified against, PEM; the system's unless given.
    pub ca: Option<PathBuf>,
    /// The certificate the gateway shows.
    pub client_certificate: Option<ClientCertificate>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Which HTTP it is spoken to in.
    pub http2: HttpVersion,
}

/// A certificate the gateway shows to an upstream.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Each notes its own mistakes.
fn parse_marks(marks: At<Vec<At<RawMark>>>, notes: &mut Notes) -> Option<Vec<Mark>> {
    let marks = marks.value.into_iter();
    let marks: Vec<Option<Mark>> = marks.map(|mark| mark.value.parse(notes)).collect();
    marks.into_iter().collect()
}

/// Each notes its own mistakes.
fn parse_usage(usage: At<Vec<At<RawUsage>>>, notes: &mut Notes) -> Option<Vec<Arc<Meter>>> {
    let usage = usage.value.into_iter();
    let meters: Vec<Option<Meter>> = usage.map(|usage| usage.value.parse(notes)).collect();
    let meters = meters.into_iter().map(|meter| meter.map(Arc::new));
    meters.collect()
}

/// Whether bodies are read before the decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    Inspect,
    Stream,
}

words! { HttpVersion { "auto" => Self::Auto, "always" => Self::Http2, "never" => Self::Http1 } }
words! { NetworkRule { "subnet" => Self::Subnet, "any" => Self::Any } }
words! { Reading { "inspect" => Self::Inspect, "stream" => Self::Stream } }
words! { StripMode { "strip" => Self::Strip, "refuse" => Self::Refuse, "report" => Self::Report } }
words! { Access { "read" => Self::Read, "write" => Self::Write, "execute" => Self::Execute } }
words! {
    Protocol { "http" => Self::Http, "mcp" => Self::Mcp, "grpc" => Self::Grpc }
    later { "a2a": "A2A", "llm": "the protocol of LLM APIs" }
}

section! {
    /// Labels that some calls of a tool give their task.
    struct RawMark {
        /// The operations, as in grants; all unless given.
        operations: Vec<At<OperationPattern>> = default([]);
        /// The access classes; all unless given.
        access: Vec<At<Access>> = default([]);
        /// The labels.
        labels: Vec<At<String>> = required;
    }
}

section! {
    /// A named upstream.
    struct RawTool {
        /// Where it is: scheme, host and base path. `http://` only on loopback, or where `plaintext` allows it.
        upstream: Url = required;
        /// What it speaks.
        protocol: Protocol = default("http");
        /// Hosts that it answers by, besides the path `/{tool}/…`.
        hosts: Vec<At<HostName>> = default([]);
        /// Its operations by access class: `METHOD /path` patterns, for MCP the names of its tools. What is in none is refused.
        access: RawAccess = default({});
        /// Its credentials by access class. Without one it is called without.
        credentials: RawBindings = default({});
        /// Where the secret enters a request, unless a credential says otherwise: one of `header`, `query`, `basic`, `basic_field` and `sigv4`, or a list of them where a credential has several fields. `Authorization: Bearer …` unless given.
        inject: OneOrMore<RawInject> = optional;
        /// Keys of what agents declare (`Agent-Context`) that a lease belongs to, besides the tool's environment, the task's owner and labels, and the caller's network. When one of these changes within a task, the tool's leases are taken back, and the call gets one of its own; what alternates faster than 8 times, and once more each 30 s, is refused.
        lease_context: Vec<At<String>> = default([]);
        /// Whether a lease belongs to the caller's network: to its /24 (IPv4) or /64 (IPv6) (`subnet`), or to none (`any`), for agents whose addresses change while they work.
        lease_network: NetworkRule = default("subnet");
        /// Its environment, such as `prod`, for grants and policy.
        environment: String = optional;
        /// Free attributes, for policy.
        attributes: Map<String, Value> = default({});
        /// Labels, for policy.
        labels: Vec<At<String>> = default([]);
        /// The labels that its calls give their task, once they are permitted: what was read, say, is `untrusted` from then on.
        marks: Vec<At<RawMark>> = default([]);
        /// What its calls cost, as their answers tell: budgets of tasks are counted by it.
        usage: Vec<At<RawUsage>> = default([]);
        /// What its calls are made on.
        resource: RawResource = default({});
        /// What bounds the calls on it, whatever their tasks.
        limits: RawGate = default({});
        /// Whether request bodies are read before the decision (`inspect`) or not at all (`stream`): then policy sees no arguments.
        body: Reading = default("inspect");
        /// How much of a body is read; more is refused with 413.
        max_body: Size = default("1MiB");
        /// What happens to a key that the agent brought in headers, cookies, path or query: it comes off (`strip`; in a path the call is refused), the call is refused (`refuse`), or it reaches the tool and is only written down (`report`).
        strip: StripMode = default("strip");
        /// The same for keys in bodies: the call is refused (`refuse`), the key becomes `***` (`strip`), or it reaches the tool (`report`). What streams is cut where it would be refused or stripped.
        body_keys: StripMode = default("refuse");
        /// Operations that answer with tokens, such as `POST /oauth/token`: agents are given phantoms of them, which the gateway turns back where they are sent to this tool, in `Authorization` or to one of these.
        token_endpoints: Vec<At<OperationPattern>> = default([]);
        /// Whether the upstream may be reached without TLS, though it is not on loopback.
        plaintext: Plaintext = default("forbidden");
        /// The authorities that its certificate is verified against, PEM. The system's unless given.
        ca: PathBuf = optional;
        /// The certificate that the gateway shows to it.
        client_certificate: RawClientCertificate = optional;
        /// How long it may take.
        timeouts: RawTimeouts = default({});
        /// Whether it is spoken to in HTTP/2: `always` means with prior knowledge where there is no TLS.
        http2: HttpVersion = default("auto");
    }
}

section! {
    /// Operations by access class.
    struct RawAccess {
        /// Operations that look.
        read: Vec<At<OperationPattern>> = default([]);
        /// Operations that change.
        write: Vec<At<OperationPattern>> = default([]);
        /// Operations that make something run.
        execute: Vec<At<OperationPattern>> = default([]);
    }
}

section! {
    /// A certificate and its key.
    struct RawClientCertificate {
        /// The certificate chain, PEM.
        certificate: PathBuf = required;
        /// The private key, PEM.
        key: PathBuf = required;
    }
}

section! {
    /// How long an upstream may take.
    struct RawTimeouts {
        /// To accept a connection, TLS included.
        connect: Duration = default("3s");
        /// To stay silent.
        read: Duration = default("60s");
        /// To take what is written.
        write: Duration = default("30s");
    }
}

/// Parses all tools, and what must hold between them.
pub(super) fn parse(tools: Table<RawTool>, notes: &mut Notes) -> Option<Vec<ToolConfig>> {
    let mut claimed: HashMap<String, String> = HashMap::new();
    let mut parsed = Vec::new();
    for (name, raw) in tools.0 {
        for host in raw.hosts.iter().flat_map(|hosts| &hosts.value) {
            match claimed.entry(host.value.0.clone()) {
                Entry::Vacant(free) => {
                    free.insert(name.value.clone());
                }
                Entry::Occupied(taken) => {
                    let message = format!("host belongs to tool `{}` already", taken.get());
                    notes.mistake(&host.place, "host_taken", message);
                }
            }
        }
        parsed.push(raw.parse(&name, notes));
    }
    parsed.into_iter().collect()
}

impl RawMark {
    fn parse(self, notes: &mut Notes) -> Option<Mark> {
        let labels = self.labels?.value;
        for label in &labels {
            if !tasks::is_label(&label.value) {
                let message = "a label is `[a-z0-9_-]{1,64}`";
                notes.mistake(&label.place, "wrong_value", message);
            }
        }
        let operations = self.operations?.value.into_iter();
        let access = self.access?.value.into_iter();
        Some(Mark {
            operations: operations.map(|pattern| pattern.value).collect(),
            access: access.map(|access| access.value).collect(),
            labels: labels.into_iter().map(|label| label.value).collect(),
        })
    }
}

impl RawTool {
    fn parse(self, name: &At<String>, notes: &mut Notes) -> Option<ToolConfig> {
        let tool_name = match name.value.parse::<ToolName>() {
            Ok(tool_name) => Some(tool_name),
            Err(error) => {
                notes.mistake(&name.place, "tool_name", error.to_string());
                None
            }
        };
        self.check_upstream(notes);
        self.check_body(notes);
        let protocol = self.protocol.map(|protocol| protocol.value);
        let access = self
            .access
            .and_then(|access| access.value.parse(protocol, notes));
        let inject = match self.inject {
            Some(inject) => inject.value.parse(notes),
            None => Some(vec![RawInject::bearer()]),
        };
        let place = self.credentials.as_ref().map(|raw| raw.place.clone());
        let bindings = self
            .credentials
            .and_then(|raw| raw.value.parse(inject.as_deref(), notes));
        let tool = (self.upstream.as_ref(), self.client_certificate.as_ref());
        check_shown(bindings.as_deref(), place.as_ref(), tool, notes);
        let is_read = is_read(protocol, self.body.as_ref());
        for binding in bindings.iter().flatten() {
            check_injections(&binding.injections, protocol, is_read, name, notes);
        }
        let token_endpoints = parse_token_endpoints(self.token_endpoints, protocol, is_read, notes);
        let client_certificate = match self.client_certificate {
            Some(raw) => Some(ClientCertificate {
                certificate: raw.value.certificate?.value,
                key: raw.value.key?.value,
            }),
            None => None,
        };
        let timeouts = self.timeouts?.value;
        let gate = self.limits.and_then(|gate| gate.value.parse(notes));
        let marks = parse_marks(self.marks?, notes);
        let resource = self
            .resource
            .and_then(|rule| rule.value.parse(is_read, notes));
        let meters = parse_usage(self.usage?, notes);
        let declared = self.lease_context?.value.into_iter();
        let context = ContextRule {
            declared: declared.map(|key| key.value).collect(),
            network: self.lease_network?.value,
        };
        Some(ToolConfig {
            tool: Tool {
                name: tool_name?,
                upstream: self.upstream?.value,
                protocol: protocol?,
                hosts: self
                    .hosts?
                    .value
                    .into_iter()
                    .map(|host| host.value.0)
                    .collect(),
                access: access?,
                environment: self
                    .environment
                    .map(|environment| Arc::from(environment.value)),
                attributes: self.attributes?.value,
                labels: self
                    .labels?
                    .value
                    .into_iter()
                    .map(|label| label.value)
                    .collect(),
                marks: marks?,
                meters: meters?,
                resource: resource?,
                gate: gate?,
                body: match self.body?.value {
                    Reading::Inspect => BodyMode::Inspect {
                        limit: self.max_body?.value.0,
                    },
                    Reading::Stream => BodyMode::Stream,
                },
                strip: self.strip?.value,
            },
            upstream: UpstreamConfig {
                ca: self.ca.map(|path| path.value),
                client_certificate,
                timeouts: Timeouts {
                    connect: timeouts.connect?.value,
                    read: timeouts.read?.value,
                    write: timeouts.write?.value,
                },
                http2: self.http2?.value,
            },
            body_keys: self.body_keys?.value,
            token_endpoints: token_endpoints?,
            context,
            bindings: bindings?,
        })
    }

    fn check_upstream(&self, notes: &mut Notes) {
        let Some(upstream) = &self.upstream else {
            return;
        };
        if upstream.value.query().is_some() {
            let message = "an upstream has no query: a key goes into `credentials`, with `inject: { query: … }`";
            notes.mistake(&upstream.place, "upstream_query", message);
        }
        let allowed = self
            .plaintext
            .as_ref()
            .is_none_or(|p| p.value == Plaintext::Allowed);
        if upstream.value.scheme() == "http" && !allowed && !is_loopback(&upstream.value) {
            let message = "the secret would cross the network in the clear: \
                           use `https://`, or write `plaintext: allowed` for this tool";
            notes.mistake(&upstream.place, "plaintext_upstream", message);
        }
        let tls_keys = [
            self.ca.as_ref().map(|ca| &ca.place),
            self.client_certificate
                .as_ref()
                .map(|certificate| &certificate.place),
        ];
        if upstream.value.scheme() == "http" {
            for place in tls_keys.into_iter().flatten() {
                notes.mistake(place, "without_tls", "this needs an `https://` upstream");
            }
        }
    }

    fn check_body(&self, notes: &mut Notes) {
        if let (Some(protocol), Some(body)) = (&self.protocol, &self.body)
            && protocol.value == Protocol::Mcp
            && body.value == Reading::Stream
        {
            let message = "what an MCP call asks for is in its body: write `inspect`";
            notes.mistake(&body.place, "body_needed", message);
        }
    }
}

/// A certificate is shown over TLS, and one at a time.
fn check_shown(
    bindings: Option<&[BindingConfig]>,
    place: Option<&Place>,
    (upstream, own): (Option<&At<Url>>, Option<&At<RawClientCertificate>>),
    notes: &mut Notes,
) {
    let (Some(bindings), Some(place)) = (bindings, place) else {
        return;
    };
    let mut providers = bindings.iter().map(|binding| &binding.provider);
    if !providers.any(|provider| matches!(provider, ProviderConfig::Spiffe(_))) {
        return;
    }
    if upstream.is_some_and(|upstream| upstream.value.scheme() == "http") {
        let message = "`provider: spiffe` needs an `https://` upstream";
        notes.mistake(place, "without_tls", message);
    }
    if let Some(own) = own {
        let message = "`provider: spiffe` shows a certificate already";
        notes.mistake(&own.place, "certificate_twice", message);
    }
}

/// Whether bodies are read before the decision.
fn is_read(protocol: Option<Protocol>, body: Option<&At<Reading>>) -> bool {
    protocol != Some(Protocol::Grpc) && body.is_some_and(|body| body.value == Reading::Inspect)
}

/// A secret goes into a body only where that is read, and is what the protocol has.
fn check_injections(
    injections: &[Injection],
    protocol: Option<Protocol>,
    is_read: bool,
    name: &At<String>,
    notes: &mut Notes,
) {
    let mut arguments = injections.iter().filter(|one| one.is_argument());
    if !is_read && arguments.clone().next().is_some() {
        let message = "a secret goes into a body only where that is read: not with `body: stream`, nor on gRPC";
        notes.mistake(&name.place, "body_needed", message);
    }
    let is_form = |one: &Injection| matches!(one.place, Where::Form { .. });
    if protocol == Some(Protocol::Mcp) && arguments.any(is_form) {
        let message = "MCP has no forms: write `json: /params/arguments/NAME`";
        notes.mistake(&name.place, "wrong_injection", message);
    }
}

/// A token endpoint is asked over HTTP, in a body that is read.
fn parse_token_endpoints(
    endpoints: Option<At<Vec<At<OperationPattern>>>>,
    protocol: Option<Protocol>,
    is_read: bool,
    notes: &mut Notes,
) -> Option<Vec<OperationPattern>> {
    let is_http = protocol.is_none_or(|protocol| protocol == Protocol::Http);
    let mut parsed = Vec::new();
    for pattern in endpoints?.value {
        if !pattern.value.is_route() || !is_http {
            let message =
                "a token endpoint is an operation of an HTTP tool, such as `POST /oauth/token`";
            notes.mistake(&pattern.place, "wrong_pattern", message);
        } else if !is_read {
            let message = "what stands for a token in a body can be turned back only where it is read: write `body: inspect`";
            notes.mistake(&pattern.place, "body_needed", message);
        }
        parsed.push(pattern.value);
    }
    Some(parsed)
}

impl RawAccess {
    fn parse(
        self,
        protocol: Option<Protocol>,
        notes: &mut Notes,
    ) -> Option<Vec<(Access, OperationPattern)>> {
        let classes = [
            (Access::Read, self.read),
            (Access::Write, self.write),
            (Access::Execute, self.execute),
        ];
        let mut access = Vec::new();
        for (class, patterns) in classes {
            for pattern in patterns?.value {
                match (protocol, pattern.value.is_route()) {
                    (Some(Protocol::Http), false) => notes.mistake(
                        &pattern.place,
                        "wrong_pattern",
                        "an operation of an HTTP tool is a method and a path, such as `GET /**`",
                    ),
                    (Some(Protocol::Mcp), true) => notes.mistake(
                        &pattern.place,
                        "wrong_pattern",
                        "an operation of an MCP tool is a name, such as `create_*`",
                    ),
                    (Some(Protocol::Http | Protocol::Mcp | Protocol::Grpc) | None, _) => {}
                }
                access.push((class, pattern.value));
            }
        }
        Some(access)
    }
}

/// Whether a URL stays on this machine whatever the DNS says.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        // RFC 6761, section 6.3.
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
