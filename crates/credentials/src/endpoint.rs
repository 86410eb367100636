//! One careful client for all who give credentials: what is sent to them, and how much of an answer is believed.

use std::borrow::Cow;
use std::error::Error as _;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, StatusCode};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use crate::{ProviderError, Secret};

/// The largest answer that is read unless more is allowed, in bytes: more than any token, less than what fills memory.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// How often a server that asks for patience is asked.
const ATTEMPTS: usize = 3;

/// How long one waits before what failed is tried again; then thrice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The room for a JSON body, in bytes, so that it does not grow and leave copies behind.
const BODY_ROOM: usize = 8 * 1024;

/// Finds why a server says no, in its answer. What it returns is told, so it is one of the codes there are and never the
/// server's own text, which may repeat what it was sent.
pub(crate) type Reason = fn(&[u8]) -> Option<Cow<'static, str>>;

/// A server that gives credentials, at one address. Over TLS, or on this machine. Redirects are not followed.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    url: Url,
    authorities: Vec<CertificateDer<'static>>,
    client: Client,
    reason: Reason,
    max_bytes: usize,
}

/// What is sent to it.
pub(crate) struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
    identity: Option<Identity>,
}

/// A form that is posted.
pub(crate) struct Form {
    pub(crate) body: Zeroizing<String>,
    pub(crate) authorization: Option<HeaderValue>,
    /// The certificate that is shown on the connection.
    pub(crate) identity: Option<Identity>,
}

/// What it answers, whatever that is.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) document: Zeroizing<Vec<u8>>,
}

/// What came of one attempt.
enum Outcome {
    Answered(Answered),
    /// Refused, but not for good: after so long it may be asked again.
    Later(StatusCode, Duration),
}

