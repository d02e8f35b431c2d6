//! Runs the Connection Pool: does what the machine decides, tells it what became of it.
//!
//! The machine ([`southbridge_policy::pool`]) knows tickets, peers and numbers; here are the sockets.
//!
//! # Source
//! F12, F13; DESIGN decision 5.

mod lent;
mod opening;
mod view;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use southbridge_policy::lane::Lane;
use southbridge_policy::pool::{Action, Lease, Pool, PoolFull, PoolLimits, PoolUse, Refusal, Returned, Want};
use southbridge_policy::racing::{AddressMemory, AddressMemoryLimits};
use southbridge_policy::seeded::Seeded;
use southbridge_words::{Class, ConnId, Instant, PeerId, Step, Ticket};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::discovery::Route;
use crate::http::{Gauge, Sender};
use crate::net::ConnectError;
use crate::underway::Mark;

pub(crate) use lent::Lent;
pub(crate) use opening::Opener;
pub use opening::OpeningConfig;
pub use view::{ConnectionView, PeerView};

/// Lends connections. Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub(crate) struct Lending {
    inner: Rc<Inner>,
}

struct Inner {
    clock: Clock,
    opener: Opener,
    state: RefCell<State>,
    memory: RefCell<AddressMemory>,
    /// When the timer task will next wake by itself.
    armed: Cell<Instant>,
    rearm: Notify,
}

struct State {
    pool: Pool,
    peers: FxHashMap<PeerId, Peer>,
    peer_ids: FxHashMap<Arc<str>, PeerId>,
    peer_next: u32,
    connections: FxHashMap<ConnId, Connection>,
    waiting: FxHashMap<Ticket, Waiting>,
    /// Why connections failed, for as long as somebody is still to be told.
    failures: FxHashMap<ConnId, Rc<ConnectError>>,
    seeded: Seeded,
}

/// Who waits for a lease.
struct Waiting {
    peer: PeerId,
    told: oneshot::Sender<Result<Lent, LendError>>,
}

struct Peer {
    key: Arc<str>,
    route: Rc<Route>,
}

struct Connection {
    peer: PeerId,
    opened_at: Instant,
    task: Option<AbortHandle>,
    stage: Stage,
}

enum Stage {
    Dialling { go: Option<oneshot::Sender<()>> },
    Open(OpenConnection),
}

struct OpenConnection {
    /// `None` while an HTTP/1.1 connection is lent: its sender travels with the lease.
    sender: Option<Sender>,
    gauge: Rc<Gauge>,
    remote: std::net::SocketAddr,
    http2: bool,
    served: u64,
}

/// What a caller needs a connection for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) ticket: Ticket,
    pub(crate) class: Class,
    pub(crate) lane: Lane,
    pub(crate) deadline: Instant,
    pub(crate) fresh: bool,
}

/// Why no connection was lent.
#[derive(Clone, Debug)]
pub(crate) enum LendError {
    /// Too many wait.
    Full(PoolFull),
    /// It cannot be reached.
    Failed(Rc<ConnectError>),
    /// The deadline came first; `step` says whether anybody had begun to connect.
    DeadlinePassed { step: Step },
}

impl Lending {
    pub(crate) fn new(limits: PoolLimits, opener: Opener, clock: Clock, seed: u64) -> Self {
        let state = State {
            pool: Pool::new(limits),
            peers: FxHashMap::default(),
            peer_ids: FxHashMap::default(),
            peer_next: 0,
            connections: FxHashMap::default(),
            waiting: FxHashMap::default(),
            failures: FxHashMap::default(),
            seeded: Seeded::new(seed),
        };
        let inner = Inner {
            clock,
            opener,
            state: RefCell::new(state),
            memory: RefCell::new(AddressMemory::new(AddressMemoryLimits::default(), seed)),
            armed: Cell::new(Instant::FAR_FUTURE),
            rearm: Notify::new(),
        };
        let lending = Self { inner: Rc::new(inner) };
        tokio::task::spawn_local(run_timer(Rc::downgrade(&lending.inner)));
        lending
    }

