//! Passes a response on, at the pace of its reader, and never makes a cut look like an end.
//!
//! The first write carries the head and all of the body that has come by then, because what is
//! small should cost one system call, and because Synapse misreads media whose part headers are
//! split between two reads.
//!
//! # Source
//! RFC 9112 §6 and §7.1; F17; fault 2 (a body is never truncated silently).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http::{StatusCode, Version};
use http_body::Body;
use tokio::time::timeout;

use super::connection::{LocalConnection, LocalIo, ReadError};
use super::refusal::Show;

/// What is to be sent, but for the part of the body that has not come yet.
#[derive(Debug)]
pub struct Outgoing {
    /// The status.
    pub status: StatusCode,
    /// The end-to-end fields. `Content-Length` is taken from `length` and not from here.
    pub headers: HeaderMap,
    /// The length of the whole body, `gathered` and `suffix` included, where it is known.
    pub length: Option<u64>,
    /// The beginning of the body.
    pub gathered: Gathered,
    /// What follows after the end of the body.
    pub suffix: Bytes,
}

/// The beginning of a body.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Its bytes.
    pub bytes: BytesMut,
    /// Whether that is all there is.
    pub ended: bool,
}

/// What the request says about the form of the response, and how long its reader may pause.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLimits {
    /// Whether there is to be a body.
    pub show: Show,
    /// What the caller speaks: HTTP/1.0 knows no chunks.
    pub version: Version,
    /// The longest the caller may take to read anything at all.
    pub stall_max: Duration,
}

/// Why a response was cut off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError<E> {
    /// The caller went away.
    #[error("the caller is gone")]
    CallerGone,
    /// The caller did not read for longer than it may.
    #[error("the caller did not read")]
    CallerStalled,
    /// The peer's body broke off before anything was sent: the caller can still be told so.
    #[error("the body broke off at its beginning")]
    Early(E),
    /// The peer's body broke off.
    #[error("the body broke off")]
    Peer(E),
    /// The peer's body is not as long as it was said to be.
    #[error("the body has {sent} bytes and not {length}")]
    Length {
        /// What came.
        sent: u64,
        /// What was announced.
        length: u64,
    },
}

/// Collects the beginning of `body` until `enough` says so of what is there, or the body ends.
///
/// May be dropped at any time without losing bytes.
///
/// # Errors
/// The body's own.
pub async fn gather<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    gathered: &mut Gathered,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> Result<(), B::Error> {
    while !enough(&gathered.bytes) && !gathered.ended {
        match next_data(body.as_mut()).await {
            Some(data) => gathered.bytes.extend_from_slice(&data?),
            None => gathered.ended = true,
        }
        gathered.ended |= body.is_end_stream();
    }
    Ok(())
}

/// Sends `outgoing` and what is still to come of `body`; the bytes of body sent.
///
/// Waits a moment for what is small to be whole, so that it leaves in one piece, or fails in one.
///
/// # Errors
/// [`ReplyError`]; unless it is [`ReplyError::Early`], the connection must then be cut, not closed.
pub async fn send<S: LocalIo, B: Body<Data = Bytes>>(
    connection: &mut LocalConnection<S>,
    mut outgoing: Outgoing,
    mut body: Pin<&mut B>,
    limits: ReplyLimits,
) -> Result<u64, ReplyError<B::Error>> {
    outgoing.gathered.ended |= body.is_end_stream();
    if !outgoing.gathered.ended && !has_no_body(&outgoing, limits) {
        let gathering = gather(body.as_mut(), &mut outgoing.gathered, |bytes| bytes.len() >= GATHERED_BYTES);
        if let Ok(gathered) = connection.unless_gone(timeout(GATHERING_MAX, gathering)).await? {
            gathered.map_err(ReplyError::Early)?;
        }
    }
    let ending = Ending::of(&outgoing, limits);
    let mut first = ending.head(&outgoing);
    if ending == Ending::NoBody {
        connection.write(&mut Bytes::from(first), limits.stall_max).await?;
        return Ok(0);
    }
    let mut sent = outgoing.gathered.bytes.len() as u64;
    ending.frame(&mut first, &outgoing.gathered.bytes);
    let mut ended = outgoing.gathered.ended;
    if ended {
        sent += ending.finish(&mut first, &outgoing.suffix);
        ending.check(sent)?;
    }
    connection.write(&mut Bytes::from(first), limits.stall_max).await?;
    while !ended {
        match connection.unless_gone(next_data(body.as_mut())).await? {
            Some(data) => {
                let data = data.map_err(ReplyError::Peer)?;
                sent += data.len() as u64;
                ending.check_room(sent)?;
                ending.write(connection, data, limits.stall_max).await?;
            }
            None => {
                ended = true;
                let mut last = Vec::new();
                sent += ending.finish(&mut last, &outgoing.suffix);
                ending.check(sent)?;
                connection.write(&mut Bytes::from(last), limits.stall_max).await?;
            }
        }
    }
    Ok(sent)
}

