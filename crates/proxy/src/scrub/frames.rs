//! Where messages of gRPC and of a WebSocket end: nothing is held back past that.

use bytes::BytesMut;
use credentials::{Flow, Scrubber};

use super::Unscrubbable;

/// How messages are framed in a body.
pub(super) enum Frames {
    /// Not at all.
    None,
    /// Each after five bytes: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
    Grpc(Frame),
    /// RFC 6455, section 5.2.
    WebSocket(Frame),
}

/// The frame that is under way.
#[derive(Default)]
pub(super) struct Frame {
    head: Vec<u8>,
    /// Whether the head is whole.
    is_begun: bool,
    left: u64,
    kind: Kind,
    /// The payload of a control frame.
    control: Vec<u8>,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Kind {
    /// A message, or its last part.
    #[default]
    End,
    /// A part of a message.
    Part,
    /// Something between parts.
    Control,
}

impl Frames {
    pub(super) fn grpc() -> Self {
        Self::Grpc(Frame::default())
    }

    pub(super) fn web_socket() -> Self {
        Self::WebSocket(Frame::default())
    }

    /// Takes a piece; answers how often the secret was found beside the flow.
    pub(super) fn push(
        &mut self,
        mut piece: &[u8],
        scrubber: &Scrubber,
        flow: &mut Flow,
        passed: &mut BytesMut,
    ) -> Result<usize, Unscrubbable> {
        let mut found = 0;
        while let Some((first, rest)) = piece.split_first() {
            let (frame, begin): (_, fn(&[u8]) -> Begun) = match self {
                Self::None => return Ok(found),
                Self::Grpc(frame) => (frame, grpc),
                Self::WebSocket(frame) => (frame, web_socket),
            };
            if frame.is_begun {
                let length = usize::try_from(frame.left).unwrap_or(usize::MAX);
                let (part, rest) = piece.split_at(length.min(piece.len()));
                piece = rest;
                frame.left -= part.len() as u64;
                match frame.kind {
                    Kind::Control => frame.control.extend_from_slice(part),
                    Kind::End | Kind::Part => flow.push_to(part, passed),
                }
            } else {
                piece = rest;
                frame.head.push(*first);
                match begin(&frame.head) {
                    Begun::NotYet => continue,
                    Begun::Wrong => return Err(Unscrubbable::Message),
                    Begun::Is(kind, left) => {
                        (frame.is_begun, frame.kind, frame.left) = (true, kind, left);
                    }
                }
                if frame.kind != Kind::Control {
                    flow.pass(&frame.head, passed);
                }
            }
            if frame.left == 0 {
                found += frame.end(scrubber, flow, passed);
            }
        }
        Ok(found)
    }

    /// The body ends, in the midst of a frame perhaps.
    pub(super) fn end(&mut self, flow: &mut Flow, passed: &mut BytesMut) {
        if let Self::Grpc(frame) | Self::WebSocket(frame) = self {
            let frame = std::mem::take(frame);
            if !frame.is_begun {
                flow.pass(&frame.head, passed);
            }
        }
    }
}

impl Frame {
    fn end(&mut self, scrubber: &Scrubber, flow: &mut Flow, passed: &mut BytesMut) -> usize {
        let mut frame = std::mem::take(self);
        match frame.kind {
            Kind::Part => 0,
            Kind::End => {
                flow.end(passed);
                0
            }
            Kind::Control => {
                let found = scrubber.mask(&mut frame.control);
                flow.pass(&[frame.head, frame.control].concat(), passed);
                found
            }
        }
    }
}

/// What a head says.
enum Begun {
    NotYet,
    /// It is compressed, masked, or nothing that there is.
    Wrong,
    /// The kind, and the length.
    Is(Kind, u64),
}

fn grpc(head: &[u8]) -> Begun {
    match head {
        // The eighth bit says in gRPC-Web that these are the trailers.
        [flags, ..] if flags & 0x7f != 0 => Begun::Wrong,
        [_, a, b, c, d] => Begun::Is(Kind::End, u32::from_be_bytes([*a, *b, *c, *d]).into()),
        _ => Begun::NotYet,
    }
}

fn web_socket(head: &[u8]) -> Begun {
    let (first, second, length) = match head {
        [first, ..] if first & 0x70 != 0 => return Begun::Wrong,
        [_, second, ..] if second & 0x80 != 0 => return Begun::Wrong,
        [first, second, length @ ..] => (first, second, length),
        _ => return Begun::NotYet,
    };
    let length = match (second & 0x7f, length) {
        (126, [a, b]) => u16::from_be_bytes([*a, *b]).into(),
        (127, length) => match <[u8; 8]>::try_from(length) {
            Ok(length) => u64::from_be_bytes(length),
            Err(_) => return Begun::NotYet,
        },
        (126, _) => return Begun::NotYet,
        (short, _) => u64::from(short),
    };
    let is_end = first & 0x80 != 0;
    if first & 0x08 == 0 {
        Begun::Is(if is_end { Kind::End } else { Kind::Part }, length)
    } else if is_end && length <= 125 {
        Begun::Is(Kind::Control, length)
    } else {
        Begun::Wrong
    }
}
