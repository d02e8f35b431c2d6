//! What a connection has read and written, and the bounds on reading.
//!
//! A peer may send bytes that never become a response: interim heads, chunk extensions, PING or
//! SETTINGS frames, empty DATA. Each connection has an *allowance* of bytes it may read; starting a
//! request and delivering body bytes add to it, so that only overhead can use it up.
//!
//! # Units
//! Bytes after decryption.
//!
//! # Source
//! K19; faults rows 5, 6, 8 and 9.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head_watch::{HeadFault, HeadWatch};

/// The counts of one connection, shared by its I/O and by whoever holds a lease on it.
#[derive(Debug, Default)]
pub struct Gauge {
    read: Cell<u64>,
    written: Cell<u64>,
    read_max: Cell<u64>,
    watch: Cell<HeadWatch>,
    fault: Cell<Option<HeadFault>>,
}

impl Gauge {
    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// A request starts; `head_bytes_max` bounds the head of its response if that comes as HTTP/1 text.
    pub fn begin_head(&self, head_bytes_max: u32) {
        self.watch.set(HeadWatch::expecting(head_bytes_max));
        self.allow(u64::from(head_bytes_max));
    }

    /// `bytes` more may be read.
    pub fn allow(&self, bytes: u64) {
        let read = self.read.get();
        let max = self.read_max.get().max(read).saturating_add(bytes);
        // What is allowed does not pile up on a connection that many polite requests have used.
        self.read_max.set(max.min(read.saturating_add(bytes).saturating_add(SLACK_MAX)));
    }

    /// Why reading was stopped, if it was.
    pub fn fault(&self) -> Option<HeadFault> {
        self.fault.get()
    }

    fn take_in(&self, bytes: &[u8]) -> Result<(), HeadFault> {
        let read = self.read.get() + bytes.len() as u64;
        self.read.set(read);
        let mut watch = self.watch.get();
        let mut outcome = watch.take_in(bytes);
        self.watch.set(watch);
        if read > self.read_max.get().saturating_add(SLACK_MAX) {
            outcome = outcome.and(Err(HeadFault::Overhead));
        }
        outcome.inspect_err(|fault| self.fault.set(Some(*fault)))
    }
}

/// An I/O object with a gauge on it.
#[derive(Debug)]
pub struct Gauged<S> {
    io: S,
    gauge: Rc<Gauge>,
}

impl<S> Gauged<S> {
    /// Puts `gauge` on `io`.
    pub fn new(io: S, gauge: Rc<Gauge>) -> Self {
        Self { io, gauge }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gauged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(self.gauge.take_in(&buf.filled()[before..]).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gauged<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.gauge.written.set(self.gauge.written.get() + written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.gauge.written.set(self.gauge.written.get() + written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Bytes of overhead that are borne on top of what was allowed: a full HTTP/2 connection window that
/// nobody has read yet must fit, and no more.
const SLACK_MAX: u64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that sends for ever without ever sending a body is stopped.
    #[test]
    fn overhead_uses_up_the_allowance() {
        let gauge = Gauge::default();
        let noise = vec![0_u8; 64 * 1024];
        let swallowed = (0..1000).take_while(|_| gauge.take_in(&noise).is_ok()).count() as u64;
        assert_eq!(swallowed, SLACK_MAX / (64 * 1024));
        assert_eq!(gauge.fault(), Some(HeadFault::Overhead));
    }

    /// A long body that is delivered as it comes is never stopped.
    #[test]
    fn delivered_bytes_are_allowed_again() {
        let gauge = Gauge::default();
        let data = vec![0_u8; 64 * 1024];
        for _ in 0..10_000 {
            gauge.take_in(&data).expect("delivered in time");
            gauge.allow(data.len() as u64);
        }
    }
}
