//! Both wires, with a collector behind them that answers as it is told.
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status};

use super::{Grpc, Http, TRACES, Wire, client};

/// What arrived, and what is answered, in turn; what comes after that is taken.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    statuses: Arc<Mutex<Vec<StatusCode>>>,
    codes: Arc<Mutex<Vec<Code>>>,
}

impl Collector {
    fn answering<T>(answers: &[T]) -> (Self, Vec<T>)
    where
        T: Clone,
    {
        (Self::default(), answers.iter().rev().cloned().collect())
    }

    async fn http(statuses: &[StatusCode]) -> (Self, Wire) {
        let (collector, statuses) = Self::answering(statuses);
        *collector.statuses.lock() = statuses;
        let (listener, address) = listen().await;
        let routes = Router::new().route("/base/v1/traces", post(take));
        let routes = routes.with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = format!("http://{address}/base/v1/traces");
        let http = Http::new(client().unwrap(), &url, headers()).unwrap();
        (collector, Wire::Http(http))
    }

    async fn grpc(codes: &[Code]) -> (Self, Wire) {
        let (collector, codes) = Self::answering(codes);
        *collector.codes.lock() = codes;
        let (listener, address) = listen().await;
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let serving = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(incoming);
        tokio::spawn(serving);
        let endpoint = format!("http://{address}").parse().unwrap();
        let grpc = Grpc::new(&endpoint, TRACES.grpc, headers()).unwrap();
        (collector, Wire::Grpc(grpc))
    }

    fn seen(&self) -> Vec<(HeaderMap, Bytes)> {
        self.requests.lock().clone()
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn take(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, &'static str) {
    collector.requests.lock().push((headers, body));
    let status = collector.statuses.lock().pop().unwrap_or(StatusCode::OK);
    let mut headers = HeaderMap::new();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let forever = HeaderValue::from(u64::MAX);
        headers.insert(http::header::RETRY_AFTER, forever);
    }
    (status, headers, "Bearer echoed")
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let body = message.encode_to_vec().into();
        self.requests.lock().push((metadata.into_headers(), body));
        match self.codes.lock().pop() {
            Some(code) => Err(Status::new(code, "Bearer echoed")),
            None => Ok(Response::new(ExportTraceServiceResponse::default())),
        }
    }
}

/// What the environment may give.
fn headers() -> Vec<(HeaderName, HeaderValue)> {
    [("x-api-key", "k"), ("user-agent", "mine")]
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .to_vec()
}

/// A request with one empty span list.
fn request() -> Bytes {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![Default::default()],
    };
    request.encode_to_vec().into()
}

/// How often it was sent, and what came of it.
async fn check((collector, wire): (Collector, Wire), times: usize, expect: Result<(), &str>) {
    let outcome = wire.send(request()).await;
    assert_eq!(outcome, expect.map_err(str::to_owned));
    let seen = collector.seen();
    assert_eq!(seen.len(), times);
    for (headers, body) in &seen {
        assert_eq!(*body, request());
        assert_eq!(headers.get("x-api-key").unwrap(), "k");
        let agent = headers.get("user-agent").unwrap().to_str().unwrap();
        assert!(
            agent == "mine" || agent.starts_with("mine tonic/"),
            "{agent}"
        );
    }
}

#[tokio::test]
async fn a_request_is_sent_once_over_http() {
    let (collector, wire) = Collector::http(&[]).await;
    check((collector.clone(), wire), 1, Ok(())).await;
    let (headers, _) = collector.seen().remove(0);
    let content = headers.get("content-type").unwrap();
    assert_eq!(content, "application/x-protobuf");
}
#[tokio::test]
async fn a_request_is_sent_once_over_grpc() {
    check(Collector::grpc(&[]).await, 1, Ok(())).await;
}

#[tokio::test]
async fn what_may_pass_is_sent_again_over_http() {
    let busy = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY];
    check(Collector::http(&busy).await, 3, Ok(())).await;
}
#[tokio::test]
async fn what_may_pass_is_sent_again_over_grpc() {
    let busy = [Code::Unavailable, Code::Aborted];
    check(Collector::grpc(&busy).await, 3, Ok(())).await;
}

#[tokio::test]
async fn a_refusal_is_final_and_its_words_are_not_told_over_http() {
    let refusal = [StatusCode::UNAUTHORIZED];
    let text = "the collector answered 401";
    check(Collector::http(&refusal).await, 1, Err(text)).await;
}
#[tokio::test]
async fn a_refusal_is_final_and_its_words_are_not_told_over_grpc() {
    for code in [Code::Unauthenticated, Code::ResourceExhausted] {
        let text = format!("the collector answered {code:?}");
        check(Collector::grpc(&[code]).await, 1, Err(&text)).await;
    }
}

#[tokio::test]
async fn a_redirect_is_a_refusal() {
    let away = [StatusCode::TEMPORARY_REDIRECT];
    let text = "the collector answered 307";
    check(Collector::http(&away).await, 1, Err(text)).await;
}

#[tokio::test]
async fn who_asks_for_more_time_than_there_is_is_not_waited_for() {
    let later = [StatusCode::TOO_MANY_REQUESTS];
    let text = "the collector answered 429";
    check(Collector::http(&later).await, 1, Err(text)).await;
}

#[tokio::test]
async fn an_end_comes_to_every_patience() {
    let busy = [StatusCode::SERVICE_UNAVAILABLE; 9];
    let text = "the collector answered 503";
    check(Collector::http(&busy).await, 4, Err(text)).await;
}

#[tokio::test]
async fn who_does_not_listen_is_told_of() {
    let (_, address) = listen().await;
    drop(rustls::crypto::ring::default_provider().install_default());
    let url = format!("http://{address}/v1/traces");
    let wire = Wire::Http(Http::new(client().unwrap(), &url, headers()).unwrap());
    let text = wire.send(request()).await.unwrap_err();
    assert!(text.contains("Connection refused"), "{text}");
    let endpoint = format!("http://{address}").parse().unwrap();
    let wire = Wire::Grpc(Grpc::new(&endpoint, TRACES.grpc, headers()).unwrap());
    let text = wire.send(request()).await.unwrap_err();
    assert!(text.contains("Connection refused"), "{text}");
}
