//! Takes records and hands them to every output.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::{self, AuditLog, Writer};
use crate::export::{self, Export};
use crate::key_book::{KeyBook, KeysSeen};
use crate::metrics::{Metrics, Signal};
use crate::queue::Queue;
use crate::record::Told;
use crate::{
    CallRecord, Config, LeaseEnd, RevocationEvent, RevocationEventKind, SignalResult, TaskEvent,
    stderr,
};

/// Takes records without ever waiting for a collector. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    outputs: Arc<Outputs>,
}

struct Outputs {
    metrics: Arc<Metrics>,
    keys: KeyBook,
    audit: Option<AuditLog>,
    lines: Arc<Queue<Arc<CallRecord>>>,
    export: Option<Arc<Queue<Told>>>,
}

/// The audit can't be written, and the config says to refuse.
#[derive(Debug, thiserror::Error)]
#[error("audit can't be written: {0}")]
pub struct AuditUnavailable(pub String);

/// Telemetry can't start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// How many lines of calls may wait for stderr; how many of them are written at once; how long fewer wait.
const LINES: usize = 8192;
const LINES_AT_ONCE: usize = 256;
const LINES_WAIT: Duration = Duration::from_millis(100);

impl Recorder {
    /// Starts the exporters on threads of their own.
    ///
    /// # Errors
    /// When the audit file can't be opened, is another process's, or isn't what this gateway left; when
    /// the collector's address can't be used. A collector that is away is no error.
    pub fn start(config: Config) -> Result<(Self, Telemetry), StartError> {
        let Config {
            otlp,
            audit,
            queue,
            service_name,
        } = config;
        let metrics = Arc::new(Metrics::new());
        let audit = match &audit {
            Some(audit) => Some(AuditLog::start(audit, &metrics)?),
            None => None,
        };
        let (audit, writer) = audit.unzip();
        let export = match &otlp {
            Some(otlp) => Some(export::start(otlp, &service_name, queue, &metrics)?),
            None => None,
        };
        let lines = Arc::new(Queue::new(LINES, LINES_AT_ONCE));
        let told = Arc::clone(&lines);
        let log = Thread::start("remit-log", move || tell(&told))?;
        let outputs = Outputs {
            metrics: Arc::clone(&metrics),
            keys: KeyBook::default(),
            audit,
            lines: Arc::clone(&lines),
            export: export.as_ref().map(|export| Arc::clone(&export.queue)),
        };
        let telemetry = Telemetry {
            metrics,
            writer,
            export,
            lines,
            log,
        };
        Ok((
            Self {
                outputs: Arc::new(outputs),
            },
            telemetry,
        ))
    }

    /// Writes the audit's `decided` line. Waited for before a call is forwarded or refused.
    ///
    /// The record is read at once, so that its lock need not be held, nor a copy made, while one waits.
    ///
    /// # Errors
    /// When the line can't be written within 5 s and [`AuditFailure::Refuse`](crate::AuditFailure) is
    /// configured; otherwise the failure is counted and the call goes on.
    pub fn decided(
        &self,
        record: &CallRecord,
    ) -> impl Future<Output = Result<(), AuditUnavailable>> + Send + use<> {
        let line = self.outputs.audit.as_ref().map(|_| audit::decided(record));
        let outputs = Arc::clone(&self.outputs);
        async move {
            match (&outputs.audit, line) {
                (Some(audit), Some(line)) => audit.decided(line).await,
                _ => Ok(()),
            }
        }
    }

    /// Closes the record: audit line `closed`, span, log, metrics. Never waits.
    pub fn close(&self, mut record: CallRecord) {
        let Outputs {
            metrics,
            keys,
            audit,
            lines,
            export,
        } = &*self.outputs;
        metrics.closed(&record);
        keys.note(&record);
        record.cut();
        let record = Arc::new(record);
        if let Some(audit) = audit {
            audit.told(Told::Call(Arc::clone(&record)));
        }
        if let Some(queue) = export
            && queue.leave(Told::Call(Arc::clone(&record))).is_err()
        {
            metrics.dropped(Signal::Traces, 1);
            metrics.dropped(Signal::Logs, 1);
        }
        if stderr::is_read() && lines.leave(record).is_err() {
            metrics.dropped(Signal::Stderr, 1);
        }
    }

    /// Tells what happened to a task: audit line `task`, log. Never waits.
    pub fn task(&self, event: TaskEvent) {
        let Outputs {
            metrics,
            keys: _,
            audit,
            lines: _,
            export,
        } = &*self.outputs;
        tracing::info!(
            target: "remit::task",
            task = &*event.task,
            agent = &*event.agent,
            parent = event.delegated.as_ref().map(|from| &*from.parent),
            by = event.by.as_deref(),
            because = event.because.as_deref(),
            leases = event.leases.len(),
            not_revoked = event.leases.iter().filter(|lease| !lease.is_revoked()).count(),
            "task {}",
            event.kind.as_str(),
        );
        let event = Arc::new(event);
        if let Some(audit) = audit {
            audit.told(Told::Task(Arc::clone(&event)));
        }
        if let Some(queue) = export
            && queue.leave(Told::Task(event)).is_err()
        {
            metrics.dropped(Signal::Logs, 1);
        }
    }

