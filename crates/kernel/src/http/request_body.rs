//! The body of a request, on its way to the peer: whole, or in pieces as they are made.
//!
//! The first pieces of a body that comes in pieces are kept, so that a connection that had been closed before it
//! was written to does not fail the request (K7): they are given again to the next one.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! K4, K7, K16; RFC 9112 §6 (a body whose length is not known goes out in chunks).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

/// Why the pieces of a request's body stopped coming.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of the request stopped: {reason}")]
pub struct BodyStopped {
    /// What its maker said.
    pub reason: String,
}

/// Where the pieces of a request's body come from.
pub type Pieces = Pin<Box<dyn Body<Data = Bytes, Error = BodyStopped>>>;

/// A body in pieces. All clones are one body.
#[derive(Clone)]
pub struct StreamedBody {
    bytes: Option<u64>,
    state: Rc<RefCell<State>>,
}

struct State {
    pieces: Pieces,
    /// What was given out, while it is little enough to be given out again.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// More has been given out than is kept.
    is_past: bool,
    /// What is given out again, before `pieces` goes on.
    again: VecDeque<Bytes>,
    ended: bool,
    stopped: Option<BodyStopped>,
}

impl StreamedBody {
    /// A body made of `pieces`: of `bytes` in all where that is known, and the peer is told so.
    pub fn new(pieces: Pieces, bytes: Option<u64>) -> Self {
        let state = State {
            pieces,
            kept: Vec::new(),
            kept_bytes: 0,
            is_past: false,
            again: VecDeque::new(),
            ended: false,
            stopped: None,
        };
        Self { bytes, state: Rc::new(RefCell::new(state)) }
    }

    /// How many bytes it has, if that is known.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Whether its last byte has been given out.
    pub fn has_ended(&self) -> bool {
        self.state.borrow().ended
    }

    /// Why it stopped in the middle, if it did.
    pub fn stopped(&self) -> Option<BodyStopped> {
        self.state.borrow().stopped.clone()
    }

    /// Begins anew; `false` when what was given out is no longer there.
    pub fn rewind(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if state.is_past {
            return false;
        }
        state.again = state.kept.iter().cloned().collect();
        true
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyStopped>>> {
        let mut state = self.state.borrow_mut();
        if let Some(piece) = state.again.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let polled = state.pieces.as_mut().poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(piece) => state.keep(piece),
                None => state.is_past = true,
            },
            Poll::Ready(Some(Err(stopped))) => {
                state.is_past = true;
                state.stopped = Some(stopped.clone());
            }
            Poll::Ready(None) => state.ended = true,
            Poll::Pending => {}
        }
        polled
    }
}

impl State {
    fn keep(&mut self, piece: &Bytes) {
        self.kept_bytes = self.kept_bytes.saturating_add(piece.len());
        if self.is_past || self.kept_bytes > KEPT_BYTES_MAX || self.kept.len() >= KEPT_PIECES_MAX {
            self.is_past = true;
            self.kept = Vec::new();
        } else {
            self.kept.push(piece.clone());
        }
    }
}

/// What hyper sends.
pub enum RequestBody {
    /// All of it is here.
    Whole(Full<Bytes>),
    /// It is still being made.
    Streamed(StreamedBody),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyStopped;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyStopped>>> {
        match self.get_mut() {
            Self::Whole(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(full) => full.is_end_stream(),
            Self::Streamed(streamed) => streamed.bytes == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(full) => full.size_hint(),
            Self::Streamed(streamed) => streamed.bytes.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// A connection that was closed under us is noticed before so much has been written on it.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const KEPT_PIECES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    fn body(pieces: &[usize]) -> StreamedBody {
        let pieces: Vec<_> =
            pieces.iter().map(|len| Ok(Frame::data(Bytes::from(vec![b'x'; *len])))).collect();
        StreamedBody::new(Box::pin(StreamBody::new(futures_util::stream::iter(pieces))), None)
    }

    async fn read(body: &StreamedBody) -> usize {
        let whole = RequestBody::Streamed(body.clone()).collect().await.expect("it does not stop");
        whole.to_bytes().len()
    }

    /// The connection turned out to be closed: the next one gets the same bytes, from the first.
    #[tokio::test]
    async fn what_is_kept_is_given_again() {
        let body = body(&[1000, 2000, 3000]);
        let mut first = RequestBody::Streamed(body.clone());
        assert!(first.frame().await.is_some_and(|piece| piece.is_ok()));
        drop(first);
        assert!(body.rewind());
        assert_eq!(read(&body).await, 6000);
        assert!(body.rewind());
        assert_eq!(read(&body).await, 6000);
        assert!(body.has_ended());
    }

    /// No more than a little is kept of a long body.
    #[tokio::test]
    async fn a_long_body_cannot_begin_anew() {
        let body = body(&[40_000, 40_000]);
        assert_eq!(read(&body).await, 80_000);
        assert!(!body.rewind());
        assert!(body.state.borrow().kept.is_empty());
    }
}
