//! One connection from a program at home, for one request.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use southbridge_kernel::net::LocalStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::body::{BodyError, BodyReader};
use super::head::{Framing, HeadError, HeadScan, RequestHead};

/// What a local connection is made of: TCP, TLS or a unix socket; in tests, memory.
pub trait LocalIo: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Cuts the connection in a way that nobody takes for an orderly end.
    fn abort(self);
}

impl LocalIo for LocalStream {
    fn abort(self) {
        Self::abort(self);
    }
}

/// A connection, and what was read from it ahead of its time.
#[derive(Debug)]
pub struct LocalConnection<S> {
    stream: S,
    read: BytesMut,
    whole: bool,
}

/// Why no request could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The caller has closed or reset the connection: there is nobody to answer.
    #[error("the caller is gone")]
    Gone,
    /// The head is refused.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The body is refused.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The caller was too slow.
    #[error("the request did not arrive in time")]
    TimedOut,
    /// Bytes came after the end of the request.
    #[error("bytes came after the end of the request; this connection serves one request")]
    Surplus,
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl<S: LocalIo> LocalConnection<S> {
    /// Takes a connection that nothing was read from yet.
    pub fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::with_capacity(READ_CAPACITY), whole: false }
    }

    /// Reads the head of the request, until `deadline`.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Gone`] also when the caller closed without a word.
    pub async fn head(&mut self, deadline: Instant) -> Result<RequestHead, ReadError> {
        timeout_at(deadline, self.head_bytes()).await.map_err(|_| ReadError::TimedOut)?
    }

    async fn head_bytes(&mut self) -> Result<RequestHead, ReadError> {
        let mut scan = HeadScan::default();
        loop {
            if let Some(length) = scan.advance(&self.read)? {
                let head = self.read.split_to(length).freeze();
                return Ok(RequestHead::parse_scanned(&head)?);
            }
            self.read_more().await?;
        }
    }

    /// Reads the body of the request, until `deadline`, asking for it first where the caller waits to be asked.
    ///
    /// # Errors
    /// [`ReadError`]; among them [`ReadError::Surplus`] when more came than the request has.
    pub async fn body(
        &mut self,
        head: &RequestHead,
        bytes_max: u64,
        deadline: Instant,
    ) -> Result<bytes::Bytes, ReadError> {
        let mut reader = BodyReader::new(head.framing, bytes_max)?;
        let asks = head.expects_continue && head.framing != Framing::Length(0) && self.read.is_empty();
        let body = timeout_at(deadline, async {
            if asks {
                self.stream.write_all(CONTINUE).await?;
            }
            self.body_bytes(&mut reader).await
        });
        let body = body.await;
        let body = body.map_err(|_| ReadError::TimedOut)??;
        if self.has_surplus() {
            return Err(ReadError::Surplus);
        }
        self.whole = true;
        Ok(body)
    }

    async fn body_bytes(&mut self, reader: &mut BodyReader) -> Result<bytes::Bytes, ReadError> {
        loop {
            if let Some(body) = reader.advance(&mut self.read)? {
                return Ok(body);
            }
            let missing = usize::try_from(reader.missing(&self.read)).unwrap_or(READ_AHEAD_MAX);
            self.read.reserve(missing.min(READ_AHEAD_MAX));
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<(), ReadError> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(ReadError::Gone),
            _ => Ok(()),
        }
    }

    /// Returns when the caller goes away, or says more than one request; pending as long as it waits.
    ///
    /// A caller that closes its sending side counts as gone: Synapse never does so and stays.
    pub async fn gone(&mut self) -> ReadError {
        loop {
            if self.has_surplus() {
                return ReadError::Surplus;
            }
            if let Err(error) = self.read_more().await {
                return error;
            }
        }
    }

    /// Returns when the caller goes away before its turn has come; pending as long as it waits. What it sends
    /// meanwhile is kept, as far as it is little.
    pub async fn gone_early(&mut self) -> ReadError {
        while self.read.len() < READ_AHEAD_MAX {
            if let Err(error) = self.read_more().await {
                return error;
            }
        }
        std::future::pending().await
    }

    /// Some old callers end a body with an empty line that belongs to nothing.
    fn has_surplus(&mut self) -> bool {
        let blank = self.read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.read.advance(blank.min(BLANK_MAX));
        !self.read.is_empty()
    }

    /// Does `work`, unless the caller goes away first; `work` is dropped then.
    ///
    /// # Errors
    /// Why the caller does not wait any more.
    pub async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ReadError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            error = self.gone() => Err(error),
        }
    }

    /// Writes all of `bytes`, as fast as the caller reads, but with no pause longer than `stall_max`.
    ///
    /// # Errors
    /// What the connection said, or `TimedOut` when the caller does not read.
    pub async fn write(&mut self, bytes: &mut impl Buf, stall_max: Duration) -> io::Result<()> {
        while bytes.has_remaining() {
            let written = timeout(stall_max, self.stream.write_buf(bytes)).await;
            if written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Ends the connection in order, also when the caller may still be sending its request.
    pub async fn close(mut self) {
        // A caller that left first is no concern of ours.
        if self.whole {
            let _ = timeout(LINGER_MAX, self.stream.shutdown()).await;
        } else {
            let _ = timeout(LINGER_MAX, self.linger()).await;
        }
    }

    /// Closing a connection with bytes unread would reset it, and the caller might never see the answer.
    async fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX {
            self.read.clear();
            match self.stream.read_buf(&mut self.read).await? {
                0 => break,
                some => discarded += some,
            }
        }
        Ok(())
    }

    /// Cuts the connection.
    pub fn abort(self) {
        self.stream.abort();
    }

    /// The connection itself, for what is not HTTP. Nothing was read from it beyond the request, or
    /// [`Self::unless_gone`] had said so.
    pub fn into_stream(self) -> S {
        self.stream
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Enough for Synapse's head and a small body in one read.
const READ_CAPACITY: usize = 4 * 1024;
/// No announced length makes us set aside more than this ahead of the bytes.
const READ_AHEAD_MAX: usize = 64 * 1024;
/// Empty lines forgiven after a body.
const BLANK_MAX: usize = 4;
/// How long a refused caller may take to notice.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How much a refused caller may still send.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
