//! A connection while it is lent: give it back, or dropping it does.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use southbridge_policy::pool::{Lease, Returned};
use southbridge_words::Instant;

use super::Inner;
use crate::corridor::Failed;
use crate::http::{Gauge, Loss, RequestBody, STREAM_WINDOW, SendFailure, Sender, Sent, Violation};

/// The use of one connection for one request.
pub(crate) struct Lent {
    inner: Rc<Inner>,
    lease: Option<Lease>,
    sender: Option<Sender>,
    gauge: Rc<Gauge>,
    remote: SocketAddr,
    sent: Option<SentMark>,
    spent: bool,
}

/// Where the connection stood when the request went out.
#[derive(Clone, Copy)]
struct SentMark {
    read: u64,
    written: u64,
    head_bytes_max: u32,
}

impl Lent {
    pub(super) fn new(
        inner: Rc<Inner>,
        lease: Lease,
        sender: Sender,
        gauge: Rc<Gauge>,
        remote: SocketAddr,
    ) -> Self {
        Self { inner, lease: Some(lease), sender: Some(sender), gauge, remote, sent: None, spent: false }
    }

    pub(crate) fn gauge(&self) -> &Rc<Gauge> {
        &self.gauge
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Some(Sender::Http2(_)))
    }

    /// Waits until the connection takes a request; `false` when it turned out to be gone.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Some(sender) => sender.ready().await,
            None => false,
        }
    }

    /// Sends `request`; its response must be read to the end, or the connection is spent.
    pub(crate) async fn send(
        &mut self,
        request: ::http::Request<RequestBody>,
        head_bytes_max: u32,
        now: Instant,
    ) -> Result<::http::Response<Incoming>, SendFailure> {
        let (read, written) = (self.gauge.read(), self.gauge.written());
        self.sent = Some(SentMark { read, written, head_bytes_max });
        self.gauge.await_answer(now);
        if self.is_http2() {
            self.gauge.allow(head_bytes_max.into());
        } else {
            self.gauge.begin_head(head_bytes_max);
        }
        let sender = self.sender.as_mut().expect("a lease has its sender until it is given back");
        sender.send(request).await
    }

    /// Bytes written on the connection since the request was handed to it.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent.map_or(0, |sent| self.gauge.written() - sent.written)
    }

    /// Of these, those that had been written when the first byte of an answer was read.
    pub(crate) fn sent_bytes_when_answered(&self) -> u64 {
        self.sent.map_or(0, |sent| self.gauge.written_when_answered().saturating_sub(sent.written))
    }

    /// What a failure to send means, seen together with what came and went on the connection.
    pub(crate) fn explain(&self, mut failure: SendFailure) -> Failed {
        if let Some(violation) = self.gauge.violation() {
            return Failed::Violation(violation);
        }
        if failure.too_large {
            let bytes_max = self.sent.map_or(0, |sent| sent.head_bytes_max).into();
            return Failed::Violation(Violation::TooLarge { what: "head", bytes_max });
        }
        if failure.misread {
            return Failed::Violation(Violation::Unreadable { reason: failure.reason });
        }
        if !self.is_http2() && self.sent_bytes() == 0 {
            failure.sent = Sent::Nothing;
        }
        let reused = self.lease.as_ref().is_some_and(|lease| lease.reused);
        Failed::Send { failure, silent: reused && self.has_heard_nothing() }
    }

    /// The connection must not serve again once this response has been read.
    pub(crate) fn spend(&mut self) {
        self.spent = true;
    }

    /// The response has been read to its end: the connection may serve again.
    pub(crate) fn give_back(mut self) {
        self.end(Returned::Reusable);
    }

    /// The exchange came to nothing, and `loss` with it.
    pub(crate) fn lose(mut self, loss: Loss) {
        self.allow_leftovers();
        let lives = loss == Loss::Stream && self.is_http2();
        self.end(if lives { Returned::Reusable } else { Returned::Spent });
    }

    fn has_heard_nothing(&self) -> bool {
        self.sent.is_some_and(|sent| self.gauge.read() == sent.read)
    }

    /// What the peer has sent already of a response that nobody wants any more is not its fault.
    fn allow_leftovers(&self) {
        if self.sent.is_some() && self.is_http2() {
            self.gauge.allow(STREAM_WINDOW.into());
        }
    }

    /// Whether a request that is given up now leaves a connection that others can use. An HTTP/2 stream is
    /// reset and its connection lives, unless it has long been as silent as a dead one; an HTTP/1.1
    /// connection in the middle of a response is of no use to anybody.
    fn is_sound(&self) -> bool {
        let is_silent = || self.gauge.silence(self.inner.clock.now()) >= SUSPECT_AFTER;
        self.sent.is_none() || (self.is_http2() && !is_silent())
    }

    fn end(&mut self, returned: Returned) {
        let Some(lease) = self.lease.take() else { return };
        let sender = self.sender.take();
        // A connection that hyper has closed (Connection: close, GOAWAY) is spent whatever the caller thinks.
        let closed = self.spent || sender.as_ref().is_none_or(Sender::is_closed);
        let returned = if closed { Returned::Spent } else { returned };
        let sender = sender.filter(|_| returned == Returned::Reusable);
        self.inner.give_back(lease, sender, returned);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.lease.is_none() {
            return;
        }
        self.allow_leftovers();
        let returned = if self.is_sound() { Returned::Reusable } else { Returned::Spent };
        self.end(returned);
    }
}

/// A connection on which requests find no answer and nothing else comes for so long may lead nowhere any more: a
/// firewall has forgotten it, or the far side has. The system would take a quarter of an hour to notice.
const SUSPECT_AFTER: Duration = Duration::from_secs(3);
