//! What every request passes before its route: host, time, the caller's right, and headers on the way out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use identity::{Agent, Presented, Transport, Unauthenticated};
use policy::Opener;
use serde_json::{Map, Value};
use tasks::TaskId;
use url::Url;

use crate::oauth_refusal::OAuthRefusal;
use crate::operators::{Caller, Right, Role};
use crate::refusal::Refusal;
use crate::{Control, Options, Plaintext};

/// How long an answer may take. A reload compiles and tests policies, which is the longest.
const PATIENCE: Duration = Duration::from_secs(60);

/// The network address of the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Peer {
    fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

/// Headers by which a reverse proxy on this machine tells that it speaks for somebody else.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Checks the host, bounds the time, and hardens the answer. Outermost, so it sees every request.
pub(crate) async fn enter(
    State(control): State<Arc<Control>>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match check_host(&request, peer, &control.options) {
        Ok(()) => tokio::time::timeout(PATIENCE, next.run(request))
            .await
            .unwrap_or_else(|_| Refusal::Timeout.into_response()),
        Err(refusal) => refusal.into_response(),
    };
    harden(response.headers_mut());
    response
}

/// Lets an operator through who has the right, and leaves word of who it is.
pub(crate) async fn guard(
    State((control, right)): State<(Arc<Control>, Right)>,
    peer: Peer,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    check_plaintext(peer, control.options.plaintext)?;
    let operators = control.live.load().operators.clone();
    let caller = operators.authenticate(request.headers())?.holding(right)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Who asks for something that agents may ask for, too.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// Who it is to admission policy.
    pub(crate) opener: Opener,
    /// What it may do as an operator; none of an agent.
    pub(crate) role: Option<Role>,
    /// The one task that an agent works on; none of an operator.
    pub(crate) task: Option<TaskId>,
    /// Who vouches for the agent, besides this gateway.
    pub(crate) issuers: Vec<String>,
}

impl Asker {
    /// Its name, if it is an operator.
    pub(crate) fn operator(&self) -> Option<&str> {
        self.role.map(|_| self.opener.name())
    }
}

/// Lets an operator through who has the right, and an agent with an open task, and leaves word of who it is.
pub(crate) async fn guard_or_agent(
    State((control, right)): State<(Arc<Control>, Right)>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    check_plaintext(peer, control.options.plaintext)?;
    let (mut parts, body) = request.into_parts();
    let asker = asker(&control, right, &parts).await?;
    parts.extensions.insert(asker);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn asker(control: &Control, right: Right, parts: &Parts) -> Result<Asker, Refusal> {
    let agent = match operator_or_agent(control, right, parts).await? {
        Either::Operator(caller) => {
            return Ok(Asker {
                opener: caller.opener(),
                role: Some(caller.role()),
                task: None,
                issuers: Vec::new(),
            });
        }
        Either::Agent(agent) => agent,
    };
    let task = control.tasks.bind(agent, &parts.headers);
    let task = task.map_err(Refusal::Unbound)?;
    Ok(Asker {
        opener: Opener::agent(task.agent()),
        role: None,
        task: Some(task.id().clone()),
        issuers: task
            .agent()
            .voucher()
            .map(str::to_owned)
            .into_iter()
            .collect(),
    })
}

enum Either {
    Operator(Caller),
    Agent(Agent),
}

async fn operator_or_agent(
    control: &Control,
    right: Right,
    parts: &Parts,
) -> Result<Either, Refusal> {
    let live = control.live.load_full();
    let headers = &parts.headers;
    let nobody = match live.operators.authenticate(headers) {
        Ok(caller) => return caller.holding(right).map(Either::Operator),
        Err(nobody) => nobody,
    };
    let authority = named_authority(&parts.uri, headers)?;
    let presented = Presented {
        headers,
        method: &parts.method,
        host: authority.host(),
        port: authority.port_u16(),
        path: parts.uri.path(),
        query_token: None,
        // The control API speaks no TLS itself.
        transport: &Transport::Plain,
    };
    match live.identity.authenticate(&presented).await {
        // Then it is the operator's token that is missing or wrong.
        Err(Unauthenticated::NoProof) => Err(nobody),
        agent => agent.map(Either::Agent).map_err(Refusal::Agent),
    }
}

/// Who speaks of a task token: an operator, or the one that holds it.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// Of every token.
    Operator(Caller),
    /// Of its own, by its `jti`.
    Token(String),
}

impl Holder {
    /// Whether it may speak of the token with these claims.
    pub(crate) fn may_speak_of(&self, claims: &Map<String, Value>) -> bool {
        match self {
            Self::Operator(_) => true,
            Self::Token(jti) => claims.get("jti").and_then(Value::as_str) == Some(jti),
        }
    }

