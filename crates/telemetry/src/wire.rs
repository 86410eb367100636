//! The wire of one signal to the collector: ready requests, sent until they are taken or time is up.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use crate::{Otlp, OtlpProtocol, StartError};

mod grpc;
mod headers;
mod http;

pub(crate) use self::http::client;

use self::grpc::Grpc;
use self::http::Http;

/// How long a collector may take for one request, retries included. The queue fills meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The pauses before a request is sent again, each a bit longer by chance: what the SDK's exporters do.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// What one signal is called, on each wire and in the environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    http: &'static str,
    grpc: &'static str,
    headers: &'static str,
}

/// Spans.
pub(crate) const TRACES: Service = Service {
    http: "traces",
    grpc: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    headers: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
};

/// Events.
pub(crate) const LOGS: Service = Service {
    http: "logs",
    grpc: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    headers: "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
};

/// The wire of one signal.
#[derive(Debug)]
pub(crate) enum Wire {
    Http(Http),
    Grpc(Grpc),
}

/// Why a request wasn't taken. The text holds no secret: neither what was sent nor what was answered.
#[derive(Debug, Eq, PartialEq)]
struct Failure {
    text: String,
    /// It may be taken when it is sent again, after this long at the soonest.
    passing: Option<Duration>,
}

impl Wire {
    /// Connects when it first sends. Needs a tokio runtime around it.
    pub(crate) fn new(
        otlp: &Otlp,
        client: &reqwest::Client,
        service: Service,
    ) -> Result<Self, StartError> {
        let headers = headers::of_environment(service.headers);
        Ok(match otlp.protocol {
            OtlpProtocol::HttpProtobuf => {
                let url = otlp.endpoint.signal(service.http);
                Self::Http(Http::new(client.clone(), &url, headers)?)
            }
            OtlpProtocol::Grpc => Self::Grpc(Grpc::new(&otlp.endpoint, service.grpc, headers)?),
        })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// The last failure, when the collector didn't take it in time.
    pub(crate) async fn send(&self, request: Bytes) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        tokio::time::timeout_at(deadline, self.insist(request, deadline))
            .await
            .unwrap_or_else(|_| Err("the collector is too slow".to_owned()))
    }

    async fn insist(&self, request: Bytes, deadline: Instant) -> Result<(), String> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let failure = match self.send_once(request.clone()).await {
                Ok(answer) => {
                    notice(&answer);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let pause = failure
                .passing
                .zip(pauses.next())
                .map(|(least, pause)| pause.max(least).saturating_add(jitter()))
                .filter(|pause| *pause < left);
            let Some(pause) = pause else {
                return Err(failure.text);
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn send_once(&self, request: Bytes) -> Result<Bytes, Failure> {
        match self {
            Self::Http(http) => http.send(request).await,
            Self::Grpc(grpc) => grpc.send(request).await,
        }
    }
}

/// Up to 100 ms, so that many gateways don't come back at once.
fn jitter() -> Duration {
    let chance = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs();
    Duration::from_millis(u64::from(chance % 100))
}

/// `ExportTraceServiceResponse` and `ExportLogsServiceResponse`, which differ in names alone.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    reason: String,
}

/// Says what the collector took only a part of; OTLP forbids to send that again.
fn notice(answer: &[u8]) {
    let answer = Answer::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    if partial.rejected > 0 || !partial.reason.is_empty() {
        let PartialSuccess { rejected, reason } = partial;
        tracing::warn!(rejected, reason, "collector did not take everything");
    }
}

/// An error and its causes, of which the first alone says little: `error sending request`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
