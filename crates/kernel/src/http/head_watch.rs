//! Watches the head of an HTTP/1 response go by, for what the parser is too kind to refuse.
//!
//! A line that ends in a bare LF is read as a line by some and as part of a line by others; a head
//! without end fills memory. Both stop the connection here, before the parser has its say.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! RFC 9112 §2.2 lets a recipient take a bare LF as a line end; K19 has us refuse it (faults row 9).
//! The bound on heads is faults rows 5 and 6.

/// The state of one watched head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadWatch {
    state: State,
    seen: u32,
    seen_max: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No head is expected, or it has gone by.
    #[default]
    Idle,
    /// At the start of a line; `first` when it is the first of its head.
    LineStart { first: bool },
    /// Within a line.
    Line,
    /// Behind a CR; `blank` when nothing else was on the line.
    Cr { blank: bool },
}

/// Why a connection is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// A line ended in LF without CR.
    #[error("a line of the response head ends without CR")]
    BareLf,
    /// The head, interim ones included, did not end within its bound.
    #[error("the response head is too large")]
    TooLarge,
    /// Too many bytes came that are no part of a response.
    #[error("too many bytes came that belong to no response")]
    Overhead,
}

impl HeadWatch {
    /// A head of at most `seen_max` bytes (interim heads before it included) comes next.
    pub const fn expecting(seen_max: u32) -> Self {
        Self { state: State::LineStart { first: true }, seen: 0, seen_max }
    }

    /// Looks at `bytes` as they pass.
    ///
    /// # Errors
    /// [`HeadFault`] when the head must not be read on.
    pub fn take_in(&mut self, bytes: &[u8]) -> Result<(), HeadFault> {
        for byte in bytes {
            if self.state == State::Idle {
                break;
            }
            self.seen += 1;
            if self.seen > self.seen_max {
                return Err(HeadFault::TooLarge);
            }
            self.state = self.step(*byte)?;
        }
        Ok(())
    }

    fn step(&self, byte: u8) -> Result<State, HeadFault> {
        Ok(match (self.state, byte) {
            (State::Cr { blank: true }, b'\n') => State::Idle,
            (State::Cr { blank: false }, b'\n') => State::LineStart { first: false },
            (_, b'\n') => return Err(HeadFault::BareLf),
            (State::LineStart { first }, b'\r') => State::Cr { blank: !first },
            (_, b'\r') => State::Cr { blank: false },
            _ => State::Line,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";

    #[test]
    fn a_good_head_passes_and_the_body_is_not_watched() {
        let mut watch = HeadWatch::expecting(1000);
        watch.take_in(HEAD).expect("good");
        watch.take_in(b"a\nb\nc").expect("the body is its own business");
    }

    /// The peer sends the head in two pieces, cut anywhere.
    #[test]
    fn a_head_may_come_in_pieces() {
        for at in 0..HEAD.len() {
            let mut watch = HeadWatch::expecting(1000);
            watch.take_in(&HEAD[..at]).expect("first piece");
            watch.take_in(&HEAD[at..]).expect("second piece");
            assert_eq!(watch.state, State::Idle, "cut at {at}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused() {
        for head in [&b"HTTP/1.1 200 OK\nContent-Length: 2\n\n"[..], b"HTTP/1.1 200 OK\r\nA: b\n\r\n"] {
            assert_eq!(HeadWatch::expecting(1000).take_in(head), Err(HeadFault::BareLf));
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let mut watch = HeadWatch::expecting(100);
        assert_eq!(watch.take_in(&[b'a'; 101]), Err(HeadFault::TooLarge));
    }
}
