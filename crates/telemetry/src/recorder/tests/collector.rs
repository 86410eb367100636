//! A collector on a real socket, in several moods.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1 as logs;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1 as trace;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status};

use crate::OtlpProtocol;

/// How a collector behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mood {
    Well,
    Refusing,
    Silent,
}

/// What arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) spans: Vec<Span>,
    pub(super) events: Vec<LogRecord>,
    pub(super) metrics: Vec<String>,
    pub(super) services: Vec<String>,
}

/// A collector, up as long as it is held.
#[derive(Debug)]
pub(super) struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<Runtime>,
}

impl Collector {
    pub(super) fn start(protocol: OtlpProtocol, mood: Mood) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let inbox = Inbox {
            mood,
            seen: Arc::clone(&seen),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        match protocol {
            OtlpProtocol::HttpProtobuf => drop(runtime.spawn(serve_http(listener, inbox))),
            OtlpProtocol::Grpc => drop(runtime.spawn(serve_grpc(listener, inbox))),
        }
        drop(_inside);
        Self {
            address,
            seen,
            runtime: Some(runtime),
        }
    }

    /// A port on which nobody listens.
    pub(super) fn absent() -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        Self {
            address,
            seen: Arc::default(),
            runtime: None,
        }
    }

    pub(super) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Inbox {
    mood: Mood,
    seen: Arc<Mutex<Seen>>,
}

impl Inbox {
    fn traces(&self, request: trace::ExportTraceServiceRequest) {
        let mut seen = self.seen.lock();
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let service = attributes
                .into_iter()
                .find(|pair| pair.key == "service.name")
                .unwrap();
            let Some(Value::StringValue(name)) = service.value.unwrap().value else {
                panic!("no text")
            };
            seen.services.push(name);
            seen.spans.extend(
                resource
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans),
            );
        }
    }

    fn logs(&self, request: logs::ExportLogsServiceRequest) {
        let scopes = request
            .resource_logs
            .into_iter()
            .flat_map(|resource| resource.scope_logs);
        self.seen
            .lock()
            .events
            .extend(scopes.flat_map(|scope| scope.log_records));
    }

    fn metrics(&self, request: metrics::ExportMetricsServiceRequest) {
        let scopes = request
            .resource_metrics
            .into_iter()
            .flat_map(|resource| resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| scope.metrics);
        self.seen
            .lock()
            .metrics
            .extend(metrics.map(|metric| metric.name));
    }

    async fn receive(&self, take: impl FnOnce(&Self)) -> StatusCode {
        match self.mood {
            Mood::Well => {
                take(self);
                StatusCode::OK
            }
            Mood::Refusing => StatusCode::BAD_REQUEST,
            Mood::Silent => std::future::pending().await,
        }
    }
}

async fn serve_http(listener: tokio::net::TcpListener, inbox: Inbox) {
    async fn traces(State(inbox): State<Inbox>, body: Bytes) -> StatusCode {
        inbox
            .receive(|inbox| inbox.traces(Message::decode(body).unwrap()))
            .await
    }
    async fn logs(State(inbox): State<Inbox>, body: Bytes) -> StatusCode {
        inbox
            .receive(|inbox| inbox.logs(Message::decode(body).unwrap()))
            .await
    }
    async fn metrics(State(inbox): State<Inbox>, body: Bytes) -> StatusCode {
        inbox
            .receive(|inbox| inbox.metrics(Message::decode(body).unwrap()))
            .await
    }
    let routes = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/logs", post(logs))
        .route("/v1/metrics", post(metrics));
    axum::serve(listener, routes.with_state(inbox))
        .await
        .unwrap();
}

async fn serve_grpc(listener: tokio::net::TcpListener, inbox: Inbox) {
    tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(inbox.clone()))
        .add_service(LogsServiceServer::new(inbox.clone()))
        .add_service(MetricsServiceServer::new(inbox))
        .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener))
        .await
        .unwrap();
}

#[tonic::async_trait]
impl TraceService for Inbox {
    async fn export(
        &self,
        request: Request<trace::ExportTraceServiceRequest>,
    ) -> Result<Response<trace::ExportTraceServiceResponse>, Status> {
        self.traces(request.into_inner());
        Ok(Response::new(trace::ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Inbox {
    async fn export(
        &self,
        request: Request<logs::ExportLogsServiceRequest>,
    ) -> Result<Response<logs::ExportLogsServiceResponse>, Status> {
        self.logs(request.into_inner());
        Ok(Response::new(logs::ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Inbox {
    async fn export(
        &self,
        request: Request<metrics::ExportMetricsServiceRequest>,
    ) -> Result<Response<metrics::ExportMetricsServiceResponse>, Status> {
        self.metrics(request.into_inner());
        Ok(Response::new(
            metrics::ExportMetricsServiceResponse::default(),
        ))
    }
}
