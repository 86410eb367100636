//! The log on stderr: one line per call, and whatever else the gateway has to say.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter};

use crate::{CallRecord, StartError, names};

mod call;

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

/// How many lines, or pieces of calls' lines, may wait for a stalled terminal: 128 MiB.
const WAITING: usize = 32 * 1024;

/// Where the lines of calls go, if they are wanted: the same way as all others.
#[derive(Debug)]
struct Calls {
    format: LogFormat,
    writer: NonBlocking,
}

/// Set with the log, of which a process has one, and whose filter doesn't change.
static CALLS: OnceLock<Calls> = OnceLock::new();

/// Starts the log on stderr, written by a thread of its own: a stalled terminal loses lines, never time.
///
/// `REMIT_LOG` says what is logged (`info` unless given; `warn,remit::call=info`, … as in
/// [`EnvFilter`]). Libraries stay at `info` whatever it says: their debug lines hold headers, and headers
/// hold secrets.
///
/// # Errors
/// When `REMIT_LOG` isn't a filter, or the process has a log already.
pub fn init_logs(format: LogFormat) -> Result<LogGuard, StartError> {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING)
        .finish(std::io::stderr());
    let wanted = std::env::var("REMIT_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let wanted = EnvFilter::try_new(&wanted).map_err(|e| StartError(format!("REMIT_LOG: {e}")))?;
    let calls = Calls {
        format,
        writer: writer.clone(),
    };
    tracing_subscriber::registry()
        .with(lines(format, writer).with_filter(filter::filter_fn(|meta| {
            may_be_told(meta.target(), *meta.level())
        })))
        .with(wanted)
        .try_init()
        .map_err(|e| StartError(format!("the log can't start: {e}")))?;
    if tracing::enabled!(target: names::LOG_TARGET, Level::INFO) {
        CALLS.get_or_init(|| calls);
    }
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

fn may_be_told(target: &str, level: Level) -> bool {
    let owner = target.split("::").next().unwrap_or_default();
    LevelFilter::INFO >= level || OURS.contains(&owner)
}

/// Does anyone read the lines of calls?
pub(crate) fn is_read() -> bool {
    CALLS.get().is_some()
}

/// Writes the lines of some calls, several at once. `text` is for them to be made in.
pub(crate) fn tell(records: &[Arc<CallRecord>], text: &mut Vec<u8>) {
    let Some(Calls { format, writer }) = CALLS.get() else {
        return;
    };
    let mut writer = writer.clone();
    call::write_all(*format, records, text, |piece| {
        // It never fails: what doesn't fit is lost, as of all lines.
        drop(writer.write_all(piece));
    });
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::{DEFAULT, may_be_told};

    #[track_caller]
    fn check(target: &str, level: Level, expect: bool) {
        assert_eq!(may_be_told(target, level), expect);
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
