//! One accepted connection from our own side of the world.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_rustls::{Accept, TlsAcceptor, server};

/// A connection that was accepted, whatever it runs over.
///
/// Where the listener has TLS, the handshake happens within the first read or write, so that a slow client holds up
/// its own task and not the accept queue.
pub struct LocalStream {
    inner: Inner,
    peer: Peer,
    cut: CutSwitch,
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// From this address.
    Tcp(SocketAddr),
    /// A process of this user on the same machine; `None` where the system would not say.
    Unix {
        /// The numeric user id.
        uid: Option<u32>,
    },
}

/// Makes a connection end in a reset instead of a clean close, so that a response that was cut off cannot be taken
/// for a whole one. Takes effect when the stream is dropped. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CutSwitch(Arc<AtomicBool>);

enum Inner {
    Tcp(TcpStream),
    Unix(UnixStream),
    Greeting(Box<Greeting>),
    Tls(Box<server::TlsStream<TcpStream>>),
    /// The handshake failed, and has said so.
    Gone,
}

struct Greeting {
    accept: Accept<TcpStream>,
    too_late: Pin<Box<Sleep>>,
}

impl LocalStream {
    pub(super) fn tcp(stream: TcpStream, peer: SocketAddr) -> Self {
        Self { inner: Inner::Tcp(stream), peer: Peer::Tcp(peer), cut: CutSwitch::default() }
    }

    pub(super) fn tls(
        stream: TcpStream,
        peer: SocketAddr,
        acceptor: &TlsAcceptor,
        timeout: Duration,
    ) -> Self {
        let greeting =
            Greeting { accept: acceptor.accept(stream), too_late: Box::pin(tokio::time::sleep(timeout)) };
        Self { inner: Inner::Greeting(Box::new(greeting)), peer: Peer::Tcp(peer), cut: CutSwitch::default() }
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Self { inner: Inner::Unix(stream), peer: Peer::Unix { uid }, cut: CutSwitch::default() }
    }

    /// Who connected.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// A switch that can be thrown while somebody else owns the stream.
    pub fn cut_switch(&self) -> CutSwitch {
        self.cut.clone()
    }

    /// Ends the connection with a reset, at once. Over a unix socket the peer sees its end without a TLS or TCP
    /// goodbye; there is no reset there.
    pub fn abort(self) {
        self.cut.cut();
    }

    fn socket(&self) -> Option<&TcpStream> {
        match &self.inner {
            Inner::Tcp(stream) => Some(stream),
            Inner::Tls(stream) => Some(stream.get_ref().0),
            Inner::Unix(_) | Inner::Greeting(_) | Inner::Gone => None,
        }
    }

    /// Goes on with the handshake, if there is one to go on with.
    fn poll_greeting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Inner::Greeting(greeting) = &mut self.inner else { return Poll::Ready(Ok(())) };
        if let Poll::Ready(accepted) = Pin::new(&mut greeting.accept).poll(cx) {
            let (next, result) = match accepted {
                Ok(stream) => (Inner::Tls(Box::new(stream)), Ok(())),
                Err(error) => (Inner::Gone, Err(error)),
            };
            self.inner = next;
            return Poll::Ready(result);
        }
        ready!(greeting.too_late.as_mut().poll(cx));
        self.inner = Inner::Gone;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client took too long over its TLS handshake",
        )))
    }
}

impl CutSwitch {
    /// From now on the connection ends in a reset.
    pub fn cut(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_cut(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for LocalStream {
    fn drop(&mut self) {
        if self.cut.is_cut()
            && let Some(stream) = self.socket()
        {
            // Nothing is lost when this fails: the connection is then closed as any other.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid: Some(uid) } => write!(f, "unix user {uid}"),
            Self::Unix { uid: None } => f.write_str("unix"),
        }
    }
}

impl fmt::Debug for LocalStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalStream({})", self.peer)
    }
}

/// Calls a method of whichever stream there is, once its handshake is over.
macro_rules! forward {
    ($stream:expr, $cx:expr, $method:ident ( $($argument:expr),* )) => {{
        let stream = $stream.get_mut();
        ready!(stream.poll_greeting($cx))?;
        match &mut stream.inner {
            Inner::Tcp(stream) => Pin::new(stream).$method($cx, $($argument),*),
            Inner::Unix(stream) => Pin::new(stream).$method($cx, $($argument),*),
            Inner::Tls(stream) => Pin::new(stream.as_mut()).$method($cx, $($argument),*),
            Inner::Greeting(_) | Inner::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }};
}

impl AsyncRead for LocalStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, cx, poll_read(buffer))
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, cx, poll_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, cx, poll_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, cx, poll_flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A goodbye would spoil the reset.
        if self.cut.is_cut() {
            return Poll::Ready(Ok(()));
        }
        forward!(self, cx, poll_shutdown())
    }
}
