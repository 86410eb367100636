//! One address of an authorization server: what is posted to it, and how much of an answer is believed.

use std::error::Error as _;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, StatusCode};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use crate::ProviderError;

/// The largest answer that is read, in bytes: more than any token, less than what fills memory.
const MAX_BYTES: usize = 64 * 1024;

/// How often a server that asks for patience is asked.
const ATTEMPTS: usize = 3;

/// One address of an authorization server. Over TLS, or on this machine.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: Url,
    authorities: Vec<CertificateDer<'static>>,
    client: Client,
}

/// What is posted.
pub(super) struct Form {
    pub(super) body: Zeroizing<String>,
    pub(super) authorization: Option<HeaderValue>,
    /// The certificate that is shown on the connection.
    pub(super) identity: Option<Identity>,
}

/// What came of one attempt.
enum Outcome {
    Answered(Zeroizing<Vec<u8>>),
    /// Refused, but not for good: after so long it may be asked again.
    Later(StatusCode, Duration),
}

impl Endpoint {
    pub(super) fn new(url: Url, authorities: &[CertificateDer<'static>]) -> Result<Self, String> {
        if !identity::is_trustworthy(&url) {
            return Err(format!("`{url}` is neither https nor on this machine"));
        }
        let client = client(&url, authorities, None).map_err(|error| causes(&error))?;
        let authorities = authorities.to_vec();
        Ok(Self {
            url,
            authorities,
            client,
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Posts a form until it is answered with 200, as long as the server asks for patience and there is some.
    ///
    /// The form is made anew each time, since what is in it may be good only once.
    pub(super) async fn post<F>(
        &self,
        deadline: Instant,
        form: impl Fn() -> F,
    ) -> Result<Zeroizing<Vec<u8>>, ProviderError>
    where
        F: Future<Output = Result<Form, ProviderError>>,
    {
        let mut refused = StatusCode::TOO_MANY_REQUESTS;
        for _ in 0..ATTEMPTS {
            let form = form().await?;
            let attempt = timeout_at(deadline, self.attempt(form)).await;
            match attempt.map_err(|_| self.failed("does not answer in time"))?? {
                Outcome::Answered(document) => return Ok(document),
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

    async fn attempt(&self, form: Form) -> Result<Outcome, ProviderError> {
        let silent = |error: reqwest::Error| {
            self.failed(&format!(
                "does not answer: {}",
                causes(&error.without_url())
            ))
        };
        let client = match form.identity {
            // In plain text there is nobody to show it to: it would not be known who asks.
            Some(_) if self.url.scheme() != "https" => {
                return Err(self.failed("takes no certificate: it is not https"));
            }
            Some(identity) => client(&self.url, &self.authorities, Some(identity))
                .map_err(|error| self.failed(&format!("can't be asked: {}", causes(&error))))?,
            None => self.client.clone(),
        };
        let request = client
            .post(self.url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.body.as_bytes().to_vec());
        let request = match form.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        };
        let mut response = request.send().await.map_err(silent)?;
        let status = response.status();
        let is_busy = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        if is_busy && let Some(wait) = response.headers().get(RETRY_AFTER).and_then(seconds) {
            return Ok(Outcome::Later(status, wait));
        }
        // All the room at once: a buffer that grows leaves copies behind.
        let mut document = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if document.len() + chunk.len() > MAX_BYTES {
                return Err(self.failed("answers with more than 64 KiB"));
            }
            document.extend_from_slice(&chunk);
        }
        if status == StatusCode::OK {
            return Ok(Outcome::Answered(document));
        }
        let code = error_code(&document).map_or_else(String::new, |code| format!(" `{code}`"));
        Err(self.failed(&format!("answers {status}{code}")))
    }

    pub(super) fn failed(&self, problem: &str) -> ProviderError {
        ProviderError::Failed(format!("`{}` {problem}", self.url))
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

/// Why a server says no, if that is one of the reasons there are: any other text may repeat what it was sent.
fn error_code(document: &[u8]) -> Option<&'static str> {
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
    KNOWN.into_iter().find(|known| *known == refusal.error)
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
