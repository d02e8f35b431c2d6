//! One side of a connection that plays steps: over plain bytes or TLS, on whatever stream there is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Step;

/// A connection, and what was read and written since it was last asked.
pub struct Wire<S> {
    stream: Stream<S>,
    /// Read from the peer and not yet used by a step.
    ahead: Vec<u8>,
    read: Vec<u8>,
    written: u64,
}

enum Stream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next step.
    GoesOn,
    /// Nothing: the script ends here.
    Over,
    /// The stream is to be reset, which is the business of whoever knows its kind.
    Reset,
}

/// One request, as far as a script cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestText {
    /// From the method to the empty line, word for word.
    pub head: String,
    /// All of it, without framing.
    pub body: Vec<u8>,
}

/// Calls a method of whichever stream there is.
macro_rules! each {
    ($stream:expr, $name:ident => $work:expr) => {
        match $stream {
            Stream::Plain($name) => $work,
            Stream::Tls($name) => $work,
        }
    };
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Takes `stream` as it is, or shakes hands on it first.
    ///
    /// # Errors
    /// What the handshake failed for.
    pub async fn open(stream: S, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(config) => Stream::Tls(Box::new(TlsAcceptor::from(config).accept(stream).await?)),
        };
        Ok(Self { stream, ahead: Vec::new(), read: Vec::new(), written: 0 })
    }

    /// Whether both sides agreed on HTTP/2.
    pub(super) fn agreed_on_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The stream below.
    pub fn into_stream(self) -> S {
        match self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(tls) => tls.into_inner().0,
        }
    }

    /// Does `step`, and says what comes next.
    ///
    /// # Errors
    /// What the peer did meanwhile.
    pub async fn take(&mut self, step: &Step) -> io::Result<Turn> {
        match step {
            Step::ReadHead => drop(self.read_head().await?),
            Step::ReadRequest => drop(self.read_request().await?),
            Step::Read(bytes) => self.read_exactly(*bytes).await?,
            Step::Write(bytes) => self.write(bytes).await?,
            Step::WriteSlowly { bytes, piece, pause } => {
                for piece in bytes.chunks((*piece).max(1)) {
                    self.write(piece).await?;
                    tokio::time::sleep(*pause).await;
                }
            }
            Step::Endless { unit, bytes_max } => self.write_endlessly(unit, *bytes_max).await?,
            Step::Pause(pause) => tokio::time::sleep(*pause).await,
            Step::CloseWrite => each!(&mut self.stream, stream => stream.shutdown().await?),
            Step::Again => {}
            Step::Stall => while self.fill().await? {},
            Step::Deaf => std::future::pending().await,
            Step::Close => {
                self.close().await?;
                return Ok(Turn::Over);
            }
            Step::Reset => return Ok(Turn::Reset),
            Step::Drop => return Ok(Turn::Over),
        }
        Ok(Turn::GoesOn)
    }

    /// Closes in good order: what the peer still sends is read away, lest the close become a reset.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        each!(&mut self.stream, stream => stream.shutdown().await?);
        let drained = async {
            while self.fill().await? {}
            io::Result::Ok(())
        };
        tokio::time::timeout(CLOSE_MAX, drained).await.unwrap_or(Ok(()))
    }

    /// What was read since it was last asked.
    pub fn take_read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    pub(super) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        each!(&mut self.stream, stream => {
            stream.write_all(bytes).await?;
            stream.flush().await?;
        });
        self.written += bytes.len() as u64;
        Ok(())
    }

    async fn write_endlessly(&mut self, unit: &[u8], bytes_max: u64) -> io::Result<()> {
        let copies = (WRITE_SIZE / unit.len().max(1)).max(1);
        let many = unit.repeat(copies);
        let mut left = bytes_max;
        while left > 0 && !many.is_empty() {
            self.write(&many).await?;
            left = left.saturating_sub(many.len() as u64);
        }
        Ok(())
    }

    /// Exactly so many bytes, which the caller does not need.
    async fn read_exactly(&mut self, bytes: usize) -> io::Result<()> {
        while self.ahead.len() < bytes {
            self.fill_or_fail().await?;
        }
        self.ahead.drain(..bytes);
        Ok(())
    }

    /// The next `bytes` bytes.
    pub(super) async fn read_bytes(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < bytes {
            self.fill_or_fail().await?;
        }
        Ok(self.ahead.drain(..bytes).collect())
    }

    async fn read_head(&mut self) -> io::Result<String> {
        self.read_past(b"\r\n\r\n").await
    }

    async fn read_past(&mut self, end: &[u8]) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                let head: Vec<u8> = self.ahead.drain(..at + end.len()).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.fill_or_fail().await?;
        }
    }

    /// Reads a head and as much body as its `Content-Length` or chunks say.
    ///
    /// # Errors
    /// What the peer did instead.
    pub async fn read_request(&mut self) -> io::Result<RequestText> {
        let head = self.read_head().await?;
        let lower = head.to_ascii_lowercase();
        let field = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let Some(length) = field("content-length:").and_then(|length| length.parse().ok()) {
            let body = self.read_bytes(length).await?;
            return Ok(RequestText { head, body });
        }
        if field("transfer-encoding:").is_some() {
            let body = self.read_chunks().await?;
            return Ok(RequestText { head, body });
        }
        Ok(RequestText { head, body: Vec::new() })
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_past(b"\r\n").await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while self.read_past(b"\r\n").await? != "\r\n" {}
                return Ok(body);
            }
            body.extend(self.read_bytes(size).await?);
            self.read_exactly(2).await?;
        }
    }

    async fn fill_or_fail(&mut self) -> io::Result<()> {
        if self.fill().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads what is there; false at the end of the stream. What no step wants is not kept for ever.
    async fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let length = each!(&mut self.stream, stream => stream.read(&mut buffer).await?);
        if self.ahead.len() > AHEAD_MAX {
            self.ahead.clear();
        }
        self.ahead.extend_from_slice(&buffer[..length]);
        if self.read.len() < super::RECEIVED_MAX {
            self.read.extend_from_slice(&buffer[..length]);
        }
        Ok(length > 0)
    }
}

const WRITE_SIZE: usize = 16 << 10;
const AHEAD_MAX: usize = 128 << 20;
const CLOSE_MAX: Duration = Duration::from_secs(5);
