//! The chunks of `aws-chunked`, taken off while they come.
//!
//! `HEX;chunk-signature=…\r\n`, the bytes, `\r\n`; the last has none, and may have trailers after it
//! (Amazon S3 API reference, "Signature calculations … Chunked uploads").

use bytes::{Bytes, BytesMut};

/// The longest line that is read: a size with its signature, or a trailer.
const LONGEST_LINE: usize = 4096;

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Size,
    Data(u64),
    /// The line break after the bytes of a chunk.
    Break,
    Trailer,
    Nothing,
}

/// Takes the chunks of `aws-chunked` off a body while it comes. Signatures and trailers are not looked at.
#[derive(Clone, Debug)]
pub struct Chunks {
    next: Next,
    line: Vec<u8>,
}

/// These are no chunks of `aws-chunked`, or they break off.
#[derive(Debug, thiserror::Error)]
#[error("chunks of the body are broken")]
pub struct InvalidChunks;

impl Default for Chunks {
    fn default() -> Self {
        Self {
            next: Next::Size,
            line: Vec::new(),
        }
    }
}

impl Chunks {
    /// The bytes of a body that is there.
    pub(super) fn whole(body: &Bytes) -> Result<Bytes, InvalidChunks> {
        let mut chunks = Self::default();
        let bytes = chunks.push(body.clone())?;
        chunks.end()?;
        Ok(bytes)
    }

    /// The bytes in a piece of the body.
    ///
    /// # Errors
    /// [`InvalidChunks`] where it can't go on like this.
    pub fn push(&mut self, mut piece: Bytes) -> Result<Bytes, InvalidChunks> {
        let mut one = Bytes::new();
        let mut more = BytesMut::new();
        while !piece.is_empty() {
            match self.next {
                Next::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX);
                    let bytes = piece.split_to(here.min(piece.len()));
                    let left = left.saturating_sub(bytes.len() as u64);
                    self.next = if left == 0 {
                        Next::Break
                    } else {
                        Next::Data(left)
                    };
                    if one.is_empty() {
                        one = bytes;
                    } else {
                        more.extend_from_slice(&bytes);
                    }
                }
                Next::Nothing => return Err(InvalidChunks),
                Next::Size | Next::Break | Next::Trailer => self.read_line(&mut piece)?,
            }
        }
        if more.is_empty() {
            return Ok(one);
        }
        let mut all = BytesMut::with_capacity(one.len() + more.len());
        all.extend_from_slice(&one);
        all.extend_from_slice(&more);
        Ok(all.freeze())
    }

    /// Whether it came to its end.
    ///
    /// # Errors
    /// [`InvalidChunks`] where something is missing.
    pub fn end(&self) -> Result<(), InvalidChunks> {
        match self.next {
            Next::Nothing => Ok(()),
            // The line break after the last chunk is left out by some.
            Next::Trailer if self.line.is_empty() => Ok(()),
            Next::Size | Next::Data(_) | Next::Break | Next::Trailer => Err(InvalidChunks),
        }
    }

    fn read_line(&mut self, piece: &mut Bytes) -> Result<(), InvalidChunks> {
        let end = memchr::memchr(b'\n', piece);
        let part = piece.split_to(end.map_or(piece.len(), |end| end + 1));
        if self.line.len() + part.len() > LONGEST_LINE {
            return Err(InvalidChunks);
        }
        self.line.extend_from_slice(&part);
        if end.is_none() {
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r\n").ok_or(InvalidChunks)?;
        self.next = match self.next {
            Next::Size => match size(line).ok_or(InvalidChunks)? {
                0 => Next::Trailer,
                size => Next::Data(size),
            },
            Next::Break if line.is_empty() => Next::Size,
            Next::Trailer if line.is_empty() => Next::Nothing,
            Next::Trailer => Next::Trailer,
            Next::Break | Next::Data(_) | Next::Nothing => return Err(InvalidChunks),
        };
        Ok(())
    }
}

/// The size of a chunk, before whatever extends it.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let is_size = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_size)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"5;chunk-signature=ab\r\nhello\r\n1\r\n \r\n5;chunk-signature=cd\r\nworld\r\n0;chunk-signature=ef\r\nx-amz-checksum-crc32:AAAA\r\nx-amz-trailer-signature:00\r\n\r\n";

    #[track_caller]
    fn check(body: &'static [u8], expect: Option<&[u8]>) {
        // In pieces of every size, so that each border is met.
        for size in 1..=body.len() {
            let mut chunks = Chunks::default();
            let mut decoded = Vec::new();
            let mut pushed = Ok(());
            for piece in body.chunks(size) {
                match chunks.push(Bytes::from_static(piece)) {
                    Ok(bytes) => decoded.extend_from_slice(&bytes),
                    Err(error) => pushed = Err(error),
                }
            }
            let decoded = pushed.and_then(|()| chunks.end()).ok().map(|()| decoded);
            assert_eq!(decoded.as_deref(), expect, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_in_them_comes_out() {
        check(BODY, Some(b"hello world"));
    }
    #[test]
    fn a_body_may_be_empty() {
        check(b"0\r\n\r\n", Some(b""));
        check(b"0;chunk-signature=ab\r\n", Some(b""));
    }
    #[test]
    fn what_breaks_off_is_broken() {
        check(b"5\r\nhello\r\n", None);
        check(b"5\r\nhel", None);
        check(b"0\r\nx-amz-checksum", None);
    }
    #[test]
    fn what_goes_on_is_broken() {
        check(b"0\r\n\r\n5\r\nhello\r\n0\r\n\r\n", None);
    }
    #[test]
    fn a_size_is_a_number() {
        check(b"x\r\n", None);
        check(b"-1\r\n", None);
        check(b"11111111111111111\r\n", None);
        check(b"\r\n", None);
    }
    #[test]
    fn a_chunk_is_as_long_as_it_says() {
        check(b"3\r\nhello\r\n0\r\n\r\n", None);
        check(b"3\nabc\r\n0\r\n\r\n", None);
    }
}
