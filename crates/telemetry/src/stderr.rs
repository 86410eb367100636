//! The log on stderr: one line per call, and whatever else the gateway has to say.

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter};

use crate::{CallRecord, StartError};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Writes out what waits when it is dropped: keep it until the end of `main`.
#[must_use = "lines that still wait are lost when it is dropped too early"]
#[derive(Debug)]
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// What is logged unless `REMIT_LOG` says otherwise. A collector that is away is told by [`crate::export`], once.
const DEFAULT: &str = "info,opentelemetry_sdk=error,opentelemetry-otlp=warn";

/// Starts the log on stderr, written by a thread of its own: a stalled terminal loses lines, never time.
///
/// `REMIT_LOG` says what is logged (`info` unless given; `warn,remit::call=info`, … as in
/// [`EnvFilter`]). Libraries stay at `info` whatever it says: their debug lines hold headers, and headers
/// hold secrets.
///
/// # Errors
/// When `REMIT_LOG` isn't a filter, or the process has a log already.
pub fn init_logs(format: LogFormat) -> Result<LogGuard, StartError> {
    let (writer, worker) = tracing_appender::non_blocking(std::io::stderr());
    let wanted = std::env::var("REMIT_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let wanted = EnvFilter::try_new(&wanted).map_err(|e| StartError(format!("REMIT_LOG: {e}")))?;
    tracing_subscriber::registry()
        .with(lines(format, writer).with_filter(filter::filter_fn(|meta| {
            may_be_told(meta.target(), *meta.level())
        })))
        .with(wanted)
        .try_init()
        .map_err(|e| StartError(format!("the log can't start: {e}")))?;
    Ok(LogGuard { _worker: worker })
}

fn lines<S>(format: LogFormat, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false);
    match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

/// The crates whose debug lines are known to hold no secret.
const OURS: [&str; 10] = [
    "call",
    "control",
    "credentials",
    "gateway",
    "identity",
    "policy",
    "proxy",
    "remit",
    "tasks",
    "telemetry",
];

fn may_be_told(target: &str, level: tracing::Level) -> bool {
    let owner = target.split("::").next().unwrap_or_default();
    LevelFilter::INFO >= level || OURS.contains(&owner)
}

/// Does anyone read the lines of calls?
pub(crate) fn is_read() -> bool {
    tracing::enabled!(target: "remit::call", tracing::Level::INFO)
}

/// The line of one call. Texts are given as they are: the layers quote and escape them.
pub(crate) fn tell(record: &CallRecord) {
    let mcp_tool = record.mcp_tool();
    tracing::info!(
        target: "remit::call",
        decision = record.decision.as_str(),
        verdict = record.verdict.as_str(),
        code = record.code,
        reason = record.reason.as_deref(),
        cause = record.cause.as_deref(),
        agent = record.agent.as_deref(),
        owner = record.owner.as_deref(),
        task = record.task.as_deref(),
        tool = record.tool.as_deref(),
        operation = record.operation.as_deref(),
        access = record.access,
        mcp_tool,
        method = record.method.as_str(),
        path = record.path.as_str(),
        status = record.status,
        ending = record.ending.as_str(),
        keys_stripped = record.stripped.len(),
        milliseconds = milliseconds(record.total_time),
        trace = %record.trace.id(),
        "call closed"
    );
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::{DEFAULT, may_be_told, tell};
    use crate::{CallRecord, Trace};

    #[track_caller]
    fn check(target: &str, level: Level, expect: bool) {
        assert_eq!(may_be_told(target, level), expect);
    }

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_call_is_one_line_whatever_is_in_it() {
        let paper = Paper::default();
        let writer = paper.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let mut record = CallRecord::open(Trace::begin(), None);
        record.path = "/a\n2026-01-01 INFO call closed decision=\"forged\"\u{1b}[2J".into();
        record.tool = Some("notes".into());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tell(&record);
        });
        let text = String::from_utf8(paper.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(
            text.contains(&format!("decision=\"{}\"", record.decision)),
            "{text}"
        );
        assert!(text.contains("tool=\"notes\""), "{text}");
    }

    #[test]
    fn the_default_is_a_filter() {
        tracing_subscriber::EnvFilter::try_new(DEFAULT).unwrap();
    }

    #[test]
    fn our_debug_lines_may_be_told() {
        check("proxy::way", Level::TRACE, true);
        check("remit::call", Level::DEBUG, true);
    }
    #[test]
    fn debug_lines_of_libraries_hold_headers_and_may_not() {
        check("pingora_proxy::proxy_h1", Level::DEBUG, false);
        check("hyper::proto", Level::TRACE, false);
        check("remitted", Level::DEBUG, false);
    }
    #[test]
    fn what_libraries_warn_of_may_be_told() {
        check("h2::client", Level::WARN, true);
        check("pingora_core", Level::INFO, true);
    }
}
