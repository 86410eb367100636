//! Takes out of an answer what the decision says: values at JSON pointers become `"[redacted]"`.
//!
//! It sees what the scrubber lets pass, uncoded. A body of JSON is held until it is whole, of a stream each event or
//! line; what can't be read can't be promised to be without them, and is broken off.

mod json;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use bytes::Bytes;
use call::Protocol;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, TRANSFER_ENCODING,
};
use http::{HeaderMap, StatusCode};
use memchr::memchr2;
use pingora_core::BError;
use pingora_http::ResponseHeader;
use policy::Permit;
use tasks::ArgumentPointer;

use crate::body::Budget;
use crate::meter::Buffer;
use crate::scrub::{Asked, DIGESTS, Decoder, Unscrubbable};

/// Takes values out of one answer.
pub(crate) struct Redact {
    pointers: Vec<ArgumentPointer>,
    budget: Budget,
    decoder: Option<Decoder>,
    reading: Reading,
    found: usize,
}

/// How the body is read.
enum Reading {
    /// There is none, and what comes all the same is no answer.
    Nothing,
    /// Once it is whole.
    Whole(Buffer),
    /// Each line.
    Lines(Buffer),
    /// Each event.
    Events(Box<Events>),
}

/// A stream of events (HTML, section 9.2), as far as it came.
struct Events {
    line: Buffer,
    /// The lines of the event that is under way, each with its end.
    event: Buffer,
    /// Whether the last byte was a carriage return: a line feed after it ends no line of its own.
    is_after_return: bool,
    is_first: bool,
}

/// An answer of which nobody can say whether it is without what must not be in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unredactable {
    /// A pointer has no place in JSON.
    #[error("decision redacts at `{0}`, which is no pointer")]
    Pointer(String),
    /// The call opens a stream of something else.
    #[error("a call of {0} has no JSON to redact")]
    Call(&'static str),
    /// It is something else.
    #[error("answer to be redacted is neither JSON nor a stream of it")]
    Type,
    /// It is a part of something.
    #[error("answer to be redacted is a part")]
    Part,
    /// Its coding can't be undone.
    #[error(transparent)]
    Coding(#[from] Unscrubbable),
    /// It is not what it says it is.
    #[error("answer to be redacted is not the JSON that it says it is")]
    Broken,
    /// It is too long to be held, or there is no room.
    #[error("answer to be redacted is over 1 MiB in one piece, or there is no room for it")]
    TooLong,
    /// The head can't be changed.
    #[error("head of the answer can't be changed: {0}")]
    Head(BError),
}

/// What a permit wants to be taken out of the answer, before anything is sent.
pub(crate) fn pointers(permit: &Permit) -> Result<Vec<ArgumentPointer>, Unredactable> {
    let pointers: Result<Vec<_>, _> = permit
        .redact()
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| Unredactable::Pointer(text.clone()))
        })
        .collect();
    let pointers = pointers?;
    if pointers.is_empty() {
        return Ok(pointers);
    }
    let call = permit.call();
    if call.tool().protocol == Protocol::Grpc {
        return Err(Unredactable::Call("gRPC"));
    }
    let mut headers = call.request().headers.iter();
    if headers.any(|(name, _)| name == "upgrade") {
        return Err(Unredactable::Call("a WebSocket"));
    }
    Ok(pointers)
}

impl Redact {
    /// None where nothing is to be taken out.
    pub(crate) fn new(pointers: Vec<ArgumentPointer>, budget: &Budget) -> Option<Self> {
        (!pointers.is_empty()).then(|| Self {
            pointers,
            budget: budget.clone(),
            decoder: None,
            reading: Reading::Nothing,
            found: 0,
        })
    }

    /// How many values were taken out so far.
    pub(crate) fn found(&self) -> usize {
        self.found
    }

