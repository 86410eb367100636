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

/// How many events a server may refuse one by one before it is the server that is wrong.
const REFUSED: usize = 3;

/// When uploading ends.
pub(super) struct Ends {
    /// Somebody else uploads from now on.
    pub(super) stop: CancellationToken,
    /// The gateway ends: what waits is sent once more.
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
    };
    let polling = uploader.config.polling;
    let mut failures = 0;
    let mut delay = between(polling.min_delay, polling.max_delay);
    loop {
        let is_last = tokio::select! {
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
}

/// What came of sending all that waits.
#[derive(Default)]
struct Round {
    /// Whether the server took some.
    has_taken: bool,
    /// What it refused, each by itself.
    refused: Batch,
}

impl Uploader {
    /// Sends all that waits. What can't be sent is put back; what the server refuses although it takes others is dropped.
    async fn send_all(&self) -> Result<(), Problem> {
        let mut round = Round::default();
        let sent = self.send_round(&mut round).await;
        if round.has_taken {
            self.log.drop_events(round.refused.len());
        } else {
            self.log.put_back(round.refused);
        }
        sent
    }

    async fn send_round(&self, round: &mut Round) -> Result<(), Problem> {
        let mut refusal = None;
        loop {
            let batch = self.log.take(self.config.upload.saturating_mul(DENSE));
            if batch.is_empty() {
                return match refusal {
                    Some(problem) if !round.has_taken => Err(problem),
                    _ => Ok(()),
                };
            }
            // The first part is the last of the list.
            let mut parts = vec![batch];
            while let Some(part) = parts.pop() {
                let body = compressed(&part);
                let sent = if body.len() > self.config.upload {
                    Err(too_long())
                } else {
                    self.post(body).await
                };
                let Err(problem) = sent else {
                    round.has_taken = true;
                    continue;
                };
                let may_go_on = round.has_taken || round.refused.len() < REFUSED;
                match smaller(part, &problem) {
                    Smaller::Parts(smaller) => parts.extend(smaller),
                    Smaller::Never => self.log.drop_events(1),
                    Smaller::Refused(event) if may_go_on => {
                        round.refused.push(event);
                        refusal = Some(problem);
                    }
                    Smaller::Refused(event) => {
                        parts.push(vec![event]);
                        return self.keep(parts, problem);
                    }
                    Smaller::Kept(part) => {
                        parts.push(part);
                        return self.keep(parts, problem);
                    }
                }
            }
        }
    }

    fn keep(&self, parts: Vec<Batch>, problem: Problem) -> Result<(), Problem> {
        for part in parts {
            self.log.put_back(part);
        }
        Err(problem)
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

/// What is done with a part that was not sent.
enum Smaller {
    /// These are sent instead, the last first.
    Parts(Vec<Batch>),
    /// It is longer than may be sent, even without its input.
    Never,
    /// The server refuses this one event.
    Refused(Vec<u8>),
    /// It is not the part's fault.
    Kept(Batch),
}

fn smaller(mut part: Batch, problem: &Problem) -> Smaller {
    let is_too_long = problem.status == Some(StatusCode::PAYLOAD_TOO_LARGE);
    let is_refused = matches!(
        problem.status,
        Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    );
    if !is_too_long && !is_refused {
        return Smaller::Kept(part);
    }
    if part.len() > 1 {
        let rest = part.split_off(part.len() / 2);
        return Smaller::Parts(vec![rest, part]);
    }
    let Some(event) = part.pop() else {
        return Smaller::Parts(Vec::new());
    };
    if is_refused {
        return Smaller::Refused(event);
    }
    match without_input(&event) {
        Some(shorter) => Smaller::Parts(vec![vec![shorter]]),
        None => Smaller::Never,
    }
}

/// As a server would say it.
fn too_long() -> Problem {
    Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE)
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
