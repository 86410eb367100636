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
    /// Decisions that wait, whoever sends them.
    decisions: Arc<DecisionLog>,
    telling: Mutex<Vec<Telling>>,
    /// The gateway ends: what waits is sent once more.
    last: CancellationToken,
    open: TaskTracker,
}

/// One that tells, and what it was told to do.
#[derive(Debug)]
struct Telling {
    job: Job,
    ends: decisions::Ends,
}

/// How many bytes of decisions may wait until the first config says it.
const ROOM: usize = 8 << 20;

/// How often it is looked whether the last decisions have come.
const LOOK: Duration = Duration::from_millis(5);

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
            decisions: Arc::new(DecisionLog::new(ROOM)),
            telling: Mutex::default(),
            last: CancellationToken::new(),
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
        Some(DecisionLogConfig {
            log: Arc::clone(&self.decisions),
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
        if let Some(asked) = &config.decision_logs {
            self.decisions.set_room(asked.buffer);
        }
        let has_next = config.decision_logs.is_some();
        let decisions = config.decision_logs.clone().map(Job::Decisions);
        let labels = self.labels(config);
        let status = config.status.clone();
        let status = status.map(|status| Job::Status(status, labels));
        let jobs: Vec<Job> = decisions.into_iter().chain(status).collect();
        let mut telling = self.telling.lock();
        telling.retain(|known| {
            let is_asked = jobs.contains(&known.job);
            match known.job {
                _ if is_asked => {}
                Job::Decisions(_) if !has_next => known.ends.last.cancel(),
                Job::Decisions(_) | Job::Status(..) => known.ends.stop.cancel(),
            }
            is_asked
        });
        for job in jobs {
            if telling.iter().any(|known| known.job == job) {
                continue;
            }
            let ends = decisions::Ends {
                stop: CancellationToken::new(),
                last: self.last.child_token(),
            };
            self.start(&job, board, ends.clone());
            telling.push(Telling { job, ends });
        }
    }

    fn start(&self, job: &Job, board: &Arc<BundleBoard>, ends: decisions::Ends) {
        match job.clone() {
            Job::Decisions(config) => {
                let log = Arc::clone(&self.decisions);
                let recorder = self.recorder.clone();
                let upload = decisions::upload(config, log, recorder, ends);
                self.open.spawn(upload);
            }
            Job::Status(config, labels) => {
                let board = Arc::clone(board);
                self.open
                    .spawn(status::upload(config, labels, board, ends.stop));
            }
        }
    }

    /// Tells the last, for a while.
    pub(crate) async fn finish(&self, patience: Duration) {
        let coming = async {
            while self.decisions.coming() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Those that don't come in time are lost.
        tokio::time::timeout(patience, coming).await.ok();
        self.last.cancel();
        for telling in self.telling.lock().drain(..) {
            if matches!(telling.job, Job::Status(..)) {
                telling.ends.stop.cancel();
            }
        }
        self.open.close();
        if tokio::time::timeout(patience, self.open.wait())
            .await
            .is_err()
        {
            tracing::warn!("the control plane was not told the last decisions");
        }
        // Nobody sends what is left.
        self.decisions.drop_events(self.decisions.coming());
        self.decisions.give_up();
        decisions::tell_lost(&self.decisions, &self.recorder);
    }
}