    /// Whether it is an operator.
    pub(crate) fn is_operator(&self) -> bool {
        self.name().is_some()
    }

    /// Its name, if it is an operator.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Operator(caller) => Some(caller.name()),
            Self::Token(_) => None,
        }
    }
}

/// Lets an operator through who has the right, and whoever shows a task token, and leaves word of who it is.
pub(crate) async fn guard_or_holder(
    State((control, right)): State<(Arc<Control>, Right)>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, OAuthRefusal> {
    if control.options.issuer.is_none() {
        return Err(OAuthRefusal::NotConfigured);
    }
    check_plaintext(peer, control.options.plaintext)?;
    let (mut parts, body) = request.into_parts();
    let holder = match operator_or_agent(&control, right, &parts).await? {
        Either::Operator(caller) => Holder::Operator(caller),
        Either::Agent(agent) => Holder::Token(agent.jti().ok_or(Refusal::UnknownToken)?.to_owned()),
    };
    parts.extensions.insert(holder);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// The issuer of a gateway that takes OAuth requests. Its tokens cross no network readably.
pub(crate) struct OAuth(pub(crate) Url);

impl FromRequestParts<Arc<Control>> for OAuth {
    type Rejection = OAuthRefusal;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, OAuthRefusal> {
        let options = &control.options;
        let issuer = options.issuer.clone().ok_or(OAuthRefusal::NotConfigured)?;
        let peer = Peer::from_request_parts(parts, control).await?;
        if parts.method != http::Method::GET {
            check_plaintext(peer, options.plaintext)?;
        }
        Ok(Self(issuer))
    }
}

/// Lets processes of this machine through without a token, and everybody else with the right to view.
pub(crate) async fn guard_unless_local(
    state: State<(Arc<Control>, Right)>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let forwarded = FORWARDED
        .iter()
        .any(|name| request.headers().contains_key(*name));
    if peer.is_loopback() && !forwarded {
        return Ok(next.run(request).await);
    }
    guard(state, peer, request, next).await
}

/// The proof that `guard` was passed. A route that asks for it without being guarded fails closed.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Refusal::Internal("route is not guarded".to_owned()).into_response())
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let asker = parts.extensions.get::<Self>().cloned();
        asker.ok_or_else(|| Refusal::Internal("route is not guarded".to_owned()))
    }
}

impl<S: Sync> FromRequestParts<S> for Holder {
    type Rejection = OAuthRefusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, OAuthRefusal> {
        let holder = parts.extensions.get::<Self>().cloned();
        holder.ok_or_else(|| Refusal::Internal("route is not guarded".to_owned()).into())
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let peer = parts.extensions.get::<Self>().copied();
        peer.ok_or_else(|| Refusal::Internal("connection has no address".to_owned()))
    }
}

/// A token that crossed the network readably is not taken: whoever sent it shall notice at once.
pub(crate) fn check_plaintext(peer: Peer, plaintext: Plaintext) -> Result<(), Refusal> {
    match plaintext {
        Plaintext::Loopback if !peer.is_loopback() => Err(Refusal::Plaintext),
        Plaintext::Loopback | Plaintext::Anywhere => Ok(()),
    }
}

/// A web page can make a browser on this machine call us under a name of the page's own (DNS
/// rebinding). So loopback callers name us by an IP literal, `localhost`, the name of the issuer or of `control.url`, or a configured
/// name; callers from elsewhere too, once a name is configured.
fn check_host(request: &Request, peer: Peer, options: &Options) -> Result<(), Refusal> {
    let host = named_host(request.uri(), request.headers())?;
    let strict = peer.is_loopback() || !options.hosts.is_empty();
    let issuer = options.issuer.as_ref().and_then(Url::host_str);
    let url = options.url.as_ref().and_then(Url::host_str);
    let known = is_ip_literal(&host)
        || host == "localhost"
        || url.is_some_and(|known| known.eq_ignore_ascii_case(&host))
        || issuer.is_some_and(|known| known.eq_ignore_ascii_case(&host))
        || options
            .hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(&host));
    if strict && !known {
        return Err(Refusal::WrongHost(host));
    }
    Ok(())
}

/// The one host that a request names, lower case and without the port.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Result<String, Refusal> {
    let authority = named_authority(uri, headers)?;
    Ok(authority.host().to_ascii_lowercase())
}

pub(crate) fn named_authority(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Refusal> {
    let mut values = headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::WrongHost(String::new()));
    };
    let wrong = || Refusal::WrongHost(String::from_utf8_lossy(value.as_bytes()).into_owned());
    let authority = Authority::try_from(value.as_bytes()).map_err(|_| wrong())?;
    let userinfo = authority.as_str().contains('@');
    let contradicted = uri.authority().is_some_and(|other| *other != authority);
    if userinfo || contradicted {
        return Err(wrong());
    }
    Ok(authority)
}

