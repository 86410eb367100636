//! Reads a request body before the decision, so that pingora then sends exactly those bytes.
//!
//! pingora's pump sends a body only if its retry buffer (64 KiB, no setter) holds something and was
//! not truncated; then it calls `request_body_filter` once, where the inspected bytes take the
//! buffer's place. So the buffer need not hold the body, only some of it:
//! * HTTP/2: the first chunk is recorded, the rest is read past the buffer;
//! * HTTP/1.1 with a length: only the last 64 KiB are recorded;
//! * HTTP/1.1 chunked: everything is recorded; if that was too much, the session is framed anew
//!   with a placeholder body of one byte.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use call::{Body, BodyPlan};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora_core::BError;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v1::server::HttpSession as Http1;
use pingora_core::protocols::http::v2::server::HttpSession as Http2;
use pingora_proxy::Session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::refusal::Refusal;

/// The size of pingora's retry buffer: `BODY_BUF_LIMIT` in pingora-core 0.9.1.
const RETRY_BUFFER: usize = 64 * 1024;
/// The unit in which buffered bytes are counted, so that a `u32` of them is 4 TiB.
const UNIT: usize = 1024;

/// Bytes of bodies that may wait for a decision, over all calls.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).max(1))))
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).map_err(|_| Refusal::Busy)?;
        Arc::clone(&self.0)
            .try_acquire_many_owned(units)
            .map_err(|_| Refusal::Busy)
    }
}

/// Reads one request's body, if and as far as the plan says.
pub(crate) struct Reader<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) budget: &'a Budget,
    pub(crate) patience: Duration,
    /// Keeps the bytes counted until the call is closed.
    pub(crate) held: &'a mut Option<OwnedSemaphorePermit>,
}

impl Reader<'_> {
    /// Reads the body whole, or leaves it to stream.
    pub(crate) async fn read(&mut self, plan: BodyPlan) -> Result<Body, Refusal> {
        if self.session.as_downstream_mut().is_body_empty() {
            return Ok(Body::Empty);
        }
        match plan {
            BodyPlan::Stream => Ok(Body::Streamed),
            BodyPlan::Read { limit } => self.read_whole(limit).await,
        }
    }

    async fn read_whole(&mut self, limit: usize) -> Result<Body, Refusal> {
        let length = content_length(self.session);
        if length.is_some_and(|length| length > limit) {
            return Err(Refusal::BodyTooLarge { limit });
        }
        *self.held = Some(self.budget.take(length.unwrap_or(limit))?);
        go_on(self.session).await.map_err(broken)?;
        let reading = read(self.session, length, limit);
        let bytes = timeout(self.patience, reading)
            .await
            .map_err(|_| Refusal::BodyTimeout(self.patience.as_secs()))??;
        Ok(if bytes.is_empty() {
            Body::Empty
        } else {
            Body::Whole(bytes)
        })
    }
}

/// Tells an agent that waits with its body to send it (RFC 9110, section 10.1.1); the expectation goes no further.
pub(crate) async fn go_on(session: &mut Session) -> Result<(), BError> {
    if session.req_header().headers.contains_key(EXPECT) {
        let downstream = session.as_downstream_mut();
        downstream.write_continue_response().await?;
    }
    Ok(())
}

async fn read(
    session: &mut Session,
    length: Option<usize>,
    limit: usize,
) -> Result<Bytes, Refusal> {
    match &mut *session.downstream_session {
        ServerSession::H2(http2) => read_http2(http2, limit).await,
        ServerSession::H1(http1) => {
            let body = read_http1(http1, length, limit).await?;
            let lost = http1.get_retry_buffer().is_none();
            if lost && !body.is_empty() {
                frame_anew(&mut session.downstream_session).await?;
            }
            Ok(body)
        }
        ServerSession::Subrequest(_) | ServerSession::Custom(_) => Err(Refusal::Internal(
            "session is neither HTTP/1 nor HTTP/2".to_owned(),
        )),
    }
}

async fn read_http2(http2: &mut Http2, limit: usize) -> Result<Bytes, Refusal> {
    http2.enable_retry_buffering();
    let mut body = Gathered::new(limit);
    while body.is_empty() {
        match http2.read_body_bytes().await.map_err(broken)? {
            Some(chunk) => body.push(chunk)?,
            None => return Ok(body.into_bytes()),
        }
    }
    while let Some(chunk) = poll_fn(|context| http2.poll_read_body_bytes(context)).await {
        body.push(chunk.map_err(|error| Refusal::BodyBroken(error.to_string()))?)?;
    }
    Ok(body.into_bytes())
}