    /// Sees from the head how the body is to be read, and says of it what will be true.
    pub(crate) fn head(
        &mut self,
        response: &mut ResponseHeader,
        asked: Asked<'_>,
    ) -> Result<(), Unredactable> {
        let status = response.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Unredactable::Type);
        }
        if asked.is_bodiless(status) {
            return Ok(());
        }
        if status == StatusCode::PARTIAL_CONTENT || response.headers.contains_key(CONTENT_RANGE) {
            return Err(Unredactable::Part);
        }
        let mut transfer = response.headers.get_all(TRANSFER_ENCODING).iter();
        if transfer.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Unredactable::Coding(Unscrubbable::Coding));
        }
        let is_empty = response
            .headers
            .get(CONTENT_LENGTH)
            .is_some_and(|it| it == "0");
        if is_empty {
            return Ok(());
        }
        self.reading = Reading::of(&response.headers, &self.budget)?;
        self.decoder = Decoder::of(&response.headers)?;
        let had_length = response.remove_header(&CONTENT_LENGTH).is_some();
        response.remove_header(&CONTENT_ENCODING);
        response.remove_header(&ACCEPT_RANGES);
        for digest in &DIGESTS {
            response.remove_header(digest);
        }
        if had_length && !asked.is_http2 {
            response
                .insert_header(TRANSFER_ENCODING, "chunked")
                .map_err(Unredactable::Head)?;
        }
        Ok(())
    }

    /// Takes a piece of the body: what may pass stands there then.
    pub(crate) fn body(
        &mut self,
        body: &mut Option<Bytes>,
        is_last: bool,
    ) -> Result<(), Unredactable> {
        let mut piece = body.take().unwrap_or_default();
        if let Some(decoder) = &mut self.decoder {
            piece = decoder.decode(&piece, is_last)?;
        }
        let mut passed = String::new();
        self.take(&piece, &mut passed)?;
        if is_last {
            self.end(&mut passed)?;
        }
        // An empty piece would be none of HTTP/1.1's chunks but their end.
        *body = Some(Bytes::from(passed)).filter(|passed| !passed.is_empty());
        Ok(())
    }

    fn take(&mut self, piece: &[u8], passed: &mut String) -> Result<(), Unredactable> {
        let mut mask = Mask {
            pointers: &self.pointers,
            found: &mut self.found,
        };
        match &mut self.reading {
            Reading::Nothing if piece.is_empty() => Ok(()),
            Reading::Nothing => Err(Unredactable::Type),
            Reading::Whole(text) => add(text, piece),
            Reading::Lines(line) => {
                let mut rest = piece;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let (part, after) = rest.split_at(end);
                    add(line, part)?;
                    mask.line(line.bytes(), passed)?;
                    passed.push('\n');
                    line.keep(0);
                    rest = after.get(1..).unwrap_or_default();
                }
                add(line, rest)
            }
            Reading::Events(events) => events.take(piece, &mut mask, passed),
        }
    }

    /// Ends the body.
    fn end(&mut self, passed: &mut String) -> Result<(), Unredactable> {
        let mut mask = Mask {
            pointers: &self.pointers,
            found: &mut self.found,
        };
        match std::mem::replace(&mut self.reading, Reading::Nothing) {
            Reading::Nothing => Ok(()),
            Reading::Whole(text) => mask.line(text.bytes(), passed),
            Reading::Lines(line) => mask.line(line.bytes(), passed),
            Reading::Events(mut events) => {
                events.end_line(&mut mask, passed)?;
                events.end_event(&mut mask, passed)
            }
        }
    }
}

fn add(buffer: &mut Buffer, part: &[u8]) -> Result<(), Unredactable> {
    buffer.add(part).then_some(()).ok_or(Unredactable::TooLong)
}

