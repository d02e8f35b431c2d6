//! The stream below a raw peer: TCP, or TLS on it, with the means to end it in every way there is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Step;

/// A connection, and what was read and written since it was last asked.
pub(super) struct Wire {
    stream: Stream,
    /// Read from the peer and not yet used by a step.
    ahead: Vec<u8>,
    read: Vec<u8>,
    written: u64,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Stream {
    fn duplex(&mut self) -> &mut dyn Duplex {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.as_mut(),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl Wire {
    pub(super) async fn open(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(config) => Stream::Tls(Box::new(TlsAcceptor::from(config).accept(tcp).await?)),
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

    /// Does `step`; false when the script ends with it.
    pub(super) async fn take(&mut self, step: &Step) -> io::Result<bool> {
        match step {
            Step::ReadHead => drop(self.read_head().await?),
            Step::ReadRequest => self.read_request().await?,
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
            Step::CloseWrite => self.stream.duplex().shutdown().await?,
            Step::Again => {}
            Step::Stall => while self.fill().await? {},
            Step::Deaf => std::future::pending().await,
            Step::Close => {
                self.close().await?;
                return Ok(false);
            }
            Step::Reset => {
                socket2::SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO))?;
                return Ok(false);
            }
            Step::Drop => return Ok(false),
        }
        Ok(true)
    }

    /// Closes in good order: what the peer still sends is read away, lest the close become a reset.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.stream.duplex().shutdown().await?;
        let drained = async {
            while self.fill().await? {}
            io::Result::Ok(())
        };
        tokio::time::timeout(CLOSE_MAX, drained).await.unwrap_or(Ok(()))
    }

    pub(super) fn take_read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    pub(super) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let duplex = self.stream.duplex();
        duplex.write_all(bytes).await?;
        duplex.flush().await?;
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
                return Ok(String::from_utf8_lossy(&head).to_ascii_lowercase());
            }
            self.fill_or_fail().await?;
        }
    }

    pub(super) async fn read_request(&mut self) -> io::Result<()> {
        let head = self.read_head().await?;
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let Some(length) = field("content-length:").and_then(|length| length.parse().ok()) {
            return self.read_exactly(length).await;
        }
        if field("transfer-encoding:").is_some() {
            return self.read_chunks().await;
        }
        Ok(())
    }

    async fn read_chunks(&mut self) -> io::Result<()> {
        loop {
            let line = self.read_past(b"\r\n").await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while self.read_past(b"\r\n").await? != "\r\n" {}
                return Ok(());
            }
            self.read_exactly(size + 2).await?;
        }
    }

    async fn fill_or_fail(&mut self) -> io::Result<()> {
        if self.fill().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads what is there; false at the end of the stream. What no step wants is not kept for ever.
    async fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let length = self.stream.duplex().read(&mut buffer).await?;
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
