//! A peer that plays a script of bytes, for everything a well-kept HTTP server refuses to send.
//!
//! Each connection plays its script from the start: the first connection the first script, and so on;
//! connections beyond the last script play the last one.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use southbridge_testkit::certificates::{Alpn, Authority};
//! use southbridge_testkit::raw::{RawPeer, Step, faults};
//! let authority = Authority::new();
//! // A keep-alive race: the first connection dies under its second request, the next one is well.
//! let race = RawPeer::tls(&authority, Alpn::Http1, vec![faults::keep_alive_race(), faults::well()]).await?;
//! // By hand: a head, a pause in mid-body, a reset.
//! let torn = RawPeer::plain(vec![vec![
//!     Step::ReadRequest,
//!     Step::write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"),
//!     Step::Reset,
//! ]]).await?;
//! assert_eq!((race.connections(), torn.written()), (0, 0));
//! # Ok(()) }
//! ```
//!
//! # Source
//! Rows 2, 4, 5, 6, 9 of the fault list; [`http2`] has row 8.

pub mod faults;
pub mod http2;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::certificates::{Alpn, Authority, CertificatesByName};
use crate::task::{Task, accept_each, listen};
pub use wire::{RequestText, Turn, Wire};

/// One thing a raw peer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads to the empty line that ends a request's head.
    ReadHead,
    /// Reads a head and as much body as its `Content-Length` or chunks say.
    ReadRequest,
    /// Reads so many bytes.
    Read(usize),
    /// Writes these bytes at once.
    Write(Bytes),
    /// Writes these bytes in pieces, with a pause after each.
    WriteSlowly {
        /// All of them.
        bytes: Bytes,
        /// How many at a time.
        piece: usize,
        /// How long between pieces.
        pause: Duration,
    },
    /// Writes `unit` again and again until the peer goes away or `bytes_max` bytes are out.
    Endless {
        /// What is repeated.
        unit: Bytes,
        /// Where it stops after all.
        bytes_max: u64,
    },
    /// Waits.
    Pause(Duration),
    /// Says that nothing more comes (close_notify and FIN), and goes on reading.
    CloseWrite,
    /// Closes in good order.
    Close,
    /// Closes with RST, and without close_notify.
    Reset,
    /// Closes the socket without close_notify: the end of a body by truncation.
    Drop,
    /// Reads and says nothing until the peer goes away.
    Stall,
    /// Neither reads nor writes until the peer goes away: its buffers fill up.
    Deaf,
    /// Starts the script again, on the same connection.
    Again,
}

impl Step {
    /// [`Step::Write`] of a text.
    pub fn write(text: impl AsRef<[u8]>) -> Self {
        Self::Write(Bytes::copy_from_slice(text.as_ref()))
    }
}

/// A running raw peer; it stops when dropped.
#[derive(Debug)]
pub struct RawPeer {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    _task: Task,
}

impl RawPeer {
    /// Plays `scripts` over plain TCP on a free loopback port.
    ///
    /// # Errors
    /// When no socket can be had, or there is no script.
    pub async fn plain(scripts: Vec<Vec<Step>>) -> io::Result<Self> {
        Self::plain_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), scripts).await
    }

    /// Plays `scripts` over plain TCP on `address`; port 0 takes whichever is free.
    ///
    /// # Errors
    /// When the address is taken, or there is no script.
    pub async fn plain_at(address: SocketAddr, scripts: Vec<Vec<Step>>) -> io::Result<Self> {
        Self::start(address, None, scripts)
    }

    /// Plays `scripts` over TLS, with a good certificate for every name.
    ///
    /// # Errors
    /// When no socket can be had, or there is no script.
    pub async fn tls(authority: &Arc<Authority>, alpn: Alpn, scripts: Vec<Vec<Step>>) -> io::Result<Self> {
        Self::tls_of(&CertificatesByName::new(Arc::clone(authority)), alpn, scripts).await
    }

    /// Plays `scripts` over TLS, with `certificates`.
    ///
    /// # Errors
    /// When no socket can be had, or there is no script.
    pub async fn tls_of(
        certificates: &Arc<CertificatesByName>,
        alpn: Alpn,
        scripts: Vec<Vec<Step>>,
    ) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start(address, Some(certificates.server_config(alpn)), scripts)
    }

    fn start(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        scripts: Vec<Vec<Step>>,
    ) -> io::Result<Self> {
        if scripts.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a raw peer needs a script"));
        }
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Ledger::default());
        let (kept, scripts) = (Arc::clone(&ledger), Arc::new(scripts));
        let task = Task::spawn(accept_each(listener, move |stream, _| {
            let (ledger, scripts, tls) = (Arc::clone(&kept), Arc::clone(&scripts), tls.clone());
            let number = ledger.opened();
            async move {
                let script = &scripts[number.min(scripts.len() - 1)];
                // Whatever ends a script early is the peer's doing, and what a test is about.
                let _ = play(stream, tls, script, &ledger, number).await;
                ledger.ended();
            }
        }));
        Ok(Self { address, ledger, _task: task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.ledger.received().len()
    }

    /// What came in on connection `number` (from 0): the first MiB.
    pub fn received(&self, number: usize) -> Vec<u8> {
        self.ledger.received().get(number).cloned().unwrap_or_default()
    }

    /// Bytes written on all connections, TLS not counted: how much of an endless answer was taken.
    pub fn written(&self) -> u64 {
        self.ledger.written.load(Ordering::Relaxed)
    }

    /// Waits until so many connections have ended, from either side.
    pub async fn endings_reach(&self, endings: u64) {
        self.ledger.endings_reach(endings).await;
    }
}

async fn play(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    script: &[Step],
    ledger: &Ledger,
    number: usize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::open(stream, tls).await?;
    let mut next = 0;
    while let Some(step) = script.get(next) {
        next = if *step == Step::Again { 0 } else { next + 1 };
        let done = wire.take(step).await;
        ledger.note(number, wire.take_read(), wire.take_written());
        match done? {
            Turn::GoesOn => {}
            Turn::Over => return Ok(()),
            Turn::Reset => {
                return socket2::SockRef::from(&wire.into_stream()).set_linger(Some(Duration::ZERO));
            }
        }
    }
    wire.close().await
}

/// What happened on all connections.
#[derive(Debug, Default)]
struct Ledger {
    received: Mutex<Vec<Vec<u8>>>,
    written: AtomicU64,
    endings: AtomicU64,
    ending: Notify,
}

impl Ledger {
    fn received(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the new connection, from 0.
    fn opened(&self) -> usize {
        let mut received = self.received();
        received.push(Vec::new());
        received.len() - 1
    }

    fn note(&self, number: usize, read: Vec<u8>, written: u64) {
        self.written.fetch_add(written, Ordering::Relaxed);
        if let Some(kept) = self.received().get_mut(number) {
            let room = RECEIVED_MAX.saturating_sub(kept.len());
            kept.extend(read.into_iter().take(room));
        }
    }

    fn ended(&self) {
        self.endings.fetch_add(1, Ordering::Release);
        self.ending.notify_waiters();
    }

    async fn endings_reach(&self, endings: u64) {
        loop {
            let ending = self.ending.notified();
            if self.endings.load(Ordering::Acquire) >= endings {
                return;
            }
            ending.await;
        }
    }
}

const RECEIVED_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
