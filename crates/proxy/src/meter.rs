//! What a call takes of its task while it is under way: bytes both ways, and what its answer says that it cost.
//!
//! The answer goes on as it comes. Of its body only what may tell a cost is looked at beside it, within bounds; what is not
//! found, or can't be read, counts as what was held for it.

mod buffer;
mod seek;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use call::{Meter, MeterSource};
use http::{HeaderMap, StatusCode, header};
use memchr::memchr;
use tasks::{Amount, Exhausted, Spending};

pub(crate) use self::buffer::{Buffer, LONGEST};
use self::seek::seek;
use crate::body::Budget;

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
    Whole { text: Buffer, length: Option<usize> },
    /// In each line.
    Lines { line: Line },
    /// In the data of each event.
    Events { line: Line, data: Buffer },
}

/// A line as far as it came.
struct Line {
    text: Buffer,
    /// Whether it, or the event it stands in, is too long to be looked at.
    is_skipped: bool,
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

    /// Counts bytes that are about to go up.
    pub(crate) async fn send(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.spending.send(bytes).await
    }

    /// Counts bytes that are about to go down; they wait as long as the answer says.
    pub(crate) fn pass(&mut self, bytes: usize) -> Result<Option<Duration>, Exhausted> {
        self.spending.receive(bytes)
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

    /// An answer that is as long as it said it would be is whole, whoever heard its end.
    fn end(&mut self) {
        if let Answer::Begun(status) = self.answer
            && self.reading.is_whole()
        {
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
            (Answer::Whole(status) | Answer::Begun(status), None) if status.is_client_error() => {
                Amount::ZERO
            }
            (_, None) => reserve,
        }
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.end();
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
}

impl Line {
    fn new(budget: &Budget) -> Self {
        Self {
            text: Buffer::new(budget),
            is_skipped: false,
        }
    }

    fn add(&mut self, part: &[u8]) {
        if self.is_skipped || !self.text.add(part) {
            self.is_skipped = true;
            // Something stood there: it does not end an event.
            let is_empty = self.text.bytes().is_empty() && part.is_empty();
            self.text.keep(0);
            self.text.add(if is_empty { b"" } else { b"." });
        }
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
        let line = Line::new(budget);
        match kind.as_str() {
            "text/event-stream" => Some(Self::Events {
                line,
                data: Buffer::new(budget),
            }),
            "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Some(Self::Lines { line })
            }
            json if json == "application/json" || json.ends_with("+json") => {
                let text = Buffer::new(budget);
                let is_short = length.is_none_or(|length| length <= LONGEST);
                is_short.then_some(Self::Whole { text, length })
            }
            _ => None,
        }
    }

    fn is_whole(&self) -> bool {
        matches!(self, Self::Whole { text, length: Some(length) } if text.bytes().len() == *length)
    }

    fn take(&mut self, piece: &[u8], meters: &mut [Counting]) {
        match self {
            Self::Nothing => return,
            Self::Whole { text, .. } => {
                if !text.add(piece) {
                    *self = Self::Nothing;
                }
                return;
            }
            Self::Lines { .. } | Self::Events { .. } => {}
        }
        let mut rest = piece;
        while let Some(end) = memchr(b'\n', rest) {
            let (part, after) = rest.split_at(end);
            self.add(part);
            self.end_line(meters);
            rest = after.get(1..).unwrap_or_default();
        }
        self.add(rest);
    }

    fn add(&mut self, part: &[u8]) {
        if let Self::Lines { line } | Self::Events { line, .. } = self {
            line.add(part);
        }
    }

    /// A line is whole; of events an empty one ends each.
    fn end_line(&mut self, meters: &mut [Counting]) {
        match self {
            Self::Nothing | Self::Whole { .. } => {}
            Self::Lines { line } => {
                look_at(line.text.bytes(), meters);
                line.is_skipped = false;
                line.text.keep(0);
            }
            Self::Events { line, data } => {
                let text = line.text.bytes();
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                if let Some(more) = text.strip_prefix(b"data:") {
                    let is_kept = data.add(b"\n") && data.add(more);
                    line.is_skipped |= !is_kept;
                } else if text.is_empty() {
                    if !line.is_skipped {
                        look_at(data.bytes(), meters);
                    }
                    data.keep(0);
                    line.is_skipped = false;
                }
                line.text.keep(0);
            }
        }
    }

    fn end(&mut self, meters: &mut [Counting]) {
        match self {
            Self::Nothing => {}
            Self::Whole { text, .. } => look_at(text.bytes(), meters),
            Self::Lines { .. } => self.end_line(meters),
            Self::Events { .. } => {
                self.end_line(meters);
                self.end_line(meters);
            }
        }
        *self = Self::Nothing;
    }
}

fn look_at(text: &[u8], meters: &mut [Counting]) {
    let mut wanted = Vec::new();
    let all: Vec<Arc<Meter>> = meters.iter().map(|one| Arc::clone(&one.meter)).collect();
    for (whose, meter) in all.iter().enumerate() {
        if let MeterSource::Json(pointers) = &meter.source {
            wanted.extend(pointers.iter().map(|pointer| (whose, pointer.tokens())));
        }
    }
    for (whose, number) in seek(text, wanted) {
        if let Some(counting) = meters.get_mut(whose) {
            counting.see(Some(number));
        }
    }
}

#[cfg(test)]
mod tests;