impl Reading {
    /// How the body of an answer with this head is read.
    fn of(headers: &HeaderMap, budget: &Budget) -> Result<Self, Unredactable> {
        let mut kinds = headers.get_all(CONTENT_TYPE).iter();
        let Some(kind) = kinds.next() else {
            // It may have none.
            return Ok(Self::Nothing);
        };
        let kind = kind.to_str().map_err(|_| Unredactable::Type)?;
        let kind = kind.to_ascii_lowercase();
        let mut parts = kind.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let is_utf8 = parts.all(|part| match part.strip_prefix("charset=") {
            Some(charset) => matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"),
            None => true,
        });
        if kinds.next().is_some() || !is_utf8 {
            return Err(Unredactable::Type);
        }
        let buffer = || Buffer::new(budget);
        match essence {
            "text/event-stream" => Ok(Self::Events(Box::new(Events {
                line: buffer(),
                event: buffer(),
                is_after_return: false,
                is_first: true,
            }))),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines" => Ok(Self::Lines(buffer())),
            "application/json" | "text/json" => Ok(Self::Whole(buffer())),
            json if json.ends_with("+json") => Ok(Self::Whole(buffer())),
            _ => Err(Unredactable::Type),
        }
    }
}

/// What is taken out, and how often it was.
struct Mask<'r> {
    pointers: &'r [ArgumentPointer],
    found: &'r mut usize,
}

impl Mask<'_> {
    /// A document, or nothing.
    fn line(&mut self, text: &[u8], passed: &mut String) -> Result<(), Unredactable> {
        let text = std::str::from_utf8(text).map_err(|_| Unredactable::Broken)?;
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let masked = json::mask(text, self.pointers).ok_or(Unredactable::Broken)?;
        *self.found += masked.times;
        passed.push_str(&masked.text);
        Ok(())
    }
}

impl Events {
    fn take(
        &mut self,
        piece: &[u8],
        mask: &mut Mask<'_>,
        passed: &mut String,
    ) -> Result<(), Unredactable> {
        let mut rest = piece;
        if self.is_after_return && !rest.is_empty() {
            self.is_after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (part, after) = rest.split_at(end);
            add(&mut self.line, part)?;
            self.end_line(mask, passed)?;
            rest = match after {
                [b'\r', b'\n', after @ ..] | [_, after @ ..] => after,
                [] => &[],
            };
            self.is_after_return = after == b"\r";
        }
        add(&mut self.line, rest)
    }

    /// A line is whole; an empty one ends the event.
    fn end_line(&mut self, mask: &mut Mask<'_>, passed: &mut String) -> Result<(), Unredactable> {
        let mut line = self.line.bytes();
        if std::mem::take(&mut self.is_first) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            self.line.keep(0);
            return self.end_event(mask, passed);
        }
        add(&mut self.event, line)?;
        add(&mut self.event, b"\n")?;
        self.line.keep(0);
        Ok(())
    }

    fn end_event(&mut self, mask: &mut Mask<'_>, passed: &mut String) -> Result<(), Unredactable> {
        let event = std::str::from_utf8(self.event.bytes()).map_err(|_| Unredactable::Broken)?;
        if event.is_empty() {
            return Ok(());
        }
        let mut data: Option<String> = None;
        for line in event.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name {
                "data" => {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    let data = data.get_or_insert_default();
                    data.push_str(value);
                    data.push('\n');
                }
                // By it the stream could be had again, in a call whose answer is not redacted.
                "id" => {}
                // A comment keeps the stream alive, whatever it says.
                "" => passed.push_str(":\n"),
                "event" | "retry" => {
                    passed.push_str(line);
                    passed.push('\n');
                }
                // No reader is to know it, but some do not tell cases.
                _ => {}
            }
        }
        if let Some(data) = data {
            let data = data.trim_end();
            let mut told = String::new();
            // The end of a stream of OpenAI's.
            if data == "[DONE]" {
                told.push_str(data);
            } else {
                mask.line(data.as_bytes(), &mut told)?;
            }
            for line in told.split('\n') {
                writeln!(passed, "data: {line}").map_err(|_| Unredactable::Broken)?;
            }
        }
        passed.push('\n');
        self.event.keep(0);
        Ok(())
    }
}
