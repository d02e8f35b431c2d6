//! A download: a response whose body goes into a file, and never through the application.
//!
//! What is written is there at the end or not at all: a file beside it is written, synced, and renamed. The body is
//! neither asked for encoded nor decoded, so that its length is that of the file. A status that is neither 200 nor the
//! 206 that was asked for is answered as a response, and no file is touched by it.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! Issue 4, item 2; RFC 9110 §14 (ranges), §13.1.5 (`If-Range`).

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_words::{Instant, Step};

use super::files::Files;
use super::incoming::Incoming;
use super::journey::{Arrived, Journey};
use super::partial::Partial;
use super::request::Request;
use super::response::{Answer, Response, Saved};
use super::settings::Settings;
use super::{ClientError, Flow};
use crate::Southbridge;

/// What is done with a body that is downloaded.
#[derive(Clone, Debug)]
pub struct Download {
    /// The file that it becomes. What was there is replaced, when the body is whole.
    pub path: PathBuf,
    /// Where it begins. Default [`Beginning::Anew`].
    pub beginning: Beginning,
    /// How many bytes the file may have. Default none: the disk is the bound.
    pub bytes_max: Option<u64>,
}

/// Where a download begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// At its first byte.
    #[default]
    Anew,
    /// Where an earlier attempt, that was to be resumed as well, broke off: if the peer says that it is still the same.
    Resume,
}

/// How far a download is. Read from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    /// One more than the number; zero when it is not known.
    total: AtomicU64,
}

impl Progress {
    /// Bytes in the file, those of an earlier attempt included.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes that there will be, if the peer has said so.
    pub fn total(&self) -> Option<u64> {
        self.total.load(Ordering::Relaxed).checked_sub(1)
    }

    fn set_total(&self, total: Option<u64>) {
        self.total.store(total.map_or(0, |total| total.saturating_add(1)), Ordering::Relaxed);
    }
}

/// Asks, and saves what comes.
pub(super) struct Save {
    pub(super) settings: Arc<Settings>,
    pub(super) request: Box<Request>,
    pub(super) download: Download,
    pub(super) progress: Arc<Progress>,
    /// Something comes here whenever it is worth looking at the progress again.
    pub(super) ticks: Flow,
}

impl Errand<Southbridge> for Save {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { settings, request, download, progress, ticks } = *self;
        let saving = Saving { desk: Rc::clone(desk), settings, request, download, progress };
        line.carry(move |reply| async move {
            let mut ticking = Ticking { ticks, next_at: saving.desk.kernel().clock().now() };
            let result = saving.run(&mut ticking).await;
            ticking.ticks.end(Ok(None));
            reply.give(result);
        })
    }
}

struct Saving {
    desk: Rc<Southbridge>,
    settings: Arc<Settings>,
    request: Box<Request>,
    download: Download,
    progress: Arc<Progress>,
}

/// What came of one request.
enum Turnout {
    Answered(Answer),
    /// What there was of an earlier attempt is no beginning of what is there now.
    Outdated(Held),
}

impl Saving {
    async fn run(self, ticking: &mut Ticking) -> Result<Answer, ClientError> {
        let (path, beginning) = (self.download.path.clone(), self.download.beginning);
        let opened = self.files().run(move || Partial::open(&path, beginning)).await;
        let held = Held {
            files: Rc::clone(self.files()),
            partial: Some(opened.map_err(|error| self.failed(&error))?),
        };
        match self.attempt(held, ticking).await? {
            Turnout::Answered(answer) => Ok(answer),
            Turnout::Outdated(held) => match self.attempt(held, ticking).await? {
                Turnout::Answered(answer) => Ok(answer),
                Turnout::Outdated(_) => Err(ClientError::PeerMisbehaved {
                    service: self.request.url.to_string(),
                    reason: "it answered 416 to a request without a range".to_owned(),
                }),
            },
        }
    }

