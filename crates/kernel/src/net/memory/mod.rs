//! A network within the process, for a kernel on a clock that a test moves.
//!
//! Streams and datagrams between addresses that exist nowhere else. What each address is like is said by a [`Path`]: how
//! long a byte travels, whether a SYN is answered, what becomes of datagrams, and whether either direction is cut. A
//! cut of a stream loses nothing, as TCP would send it again: the bytes come when it is mended, if somebody still waits.
//!
//! Everything that happens is told to the watcher in the order in which it happens, and everything that is left to chance is
//! drawn from one seed. Whoever runs this on a paused clock and one thread sees the same story twice.
//!
//! # Units
//! Bytes, permille, and milliseconds of tokio's clock: its timers know nothing finer.
//!
//! # Source
//! T4; DESIGN decision 14; rows 1 to 4 of the fault list.

mod datagrams;
mod path;
mod pipe;
mod stream;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use southbridge_policy::seeded::Seeded;
use tokio::sync::Notify;

use datagrams::Mailbox;
pub use datagrams::MemorySocket;
use path::Link;
pub use path::{Path, Syn};
pub use stream::MemoryStream;

/// A network within the process. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct MemoryNetwork {
    shared: Rc<Shared>,
}

/// What the watcher is told. Numbers count connections, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// Somebody dials.
    Dialled {
        /// Whom.
        to: SocketAddr,
    },
    /// Nobody listens there, or whoever does refuses.
    Refused {
        /// By whom.
        by: SocketAddr,
    },
    /// A connection is open.
    Connected {
        /// Its number.
        conn: u64,
        /// Whom it leads to.
        to: SocketAddr,
    },
    /// One side says that it will send no more.
    Closed {
        /// Which connection.
        conn: u64,
        /// Which side.
        by: Side,
    },
    /// One side breaks the connection off.
    Reset {
        /// Which connection.
        conn: u64,
        /// Which side.
        by: Side,
    },
    /// A datagram was lost on its way to, or from, this address.
    Lost {
        /// Whom it was for.
        to: SocketAddr,
    },
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who dialled.
    Dialler,
    /// Who was dialled.
    Listener,
}

type Watcher = Box<dyn Fn(NetworkEvent)>;

struct Shared {
    chance: RefCell<Seeded>,
    links: RefCell<BTreeMap<IpAddr, Rc<Link>>>,
    listeners: RefCell<BTreeMap<SocketAddr, Rc<Backlog>>>,
    mailboxes: RefCell<BTreeMap<SocketAddr, Rc<Mailbox>>>,
    watcher: RefCell<Option<Watcher>>,
    connections: Cell<u64>,
    port_next: Cell<u16>,
}

#[derive(Default)]
struct Backlog {
    waiting: RefCell<VecDeque<MemoryStream>>,
    arrived: Notify,
}

/// An address that can be dialled, for as long as this is held.
pub struct MemoryListener {
    address: SocketAddr,
    network: MemoryNetwork,
    backlog: Rc<Backlog>,
}

impl MemoryNetwork {
    /// A network where nobody is yet. What is left to chance is what `seed` says.
    pub fn new(seed: u64) -> Self {
        let shared = Shared {
            chance: RefCell::new(Seeded::new(seed)),
            links: RefCell::default(),
            listeners: RefCell::default(),
            mailboxes: RefCell::default(),
            watcher: RefCell::default(),
            connections: Cell::new(0),
            port_next: Cell::new(FIRST_PORT),
        };
        Self { shared: Rc::new(shared) }
    }

    /// From now on `watcher` is told what happens; it must not use the network itself.
    pub fn watch(&self, watcher: impl Fn(NetworkEvent) + 'static) {
        *self.shared.watcher.borrow_mut() = Some(Box::new(watcher));
    }

    /// Makes `address` one that can be dialled.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when it is already.
    pub fn listen(&self, address: SocketAddr) -> io::Result<MemoryListener> {
        let mut listeners = self.shared.listeners.borrow_mut();
        if listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let backlog = Rc::<Backlog>::default();
        listeners.insert(address, Rc::clone(&backlog));
        Ok(MemoryListener { address, network: self.clone(), backlog })
    }

    /// A socket that takes datagrams at `address` from everybody.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when another does.
    pub fn bind(&self, address: SocketAddr) -> io::Result<MemorySocket> {
        MemorySocket::open(self, address, None)
    }

    /// Says what the way to `ip` is like from now on, for connections that are open already as well.
    pub fn set_path(&self, ip: IpAddr, path: Path) {
        self.link(ip).set(path);
    }

    /// What the way to `ip` is like.
    pub fn path(&self, ip: IpAddr) -> Path {
        self.link(ip).path()
    }

    pub(crate) fn socket(&self, peer: SocketAddr) -> io::Result<MemorySocket> {
        let port = self.shared.port_next.get();
        self.shared.port_next.set(port.checked_add(1).unwrap_or(FIRST_PORT));
        MemorySocket::open(self, SocketAddr::new(OURSELVES, port), Some(peer))
    }

    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<MemoryStream> {
        self.tell(NetworkEvent::Dialled { to });
        let link = self.link(to.ip());
        if link.path().syn == Syn::Lost {
            return std::future::pending().await;
        }
        tokio::time::sleep(self.trip(&link) + self.trip(&link)).await;
        link.open().await;
        let backlog = self.shared.listeners.borrow().get(&to).map(Rc::clone);
        match backlog {
            Some(backlog) if link.path().syn == Syn::Answered && backlog.has_room() => {
                let conn = self.shared.connections.get() + 1;
                self.shared.connections.set(conn);
                self.tell(NetworkEvent::Connected { conn, to });
                let (near, far) = stream::pair(self, &link, conn);
                backlog.waiting.borrow_mut().push_back(far);
                backlog.arrived.notify_one();
                Ok(near)
            }
            _ => {
                self.tell(NetworkEvent::Refused { by: to });
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        }
    }

    pub(crate) fn draw(&self) -> u64 {
        self.shared.chance.borrow_mut().next_u64()
    }

    /// How long something that sets out now travels one way.
    fn trip(&self, link: &Link) -> std::time::Duration {
        let Path { latency, jitter, .. } = link.path();
        let millis = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
        let extra =
            if millis == 0 { 0 } else { self.shared.chance.borrow_mut().below(millis.saturating_add(1)) };
        latency + std::time::Duration::from_millis(extra)
    }

    fn happens(&self, permille: u32) -> bool {
        permille > 0 && self.shared.chance.borrow_mut().below(1000) < u64::from(permille)
    }

    fn link(&self, ip: IpAddr) -> Rc<Link> {
        Rc::clone(self.shared.links.borrow_mut().entry(ip).or_default())
    }

    fn tell(&self, event: NetworkEvent) {
        if let Some(watcher) = &*self.shared.watcher.borrow() {
            watcher(event);
        }
    }
}

impl Backlog {
    fn has_room(&self) -> bool {
        self.waiting.borrow().len() < BACKLOG_MAX
    }
}

impl MemoryListener {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. May be dropped at any time without losing one.
    pub async fn accept(&self) -> MemoryStream {
        loop {
            if let Some(stream) = self.backlog.waiting.borrow_mut().pop_front() {
                return stream;
            }
            self.backlog.arrived.notified().await;
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.network.shared.listeners.borrow_mut().remove(&self.address);
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").field("connections", &self.shared.connections).finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryListener({})", self.address)
    }
}

const OURSELVES: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const FIRST_PORT: u16 = 49_152;
/// What a real one has.
const BACKLOG_MAX: usize = 4096;
