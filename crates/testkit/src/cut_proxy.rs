//! A TCP proxy that breaks connections: it delays, throttles, cuts after so many bytes, or stops accepting.
//!
//! ```no_run
//! # async fn example(upstream: std::net::SocketAddr) -> std::io::Result<()> {
//! use southbridge_testkit::cut_proxy::{CutProxy, Direction, Mode};
//! let proxy = CutProxy::start(upstream).await?;
//! proxy.set(Mode::CutAfter { direction: Direction::ToClient, bytes: 1000 });
//! proxy.set(Mode::Throttle { bytes_per_second: 1 });
//! proxy.cut_all();
//! # Ok(()) }
//! ```
//!
//! # Source
//! Rows 2 and 4 of the fault list.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::task::{Task, listen};

/// What the proxy does, to open connections as to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Passes each read on after so long.
    Delay(Duration),
    /// Passes on at most so many bytes a second, each way.
    Throttle {
        /// At least 1.
        bytes_per_second: u64,
    },
    /// Passes on so many bytes of a connection in one direction (the other is free), then resets both ends.
    CutAfter {
        /// Which way is counted.
        direction: Direction,
        /// How many bytes still pass.
        bytes: u64,
    },
    /// Passes nothing on: bytes wait where they are.
    Stutter,
    /// Accepts no more connections; open ones are passed on.
    StopAccepting,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    ToUpstream,
    /// From the upstream to the client.
    ToClient,
}

/// A running proxy; it stops when dropped, and resets what is open.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    to_upstream: AtomicU64,
    to_client: AtomicU64,
    cut: Notify,
}

impl CutProxy {
    /// Starts on a free loopback port, passing on to `upstream`.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (mode, seen) = watch::channel(Mode::Pass);
        let shared = Arc::new(Shared::default());
        let task = Task::spawn(run(listener, upstream, seen, Arc::clone(&shared)));
        Ok(Self { address, mode, shared, _task: task })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it does so.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Resets every open connection, both ends.
    pub fn cut_all(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Bytes passed on so far, that way.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.passed(direction).load(Ordering::Relaxed)
    }
}

impl Shared {
    fn passed(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToUpstream => &self.to_upstream,
            Direction::ToClient => &self.to_client,
        }
    }
}