    async fn attempt(&self, mut held: Held, ticking: &mut Ticking) -> Result<Turnout, ClientError> {
        let (have, version) = held.state();
        let request = ranged((*self.request).clone(), have, version.as_deref());
        let prepared = request.prepare(&self.settings.config, None)?;
        let journey = Journey::new(Rc::clone(&self.desk), Arc::clone(&self.settings), prepared);
        let watch = journey.watch();
        let Arrived { mut response, mut incoming } = journey.arrive().await?;
        let resumed_at = match response.status {
            StatusCode::PARTIAL_CONTENT if have > 0 => {
                self.check_range(&response, have)?;
                have
            }
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                if range(&response.headers).is_some_and(|range| range.total == Some(have)) {
                    return self.finish(held, response, have).await.map(Turnout::Answered);
                }
                self.on_disk(&mut held, |partial| partial.restart(None)).await?;
                return Ok(Turnout::Outdated(held));
            }
            StatusCode::OK => {
                let version = validator(&response.headers);
                self.on_disk(&mut held, move |partial| partial.restart(version.as_deref())).await?;
                0
            }
            _ => {
                response.body = incoming.collect(REFUSAL_BYTES_MAX).await?;
                return Ok(Turnout::Answered(Answer::Response(Box::new(response))));
            }
        };
        let total = announced(&response.headers).map(|rest| resumed_at.saturating_add(rest));
        self.check_size(total.unwrap_or(resumed_at))?;
        self.progress.done.store(resumed_at, Ordering::Relaxed);
        self.progress.set_total(total);
        self.receive(&mut held, &mut incoming, ticking).await?;
        response.trailers = incoming.take_trailers();
        response.timing.total = watch.elapsed();
        let (bytes, _) = held.state();
        if total.is_some_and(|total| total != bytes) {
            return Err(self.misbehaved(&response, format!("it announced {total:?} bytes and sent {bytes}")));
        }
        self.finish(held, response, resumed_at).await.map(Turnout::Answered)
    }

    /// Writes what comes, some of it at a time; meanwhile nothing more is read.
    async fn receive(
        &self,
        held: &mut Held,
        incoming: &mut Incoming,
        ticking: &mut Ticking,
    ) -> Result<(), ClientError> {
        let mut batch = Vec::new();
        let mut batched = 0;
        loop {
            let came = incoming.next().await;
            let is_last = !matches!(came, Ok(Some(_)));
            let (piece, end) = match came {
                Ok(piece) => (piece, Ok(())),
                // What came before is kept, for it can be gone on with.
                Err(error) => (None, Err(error)),
            };
            batched += piece.as_ref().map_or(0, Bytes::len);
            batch.extend(piece);
            if batched >= BATCH_BYTES || batch.len() >= BATCH_PIECES || (is_last && batched > 0) {
                self.check_size(held.state().0.saturating_add(batched as u64))?;
                let pieces = std::mem::take(&mut batch);
                self.on_disk(held, move |partial| partial.write(&pieces)).await?;
                batched = 0;
                self.progress.done.store(held.state().0, Ordering::Relaxed);
                ticking.tick(self.desk.kernel().clock().now()).await;
            }
            if is_last {
                return end;
            }
        }
    }

    async fn finish(
        &self,
        mut held: Held,
        response: Response,
        resumed_at: u64,
    ) -> Result<Answer, ClientError> {
        let (bytes, _) = held.state();
        let (partial, target) = (held.take()?, self.download.path.clone());
        let renamed = self.files().run(move || partial.finish(&target)).await;
        renamed.map_err(|error| self.failed(&error))?;
        self.progress.done.store(bytes, Ordering::Relaxed);
        self.progress.set_total(Some(bytes));
        let path = self.download.path.clone();
        Ok(Answer::Saved(Box::new(Saved { response, path, bytes, resumed_at })))
    }

    /// Does `work` with the file, on the thread for files. A file that the disk failed is no more.
    async fn on_disk(
        &self,
        held: &mut Held,
        work: impl FnOnce(&mut Partial) -> io::Result<()> + Send + 'static,
    ) -> Result<(), ClientError> {
        let mut partial = held.take()?;
        let done = self.files().run(move || match work(&mut partial) {
            Ok(()) => Ok(partial),
            Err(error) => {
                partial.discard();
                Err(error)
            }
        });
        held.partial = Some(done.await.map_err(|error| self.failed(&error))?);
        Ok(())
    }

    fn check_size(&self, bytes: u64) -> Result<(), ClientError> {
        match self.download.bytes_max {
            Some(bytes_max) if bytes > bytes_max => Err(ClientError::TooLarge {
                service: self.request.url.host_str().unwrap_or_default().to_owned(),
                what: "the file".to_owned(),
                step: Step::Body,
                bytes_max,
            }),
            _ => Ok(()),
        }
    }

    fn check_range(&self, response: &Response, have: u64) -> Result<(), ClientError> {
        match range(&response.headers) {
            Some(Range { first: Some(first), .. }) if first == have => Ok(()),
            _ => Err(self.misbehaved(
                response,
                format!("it was asked for what is after {have} bytes and sent another range"),
            )),
        }
    }

    fn misbehaved(&self, response: &Response, reason: String) -> ClientError {
        ClientError::PeerMisbehaved {
            service: response.url.host_str().unwrap_or_default().to_owned(),
            reason,
        }
    }

    fn failed(&self, error: &io::Error) -> ClientError {
        ClientError::FileFailed {
            path: self.download.path.display().to_string(),
            reason: error.to_string(),
            step: Step::Body,
        }
    }

    fn files(&self) -> &Rc<Files> {
        self.desk.files()
    }
}

