//! Watches the head of an HTTP/1 response go by, for what the parser is too kind to refuse.
//!
//! A line that ends in a bare LF is read as a line by some and as part of a line by others; a head
//! without end fills memory, and so do interim heads without end. All stop the connection here, before
//! the parser has its say.
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
    /// How much of the status line has gone by, as far as that matters.
    column: u8,
    /// The head is an interim one (1xx): another one follows.
    interim: bool,
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
        Self { state: State::LineStart { first: true }, column: 0, interim: false, seen: 0, seen_max }
    }

    /// How large the head may be, interim ones included.
    pub const fn seen_max(&self) -> u32 {
        self.seen_max
    }

    /// Looks at `bytes` as they pass.
    ///
    /// # Errors
    /// [`HeadFault`] when the head must not be read on.
    pub fn take_in(&mut self, bytes: &[u8]) -> Result<(), HeadFault> {
        let mut rest = bytes;
        while self.state != State::Idle
            && let Some((byte, behind)) = rest.split_first()
        {
            if self.state == State::Line && self.column > STATUS_COLUMN {
                // Most of a head: nothing but the end of the line matters.
                let plain = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                if plain > 0 {
                    self.count(plain)?;
                    rest = &rest[plain..];
                    continue;
                }
            }
            self.count(1)?;
            self.read_status(*byte);
            self.state = self.step(*byte)?;
            rest = behind;
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), HeadFault> {
        self.seen = self.seen.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.seen > self.seen_max { Err(HeadFault::TooLarge) } else { Ok(()) }
    }

    fn read_status(&mut self, byte: u8) {
        if self.column <= STATUS_COLUMN {
            self.interim = self.column == STATUS_COLUMN && byte == b'1';
            self.column += 1;
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, HeadFault> {
        Ok(match (self.state, byte) {
            (State::Cr { blank: true }, b'\n') if self.interim => {
                self.column = 0;
                State::LineStart { first: true }
            }
            (State::Cr { blank: true }, b'\n') => State::Idle,
            (State::Cr { blank: false }, b'\n') => State::LineStart { first: false },
            (_, b'\n') => return Err(HeadFault::BareLf),
            (State::LineStart { first }, b'\r') => State::Cr { blank: !first },
            (_, b'\r') => State::Cr { blank: false },
            _ => State::Line,
        })
    }
}

/// Where the first digit of the status stands in `HTTP/1.1 200 OK`.
const STATUS_COLUMN: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

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

    /// A bound that lies in the middle of a line is met there, however the head is cut.
    #[test]
    fn a_head_may_be_as_large_as_its_bound() {
        let bytes = u32::try_from(HEAD.len()).expect("short");
        for at in 0..HEAD.len() {
            let take_in = |seen_max| {
                let mut watch = HeadWatch::expecting(seen_max);
                watch.take_in(&HEAD[..at]).and_then(|()| watch.take_in(&HEAD[at..]))
            };
            assert_eq!(take_in(bytes), Ok(()), "cut at {at}");
            assert_eq!(take_in(bytes - 1), Err(HeadFault::TooLarge), "cut at {at}");
            assert_eq!(take_in(25), Err(HeadFault::TooLarge), "cut at {at}");
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

    /// "One moment", says the peer, and says it for ever.
    #[test]
    fn interim_heads_without_end_are_refused() {
        let mut watch = HeadWatch::expecting(1000);
        let passed = (0..).take_while(|_| watch.take_in(INTERIM).is_ok()).count();
        assert_eq!(passed, 1000 / INTERIM.len());
        assert_eq!(watch.take_in(INTERIM), Err(HeadFault::TooLarge));
    }

    /// The head behind an interim one is watched as well.
    #[test]
    fn the_head_that_counts_may_follow_interim_ones() {
        let mut watch = HeadWatch::expecting(1000);
        watch.take_in(INTERIM).expect("good");
        assert_eq!(watch.take_in(b"HTTP/1.1 200 OK\nA: b\n\n"), Err(HeadFault::BareLf));
        let mut watch = HeadWatch::expecting(1000);
        watch.take_in(&[INTERIM, HEAD].concat()).expect("good");
        assert_eq!(watch.state, State::Idle);
    }
}
