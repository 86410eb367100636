//! The line of a call is that of `tracing-subscriber`, byte for byte, whatever is in the record.
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use proptest::proptest;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::{LogFormat, PIECE, milliseconds, write, write_all};
use crate::{CallRecord, Trace, record};

/// The event that the line stands for.
fn event(record: &CallRecord) {
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
        parent = record.delegated.as_ref().map(|from| &*from.parent),
        tool = record.tool.as_deref(),
        operation = record.operation.as_deref(),
        access = record.access,
        mcp_tool = record.mcp_tool(),
        method = record.method.as_str(),
        path = record.path.as_str(),
        status = record.status,
        ending = record.ending.as_str(),
        keys_found = record.keys.len(),
        milliseconds = milliseconds(record.total_time),
        trace = %record.trace.id(),
        "call closed"
    );
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

/// What `tracing-subscriber` makes of a call.
fn expected(format: LogFormat, record: &CallRecord) -> String {
    let paper = Paper::default();
    let writer = paper.clone();
    let lines = tracing_subscriber::fmt::layer::<Registry>()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        event(record);
    });
    String::from_utf8(paper.0.lock().clone()).unwrap()
}

fn line(format: LogFormat, now: Timestamp, record: &CallRecord) -> String {
    let mut line = Vec::new();
    write(format, now, record, &mut line);
    String::from_utf8(line).unwrap()
}

#[track_caller]
fn check(format: LogFormat, record: &CallRecord) {
    let expect = expected(format, record);
    // Each reads the clock for itself.
    let before = if format == LogFormat::Text {
        ""
    } else {
        "{\"timestamp\":\""
    };
    let (_, rest) = expect.split_at(before.len());
    let (now, _) = rest.split_at("2026-08-01T12:00:00.000000Z".len());
    assert_eq!(line(format, now.parse().unwrap(), record), expect);
}

proptest! {
    #[test]
    fn any_call_is_told_in_text_as_tracing_would(record in record::any::record()) {
        check(LogFormat::Text, &record);
    }
    #[test]
    fn any_call_is_told_in_json_as_tracing_would(record in record::any::record()) {
        check(LogFormat::Json, &record);
    }
}

#[test]
fn the_least_is_told() {
    let record = CallRecord::open(Trace::begin(), None);
    check(LogFormat::Text, &record);
    check(LogFormat::Json, &record);
}

#[test]
fn a_call_is_one_line_whatever_is_in_it() {
    let mut record = CallRecord::open(Trace::begin(), None);
    record.path = "/a\n2026-01-01 INFO call closed decision=\"forged\"\u{1b}[2J\u{9b}2J".into();
    record.tool = Some("notes".into());
    let text = line(LogFormat::Text, Timestamp::now(), &record);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.trim_end().contains(char::is_control), "{text}");
    assert!(
        text.contains(&format!("decision=\"{}\"", record.decision)),
        "{text}"
    );
    assert!(text.contains("tool=\"notes\""), "{text}");
}

/// How many lines are in each piece that calls with paths of these lengths make.
#[track_caller]
fn check_pieces(paths: &[usize], expect: &[usize]) {
    let records: Vec<_> = paths
        .iter()
        .map(|length| {
            let mut record = CallRecord::open(Trace::begin(), None);
            record.path = "x".repeat(*length);
            Arc::new(record)
        })
        .collect();
    let (mut text, mut pieces) = (Vec::new(), Vec::new());
    write_all(LogFormat::Text, &records, &mut text, |piece| {
        let piece = String::from_utf8(piece.to_vec()).unwrap();
        assert!(piece.ends_with('\n') && (piece.len() <= PIECE || piece.lines().count() == 1));
        pieces.push(piece.lines().count());
    });
    assert_eq!(pieces, expect);
}

#[test]
fn no_call_makes_no_piece() {
    check_pieces(&[], &[]);
}
#[test]
fn few_calls_make_one_piece() {
    check_pieces(&[1, 1, 1], &[3]);
}
#[test]
fn a_piece_is_what_a_pipe_takes_whole() {
    check_pieces(&[1500, 1500, 1500, 1500, 1], &[2, 3]);
}
#[test]
fn a_long_line_is_a_piece_by_itself() {
    check_pieces(&[1, 5000, 1, 1], &[1, 1, 2]);
}
