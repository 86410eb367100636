//! Protobuf messages, written field by field into one buffer.

use bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// A message in the making.
///
/// Whoever writes it gives the fields in ascending order and leaves out those that have their default: then
/// the bytes are the ones that `prost` would make of the same message.
#[derive(Debug, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties it and keeps its room, but at most this much.
    pub(crate) fn clear(&mut self, room: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(room);
    }

    /// `uint64`, and what is alike on the wire: `int64`, `bool`, `enum`.
    pub(crate) fn varint(&mut self, field: u32, value: u64) {
        self.key_and_varint(field, WireType::Varint, value);
    }

    pub(crate) fn fixed32(&mut self, field: u32, value: u32) {
        encode_key(field, WireType::ThirtyTwoBit, &mut self.bytes);
        self.bytes.put_u32_le(value);
    }

    pub(crate) fn fixed64(&mut self, field: u32, value: u64) {
        encode_key(field, WireType::SixtyFourBit, &mut self.bytes);
        self.bytes.put_u64_le(value);
    }

    pub(crate) fn double(&mut self, field: u32, value: f64) {
        encode_key(field, WireType::SixtyFourBit, &mut self.bytes);
        self.bytes.put_f64_le(value);
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.head(field, value.len());
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// A text that stands in several places.
    pub(crate) fn pieces(&mut self, field: u32, pieces: &[&str]) {
        self.head(field, pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            self.bytes.extend_from_slice(piece.as_bytes());
        }
    }

    /// Begins a field whose content, of this length, the caller writes next.
    pub(crate) fn head(&mut self, field: u32, length: usize) {
        self.key_and_varint(field, WireType::LengthDelimited, wide(length));
    }

    /// Nearly all that is written begins with two bytes: a field below 16 and a number below 128.
    #[inline]
    fn key_and_varint(&mut self, field: u32, wire: WireType, value: u64) {
        match (u8::try_from(field), u8::try_from(value)) {
            (Ok(field @ ..16), Ok(value @ ..128)) => {
                self.bytes
                    .extend_from_slice(&[field << 3 | wire as u8, value]);
            }
            _ => {
                encode_key(field, wire, &mut self.bytes);
                encode_varint(value, &mut self.bytes);
            }
        }
    }

    /// Fields that have been written elsewhere.
    pub(crate) fn fields(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A message within, whose length is only known once it is written.
    pub(crate) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        let written = self.bytes.len();
        write(self);
        let length = self.bytes.len() - written;
        let content = start + encoded_len_varint(wide(length));
        if content != written {
            self.bytes.resize(written.max(content) + length, 0);
            self.bytes.copy_within(written..written + length, content);
            self.bytes.truncate(content + length);
        }
        if let Some(mut place) = self.bytes.get_mut(start..content) {
            encode_varint(wide(length), &mut place);
        }
    }
}

/// Bytes left free for a length that isn't known yet. Spans and events need two; what doesn't is moved.
const LENGTH: usize = 2;

impl From<Message> for Bytes {
    fn from(message: Message) -> Self {
        message.bytes.into()
    }
}

/// The size of a length and of what it is the length of.
pub(crate) fn with_length(length: usize) -> usize {
    encoded_len_varint(wide(length)) + length
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Message, with_length};

    /// `prost`'s own view of a message with one text, within another.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Outer {
        #[prost(message, optional, tag = "1")]
        inner: Option<Inner>,
        #[prost(fixed32, tag = "16")]
        last: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {
        #[prost(string, tag = "2")]
        text: String,
    }

    /// A message within has the shortest length there is, wherever its content had to move.
    #[track_caller]
    fn check(length: usize) {
        let text = "x".repeat(length);
        let mut message = Message::default();
        message.message(1, |inner| inner.text(2, &text));
        message.fixed32(16, 7);
        let inner = Some(Inner { text });
        let expect = prost::Message::encode_to_vec(&Outer { inner, last: 7 });
        assert_eq!(message.as_bytes(), expect);
        assert_eq!(with_length(1 + with_length(length)) + 1 + 6, expect.len());
    }

    #[test]
    fn a_short_message_moves_back() {
        check(1);
        check(125);
    }
    #[test]
    fn a_usual_message_stays() {
        check(126);
        check(16_380);
    }
    #[test]
    fn a_long_message_moves_on() {
        check(16_381);
        check(3_000_000);
    }

    #[test]
    fn an_empty_message_is_a_length() {
        let mut message = Message::default();
        message.message(1, |_| {});
        assert_eq!(message.as_bytes(), [0x0a, 0]);
    }

    #[test]
    fn pieces_are_one_text() {
        let (mut whole, mut pieces) = (Message::default(), Message::default());
        whole.text(5, "GET /notes");
        pieces.pieces(5, &["GET", " ", "/notes"]);
        assert_eq!(whole.as_bytes(), pieces.as_bytes());
    }
}
