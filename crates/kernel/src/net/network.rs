//! The seam between the kernel and the world: everything that leaves the process goes through here.
//!
//! There are two worlds, the system's and one in memory, and they are variants and not a trait: on the way of a byte
//! stands one comparison and no call that the compiler cannot see through.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::memory::{MemoryNetwork, MemorySocket, MemoryStream};

/// What is dialled through. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// The system's.
    #[default]
    System,
    /// One that exists in this process only.
    Memory(MemoryNetwork),
}

impl Network {
    /// Connects to `address`. `prepare` sets options of a real socket.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        prepare: impl FnOnce(&TcpSocket) -> io::Result<()>,
    ) -> io::Result<Stream> {
        match self {
            Self::System => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                prepare(&socket)?;
                socket.connect(address).await.map(Stream::Tcp)
            }
            Self::Memory(network) => network.connect(address).await.map(Stream::Memory),
        }
    }

    /// A socket for datagrams to `peer` and from nobody else.
    pub(crate) fn datagrams(&self, peer: SocketAddr) -> io::Result<Datagrams> {
        match self {
            Self::System => {
                let any = match peer {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = std::net::UdpSocket::bind(any)?;
                socket.connect(peer)?;
                socket.set_nonblocking(true)?;
                UdpSocket::from_std(socket).map(Datagrams::System)
            }
            Self::Memory(network) => Ok(Datagrams::Memory(network.socket(peer)?)),
        }
    }

    /// A number that nobody outside can guess; in memory, one that comes again with its seed.
    pub(crate) fn draw(&self) -> u64 {
        match self {
            Self::System => rand::random(),
            Self::Memory(network) => network.draw(),
        }
    }

    /// Whether what the system knows (its hosts file) is to be believed.
    pub(crate) fn is_real(&self) -> bool {
        matches!(self, Self::System)
    }
}

/// An open connection, whatever it runs over.
#[derive(Debug)]
pub enum Stream {
    /// Through the system.
    Tcp(TcpStream),
    /// Within this process.
    Memory(MemoryStream),
}

/// A socket for datagrams to and from one peer.
pub(crate) enum Datagrams {
    System(UdpSocket),
    Memory(MemorySocket),
}

impl Datagrams {
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::System(socket) => socket.send(bytes).await.map(drop),
            Self::Memory(socket) => socket.send(bytes),
        }
    }

    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::System(socket) => socket.recv(buffer).await,
            Self::Memory(socket) => socket.recv(buffer).await,
        }
    }
}

/// Calls a method of whichever stream there is.
macro_rules! forward {
    ($stream:expr, $method:ident ( $($argument:expr),* )) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Memory(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, poll_write(cx, bytes))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write_vectored(cx, slices))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush(cx))
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown(cx))
    }
}