impl Endpoint {
    /// `authorities` vouch for it; the system's roots, if there are none.
    pub(crate) fn new(url: Url, authorities: &[CertificateDer<'static>]) -> Result<Self, String> {
        if !identity::is_trustworthy(&url) {
            return Err(format!("`{url}` is neither https nor on this machine"));
        }
        // Whoever is asked first may be asked before any key was read.
        identity::install_crypto();
        let client = client(&url, authorities, None).map_err(|error| causes(&error))?;
        Ok(Self {
            client,
            authorities: authorities.to_vec(),
            url,
            reason: oauth_reason,
            max_bytes: MAX_BYTES,
        })
    }

    /// Where its refusals say why; as an authorization server does (RFC 6749, section 5.2) unless given.
    pub(crate) fn with_reason(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    /// The largest answer that is read, in bytes; 64 KiB unless given.
    pub(crate) fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Posts a form until it is answered with 200, as long as the server asks for patience and there is some.
    ///
    /// The form is made anew each time, since what is in it may be good only once.
    pub(crate) async fn post<F>(
        &self,
        deadline: Instant,
        form: impl Fn() -> F,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError>
    where
        F: Future<Output = Result<Form, ProviderError>>,
    {
        let request = async || form().await.map(Form::request);
        let answered = self.ask(deadline, request).await?;
        self.accept(answered, &[StatusCode::OK])
    }

    /// Asks until there is an answer, as long as the server asks for patience and there is some. An answer of any status is
    /// one; [`Endpoint::accept`] tells which are good.
    ///
    /// The request is made anew each time, since what is in it may be good only once.
    pub(crate) async fn ask<F>(
        &self,
        deadline: Instant,
        request: impl Fn() -> F,
    ) -> Result<Answered, ProviderError>
    where
        F: Future<Output = Result<Request, ProviderError>>,
    {
        let mut refused = StatusCode::TOO_MANY_REQUESTS;
        for _ in 0..ATTEMPTS {
            let request = timeout_at(deadline, request()).await;
            let request = request.map_err(|_| self.failed("could not be asked in time"))??;
            let attempt = timeout_at(deadline, self.attempt(request)).await;
            match attempt.map_err(|_| self.failed("does not answer in time").lost())?? {
                Outcome::Answered(answered) => return Ok(answered),
                Outcome::Later(status, wait) if Instant::now() + wait < deadline => {
                    refused = status;
                    sleep(wait).await;
                }
                Outcome::Later(status, _) => {
                    return Err(self.failed(&format!("answers {status} and asks for more time")));
                }
            }
        }
        Err(self.failed(&format!("answers {refused} again and again")))
    }

    /// Asks again and again until the answer is good or the time is over: for what should not be left undone.
    pub(crate) async fn insist<F>(
        &self,
        deadline: Instant,
        request: impl Fn() -> F,
        good: &[StatusCode],
    ) -> Result<(), ProviderError>
    where
        F: Future<Output = Result<Request, ProviderError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let answered = self.ask(deadline, &request).await;
            let Err(error) = answered.and_then(|answered| self.accept(answered, good)) else {
                return Ok(());
            };
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
            pause *= 3;
        }
    }

    /// The document of an answer with one of these statuses; an error with the server's reason for any other.
    pub(crate) fn accept(
        &self,
        answered: Answered,
        good: &[StatusCode],
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        if good.contains(&answered.status) {
            return Ok(answered.document);
        }
        let reason = (self.reason)(&answered.document);
        let reason = reason.map_or_else(String::new, |reason| format!(" `{reason}`"));
        let error = self.failed(&format!("answers {}{reason}", answered.status));
        match answered.status {
            // Who stands in between got no answer.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Err(error.lost()),
            _ => Err(error),
        }
    }

    async fn attempt(&self, request: Request) -> Result<Outcome, ProviderError> {
        let silent = |error: reqwest::Error| {
            let was_asked = !(error.is_connect() || error.is_builder());
            let causes = causes(&error.without_url());
            let error = self.failed(&format!("does not answer: {causes}"));
            if was_asked { error.lost() } else { error }
        };
        let url = request.url(&self.url);
        let url = url.ok_or_else(|| self.failed("is asked for a path that is none"))?;
        let client = match request.identity {
            // In plain text there is nobody to show it to: it would not be known who asks.
            Some(_) if self.url.scheme() != "https" => {
                return Err(self.failed("can't be shown a certificate: it is not https"));
            }
            Some(identity) => client(&self.url, &self.authorities, Some(identity))
                .map_err(|error| self.failed(&format!("can't be asked: {}", causes(&error))))?,
            None => self.client.clone(),
        };
        let mut sent = client.request(request.method, url);
        if !request.headers.contains_key(ACCEPT) {
            sent = sent.header(ACCEPT, "application/json");
        }
        sent = sent.headers(request.headers);
        if !request.body.is_empty() {
            sent = sent.body(request.body.to_vec());
        }
        let mut response = sent.send().await.map_err(silent)?;
        let status = response.status();
        // GitHub says 403 where RFC 6585 has 429.
        let is_busy = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::FORBIDDEN
        );
        if is_busy && let Some(wait) = response.headers().get(RETRY_AFTER).and_then(seconds) {
            return Ok(Outcome::Later(status, wait));
        }
        // All the room at once: a buffer that grows leaves copies behind.
        let mut document = Zeroizing::new(Vec::with_capacity(self.max_bytes));
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if document.len() + chunk.len() > self.max_bytes {
                let most = self.max_bytes / 1024;
                let error = self.failed(&format!("answers with more than {most} KiB"));
                return Err(error.lost());
            }
            document.extend_from_slice(&chunk);
        }
        Ok(Outcome::Answered(Answered { status, document }))
    }

    pub(crate) fn failed(&self, problem: &str) -> ProviderError {
        ProviderError::Failed(format!("`{}` {problem}", self.url))
    }
}

impl Form {
    /// The request that posts it.
    pub(crate) fn request(self) -> Request {
        let mut request = Request::new(Method::POST).form(&self.body);
        request.identity = self.identity;
        match self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }
}

