//! The adapter between pingora's phases and the way.
//!
//! [`Engine`] is the wrapper that surrounds each call once: it closes the record when the call is
//! over, and cuts the call when its task ends. [`Phases`] walks the way in `request_filter` and
//! applies its [`Outbound`] in the phases after it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use call::{Body, Head};
use credentials::Outbound;
use futures::FutureExt;
use http::header::{ALT_SVC, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{BError, Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};
use telemetry::{Ending, Trace};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use crate::body::{Budget, Reader};
use crate::exchange::{Exchange, Told};
use crate::refusal::Refusal;
use crate::reply::{Form, REMIT_DECISION, Reply};
use crate::server::stopped;
use crate::upstream::{Talk, Upstream};
use crate::{Way, body, framing};

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// How long what an agent still sends after a refusal is read, so that it sees the refusal and not a reset.
const LINGER: Duration = Duration::from_secs(1);
/// One try and one more: another address, or a fresh connection in place of a stale one.
const TRIES: usize = 2;

tokio::task_local! {
    /// The exchange of the call that this task walks: `new_ctx` has no other way to learn it.
    static EXCHANGE: Arc<Exchange>;
}

/// Surrounds each call once. There is one for each connection, over one proxy.
pub(crate) struct Engine {
    way: Arc<Way>,
    proxy: Arc<HttpProxy<Phases>>,
    options: HttpServerOptions,
    /// Whether the connection got as far as a first call.
    begun: AtomicBool,
}

impl Engine {
    /// Makes the engine for one kind of connection: HTTP/2 in plain text, or what ALPN says.
    pub(crate) fn new(way: &Arc<Way>, plain_http2: bool) -> Arc<Self> {
        let conf = Arc::new(ServerConf {
            max_retries: TRIES,
            ..ServerConf::default()
        });
        let budget = Budget::new(way.limits.buffered);
        let phases = Phases {
            way: Arc::clone(way),
            budget,
        };
        let mut options = HttpServerOptions::default();
        options.h2c = plain_http2;
        options.h2_idle_timeout = Some(way.limits.idle);
        Arc::new(Self {
            way: Arc::clone(way),
            proxy: Arc::new(http_proxy(&conf, phases)),
            options,
            begun: AtomicBool::new(false),
        })
    }

    /// Talks on one connection until it closes, or was silent for too long.
    pub(crate) async fn talk(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let connection = Arc::new(Self {
            way: Arc::clone(&self.way),
            proxy: Arc::clone(&self.proxy),
            options: self.options.clone(),
            begun: AtomicBool::new(false),
        });
        tokio::select! {
            _ = connection.process_new(stream, shutdown) => {}
            () = connection.stays_silent(shutdown.clone()) => {}
        }
    }

    /// Waits until a connection has been without a call for too long. pingora waits for the preface of HTTP/2 over
    /// TLS without a limit; from the first call on, [`no_head`] and its own limits hold.
    async fn stays_silent(&self, shutdown: ShutdownWatch) {
        tokio::select! {
            () = sleep(self.way.limits.idle) => {}
            () = stopped(shutdown) => {}
        }
        if self.begun.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Tells idle connections that the server stops.
    pub(crate) async fn stop(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[async_trait]
impl HttpServerApp for Engine {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.begun.store(true, Ordering::Relaxed);
        let (exchange, told) = Exchange::new();
        let way = EXCHANGE.scope(
            Arc::clone(&exchange),
            self.proxy.process_new_http(session, shutdown),
        );
        let (ending, reused) = tokio::select! {
            done = AssertUnwindSafe(way).catch_unwind() => match done {
                Ok(reused) => (None, reused),
                Err(_) => (Some(Ending::Internal), None),
            },
            () = task_ended(told) => (Some(Ending::Cut), None),
            () = no_head(&exchange, self.way.limits.idle) => (None, None),
        };
        if let Some(record) = exchange.close(ending) {
            self.way.recorder.close(record);
        }
        reused
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Waits until the task that the call was bound to ends.
async fn task_ended(told: Told) {
    match told.await {
        Ok(ended) => ended.cancelled_owned().await,
        Err(_) => std::future::pending().await,
    }
}

/// Waits until a connection has been without a whole head for too long.
async fn no_head(exchange: &Exchange, patience: Duration) {
    sleep(patience).await;
    if exchange.is_open() {
        std::future::pending::<()>().await;
    }
}

struct Phases {
    way: Arc<Way>,
    budget: Budget,
}

struct Context {
    exchange: Arc<Exchange>,
    forward: Option<Forward>,
    /// Gives the inspected bytes back to the budget when the call is over.
    _held: Option<OwnedSemaphorePermit>,
}

/// What the way came to: the request as it leaves.
struct Forward {
    head: Parts,
    body: Body,
    upstream: Arc<Upstream>,
    talk: Talk,
    /// Where the credential is bound to the connection, the pool is its own.
    isolation: Option<Box<str>>,
    tries: usize,
    body_due: bool,
}

impl Phases {
    async fn prepare(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> Result<Forward, Refusal> {
        let setup = self.way.setup.load_full();
        let outbound = self.walk(session, context, &setup).await;
        if let Err(refusal) = &outbound {
            context.exchange.refused(refusal);
        }
        // A refusal stands whether or not it could be audited; the recorder counts what it lost.
        let audited = match context.exchange.read(telemetry::CallRecord::clone) {
            Some(record) => self.way.recorder.decided(&record).await,
            None => Ok(()),
        };
        let outbound = outbound?;
        audited?;
        let upstream = setup.upstreams.of(&outbound)?;
        let talk = if is_websocket(session) {
            Talk::WebSocket
        } else {
            Talk::Http
        };
        Ok(Forward::new(outbound, upstream, talk))
    }

    async fn walk(
        &self,
        session: &mut Session,
        context: &mut Context,
        setup: &crate::Setup,
    ) -> Result<Outbound, Refusal> {
        framing::check(session)?;
        let client = client(session);
        let head = Head::canonical(session.req_header().as_owned_parts(), client)?;
        context.exchange.note(|record| {
            record.host = head.host().to_owned();
            record.path = head.path().to_owned();
        });
        let body = Reader {
            session,
            budget: &self.budget,
            patience: self.way.limits.body,
            held: &mut context._held,
        };
        self.way.walk(setup, head, body, &context.exchange).await
    }

    async fn refuse(
        &self,
        session: &mut Session,
        exchange: &Exchange,
        refusal: &Refusal,
    ) -> Result<(), BError> {
        let reply = Reply::new(refusal, exchange.form(), &exchange.decision())?;
        if refusal.outcome().status == StatusCode::BAD_REQUEST
            || !session.as_downstream_mut().is_body_done()
        {
            // Where this request ends is in doubt, so no other is read after it.
            session.set_keepalive(None);
        }
        match session.as_downstream_mut() {
            // pingora ends a stream with an empty DATA frame; a gRPC client takes no trailers before one.
            ServerSession::H2(http2) if reply.body.is_empty() => {
                http2.write_response_header(Box::new(reply.head), true)?;
            }
            _ => {
                let empty = reply.body.is_empty();
                session
                    .write_response_header(Box::new(reply.head), empty)
                    .await?;
                if !empty {
                    session.write_response_body(Some(reply.body), true).await?;
                }
            }
        }
        let downstream = session.as_downstream_mut();
        if !downstream.is_body_done() {
            // What is left in the pipe is of no interest: neither is whether it could be read.
            timeout(LINGER, downstream.drain_request_body()).await.ok();
        }
        Ok(())
    }
}

#[async_trait]
impl ProxyHttp for Phases {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        let exchange = EXCHANGE
            .try_with(Arc::clone)
            .unwrap_or_else(|_| Exchange::new().0);
        Context {
            exchange,
            forward: None,
            _held: None,
        }
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> Result<bool, BError> {
        open(session, &context.exchange);
        session.set_write_timeout(Some(self.way.limits.write));
        match self.prepare(session, context).await {
            Ok(forward) => {
                if matches!(forward.body, Body::Streamed) {
                    body::go_on(session).await?;
                }
                if forward.talk == Talk::WebSocket {
                    // An agent may listen for as long as its tool talks; silence of both is up to the tool's limits.
                    session.set_read_timeout(None);
                }
                context.forward = Some(forward);
                Ok(false)
            }
            Err(refusal) => {
                context.exchange.refused(&refusal);
                self.refuse(session, &context.exchange, &refusal).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        context: &mut Context,
    ) -> Result<Box<HttpPeer>, BError> {
        let forward = context.forward.as_mut().ok_or_else(not_walked)?;
        let peer = forward
            .upstream
            .peer(forward.tries, forward.talk, forward.isolation.as_deref())
            .await?;
        forward.tries += 1;
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<(), BError> {
        let forward = context.forward.as_mut().ok_or_else(not_walked)?;
        let traceparent = context.exchange.read(|record| record.trace.traceparent());
        *request = forward.request(session, request.version, traceparent)?;
        forward.body_due = true;
        let upstream = forward.upstream.name();
        context.exchange.note(|record| {
            record.forwarded = Some(jiff::Timestamp::now());
            record.upstream = Some(upstream);
        });
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        context: &mut Context,
    ) -> Result<(), BError> {
        if let Some(forward) = &mut context.forward {
            // Whatever pingora replays first stands for the whole body that was inspected.
            if std::mem::take(&mut forward.body_due)
                && let Body::Whole(whole) = &forward.body
            {
                *body = Some(whole.clone());
            }
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<(), BError> {
        // An agent that followed it would go around the gateway.
        response.remove_header(&ALT_SVC);
        response.insert_header(REMIT_DECISION, context.exchange.decision().as_str())?;
        context.exchange.note(|record| {
            if let Some(forwarded) = record.forwarded {
                let took = jiff::Timestamp::now().duration_since(forwarded);
                record.upstream_time = Some(took.unsigned_abs());
            }
        });
        Ok(())
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        let status = session
            .response_written()
            .map(|response| response.status.as_u16());
        let (bytes_in, bytes_out) = (session.body_bytes_read(), session.body_bytes_sent());
        context.exchange.note(|record| {
            record.status = status;
            record.bytes_in = bytes_in as u64;
            record.bytes_out = bytes_out as u64;
            if let Some(error) = error {
                record.ending = ending(error);
                record.cause.get_or_insert_with(|| error.to_string());
            }
        });
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        context: &mut Context,
        mut error: BError,
    ) -> BError {
        let another = context
            .forward
            .as_ref()
            .is_some_and(|forward| forward.tries < forward.upstream.addresses());
        error.set_retry(another);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Context,
    ) -> FailToProxy {
        let refusal = failure(error);
        let mut error_code = 0;
        if *error.esource() != ErrorSource::Downstream && session.response_written().is_none() {
            context.exchange.refused(&refusal);
            error_code = refusal.outcome().status.as_u16();
            session.set_keepalive(None);
            if self
                .refuse(session, &context.exchange, &refusal)
                .await
                .is_err()
            {
                error_code = 0;
            }
        }
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    // The record tells all of this, without paths or heads in free text.
    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Context,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, _: &Session, _: &Context) -> String {
        String::new()
    }
}

/// Opens the record: from here on the call will be closed.
fn open(session: &Session, exchange: &Exchange) {
    let head = session.req_header();
    exchange.open(Trace::continue_from(&head.headers), client(session));
    exchange.note(|record| {
        record.method = head.method.as_str().to_owned();
        record.http_version = if head.version == Version::HTTP_2 {
            "2"
        } else {
            "1.1"
        };
    });
    if head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    {
        exchange.set_form(Form::Grpc);
    }
}

fn client(session: &Session) -> crate::Client {
    session
        .client_addr()
        .and_then(|address| address.as_inet())
        .copied()
}

impl Forward {
    fn new(outbound: Outbound, upstream: Arc<Upstream>, talk: Talk) -> Self {
        let isolation = outbound.isolation().map(Into::into);
        let (head, body, _) = outbound.into_parts();
        Self {
            head,
            body,
            upstream,
            talk,
            isolation,
            tries: 0,
            body_due: false,
        }
    }

    /// The head as it leaves: the way's own, framed for the body that was read.
    fn request(
        &self,
        session: &Session,
        version: Version,
        traceparent: Option<HeaderValue>,
    ) -> Result<RequestHeader, BError> {
        let mut head = self.head.clone();
        let authority = head
            .uri
            .authority()
            .map(|authority| authority.as_str().to_owned());
        let authority = authority.ok_or_else(not_walked)?;
        head.uri = Uri::from(
            head.uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        );
        head.version = version;
        let headers = &mut head.headers;
        headers.insert(HOST, header_value(&authority)?);
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
        headers.remove(EXPECT);
        match &self.body {
            Body::Whole(body) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            }
            Body::Empty if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            }
            Body::Empty => {}
            Body::Streamed => {
                if let Some(length) = session.req_header().headers.get(CONTENT_LENGTH) {
                    headers.insert(CONTENT_LENGTH, length.clone());
                }
            }
        }
        if let Some(traceparent) = traceparent {
            headers.insert(TRACEPARENT, traceparent);
        }
        if version == Version::HTTP_11 && self.talk == Talk::WebSocket {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        Ok(RequestHeader::from(head))
    }
}

fn is_websocket(session: &Session) -> bool {
    let upgrade = session.req_header().headers.get(UPGRADE);
    session.is_upgrade_req()
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn header_value(text: &str) -> Result<HeaderValue, BError> {
    HeaderValue::from_str(text)
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "upstream authority", error))
}

/// pingora calls the upstream phases only after `request_filter` said to go on; should it ever not, nothing leaves.
fn not_walked() -> BError {
    Error::explain(ErrorType::InternalError, "the way was not walked")
}

/// What an agent is told of a failure after the decision.
fn failure(error: &Error) -> Refusal {
    let cause = error.to_string();
    match error.etype() {
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
            Refusal::UpstreamUntrusted(cause)
        }
        ErrorType::ConnectTimedout
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::ReadTimedout
        | ErrorType::WriteTimedout => Refusal::UpstreamTimeout(cause),
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError
        | ErrorType::BindError => Refusal::UpstreamUnreachable(cause),
        _ if *error.esource() == ErrorSource::Upstream => Refusal::UpstreamFailed(cause),
        _ => Refusal::Internal(cause),
    }
}

fn ending(error: &Error) -> Ending {
    match error.esource() {
        ErrorSource::Downstream => Ending::ClientGone,
        ErrorSource::Upstream => Ending::UpstreamFailed,
        ErrorSource::Internal | ErrorSource::Unset => Ending::Internal,
    }
}
