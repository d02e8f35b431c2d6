//! The body of a response, on its way to the caller.
//!
//! It streams: what is not read is not taken from the peer. It ends in one of three ways: complete,
//! failed, or dropped by the caller; the connection goes back to the pool accordingly, once.
//!
//! # Source
//! K4, K15, K19; faults rows 4, 5, 6.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use southbridge_words::{ServiceName, Step};
use tokio::time::Sleep;

use super::{Gauge, Loss, Pace, Violation, explain};
use crate::clock::Clock;
use crate::exchange::ExchangeError;

/// The body of a response. Dropping it early cancels the exchange.
pub struct ResponseBody {
    source: Source,
    bytes_max: Option<u64>,
    received: u64,
    remote: Option<SocketAddr>,
}

enum Source {
    Peer(Box<FromPeer>),
    Own(Option<Bytes>),
    Ended,
}

/// What a body needs while it comes.
pub(crate) struct FromPeer {
    pub(crate) incoming: Incoming,
    pub(crate) gauge: Rc<Gauge>,
    pub(crate) remote: SocketAddr,
    /// None where it may come as slowly as it likes.
    pub(crate) pace: Option<Pace>,
    pub(crate) clock: Clock,
    pub(crate) service: ServiceName,
    pub(crate) rate_min: u64,
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    pub(crate) ending: Box<dyn Ending>,
}

/// Who wants to know how a body ended. Dropping it without a word means that the caller gave up.
pub(crate) trait Ending {
    /// The last byte came; `received` body bytes in all.
    fn complete(self: Box<Self>, received: u64);
    /// It broke off, and took this with it.
    fn failed(self: Box<Self>, received: u64, loss: Loss);
}

impl ResponseBody {
    pub(crate) fn from_peer(from: FromPeer) -> Self {
        let remote = Some(from.remote);
        if from.incoming.is_end_stream() {
            from.ending.complete(0);
            return Self { source: Source::Ended, bytes_max: None, received: 0, remote };
        }
        Self { source: Source::Peer(Box::new(from)), bytes_max: None, received: 0, remote }
    }

    /// A body of our own making.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self { source: Source::Own(Some(bytes.into())), bytes_max: None, received: 0, remote: None }
    }

    /// Fails with [`Violation::TooLarge`] past `bytes_max` bytes.
    #[must_use]
    pub fn limit(mut self, bytes_max: u64) -> Self {
        self.bytes_max = Some(bytes_max);
        self
    }

    /// Lets the body come as slowly as it likes: its reader has a patience of its own.
    #[must_use]
    pub fn unpaced(mut self) -> Self {
        if let Source::Peer(from) = &mut self.source {
            from.pace = None;
        }
        self
    }

    /// The address it comes from, if it comes from anywhere.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Reads the whole body, at most `bytes_max` bytes of it.
    ///
    /// # Errors
    /// As the body fails, or [`Violation::TooLarge`].
    pub async fn collect_all(self, bytes_max: u64) -> Result<Bytes, ExchangeError> {
        use http_body_util::BodyExt;
        Ok(self.limit(bytes_max).collect().await?.to_bytes())
    }

    fn fail(
        &mut self,
        error: ExchangeError,
        loss: Loss,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        if let Source::Peer(from) = std::mem::replace(&mut self.source, Source::Ended) {
            from.ending.failed(self.received, loss);
        }
        Poll::Ready(Some(Err(error)))
    }

    fn finish(&mut self) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        if let Source::Peer(from) = std::mem::replace(&mut self.source, Source::Ended) {
            from.ending.complete(self.received);
        }
        Poll::Ready(None)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let this = self.get_mut();
        let from = match &mut this.source {
            Source::Ended => return Poll::Ready(None),
            Source::Own(bytes) => {
                let bytes = bytes.take();
                this.source = Source::Ended;
                return Poll::Ready(
                    bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
                );
            }
            Source::Peer(from) => from,
        };
        match from.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => this.finish(),
            Poll::Ready(Some(Err((error, loss)))) => this.fail(error, loss),
            Poll::Ready(Some(Ok(frame))) => {
                this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(bytes_max) = this.bytes_max.filter(|max| this.received > *max) {
                    let service = from.service.clone();
                    let violation = Violation::TooLarge { what: "body", bytes_max };
                    return this.fail(ExchangeError::PeerMisbehaved { service, violation }, Loss::Stream);
                }
                // Give the connection back with the last bytes, not with the poll after them.
                if from.incoming.is_end_stream() {
                    let _ended = this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ended => true,
            Source::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Source::Peer(from) => from.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ended => SizeHint::with_exact(0),
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Peer(from) => from.incoming.size_hint(),
        }
    }
}

/// What the caller is told, and what is lost.
type Broken = (ExchangeError, Loss);

impl FromPeer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                // What was delivered, and as much again for its framing, may come once more.
                self.gauge.allow(2 * bytes);
                if let Some(pace) = self.pace.as_mut().filter(|_| self.timer.is_some()) {
                    pace.handle_bytes(bytes, self.clock.now());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.broken(&error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_pace(cx),
        }
    }

    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(pace) = &mut self.pace else { return Poll::Pending };
        loop {
            let now = self.clock.now();
            pace.handle_waiting(now);
            if pace.handle_timeout(now).is_err() {
                let violation = Violation::TooSlow { rate_min: self.rate_min };
                let error = ExchangeError::PeerMisbehaved { service: self.service.clone(), violation };
                // It may be the way that is slow, and all other streams on it.
                return Poll::Ready(Some(Err((error, Loss::Connection))));
            }
            let Some(at) = pace.poll_timeout() else { return Poll::Pending };
            let at = self.clock.to_tokio(at);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {}
            }
        }
    }

    fn broken(&self, error: &hyper::Error) -> Broken {
        let service = self.service.clone();
        let told = match self.gauge.violation() {
            Some(violation) => ExchangeError::PeerMisbehaved { service, violation },
            None if is_unreadable(error) => {
                let violation = Violation::Unreadable { reason: explain(error) };
                ExchangeError::PeerMisbehaved { service, violation }
            }
            None => ExchangeError::Cut { service, step: Step::Body, reason: explain(error) },
        };
        (told, Loss::of(error))
    }
}

/// Whether the bytes of the body, and not the connection, were at fault: chunks that are none.
fn is_unreadable(error: &hyper::Error) -> bool {
    use std::io::ErrorKind;
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|io| matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput))
}
