//! OTLP over HTTP: `POST` with protobuf.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::Response;
use url::Url;

use super::{Failure, PATIENCE, chain, headers};
use crate::StartError;

/// The most that an answer may have, as with the SDK's exporters. It usually has nothing.
const LONGEST_ANSWER: usize = 4 << 20;

/// One signal's address, and what is asked there with every request.
#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
}

/// The client of all signals.
pub(crate) fn client() -> Result<reqwest::Client, StartError> {
    // No proxy: the environment's may well be this gateway. No redirect: OTLP knows none.
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| StartError(format!("no client for the collector: {e}")))
}

impl Http {
    pub(super) fn new(
        client: reqwest::Client,
        url: &str,
        given: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Self, StartError> {
        let url = Url::parse(url)
            .map_err(|e| StartError(format!("the collector's address can't be used: {e}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        headers.insert(USER_AGENT, headers::USER_AGENT);
        for (name, value) in given {
            headers.insert(name, value);
        }
        Ok(Self {
            client,
            url,
            headers,
        })
    }

    pub(super) async fn send(&self, request: Bytes) -> Result<Bytes, Failure> {
        let sent = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .body(request)
            .send();
        let answer = sent.await.map_err(network)?;
        let status = answer.status();
        if status.is_success() {
            return body(answer).await;
        }
        Err(Failure {
            text: format!("the collector answered {}", status.as_u16()),
            passing: passing(status, answer.headers()),
        })
    }
}

/// The statuses that OTLP says may pass, and the delay in seconds that the collector may ask for with them.
fn passing(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Some(Duration::ZERO),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let delay = headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Some(Duration::from_secs(delay.unwrap_or_default()))
        }
        _ => None,
    }
}

async fn body(mut answer: Response) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(network)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(Failure {
                text: "the collector's answer is too long".to_owned(),
                passing: None,
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The collector wasn't reached, or not to the end.
fn network(error: reqwest::Error) -> Failure {
    Failure {
        text: chain(&error.without_url()),
        passing: Some(Duration::ZERO),
    }
}
