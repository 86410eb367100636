//! One HTTP/1 connection of an agent, as pingora talks on it.
//!
//! What is written in pieces leaves as one: pingora writes an answer's head and its body one after the other, and
//! the buffer that joins them is private to its own listeners. Two packets for each answer would cost more than all
//! of policy.
//!
//! What pingora says of its own accord is said our way: to a head that it can't read it answers 400 without a word,
//! before any phase is called. It is told from a call's answer by there being no open call.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use telemetry::Trace;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::reply::Reply;

/// What is held back at most until pingora flushes: a head and a small body. Longer bodies pass as they are.
const HELD: usize = 4 * 1024;

/// The call that a line is at.
pub(crate) struct Turn {
    // Held for a look or an assignment, by the one task that talks on the connection: it never waits.
    exchange: Mutex<Option<Arc<Exchange>>>,
    client: Option<SocketAddr>,
    scheme: &'static str,
}

impl Turn {
    /// Before the first call.
    pub(crate) fn new(stream: &Stream) -> Arc<Self> {
        let digest = stream.get_socket_digest();
        let client = digest.and_then(|digest| digest.peer_addr()?.as_inet().copied());
        let is_tls = stream.get_ssl_digest().is_some();
        Arc::new(Self {
            exchange: Mutex::new(None),
            client,
            scheme: if is_tls { "https" } else { "http" },
        })
    }

    /// Waits for the head of the next call.
    pub(crate) fn begin(&self, exchange: &Arc<Exchange>) {
        *self.exchange.lock() = Some(Arc::clone(exchange));
    }

    /// The call is over.
    pub(crate) fn end(&self) {
        *self.exchange.lock() = None;
    }

    /// The exchange that is not open yet, if what is written now is no answer to a call.
    fn unheard(&self) -> Option<Arc<Exchange>> {
        let exchange = self.exchange.lock();
        exchange
            .as_ref()
            .filter(|exchange| !exchange.is_open())
            .cloned()
    }

    /// Opens the exchange for a head that nobody can read, and refuses it.
    fn refuse(&self, exchange: &Exchange) -> Bytes {
        exchange.open(Trace::begin(), self.client);
        let refusal = Refusal::Framing("the head can't be read");
        let status = refusal.outcome().status;
        exchange.note(|record| {
            record.scheme = self.scheme;
            record.status = Some(status.as_u16());
        });
        exchange.refused_unheard(&refusal);
        match Reply::new(&refusal, exchange.form(), &exchange.decision()) {
            Ok(reply) => on_wire(&reply),
            Err(_) => Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"),
        }
    }
}

/// A reply as it is written; no other request is read after it.
fn on_wire(reply: &Reply) -> Bytes {
    let mut wire = BytesMut::with_capacity(1024);
    let mut push = |parts: &[&[u8]]| parts.iter().for_each(|part| wire.extend_from_slice(part));
    let status = reply.head.status;
    let reason = status.canonical_reason().unwrap_or_default();
    push(&[
        b"HTTP/1.1 ",
        status.as_str().as_bytes(),
        b" ",
        reason.as_bytes(),
        b"\r\n",
    ]);
    for (name, value) in &reply.head.headers {
        push(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    push(&[b"connection: close\r\n\r\n", &reply.body]);
    wire.freeze()
}

/// One HTTP/1 connection of an agent.
pub(crate) struct Line {
    stream: Stream,
    /// What waits for more. It takes room only meanwhile: most connections are idle most of the time.
    held: BytesMut,
    turn: Arc<Turn>,
    /// What is left of the answer to a head that can't be read. From then on pingora writes into the void.
    answer: Option<Bytes>,
}

impl Line {
    pub(crate) fn new(stream: Stream, turn: Arc<Turn>) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
            turn,
            answer: None,
        }
    }

    /// Holds bytes back, or writes them behind what was held.
    fn poll_say(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() > HELD {
            ready!(self.poll_held(context))?;
            if bytes.len() > HELD {
                return Pin::new(&mut self.stream).poll_write(context, bytes);
            }
        }
        if self.held.capacity() == 0 {
            self.held.reserve(HELD);
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Writes what was held.
    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.has_remaining() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.held.advance(written),
            }
        }
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

// By hand: what is held back may be private.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        if line.answer.is_none()
            && let Some(exchange) = line.turn.unheard()
        {
            line.answer = Some(line.turn.refuse(&exchange));
        }
        let Some(mut answer) = line.answer.take() else {
            return line.poll_say(context, bytes);
        };
        while answer.has_remaining() {
            match line.poll_say(context, &answer) {
                Poll::Ready(Ok(said)) => answer.advance(said),
                // The same bytes are offered again.
                Poll::Pending => {
                    line.answer = Some(answer);
                    return Poll::Pending;
                }
                failed @ Poll::Ready(Err(_)) => return failed,
            }
        }
        line.answer = Some(answer);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        ready!(line.poll_held(context))?;
        Pin::new(&mut line.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        ready!(line.poll_held(context))?;
        Pin::new(&mut line.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Line {
    async fn shutdown(&mut self) {
        // Whoever is gone misses nothing.
        poll_fn(|context| self.poll_held(context)).await.ok();
        self.stream.shutdown().await;
    }
}

impl UniqueID for Line {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Line {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Line {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for Line {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Line {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

#[async_trait]
impl Peek for Line {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.stream.try_peek(buffer).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn line(open: bool) -> (Line, DuplexStream, Arc<Exchange>) {
        let (ours, theirs) = duplex(64 * 1024);
        let stream: Stream = Box::new(ours);
        let turn = Turn::new(&stream);
        let (exchange, _) = Exchange::new();
        if open {
            exchange.open(Trace::begin(), None);
        }
        turn.begin(&exchange);
        (Line::new(stream, turn), theirs, exchange)
    }

    /// What has left by now.
    fn left(theirs: &mut DuplexStream) -> String {
        let mut bytes = vec![0; 64 * 1024];
        let read = theirs.read(&mut bytes).now_or_never();
        let length = read.map_or(0, |read| read.unwrap());
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_is_written_in_pieces_leaves_as_one() {
        let (mut line, mut theirs, _) = line(true);
        line.write_all(b"head ").await.unwrap();
        line.write_all(b"body").await.unwrap();
        assert_eq!(left(&mut theirs), "");
        line.flush().await.unwrap();
        assert_eq!(left(&mut theirs), "head body");
        assert_eq!(line.held.capacity(), 0);
    }

    #[tokio::test]
    async fn a_long_body_follows_what_was_held() {
        for length in [HELD - 5, HELD - 4, HELD, HELD + 1, 3 * HELD] {
            let (mut line, mut theirs, _) = line(true);
            let body = "x".repeat(length);
            line.write_all(b"head ").await.unwrap();
            line.write_all(body.as_bytes()).await.unwrap();
            line.flush().await.unwrap();
            assert_eq!(left(&mut theirs), format!("head {body}"));
        }
    }

    #[tokio::test]
    async fn what_pingora_says_of_its_own_accord_is_said_our_way() {
        let (mut line, mut theirs, exchange) = line(false);
        line.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        line.write_all(b"and more").await.unwrap();
        line.flush().await.unwrap();
        let said = left(&mut theirs);
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
        assert!(said.contains(exchange.decision().as_str()), "{said}");
        assert!(!said.contains("and more"), "{said}");
        assert!(exchange.read_unheard(|_| ()).is_some());
    }
}
