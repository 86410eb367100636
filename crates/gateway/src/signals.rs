//! Polls transmitters of shared signals (RFC 8936).
//!
//! **Invariant.** What is acknowledged is durable. What is not comes again, also after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use control::{SignalSender, Signals, Unreceived};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::bundles::{causes, client, with_token};
use crate::config::{ServiceConfig, SignalsConfig};

/// How many events are asked for at once.
const AT_ONCE: usize = 100;

/// The longest answer that is read, in bytes: as many tokens of 16 KiB.
const LONGEST: usize = AT_ONCE * 17 * 1024;

/// How long an answer may take: a transmitter may wait for something new that long.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long is waited after an answer without events, so that one that never waits isn't asked all the time.
const PAUSE: Duration = Duration::from_secs(1);

/// How long is waited after a failure: twice as long after each, up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a transmitter may take to hear what was received, when the gateway stops.
const LAST: Duration = Duration::from_secs(2);

/// Who is polled. A reload may change it.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    polled: ArcSwap<Vec<Polled>>,
    changed: Notify,
}

/// A transmitter, and where it is polled.
#[derive(Clone, Debug)]
pub(crate) struct Polled {
    sender: Arc<SignalSender>,
    service: ServiceConfig,
}

/// What a config makes of its transmitters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Senders {
    pub(crate) all: Vec<Arc<SignalSender>>,
    pub(crate) polled: Vec<Polled>,
}

impl Senders {
    /// Reads their tokens.
    pub(crate) async fn read(config: &[SignalsConfig]) -> Result<Self, String> {
        let mut senders = Self::default();
        for each in config {
            let issuer = &each.transmitter.issuer;
            let told = |error: String| format!("signals `{issuer}`: {error}");
            let push = match &each.push {
                Some(token) => {
                    let token = token.read_document().await;
                    let token = token.map_err(|error| told(error.to_string()))?;
                    Some(zeroize::Zeroizing::new(token.trim_ascii().to_vec()))
                }
                None => None,
            };
            let sender = SignalSender::new(each.transmitter.clone(), push.as_ref());
            let sender = Arc::new(sender.map_err(told)?);
            if let Some(service) = &each.poll {
                client(service).map_err(told)?;
                senders.polled.push(Polled {
                    sender: Arc::clone(&sender),
                    service: service.clone(),
                });
            }
            senders.all.push(sender);
        }
        Ok(senders)
    }
}

impl Polls {
    /// Says who is polled from now on.
    pub(crate) fn configure(&self, polled: Vec<Polled>) {
        self.polled.store(Arc::new(polled));
        self.changed.notify_one();
    }

    /// Polls until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, signals: Arc<Signals>, stop: CancellationToken) {
        loop {
            let until = stop.child_token();
            let mut open = JoinSet::new();
            for polled in self.polled.load_full().iter() {
                let polling = polled.clone().keep(Arc::clone(&signals), until.clone());
                open.spawn(polling);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.changed.notified() => {}
            }
            until.cancel();
            while let Some(ended) = open.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "polling for signals failed");
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }
}

/// A request of RFC 8936 section 2.2.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'r> {
    max_events: usize,
    return_immediately: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ack: Vec<&'r str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    set_errs: BTreeMap<&'r str, SetError>,
}

#[derive(Clone, Debug, Serialize)]
struct SetError {
    err: &'static str,
    description: String,
}

/// An answer of RFC 8936 section 2.3. Whether there are more is seen by asking.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    sets: BTreeMap<String, String>,
}

/// What the transmitter is to be told: by the ids that it gave.
#[derive(Debug, Default)]
struct Told {
    received: Vec<String>,
    refused: BTreeMap<String, SetError>,
}

impl Told {
    fn is_empty(&self) -> bool {
        self.received.is_empty() && self.refused.is_empty()
    }

    fn has(&self, jti: &String) -> bool {
        self.received.contains(jti) || self.refused.contains_key(jti)
    }