    /// Tells what was revoked as a whole: audit line `revocation`, log, metrics. Never waits.
    pub fn revocation(&self, event: RevocationEvent) {
        let outputs = &*self.outputs;
        tracing::warn!(
            target: "remit::revocation",
            revocation = &*event.id,
            subject = event.subject,
            name = &*event.name,
            by = &*event.by,
            tasks = event.tasks,
            calls_cut = event.calls_cut,
            calls_left = event.calls_left,
            leases = event.leases.len(),
            not_revoked = event.lease_ids(false).count(),
            "{} {}",
            event.subject,
            event.kind.as_str(),
        );
        if event.kind == RevocationEventKind::Revoked {
            outputs.metrics.revoked(event.subject);
        }
        let event = Arc::new(event);
        if let Some(audit) = &outputs.audit {
            audit.told(Told::Revocation(Arc::clone(&event)));
        }
        if let Some(queue) = &outputs.export
            && queue.leave(Told::Revocation(event)).is_err()
        {
            outputs.metrics.dropped(Signal::Logs, 1);
        }
    }

    /// Counts a signal of an identity provider.
    pub fn signal(&self, result: SignalResult) {
        self.outputs.metrics.signal(result);
    }

    /// The keys that agents brought since the start, by fingerprint.
    pub fn keys_seen(&self) -> KeysSeen {
        self.outputs.keys.seen()
    }

    /// Counts what came of taking a lease back.
    pub fn lease_ended(&self, end: LeaseEnd) {
        self.outputs.metrics.lease_ended(end);
    }

    /// The metrics in Prometheus' text format: `application/openmetrics-text; version=1.0.0`.
    pub fn metrics_text(&self) -> String {
        self.outputs.metrics.text()
    }

    /// Tells whether nothing is wrong with a bundle of the policy, for metrics.
    pub fn bundle(&self, name: &str, is_healthy: bool) {
        self.outputs.metrics.bundle(name, is_healthy);
    }

    /// Forgets the bundles of a config before, for metrics.
    pub fn forget_bundles(&self) {
        self.outputs.metrics.forget_bundles();
    }

    /// Counts decisions that were not told to a control plane, for metrics.
    pub fn decisions_lost(&self, events: u64) {
        let events = usize::try_from(events).unwrap_or(usize::MAX);
        self.outputs.metrics.dropped(Signal::Decisions, events);
    }

    /// Tells what a reload did, for metrics and log.
    pub fn reloaded(&self, revision: &str, error: Option<&str>) {
        if let Some(error) = error {
            self.outputs.metrics.reload_failed();
            tracing::error!(target: "remit::config", revision, error, "reload failed, the running config stays");
        } else {
            self.outputs.metrics.applied(revision);
            tracing::info!(target: "remit::config", revision, "config applied");
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

fn tell(lines: &Queue<Arc<CallRecord>>) {
    let mut batch = Vec::with_capacity(LINES_AT_ONCE);
    let mut text = Vec::new();
    while lines.take(&mut batch, LINES_AT_ONCE, LINES_WAIT) {
        stderr::tell(&batch, &mut text);
        batch.clear();
    }
}

/// Flushes and stops the exporters.
///
/// It is shut down once:
/// ```compile_fail,E0382
/// fn twice(telemetry: telemetry::Telemetry) {
///     telemetry.shutdown(std::time::Duration::ZERO);
///     telemetry.shutdown(std::time::Duration::ZERO);
/// }
/// ```
#[derive(Debug)]
#[must_use = "what waits is lost unless it is shut down"]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    writer: Option<Writer>,
    export: Option<Export>,
    lines: Arc<Queue<Arc<CallRecord>>>,
    log: Thread,
}

impl Telemetry {
    /// Flushes what waits, for at most this long; what is left then is dropped and counted. It blocks: call
    /// it at the end of `main`, or where blocking is allowed. Records that come later are counted as dropped.
    pub fn shutdown(self, patience: Duration) {
        let Self {
            metrics,
            writer,
            export,
            lines,
            log,
        } = self;
        let deadline = Instant::now() + patience;
        lines.close();
        // The audit matters most, and a collector may use up the rest of the time.
        if let Some(writer) = writer {
            metrics.audit_failed(writer.stop(deadline));
        }
        if let Some(export) = export {
            let left = export.stop(deadline);
            metrics.dropped(Signal::Traces, left);
            metrics.dropped(Signal::Logs, left);
        }
        log.wait(deadline);
        metrics.dropped(Signal::Stderr, lines.abandon());
    }
}

/// A thread that one can wait for, but not forever.
#[derive(Debug)]
pub(crate) struct Thread {
    ended: mpsc::Receiver<()>,
}

impl Thread {
    pub(crate) fn start(
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Self, StartError> {
        let (end, ended) = mpsc::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _end = end;
                work();
            })
            .map_err(|e| StartError(format!("no thread `{name}`: {e}")))?;
        Ok(Self { ended })
    }

    /// Has it ended by then?
    pub(crate) fn wait(self, deadline: Instant) -> bool {
        let patience = deadline.saturating_duration_since(Instant::now());
        // Nothing is ever sent: the channel breaks when the thread ends.
        self.ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

#[cfg(test)]
mod tests;
