//! The adapter between pingora's phases and the way.
//!
//! It walks the way in `request_filter`, before any upstream connection exists, and applies what
//! came of it in the phases after it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use call::{Body, Head, Unobservable, Watch};
use http::header::ALT_SVC;
use http::{HeaderMap, Method, Version};
use identity::{Certificate, Transport};
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{BError, Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use policy::Denial;
use tasks::Exhausted;
use telemetry::{Ending, Trace};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::body::Reader;
use crate::exchange::Exchange;
use crate::forward::{Forward, is_websocket, not_walked};
use crate::meter::Metering;
use crate::redact::Unredactable;
use crate::refusal::Refusal;
use crate::reply::{DPOP_NONCE, Form, REMIT_DECISION, Reply};
use crate::scrub::{Scrub, Unscrubbable};
use crate::token_answer::Untaken;
use crate::upstream::Talk;
use crate::{Answered, Setup, Way, body, framing};

/// How long what an agent still sends after a refusal is read, so that it sees the refusal and not a reset.
const LINGER: Duration = Duration::from_secs(1);

/// The task has no more for a call that is under way.
const USED_UP: ErrorType = ErrorType::Custom("UsedUp");

/// The chunks that the agent signed are none.
const BROKEN_CHUNKS: ErrorType = ErrorType::Custom("BrokenChunks");
/// A key came in a body that streams.
const KEY_REFUSED: ErrorType = ErrorType::Custom("KeyRefused");

/// Nobody can say whether the answer holds the injected secret.
const UNSCRUBBABLE: ErrorType = ErrorType::Custom("Unscrubbable");

/// An answer of a token endpoint holds a token that nobody can take out, perhaps.
const UNREADABLE_TOKENS: ErrorType = ErrorType::Custom("UnreadableTokens");

/// Nobody can take out of the answer what the decision says.
const UNREDACTABLE: ErrorType = ErrorType::Custom("Unredactable");

tokio::task_local! {
    /// The exchange of the call that this task walks: `new_ctx` has no other way to learn it.
    pub(crate) static EXCHANGE: Arc<Exchange>;
}

/// Walks calls, one at a time in each of pingora's tasks.
pub(crate) struct Phases {
    pub(crate) way: Arc<Way>,
}

/// What the phases of one call share.
pub(crate) struct Context {
    exchange: Arc<Exchange>,
    forward: Option<Forward>,
    /// What looks for keys in its body, where that streams.
    watch: Option<Watch>,
    /// Why its task has no more for it, if it was stopped by that.
    used_up: Option<Box<Refusal>>,
    /// Gives the inspected bytes back to the budget when the call is over.
    _held: Option<OwnedSemaphorePermit>,
}

impl Context {
    fn metering(&mut self) -> Option<&mut Metering> {
        self.forward.as_mut()?.metering.as_deref_mut()
    }

    /// Counts bytes that are about to go up.
    async fn send(&mut self, body: Option<&Bytes>) -> Result<(), BError> {
        let (Some(metering), Some(body)) = (self.metering(), body) else {
            return Ok(());
        };
        let sent = metering.send(body.len()).await;
        if sent.is_err() && self.forward.as_ref().is_some_and(|way| way.is_http2) {
            // pingora would let the upstream wait for the rest.
            self.exchange.stop();
        }
        sent.map_err(|exhausted| self.use_up(exhausted))
    }

    /// Looks for keys in a piece that is about to go up.
    fn look_for_keys(&mut self, body: &mut Option<Bytes>, is_last: bool) -> Result<(), BError> {
        let (Some(watch), Some(piece)) = (&mut self.watch, body.as_mut()) else {
            return Ok(());
        };
        let mut keys = Vec::new();
        let seen = watch.see(piece, is_last, &mut keys);
        self.exchange.found(keys);
        match seen {
            Ok(Some(masked)) => *piece = masked,
            Ok(None) => {}
            Err(unobservable) => return Err(self.refuse_key(unobservable)),
        }
        Ok(())
    }

    fn refuse_key(&mut self, unobservable: Unobservable) -> BError {
        if self.forward.as_ref().is_some_and(|way| way.is_http2) {
            // pingora would let the upstream wait for the rest.
            self.exchange.stop();
        }
        let refusal = Refusal::from(unobservable);
        self.exchange.used_up(&refusal);
        self.used_up = Some(Box::new(refusal));
        Error::new(KEY_REFUSED)
    }

    /// Counts bytes that are about to go down; they wait as long as the answer says.
    fn pass(&mut self, body: Option<&Bytes>) -> Result<Option<Duration>, BError> {
        let (Some(metering), Some(body)) = (self.metering(), body) else {
            return Ok(None);
        };
        let passed = metering.pass(body.len());
        passed.map_err(|exhausted| self.use_up(exhausted))
    }

    /// Sees from the head of the answer how tokens are taken out of it.
    fn take_tokens_head(&mut self, response: &mut ResponseHeader) -> Result<(), BError> {
        let tokens = self.forward.as_mut().and_then(Forward::tokens);
        let taken = tokens.map(|(tokens, asked)| tokens.head(response, asked));
        self.taken(taken)
    }

    /// Takes tokens out of the body, once it is whole.
    fn take_tokens(&mut self, body: &mut Option<Bytes>, is_last: bool) -> Result<(), BError> {
        let tokens = self.forward.as_mut().and_then(Forward::tokens);
        let taken = tokens.map(|(tokens, _)| tokens.body(body, is_last));
        self.taken(taken)
    }

    fn taken(&self, taken: Option<Result<(), Untaken>>) -> Result<(), BError> {
        let Some(Err(untaken)) = taken else {
            return Ok(());
        };
        let cause = untaken.to_string();
        self.exchange.used_up(&Refusal::from(untaken));
        Err(Error::explain(UNREADABLE_TOKENS, cause).into_up())
    }

    /// Masks the injected secret in the head of the answer.
    fn scrub_head(&mut self, response: &mut ResponseHeader) -> Result<(), BError> {
        let scrubbed = self.forward.as_mut().and_then(Forward::scrub);
        let scrubbed = scrubbed.map(|(scrub, asked)| scrub.head(response, asked));
        self.scrubbed(scrubbed)
    }

    /// Masks it in a piece of the body.
    fn scrub_body(&mut self, body: &mut Option<Bytes>, is_last: bool) -> Result<(), BError> {
        let scrub = self.forward.as_mut().and_then(|way| way.scrub.as_mut());
        let scrubbed = scrub.map(|scrub| scrub.body(body, is_last));
        self.scrubbed(scrubbed)
    }

    /// Writes down how often it was found.
    fn scrubbed(&self, scrubbed: Option<Result<(), Unscrubbable>>) -> Result<(), BError> {
        let Some(scrubbed) = scrubbed else {
            return Ok(());
        };
        let scrub = self.forward.as_ref().and_then(|way| way.scrub.as_ref());
        let found = scrub.map_or(0, Scrub::found);
        if found > 0 {
            self.exchange.note(|record| {
                if record.scrubbed == 0 {
                    let (decision, tool) = (record.decision.as_str(), record.tool.as_deref());
                    tracing::warn!(decision, tool, "answer held the injected secret");
                }
                record.scrubbed = found;
            });
        }
        scrubbed.map_err(|unscrubbable| {
            let cause = unscrubbable.to_string();
            self.exchange.used_up(&Refusal::Unscrubbable(cause.clone()));
            Error::explain(UNSCRUBBABLE, cause).into_up()
        })
    }

    /// Sees from the head of the answer how values are taken out of it.
    fn redact_head(&mut self, response: &mut ResponseHeader) -> Result<(), BError> {
        let redact = self.forward.as_mut().and_then(Forward::redact);
        let redacted = redact.map(|(redact, asked)| redact.head(response, asked));
        self.redacted(redacted)
    }

    /// Takes values out of a piece of the body.
    fn redact_body(&mut self, body: &mut Option<Bytes>, is_last: bool) -> Result<(), BError> {
        let redact = self.forward.as_mut().and_then(Forward::redact);
        let redacted = redact.map(|(redact, _)| redact.body(body, is_last));
        self.redacted(redacted)
    }

    /// Writes down how often something was taken out.
    fn redacted(&self, redacted: Option<Result<(), Unredactable>>) -> Result<(), BError> {
        let redact = self.forward.as_ref().and_then(|way| way.redact.as_ref());
        if let Some(found) = redact
            .map(|redact| redact.found())
            .filter(|found| *found > 0)
        {
            self.exchange.note(|record| record.redacted = found);
        }
        let Some(Err(unredactable)) = redacted else {
            return Ok(());
        };
        let cause = unredactable.to_string();
        self.exchange.used_up(&Refusal::from(unredactable));
        Err(Error::explain(UNREDACTABLE, cause).into_up())
    }

    fn use_up(&mut self, exhausted: Exhausted) -> BError {
        let refusal = Refusal::from(Denial::from(exhausted));
        self.exchange.used_up(&refusal);
        self.used_up = Some(Box::new(refusal));
        Error::new(USED_UP)
    }
}

impl Phases {
    async fn prepare(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> Result<Forward, Refusal> {
        let setup = self.way.setup.load_full();
        context.exchange.note(|record| {
            record.policy_revision = Some(Arc::clone(setup.policy.policy().revision()));
        });
        let answered = self.walk(session, context, &setup).await;
        if let Err(refusal) = &answered {
            context.exchange.refused(refusal);
        }
        // A refusal stands whether or not it could be audited; the recorder counts what it lost.
        let decided = |record: &_| self.way.recorder.decided(record);
        let audited = match context.exchange.read(decided) {
            Some(audited) => audited.await,
            None => Ok(()),
        };
        let answered = answered?;
        audited?;
        let upstream = setup.upstreams.of(&answered.outbound)?;
        let talk = if is_websocket(session) {
            Talk::WebSocket
        } else {
            Talk::Http
        };
        Ok(Forward::new(answered, upstream, talk, &self.way.answers))
    }

    async fn walk(
        &self,
        session: &mut Session,
        context: &mut Context,
        setup: &Setup,
    ) -> Result<Answered, Refusal> {
        framing::check(session)?;
        let client = client(session);
        let head = Head::canonical(session.req_header().as_owned_parts(), client)?;
        let head = head.over(transport(session));
        context.exchange.note(|record| {
            record.host = call::masked(head.host()).into_owned();
            record.path = call::masked(head.path()).into_owned();
        });
        let body = Reader {
            session,
            budget: &self.way.budget,
            patience: self.way.limits.body,
            held: &mut context._held,
        };
        self.way.walk(setup, head, body, &context.exchange).await
    }

    /// What an OAuth client asks before it has a token. It is no call: nobody is authenticated, and nothing recorded.
    fn metadata(&self, session: &Session) -> Result<Option<Reply>, BError> {
        let setup = self.way.setup.load();
        let Some(oauth) = &setup.oauth else {
            return Ok(None);
        };
        let head = session.req_header();
        let is_plain = head.method == Method::GET && framing::check(session).is_ok();
        let metadata = oauth.metadata(head, scheme(session));
        let metadata = metadata.filter(|_| is_plain);
        metadata.as_ref().map(Reply::metadata).transpose()
    }

    async fn refuse(
        &self,
        session: &mut Session,
        exchange: &Exchange,
        refusal: &Refusal,
    ) -> Result<(), BError> {
        let mut reply = Reply::new(refusal, exchange.form(), &exchange.decision())?;
        let setup = self.way.setup.load();
        if let Some(oauth) = &setup.oauth
            && let Some(pointer) = oauth.pointer(session.req_header(), scheme(session))
        {
            reply.point_to(&pointer)?;
        }
        drop(setup);
        let doubtful = matches!(refusal, Refusal::Framing(_) | Refusal::Malformed(_));
        if doubtful || !session.as_downstream_mut().is_body_done() {
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
            watch: None,
            used_up: None,
            _held: None,
        }
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> Result<bool, BError> {
        open(session, &context.exchange);
        if let Some(reply) = self.metadata(session)? {
            context.exchange.set_aside();
            if !session.as_downstream_mut().is_body_done() {
                session.set_keepalive(None);
            }
            let head = Box::new(reply.head);
            session.write_response_header(head, false).await?;
            session.write_response_body(Some(reply.body), true).await?;
            return Ok(true);
        }
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
                context.watch = context.exchange.take_watch();
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
            .peer(forward.tries, forward.talk, forward.apart())
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
        let trace = context.exchange.read(|record| record.trace);
        *request = forward.request(session, request.version, trace)?;
        forward.begin_body();
        forward.is_http2 = request.version == Version::HTTP_2;
        if let Some(metering) = &mut forward.metering {
            metering.begin();
        }
        let upstream = forward.upstream.name();
        let url = forward.url();
        context.exchange.note(|record| {
            record.forwarded = Some(jiff::Timestamp::now());
            record.upstream = Some(upstream);
            record.upstream_url = Some(call::masked(&url).into_owned());
        });
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        context: &mut Context,
    ) -> Result<(), BError> {
        context.look_for_keys(body, is_last)?;
        if let Some(forward) = &mut context.forward {
            // Whatever pingora replays first stands for the whole body that was inspected.
            if std::mem::take(&mut forward.body_due)
                && let Body::Whole(whole) = &forward.body
            {
                *body = Some(whole.clone());
            }
            forward
                .unchunk(body, is_last)
                .map_err(|broken| Error::explain(BROKEN_CHUNKS, broken.to_string()))?;
            let is_counted = matches!(forward.body, Body::Whole(_));
            // One that was read was counted before the call was permitted; without one there is a WebSocket's.
            if !is_counted {
                context.send(body.as_ref()).await?;
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
        context.take_tokens_head(response)?;
        context.scrub_head(response)?;
        // An agent that followed it would go around the gateway.
        response.remove_header(&ALT_SVC);
        // An agent that put it into its next proof would be refused here.
        response.remove_header(&DPOP_NONCE);
        response.insert_header(REMIT_DECISION, context.exchange.decision().as_str())?;
        if response.status.is_success()
            && let Some(elicitor) = context.exchange.take_elicitor()
            && let Some(session) = response.headers.get("mcp-session-id")
            && let Ok(session) = session.to_str()
        {
            self.way.sessions.began(elicitor, session);
        }
        if let Some(metering) = context.metering() {
            metering.answered(response.status, &response.headers, &self.way.answers);
        }
        // After that: what a call cost is read from what the tool said.
        context.redact_head(response)?;
        context.exchange.note(|record| {
            // Known from here on, should the call be cut before its end.
            record.status = Some(response.status.as_u16());
            if let Some(forwarded) = record.forwarded {
                let took = jiff::Timestamp::now().duration_since(forwarded);
                record.upstream_time = Some(took.unsigned_abs());
            }
        });
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>, BError> {
        context.take_tokens(body, is_last)?;
        context.scrub_body(body, is_last)?;
        let said = body.clone();
        context.redact_body(body, is_last)?;
        let pace = context.pass(body.as_ref())?;
        if let Some(metering) = context.metering() {
            metering.received(said.as_ref(), is_last);
        }
        Ok(pace)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        context: &mut Context,
    ) -> Result<Option<Bytes>, BError> {
        let mut held = None;
        context.take_tokens(&mut held, true)?;
        context.scrub_body(&mut held, false)?;
        let scrub = context.forward.as_mut().and_then(|way| way.scrub.as_mut());
        if let Some(rest) = scrub.and_then(|scrub| scrub.trailers(trailers)) {
            held = Some([held.unwrap_or_default(), rest].concat().into());
        }
        context.scrubbed(Some(Ok(())))?;
        if let Some(metering) = context.metering() {
            metering.received(held.as_ref(), true);
        }
        context.redact_body(&mut held, true)?;
        // pingora sends either: of an answer that is not gRPC the body counts for more.
        Ok(held)
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
        let used_up = context.used_up.take();
        let is_used_up = used_up.is_some();
        let refusal = used_up.map_or_else(|| failure(error), |refusal| *refusal);
        let mut error_code = 0;
        if *error.esource() != ErrorSource::Downstream && session.response_written().is_none() {
            if !is_used_up {
                context.exchange.refused(&refusal);
            }
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
        record.scheme = scheme(session);
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

fn scheme(session: &Session) -> &'static str {
    let tls = session.digest().map(|digest| digest.ssl_digest.is_some());
    if tls.unwrap_or(false) {
        "https"
    } else {
        "http"
    }
}

/// How a call came; the server put the certificate there after the handshake.
fn transport(session: &Session) -> Transport {
    let tls = session
        .digest()
        .and_then(|digest| digest.ssl_digest.as_ref());
    tls.map_or(Transport::Plain, |tls| Transport::Tls {
        client: tls.extension.get::<Arc<Certificate>>().map(Arc::clone),
    })
}

fn client(session: &Session) -> crate::Client {
    session
        .client_addr()
        .and_then(|address| address.as_inet())
        .copied()
}

/// What an agent is told of a failure after the decision.
fn failure(error: &Error) -> Refusal {
    let cause = error.to_string();
    match error.etype() {
        etype if *etype == BROKEN_CHUNKS => Refusal::BodyBroken(cause),
        etype if *etype == UNSCRUBBABLE => Refusal::Unscrubbable(cause),
        etype if *etype == UNREADABLE_TOKENS => Refusal::UnreadableTokens(cause),
        etype if *etype == UNREDACTABLE => Refusal::Unredactable(cause),
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
    if *error.etype() == USED_UP {
        return Ending::Cut;
    }
    match error.esource() {
        ErrorSource::Downstream => Ending::ClientGone,
        ErrorSource::Upstream => Ending::UpstreamFailed,
        ErrorSource::Internal | ErrorSource::Unset => Ending::Internal,
    }
}