async fn read_http1(
    http1: &mut Http1,
    length: Option<usize>,
    limit: usize,
) -> Result<Bytes, Refusal> {
    let mut body = Gathered::new(limit);
    let mut recording = false;
    loop {
        let rest_fits =
            length.is_none_or(|length| length.saturating_sub(body.len()) <= RETRY_BUFFER);
        if rest_fits && !recording {
            http1.enable_retry_buffering();
            recording = true;
        }
        match http1.read_body_bytes().await.map_err(broken)? {
            Some(chunk) => body.push(chunk)?,
            None => return Ok(body.into_bytes()),
        }
    }
}

/// The same connection in a new session, whose parser is fed the head with `content-length: 1` and
/// one placeholder byte. Bytes read past the last chunk are gone, so the connection is not reused.
async fn frame_anew(session: &mut ServerSession) -> Result<(), Refusal> {
    let nobody = ServerSession::new_http1(Box::new(std::io::Cursor::new(Vec::<u8>::new())));
    let old = match std::mem::replace(session, nobody) {
        ServerSession::H1(old) => old,
        other => {
            *session = other;
            return Err(Refusal::Internal("only HTTP/1 is framed anew".to_owned()));
        }
    };
    let mut head = BytesMut::with_capacity(2048);
    let request = old.req_header();
    head.extend_from_slice(request.method.as_str().as_bytes());
    head.extend_from_slice(b" ");
    head.extend_from_slice(request.raw_path());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &request.headers {
        if name != TRANSFER_ENCODING && name != CONTENT_LENGTH && name != EXPECT {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
    }
    head.extend_from_slice(b"content-length: 1\r\n\r\n-");
    let mut new = Http1::new(old.into_inner());
    new.set_pipelined_prefix(head);
    new.read_request().await.map_err(broken)?;
    new.set_server_keepalive(None);
    new.enable_retry_buffering();
    while !new.is_body_done() {
        if new.read_body_bytes().await.map_err(broken)?.is_none() {
            break;
        }
    }
    *session = ServerSession::H1(new);
    Ok(())
}

fn content_length(session: &Session) -> Option<usize> {
    let headers = &session.req_header().headers;
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` hands over"
)]
fn broken(error: BError) -> Refusal {
    Refusal::BodyBroken(error.to_string())
}

/// A body as it comes in: one chunk is kept as it is, more are joined.
struct Gathered {
    limit: usize,
    one: Bytes,
    joined: BytesMut,
}

impl Gathered {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            one: Bytes::new(),
            joined: BytesMut::new(),
        }
    }

    fn len(&self) -> usize {
        self.one.len() + self.joined.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        if self.len() + chunk.len() > self.limit {
            return Err(Refusal::BodyTooLarge { limit: self.limit });
        }
        if self.is_empty() {
            self.one = chunk;
        } else {
            if self.joined.is_empty() {
                self.joined
                    .extend_from_slice(&std::mem::take(&mut self.one));
            }
            self.joined.extend_from_slice(&chunk);
        }
        Ok(())
    }

    fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() {
            self.one
        } else {
            self.joined.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: usize, chunks: &[&'static str], expect: Option<&str>) {
        let mut body = Gathered::new(limit);
        let pushed: Result<(), Refusal> = chunks
            .iter()
            .try_for_each(|chunk| body.push(Bytes::from_static(chunk.as_bytes())));
        let gathered = pushed.ok().map(|()| body.into_bytes());
        assert_eq!(gathered.as_deref(), expect.map(str::as_bytes), "{chunks:?}");
    }

    #[test]
    fn chunks_are_joined_up_to_the_limit() {
        check(3, &[], Some(""));
        check(3, &["abc"], Some("abc"));
        check(3, &["a", "", "bc"], Some("abc"));
        check(3, &["", "", "abc"], Some("abc"));
        check(3, &["abcd"], None);
        check(3, &["abc", "d"], None);
    }

    #[test]
    fn the_budget_is_given_back() {
        let budget = Budget::new(2 * UNIT);
        let held = budget.take(UNIT + 1).unwrap();
        assert!(budget.take(1).is_err());
        drop(held);
        assert!(budget.take(1).is_ok());
    }
}
