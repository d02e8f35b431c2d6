//! Runs the Connection Pool: does what the machine decides, tells it what became of it.
//!
//! The machine ([`southbridge_policy::pool`]) knows tickets, peers and numbers; here are the sockets.
//!
//! # Source
//! F12, F13; DESIGN decision 5.

mod failing;
mod lent;
mod opening;
mod peers;
mod tunnel;
mod view;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_policy::lane::Lane;
use southbridge_policy::pool::{Action, Lease, Pool, PoolFull, PoolLimits, PoolUse, Returned, Want};
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
use peers::{PEERS_BEFORE_SWEEP, Peer};
pub use view::{ConnectionView, PeerView};

/// Lends connections. When it is dropped, what is lent to nobody is closed; the rest when it comes back.
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
    rearm: Rc<Notify>,
}

struct State {
    pool: Pool,
    peers: FxHashMap<PeerId, Peer>,
    peer_ids: FxHashMap<Arc<str>, PeerId>,
    peer_next: u32,
    /// With how many peers it is worth looking for those that nothing is held for.
    sweep_at: usize,
    connections: FxHashMap<ConnId, Connection>,
    waiting: FxHashMap<Ticket, Waiting>,
    /// Why connections failed, until everybody who is refused for it has been told.
    failures: FxHashMap<ConnId, Rc<ConnectError>>,
    seeded: Seeded,
}

/// Who waits for a lease.
struct Waiting {
    peer: PeerId,
    told: oneshot::Sender<Result<Lent, LendError>>,
}

struct Connection {
    peer: PeerId,
    opened_at: Instant,
    task: Option<AbortHandle>,
    stage: Stage,
}

enum Stage {
    Opening(Opening),
    Open(OpenConnection),
}

/// How far a connection has come that cannot be lent yet.
struct Opening {
    /// Lets it begin with TLS.
    go: Option<oneshot::Sender<()>>,
    /// Where it leads, once TCP is up.
    remote: Option<SocketAddr>,
    /// Since when it waits for the peer: its TCP, then its TLS.
    since: Instant,
}

struct OpenConnection {
    /// `None` while an HTTP/1.1 connection is lent: its sender travels with the lease.
    sender: Option<Sender>,
    gauge: Rc<Gauge>,
    remote: SocketAddr,
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
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LendError {
    /// Too many wait.
    #[error("{0}")]
    Full(PoolFull),
    /// It cannot be reached.
    #[error("{0}")]
    Failed(Rc<ConnectError>),
    /// The deadline came first; `step` says whether anybody had begun to connect.
    #[error("no connection in time, at the step {step}")]
    DeadlinePassed { step: Step },
}

impl Lending {
    pub(crate) fn new(limits: PoolLimits, opener: Opener, clock: Clock, seed: u64) -> Self {
        let state = State {
            pool: Pool::new(limits),
            peers: FxHashMap::default(),
            peer_ids: FxHashMap::default(),
            peer_next: 0,
            sweep_at: PEERS_BEFORE_SWEEP,
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
            rearm: Rc::default(),
        };
        let lending = Self { inner: Rc::new(inner) };
        tokio::task::spawn_local(run_timer(Rc::downgrade(&lending.inner)));
        lending
    }

    /// Waits for the use of a connection along `route`. Dropping the future gives up the place in the queue.
    pub(crate) async fn borrow(&self, route: &Rc<Route>, need: Need, mark: &Mark) -> Result<Lent, LendError> {
        let (told, tell) = oneshot::channel();
        let entered = self.inner.state.borrow_mut().enter(route, need, mark, told, self.inner.clock.now());
        let mut place = Place { inner: &self.inner, ticket: Some(need.ticket) };
        // Also when there was no room: the route may have changed, and connections with it.
        self.inner.act();
        entered.map_err(LendError::Full)?;
        let answer = tell.await;
        place.ticket = None;
        // A channel that closes unanswered means that the pool is being taken down.
        answer.unwrap_or(Err(LendError::DeadlinePassed { step: Step::Admission }))
    }

    /// Whether a connection to `peer` is being opened.
    pub(crate) fn is_connecting(&self, peer: PeerId) -> bool {
        self.inner.state.borrow().pool.peer_usage(peer).connecting > 0
    }

    /// The peer at the end of `route` has said that it will not do this over HTTP/2.
    pub(crate) fn avoid_http2(&self, route: &Route) {
        let peer = self.inner.state.borrow().peer_ids.get(&route.peer_key).copied();
        if let Some(peer) = peer {
            self.inner.avoid_http2(peer);
        }
    }

