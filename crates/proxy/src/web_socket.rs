//! The connection under a WebSocket: it lets pingora end the request before it reads the answer.
//!
//! pingora 0.9.1 tells its sending half that the request has no body at the same moment as its
//! receiving half begins to read. If a quick upstream's 101 is read first, the end of the request
//! is taken for the end of the WebSocket. So the first read after a write is put off by one poll.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::{BError, Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Makes connections to begin a WebSocket on, within this time.
#[derive(Debug)]
pub(crate) struct WebSockets(pub(crate) Duration);

#[async_trait]
impl L4Connect for WebSockets {
    async fn connect(&self, address: &socket::SocketAddr) -> Result<Stream, BError> {
        let inet = address.as_inet().copied();
        let address = inet.ok_or_else(|| Error::new_up(ErrorType::ConnectError))?;
        let stream = timeout(self.0, connect(address)).await;
        let stream = stream.map_err(|_| Error::new_up(ErrorType::ConnectTimedout))?;
        let stream = stream.map_err(|error| refused(address, error))?;
        let socket = TakesTurns {
            stream,
            wrote: false,
        };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn refused(address: SocketAddr, error: io::Error) -> BError {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, format!("while connecting to {address}"), error).into_up()
}

/// A socket that after a write lets others have their turn before it is read.
#[derive(Debug)]
struct TakesTurns {
    stream: TcpStream,
    wrote: bool,
}

impl VirtualSocket for TakesTurns {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.set_nodelay(true),
            // The silence of an upstream is limited by the tool's own timeout.
            _ => Ok(()),
        }
    }
}

impl AsyncRead for TakesTurns {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.wrote) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TakesTurns {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wrote = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
