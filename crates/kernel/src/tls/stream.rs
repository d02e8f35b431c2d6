//! An open TLS connection, of either profile.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::CertificateSummary;
use crate::net::Stream;

/// An open TLS connection to a peer whose certificate was checked.
pub struct TlsStream(Inner);

enum Inner {
    // Boxed: it is more than a kilobyte, and is moved several times before it comes to rest.
    Modern(Box<tokio_rustls::client::TlsStream<Stream>>),
    #[cfg(feature = "legacy-tls")]
    Legacy(Box<tokio_openssl::SslStream<Stream>>),
}

impl TlsStream {
    pub(super) fn modern(stream: tokio_rustls::client::TlsStream<Stream>) -> Self {
        Self(Inner::Modern(Box::new(stream)))
    }

    #[cfg(feature = "legacy-tls")]
    pub(super) fn legacy(stream: tokio_openssl::SslStream<Stream>) -> Self {
        Self(Inner::Legacy(Box::new(stream)))
    }

    /// What the peer's certificate says. Read anew on each call; `None` where the peer's bytes are past reading.
    pub fn certificate(&self) -> Option<CertificateSummary> {
        match &self.0 {
            Inner::Modern(stream) => {
                stream.get_ref().1.peer_certificates()?.first().and_then(|der| CertificateSummary::read(der))
            }
            #[cfg(feature = "legacy-tls")]
            Inner::Legacy(stream) => super::legacy::peer_certificate(stream.ssl()),
        }
    }
}

/// Calls a method of whichever stream there is.
macro_rules! forward {
    ($stream:expr, $method:ident ( $($argument:expr),* )) => {
        match &mut $stream.get_mut().0 {
            Inner::Modern(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            #[cfg(feature = "legacy-tls")]
            Inner::Legacy(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Inner::Modern(stream) => stream.is_write_vectored(),
            #[cfg(feature = "legacy-tls")]
            Inner::Legacy(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown(cx))
    }
}
