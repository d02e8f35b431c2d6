//! Addresses where nobody answers: black holes for SYNs, and ports that refuse.
//!
//! A listening socket whose queue is full makes Linux drop further SYNs, so that a dial to loopback hangs
//! in the handshake of TCP exactly as one to a host behind a dropping firewall does.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use southbridge_testkit::black_hole::{BlackHole, ClosedPort};
//! let hole = BlackHole::open()?; // any number of names may point at hole.address()
//! let closed = ClosedPort::reserve()?; // connection refused, at once
//! # Ok(()) }
//! ```
//!
//! # Source
//! Rows 1 and 2 of the fault list.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// An address that never answers a SYN, while this lives.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _stuck: Vec<Socket>,
}

impl BlackHole {
    /// Opens one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When sockets cannot be made.
    pub fn open() -> io::Result<Self> {
        Self::open_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Opens one on `address`; port 0 takes whichever is free.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn open_at(address: SocketAddr) -> io::Result<Self> {
        let listener = bind(address)?;
        listener.listen(0)?;
        let address = local_address(&listener)?;
        let stuck = (0..QUEUE).map(|_| begin_connect(address)).collect::<io::Result<_>>()?;
        Ok(Self { address, _listener: listener, _stuck: stuck })
    }

    /// Where nobody answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A port that refuses connections, and that nobody else can take, while this lives.
#[derive(Debug)]
pub struct ClosedPort {
    address: SocketAddr,
    _holder: Socket,
}

impl ClosedPort {
    /// Reserves a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When sockets cannot be made.
    pub fn reserve() -> io::Result<Self> {
        Self::reserve_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Reserves `address`; port 0 takes whichever is free.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn reserve_at(address: SocketAddr) -> io::Result<Self> {
        let holder = bind(address)?;
        let address = local_address(&holder)?;
        Ok(Self { address, _holder: holder })
    }

    /// Where connections are refused.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("bound to no IP address"))
}

/// Starts a connection and does not wait for it: it sits in the queue, or fails to get there.
fn begin_connect(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // In progress, as it should be; whether it ever completes is what the queue decides.
    let _ = socket.connect(&address.into());
    Ok(socket)
}

/// A backlog of zero still holds one connection; the others make sure.
const QUEUE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::Duration;

    /// The dial neither succeeds nor fails: it runs into its own timeout.
    #[test]
    fn a_black_hole_swallows_every_dial() {
        let hole = BlackHole::open().unwrap();
        for _ in 0..3 {
            let refusal =
                TcpStream::connect_timeout(&hole.address(), Duration::from_millis(100)).unwrap_err();
            assert_eq!(refusal.kind(), io::ErrorKind::TimedOut);
        }
    }

    /// Nobody listens, and nobody else can begin to.
    #[test]
    fn a_closed_port_refuses_at_once() {
        let closed = ClosedPort::reserve().unwrap();
        let refusal = TcpStream::connect(closed.address()).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::ConnectionRefused);
        assert!(std::net::TcpListener::bind(closed.address()).is_err());
    }
}