    /// Waits for the use of a connection along `route`. Dropping the future gives up the place in the queue.
    pub(crate) async fn borrow(&self, route: &Rc<Route>, need: Need, mark: &Mark) -> Result<Lent, LendError> {
        let (told, tell) = oneshot::channel();
        let now = self.inner.clock.now();
        {
            let mut state = self.inner.state.borrow_mut();
            let peer = state.peer_for(route);
            mark.waits_for(peer);
            let Need { ticket, class, lane, deadline, fresh } = need;
            let want = Want { ticket, peer, class, lane, deadline, fresh };
            state.pool.handle_request(want, now).map_err(LendError::Full)?;
            state.waiting.insert(ticket, Waiting { peer, told });
        }
        let mut place = Place { inner: &self.inner, ticket: Some(need.ticket) };
        self.inner.act();
        let answer = tell.await;
        place.ticket = None;
        // A channel that closes unanswered means that the pool is being taken down.
        answer.unwrap_or(Err(LendError::DeadlinePassed { step: Step::Admission }))
    }

    /// Whether a connection to `peer` is being opened.
    pub(crate) fn is_connecting(&self, peer: PeerId) -> bool {
        self.inner.state.borrow().pool.peer_usage(peer).connecting > 0
    }

    /// What the pool holds.
    pub(crate) fn usage(&self) -> PoolUse {
        self.inner.state.borrow().pool.usage()
    }
}

/// A place in the queue; leaving it early tells the machine.
struct Place<'a> {
    inner: &'a Rc<Inner>,
    ticket: Option<Ticket>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let was_waiting = {
                let mut state = self.inner.state.borrow_mut();
                let was_waiting = state.waiting.remove(&ticket).is_some();
                if was_waiting {
                    state.pool.handle_cancelled(ticket, self.inner.clock.now());
                }
                was_waiting
            };
            if was_waiting {
                self.inner.act();
            }
        }
    }
}

impl State {
    /// The number of the peer at the end of `route`. A route that has changed takes connections to
    /// addresses that went away out of use (K6).
    fn peer_for(&mut self, route: &Rc<Route>) -> PeerId {
        if let Some(id) = self.peer_ids.get(&route.peer_key).copied() {
            let peer = self.peers.get_mut(&id).expect("every numbered peer is known");
            if !Rc::ptr_eq(&peer.route, route) {
                let moved = !Arc::ptr_eq(&peer.route.endpoints, &route.endpoints)
                    && peer.route.endpoints != route.endpoints;
                peer.route = Rc::clone(route);
                if moved {
                    self.drain_moved(id);
                }
            }
            return id;
        }
        if self.peers.len() >= PEERS_BEFORE_SWEEP && self.peers.len() >= 2 * self.connections.len() {
            self.forget_unused_peers();
        }
        let id = PeerId(self.peer_next);
        self.peer_next = self.peer_next.wrapping_add(1);
        self.peer_ids.insert(Arc::clone(&route.peer_key), id);
        self.peers.insert(id, Peer { key: Arc::clone(&route.peer_key), route: Rc::clone(route) });
        id
    }

    fn drain_moved(&mut self, id: PeerId) {
        let endpoints = Arc::clone(&self.peers[&id].route.endpoints);
        let now_gone = |connection: &Connection| match &connection.stage {
            Stage::Open(open) => !endpoints.iter().any(|endpoint| endpoint.address == open.remote),
            Stage::Dialling { .. } => false,
        };
        let gone: Vec<ConnId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.peer == id && now_gone(connection))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in gone {
            self.pool.handle_draining(conn, Instant::ZERO);
        }
    }

    fn forget_unused_peers(&mut self) {
        let pool = &self.pool;
        self.peers.retain(|id, _| !pool.is_unused(*id));
        let peers = &self.peers;
        self.peer_ids.retain(|_, id| peers.contains_key(id));
    }
}

impl Inner {
    /// Does what the machine decides, until it has nothing more to say.
    fn act(self: &Rc<Self>) {
        loop {
            let action = self.state.borrow_mut().pool.poll();
            match action {
                None => break,
                Some(Action::Dial { conn, peer }) => self.start_opening(conn, peer),
                Some(Action::Handshake { conn }) => self.let_handshake(conn),
                Some(Action::Lend { ticket, lease }) => self.lend(ticket, lease),
                Some(Action::Refuse { ticket, refusal }) => self.refuse(ticket, refusal),
                Some(Action::Revoke { conn } | Action::Close { conn }) => self.close(conn),
            }
        }
        self.arm();
    }

    fn arm(&self) {
        let next = self.state.borrow().pool.poll_timeout().unwrap_or(Instant::FAR_FUTURE);
        if next < self.armed.get() {
            self.armed.set(next);
            self.rearm.notify_one();
        }
    }