impl Request {
    /// A request without body to the endpoint's own address.
    pub(crate) fn new(method: Method) -> Self {
        Self {
            method,
            path: Vec::new(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Zeroizing::new(Vec::new()),
            identity: None,
        }
    }

    /// Beneath the endpoint's address; each segment is encoded, and one that is empty, `.` or `..` is refused.
    pub(crate) fn at(mut self, segments: &[&str]) -> Self {
        self.path
            .extend(segments.iter().map(|one| (*one).to_owned()));
        self
    }

    /// Adds a pair to the query, where no secret belongs.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets a header that holds a secret after a prefix, such as `Bearer `.
    #[expect(
        clippy::disallowed_methods,
        reason = "to show it to the server that it is for"
    )]
    pub(crate) fn secret_header(
        self,
        name: HeaderName,
        prefix: &str,
        secret: &Secret,
    ) -> Result<Self, ProviderError> {
        let text = Zeroizing::new([prefix.as_bytes(), secret.expose()].concat());
        let value = HeaderValue::from_bytes(&text);
        let mut value =
            value.map_err(|_| ProviderError::Failed("secret does not fit a header".to_owned()))?;
        value.set_sensitive(true);
        Ok(self.header(name, value))
    }

    /// Shows a token (RFC 6750, section 2.1).
    pub(crate) fn bearer(self, token: &Secret) -> Result<Self, ProviderError> {
        self.secret_header(AUTHORIZATION, "Bearer ", token)
    }

    /// Gives it a form as its body.
    pub(crate) fn form(self, form: &str) -> Self {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.body(kind, Zeroizing::new(form.as_bytes().to_vec()))
    }

    /// Gives it a JSON document as its body.
    pub(crate) fn json(self, document: &impl Serialize) -> Result<Self, ProviderError> {
        let mut body = Zeroizing::new(Vec::with_capacity(BODY_ROOM));
        serde_json::to_writer(&mut *body, document)
            .map_err(|_| ProviderError::Failed("request can't be written as JSON".to_owned()))?;
        Ok(self.body(HeaderValue::from_static("application/json"), body))
    }

    /// Gives it a body.
    pub(crate) fn body(mut self, kind: HeaderValue, body: Zeroizing<Vec<u8>>) -> Self {
        self.body = body;
        self.header(CONTENT_TYPE, kind)
    }

    /// None if a segment would lead elsewhere.
    fn url(&self, base: &Url) -> Option<Url> {
        let leads_away = |segment: &String| matches!(segment.as_str(), "" | "." | "..");
        if self.path.iter().any(leads_away) {
            return None;
        }
        let mut url = base.clone();
        if !self.path.is_empty() {
            // An address with a slash at its end gets no second one.
            let mut path = url.path_segments_mut().ok()?;
            path.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Some(url)
    }
}

/// Where it goes; headers and body may hold secrets.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn client(
    url: &Url,
    authorities: &[CertificateDer<'static>],
    identity: Option<Identity>,
) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .redirect(Policy::none())
        // A connection kept open would belong to whichever runtime asked first.
        .pool_max_idle_per_host(0);
    // What is sent in the clear stays on this machine: no proxy may see it, and no roots are needed.
    let builder = match url.scheme() {
        "http" => builder.no_proxy().tls_certs_only([]),
        _ if authorities.is_empty() => builder,
        _ => {
            let authorities = authorities.iter().map(|one| Certificate::from_der(one));
            builder.tls_certs_only(authorities.collect::<reqwest::Result<Vec<_>>>()?)
        }
    };
    match identity {
        Some(identity) => builder.identity(identity).build(),
        None => builder.build(),
    }
}

