//! Keeps the injected secret out of the answer: its head, its body as it streams, its trailers.
//!
//! The upstream is asked for an answer in which it can be seen: whole, uncoded. One that is coded all the same is
//! decoded; one that can't be is broken off. What is masked keeps its length.

mod coding;
mod frames;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use credentials::{Flow, Scrubber};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_RANGE, RANGE,
    SEC_WEBSOCKET_EXTENSIONS, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora_core::BError;
use pingora_http::ResponseHeader;

pub(crate) use self::coding::Decoder;
use self::frames::Frames;

/// gRPC over HTTP/2, "Message-Accept-Encoding".
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Of a body that is changed none of these is true any more: RFC 9530, RFC 3230 and RFC 1864.
pub(crate) const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Keeps the secret of one call out of its answer.
pub(crate) struct Scrub {
    scrubber: Arc<Scrubber>,
    flow: Flow,
    frames: Frames,
    decoder: Option<Decoder>,
    /// How often it was found outside of the flow.
    found: usize,
}

/// An answer of which nobody can say whether it holds the secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unscrubbable {
    /// It is coded in a way that is not known, or in more than one.
    #[error("answer is coded in a way that is not undone")]
    Coding,
    /// It is not what it says it is.
    #[error("coded answer can't be decoded: {0}")]
    Broken(std::io::Error),
    /// A message in it is compressed, though nobody agreed to that.
    #[error("answer has a message that is compressed or masked")]
    Message,
    /// A header that frames the body holds the secret.
    #[error("answer is framed by the secret")]
    Framing,
    /// The head can't be changed.
    #[error("head of the answer can't be changed: {0}")]
    Head(BError),
}

/// What is answered, as far as it matters to the body.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    /// Whether the upstream speaks HTTP/2.
    pub(crate) is_http2: bool,
}

impl Asked<'_> {
    /// Whether an answer of this status has no body, whatever its head says (RFC 9110, section 6.4.1).
    pub(crate) fn is_bodiless(self, status: StatusCode) -> bool {
        *self.method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}

impl Scrub {
    pub(crate) fn new(scrubber: &Arc<Scrubber>) -> Self {
        Self {
            scrubber: Arc::clone(scrubber),
            flow: Flow::new(Arc::clone(scrubber)),
            frames: Frames::None,
            decoder: None,
            found: 0,
        }
    }

    /// Asks for an answer in which the secret can be seen.
    pub(crate) fn ask(headers: &mut HeaderMap) {
        let identity = HeaderValue::from_static("identity");
        headers.insert(ACCEPT_ENCODING, identity.clone());
        if headers.contains_key(GRPC_ACCEPT_ENCODING) {
            headers.insert(GRPC_ACCEPT_ENCODING, identity);
        }
        // Each of two ranges could hold a part of it.
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    }

    /// How often the secret was found so far.
    pub(crate) fn found(&self) -> usize {
        self.found + self.flow.found()
    }

