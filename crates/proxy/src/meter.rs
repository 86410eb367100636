//! What a call takes of its task while it is under way: bytes both ways, and what its answer says that it cost.
//!
//! The answer goes on as it comes. Of its body only what may tell a cost is looked at beside it, within bounds; what is not
//! found, or can't be read, counts as what was held for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use call::{Meter, MeterSource};
use http::{HeaderMap, StatusCode, header};
use memchr::memchr;
use serde_json::Value;
use tasks::{Amount, Exhausted, Spending};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::Budget;

/// The largest answer in one piece, and the largest event, that a cost is looked for in.
const READ: usize = 1 << 20;

/// What a call takes while it is under way. When it is dropped, what it cost is settled.
pub(crate) struct Metering {
    spending: Spending,
    meters: Vec<Counting>,
    answer: Answer,
    reading: Reading,
}

/// A meter, and the largest number that it found.
struct Counting {
    meter: Arc<Meter>,
    found: Option<f64>,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    None,
    Begun(StatusCode),
    Whole(StatusCode),
}

/// How a cost is looked for in the body.
enum Reading {
    /// Not at all.
    Nothing,
    /// Once it is whole.
    Whole {
        pieces: Vec<Bytes>,
        length: usize,
        _held: OwnedSemaphorePermit,
    },
    /// In each line, or in the data of each event.
    Lines {
        are_events: bool,
        line: Vec<u8>,
        data: Vec<u8>,
        /// Whether the event is too long to be looked at, up to its end.
        is_skipped: bool,
        _held: OwnedSemaphorePermit,
    },
}

impl Metering {
    /// None where nothing is to be counted.
    pub(crate) fn new(spending: Spending, meters: &[Arc<Meter>]) -> Option<Self> {
        if spending.is_nothing() {
            return None;
        }
        let counting = |meter| Counting {
            meter: Arc::clone(meter),
            found: None,
        };
        Some(Self {
            spending,
            meters: meters.iter().map(counting).collect(),
            answer: Answer::None,
            reading: Reading::Nothing,
        })
    }

    /// The call leaves for its tool.
    pub(crate) fn begin(&mut self) {
        self.spending.begin();
    }

    /// Whether the body of the answer must be one that can be read.
    pub(crate) fn reads_body(&self) -> bool {
        let mut sources = self.meters.iter().map(|counting| &counting.meter.source);
        sources.any(|source| matches!(source, MeterSource::Json(_)))
    }

    /// Counts bytes that go either way; they wait as long as the answer says.
    pub(crate) fn pass(&mut self, bytes: usize) -> Result<Option<Duration>, Exhausted> {
        self.spending.pass(bytes)
    }

    /// The head of the answer is in.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap, budget: &Budget) {
        if status.is_informational() {
            return;
        }
        self.answer = Answer::Begun(status);
        for counting in &mut self.meters {
            if let MeterSource::Header(name) = &counting.meter.source {
                let value = headers.get(name).and_then(|value| value.to_str().ok());
                counting.see(value.and_then(|value| value.trim().parse().ok()));
            }
        }
        if self.reads_body() {
            self.reading = Reading::of(headers, budget).unwrap_or(Reading::Nothing);
        }
    }

    /// A piece of the answer's body is in, the last one perhaps.
    pub(crate) fn received(&mut self, piece: Option<&Bytes>, is_last: bool) {
        if let Some(piece) = piece {
            self.reading.take(piece, &mut self.meters);
        }
        if is_last && let Answer::Begun(status) = self.answer {
            self.reading.end(&mut self.meters);
            self.answer = Answer::Whole(status);
        }
    }

    /// What one meter says.
    fn cost(&self, counting: &Counting) -> Amount {
        let reserve = counting.meter.reserve;
        let found = counting
            .found
            .and_then(|found| Amount::of(found, counting.meter.price));
        let is_header = matches!(counting.meter.source, MeterSource::Header(_));
        match (self.answer, found) {
            (Answer::Whole(_), Some(found)) => found,
            (Answer::Begun(_), Some(found)) if is_header => found,
            // More may have come.
            (Answer::Begun(_) | Answer::None, Some(found)) => found.max(reserve),
            (Answer::Whole(status) | Answer::Begun(status), None)
                if status.is_client_error() || status.is_server_error() =>
            {
                Amount::ZERO
            }
            (_, None) => reserve,
        }
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        let units: Vec<_> = self.spending.units().cloned().collect();
        for unit in units {
            let meters = self.meters.iter();
            let costs = meters
                .filter(|counting| counting.meter.unit == unit)
                .map(|counting| self.cost(counting));
            let cost = costs.fold(Amount::ZERO, Amount::plus);
            self.spending.settle(&unit, cost);
        }
    }
}

