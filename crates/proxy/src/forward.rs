//! What the way came to, as pingora sends it.

use std::sync::Arc;

use bytes::Bytes;
use call::Body;
use credentials::{Chunks, ClientIdentity, InvalidChunks};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use pingora_core::{BError, Error, ErrorType};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use telemetry::Trace;

use crate::Answered;
use crate::body::Budget;
use crate::meter::Metering;
use crate::redact::Redact;
use crate::scrub::{Asked, Scrub};
use crate::token_answer::TokenAnswer;
use crate::upstream::{Apart, Talk, Upstream};

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C Trace Context.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What the way came to: the request as it leaves.
pub(crate) struct Forward {
    head: Parts,
    pub(crate) body: Body,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) talk: Talk,
    /// Where the credential is bound to the connection, the pool is its own.
    pub(crate) isolation: Option<Box<str>>,
    /// The credential, where it is a certificate.
    pub(crate) certificate: Option<Arc<ClientIdentity>>,
    pub(crate) tries: usize,
    pub(crate) body_due: bool,
    /// Whether the upstream speaks HTTP/2.
    pub(crate) is_http2: bool,
    /// What it takes of its task besides being a call.
    pub(crate) metering: Option<Box<Metering>>,
    /// What keeps the injected secret out of the answer.
    pub(crate) scrub: Option<Scrub>,
    /// What takes values out of it.
    pub(crate) redact: Option<Box<Redact>>,
    /// What takes tokens out of it.
    pub(crate) tokens: Option<Box<TokenAnswer>>,
    /// What takes the chunks that the agent signed off the body.
    chunks: Option<Box<Chunks>>,
}

impl Forward {
    /// `held` bounds what is held of answers, over all calls.
    pub(crate) fn new(
        answered: Answered,
        upstream: Arc<Upstream>,
        talk: Talk,
        held: &Budget,
    ) -> Self {
        let Answered {
            mut outbound,
            redacted,
            keeper,
        } = answered;
        let (spending, meters) = outbound.take_spending();
        let isolation = outbound.isolation().map(Into::into);
        let certificate = outbound.certificate().cloned();
        let scrub = outbound.scrubber().map(Scrub::new);
        let chunks = outbound.take_chunks().map(Box::new);
        let (head, body, _) = outbound.into_parts();
        Self {
            head,
            body,
            upstream,
            talk,
            isolation,
            certificate,
            tries: 0,
            body_due: false,
            is_http2: false,
            metering: Metering::new(spending, &meters).map(Box::new),
            scrub,
            redact: Redact::new(redacted, held).map(Box::new),
            tokens: keeper.map(|keeper| Box::new(TokenAnswer::new(keeper))),
            chunks,
        }
    }

    /// What its connection is kept apart by.
    pub(crate) fn apart(&self) -> Apart<'_> {
        Apart {
            lease: self.isolation.as_deref(),
            certificate: self.certificate.as_deref(),
        }
    }

    /// Begins the body anew: what went up a connection that broke goes up the next one from its start.
    pub(crate) fn begin_body(&mut self) {
        self.body_due = true;
        if let Some(chunks) = &mut self.chunks {
            **chunks = Chunks::default();
        }
    }

    /// Takes the chunks that the agent signed off a piece of the body.
    pub(crate) fn unchunk(
        &mut self,
        body: &mut Option<Bytes>,
        is_last: bool,
    ) -> Result<(), InvalidChunks> {
        let Some(chunks) = &mut self.chunks else {
            return Ok(());
        };
        if let Some(piece) = body.take() {
            // Though nothing may be in it: without a piece the body would be over.
            *body = Some(chunks.push(piece)?);
        }
        if is_last { chunks.end() } else { Ok(()) }
    }

    /// What keeps the injected secret out of the answer, and what is answered.
    pub(crate) fn scrub(&mut self) -> Option<(&mut Scrub, Asked<'_>)> {
        let asked = Asked {
            method: &self.head.method,
            is_http2: self.is_http2,
        };
        self.scrub.as_mut().map(|scrub| (scrub, asked))
    }

    /// What takes tokens out of the answer, and what is answered.
    pub(crate) fn tokens(&mut self) -> Option<(&mut TokenAnswer, Asked<'_>)> {
        let asked = Asked {
            method: &self.head.method,
            is_http2: self.is_http2,
        };
        self.tokens.as_mut().map(|tokens| (&mut **tokens, asked))
    }

    /// What takes values out of the answer, and what is answered.
    pub(crate) fn redact(&mut self) -> Option<(&mut Redact, Asked<'_>)> {
        let asked = Asked {
            method: &self.head.method,
            is_http2: self.is_http2,
        };
        self.redact.as_mut().map(|redact| (&mut **redact, asked))
    }

    /// The URL that is asked, without the query: a key may have been injected there.
    pub(crate) fn url(&self) -> String {
        let uri = &self.head.uri;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        [scheme, "://", authority, uri.path()].concat()
    }

    /// The head as it leaves: the way's own, framed for the body that was read.
    pub(crate) fn request(
        &self,
        session: &Session,
        version: Version,
        trace: Option<Trace>,
    ) -> Result<RequestHeader, BError> {
        let mut head = self.head.clone();
        let authority = head.uri.authority().ok_or_else(not_walked)?;
        let host = header_value(authority.as_str())?;
        head.uri = Uri::from(
            head.uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        );
        head.version = version;
        let headers = &mut head.headers;
        headers.insert(HOST, host);
        match &self.body {
            // The call says its length already, and nothing else of its framing.
            Body::Whole(_) => {}
            Body::Empty if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            }
            Body::Empty => {
                headers.remove(CONTENT_LENGTH);
            }
            Body::Streamed => {
                headers.remove(TRANSFER_ENCODING);
                headers.remove(EXPECT);
                // Without the chunks that the agent signed it is shorter, and says so.
                if self.chunks.is_none() {
                    headers.remove(CONTENT_LENGTH);
                }
                if self.chunks.is_none()
                    && let Some(length) = session.req_header().headers.get(CONTENT_LENGTH)
                {
                    headers.insert(CONTENT_LENGTH, length.clone());
                }
            }
        }
        if self
            .metering
            .as_ref()
            .is_some_and(|metering| metering.reads_body())
        {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if self.scrub.is_some() || self.redact.is_some() || self.tokens.is_some() {
            Scrub::ask(headers);
        }
        if self.tokens.is_some() {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        }
        if let Some(trace) = trace {
            headers.insert(TRACEPARENT, trace.traceparent());
            if !trace.is_continued() {
                headers.remove(TRACESTATE);
            }
        }
        if version == Version::HTTP_11 && self.talk == Talk::WebSocket {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        Ok(RequestHeader::from(head))
    }
}

pub(crate) fn is_websocket(session: &Session) -> bool {
    let upgrade = session.req_header().headers.get(UPGRADE);
    session.is_upgrade_req()
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn header_value(text: &str) -> Result<HeaderValue, BError> {
    HeaderValue::from_str(text)
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "upstream authority", error))
}

/// pingora calls the upstream phases only after `request_filter` said to go on; should it ever not, nothing leaves.
pub(crate) fn not_walked() -> BError {
    Error::explain(ErrorType::InternalError, "the way was not walked")
}
