//! Tells a server of yours of approvals: as they are asked for, and as they are answered.
//!
//! Signed as Standard Webhooks 1.0.0 say: an HMAC-SHA256 over id, time and body, so that nobody else can tell. The call
//! itself is not told; whoever is to read it follows the link.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use reqwest::Client;
use ring::hmac;
use serde_json::{Value, json};
use tasks::{ApprovalState, ApprovalView, Approvals};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::bundles::{causes, client};
use crate::config::WebhookConfig;

/// How long is waited before each try; after the last the message is lost, and the log says so.
const TRIES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// How many messages may be on their way at once; one beyond is lost.
const AT_ONCE: usize = 64;

/// The fewest bytes of a secret: Standard Webhooks ask for 24.
const SHORTEST_SECRET: usize = 24;

/// What of a secret says that it is written in base64.
const ENCODED: &[u8] = b"whsec_";

/// The server that is told, if there is one. A reload may change it.
#[derive(Debug, Default)]
pub(crate) struct Webhook {
    config: ArcSwapOption<WebhookConfig>,
}

impl Webhook {
    /// Says who is told from now on.
    pub(crate) fn configure(&self, config: Option<WebhookConfig>) {
        self.config.store(config.map(Arc::new));
    }

    /// Tells until `stop`: first of all that wait, since nobody knows what was told before.
    pub(crate) async fn tell(self: Arc<Self>, approvals: Arc<Approvals>, stop: CancellationToken) {
        let mut news = approvals.news();
        let open = TaskTracker::new();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let send = |view: ApprovalView| {
            let Some(config) = self.config.load_full() else {
                return;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(approval = %view.id, "webhook not told: too many messages wait");
                return;
            };
            let stop = stop.clone();
            open.spawn(async move {
                let _place = place;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = deliver(&config, &view) => {}
                }
            });
        };
        let waiting = approvals.list().into_iter();
        waiting
            .filter(|view| view.state == ApprovalState::Waiting)
            .for_each(send);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                view = news.recv() => match view {
                    Ok(view) => send(view),
                    Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "webhook not told: too much happened at once"),
                    Err(RecvError::Closed) => break,
                },
            }
        }
        open.close();
        open.wait().await;
    }
}

async fn deliver(config: &WebhookConfig, view: &ApprovalView) {
    let mut failure = String::new();
    for pause in TRIES {
        tokio::time::sleep(pause).await;
        match post(config, view).await {
            Ok(()) => return,
            Err(error) => failure = error,
        }
    }
    tracing::warn!(approval = %view.id, error = failure, "webhook not told");
}

async fn post(config: &WebhookConfig, view: &ApprovalView) -> Result<(), String> {
    let http: Client = client(&config.service)?;
    let id = format!("{}.{}.{}", view.id, view.state.as_str(), view.votes.len());
    let now = Timestamp::now();
    let body = told(view, now).to_string();
    let secret = config.secret.read_document().await;
    let secret = secret.map_err(|error| format!("its secret can't be read: {error}"))?;
    let time = now.as_second().to_string();
    let signature = signature(&secret, &id, &time, &body)?;
    let request = http
        .post(config.service.url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", time)
        .header("webhook-signature", signature)
        .body(body);
    let response = request.send().await.map_err(|error| causes(&error))?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(format!("the server answers {}", response.status()))
    }
}

/// What is told: all but the call.
fn told(view: &ApprovalView, now: Timestamp) -> Value {
    let mut data = serde_json::to_value(view).unwrap_or_default();
    if let Some(data) = data.as_object_mut() {
        data.remove("call");
    }
    json!({
        "type": format!("approval.{}", view.state.as_str()),
        "timestamp": now.to_string(),
        "data": data,
    })
}

fn signature(secret: &[u8], id: &str, time: &str, body: &str) -> Result<String, String> {
    let secret = secret.trim_ascii();
    let key = match secret.strip_prefix(ENCODED) {
        Some(encoded) => {
            let key = STANDARD.decode(encoded);
            Zeroizing::new(key.map_err(|_| "its secret is no base64 after `whsec_`".to_owned())?)
        }
        None => Zeroizing::new(secret.to_vec()),
    };
    if key.len() < SHORTEST_SECRET {
        return Err(format!("its secret has less than {SHORTEST_SECRET} bytes"));
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{time}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(tag)))
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn a_secret_may_be_written_in_base64() {
        let plain = signature(b"0123456789abcdef01234567\n", "i", "1", "{}").unwrap();
        let encoded = b"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
        assert_eq!(signature(encoded, "i", "1", "{}").unwrap(), plain);
        assert!(plain.starts_with("v1,") && plain.len() == 47);
        for (id, time, body) in [("j", "1", "{}"), ("i", "2", "{}"), ("i", "1", "[]")] {
            assert_ne!(signature(encoded, id, time, body).unwrap(), plain);
        }
    }

    #[test]
    fn a_short_secret_signs_nothing() {
        assert!(signature(b"short", "i", "1", "{}").is_err());
        assert!(signature(b"whsec_****", "i", "1", "{}").is_err());
    }
}
