//! An agent's HTTP connection to the gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;
use testkit::Authority;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What an agent's connection speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wire {
    Http1,
    Http2,
    TlsHttp1,
    TlsHttp2,
}

/// One connection of an agent.
pub(crate) struct Caller {
    sender: Sender,
    address: SocketAddr,
    token: String,
}

#[derive(Clone)]
enum Http2 {
    Plain(http2::SendRequest<Body>),
    Tls(http2::SendRequest<Body>),
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(Http2),
}

impl Caller {
    pub(crate) async fn connect(
        address: &str,
        wire: Wire,
        authority: &Authority,
        token: &str,
    ) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let sender = match wire {
            Wire::Http1 => Sender::Http1(first(stream).await),
            Wire::Http2 => Sender::Http2(Http2::Plain(second(stream).await)),
            Wire::TlsHttp1 => Sender::Http1(first(tls(stream, authority, "http/1.1").await).await),
            Wire::TlsHttp2 => {
                Sender::Http2(Http2::Tls(second(tls(stream, authority, "h2").await).await))
            }
        };
        Self {
            sender,
            address,
            token: token.to_owned(),
        }
    }

    /// Another caller on the same HTTP/2 connection.
    pub(crate) fn beside(&self, token: &str) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            panic!("only HTTP/2 connections are shared");
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            address: self.address,
            token: token.to_owned(),
        }
    }

    /// A request as this connection writes it, with the proof.
    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let proof = format!("Bearer {}", self.token);
        let request = Request::builder()
            .method(method)
            .header("authorization", proof);
        match &self.sender {
            Sender::Http1(_) => request.uri(path).header("host", self.address.to_string()),
            Sender::Http2(Http2::Plain(_)) => request.uri(format!("http://{}{path}", self.address)),
            Sender::Http2(Http2::Tls(_)) => request.uri(format!("https://{}{path}", self.address)),
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(Http2::Plain(sender) | Http2::Tls(sender)) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = self.request(Method::GET, path).body(empty()).unwrap();
        self.send(request).await
    }

    /// Posts JSON.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: Body,
    ) -> hyper::Result<Response<Incoming>> {
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/json");
        self.send(request.body(body).unwrap()).await
    }

    /// What is answered to a GET: the status, and the code if it is a refusal.
    pub(crate) async fn outcome(&mut self, path: &str) -> (StatusCode, String) {
        outcome(self.get(path).await.unwrap()).await
    }
}

/// The status, and the code if it is a refusal.
pub(crate) async fn outcome(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    (
        status,
        problem["code"].as_str().unwrap_or_default().to_owned(),
    )
}

async fn first(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> http1::SendRequest<Body> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

async fn second(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> http2::SendRequest<Body> {
    let builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A TLS connection that agreed on this protocol.
pub(crate) async fn tls(
    stream: TcpStream,
    authority: &Authority,
    protocol: &str,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = authority.client_config(None);
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(
        stream.get_ref().1.alpn_protocol(),
        Some(protocol.as_bytes())
    );
    stream
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body whose length is told.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body whose length is not told, in these pieces.
pub(crate) fn pieces(pieces: impl IntoIterator<Item = Bytes, IntoIter: Send + 'static>) -> Body {
    let frames = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// Reads a whole body, and its trailers.
pub(crate) async fn read(response: Response<Incoming>) -> (Bytes, HeaderMap) {
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (body.to_bytes(), trailers)
}