/// RFC 9112 §6.3, the first rule.
fn has_no_body(outgoing: &Outgoing, limits: ReplyLimits) -> bool {
    let status = outgoing.status;
    status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || limits.show == Show::HeadOnly
}

/// How the caller is told where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    NoBody,
    Length(u64),
    Chunked,
    Close,
}

impl Ending {
    fn of(outgoing: &Outgoing, limits: ReplyLimits) -> Self {
        if has_no_body(outgoing, limits) {
            return Self::NoBody;
        }
        let whole = outgoing.gathered.bytes.len() + outgoing.suffix.len();
        match (outgoing.length, outgoing.gathered.ended) {
            (Some(length), _) => Self::Length(length),
            (None, true) => Self::Length(whole as u64),
            (None, false) if limits.version == Version::HTTP_10 => Self::Close,
            (None, false) => Self::Chunked,
        }
    }

    fn head(self, outgoing: &Outgoing) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_CAPACITY + outgoing.gathered.bytes.len());
        head.extend_from_slice(b"HTTP/1.1 ");
        head.extend_from_slice(outgoing.status.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(outgoing.status.canonical_reason().unwrap_or("Unnamed").as_bytes());
        head.extend_from_slice(b"\r\n");
        for (name, value) in &outgoing.headers {
            if *name == header::CONTENT_LENGTH {
                continue;
            }
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        let length = match self {
            Self::Length(length) => Some(length),
            // The length that a GET would have had; 204 has none at all (RFC 9110 §8.6).
            Self::NoBody if outgoing.status != StatusCode::NO_CONTENT => outgoing.length,
            _ => None,
        };
        if let Some(length) = length {
            head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        if self == Self::Chunked {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        head.extend_from_slice(b"connection: close\r\n\r\n");
        head
    }

    /// Appends `data` as it goes on the wire.
    fn frame(self, wire: &mut Vec<u8>, data: &[u8]) {
        if self == Self::Chunked && !data.is_empty() {
            wire.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            wire.extend_from_slice(data);
            wire.extend_from_slice(b"\r\n");
        } else {
            wire.extend_from_slice(data);
        }
    }

    /// Appends the end of the body; the bytes of body in it.
    fn finish(self, wire: &mut Vec<u8>, suffix: &[u8]) -> u64 {
        self.frame(wire, suffix);
        if self == Self::Chunked {
            wire.extend_from_slice(b"0\r\n\r\n");
        }
        suffix.len() as u64
    }

    async fn write<S: LocalIo>(
        self,
        connection: &mut LocalConnection<S>,
        mut data: Bytes,
        stall_max: Duration,
    ) -> io::Result<()> {
        if self != Self::Chunked {
            return connection.write(&mut data, stall_max).await;
        }
        let size = format!("{:x}\r\n", data.len());
        let mut wire = size.as_bytes().chain(data).chain(&b"\r\n"[..]);
        connection.write(&mut wire, stall_max).await
    }

    /// What was announced must be what came.
    fn check<E>(self, sent: u64) -> Result<(), ReplyError<E>> {
        match self {
            Self::Length(length) if length != sent => Err(ReplyError::Length { sent, length }),
            _ => Ok(()),
        }
    }

    /// No byte may follow the announced ones: the caller would read it as something else.
    fn check_room<E>(self, sent: u64) -> Result<(), ReplyError<E>> {
        match self {
            Self::Length(length) if sent > length => Err(ReplyError::Length { sent, length }),
            _ => Ok(()),
        }
    }
}

/// The next bytes that are there; trailers are not passed on, and empty frames are none.
async fn next_data<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) -> Option<Result<Bytes, B::Error>> {
    loop {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await? {
            Err(error) => return Some(Err(error)),
            Ok(frame) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Some(Ok(data)),
                _ => {}
            },
        }
    }
}

impl<E> From<ReadError> for ReplyError<E> {
    fn from(_: ReadError) -> Self {
        Self::CallerGone
    }
}

impl<E> From<io::Error> for ReplyError<E> {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::CallerStalled } else { Self::CallerGone }
    }
}

/// How long a response may be held back for the sake of one write.
const GATHERING_MAX: Duration = Duration::from_millis(250);
/// How much of a body is worth waiting for. With the head it fits in one read of Synapse's (64 KiB).
const GATHERED_BYTES: usize = 16 * 1024;
/// Most heads fit.
const HEAD_CAPACITY: usize = 512;

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