fn is_ip_literal(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok(),
    }
}

/// What each answer says to browsers: no script, no frame, no sniffing, no other origin, nothing kept.
const HARDENED: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

fn harden(headers: &mut HeaderMap) {
    for (name, value) in HARDENED {
        // A route that says otherwise knows why: the key set may be kept a while.
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(hosts: &[&str]) -> Request {
        let mut request = Request::new(axum::body::Body::empty());
        for host in hosts {
            request.headers_mut().append(HOST, host.parse().unwrap());
        }
        request
    }

    fn judged(request: &Request, peer: &str, known: &[&str]) -> bool {
        let options = Options {
            hosts: known.iter().map(ToString::to_string).collect(),
            ..Options::default()
        };
        let peer = Peer(SocketAddr::new(peer.parse().unwrap(), 5));
        check_host(request, peer, &options).is_ok()
    }

    #[track_caller]
    fn check(host: &str, expect: bool) {
        assert_eq!(
            judged(&request(&[host]), "127.0.0.1", &["remit.internal"]),
            expect
        );
    }

    #[test]
    fn an_ip_literal_is_ours() {
        check("127.0.0.1", true);
        check("127.0.0.1:4190", true);
        check("[::1]:4190", true);
        check("10.0.0.7:4190", true);
    }

    #[test]
    fn localhost_is_ours() {
        check("localhost", true);
        check("LocalHost:4190", true);
    }

    #[test]
    fn a_configured_name_is_ours() {
        check("remit.internal:4190", true);
        check("REMIT.internal", true);
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        check("evil.example", false);
        check("evil.example:4190", false);
        check("localhost.evil.example", false);
        check("127.0.0.1.evil.example", false);
        check("remit.internal.evil.example", false);
    }

    #[test]
    fn odd_spellings_are_not_ours() {
        check("localhost.", false);
        check("0x7f.1", false);
        check("2130706433", false);
        check("127.1", false);
        check("evil@127.0.0.1", false);
        check("[127.0.0.1]", false);
        check("[::1", false);
        check("", false);
        check("127.0.0.1, evil.example", false);
    }

    #[test]
    fn no_host_or_two_are_refused() {
        assert!(!judged(&request(&[]), "127.0.0.1", &[]));
        assert!(!judged(
            &request(&["localhost", "localhost"]),
            "127.0.0.1",
            &[]
        ));
    }

    #[test]
    fn a_whole_url_must_agree_with_the_host() {
        let mut request = request(&["localhost"]);
        *request.uri_mut() = Uri::from_static("http://evil.example/v1/tasks");
        assert!(!judged(&request, "127.0.0.1", &[]));
        *request.uri_mut() = Uri::from_static("http://localhost/v1/tasks");
        assert!(judged(&request, "127.0.0.1", &[]));
    }

    #[test]
    fn from_elsewhere_any_name_reaches_a_gateway_that_lists_none() {
        assert!(judged(&request(&["remit:4190"]), "10.0.0.8", &[]));
    }

    #[test]
    fn from_elsewhere_only_listed_names_reach_a_gateway_that_lists_some() {
        assert!(!judged(&request(&["other"]), "10.0.0.8", &["remit"]));
        assert!(judged(&request(&["remit"]), "10.0.0.8", &["remit"]));
    }

    #[test]
    fn a_mapped_loopback_address_is_loopback() {
        assert!(!judged(
            &request(&["evil.example"]),
            "::ffff:127.0.0.1",
            &[]
        ));
    }

    #[track_caller]
    fn crosses(peer: &str, plaintext: Plaintext, expect: bool) {
        let peer = Peer(SocketAddr::new(peer.parse().unwrap(), 5));
        assert_eq!(check_plaintext(peer, plaintext).is_ok(), expect);
    }

    #[test]
    fn tokens_are_taken_from_this_machine() {
        crosses("127.0.0.9", Plaintext::Loopback, true);
        crosses("::1", Plaintext::Loopback, true);
        crosses("::ffff:127.0.0.1", Plaintext::Loopback, true);
    }

    #[test]
    fn tokens_are_taken_from_elsewhere_only_where_the_network_is_trusted() {
        crosses("10.0.0.8", Plaintext::Loopback, false);
        crosses("fe80::1", Plaintext::Loopback, false);
        crosses("10.0.0.8", Plaintext::Anywhere, true);
    }

    #[test]
    fn every_answer_is_hardened_and_none_says_cors() {
        let mut headers = HeaderMap::new();
        harden(&mut headers);
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }

    #[test]
    fn a_route_may_let_its_answer_be_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("max-age=60"),
        );
        harden(&mut headers);
        assert_eq!(headers["cache-control"], "max-age=60");
    }
}