    /// Masks the head, and sees how the body is to be read.
    pub(crate) fn head(
        &mut self,
        response: &mut ResponseHeader,
        asked: Asked<'_>,
    ) -> Result<(), Unscrubbable> {
        self.mask_head(response)?;
        let status = response.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.frames = Frames::web_socket();
            return Ok(());
        }
        if asked.is_bodiless(status) {
            return Ok(());
        }
        let mut transfer = response.headers.get_all(TRANSFER_ENCODING).iter();
        if transfer.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Unscrubbable::Coding);
        }
        let kind = response.headers.get(CONTENT_TYPE);
        if kind.is_some_and(|kind| is_grpc(kind.as_bytes())) {
            self.frames = Frames::grpc();
        }
        self.decoder = Decoder::of(&response.headers)?;
        if self.decoder.is_some() {
            response.remove_header(&CONTENT_ENCODING);
            response.remove_header(&CONTENT_LENGTH);
            for digest in &DIGESTS {
                response.remove_header(digest);
            }
            if !asked.is_http2 {
                response
                    .insert_header(TRANSFER_ENCODING, "chunked")
                    .map_err(Unscrubbable::Head)?;
            }
        }
        Ok(())
    }

    fn mask_head(&mut self, response: &mut ResponseHeader) -> Result<(), Unscrubbable> {
        let reason = response.get_reason_phrase().unwrap_or_default();
        if self.scrubber.mask(&mut reason.as_bytes().to_vec()) > 0 {
            self.found += 1;
            response
                .set_reason_phrase(None)
                .map_err(Unscrubbable::Head)?;
        }
        let mut changed = Vec::new();
        for name in response.headers.keys() {
            if self.is_named(name) {
                changed.push((name.clone(), Vec::new()));
                continue;
            }
            let mut found = 0;
            let values = response.headers.get_all(name).iter();
            let masked: Vec<_> = values
                .filter_map(|value| self.mask_value(value, &mut found))
                .collect();
            if found > 0 {
                if matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING) {
                    return Err(Unscrubbable::Framing);
                }
                self.found += found;
                changed.push((name.clone(), masked));
            }
        }
        for (name, values) in changed {
            response.remove_header(&name);
            for value in values {
                response
                    .append_header(name.clone(), value)
                    .map_err(Unscrubbable::Head)?;
            }
        }
        Ok(())
    }

    fn is_named(&mut self, name: &HeaderName) -> bool {
        let is_named = self.scrubber.is_in_name(name.as_str());
        self.found += usize::from(is_named);
        is_named
    }

    /// A value without the secret; none where what is left is no value.
    fn mask_value(&self, value: &HeaderValue, found: &mut usize) -> Option<HeaderValue> {
        let mut bytes = value.as_bytes().to_vec();
        match self.scrubber.mask(&mut bytes) {
            0 => Some(value.clone()),
            times => {
                *found += times;
                HeaderValue::from_bytes(&bytes).ok()
            }
        }
    }

    /// Masks a piece of the body: what may pass stands there then.
    pub(crate) fn body(
        &mut self,
        body: &mut Option<Bytes>,
        is_last: bool,
    ) -> Result<(), Unscrubbable> {
        let mut piece = body.take().unwrap_or_default();
        if let Some(decoder) = &mut self.decoder {
            piece = decoder.decode(&piece, is_last)?;
        }
        let mut passed = match self.frames {
            Frames::None => self.flow.push(piece),
            Frames::Grpc(_) | Frames::WebSocket(_) => {
                let mut passed = BytesMut::with_capacity(piece.len());
                let found = self
                    .frames
                    .push(&piece, &self.scrubber, &mut self.flow, &mut passed);
                self.found += found?;
                passed.freeze()
            }
        };
        if is_last && let Some(rest) = self.end() {
            passed = [passed, rest].concat().into();
        }
        // An empty piece would be none of HTTP/1.1's chunks but their end.
        *body = Some(passed).filter(|passed| !passed.is_empty());
        Ok(())
    }

    /// Masks trailers; answers with what of the body was held back until they came.
    pub(crate) fn trailers(&mut self, trailers: &mut HeaderMap) -> Option<Bytes> {
        let names: Vec<HeaderName> = trailers.keys().cloned().collect();
        for name in names {
            let mut found = 0;
            let values: Vec<_> = trailers
                .get_all(&name)
                .iter()
                .filter_map(|value| self.mask_value(value, &mut found))
                .collect();
            let is_named = self.is_named(&name);
            self.found += found;
            if is_named || found > 0 {
                trailers.remove(&name);
            }
            if !is_named && found > 0 {
                for value in values {
                    trailers.append(name.clone(), value);
                }
            }
        }
        self.end()
    }

    /// Ends the body.
    fn end(&mut self) -> Option<Bytes> {
        let mut rest = BytesMut::new();
        self.frames.end(&mut self.flow, &mut rest);
        self.flow.end(&mut rest);
        Some(rest.freeze()).filter(|rest| !rest.is_empty())
    }
}

/// Whether messages are framed as in gRPC. The text form of gRPC-Web is Base64 as a whole.
fn is_grpc(kind: &[u8]) -> bool {
    kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web-text")
}

#[cfg(test)]
mod tests;
