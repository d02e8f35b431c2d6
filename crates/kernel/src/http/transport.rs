//! One HTTP connection: given a stream, never opening one (F13).
//!
//! # Source
//! RFC 9112 (HTTP/1.1 with keep-alive, without pipelining), RFC 9113 (HTTP/2).

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::stowing::open_http1;
use super::{Gauge, Gauged, Http1, RequestBody};

/// Sends requests on one connection.
#[derive(Debug)]
pub enum Sender {
    /// One at a time.
    Http1(Http1),
    /// Many at a time; clones share the connection.
    Http2(http2::SendRequest<RequestBody>),
}

/// Why a request on a connection got no response head.
#[derive(Debug)]
pub struct SendFailure {
    /// How much of the request the peer may have seen.
    pub sent: Sent,
    /// What hyper said, causes included.
    pub reason: String,
    /// Whether the response, not the connection, was at fault.
    pub misread: bool,
    /// Whether the head of the response was larger than we take.
    pub too_large: bool,
    /// What of the connection is lost with it.
    pub loss: Loss,
    /// The peer will not speak HTTP/2 for this request.
    pub wants_http1: bool,
}

impl SendFailure {
    /// The connection had ended before.
    fn gone() -> Self {
        Self {
            sent: Sent::Nothing,
            reason: "the connection is gone".to_owned(),
            misread: false,
            too_large: false,
            loss: Loss::Connection,
            wants_http1: false,
        }
    }
}

/// What is lost with a request or response that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// One stream of an HTTP/2 connection, which goes on.
    Stream,
    /// All of the connection.
    Connection,
}

impl Loss {
    pub(super) fn of(error: &hyper::Error) -> Self {
        if h2_error(error).is_some_and(h2::Error::is_reset) { Self::Stream } else { Self::Connection }
    }
}

/// How much of a request the peer may have processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Surely nothing: not a byte was written.
    Nothing,
    /// Nothing, as the peer itself says: it has not looked at it (RFC 9113 §8.7).
    Unprocessed,
    /// Perhaps all of it.
    Perhaps,
}

impl Sender {
    /// Waits until a request can be sent; `false` when the connection is gone.
    pub async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_some(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends `request` and waits for the head of its response.
    ///
    /// # Errors
    /// [`SendFailure`] says whether the peer may have processed it.
    pub async fn send(
        &mut self,
        request: ::http::Request<RequestBody>,
    ) -> Result<::http::Response<Incoming>, SendFailure> {
        let failed = match self {
            Self::Http1(sender) => match sender.ready().await {
                Some(sender) => sender.try_send_request(request).await,
                None => return Err(SendFailure::gone()),
            },
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        failed.map_err(|mut error| {
            let sent = match error.take_message() {
                Some(_) => Sent::Nothing,
                None if is_unprocessed(error.error()) => Sent::Unprocessed,
                None => Sent::Perhaps,
            };
            let error = error.into_error();
            SendFailure {
                sent,
                reason: explain(&error),
                misread: error.is_parse() || h2_error(&error).is_some_and(h2::Error::is_library),
                too_large: error.is_parse_too_large(),
                loss: Loss::of(&error),
                wants_http1: h2_reason(&error) == Some(h2::Reason::HTTP_1_1_REQUIRED),
            }
        })
    }
}

/// Moves the bytes of one connection until it takes no more requests.
pub type Driver = Pin<Box<dyn Future<Output = Result<(), End>>>>;

/// Why a connection ended that did not end in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What hyper said, causes included.
    pub reason: String,
    /// The peer broke HTTP/2, or complained that we did: another version of HTTP may serve better.
    pub broke_http2: bool,
}

/// Speaks HTTP on `stream`: gives the sender, and the future that moves the bytes until the connection ends.
///
/// # Errors
/// What hyper said when the connection could not be set up.
pub async fn open<S>(
    stream: S,
    speak_http2: bool,
    limits: HttpLimits,
    gauge: Rc<Gauge>,
) -> Result<(Sender, Driver), String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if speak_http2 {
        gauge.expect_http2();
    }
    gauge.allow(u64::from(limits.head_bytes_max));
    let stream = Gauged::new(stream, Rc::clone(&gauge));
    if speak_http2 {
        let (sender, mut connection) =
            http2_builder(limits).handshake(TokioIo::new(stream)).await.map_err(|error| explain(&error))?;
        let driver = std::future::poll_fn(move |cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            gauge.allow_streams(connection.current_max_send_streams());
            ended.map_err(|error| End::of_http2(&error, &gauge))
        });
        Ok((Sender::Http2(sender), Box::pin(driver)))
    } else {
        let (sender, driver) = open_http1(stream, limits)?;
        Ok((Sender::Http1(sender), Box::pin(driver)))
    }
}

impl End {
    fn of_http2(error: &hyper::Error, gauge: &Gauge) -> Self {
        // A peer that agreed to HTTP/2 and never said a word of it does not speak it.
        let mute = gauge.read() == 0;
        let complaint = h2_error(error).is_some_and(|h2| {
            h2.is_library() || (h2.is_go_away() && h2.reason() != Some(h2::Reason::NO_ERROR))
        });
        Self { reason: explain(error), broke_http2: mute || complaint || gauge.fault().is_some() }
    }
}

/// Bounds on what one connection takes.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of one response head.
    pub head_bytes_max: u32,
    /// Header lines of one response head.
    pub headers_max: usize,
}

impl Default for HttpLimits {
    /// 64 KiB and 100 lines: several times what any homeserver sends.
    fn default() -> Self {
        Self { head_bytes_max: 64 * 1024, headers_max: 100 }
    }
}

pub(super) fn http1_builder(limits: HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Room for a head of the largest size beside the start of its body.
    builder.max_buf_size(limits.head_bytes_max as usize + READ_AHEAD).max_headers(limits.headers_max);
    builder
}

fn http2_builder(limits: HttpLimits) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(limits.head_bytes_max)
        .max_concurrent_reset_streams(16)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_send_buf_size(64 * 1024);
    builder
}

/// Runs hyper's side tasks on the I/O thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Whether the peer said that it had not looked at the request: a stream refused, or numbered past the
/// last one of a GOAWAY, whatever its reason (RFC 9113 §8.7). h2 tells a GOAWAY to no other stream.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let Some(h2) = h2_error(error) else { return false };
    h2.is_remote()
        && (h2.is_go_away()
            || h2.reason() == Some(h2::Reason::REFUSED_STREAM)
            || h2.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED))
}

fn h2_reason(error: &hyper::Error) -> Option<h2::Reason> {
    h2_error(error).and_then(h2::Error::reason)
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<h2::Error>() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// An error with its causes, in one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

const READ_AHEAD: usize = 8 * 1024;
/// One stream may have this much under way unread: enough for 10 MB/s over 25 ms.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A connection with streams under way that says nothing for this long is asked whether it lives.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
