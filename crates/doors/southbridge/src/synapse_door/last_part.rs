//! Watches that the part with the file is the last one.
//!
//! Synapse heeds a `Location` in any part, whichever comes after the file included, and follows it
//! once the response has ended. A response with a third part is therefore cut before its end.
//!
//! # Source
//! Matrix server-server API v1.19, "Content Repository" (exactly two parts); RFC 2046 §5.1.1.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use southbridge_kernel::ExchangeError;
use southbridge_kernel::http::{ResponseBody, Violation};
use southbridge_words::ServiceName;

use super::multipart::{Boundary, MultipartError};

/// Looks for the end of a part in its content, as that comes in.
#[derive(Clone, Debug)]
pub struct LastPart {
    delimiter: Vec<u8>,
    /// The end of what has been seen: the beginning of a delimiter, perhaps.
    tail: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Content,
    Delimiter,
    Dash,
    Closed,
}

impl LastPart {
    /// Begins at the line end before the content, which may be that of an empty part.
    pub fn of(boundary: &Boundary) -> Self {
        Self { delimiter: boundary.delimiter(), tail: Vec::new(), state: State::Content }
    }

    /// Looks at what comes next.
    ///
    /// # Errors
    /// [`MultipartError::Parts`] when another part begins.
    pub fn advance(&mut self, mut data: &[u8]) -> Result<(), MultipartError> {
        loop {
            self.state = match (self.state, data) {
                (State::Closed, _) | (_, []) => return Ok(()),
                (State::Content, _) => match self.find(data) {
                    Some(end) => {
                        data = &data[end..];
                        self.tail.clear();
                        State::Delimiter
                    }
                    None => {
                        self.keep_tail(data);
                        return Ok(());
                    }
                },
                (State::Delimiter, [b'-', rest @ ..]) => {
                    data = rest;
                    State::Dash
                }
                (State::Delimiter, [b' ' | b'\t' | b'\r', ..]) => return Err(MultipartError::Parts),
                (State::Dash, [b'-', ..]) => State::Closed,
                // It only looked like a delimiter.
                (State::Delimiter | State::Dash, _) => State::Content,
            };
        }
    }

    /// Where in `data` a delimiter ends.
    fn find(&self, data: &[u8]) -> Option<usize> {
        let reach = data.len().min(self.delimiter.len() - 1);
        let seam = [&self.tail[..], &data[..reach]].concat();
        let length = self.delimiter.len();
        match memchr::memmem::find(&seam, &self.delimiter) {
            Some(at) => Some(at + length - self.tail.len()),
            None => memchr::memmem::find(data, &self.delimiter).map(|at| at + length),
        }
    }

    fn keep_tail(&mut self, data: &[u8]) {
        let kept = self.delimiter.len() - 1;
        self.tail.extend_from_slice(&data[data.len().saturating_sub(kept)..]);
        self.tail.drain(..self.tail.len().saturating_sub(kept));
    }
}

/// The body of a response that fails when its second part is not the last.
pub struct TwoParts {
    body: ResponseBody,
    last: LastPart,
    service: ServiceName,
}

impl TwoParts {
    /// Watches `body`, of which `last` has seen what was gathered.
    pub fn new(body: ResponseBody, last: LastPart, service: ServiceName) -> Self {
        Self { body, last, service }
    }
}

impl Body for TwoParts {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.last.advance(data)
        {
            let violation = Violation::Unreadable { reason: error.to_string() };
            return Poll::Ready(Some(Err(ExchangeError::PeerMisbehaved {
                service: self.service.clone(),
                violation,
            })));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Looks at `content` cut at `at`.
    fn look(content: &[u8], at: usize) -> Result<State, MultipartError> {
        let content_type = HeaderValue::from_static("multipart/mixed; boundary=bound");
        let mut last = LastPart::of(&Boundary::of(&content_type).unwrap().unwrap());
        last.advance(&content[..at])?;
        last.advance(&content[at..])?;
        Ok(last.state)
    }

    #[test]
    fn a_third_part_is_found_wherever_the_wire_cuts_it() {
        let third: &[u8] = b"\r\nfile\r\n--bound\r\nLocation: https://x/\r\n\r\n\r\n--bound--";
        let after_a_likeness: &[u8] =
            b"\r\nfile\r\n--boundless\r\n--bound-x\r\n--bound \r\nLocation: x\r\n\r\n";
        let empty: &[u8] = b"\r\n--bound\r\nLocation: x\r\n\r\n";
        for content in [third, after_a_likeness, empty] {
            for at in 0..content.len() {
                assert_eq!(look(content, at), Err(MultipartError::Parts), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_file_may_have_in_it_whatever_is_no_delimiter() {
        let closed: &[u8] =
            b"\r\n\r\r\n-\r\n--boun\r\n--boundary\r\n--bound-\r\n--bound--\r\n--bound\r\nLocation: x";
        let open: &[u8] = b"\r\nfile\r\n--bou";
        for at in 0..closed.len() {
            assert_eq!(look(closed, at), Ok(State::Closed), "cut at {at}");
        }
        for at in 0..open.len() {
            assert_eq!(look(open, at), Ok(State::Content), "cut at {at}");
        }
    }
}
