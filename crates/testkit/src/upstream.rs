//! A tool's server that remembers what reached it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use futures::stream::{self, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::Serving;

/// A tool's server: HTTP/1.1 and HTTP/2, in plain text or TLS. It remembers every request.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    _serving: Serving,
}

/// What reached an upstream.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The request target: path and query, or whatever came.
    pub target: String,
    /// The protocol version.
    pub version: Version,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// The body, as far as it came; of a mirrored one about the first 64 KiB.
    pub body: Bytes,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
    /// Whether all of the body came.
    pub complete: bool,
    /// Which connection it came by, from 0.
    pub connection: usize,
    /// The client's certificate, DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl Received {
    /// The value of a header, if it is there once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        values.next().is_none().then(|| first.to_str().ok())?
    }
}

/// What an upstream answers.
#[derive(Clone)]
pub enum Answer {
    /// A status and a JSON body.
    Json(StatusCode, Value),
    /// A status and a body of any bytes.
    Bytes(StatusCode, Bytes),
    /// What came, as JSON: `method`, `target`, `version`, `headers` (pairs), `body` (text).
    Echo,
    /// The request's body, streamed back as it comes.
    Mirror,
    /// So many server-sent events, `data: 0` and on, so far apart.
    Ticks(usize, Duration),
    /// So many bytes of `x`, in chunks of 16 KiB.
    Large(usize),
    /// Another answer, after a while.
    Slow(Duration, Box<Self>),
    /// Another answer, with this header more.
    With(HeaderName, HeaderValue, Box<Self>),
    /// A media type and the pieces of a body, so far apart.
    Pieces(&'static str, Vec<Bytes>, Duration),
    /// gRPC messages, then the status in the trailers.
    Grpc(Vec<Bytes>, u32),
    /// gRPC messages, then these trailers.
    Trailed(Vec<Bytes>, HeaderMap),
    /// A WebSocket that sends every message back.
    WebSocket,
    /// A body that breaks off after these bytes.
    Broken(Bytes),
    /// Whatever this says.
    By(Arc<dyn Fn(&Received) -> Self + Send + Sync>),
}

impl Answer {
    /// Status 200 and a JSON body.
    pub fn json(value: Value) -> Self {
        Self::Json(StatusCode::OK, value)
    }

    /// Whatever this says.
    pub fn by(answer: impl Fn(&Received) -> Self + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(answer))
    }

    /// This answer, with a header more.
    #[must_use]
    pub fn with(self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        Self::With(HeaderName::from_static(name), value, Box::new(self))
    }

    /// This answer, after a while.
    #[must_use]
    pub fn slow(self, after: Duration) -> Self {
        Self::Slow(after, Box::new(self))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
}

/// gRPC over HTTP/2.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// How much is remembered of a mirrored body, in bytes.
const MIRRORED: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Reply = Response<Body>;

impl Upstream {
    /// Starts one in plain text (HTTP/1.1 and h2c by prior knowledge).
    pub async fn start(answer: Answer) -> Self {
        Self::listen(answer, None).await
    }

    /// Starts one over TLS; see [`Certified::server_config`](crate::certificates::Certified::server_config).
    pub async fn start_tls(answer: Answer, config: ServerConfig) -> Self {
        Self::listen(answer, Some(config)).await
    }

    async fn listen(answer: Answer, config: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let scheme = if config.is_some() { "https" } else { "http" };
        let acceptor = config.map(|config| TlsAcceptor::from(Arc::new(config)));
        Self {
            address,
            scheme,
            _serving: Serving::spawn(accept(listener, acceptor, Arc::clone(&shared))),
            shared,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Answers differently from now on.
    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock() = answer;
    }

    /// Everything that reached it, in order of the heads.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    /// The one request that reached it.
    #[track_caller]
    pub fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "requests that reached the upstream");
        received.pop().unwrap()
    }

