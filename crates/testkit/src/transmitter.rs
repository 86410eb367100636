//! A fake transmitter of shared signals: keys, events, and a poll endpoint (RFC 8936) that keeps what nobody acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::issuer::{Algorithm, Mood};
use crate::{Issuer, Serving};

/// The token that the fake wants to be polled with.
pub const POLL_TOKEN: &str = "poll-token-0123456789";

/// How long a poll waits for an event.
const LONG: Duration = Duration::from_millis(200);

/// A fake transmitter of shared signals.
#[derive(Debug)]
pub struct Transmitter {
    issuer: Issuer,
    url: String,
    stream: Arc<Mutex<Stream>>,
    _serving: Serving,
}

/// What was polled for, and what came back.
#[derive(Debug, Default)]
struct Stream {
    waiting: BTreeMap<String, String>,
    acknowledged: Vec<String>,
    refused: BTreeMap<String, Value>,
    polls: usize,
    is_down: bool,
}

impl Transmitter {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/poll", listener.local_addr().unwrap());
        let stream: Arc<Mutex<Stream>> = Arc::default();
        let app = Router::new()
            .route("/poll", post(poll))
            .with_state(Arc::clone(&stream));
        let serving = Serving::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            issuer: Issuer::start().await,
            url,
            stream,
            _serving: serving,
        }
    }

    /// Its `iss`.
    pub fn issuer(&self) -> &str {
        self.issuer.url()
    }

    /// Its key set.
    pub fn jwks(&self) -> String {
        format!("{}/jwks", self.issuer.url())
    }

    /// Where it is polled.
    pub fn endpoint(&self) -> &str {
        &self.url
    }

    /// Whether polls are answered with 503 from now on.
    pub fn down(&self, is_down: bool) {
        self.stream.lock().is_down = is_down;
    }

    /// Whether its key set is answered with 503 from now on.
    pub fn keys_down(&self, is_down: bool) {
        let mood = if is_down { Mood::Down } else { Mood::Well };
        self.issuer.mood(mood);
    }

    /// Claims that are in order: one event about somebody, for `audience`, issued now.
    pub fn claims(
        &self,
        audience: &str,
        jti: &str,
        (uri, event): (&str, &Value),
        subject: &Value,
    ) -> Value {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let mut events = serde_json::Map::new();
        events.insert(uri.to_owned(), event.clone());
        json!({
            "iss": self.issuer(), "aud": audience, "iat": now, "jti": jti,
            "sub_id": subject, "events": events,
        })
    }

    /// Signs claims as a security event token.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as("secevent+jwt", claims)
    }

    /// Signs claims with another `typ`.
    pub fn sign_as(&self, typ: &str, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": typ, "kid": "ES256-1" });
        self.issuer.mint_with(Algorithm::ES256, &header, claims)
    }

    /// Has a token polled for.
    pub fn offer(&self, jti: &str, token: &str) {
        let mut stream = self.stream.lock();
        stream.waiting.insert(jti.to_owned(), token.to_owned());
    }

    /// The ids that were acknowledged, in their order.
    pub fn acknowledged(&self) -> Vec<String> {
        self.stream.lock().acknowledged.clone()
    }

    /// What was told of tokens that were not taken, by their ids.
    pub fn refused(&self) -> BTreeMap<String, Value> {
        self.stream.lock().refused.clone()
    }

    /// How often it was polled.
    pub fn polls(&self) -> usize {
        self.stream.lock().polls
    }
}

async fn poll(
    State(stream): State<Arc<Mutex<Stream>>>,
    headers: HeaderMap,
    axum::Json(request): axum::Json<Value>,
) -> Response {
    let expected = format!("Bearer {POLL_TOKEN}");
    if headers
        .get("authorization")
        .is_none_or(|sent| *sent != *expected)
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    {
        let mut stream = stream.lock();
        if stream.is_down {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        stream.polls += 1;
        let acknowledged = request.get("ack").and_then(Value::as_array);
        for jti in acknowledged.into_iter().flatten().filter_map(Value::as_str) {
            stream.waiting.remove(jti);
            stream.acknowledged.push(jti.to_owned());
        }
        let refused = request.get("setErrs").and_then(Value::as_object);
        for (jti, error) in refused.into_iter().flatten() {
            stream.waiting.remove(jti);
            stream.refused.insert(jti.clone(), error.clone());
        }
    }
    if stream.lock().waiting.is_empty() && request.get("returnImmediately") == Some(&json!(false)) {
        tokio::time::sleep(LONG).await;
    }
    let most = request.get("maxEvents").and_then(Value::as_u64);
    let most = most
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let stream = stream.lock();
    let sets: BTreeMap<_, _> = stream.waiting.iter().take(most).collect();
    let more = stream.waiting.len() > sets.len();
    axum::Json(json!({ "sets": sets, "moreAvailable": more })).into_response()
}
