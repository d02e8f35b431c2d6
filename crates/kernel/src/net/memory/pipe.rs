//! One direction of a connection.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// Bytes under way in one direction, and how that direction ends.
#[derive(Default)]
pub(super) struct Pipe {
    /// With the time each arrives, in order.
    chunks: VecDeque<(Instant, Bytes)>,
    held: usize,
    end: Option<(Instant, End)>,
    /// Whoever should read has gone.
    is_deaf: bool,
    last: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

/// What a reader finds.
pub(super) enum Found {
    /// Bytes, or the end of them, are in the buffer.
    Read(io::Result<()>),
    /// Something comes at this time.
    Later(Instant),
    /// Nothing is under way.
    Nothing,
}

impl Pipe {
    /// Reads what has arrived by `now`.
    pub(super) fn read(&mut self, buffer: &mut ReadBuf<'_>, now: Instant, cx: &Context<'_>) -> Found {
        self.reader = Some(cx.waker().clone());
        let mut has_read = false;
        while let Some((at, chunk)) = self.chunks.front_mut() {
            if *at > now {
                return if has_read { Found::Read(Ok(())) } else { Found::Later(*at) };
            }
            if buffer.remaining() == 0 {
                return Found::Read(Ok(()));
            }
            let take = chunk.len().min(buffer.remaining());
            buffer.put_slice(&chunk[..take]);
            chunk.advance(take);
            self.held -= take;
            has_read = true;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        if has_read {
            self.writer.take().into_iter().for_each(Waker::wake);
            return Found::Read(Ok(()));
        }
        match self.end {
            None => Found::Nothing,
            Some((at, _)) if at > now => Found::Later(at),
            Some((_, End::Closed)) => Found::Read(Ok(())),
            Some((_, End::Reset)) => Found::Read(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    /// Waits for the path only.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        self.reader = Some(cx.waker().clone());
    }

    /// Sends as much of `bytes` as there is room for, to arrive at `at`.
    pub(super) fn write(&mut self, bytes: &[u8], at: Instant, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        if self.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let take = bytes.len().min(HELD_MAX - self.held);
        if take == 0 && !bytes.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let at = self.in_order(at);
        self.chunks.push_back((at, Bytes::copy_from_slice(&bytes[..take])));
        self.held += take;
        self.wake_reader();
        Poll::Ready(Ok(take))
    }

    /// Nothing more is sent; says whether that is news.
    pub(super) fn finish(&mut self, end: End, at: Instant) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = Some((self.in_order(at), end));
        self.wake();
        true
    }

    /// Whether it was finished by `now`, as far as its reader can tell.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.end.is_some_and(|(at, _)| at <= now)
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf
    }

    /// Nobody reads any more.
    pub(super) fn deafen(&mut self) {
        self.is_deaf = true;
        self.chunks.clear();
        self.held = 0;
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        self.wake_reader();
        self.writer.take().into_iter().for_each(Waker::wake);
    }

    fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn in_order(&mut self, at: Instant) -> Instant {
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        at
    }
}

/// A usual receive buffer.
const HELD_MAX: usize = 64 * 1024;