    fn request(&self, max_events: usize) -> Request<'_> {
        let refused = self.refused.iter();
        Request {
            max_events,
            return_immediately: max_events == 0,
            ack: self.received.iter().map(String::as_str).collect(),
            set_errs: refused
                .map(|(jti, error)| (jti.as_str(), error.clone()))
                .collect(),
        }
    }
}

impl Polled {
    async fn keep(self, signals: Arc<Signals>, stop: CancellationToken) {
        let issuer = self.sender.issuer();
        let client = match client(&self.service) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(transmitter = issuer, error, "transmitter can't be polled");
                return;
            }
        };
        let mut told = Told::default();
        let (shortest, _) = BACK_OFF;
        let mut back_off = shortest;
        loop {
            let began = Instant::now();
            let request = told.request(AT_ONCE);
            let polled = tokio::select! {
                () = stop.cancelled() => break,
                polled = self.poll(&client, &request) => polled,
            };
            let pause = match polled {
                Ok(answer) => {
                    // Nothing, or what it has been told of already: one that never waits isn't asked all the time.
                    let is_empty = answer.sets.keys().all(|jti| told.has(jti));
                    told = Told::default();
                    if self.receive(&signals, answer, &mut told).await {
                        back_off = shortest;
                        is_empty.then(|| PAUSE.saturating_sub(began.elapsed()))
                    } else {
                        Some(doubled(&mut back_off))
                    }
                }
                Err(error) => {
                    tracing::warn!(transmitter = issuer, error, "transmitter does not answer");
                    Some(doubled(&mut back_off))
                }
            };
            if let Some(pause) = pause {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep(pause) => {}
                }
            }
        }
        if !told.is_empty() {
            // Unheard, they come again, and end nothing new.
            let last = told.request(0);
            timeout(LAST, self.poll(&client, &last)).await.ok();
        }
    }

    /// Takes each event; false where one could not be, and has to come again.
    async fn receive(&self, signals: &Signals, answer: Answer, told: &mut Told) -> bool {
        let mut is_whole = true;
        for (jti, token) in answer.sets {
            match signals.receive(&self.sender, &token).await {
                Ok(own) if own == jti => told.received.push(jti),
                Ok(_) => {
                    let description = "its `jti` is another than it was sent by".to_owned();
                    let err = "invalid_request";
                    told.refused.insert(jti, SetError { err, description });
                }
                Err(error) => match refused(&error) {
                    Some(error) => {
                        told.refused.insert(jti, error);
                    }
                    None => is_whole = false,
                },
            }
        }
        is_whole
    }

    async fn poll(&self, client: &Client, request: &Request<'_>) -> Result<Answer, String> {
        let post = client.post(self.service.url.clone()).timeout(PATIENCE);
        let post = with_token(post, &self.service).await;
        let post = post.map_err(|problem| problem.to_string())?;
        let answer = post.json(request).send().await;
        let answer = answer.map_err(|error| causes(&error))?;
        match answer.status() {
            StatusCode::OK => read(answer).await,
            // Nothing was asked for but to hear what was received.
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(Answer {
                sets: BTreeMap::new(),
            }),
            status => Err(format!("it answers {status}")),
        }
    }
}

/// What to wait now; twice as much the next time.
fn doubled(back_off: &mut Duration) -> Duration {
    let (_, longest) = BACK_OFF;
    let next = back_off.saturating_mul(2).min(longest);
    std::mem::replace(back_off, next)
}

async fn read(mut answer: Response) -> Result<Answer, String> {
    let mut whole = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| causes(&error))? {
        if whole.len() + piece.len() > LONGEST {
            return Err(format!("it answers with more than {LONGEST} bytes"));
        }
        whole.extend_from_slice(&piece);
    }
    serde_json::from_slice(&whole).map_err(|error| format!("its answer can't be read: {error}"))
}

/// What the transmitter is told of a token that is not right; nothing of one that has to come again.
fn refused(error: &Unreceived) -> Option<SetError> {
    Some(SetError {
        err: error.code()?,
        description: error.to_string(),
    })
}
