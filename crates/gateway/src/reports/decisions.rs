//! Uploads decisions as OPA does: a gzipped JSON array of events, kept and sent again where the server does not take it.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use policy::{Batch, DecisionLog, without_input};
use reqwest::{Client, StatusCode};
use telemetry::Recorder;
use tokio_util::sync::CancellationToken;

use crate::bundles::{Problem, back_off, between, causes, client, with_token};
use crate::config::DecisionLogsConfig;

/// How much smaller events are at most once they are compressed; a guess, halved where it is wrong.
const DENSE: usize = 10;

/// How many events in a row a server may refuse before it is the server that is wrong.
const REFUSED: usize = 3;

/// When uploading ends.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// Somebody else uploads from now on.
    pub(super) stop: CancellationToken,
    /// Nobody does: what waits is sent once more.
    pub(super) last: CancellationToken,
}

/// Uploads until it ends.
pub(super) async fn upload(
    config: DecisionLogsConfig,
    log: Arc<DecisionLog>,
    recorder: Recorder,
    ends: Ends,
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
        stop: ends.stop.clone(),
    };
    let polling = uploader.config.polling;
    let mut failures = 0;
    let mut delay = between(polling.min_delay, polling.max_delay);
    loop {
        let is_last = tokio::select! {
            biased;
            () = ends.stop.cancelled() => return,
            () = ends.last.cancelled() => true,
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
            uploader.log.give_up();
        }
        tell_lost(&uploader.log, &recorder);
        if is_last {
            return;
        }
    }
}

/// Tells how many decisions were lost since it was last told.
pub(super) fn tell_lost(log: &DecisionLog, recorder: &Recorder) {
    let lost = log.newly_lost();
    if lost > 0 {
        tracing::warn!(events = lost, "decisions were lost on their way to the log");
        recorder.decisions_lost(lost);
    }
}

struct Uploader {
    config: DecisionLogsConfig,
    log: Arc<DecisionLog>,
    client: Client,
    stop: CancellationToken,
}

impl Uploader {
    /// Sends all that waits. What can't be sent is put back. What the server refuses is set aside: it is tried once more
    /// when the server takes another one, and dropped then, and else tried again after all others.
    async fn send_all(&self) -> Result<(), Problem> {
        let mut refused = Batch::new();
        let sent = self.send_round(&mut refused).await;
        self.log.put_last(refused);
        sent
    }

    async fn send_round(&self, refused: &mut Batch) -> Result<(), Problem> {
        let mut refusal = None;
        loop {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let batch = self.log.take(self.config.upload.saturating_mul(DENSE));
            if batch.is_empty() {
                return refusal.map_or(Ok(()), Err);
            }
            // The first part is the last of the list.
            let mut parts = vec![batch];
            while let Some(part) = parts.pop() {
                let body = compressed(&part);
                let is_too_long = body.len() > self.config.upload;
                let sent = match is_too_long {
                    true if part.len() > 1 => {
                        Err(Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE))
                    }
                    true => {
                        self.shorten(part, &mut parts);
                        continue;
                    }
                    false => self.post(body).await,
                };
                let Err(problem) = sent else {
                    self.try_again(refused).await;
                    refusal = None;
                    continue;
                };
                let is_refused = problem.status.is_some_and(is_of_content);
                if !is_refused || refused.len() == REFUSED || self.stop.is_cancelled() {
                    parts.push(part);
                    parts.into_iter().for_each(|part| self.log.put_back(part));
                    return Err(problem);
                }
                if part.len() > 1 {
                    parts.extend(halves(part));
                } else {
                    refused.extend(part);
                    refusal = Some(problem);
                }
            }
        }
    }

    /// Tries what was refused once more, now that the server takes others: what it still refuses it will never take.
    async fn try_again(&self, refused: &mut Batch) {
        for event in refused.drain(..) {
            let part = vec![event];
            match self.post(compressed(&part)).await {
                Ok(()) => {}
                Err(problem) if problem.status.is_some_and(is_of_content) => {
                    self.log.drop_events(1);
                }
                Err(_) => self.log.put_last(part),
            }
        }
    }

    /// Sends an event that is too long by itself without its input, or not at all.
    fn shorten(&self, part: Batch, parts: &mut Vec<Batch>) {
        for event in part {
            match without_input(&event) {
                Some(shorter) => parts.push(vec![shorter]),
                None => self.log.drop_events(1),
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

/// Whether a server says so of what it is sent, rather than of who sends it.
fn is_of_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// The second half, and then the first.
fn halves(mut part: Batch) -> [Batch; 2] {
    let rest = part.split_off(part.len() / 2);
    [rest, part]
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
