//! The line of one call, as `tracing-subscriber` would write it, at a small part of its price.
//!
//! Its fields are known, so that there is no need to make an event of them that a formatter visits.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::LogFormat;
use crate::json::Object;
use crate::{CallRecord, digits, names};

/// The event's text.
const MESSAGE: &str = "call closed";

/// Bytes of whole lines that are handed over at once: `PIPE_BUF` of Linux, so that a pipe takes them whole and
/// what another process writes is never amid a line.
const PIECE: usize = 4096;

/// Writes the lines of some calls, told now, in pieces. Each is made in `text`.
pub(super) fn write_all(
    format: LogFormat,
    records: &[Arc<CallRecord>],
    text: &mut Vec<u8>,
    mut hand_over: impl FnMut(&[u8]),
) {
    text.clear();
    for record in records {
        let whole = text.len();
        write(format, Timestamp::now(), record, text);
        if text.len() > PIECE && whole > 0 {
            hand_over(text.get(..whole).unwrap_or_default());
            text.drain(..whole);
        }
    }
    if !text.is_empty() {
        hand_over(text);
    }
}

/// Adds the line of one call.
fn write(format: LogFormat, now: Timestamp, record: &CallRecord, line: &mut Vec<u8>) {
    match format {
        LogFormat::Text => {
            digits::time_to_microsecond(now, line);
            line.extend_from_slice(b"  INFO ");
            line.extend_from_slice(names::LOG_TARGET.as_bytes());
            line.extend_from_slice(b": ");
            line.extend_from_slice(MESSAGE.as_bytes());
            fields(record, &mut Fields::Text(line));
        }
        LogFormat::Json => {
            let mut object = Object::open(line);
            object.plain("timestamp", |text| digits::time_to_microsecond(now, text));
            object.word("level", "INFO");
            object.word("message", MESSAGE);
            let mut told = Fields::Json(object);
            fields(record, &mut told);
            told.close();
        }
    }
    line.push(b'\n');
}

fn fields(record: &CallRecord, told: &mut Fields<'_>) {
    told.text("decision", record.decision.as_str());
    told.word("verdict", Some(record.verdict.as_str()));
    told.word("code", record.code);
    told.maybe("reason", record.reason.as_deref());
    told.maybe("cause", record.cause.as_deref());
    told.maybe("agent", record.agent.as_deref());
    told.maybe("owner", record.owner.as_deref());
    told.maybe("task", record.task.as_deref());
    let parent = record.delegated.as_ref().map(|from| &*from.parent);
    told.maybe("parent", parent);
    told.maybe("tool", record.tool.as_deref());
    told.maybe("operation", record.operation.as_deref());
    told.word("access", record.access);
    told.maybe("mcp_tool", record.mcp_tool());
    told.text("method", &record.method);
    told.text("path", &record.path);
    if let Some(status) = record.status {
        told.number("status", status.into());
    }
    told.word("ending", Some(record.ending.as_str()));
    let keys = u64::try_from(record.keys.len()).unwrap_or(u64::MAX);
    told.number("keys_found", keys);
    if record.scrubbed > 0 {
        let found = u64::try_from(record.scrubbed).unwrap_or(u64::MAX);
        told.number("secrets_scrubbed", found);
    }
    told.decimal("milliseconds", milliseconds(record.total_time));
    told.digits("trace", |text| digits::trace(record.trace.id(), text));
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The fields of a line, in the making.
#[derive(Debug)]
enum Fields<'l> {
    Text(&'l mut Vec<u8>),
    Json(Object<'l>),
}

impl Fields<'_> {
    #[inline]
    fn text(&mut self, key: &'static str, text: &str) {
        match self {
            Self::Text(line) => {
                write_key(key, line);
                write_quoted(text, line);
            }
            Self::Json(object) => object.text(key, text),
        }
    }

    #[inline]
    fn maybe(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A word of ours, which needs no escape.
    #[inline]
    fn word(&mut self, key: &'static str, word: Option<&'static str>) {
        let Some(word) = word else { return };
        match self {
            Self::Text(line) => {
                write_key(key, line);
                line.push(b'"');
                line.extend_from_slice(word.as_bytes());
                line.push(b'"');
            }
            Self::Json(object) => object.word(key, word),
        }
    }

    fn number(&mut self, key: &'static str, number: u64) {
        match self {
            Self::Text(line) => {
                write_key(key, line);
                // Writing into memory can't fail.
                drop(write!(line, "{number}"));
            }
            Self::Json(object) => object.value(key, number),
        }
    }

    fn decimal(&mut self, key: &'static str, number: f64) {
        match self {
            Self::Text(line) => {
                write_key(key, line);
                // Writing into memory can't fail.
                drop(write!(line, "{number:?}"));
            }
            Self::Json(object) => object.value(key, number),
        }
    }

    fn digits(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::Text(line) => {
                write_key(key, line);
                write(line);
            }
            Self::Json(object) => object.plain(key, write),
        }
    }

    /// Ends the fields, after the target, which JSON has behind them.
    fn close(self) {
        if let Self::Json(mut object) = self {
            object.word("target", names::LOG_TARGET);
            object.close();
        }
    }
}

#[inline(always)]
fn write_key(key: &'static str, line: &mut Vec<u8>) {
    line.push(b' ');
    line.extend_from_slice(key.as_bytes());
    line.push(b'=');
}

/// Writes a text in quotes, as `Debug` does: no line feed, no control character, none that a terminal obeys.
fn write_quoted(text: &str, line: &mut Vec<u8>) {
    // No early end: that way many bytes are looked at in one go.
    let special = text.bytes().fold(false, |special, byte| {
        special | !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\')
    });
    if special {
        // Writing into memory can't fail.
        drop(write!(line, "{text:?}"));
    } else {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    }
}

#[cfg(test)]
mod tests;
