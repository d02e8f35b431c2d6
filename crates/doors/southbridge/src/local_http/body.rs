//! Takes a request's body out of the bytes of a connection.
//!
//! # Source
//! RFC 9112 §6 and §7.1. Chunk extensions and trailers are read past within a bound: nobody at
//! home sends them, and peers never see them.

use bytes::{Buf, Bytes, BytesMut};

use super::head::Framing;

/// Reads one body, told what has arrived. Holds no more than the bound it was given.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    chunks: BytesMut,
    bytes_max: u64,
    overhead: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain { length: u64 },
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer,
    Done,
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More than is taken.
    #[error("the request body exceeds {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// A chunk that is not one.
    #[error("the chunks of the request body cannot be read: {reason}")]
    BadChunk {
        /// What is wrong.
        reason: &'static str,
    },
}

impl BodyReader {
    /// A reader for a body of `framing`, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] when it is announced to be longer, before a byte of it is read.
    pub fn new(framing: Framing, bytes_max: u64) -> Result<Self, BodyError> {
        let state = match framing {
            Framing::Length(length) if length > bytes_max => return Err(BodyError::TooLarge { bytes_max }),
            Framing::Length(length) => State::Plain { length },
            Framing::Chunked => State::Size,
        };
        Ok(Self { state, chunks: BytesMut::new(), bytes_max, overhead: 0 })
    }

    /// How many bytes are still to come at least, as far as it is known.
    pub fn missing(&self, read: &BytesMut) -> u64 {
        match self.state {
            State::Plain { length } => length.saturating_sub(read.len() as u64),
            State::Data { left } => left.saturating_sub(read.len() as u64) + CHUNK_TAIL,
            State::Done => 0,
            _ => CHUNK_TAIL,
        }
    }