/// RFC 9110, section 10.2.3; of its two forms the one that needs no clocks that agree.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds = value.to_str().ok()?.trim().parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// A code at a pointer of a JSON document, if it is one of those that are known.
pub(crate) fn known_code(
    document: &[u8],
    pointer: &str,
    known: &'static [&'static str],
) -> Option<Cow<'static, str>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let said = document.pointer(pointer)?.as_str()?;
    let code = known.iter().find(|known| **known == said)?;
    Some(Cow::Borrowed(*code))
}

/// Why an authorization server says no.
pub(crate) fn oauth_reason(document: &[u8]) -> Option<Cow<'static, str>> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    // RFC 6749, section 5.2; RFC 8707, section 2; RFC 7009, section 2.2.1.
    const KNOWN: [&str; 9] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "unsupported_token_type",
        "temporarily_unavailable",
    ];
    let refusal: Refusal = serde_json::from_slice(document).ok()?;
    let code = KNOWN.into_iter().find(|known| *known == refusal.error)?;
    Some(Cow::Borrowed(code))
}

/// The causes of an error, since reqwest's own text leaves out why.
fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if causes.is_empty() {
        return "unknown".to_owned();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_url(base: &str, request: &Request, expect: Option<&str>) {
        let url = request.url(&base.parse().unwrap());
        assert_eq!(url.as_ref().map(Url::as_str), expect);
    }

    fn at(segments: &[&str]) -> Request {
        Request::new(Method::GET).at(segments)
    }

    #[test]
    fn a_request_goes_to_the_address_or_beneath_it() {
        let none = Request::new(Method::GET);
        check_url(
            "https://a.example/token",
            &none,
            Some("https://a.example/token"),
        );
        check_url(
            "https://a.example",
            &at(&["b", "c"]),
            Some("https://a.example/b/c"),
        );
        check_url(
            "https://a.example/v3/",
            &at(&["b"]),
            Some("https://a.example/v3/b"),
        );
        check_url(
            "https://a.example/v3",
            &at(&["b"]),
            Some("https://a.example/v3/b"),
        );
    }
    #[test]
    fn a_segment_reaches_nowhere_else() {
        for (segment, expect) in [
            ("b/c", Some("https://a.example/v3/b%2Fc")),
            ("b?c#d", Some("https://a.example/v3/b%3Fc%23d")),
            ("%2e%2e", Some("https://a.example/v3/%252e%252e")),
            ("..", None),
            (".", None),
            ("", None),
        ] {
            check_url("https://a.example/v3", &at(&[segment]), expect);
        }
    }
    #[test]
    fn a_query_is_encoded() {
        let asked = at(&["b"]).query("list", "a&b=c");
        check_url(
            "https://a.example",
            &asked,
            Some("https://a.example/b?list=a%26b%3Dc"),
        );
    }
    #[test]
    fn only_a_known_code_is_told() {
        let code =
            |document: &str| known_code(document.as_bytes(), "/error/status", &["NOT_FOUND"]);
        assert_eq!(
            code(r#"{"error":{"status":"NOT_FOUND"}}"#).as_deref(),
            Some("NOT_FOUND")
        );
        for other in [
            r#"{"error":{"status":"s3cr3t"}}"#,
            r#"{"error":"NOT_FOUND"}"#,
            "NOT_FOUND",
            "{",
        ] {
            assert_eq!(code(other), None);
        }
    }
    #[test]
    fn headers_with_secrets_are_in_no_debug_text() {
        let token = Secret::new(b"s3cr3t".to_vec()).unwrap();
        let request = Request::new(Method::GET).bearer(&token).unwrap();
        assert!(!format!("{request:?}").contains("s3cr3t"));
    }
    #[test]
    fn plain_text_is_for_this_machine() {
        for (url, taken) in [
            ("https://a.example/", true),
            ("http://127.0.0.1:1/", true),
            ("http://a.example/", false),
            ("ftp://a.example/", false),
        ] {
            assert_eq!(
                Endpoint::new(url.parse().unwrap(), &[]).is_ok(),
                taken,
                "{url}"
            );
        }
    }
}