    /// Forgets what reached it.
    pub fn forget(&self) {
        self.shared.received.lock().clear();
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have reached it whole.
    pub async fn until(&self, count: usize) {
        let whole = || {
            self.shared
                .received
                .lock()
                .iter()
                .filter(|received| received.complete)
                .count()
        };
        while whole() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Dropped with the upstream, and all connections with them.
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true).is_ok();
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        serving.spawn(async move {
            let Some(acceptor) = acceptor else {
                return serve(
                    stream,
                    Peer {
                        connection,
                        certificate: None,
                    },
                    shared,
                )
                .await;
            };
            // A client that breaks the handshake off is what some tests are about.
            if let Ok(stream) = acceptor.accept(stream).await {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificate = certificates.and_then(|chain| Some(chain.first()?.to_vec()));
                serve(
                    stream,
                    Peer {
                        connection,
                        certificate,
                    },
                    shared,
                )
                .await;
            }
        });
        while serving.try_join_next().is_some() {}
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
struct Peer {
    connection: usize,
    certificate: Option<Vec<u8>>,
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| {
        let (peer, shared) = (peer.clone(), Arc::clone(&shared));
        async move { Ok::<_, Infallible>(shared.reply(request, peer).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    // What breaks off is seen in what was received.
    let _ = served.await.is_ok();
}

impl Shared {
    async fn reply(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Reply {
        let (head, body) = request.into_parts();
        let received = Received {
            method: head.method.clone(),
            target: head
                .uri
                .path_and_query()
                .map_or_else(|| head.uri.to_string(), ToString::to_string),
            version: head.version,
            headers: head.headers.clone(),
            body: Bytes::new(),
            trailers: None,
            complete: false,
            connection: peer.connection,
            client_certificate: peer.certificate,
        };
        let place = {
            let mut all = self.received.lock();
            all.push(received.clone());
            all.len() - 1
        };
        let answer = self.answer.lock().clone();
        match answer {
            Answer::Mirror => Response::new(self.mirror(place, body)),
            Answer::WebSocket => web_socket(Request::from_parts(head, body)),
            answer => {
                let received = self.read(place, received, body).await;
                reply(answer, &received).await
            }
        }
    }

    /// Reads a whole body into what was received.
    async fn read(&self, place: usize, mut received: Received, mut body: Incoming) -> Received {
        let mut bytes = BytesMut::new();
        received.complete = true;
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data),
                Ok(Err(frame)) => received.trailers = frame.into_trailers().ok(),
                Err(_) => {
                    received.complete = false;
                    break;
                }
            }
        }
        received.body = bytes.freeze();
        self.note(place, |noted| noted.clone_from(&received));
        received
    }

    fn mirror(self: Arc<Self>, place: usize, body: Incoming) -> Body {
        let noting = Arc::clone(&self);
        let frames = body.into_data_stream().map(move |data| {
            let data = data.map_err(std::io::Error::other)?;
            noting.note(place, |noted| {
                if noted.body.len() < MIRRORED {
                    noted.body = [&*noted.body, &data].concat().into();
                }
            });
            Ok(Frame::data(data))
        });
        let end = stream::once(async move {
            self.note(place, |noted| noted.complete = true);
            Ok(Frame::data(Bytes::new()))
        });
        StreamBody::new(frames.chain(end)).boxed_unsync()
    }

    fn note(&self, place: usize, note: impl FnOnce(&mut Received)) {
        // Gone if the test has forgotten it meanwhile.
        if let Some(received) = self.received.lock().get_mut(place) {
            note(received);
        }
    }
}

async fn reply(mut answer: Answer, received: &Received) -> Reply {
    let mut headers = HeaderMap::new();
    // Wrappings come off one by one, so that no future holds itself.
    let mut response = loop {
        match answer {
            Answer::Slow(after, then) => {
                tokio::time::sleep(after).await;
                answer = *then;
            }
            Answer::With(name, value, then) => {
                headers.append(name, value);
                answer = *then;
            }
            Answer::By(decide) => answer = decide(received),
            Answer::Json(status, value) => break json_reply(status, &value),
            Answer::Bytes(status, bytes) => {
                let mut response = Response::new(full(bytes));
                *response.status_mut() = status;
                break response;
            }
            Answer::Echo => break json_reply(StatusCode::OK, &echo(received)),
            Answer::Ticks(count, apart) => break ticks(count, apart),
            Answer::Large(size) => break large(size),
            Answer::Pieces(kind, pieces, apart) => break typed(in_pieces(pieces, apart), kind),
            Answer::Grpc(messages, status) => {
                let trailers = [(GRPC_STATUS, HeaderValue::from(status))];
                break grpc(messages, trailers.into_iter().collect());
            }
            Answer::Trailed(messages, trailers) => break grpc(messages, trailers),
            Answer::Broken(bytes) => break broken(bytes),
            Answer::Mirror | Answer::WebSocket => {
                break json_reply(
                    StatusCode::NOT_IMPLEMENTED,
                    &json!("only as the whole answer"),
                );
            }
        }
    };
    for (name, value) in &headers {
        response.headers_mut().append(name, value.clone());
    }
    response
}

fn json_reply(status: StatusCode, value: &Value) -> Reply {
    let mut response = Response::new(full(value.to_string().into()));
    *response.status_mut() = status;
    typed(response, "application/json")
}

fn echo(received: &Received) -> Value {
    let headers: Vec<_> = received
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json!({
        "method": received.method.as_str(),
        "target": received.target,
        "version": format!("{:?}", received.version),
        "headers": headers,
        "body": String::from_utf8_lossy(&received.body),
    })
}

fn ticks(count: usize, apart: Duration) -> Reply {
    let events = stream::iter(0..count).then(move |number| async move {
        if number > 0 {
            tokio::time::sleep(apart).await;
        }
        Ok(Frame::data(format!("data: {number}\n\n").into()))
    });
    typed(streamed(events), "text/event-stream")
}

fn large(size: usize) -> Reply {
    const CHUNK: usize = 16 * 1024;
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let chunks = (0..size.div_ceil(CHUNK)).map(move |number| {
        let length = CHUNK.min(size - number * CHUNK);
        Ok(Frame::data(chunk.slice(..length)))
    });
    typed(streamed(stream::iter(chunks)), "application/octet-stream")
}

fn in_pieces(pieces: Vec<Bytes>, apart: Duration) -> Reply {
    let pieces = stream::iter(pieces.into_iter().enumerate());
    streamed(pieces.then(move |(number, piece)| async move {
        if number > 0 {
            tokio::time::sleep(apart).await;
        }
        Ok(Frame::data(piece))
    }))
}

fn grpc(messages: Vec<Bytes>, trailers: HeaderMap) -> Reply {
    let frames = messages.into_iter().map(|message| {
        // An uncompressed message: a zero, its length, itself.
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap());
        frame.extend_from_slice(&message);
        Ok(Frame::data(frame.freeze()))
    });
    let end = std::iter::once(Ok(Frame::trailers(trailers)));
    let frames: Vec<_> = frames.chain(end).collect();
    typed(streamed(stream::iter(frames)), "application/grpc")
}

fn broken(bytes: Bytes) -> Reply {
    let end = Err(std::io::Error::other("broken off, as asked"));
    let frames = stream::iter([Ok(Frame::data(bytes))]).chain(stream::once(async {
        // Time for the bytes to leave, or hyper would drop them with the connection.
        tokio::time::sleep(Duration::from_millis(50)).await;
        end
    }));
    typed(streamed(frames), "application/octet-stream")
}

fn web_socket(mut request: Request<Incoming>) -> Reply {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        return json_reply(StatusCode::UPGRADE_REQUIRED, &json!("no WebSocket"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let (mut write, mut read) = socket.split();
        while let Some(Ok(message)) = read.next().await {
            if message.is_close() || write.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert(
        "sec-websocket-accept",
        HeaderValue::from_str(&accept).unwrap(),
    );
    response
}

fn typed(mut response: Reply, kind: &'static str) -> Reply {
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn streamed(
    frames: impl futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + 'static,
) -> Reply {
    Response::new(StreamBody::new(frames).boxed_unsync())
}

#[cfg(test)]
mod tests;
