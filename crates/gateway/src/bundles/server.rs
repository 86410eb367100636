//! A server of bundles, as OPA's bundle API has it: `If-None-Match` and `ETag`, `Prefer: wait` for long polling.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode};

use crate::bundles::Problem;
use crate::config::{Polling, ServiceConfig};

/// How long an answer may take, besides the time that the server may wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// The type of the answers of a server that can wait.
const LONG_POLLING: &str = "application/vnd.openpolicyagent.bundles";

/// A server of one bundle.
#[derive(Debug)]
pub(crate) struct Server {
    service: ServiceConfig,
    pub(super) polling: Polling,
    client: Client,
}

/// What a server said.
#[derive(Debug)]
pub(super) struct Answer {
    /// Another bundle than the one that is known.
    pub(super) new: Option<New>,
    /// Whether it waits for something new before it answers.
    pub(super) waits: bool,
}

/// A bundle that came.
#[derive(Debug)]
pub(super) struct New {
    pub(super) archive: Vec<u8>,
    pub(super) etag: Option<String>,
}

/// A client for one service of a control plane. What is spoken to in the clear is on this machine.
pub(crate) fn client(service: &ServiceConfig) -> Result<Client, String> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .timeout(PATIENCE)
        .user_agent(concat!("remit/", env!("CARGO_PKG_VERSION")));
    let builder = match &service.ca {
        Some(path) => {
            let told = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| told(&error))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| told(&error))?;
            builder.tls_certs_only(certificates)
        }
        None if service.url.scheme() == "http" => builder.no_proxy().tls_certs_only([]),
        None => builder,
    };
    builder.build().map_err(|error| causes(&error))
}

/// The request with the service's token.
pub(crate) async fn with_token(
    request: RequestBuilder,
    service: &ServiceConfig,
) -> Result<RequestBuilder, Problem> {
    let Some(token) = &service.token else {
        return Ok(request);
    };
    let token = token.read_document().await.map_err(|error| {
        let message = format!("its token can't be read: {error}");
        Problem::new("bundle-token", message)
    })?;
    let token = String::from_utf8_lossy(token.trim_ascii()).into_owned();
    Ok(request.bearer_auth(zeroize::Zeroizing::new(token).as_str()))
}

impl Server {
    pub(super) fn new(service: &ServiceConfig, polling: Polling) -> Result<Self, String> {
        Ok(Self {
            service: service.clone(),
            polling,
            client: client(service)?,
        })
    }

    /// The address, as it is shown.
    pub(super) fn shown(&self) -> &str {
        self.service.url.as_str()
    }

    /// Asks for the bundle; `known` is the tag of the last that came.
    pub(super) async fn ask(&self, known: Option<&str>, waits: bool) -> Result<Answer, Problem> {
        let mut request = self
            .client
            .get(self.service.url.clone())
            .header(ACCEPT, "application/gzip, application/octet-stream, */*");
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let wait = self.polling.long_polling.filter(|_| waits);
        let prefer = match wait {
            Some(wait) => format!("modes=snapshot;wait={}", wait.as_secs().max(1)),
            None => "modes=snapshot".to_owned(),
        };
        request = request
            .header("prefer", prefer)
            .timeout(PATIENCE + wait.unwrap_or_default());
        let request = with_token(request, &self.service).await?;
        let mut response = request.send().await.map_err(|error| silent(&error))?;
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let etag = header(ETAG);
        let waits = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with(LONG_POLLING));
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(Answer { new: None, waits }),
            status => return Err(Problem::of_status(status)),
        }
        let mut archive = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| silent(&error))? {
            if archive.len() + chunk.len() > policy::LONGEST_ARCHIVE {
                let message = "the server sends more than 16 MiB";
                return Err(Problem::new("bundle-too-large", message));
            }
            archive.extend_from_slice(&chunk);
        }
        let new = Some(New { archive, etag });
        Ok(Answer { new, waits })
    }
}

fn silent(error: &reqwest::Error) -> Problem {
    let message = format!("the server does not answer: {}", causes(error));
    Problem::new("bundle-server", message)
}

/// An error with its causes, since reqwest's own text leaves out why.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if causes.is_empty() {
        return error.to_string();
    }
    causes.join(": ")
}
