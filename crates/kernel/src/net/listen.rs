//! Listening: TCP and unix sockets, bound by us or handed over by whoever started us.
//!
//! Between two calls of [`Listener::accept`] connections wait in the system's queue, 4096 of them: a listener that is
//! paused, or whose owner is busy starting, refuses nobody.
//!
//! # Source
//! Issue 2 (doors): never refuse a connection while restarting; faults row 26: the accept loop survives running out
//! of descriptors.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tracing::warn;

use super::{ListenAddress, LocalStream, unix};
use crate::tls::ServerTls;

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Permission bits of a unix socket. Default 0o660: the owner and the group.
    pub unix_mode: u32,
    /// Connections that may wait to be accepted. Default 4096; the system takes no more than `net.core.somaxconn`.
    pub backlog: i32,
    /// How long a client may take over its TLS handshake. Default 10 s.
    pub handshake_max: Duration,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { unix_mode: 0o660, backlog: 4096, handshake_max: Duration::from_secs(10) }
    }
}

/// Why nobody can connect here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody else listens there already.
    #[error("{address} is in use: another program listens there; stop it, or choose another address")]
    InUse {
        /// Where.
        address: String,
    },
    /// Something lies where the socket belongs.
    #[error("{} exists and is not a socket; move it away, or choose another path", .path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen at {address}")]
    Failed {
        /// Where.
        address: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// What was handed over is not a listening stream socket.
    #[error("the inherited descriptor is not a listening TCP or unix socket")]
    NotListening,
}

/// A place where clients connect.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    address: ListenAddress,
    tls: Option<ServerTls>,
    handshake_max: Duration,
    paused: Cell<bool>,
    changed: Notify,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `address`. A unix socket that nobody listens at is replaced. The file of a unix socket is left
    /// where it is at the end, because a successor may have taken it over.
    ///
    /// # Errors
    /// [`ListenError`] names the address.
    pub fn bind(address: &ListenAddress, options: &ListenOptions) -> Result<Self, ListenError> {
        let socket = match address {
            ListenAddress::Unix(path) => unix::bind(path, options.unix_mode, options.backlog)?,
            ListenAddress::Tcp(tcp) => bind_tcp(*tcp, options.backlog).map_err(|source| {
                let address = address.to_string();
                match source.kind() {
                    io::ErrorKind::AddrInUse => ListenError::InUse { address },
                    _ => ListenError::Failed { address, source },
                }
            })?,
        };
        Self::of(socket, options)
    }

    /// Goes on listening on a socket that was inherited (socket activation, hand-over). Takes a standard library
    /// listener as well, by `into()`.
    ///
    /// # Errors
    /// [`ListenError::NotListening`] when it is anything else than a listening stream socket.
    pub fn inherit(descriptor: impl Into<OwnedFd>, options: &ListenOptions) -> Result<Self, ListenError> {
        let socket = Socket::from(descriptor.into());
        let is_stream = socket.r#type().is_ok_and(|found| found == Type::STREAM);
        if !is_stream || !socket.is_listener().unwrap_or(false) {
            return Err(ListenError::NotListening);
        }
        Self::of(socket, options)
    }

    /// Speaks TLS with whoever connects. Unix sockets stay as they are.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// From now on clients wait in the system's queue.
    pub fn pause(&self) {
        self.paused.set(true);
        self.changed.notify_waiters();
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.paused.set(false);
        self.changed.notify_waiters();
    }

    /// The next client. Never fails: when our side has run out of something, it waits a little and tries again.
    /// May be dropped at any time without losing a client.
    pub async fn accept(&self) -> LocalStream {
        loop {
            if self.paused.get() {
                self.changed.notified().await;
                continue;
            }
            let accepted = tokio::select! {
                biased;
                () = self.changed.notified() => continue,
                accepted = self.accept_once() => accepted,
            };
            match accepted {
                Ok(stream) => return stream,
                Err(error) if is_about_one_client(&error) => {}
                Err(error) => {
                    warn!(address = %self.address, %error, "accepting is not possible at the moment");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn accept_once(&self) -> io::Result<LocalStream> {
        match &self.socket {
            Bound::Unix(socket) => Ok(LocalStream::unix(socket.accept().await?.0)),
            Bound::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // A client that has left already makes this fail, and is noticed soon enough.
                let _ = stream.set_nodelay(true);
                Ok(match &self.tls {
                    Some(tls) => LocalStream::tls(stream, peer, tls.acceptor(), self.handshake_max),
                    None => LocalStream::tcp(stream, peer),
                })
            }
        }
    }

    fn of(socket: Socket, options: &ListenOptions) -> Result<Self, ListenError> {
        let (socket, address) = adopt(socket).map_err(|source| ListenError::Failed {
            address: "an inherited descriptor".to_owned(),
            source,
        })?;
        Ok(Self {
            socket,
            address,
            tls: None,
            handshake_max: options.handshake_max,
            paused: Cell::new(false),
            changed: Notify::new(),
        })
    }
}

fn bind_tcp(address: std::net::SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Without this, connections of our predecessor in TIME_WAIT would keep us out for a minute.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

fn adopt(socket: Socket) -> io::Result<(Bound, ListenAddress)> {
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    let local = socket.local_addr()?;
    if let Some(address) = local.as_socket() {
        return Ok((Bound::Tcp(TcpListener::from_std(socket.into())?), ListenAddress::Tcp(address)));
    }
    let path = local.as_pathname().map(PathBuf::from).unwrap_or_default();
    Ok((Bound::Unix(UnixListener::from_std(OwnedFd::from(socket).into())?), ListenAddress::Unix(path)))
}

/// Whether the trouble is that of one client, who has gone (accept(2), "Error handling").
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
                | Errno::PERM
        )
    )
}

/// Long enough for some connection to end, short enough not to be noticed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
