//! An OpenTelemetry collector that keeps what it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::logs::v1 as logs_service;
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics_service;
use opentelemetry_proto::tonic::collector::trace::v1 as trace_service;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use parking_lot::Mutex;
use prost::Message;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::Serving;

/// An OpenTelemetry collector: OTLP over HTTP with protobuf, and over gRPC. It keeps what it is sent, decoded.
#[derive(Debug)]
pub struct Collector {
    http: String,
    grpc: String,
    kept: Arc<Kept>,
    _serving: [Serving; 2],
}

/// How a collector answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    /// As it should.
    Well,
    /// 503, gRPC `UNAVAILABLE`; nothing is kept.
    Down,
    /// As it should, after a while.
    Slow(Duration),
}

#[derive(Debug)]
struct Kept {
    mood: Mutex<Mood>,
    requests: AtomicUsize,
    spans: Mutex<Vec<ResourceSpans>>,
    logs: Mutex<Vec<ResourceLogs>>,
    metrics: Mutex<Vec<ResourceMetrics>>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let kept = Arc::new(Kept {
            mood: Mutex::new(Mood::Well),
            requests: AtomicUsize::new(0),
            spans: Mutex::default(),
            logs: Mutex::default(),
            metrics: Mutex::default(),
        });
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        Self {
            http: url(&http),
            grpc: url(&grpc),
            _serving: [
                Serving::spawn(serve_http(http, Arc::clone(&kept))),
                Serving::spawn(serve_grpc(grpc, Arc::clone(&kept))),
            ],
            kept,
        }
    }

    /// Where it takes OTLP over HTTP, without `/v1/…`.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Where it takes OTLP over gRPC.
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// Answers like this from now on.
    pub fn mood(&self, mood: Mood) {
        *self.kept.mood.lock() = mood;
    }

    /// How many exports reached it, kept or not.
    pub fn requests(&self) -> usize {
        self.kept.requests.load(Ordering::SeqCst)
    }

    /// All spans with their resources.
    pub fn resource_spans(&self) -> Vec<ResourceSpans> {
        self.kept.spans.lock().clone()
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        let scopes = self
            .resource_spans()
            .into_iter()
            .flat_map(|of| of.scope_spans);
        scopes.flat_map(|of| of.spans).collect()
    }

    /// All log records.
    pub fn logs(&self) -> Vec<LogRecord> {
        let resources = self.kept.logs.lock().clone();
        let scopes = resources.into_iter().flat_map(|of| of.scope_logs);
        scopes.flat_map(|of| of.log_records).collect()
    }

    /// All metrics, as often as they were sent.
    pub fn metrics(&self) -> Vec<Metric> {
        let resources = self.kept.metrics.lock().clone();
        let scopes = resources.into_iter().flat_map(|of| of.scope_metrics);
        scopes.flat_map(|of| of.metrics).collect()
    }

    /// Waits until it is so.
    pub async fn until(&self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Attributes as plain JSON.
pub fn attributes(pairs: &[KeyValue]) -> Map<String, Value> {
    let pairs = pairs
        .iter()
        .map(|pair| (pair.key.clone(), value(pair.value.as_ref())));
    pairs.collect()
}

fn value(any: Option<&AnyValue>) -> Value {
    match any.and_then(|any| any.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(truth)) => json!(truth),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::ArrayValue(array)) => {
            array.values.iter().map(|any| value(Some(any))).collect()
        }
        Some(any_value::Value::KvlistValue(list)) => Value::Object(attributes(&list.values)),
        Some(any_value::Value::BytesValue(bytes)) => json!(bytes),
        Some(_) | None => Value::Null,
    }
}

impl Kept {
    /// Whether an export is taken, after whatever wait.
    async fn takes(&self) -> bool {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock();
        match mood {
            Mood::Well => true,
            Mood::Down => false,
            Mood::Slow(after) => {
                tokio::time::sleep(after).await;
                true
            }
        }
    }

    fn keep_spans(&self, request: trace_service::ExportTraceServiceRequest) {
        self.spans.lock().extend(request.resource_spans);
    }

    fn keep_logs(&self, request: logs_service::ExportLogsServiceRequest) {
        self.logs.lock().extend(request.resource_logs);
    }

    fn keep_metrics(&self, request: metrics_service::ExportMetricsServiceRequest) {
        self.metrics.lock().extend(request.resource_metrics);
    }
}

async fn serve_http(listener: TcpListener, kept: Arc<Kept>) {
    let traces = async |State(kept): State<Arc<Kept>>, body: Bytes| {
        take(&kept, &body, Kept::keep_spans).await
    };
    let logs = async |State(kept): State<Arc<Kept>>, body: Bytes| {
        take(&kept, &body, Kept::keep_logs).await
    };
    let metrics = async |State(kept): State<Arc<Kept>>, body: Bytes| {
        take(&kept, &body, Kept::keep_metrics).await
    };
    let routes = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/logs", post(logs))
        .route("/v1/metrics", post(metrics))
        .layer(DefaultBodyLimit::disable())
        .with_state(kept);
    axum::serve(listener, routes).await.unwrap();
}

async fn take<M: Message + Default>(
    kept: &Kept,
    body: &Bytes,
    keep: impl FnOnce(&Kept, M),
) -> Response {
    if !kept.takes().await {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match M::decode(&**body) {
        Ok(request) => {
            keep(kept, request);
            // An empty message: nothing was rejected.
            ([(CONTENT_TYPE, "application/x-protobuf")], Bytes::new()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn serve_grpc(listener: TcpListener, kept: Arc<Kept>) {
    let traces =
        trace_service::trace_service_server::TraceServiceServer::new(Grpc(Arc::clone(&kept)));
    let logs = logs_service::logs_service_server::LogsServiceServer::new(Grpc(Arc::clone(&kept)));
    let metrics = metrics_service::metrics_service_server::MetricsServiceServer::new(Grpc(kept));
    let server = Server::builder()
        .add_service(traces)
        .add_service(logs)
        .add_service(metrics);
    server
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
        .unwrap();
}

/// The three services of OTLP over gRPC.
#[derive(Debug)]
struct Grpc(Arc<Kept>);

impl Grpc {
    async fn take<M, R: Default>(
        &self,
        request: tonic::Request<M>,
        keep: impl FnOnce(&Kept, M),
    ) -> Result<tonic::Response<R>, tonic::Status> {
        if !self.0.takes().await {
            return Err(tonic::Status::unavailable("down, as asked"));
        }
        keep(&self.0, request.into_inner());
        Ok(tonic::Response::new(R::default()))
    }
}

#[tonic::async_trait]
impl trace_service::trace_service_server::TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<trace_service::ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<trace_service::ExportTraceServiceResponse>, tonic::Status> {
        self.take(request, Kept::keep_spans).await
    }
}

#[tonic::async_trait]
impl logs_service::logs_service_server::LogsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<logs_service::ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<logs_service::ExportLogsServiceResponse>, tonic::Status> {
        self.take(request, Kept::keep_logs).await
    }
}

#[tonic::async_trait]
impl metrics_service::metrics_service_server::MetricsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<metrics_service::ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<metrics_service::ExportMetricsServiceResponse>, tonic::Status> {
        self.take(request, Kept::keep_metrics).await
    }
}

#[cfg(test)]
mod tests;
