//! The body of a response as it comes: decoded, and with a bound on the time between two pieces.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use southbridge_kernel::Kernel;
use southbridge_kernel::alarm::TooLate;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_kernel::http::ResponseBody;
use southbridge_words::{Instant, Step};

use super::ClientError;
use super::decode::Decoder;
use super::error::Patience;

/// The bounds on time of one request.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) kernel: Kernel,
    pub(crate) started_at: Instant,
    pub(crate) read: Option<Duration>,
    pub(crate) total: Option<Duration>,
}

impl Watch {
    /// The time.
    pub(crate) fn now(&self) -> Instant {
        self.kernel.clock().now()
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now().saturating_since(self.started_at)
    }

    /// Until when all must be done; the far future where there is no bound.
    pub(crate) fn deadline(&self) -> Instant {
        self.total.map_or(Instant::FAR_FUTURE, |total| self.started_at + total)
    }

    /// Does `work` within the bounds; `None` when one of them was met first, with which.
    pub(super) async fn bound<T>(
        &self,
        service: &str,
        step: Step,
        work: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        // Most often it is there already, and a timer would be made for nothing.
        let mut work = pin!(work);
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Ok(done);
        }
        let now = self.now();
        let reading = self.read.map(|read| (now + read, Patience::Read, read));
        let total = self.total.map(|total| (self.started_at + total, Patience::Total, total));
        let first = reading.into_iter().chain(total).min_by_key(|(at, ..)| *at);
        let Some((at, patience, waited)) = first else { return Ok(work.await) };
        self.kernel.alarm().bound(at, work).await.map_err(|TooLate| ClientError::TimedOut {
            service: service.to_owned(),
            patience,
            step,
            waited,
        })
    }
}

/// The body of a response.
pub(crate) struct Incoming {
    body: ResponseBody,
    decoder: Option<Decoder>,
    /// What has come and is not decoded yet.
    encoded: Bytes,
    trailers: Option<HeaderMap>,
    service: String,
    watch: Watch,
    taken: u64,
    /// What was gathered, to be given as one piece.
    beginning: Option<Bytes>,
    /// How it ended while that was gathered.
    ended: Option<Result<(), ClientError>>,
}

impl Incoming {
    pub(crate) fn new(body: ResponseBody, decoder: Option<Decoder>, service: String, watch: Watch) -> Self {
        // Its own patience says how slow it may be.
        let body = body.unpaced();
        Self {
            body,
            decoder,
            encoded: Bytes::new(),
            trailers: None,
            service,
            watch,
            taken: 0,
            beginning: None,
            ended: None,
        }
    }

    /// Waits until `enough` of the beginning is there, or all there will be, and gives it as one piece.
    pub(crate) async fn gather(&mut self, mut enough: impl FnMut(&[u8]) -> bool) {
        let mut beginning = BytesMut::new();
        while self.ended.is_none() && !enough(&beginning) {
            match self.next().await {
                Ok(Some(piece)) => beginning.extend_from_slice(&piece),
                Ok(None) => self.ended = Some(Ok(())),
                Err(error) => self.ended = Some(Err(error)),
            }
        }
        self.beginning = Some(beginning.freeze());
    }

    /// Does `work`, which is ours and not the peer's, within the bound on all of it.
    pub(super) async fn in_time<T>(
        &self,
        step: Step,
        work: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        Watch { read: None, ..self.watch.clone() }.bound(&self.service, step, work).await
    }

    /// The first `at` bytes of what was gathered; the rest of it comes next.
    pub(super) fn split_beginning(&mut self, at: usize) -> Bytes {
        let Some(beginning) = &mut self.beginning else { return Bytes::new() };
        beginning.split_to(at.min(beginning.len()))
    }

    /// Has `piece` come next, again. What was gathered has been taken by then.
    pub(super) fn put_back(&mut self, piece: Option<Bytes>) {
        if piece.is_some() {
            self.beginning = piece;
        }
    }

    /// Whose body it is.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// The next piece, decoded; `None` when that was all.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        if let Some(beginning) = self.beginning.take().filter(|beginning| !beginning.is_empty()) {
            return Ok(Some(beginning));
        }
        if let Some(ended) = self.ended.take() {
            return ended.map(|()| None);
        }
        loop {
            if let Some(decoder) = &mut self.decoder {
                let piece = decoder.next(&mut self.encoded);
                if let Some(piece) = piece.map_err(|error| self.undecodable(&error.to_string()))? {
                    return Ok(self.take(piece));
                }
            }
            let service = &self.service;
            let came = self.watch.bound(service, Step::Body, self.body.frame()).await?;
            match came {
                None => return self.end(),
                Some(Err(error)) => return Err(self.broken(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if self.decoder.is_some() => self.encoded = bytes,
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Ok(self.take(bytes)),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// All that is still to come, at most `bytes_max` of it.
    pub(super) async fn collect(&mut self, bytes_max: u64) -> Result<Bytes, ClientError> {
        let too_large = |service: &str| ClientError::TooLarge {
            service: service.to_owned(),
            what: "the body".to_owned(),
            step: Step::Body,
            bytes_max,
        };
        if self.decoder.is_none() && self.body.size_hint().lower() > bytes_max {
            return Err(too_large(&self.service));
        }
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        if first.len() as u64 > bytes_max {
            return Err(too_large(&self.service));
        }
        if self.decoder.is_none() && self.body.is_end_stream() {
            // The usual case: it came in one piece, and is handed on as it came.
            return Ok(first);
        }
        let expected = self.body.size_hint().lower().min(PREPARED_MAX);
        let mut whole = BytesMut::with_capacity(first.len() + usize::try_from(expected).unwrap_or(0));
        whole.extend_from_slice(&first);
        while let Some(piece) = self.next().await? {
            if (whole.len() + piece.len()) as u64 > bytes_max {
                return Err(too_large(&self.service));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// What came after the body.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Reads to the end what nobody wants, if that is little: the connection can then be used again.
    pub(super) async fn discard(mut self) {
        self.decoder = None;
        while self.taken < DISCARDED_MAX {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn take(&mut self, piece: Bytes) -> Option<Bytes> {
        self.taken += piece.len() as u64;
        Some(piece)
    }

    fn end(&mut self) -> Result<Option<Bytes>, ClientError> {
        if let Some(decoder) = &self.decoder {
            decoder.finish().map_err(|error| self.undecodable(&error.to_string()))?;
        }
        Ok(None)
    }

    fn undecodable(&self, reason: &str) -> ClientError {
        ClientError::DecodeFailed { service: self.service.clone(), reason: reason.to_owned() }
    }

    fn broken(&self, error: &ExchangeError) -> ClientError {
        ClientError::of_exchange(error, Patience::Read)
    }
}

/// What is made ready for an announced body before any of it is there.
const PREPARED_MAX: u64 = 1 << 20;
/// Of a redirect's body; more costs more than a new connection.
const DISCARDED_MAX: u64 = 64 * 1024;
