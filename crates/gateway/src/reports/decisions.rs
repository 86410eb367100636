//! Uploads decisions as OPA does: a gzipped JSON array of events, kept and sent again where the server does not take it.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use policy::{Batch, DecisionLog};
use reqwest::Client;
use telemetry::Recorder;
use tokio_util::sync::CancellationToken;

use crate::bundles::{Problem, back_off, between, causes, client, with_token};
use crate::config::DecisionLogsConfig;

/// How much smaller events are at most once they are compressed; a guess, halved where it is wrong.
const DENSE: usize = 10;

/// Uploads until `stop`, and then once more.
pub(super) async fn upload(
    config: DecisionLogsConfig,
    log: Arc<DecisionLog>,
    recorder: Recorder,
    stop: CancellationToken,
) {
    let client = match client(&config.service) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(error, "decisions are not sent");
            return;
        }
    };
    let uploader = Uploader {
        config,
        log,
        client,
    };
    let polling = uploader.config.polling;
    let mut failures = 0;
    let mut lost = 0;
    let mut delay = between(polling.min_delay, polling.max_delay);
    loop {
        let is_last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(delay) => false,
        };
        delay = match uploader.send_all().await {
            Ok(()) => {
                failures = 0;
                between(polling.min_delay, polling.max_delay)
            }
            Err(problem) => {
                tracing::warn!(error = %problem, "decisions not sent; they are kept, and sent again");
                failures += 1;
                back_off(failures, &polling)
            }
        };
        if is_last {
            // Nobody will send what is left.
            uploader.log.give_up();
        }
        let now = uploader.log.dropped() + uploader.log.failed();
        if now > lost {
            tracing::warn!(
                events = now - lost,
                "decisions were lost on their way to the log"
            );
            recorder.decisions_lost(now - lost);
            lost = now;
        }
        if is_last {
            return;
        }
    }
}

struct Uploader {
    config: DecisionLogsConfig,
    log: Arc<DecisionLog>,
    client: Client,
}

impl Uploader {
    /// Sends all that waits. What can't be sent is put back.
    async fn send_all(&self) -> Result<(), Problem> {
        loop {
            let batch = self.log.take(self.config.upload.saturating_mul(DENSE));
            if batch.is_empty() {
                return Ok(());
            }
            // The first part is the last of the list.
            let mut parts = vec![batch];
            while let Some(mut part) = parts.pop() {
                let body = compressed(&part);
                if body.len() > self.config.upload && part.len() > 1 {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                    continue;
                }
                if body.len() > self.config.upload {
                    self.log.drop_events(1);
                    continue;
                }
                if let Err(problem) = self.post(body).await {
                    parts.push(part);
                    for part in parts {
                        self.log.put_back(part);
                    }
                    return Err(problem);
                }
            }
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), Problem> {
        let request = self
            .client
            .post(self.config.service.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .body(body);
        let request = with_token(request, &self.config.service).await?;
        let response = request.send().await.map_err(|error| {
            let message = format!("the server does not answer: {}", causes(&error));
            Problem::new("decision-log-server", message)
        })?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(Problem::of_status(response.status()))
        }
    }
}

/// A JSON array of events, gzipped.
fn compressed(events: &Batch) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail.
    gzip.write_all(b"[").ok();
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            gzip.write_all(b",").ok();
        }
        gzip.write_all(event).ok();
    }
    gzip.write_all(b"]").ok();
    gzip.finish().unwrap_or_default()
}