impl Counting {
    fn see(&mut self, number: Option<f64>) {
        let number = number.filter(|number| number.is_finite() && *number >= 0.0);
        if let Some(number) = number {
            self.found = Some(self.found.map_or(number, |found| found.max(number)));
        }
    }

    fn look_at(&mut self, document: &Value) {
        let MeterSource::Json(pointers) = &self.meter.source else {
            return;
        };
        let numbers = pointers
            .iter()
            .filter_map(|pointer| document.pointer(pointer)?.as_f64());
        let largest = numbers.fold(None, |largest: Option<f64>, number| {
            Some(largest.map_or(number, |largest| largest.max(number)))
        });
        self.see(largest);
    }
}

impl Reading {
    /// How the body of an answer with this head is read; none if it can't be.
    fn of(headers: &HeaderMap, budget: &Budget) -> Option<Self> {
        let is_coded = headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if is_coded || headers.contains_key(header::CONTENT_RANGE) {
            return None;
        }
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = kind.split(';').next()?.trim().to_ascii_lowercase();
        let lines = |are_events| {
            Some(Self::Lines {
                are_events,
                line: Vec::new(),
                data: Vec::new(),
                is_skipped: false,
                _held: budget.take(READ).ok()?,
            })
        };
        match kind.as_str() {
            "text/event-stream" => lines(true),
            "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                lines(false)
            }
            json if json == "application/json" || json.ends_with("+json") => {
                let length = length.unwrap_or(READ);
                Some(Self::Whole {
                    pieces: Vec::new(),
                    length: 0,
                    _held: budget.take((length <= READ).then_some(length)?).ok()?,
                })
            }
            _ => None,
        }
    }

    fn take(&mut self, piece: &Bytes, meters: &mut [Counting]) {
        match self {
            Self::Nothing => {}
            Self::Whole { pieces, length, .. } => {
                *length = length.saturating_add(piece.len());
                if *length > READ {
                    *self = Self::Nothing;
                } else {
                    pieces.push(piece.clone());
                }
            }
            Self::Lines { .. } => {
                let mut rest = piece.as_ref();
                while let Some(end) = memchr(b'\n', rest) {
                    let (part, after) = rest.split_at(end);
                    self.add(part);
                    self.end_line(meters);
                    rest = after.get(1..).unwrap_or_default();
                }
                self.add(rest);
            }
        }
    }

    fn add(&mut self, part: &[u8]) {
        if let Self::Lines {
            line,
            data,
            is_skipped,
            ..
        } = self
        {
            *is_skipped |= line.len() + data.len() + part.len() > READ;
            if *is_skipped {
                data.clear();
                // Something stood there: it does not end the event.
                line.truncate(1);
                if line.is_empty() {
                    line.extend_from_slice(part.get(..1).unwrap_or_default());
                }
            } else {
                line.extend_from_slice(part);
            }
        }
    }

    /// A line is whole; of events an empty one ends each.
    fn end_line(&mut self, meters: &mut [Counting]) {
        let Self::Lines {
            are_events,
            line,
            data,
            is_skipped,
            ..
        } = self
        else {
            return;
        };
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if !*are_events {
            look_at(text, meters);
            *is_skipped = false;
        } else if let Some(more) = text.strip_prefix(b"data:") {
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(more);
        } else if text.is_empty() {
            look_at(data, meters);
            data.clear();
            *is_skipped = false;
        }
        line.clear();
    }

    fn end(&mut self, meters: &mut [Counting]) {
        match self {
            Self::Nothing => {}
            Self::Whole { pieces, .. } => look_at(&pieces.concat(), meters),
            Self::Lines { .. } => {
                self.end_line(meters);
                self.end_line(meters);
            }
        }
        *self = Self::Nothing;
    }
}

fn look_at(text: &[u8], meters: &mut [Counting]) {
    if text.is_empty() {
        return;
    }
    if let Ok(document) = serde_json::from_slice::<Value>(text) {
        for counting in meters {
            counting.look_at(&document);
        }
    }
}

#[cfg(test)]
mod tests;