    /// Takes from `read` what belongs to the body; the body, once it is complete.
    ///
    /// # Errors
    /// [`BodyError`]; what follows in the connection cannot be told apart any more.
    pub fn advance(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, BodyError> {
        if let State::Plain { length } = self.state {
            let Some(length) = usize::try_from(length).ok().filter(|length| *length <= read.len()) else {
                return Ok(None);
            };
            self.state = State::Done;
            return Ok(Some(read.split_to(length).freeze()));
        }
        while self.step(read)? {
            if self.state == State::Done {
                return Ok(Some(std::mem::take(&mut self.chunks).freeze()));
            }
        }
        Ok(None)
    }

    /// One step of the chunk grammar; false when more bytes are needed for it.
    fn step(&mut self, read: &mut BytesMut) -> Result<bool, BodyError> {
        match self.state {
            State::Plain { .. } | State::Done => return Ok(false),
            State::Size => {
                let Some(line) = self.line(read)? else { return Ok(false) };
                let size = chunk_size(&line)?;
                if self.chunks.len() as u64 + size > self.bytes_max {
                    return Err(BodyError::TooLarge { bytes_max: self.bytes_max });
                }
                self.state = if size == 0 { State::Trailer } else { State::Data { left: size } };
            }
            State::Data { left } => {
                let take = left.min(read.len() as u64);
                self.chunks.extend_from_slice(&read[..usize::try_from(take).unwrap_or(read.len())]);
                read.advance(usize::try_from(take).unwrap_or(read.len()));
                self.state = if take == left { State::DataEnd } else { State::Data { left: left - take } };
                return Ok(take == left);
            }
            State::DataEnd => match self.line(read)? {
                None => return Ok(false),
                Some(line) if line.is_empty() => self.state = State::Size,
                Some(_) => return Err(BodyError::BadChunk { reason: "a chunk is longer than it says" }),
            },
            State::Trailer => match self.line(read)? {
                None => return Ok(false),
                Some(line) if line.is_empty() => self.state = State::Done,
                Some(_) => {}
            },
        }
        Ok(true)
    }

    /// The next line without its CR LF, once that has come.
    fn line(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, BodyError> {
        let Some(at) = read.iter().position(|byte| *byte == b'\n') else {
            let waiting = self.overhead + read.len();
            return if waiting > OVERHEAD_MAX { Err(too_much_overhead()) } else { Ok(None) };
        };
        let mut line = read.split_to(at + 1).freeze();
        self.overhead += line.len().saturating_sub(PLAIN_LINE);
        if self.overhead > OVERHEAD_MAX {
            return Err(too_much_overhead());
        }
        if !line.ends_with(b"\r\n") || line[..line.len() - 2].contains(&b'\r') {
            return Err(BodyError::BadChunk { reason: "a line does not end in CR LF" });
        }
        line.truncate(line.len() - 2);
        Ok(Some(line))
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, BodyError> {
    let bad = BodyError::BadChunk { reason: "a chunk size is not a hexadecimal number" };
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    if digits.is_empty() || digits.len() > CHUNK_DIGITS_MAX || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad);
    }
    let text = std::str::from_utf8(digits).map_err(|_| bad.clone())?;
    u64::from_str_radix(text, 16).map_err(|_| bad)
}

fn too_much_overhead() -> BodyError {
    BodyError::BadChunk { reason: "extensions and trailers exceed 16384 bytes" }
}

/// What follows the data of a chunk at least: its CR LF and the last chunk.
const CHUNK_TAIL: u64 = 7;
/// The most bytes of chunk extensions and trailers in one body.
const OVERHEAD_MAX: usize = 16 * 1024;
/// A chunk-size line or line end of this length is not counted as overhead.
const PLAIN_LINE: usize = 10;
/// Twelve hexadecimal digits are 256 TiB: sums of them cannot overflow.
const CHUNK_DIGITS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(framing: Framing, parts: &[&[u8]]) -> Result<Option<(Bytes, usize)>, BodyError> {
        let mut reader = BodyReader::new(framing, 100)?;
        let mut buffer = BytesMut::new();
        for part in parts {
            buffer.extend_from_slice(part);
            if let Some(body) = reader.advance(&mut buffer)? {
                return Ok(Some((body, buffer.len())));
            }
        }
        Ok(None)
    }

    /// Wherever the wire cuts it, a chunked body is the same body, and what follows is left alone.
    #[test]
    fn a_chunked_body_is_read_the_same_however_it_is_cut() {
        let wire = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\nsurplus";
        for at in 0..=wire.len() {
            let (first, second) = wire.split_at(at);
            let (body, _) = read(Framing::Chunked, &[first, second]).unwrap().unwrap();
            assert_eq!(body, "hello world", "cut at {at}");
        }
        assert_eq!(read(Framing::Chunked, &[wire]).unwrap().unwrap().1, "surplus".len());
    }

    #[test]
    fn a_body_with_a_length_takes_that_many_bytes() {
        assert_eq!(read(Framing::Length(3), &[b"a", b"bcd"]).unwrap(), Some(("abc".into(), 1)));
        assert_eq!(read(Framing::Length(0), &[b""]).unwrap(), Some((Bytes::new(), 0)));
        assert_eq!(read(Framing::Length(3), &[b"ab"]).unwrap(), None);
    }

    #[test]
    fn what_exceeds_the_bound_is_refused_before_it_is_read() {
        let too_large = Err(BodyError::TooLarge { bytes_max: 100 });
        assert_eq!(read(Framing::Length(101), &[]), too_large);
        assert_eq!(read(Framing::Chunked, &[b"65\r\n"]), too_large);
        assert_eq!(read(Framing::Chunked, &[b"64\r\n", &[b'x'; 100], b"\r\n1\r\n"]), too_large);
        assert_eq!(read(Framing::Chunked, &[b"ffffffffffff\r\n"]), too_large);
    }

    #[test]
    fn what_is_not_a_chunk_is_refused() {
        let endless = vec![b'x'; OVERHEAD_MAX + 1];
        let cases: [&[u8]; 10] = [
            b"\r\n",
            b"5 5\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"g\r\n",
            b"5\nhello",
            b"1\r\nab\r\n",
            b"fffffffffffff\r\n",
            &endless,
        ];
        for wire in cases {
            assert!(matches!(read(Framing::Chunked, &[wire]), Err(BodyError::BadChunk { .. })), "{wire:?}");
        }
    }
}