/// The file, between two visits to the thread for files. Whatever ends the download, that thread puts it away.
struct Held {
    files: Rc<Files>,
    partial: Option<Partial>,
}

impl Held {
    /// How many bytes it has, and of which version.
    fn state(&self) -> (u64, Option<String>) {
        self.partial.as_ref().map_or((0, None), |partial| (partial.bytes, partial.version.clone()))
    }

    fn take(&mut self) -> Result<Partial, ClientError> {
        self.partial.take().ok_or_else(|| ClientError::Failed {
            step: Step::Body,
            is_repeatable: false,
            reason: "the file of a download was put away before its end".to_owned(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            self.files.later(move || drop(partial));
        }
    }
}

/// Tells the application now and then that there is progress.
struct Ticking {
    ticks: Flow,
    next_at: Instant,
}

impl Ticking {
    async fn tick(&mut self, now: Instant) {
        if now < self.next_at {
            return;
        }
        // Whoever has not looked at the last one yet needs no other.
        let has_room = poll_fn(|cx| Poll::Ready(matches!(self.ticks.poll_room(cx), Poll::Ready(Ok(())))));
        if has_room.await {
            self.ticks.give(Bytes::from_static(b"."));
            self.next_at = now + TICK;
        }
    }
}

/// `request`, for what is after `have` bytes of `version`.
fn ranged(mut request: Request, have: u64, version: Option<&str>) -> Request {
    request.decompress = Some(false);
    request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if have > 0
        && let Some(version) = version.and_then(|version| HeaderValue::from_str(version).ok())
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={have}-"))
    {
        request.headers.insert(RANGE, range);
        request.headers.insert(IF_RANGE, version);
    }
    request
}

/// What says of which version a body is: a strong `ETag`, or a date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text =
        |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text: &&str| !text.is_empty());
    let strong = text(ETAG).filter(|tag| !tag.starts_with("W/"));
    strong.or_else(|| text(LAST_MODIFIED)).map(str::to_owned)
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What `Content-Range` says.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: Option<u64>,
    total: Option<u64>,
}

fn range(headers: &HeaderMap) -> Option<Range> {
    let said = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (place, total) = said.split_once('/')?;
    let first = place.split_once('-').and_then(|(first, _)| first.parse().ok());
    Some(Range { first, total: total.parse().ok() })
}

/// How much is written at a time.
const BATCH_BYTES: usize = 256 * 1024;
/// The same, for bodies that come in crumbs.
const BATCH_PIECES: usize = 256;
/// Of the body of a refusal.
const REFUSAL_BYTES_MAX: u64 = 1 << 20;
/// How often the application is told of progress, at most.
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_range_says_where_it_begins_and_how_much_there_is() {
        let said = |value| range(&headers(CONTENT_RANGE, value));
        assert_eq!(said("bytes 5-9/10"), Some(Range { first: Some(5), total: Some(10) }));
        assert_eq!(said("bytes 5-9/*"), Some(Range { first: Some(5), total: None }));
        assert_eq!(said("bytes */10"), Some(Range { first: None, total: Some(10) }));
        for wrong in ["", "bytes", "lines 1-2/3", "bytes 5-9"] {
            assert_eq!(said(wrong), None, "{wrong}");
        }
    }

    /// A weak validator says that two bodies mean the same, not that their bytes are.
    #[test]
    fn only_a_strong_validator_is_resumed_by() {
        assert_eq!(validator(&headers(ETAG, "\"a\"")).as_deref(), Some("\"a\""));
        assert_eq!(validator(&headers(ETAG, "W/\"a\"")), None);
        let date = "Sat, 28 Nov 2026 22:00:00 GMT";
        assert_eq!(validator(&headers(LAST_MODIFIED, date)).as_deref(), Some(date));
    }
}
