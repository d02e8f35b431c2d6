//! Undoes the encoding of a body, piece by piece and within bounds.
//!
//! Nothing larger than one piece is held, however much comes of how little; what comes of it in all is bounded by its
//! ratio to what came in. A body that is encoded twice is refused.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! RFC 9110 §8.4 (gzip, deflate), RFC 7932 (br), RFC 8878 (zstd, whose window is at most 8 MiB); faults row 7.

use bytes::Bytes;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{BrotliDecoder, DecodeV2, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::config::BodyLimits;

/// What is asked for.
pub const ACCEPTED: &str = "gzip, deflate, br, zstd";

/// Undoes one encoding.
pub struct Decoder {
    coding: Coding,
    codec: Option<Box<dyn DecodeV2>>,
    scratch: Box<[u8]>,
    /// The first byte of a deflate body, until the second says what it is.
    first: Option<u8>,
    /// The last piece filled the scratch: there may be more without more input.
    filled: bool,
    ended: bool,
    encoded: u64,
    decoded: u64,
    ratio_max: u64,
    ratio_free_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Why a body is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Encoded more than once.
    #[error("it is encoded more than once ({codings}); ask with decompress off to have it as it is")]
    Stacked {
        /// How.
        codings: String,
    },
    /// Not what it says.
    #[error("it is not {coding}: {reason}")]
    Malformed {
        /// What it says it is.
        coding: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// It ended before its end.
    #[error("it ends in the middle of its {coding}")]
    Truncated {
        /// How it is encoded.
        coding: &'static str,
    },
    /// Too much comes of too little.
    #[error("{encoded} bytes became {decoded}, more than {ratio_max} times as many")]
    Bomb {
        /// Bytes that came.
        encoded: u64,
        /// Bytes that they made.
        decoded: u64,
        /// The bound.
        ratio_max: u64,
    },
}

impl Decoder {
    /// What undoes the encoding that `headers` announce; `None` when there is none, or one that we do not know and
    /// have not asked for: such a body is delivered as it is.
    ///
    /// # Errors
    /// [`DecodeError::Stacked`].
    pub fn of(headers: &HeaderMap, limits: &BodyLimits) -> Result<Option<Self>, DecodeError> {
        let lines = headers.get_all(CONTENT_ENCODING).iter().map(|line| line.to_str().unwrap_or("?"));
        let codings: Vec<&str> = lines
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
            .take(CODINGS_MAX)
            .collect();
        match codings[..] {
            [] => Ok(None),
            [coding] => Ok(Coding::parse(coding).map(|coding| Self::new(coding, limits))),
            _ => Err(DecodeError::Stacked { codings: codings.join(", ") }),
        }
    }

    fn new(coding: Coding, limits: &BodyLimits) -> Self {
        Self {
            coding,
            codec: coding.codec(),
            scratch: vec![0; PIECE_BYTES].into(),
            first: None,
            filled: false,
            ended: false,
            encoded: 0,
            decoded: 0,
            ratio_max: limits.ratio_max.into(),
            ratio_free_bytes: limits.ratio_free_bytes,
        }
    }

    /// The next piece that `input` makes, of which it takes what it has used; `None` when it needs more.
    ///
    /// # Errors
    /// [`DecodeError`] when the body must be given up.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, DecodeError> {
        loop {
            if self.ended && !self.begin_again(input)? {
                // Whatever follows the end is nobody's: padding, mostly.
                input.clear();
                return Ok(None);
            }
            if self.codec.is_none() && !self.tell_deflate(input) {
                return Ok(None);
            }
            let offered = self.offered(input);
            if offered == 0 && !self.drains() {
                return Ok(None);
            }
            let (used, made) = self.step(&input[..offered])?;
            let _used = input.split_to(used);
            self.encoded += used as u64;
            self.decoded += made as u64;
            self.check_ratio()?;
            if made > 0 {
                return Ok(Some(Bytes::copy_from_slice(&self.scratch[..made])));
            }
            if used == 0 && !self.ended && offered > 0 {
                return Err(self.malformed("it makes no progress"));
            }
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when it should not have.
    pub fn finish(&self) -> Result<(), DecodeError> {
        let nothing_came = self.encoded == 0 && self.first.is_none();
        if self.ended || nothing_came {
            Ok(())
        } else {
            Err(DecodeError::Truncated { coding: self.coding.name() })
        }
    }

    /// How much of `input` is offered. The last byte for deflate comes alone: what it makes surely fits, so that
    /// nothing is ever left inside that no input would bring out.
    fn offered(&self, input: &Bytes) -> usize {
        let chunk = input.len().min(CHUNK_BYTES);
        if self.coding.is_deflate() && chunk > 1 { chunk - 1 } else { chunk }
    }

    fn drains(&self) -> bool {
        self.filled && !self.coding.is_deflate()
    }

    fn step(&mut self, input: &[u8]) -> Result<(usize, usize), DecodeError> {
        let mut input = PartialBuffer::new(input);
        let mut output = WriteBuffer::new_initialized(&mut self.scratch);
        let codec = self.codec.as_mut().expect("it is known by now");
        let stepped = codec.decode(&mut input, &mut output);
        self.filled = output.has_no_spare_space();
        let (used, made) = (input.written_len(), output.written_len());
        self.ended = stepped.map_err(|error| self.malformed(&error.to_string()))?;
        Ok((used, made))
    }

    /// gzip and zstd may come in several members, one after the other.
    fn begin_again(&mut self, input: &Bytes) -> Result<bool, DecodeError> {
        let again = match self.coding {
            Coding::Gzip => input.starts_with(&[0x1f, 0x8b]),
            Coding::Zstd => input.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
            Coding::Deflate | Coding::Brotli => false,
        };
        if again {
            let codec = self.codec.as_mut().expect("it has ended once");
            codec.reinit().map_err(|error| DecodeError::Malformed {
                coding: self.coding.name(),
                reason: error.to_string(),
            })?;
            self.ended = false;
        }
        Ok(again)
    }

    /// Whether it is known what is called deflate here: zlib's format, as it should be, or the bare one that some
    /// servers send.
    fn tell_deflate(&mut self, input: &mut Bytes) -> bool {
        let (one, two) = match (self.first, &input[..]) {
            (_, []) => return false,
            (None, [one]) => {
                self.first = Some(*one);
                input.clear();
                return false;
            }
            (Some(one), [two, ..]) => (one, *two),
            (None, [one, two, ..]) => (*one, *two),
        };
        let is_zlib = one & 0x0f == 8 && (u16::from(one) << 8 | u16::from(two)).is_multiple_of(31);
        self.codec =
            Some(if is_zlib { Box::new(ZlibDecoder::new()) } else { Box::new(DeflateDecoder::new()) });
        if let Some(first) = self.first.take() {
            *input = [&[first], &input[..]].concat().into();
        }
        true
    }

    fn check_ratio(&self) -> Result<(), DecodeError> {
        let Self { encoded, decoded, ratio_max, .. } = *self;
        if decoded > self.ratio_free_bytes && decoded > encoded.saturating_mul(ratio_max) {
            return Err(DecodeError::Bomb { encoded, decoded, ratio_max });
        }
        Ok(())
    }

    fn malformed(&self, reason: &str) -> DecodeError {
        DecodeError::Malformed { coding: self.coding.name(), reason: reason.to_owned() }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("coding", &self.coding)
            .field("decoded", &self.decoded)
            .finish_non_exhaustive()
    }
}

impl Coding {
    fn parse(name: &str) -> Option<Self> {
        let known = [
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("br", Self::Brotli),
            ("zstd", Self::Zstd),
        ];
        known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, coding)| coding)
    }

    fn codec(self) -> Option<Box<dyn DecodeV2>> {
        Some(match self {
            Self::Gzip => Box::new(GzipDecoder::new()),
            Self::Brotli => Box::new(BrotliDecoder::new()),
            Self::Zstd => {
                Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(ZSTD_WINDOW_LOG)]))
            }
            // Which of the two formats it is, its first bytes say.
            Self::Deflate => return None,
        })
    }

    fn is_deflate(self) -> bool {
        matches!(self, Self::Gzip | Self::Deflate)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// What is made at a time.
const PIECE_BYTES: usize = 32 * 1024;
/// What is offered at a time, so that the ratio is looked at often.
const CHUNK_BYTES: usize = 16 * 1024;
/// RFC 8878 §3.1.1.1.2 recommends that a decoder support at least 8 MiB; RFC 9659 has the web use no more.
const ZSTD_WINDOW_LOG: u32 = 23;
/// More than one is too many; more than a few are not even listed.
const CODINGS_MAX: usize = 8;

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
