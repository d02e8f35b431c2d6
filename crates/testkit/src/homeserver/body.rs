//! Response bodies: given bytes, or a blob of any length that is made while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The first `length` bytes of the blob that every fake homeserver has. Any prefix of it is a prefix of
/// every longer one, so a cut-off download can be told from a mangled one.
pub fn blob(length: u64) -> impl Iterator<Item = u8> {
    (0..length).map(blob_byte)
}

// 251 is prime to every buffer size in use, so that a buffer sent twice or left out shows.
fn blob_byte(at: u64) -> u8 {
    (at % 251) as u8
}

/// A response body: `head`, then so much of the blob, then `tail`.
#[derive(Debug, Default)]
pub(super) struct Answer {
    head: Bytes,
    blob: std::ops::Range<u64>,
    tail: Bytes,
}

impl Answer {
    pub(super) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { head: bytes.into(), ..Self::default() }
    }

    pub(super) fn blob(length: u64) -> Self {
        Self { blob: 0..length, ..Self::default() }
    }

    pub(super) fn framed(head: String, length: u64, tail: String) -> Self {
        Self { head: head.into(), blob: 0..length, tail: tail.into() }
    }

    fn next(&mut self) -> Option<Bytes> {
        if !self.head.is_empty() {
            return Some(std::mem::take(&mut self.head));
        }
        if !self.blob.is_empty() {
            let end = self.blob.end.min(self.blob.start + PIECE);
            let piece: Vec<u8> = (self.blob.start..end).map(blob_byte).collect();
            self.blob.start = end;
            return Some(piece.into());
        }
        (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail))
    }

    fn left(&self) -> u64 {
        self.head.len() as u64 + (self.blob.end - self.blob.start) + self.tail.len() as u64
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

const PIECE: u64 = 16 << 10;