async fn run(
    listener: TcpListener,
    upstream: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    shared: Arc<Shared>,
) {
    let mut open = JoinSet::new();
    loop {
        let accepting = *mode.borrow_and_update() != Mode::StopAccepting;
        tokio::select! {
            accepted = listener.accept(), if accepting => {
                let Ok((client, _)) = accepted else { continue };
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                open.spawn(carry(client, upstream, mode.clone(), Arc::clone(&shared)));
            }
            Some(_) = open.join_next() => {}
            changed = mode.changed() => {
                if changed.is_err() { return }
            }
        }
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, mode: watch::Receiver<Mode>, shared: Arc<Shared>) {
    let (mut client, Ok(mut upstream)) = (client, TcpStream::connect(upstream).await) else { return };
    for stream in [&client, &upstream] {
        let _ = stream.set_nodelay(true);
        // Whatever ends the carrying, short of both sides being done, ends it with RST.
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    let whole = {
        let (client_read, client_write) = client.split();
        let (upstream_read, upstream_write) = upstream.split();
        let there = Pump { direction: Direction::ToUpstream, mode: mode.clone(), shared: &shared };
        let back = Pump { direction: Direction::ToClient, mode, shared: &shared };
        let both = async {
            tokio::try_join!(there.run(client_read, upstream_write), back.run(upstream_read, client_write))
        };
        tokio::select! {
            done = both => done.is_ok(),
            () = shared.cut.notified() => false,
        }
    };
    if whole {
        for stream in [&client, &upstream] {
            let _ = socket2::SockRef::from(stream).set_linger(None);
        }
    }
}

/// One direction of one connection.
struct Pump<'a> {
    direction: Direction,
    mode: watch::Receiver<Mode>,
    shared: &'a Shared,
}

impl Pump<'_> {
    /// Until the end of the stream; an error is a cut.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut passed = 0;
        loop {
            let room = self.room(passed).await?;
            let read = tokio::select! {
                read = from.read(&mut buffer[..room]) => read?,
                // The mode may allow more or less by now.
                Ok(()) = self.mode.changed() => continue,
            };
            if read == 0 {
                return to.shutdown().await;
            }
            self.wait(read).await;
            to.write_all(&buffer[..read]).await?;
            passed += read as u64;
            self.shared.passed(self.direction).fetch_add(read as u64, Ordering::Relaxed);
        }
    }

    /// How many bytes may be read next; waits while there are none, fails when the wire is to be cut.
    async fn room(&mut self, passed: u64) -> io::Result<usize> {
        loop {
            let mode = *self.mode.borrow_and_update();
            match mode {
                Mode::Stutter => self.mode.changed().await.map_err(io::Error::other)?,
                Mode::Throttle { bytes_per_second } => {
                    return Ok((bytes_per_second / 10).clamp(1, BUFFER as u64) as usize);
                }
                Mode::CutAfter { direction, bytes } if direction == self.direction => {
                    let left = bytes.saturating_sub(passed);
                    if left == 0 {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    return Ok(left.min(BUFFER as u64) as usize);
                }
                _ => return Ok(BUFFER),
            }
        }
    }

    /// How long `read` bytes take.
    async fn wait(&self, read: usize) {
        let mode = *self.mode.borrow();
        match mode {
            Mode::Delay(delay) => tokio::time::sleep(delay).await,
            Mode::Throttle { bytes_per_second } => {
                let seconds = read as f64 / bytes_per_second.max(1) as f64;
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            }
            _ => {}
        }
    }
}

const BUFFER: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::{RawPeer, Step};

    async fn read_through(mode: Mode) -> (io::Result<usize>, usize, CutProxy) {
        let bytes = vec![b'x'; 10_000];
        let peer = RawPeer::plain(vec![vec![Step::write(bytes), Step::Close]]).await.unwrap();
        let proxy = CutProxy::start(peer.address()).await.unwrap();
        proxy.set(mode);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let mut read = Vec::new();
        client.shutdown().await.unwrap();
        (client.read_to_end(&mut read).await, read.len(), proxy)
    }

    /// What goes in comes out, and a close stays a close.
    #[tokio::test]
    async fn a_passing_proxy_changes_nothing() {
        for mode in
            [Mode::Pass, Mode::Delay(Duration::from_millis(1)), Mode::Throttle { bytes_per_second: 500_000 }]
        {
            let (end, _, proxy) = read_through(mode).await;
            assert_eq!((end.unwrap(), proxy.passed(Direction::ToClient)), (10_000, 10_000));
        }
    }

    /// So many bytes, then RST.
    #[tokio::test]
    async fn a_wire_is_cut_after_so_many_bytes() {
        let cut = Mode::CutAfter { direction: Direction::ToClient, bytes: 1234 };
        let (end, read, proxy) = read_through(cut).await;
        assert!(end.is_err() && read <= 1234);
        assert_eq!((proxy.passed(Direction::ToClient), proxy.accepted()), (1234, 1));
    }

    /// A proxy that has stopped accepting leaves newcomers waiting; told otherwise, it serves them.
    #[tokio::test]
    async fn newcomers_wait_until_the_proxy_accepts_again() {
        let peer = RawPeer::plain(vec![vec![Step::write("hello"), Step::Close]]).await.unwrap();
        let proxy = CutProxy::start(peer.address()).await.unwrap();
        proxy.set(Mode::StopAccepting);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let mut hello = [0; 5];
        let waited = tokio::time::timeout(Duration::from_millis(100), client.read_exact(&mut hello)).await;
        assert!(waited.is_err());
        proxy.set(Mode::Pass);
        client.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
    }
}