    fn let_handshake(&self, conn: ConnId) {
        let mut state = self.state.borrow_mut();
        if let Some(Connection { stage: Stage::Dialling { go }, .. }) = state.connections.get_mut(&conn) {
            if let Some(go) = go.take() {
                let _gone = go.send(());
            }
        }
    }

    fn lend(self: &Rc<Self>, ticket: Ticket, lease: Lease) {
        let mut state = self.state.borrow_mut();
        let told = state.waiting.remove(&ticket).map(|waiting| waiting.told);
        let lent = state.connections.get_mut(&lease.conn).and_then(|connection| connection.lend(lease.conn));
        drop(state);
        let lent = match lent {
            Some((sender, gauge, remote)) => Lent::new(Rc::clone(self), lease, sender, gauge, remote),
            None => unreachable_lease(self, lease),
        };
        if let Some(told) = told {
            // A caller that has just gone drops the answer, and with it the lease goes back.
            let _gone = told.send(Ok(lent));
        }
    }

    fn refuse(&self, ticket: Ticket, refusal: Refusal) {
        let mut state = self.state.borrow_mut();
        let Some(Waiting { peer, told }) = state.waiting.remove(&ticket) else { return };
        let error = match refusal {
            Refusal::DeadlinePassed if state.pool.peer_usage(peer).connecting > 0 => {
                LendError::DeadlinePassed { step: Step::Connect }
            }
            // Nobody had begun to connect: the queue was ours.
            Refusal::DeadlinePassed => LendError::DeadlinePassed { step: Step::Admission },
            Refusal::ConnectFailed { conn } => match state.failures.get(&conn) {
                Some(why) => LendError::Failed(Rc::clone(why)),
                None => LendError::DeadlinePassed { step: Step::Connect },
            },
        };
        drop(state);
        let _gone = told.send(Err(error));
    }

    fn close(&self, conn: ConnId) {
        let removed = self.state.borrow_mut().connections.remove(&conn);
        if let Some(task) = removed.and_then(|connection| connection.task) {
            task.abort();
        }
    }

    fn give_back(self: &Rc<Self>, lease: Lease, sender: Option<Sender>, returned: Returned) {
        {
            let mut state = self.state.borrow_mut();
            let conn = lease.conn;
            let returned = match state.connections.get_mut(&conn).map(|connection| &mut connection.stage) {
                Some(Stage::Open(open)) if returned == Returned::Reusable => {
                    open.served += 1;
                    if !open.http2 {
                        open.sender = sender;
                    }
                    returned
                }
                _ => returned,
            };
            state.pool.handle_returned(lease, returned, self.clock.now());
        }
        self.act();
    }

    /// The connection has ended by itself.
    fn handle_ended(self: &Rc<Self>, conn: ConnId) {
        {
            let mut state = self.state.borrow_mut();
            if state.connections.remove(&conn).is_none() {
                return;
            }
            state.pool.handle_closed(conn, self.clock.now());
        }
        self.act();
    }
}

impl Connection {
    fn lend(&mut self, _conn: ConnId) -> Option<(Sender, Rc<Gauge>, std::net::SocketAddr)> {
        let Stage::Open(open) = &mut self.stage else { return None };
        let sender = match &open.sender {
            Some(Sender::Http2(shared)) => Sender::Http2(shared.clone()),
            _ => open.sender.take()?,
        };
        Some((sender, Rc::clone(&open.gauge), open.remote))
    }
}

/// The machine lent a connection that is not there: our own mistake, and better loud than hanging.
fn unreachable_lease(_inner: &Rc<Inner>, lease: Lease) -> Lent {
    panic!("the pool lent {}, which is not open", lease.conn)
}

async fn run_timer(inner: std::rc::Weak<Inner>) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let next = strong.state.borrow().pool.poll_timeout().unwrap_or(Instant::FAR_FUTURE);
        strong.armed.set(next);
        let at = strong.clock.to_tokio(next);
        let rearmed = {
            let notified = strong.rearm.notified();
            tokio::pin!(notified);
            tokio::select! {
                () = &mut notified => true,
                () = tokio::time::sleep_until(at) => false,
            }
        };
        if !rearmed {
            strong.armed.set(Instant::FAR_FUTURE);
            strong.state.borrow_mut().pool.handle_timeout(strong.clock.now());
            strong.act();
        }
    }
}

/// How many remembered peers are worth a sweep for those that nothing is held for.
const PEERS_BEFORE_SWEEP: usize = 1024;
