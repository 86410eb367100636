//! Undoes the coding of an answer, though none was asked for.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use zstd::stream::raw::DParameter;

use super::Unscrubbable;

/// How much may come of one piece, in bytes: a piece is of some 16 KiB, and no honest one grows 256-fold.
const MOST: usize = 4 * 1024 * 1024;
/// RFC 9659: a `zstd` content coding needs a window of no more than 8 MiB.
const WINDOW_LOG: u32 = 23;

/// Undoes one of the content codings of RFC 9110, section 8.4.1, RFC 7932 and RFC 8878, as it comes.
pub(crate) enum Decoder {
    Gzip(Box<MultiGzDecoder<Sink>>),
    /// Which of two it is the first byte says.
    Deflate,
    Zlib(Box<ZlibDecoder<Sink>>),
    Raw(Box<DeflateDecoder<Sink>>),
    Brotli(Box<brotli::DecompressorWriter<Sink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
}

/// What came of a piece, within bounds.
#[derive(Default)]
pub(crate) struct Sink(Vec<u8>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(io::Error::other("too much comes of it"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// What undoes the coding of an answer; none if there is none.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Unscrubbable> {
        let mut found = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = value.to_str().map_err(|_| Unscrubbable::Coding)?;
            for coding in value.split(',').map(str::trim) {
                let coding = coding.to_ascii_lowercase();
                if matches!(coding.as_str(), "" | "identity") {
                    continue;
                }
                if found.is_some() {
                    return Err(Unscrubbable::Coding);
                }
                found = Some(Self::named(&coding)?);
            }
        }
        Ok(found)
    }

    fn named(coding: &str) -> Result<Self, Unscrubbable> {
        let sink = Sink::default();
        match coding {
            "gzip" | "x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(sink)))),
            "deflate" => Ok(Self::Deflate),
            "br" => {
                let writer = brotli::DecompressorWriter::new(sink, 16 * 1024);
                Ok(Self::Brotli(Box::new(writer)))
            }
            "zstd" => zstd(sink).map_err(Unscrubbable::Broken),
            _ => Err(Unscrubbable::Coding),
        }
    }

    /// Takes a piece, and answers with what comes of it.
    pub(crate) fn decode(&mut self, piece: &[u8], is_last: bool) -> Result<Bytes, Unscrubbable> {
        if let (Self::Deflate, Some(first)) = (&*self, piece.first()) {
            // RFC 1950, section 2.2: the method is the lower half of the first byte. A raw stream (RFC 1951) that begins
            // so would begin with a stored block of odd padding.
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(Sink::default())))
            } else {
                Self::Raw(Box::new(DeflateDecoder::new(Sink::default())))
            };
        }
        self.take(piece, is_last)
            .map(Bytes::from)
            .map_err(Unscrubbable::Broken)
    }

    fn take(&mut self, piece: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        let sink = match self {
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                if is_last {
                    decoder.try_finish()?;
                }
                decoder.get_mut()
            }
            Self::Deflate => return Ok(Vec::new()),
            Self::Zlib(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                if is_last {
                    decoder.try_finish()?;
                }
                decoder.get_mut()
            }
            Self::Raw(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                if is_last {
                    decoder.try_finish()?;
                }
                decoder.get_mut()
            }
            Self::Brotli(decoder) => {
                decoder.write_all(piece)?;
                if is_last {
                    decoder.close()?;
                }
                decoder.get_mut()
            }
            Self::Zstd(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                if is_last {
                    decoder.do_finish()?;
                }
                decoder.get_mut()
            }
        };
        Ok(std::mem::take(&mut sink.0))
    }
}

fn zstd(sink: Sink) -> io::Result<Decoder> {
    let mut decoder = zstd::stream::raw::Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
    let writer = zstd::stream::write::Decoder::with_decoder(sink, decoder);
    Ok(Decoder::Zstd(Box::new(writer)))
}
