//! What a control plane is told, in OPA's formats: decisions, and how the bundles are.

mod decisions;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use control::BundleBoard;
use parking_lot::Mutex;
use policy::{DecisionLog, DecisionLogConfig};
use telemetry::Recorder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::config::{DecisionLogsConfig, PolicyConfig, StatusConfig};

/// Whoever tells a control plane. They outlive a reload that does not change them.
#[derive(Debug)]
pub(crate) struct Reports {
    /// This run of the gateway, as labels tell it.
    id: String,
    recorder: Recorder,
    /// By their configs: that of a config that is not taken is forgotten.
    decisions: Mutex<Vec<Decisions>>,
    telling: Mutex<Vec<Telling>>,
    open: TaskTracker,
}

#[derive(Debug)]
struct Decisions {
    config: DecisionLogsConfig,
    log: Arc<DecisionLog>,
}

/// One that tells, and what it was told to do.
#[derive(Debug)]
struct Telling {
    job: Job,
    stop: CancellationToken,
}

type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, Eq, PartialEq)]
enum Job {
    Decisions(DecisionLogsConfig),
    Status(StatusConfig, Labels),
}

impl Reports {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            id: Uuid::new_v4().to_string(),
            decisions: Mutex::default(),
            telling: Mutex::default(),
            open: TaskTracker::new(),
        }
    }

    /// Where decisions of this config go.
    pub(crate) fn decision_log(
        &self,
        config: &PolicyConfig,
        bundles: BTreeMap<String, String>,
    ) -> Option<DecisionLogConfig> {
        let asked = config.decision_logs.as_ref()?;
        let mut decisions = self.decisions.lock();
        let known = decisions.iter().find(|known| known.config == *asked);
        let log = match known {
            Some(known) => Arc::clone(&known.log),
            None => {
                let log = Arc::new(DecisionLog::new(asked.buffer));
                decisions.push(Decisions {
                    config: asked.clone(),
                    log: Arc::clone(&log),
                });
                log
            }
        };
        Some(DecisionLogConfig {
            log,
            labels: self.labels(config),
            bundles,
            mask: asked.mask.clone(),
        })
    }

    /// The labels of the config, and those that OPA gives itself.
    fn labels(&self, config: &PolicyConfig) -> Labels {
        let own = [
            ("id".to_owned(), self.id.clone()),
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        own.into_iter().chain(config.labels.clone()).collect()
    }

    /// Tells what this config wants told, and nothing else any more. Has to be called within the runtime.
    pub(crate) fn tend(&self, config: &PolicyConfig, board: &Arc<BundleBoard>) {
        self.decisions
            .lock()
            .retain(|known| Some(&known.config) == config.decision_logs.as_ref());
        let decisions = config.decision_logs.clone().map(Job::Decisions);
        let labels = self.labels(config);
        let status = config.status.clone();
        let status = status.map(|status| Job::Status(status, labels));
        let jobs: Vec<Job> = decisions.into_iter().chain(status).collect();
        let mut telling = self.telling.lock();
        telling.retain(|known| {
            let is_asked = jobs.contains(&known.job);
            if !is_asked {
                known.stop.cancel();
            }
            is_asked
        });
        for job in jobs {
            if telling.iter().any(|known| known.job == job) {
                continue;
            }
            let stop = CancellationToken::new();
            self.start(&job, board, stop.clone());
            telling.push(Telling { job, stop });
        }
    }

    fn start(&self, job: &Job, board: &Arc<BundleBoard>, stop: CancellationToken) {
        match job.clone() {
            Job::Decisions(config) => {
                let decisions = self.decisions.lock();
                if let Some(known) = decisions.iter().find(|known| known.config == config) {
                    let log = Arc::clone(&known.log);
                    let recorder = self.recorder.clone();
                    let upload = decisions::upload(config, log, recorder, stop);
                    self.open.spawn(upload);
                }
            }
            Job::Status(config, labels) => {
                let board = Arc::clone(board);
                self.open.spawn(status::upload(config, labels, board, stop));
            }
        }
    }

    /// Tells the last, for a while.
    pub(crate) async fn finish(&self, patience: Duration) {
        for telling in self.telling.lock().drain(..) {
            telling.stop.cancel();
        }
        self.open.close();
        if tokio::time::timeout(patience, self.open.wait())
            .await
            .is_err()
        {
            tracing::warn!("the control plane was not told the last decisions");
        }
    }
}
