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

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use southbridge_words::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::Violation;
use super::head_watch::{HeadFault, HeadWatch};

/// The counts of one connection, shared by its I/O and by whoever holds a lease on it.
#[derive(Debug, Default)]
pub struct Gauge {
    read: Cell<u64>,
    written: Cell<u64>,
    /// What had been written when the answer to the present request began, once it has.
    answered_at: Cell<Option<u64>>,
    /// Written since the writer last stood aside.
    at_a_stretch: Cell<u64>,
    read_max: Cell<u64>,
    http2: Cell<bool>,
    watch: Cell<HeadWatch>,
    fault: Cell<Option<HeadFault>>,
    streams_max: Cell<Option<u32>>,
    /// Since when something has been asked of the peer and nothing has come.
    silent_since: Cell<Option<Instant>>,
    /// Who reads, to be woken when the connection is cut.
    reader: RefCell<Option<Waker>>,
    cut: Cell<bool>,
    gone: Cell<bool>,
    going: Notify,
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

    /// Bytes written when the first byte came that was read since the request started; so far, if none came.
    pub fn written_when_answered(&self) -> u64 {
        self.answered_at.get().unwrap_or(self.written.get())
    }

    /// A request starts; `head_bytes_max` bounds the head of its response if that comes as HTTP/1 text.
    pub fn begin_head(&self, head_bytes_max: u32) {
        self.watch.set(HeadWatch::expecting(head_bytes_max));
        self.answered_at.set(None);
        self.allow(u64::from(head_bytes_max));
    }

    /// `bytes` more may be read.
    pub fn allow(&self, bytes: u64) {
        let most = self.read.get().saturating_add(bytes).saturating_add(self.slack());
        // What is allowed does not pile up on a connection that many polite requests have used; and what was
        // borne is not forgotten, or a trickle of good bytes would pay for any flood.
        self.read_max.set(self.read_max.get().saturating_add(bytes).min(most));
    }

    /// The connection speaks HTTP/2.
    pub(super) fn expect_http2(&self) {
        self.http2.set(true);
    }

    fn slack(&self) -> u64 {
        if self.http2.get() { HTTP2_SLACK_MAX } else { HTTP1_SLACK_MAX }
    }

    /// Why reading was stopped, if it was.
    pub fn fault(&self) -> Option<HeadFault> {
        self.fault.get()
    }

    /// What the peer did that stopped the reading, if it was stopped.
    pub fn violation(&self) -> Option<Violation> {
        Some(match self.fault.get()? {
            fault @ HeadFault::BareLf => Violation::Unreadable { reason: fault.to_string() },
            HeadFault::TooLarge => {
                Violation::TooLarge { what: "head", bytes_max: self.watch.get().seen_max().into() }
            }
            HeadFault::Overhead => Violation::TooLarge { what: "overhead", bytes_max: self.slack() },
        })
    }

    /// Something is asked of the peer at `now`.
    pub(crate) fn await_answer(&self, now: Instant) {
        self.silent_since.set(self.silent_since.get().or(Some(now)));
    }