    /// What the pool holds.
    pub(crate) fn usage(&self) -> PoolUse {
        self.inner.state.borrow().pool.usage()
    }
}

impl Drop for Lending {
    /// Each open connection keeps the pool, so without this it would last until they have been idle for long.
    fn drop(&mut self) {
        let closed = self.inner.state.borrow_mut().retire_all(self.inner.clock.now());
        // At once: a farewell needs somebody to wait for it.
        closed.into_iter().for_each(|conn| self.inner.close(conn, Closing::AtOnce));
        self.inner.arm();
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
    /// A request comes in.
    fn enter(
        &mut self,
        route: &Rc<Route>,
        need: Need,
        mark: &Mark,
        told: oneshot::Sender<Result<Lent, LendError>>,
        now: Instant,
    ) -> Result<(), PoolFull> {
        let peer = self.peer_for(route, now);
        mark.waits_for(peer);
        let Need { ticket, class, lane, deadline, fresh } = need;
        self.pool.handle_request(Want { ticket, peer, class, lane, deadline, fresh }, now)?;
        self.waiting.insert(ticket, Waiting { peer, told });
        Ok(())
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
                Some(Action::GiveUp { conn }) => self.give_up(conn),
                Some(Action::Revoke { conn }) => self.close(conn, Closing::AtOnce),
                Some(Action::Stow { conn }) => self.stow(conn),
                Some(Action::Close { conn }) => self.close(conn, Closing::InGoodOrder),
            }
        }
        // Whoever was to be told has been.
        self.state.borrow_mut().failures.clear();
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
        if let Some(Connection { stage: Stage::Opening(opening), .. }) = state.connections.get_mut(&conn)
            && let Some(go) = opening.go.take()
        {
            opening.since = self.clock.now();
            let _gone = go.send(());
        }
    }

    fn lend(self: &Rc<Self>, ticket: Ticket, lease: Lease) {
        let mut state = self.state.borrow_mut();
        let told = state.waiting.remove(&ticket).map(|waiting| waiting.told);
        let held = state.connections.get_mut(&lease.conn).and_then(Connection::lend);
        drop(state);
        // Every end of a connection is told to the machine in the same breath, so that it lends none that is gone.
        let (sender, gauge, remote) = held.expect("the pool lends only what is open and not lent");
        let lent = Lent::new(Rc::clone(self), lease, sender, gauge, remote);
        if let Some(told) = told {
            // A caller that has just gone drops the answer, and with it the lease goes back.
            let _gone = told.send(Ok(lent));
        }
    }

    fn stow(&self, conn: ConnId) {
        let mut state = self.state.borrow_mut();
        let held = state.connections.get_mut(&conn).map(|connection| &mut connection.stage);
        if let Some(Stage::Open(OpenConnection { sender: Some(Sender::Http1(sender)), .. })) = held {
            sender.stow();
        }
    }

    fn close(&self, conn: ConnId, closing: Closing) {
        let Some(closed) = self.state.borrow_mut().connections.remove(&conn) else { return };
        match closed.stage {
            // Without its last sender it says GOAWAY and ends, in its own task.
            Stage::Open(open) if open.http2 && closing == Closing::InGoodOrder => {
                tokio::task::spawn_local(async move {
                    drop(open.sender);
                    let gone = tokio::time::timeout(FAREWELL_MAX, open.gauge.gone()).await;
                    gone.unwrap_or_else(|_| open.gauge.cut());
                });
            }
            Stage::Open(open) if open.http2 => open.gauge.cut(),
            _ => closed.task.iter().for_each(AbortHandle::abort),
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
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    AtOnce,
    InGoodOrder,
}

impl Connection {
    fn lend(&mut self) -> Option<(Sender, Rc<Gauge>, SocketAddr)> {
        let Stage::Open(open) = &mut self.stage else { return None };
        let sender = match &open.sender {
            Some(Sender::Http2(shared)) => Sender::Http2(shared.clone()),
            _ => open.sender.take()?,
        };
        Some((sender, Rc::clone(&open.gauge), open.remote))
    }
}

async fn run_timer(inner: Weak<Inner>) {
    while let Some(pool) = inner.upgrade() {
        let next = pool.state.borrow().pool.poll_timeout().unwrap_or(Instant::FAR_FUTURE);
        pool.armed.set(next);
        let (alarm, rearm) = (pool.opener.around.alarm.clone(), Rc::clone(&pool.rearm));
        // While nothing happens, this task must not be what keeps the pool.
        drop(pool);
        let is_due = tokio::select! {
            biased;
            () = rearm.notified() => false,
            () = alarm.until(next) => true,
        };
        if let Some(pool) = inner.upgrade().filter(|_| is_due) {
            pool.armed.set(Instant::FAR_FUTURE);
            pool.state.borrow_mut().pool.handle_timeout(pool.clock.now());
            pool.act();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.rearm.notify_one();
    }
}

/// How long a connection may take to say goodbye.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
