//! A connection in memory, and bodies told frame by frame, for the tests of the doors.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::io::DuplexStream;

use super::LocalIo;

impl LocalIo for DuplexStream {
    fn abort(self) {
        drop(self);
    }
}

/// A body that yields what it was told to, and then ends, fails or hangs.
#[derive(Debug)]
pub struct Script {
    frames: VecDeque<&'static [u8]>,
    end: End,
}

/// What comes after the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ends.
    Clean,
    /// It fails.
    Broken,
    /// Nothing.
    Never,
}

/// What a broken body says.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl Script {
    /// A body of `frames`.
    pub fn new(frames: &[&'static [u8]], end: End) -> Self {
        Self { frames: frames.iter().copied().collect(), end }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match (self.frames.pop_front(), self.end) {
            (Some(data), _) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data))))),
            (None, End::Clean) => Poll::Ready(None),
            (None, End::Broken) => Poll::Ready(Some(Err(Broken))),
            (None, End::Never) => Poll::Pending,
        }
    }
}
