//! An issuer on a real socket that answers as a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

pub(super) struct Idp {
    url: Url,
    served: Arc<Served>,
}

struct Served {
    discovery: Mutex<Answer>,
    jwks: Mutex<Answer>,
    /// How often the key set was asked for.
    asked: AtomicUsize,
}

#[derive(Clone)]
pub(super) enum Answer {
    Json(Value),
    /// Status line, further headers and all.
    Raw(Vec<u8>),
    /// The connection stays open and nothing comes.
    Silence,
}

impl Idp {
    /// Publishes these keys.
    pub(super) async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let issuer = url.as_str().trim_end_matches('/');
        let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "more": []});
        let served = Arc::new(Served {
            discovery: Mutex::new(Answer::Json(discovery)),
            jwks: Mutex::new(Answer::Json(json!({"keys": keys}))),
            asked: AtomicUsize::new(0),
        });
        tokio::spawn(serve(listener, Arc::clone(&served)));
        Self { url, served }
    }

    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }

    /// As tokens spell it.
    pub(super) fn issuer(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    pub(super) fn publish(&self, keys: &[Value]) {
        self.answer(Answer::Json(json!({"keys": keys})));
    }

    pub(super) fn answer(&self, answer: Answer) {
        *self.served.jwks.lock() = answer;
    }

    pub(super) fn discover(&self, answer: Answer) {
        *self.served.discovery.lock() = answer;
    }

    pub(super) fn asked(&self) -> usize {
        self.served.asked.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, served: Arc<Served>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, Arc::clone(&served)));
    }
}

async fn answer(mut stream: TcpStream, served: Arc<Served>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let answer = if head.starts_with(b"GET /.well-known/openid-configuration ") {
        served.discovery.lock().clone()
    } else {
        served.asked.fetch_add(1, Ordering::SeqCst);
        served.jwks.lock().clone()
    };
    match answer {
        Answer::Json(value) => {
            let text = value.to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let all = format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            stream.write_all(all.as_bytes()).await.ok()
        }
        Answer::Raw(bytes) => stream.write_all(&bytes).await.ok(),
        Answer::Silence => stream.read_u8().await.ok().map(drop),
    }
}