    /// How long the peer has said nothing at all although something was asked of it.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        self.silent_since.get().map_or(Duration::ZERO, |since| now.saturating_since(since))
    }

    /// How many streams the peer allows at a time, once it speaks HTTP/2.
    pub(crate) fn streams_max(&self) -> Option<u32> {
        self.streams_max.get()
    }

    pub(super) fn allow_streams(&self, streams_max: usize) {
        self.streams_max.set(Some(u32::try_from(streams_max).unwrap_or(u32::MAX)));
    }

    /// Ends the connection, whatever is under way on it: all reading and writing fails from now on.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether the connection has been let go of.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Waits until the connection has been let go of, and with it its descriptor.
    pub(crate) async fn gone(&self) {
        loop {
            let going = self.going.notified();
            if self.gone.get() {
                return;
            }
            going.await;
        }
    }

    fn note_written(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
        self.at_a_stretch.set(self.at_a_stretch.get() + bytes as u64);
    }

    /// Has the writer of a long request stand aside now and then: for whoever reads on the same connection, so that
    /// an answer before the end of the request is seen for what it is, and for the other connections.
    fn poll_stretch(&self, cx: &Context<'_>) -> Poll<()> {
        if self.http2.get() || self.at_a_stretch.get() < STRETCH_MAX {
            return Poll::Ready(());
        }
        self.at_a_stretch.set(0);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn check_cut(&self) -> io::Result<()> {
        if self.cut.get() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn remember_reader(&self, cx: &Context<'_>) {
        let mut reader = self.reader.borrow_mut();
        if reader.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
    }

    fn take_in(&self, bytes: &[u8]) -> Result<(), HeadFault> {
        let read = self.read.get() + bytes.len() as u64;
        self.read.set(read);
        if self.answered_at.get().is_none() && !bytes.is_empty() {
            self.answered_at.set(Some(self.written.get()));
        }
        self.silent_since.set(None);
        let mut watch = self.watch.get();
        let mut outcome = watch.take_in(bytes);
        self.watch.set(watch);
        if read > self.read_max.get().saturating_add(self.slack()) {
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

impl<S> Drop for Gauged<S> {
    fn drop(&mut self) {
        // The descriptor is closed in the next moment, before anybody who waits for it can look.
        self.gauge.gone.set(true);
        self.gauge.going.notify_waiters();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gauged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.gauge.check_cut()?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_pending() {
            self.gauge.remember_reader(cx);
        }
        ready!(read)?;
        Poll::Ready(self.gauge.take_in(&buf.filled()[before..]).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gauged<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.gauge.check_cut()?;
        ready!(self.gauge.poll_stretch(cx));
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.gauge.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gauge.check_cut()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gauge.check_cut()?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.gauge.check_cut()?;
        ready!(self.gauge.poll_stretch(cx));
        let written = match bufs {
            // A list of one costs the system more than the one.
            [one] => ready!(Pin::new(&mut self.io).poll_write(cx, one))?,
            _ => ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?,
        };
        self.gauge.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Bytes written before the writer stands aside: a few TLS records, so that it costs next to nothing.
const STRETCH_MAX: u64 = 64 * 1024;
/// Bytes of overhead that are borne on top of what was allowed: what was read ahead and what nobody has read
/// yet must fit, and no more.
const HTTP1_SLACK_MAX: u64 = 128 * 1024;
/// The same where a whole connection window may come unread.
const HTTP2_SLACK_MAX: u64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that sends for ever without ever sending a body is stopped.
    #[test]
    fn overhead_uses_up_the_allowance() {
        for (http2, slack) in [(false, HTTP1_SLACK_MAX), (true, HTTP2_SLACK_MAX)] {
            let gauge = Gauge::default();
            gauge.http2.set(http2);
            let noise = vec![0_u8; 64 * 1024];
            let swallowed = (0..1000).take_while(|_| gauge.take_in(&noise).is_ok()).count() as u64;
            assert_eq!(swallowed, slack / (64 * 1024));
            assert_eq!(gauge.violation(), Some(Violation::TooLarge { what: "overhead", bytes_max: slack }));
        }
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

    /// One good byte in six, for ever: the good ones do not pay for the others.
    #[test]
    fn a_trickle_of_good_bytes_does_not_pay_for_a_flood() {
        let gauge = Gauge::default();
        let swallowed = (0..1_000_000)
            .take_while(|_| {
                let fine = gauge.take_in(b"1\r\nx\r\n").is_ok();
                gauge.allow(2);
                fine
            })
            .count() as u64;
        assert!(swallowed * 4 <= HTTP1_SLACK_MAX + 4, "{swallowed} pieces");
    }

    /// The peer answers the head of a long request. There is room for all of the request, and still it is seen that
    /// the answer came early.
    #[tokio::test]
    async fn an_answer_before_the_end_of_a_long_request_is_seen_as_such() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let gauge = Rc::new(Gauge::default());
        let (ours, mut theirs) = tokio::io::duplex(10 << 20);
        theirs.write_all(b"HTTP/1.1 200 OK\r\n").await.expect("room");
        let (mut reading, mut writing) = tokio::io::split(Gauged::new(ours, Rc::clone(&gauge)));
        gauge.begin_head(1000);
        let request = vec![b'x'; 1 << 20];
        let write = async {
            for piece in request.chunks(16 << 10) {
                writing.write_all(piece).await.expect("room");
            }
        };
        let read = async { reading.read_u8().await.expect("an answer") };
        tokio::join!(write, read);
        assert_eq!(gauge.written(), 1 << 20);
        assert_eq!(gauge.written_when_answered(), STRETCH_MAX);
    }

    /// Whoever waits for the end of a connection, or reads on one that is cut, is woken.
    #[tokio::test]
    async fn a_cut_connection_wakes_its_reader_and_is_gone() {
        use tokio::io::AsyncReadExt;
        let gauge = Rc::new(Gauge::default());
        let (ours, _theirs) = tokio::io::duplex(64);
        let mut gauged = Gauged::new(ours, Rc::clone(&gauge));
        let reading = async {
            let mut buffer = [0; 8];
            let failed = gauged.read(&mut buffer).await.map_err(|error| error.kind());
            drop(gauged);
            failed
        };
        let cutting = async {
            assert!(!gauge.is_gone());
            gauge.cut();
            gauge.gone().await;
        };
        let (failed, ()) = tokio::join!(reading, cutting);
        assert_eq!(failed, Err(io::ErrorKind::ConnectionAborted));
    }
}
