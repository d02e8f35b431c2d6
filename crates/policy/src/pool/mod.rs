//! The Connection Pool: alone decides that a connection is opened, and lends what is open.
//!
//! A request waits for its peer, in its class and lane. It is served with what is open, if there is
//! anything; else the pool dials, as far as the limits allow. Whoever runs the pool does what
//! [`Pool::poll`] says and tells it what came of it.
//!
//! # The states of a connection
//! ```text
//!  Action::Dial             Action::Handshake
//!      │                          │
//!      ▼       dialled            ▼         connected           ┌────────── returned ──────────┐
//!  dialling ───────────▶ queued ─────▶ handshaking ───▶ idle ───┴─ Action::Lend ──▶ lent ──────┤
//!      │                    │             │              │ ▲                         │ overdue │
//!      ├──── failed ────────┴─────────────┤              │ └─────────────────────────┘ and     │
//!      │        │                         │   too long   │         last one returned   wanted  │ draining,
//!      │        ▼                         │   or too many│                             │       │ spent
//!      │       gone                       │   idle, place│                             │       │
//!      │                                  │       needed,│                             │       │
//!      └── too long, and place needed ────┘      draining│                             │       │
//!                      ▼                                 ▼                             ▼       ▼
//!               Action::GiveUp                     Action::Close               Action::Revoke  draining
//!                                                                            last one returned: Action::Close
//! ```
//! Plain TCP may go from *dialling* to *connected* at once. A connection counts against
//! [`PoolLimits::connections_max`] from *dialling* until it is gone; after `Close`, `Revoke` and `GiveUp` it is.
//!
//! # Choices
//! - A peer whose protocol is not known gets one connection at a time, for that one may carry everything;
//!   a second one when the first makes no progress for [`PATIENCE`].
//! - A shared connection (HTTP/2) is revoked only when every lease on it is overdue: the others did nothing
//!   wrong. So that it cannot be kept for ever, it is lent no further once it has been busy without a pause
//!   for as long as a lease lasts, while another peer waits for nothing but its slot.
//! - A lease is overdue at its deadline, and revoked then or later: as soon as somebody waits for what it
//!   holds. No more is revoked than is needed.
//! - A dial or a handshake lasts for as long as whoever runs the pool lets it. When somebody waits for the place
//!   that it holds, it lasts for [`PoolLimits::dial_patience`] or [`PoolLimits::handshake_patience`] and no
//!   longer: those of the limited lane go first, of each lane the oldest, and no more than are needed. Not for
//!   the sake of the same peer, which would only be tried again.
//! - A failed attempt is reported to every request that waits for the peer, unless another connection of the
//!   peer can serve them; then it is reported only to those which that one cannot serve, and the peer is not
//!   dialled again for [`PAUSE`]. A connection that closes before it carried anything has failed, too.
//! - What carries one request at a time and has been idle for [`STOW_AFTER`] is stowed, once; it counts and is lent as
//!   before. Thousands are idle, and most of what a connection takes only a request needs.
//! - Of more idle connections than [`PoolLimits::idle_per_peer_max`], the longest idle are closed when they have been so for
//!   [`SURPLUS_AFTER`]. At once, each burst of requests would open what the one before it had closed.
//! - Who has TCP up and waits for a TLS slot makes its lane stop dialling: at most one round of handshakes waits.
//! - Who needs a connection of its peer and a slot of the limited lane, and never finds both free, is promised
//!   the slot: it is kept, one at a time, until such a connection comes back.
//!
//! # Units
//! Limits count connections and requests. Times are [`Instant`]s and [`Duration`]s; a fact that is told with
//! an earlier time than the one before it is taken to happen at the same time.
//!
//! # Cost
//! A request on a warm connection and its return touch a handful of hash maps and allocate nothing. What a
//! waiting request costs depends on the limits per peer, never on how many wait or how many peers there are.
//!
//! # Source
//! F12 (lend, bound, revoke, report), F5 (the limited lane), F14 (weights, no starvation), F19 (the lowest
//! are shed first), K14 (every queue is bounded), K15 (what has expired is never sent).

mod census;
mod connecting;
mod connection;
mod fair;
mod lending;
mod limits;
mod list;
mod memory;
mod needs;
mod patience;
mod peer;
mod pressure;
mod promise;
mod rings;
mod rotation;
mod terms;
mod turns;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_words::{ConnId, Instant, PeerId, Ticket};

pub use limits::{InvalidPoolLimits, PoolLimits};
pub use terms::{Action, Capacity, Lease, PeerLimits, PeerUse, PoolFull, PoolUse, Refusal, Returned, Want};

use connection::{Conn, Held, Idleness};
use fair::Strides;
use list::{Key, List, Lists};
use memory::Memory;
use patience::Efforts;
use peer::{Peer, Waiter};
use promise::Promise;
use rings::Rings;
use turns::{LANE_COSTS, WAYS, Way};

/// The Connection Pool (F12), as a machine.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    /// Those of peers that have some of their own.
    own: FxHashMap<PeerId, PeerLimits>,
    now: Instant,
    usage: PoolUse,
    actions: VecDeque<Action>,

    peers: FxHashMap<PeerId, Peer>,
    memory: Memory,
    /// Peers to look at again, and when.
    looks: BTreeSet<(Instant, PeerId)>,

    conns: FxHashMap<ConnId, Conn>,
    conns_opened: u64,
    /// Connections that wait for their peer.
    efforts: Efforts,
    /// Connections that wait for a TLS slot, by class and lane.
    dialled: Rings<ConnId, 2>,
    /// Idle connections and since when, the longest idle first, by their [`Idleness`].
    idle: [List; 3],
    idle_since: Lists<(ConnId, Instant)>,
    /// Connections all of whose leases are overdue, by lane.
    revocable: [List; 2],
    revocable_conns: Lists<ConnId>,

    /// Slots that shared connections hold without a pause, and since when, by lane: those still lent on,
    /// and those that rest.
    tenures: Lists<(ConnId, Instant)>,
    busy: [List; 2],
    resting: [List; 2],

    leases: Lists<Held>,
    /// Leases before their deadline, the first to end first.
    in_time: List,
    overdue: List,
    lease_keys: FxHashMap<(ConnId, Ticket), Key>,

    waiters: Lists<Waiter>,
    waiter_keys: FxHashMap<Ticket, Key>,
    deadlines: BTreeSet<(Instant, Key)>,
    /// Counts waiting requests and opened connections, to tell which came first.
    turn: u64,
    /// Peers that wait to be served, by way and class.
    seats: Rings<PeerId, WAYS>,
    /// A slot of the limited lane that is kept for somebody.
    promise: Option<Promise>,
    /// What a turn costs a class in a lane, within one peer.
    strides: Strides<2>,
}

impl Pool {
    /// An empty pool. `limits` should have passed [`PoolLimits::validate`]: with a limit of zero, some
    /// requests wait until their deadline.
    pub fn new(limits: PoolLimits) -> Self {
        let strides = fair::strides(&limits.weights, LANE_COSTS);
        let seats = Rings::new(fair::strides(&limits.weights, Way::COSTS));
        Self {
            limits,
            own: FxHashMap::default(),
            now: Instant::ZERO,
            usage: PoolUse::default(),
            actions: VecDeque::new(),
            peers: FxHashMap::default(),
            memory: Memory::new(),
            looks: BTreeSet::new(),
            conns: FxHashMap::default(),
            conns_opened: 0,
            efforts: Efforts::default(),
            dialled: Rings::new(strides),
            idle: [List::EMPTY; 3],
            idle_since: Lists::new(),
            revocable: [List::EMPTY; 2],
            revocable_conns: Lists::new(),
            tenures: Lists::new(),
            busy: [List::EMPTY; 2],
            resting: [List::EMPTY; 2],
            leases: Lists::new(),
            in_time: List::EMPTY,
            overdue: List::EMPTY,
            lease_keys: FxHashMap::default(),
            waiters: Lists::new(),
            waiter_keys: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            turn: 0,
            seats,
            promise: None,
            strides,
        }
    }

    /// What is to be done next. Drain it to `None` after every fact.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to tell [`Pool::handle_timeout`], if no fact comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lease = self.leases.front(&self.in_time).map(|held| held.deadline);
        let idle = self.longest_idle().map(|(_, since)| since + self.limits.idle_max);
        let older = |idleness: Idleness, lasts: Duration| {
            self.idle_since.front(&self.idle[idleness as usize]).map(|(_, since)| *since + lasts)
        };
        let stow = older(Idleness::Fresh, STOW_AFTER);
        let surplus = older(Idleness::Stowed, SURPLUS_AFTER);
        let request = self.deadlines.first().map(|(deadline, _)| *deadline);
        let look = self.looks.first().map(|(at, _)| *at);
        let promise = self.promise.map(|promise| promise.until);
        let (rest, given_up) = (self.next_rest_at(), self.next_given_up_at());
        [lease, idle, stow, surplus, request, look, promise, rest, given_up].into_iter().flatten().min()
    }

    /// Time has passed: requests expire, leases become overdue, idle connections are stowed, and later closed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.expire_requests();
        self.expire_leases();
        self.close_long_idle();
        self.stow_idle();
        self.close_surplus();
        self.expire_promise();
        self.look_again();
        self.settle();
    }

    /// What the pool holds now.
    pub fn usage(&self) -> PoolUse {
        self.usage
    }

    /// What the pool holds for `peer` now.
    pub fn peer_usage(&self, peer: PeerId) -> PeerUse {
        let Some(peer) = self.peers.get(&peer) else { return PeerUse::default() };
        let mut held =
            PeerUse { waiting: peer.room.as_ref().map_or(0, |room| room.waiting), ..PeerUse::default() };
        for &id in &peer.conns {
            let conn = self.conn(id);
            let footprint = conn.footprint();
            held.connecting += u32::from(!conn.is_open());
            held.idle += footprint.idle;
            held.leases += footprint.leases;
        }
        held
    }

    /// Whether nothing is held for `peer` any more, so that its number may be forgotten.
    pub fn is_unused(&self, peer: PeerId) -> bool {
        !self.peers.contains_key(&peer)
    }

    /// From now on `peer` has bounds of its own, or no longer. What is held already stays.
    pub fn bound(&mut self, peer: PeerId, limits: Option<PeerLimits>) {
        let own = limits.unwrap_or_default();
        match limits {
            Some(limits) => self.own.insert(peer, limits),
            None => self.own.remove(&peer),
        };
        if let Some(known) = self.peers.get_mut(&peer) {
            known.own = own;
        }
    }

    fn exclusive_max(&self, peer: &Peer) -> u32 {
        peer.own.connections_max.unwrap_or(self.limits.exclusive_per_peer_max)
    }

    fn shared_max(&self, peer: &Peer) -> u32 {
        let usual = self.limits.shared_per_peer_max;
        peer.own.connections_max.map_or(usual, |own| own.min(usual))
    }

    fn idle_max(&self, peer: &Peer) -> u32 {
        peer.own.connections_max.unwrap_or(self.limits.idle_per_peer_max)
    }

    /// How many connections a peer may have, whatever they speak.
    fn total_max(&self, peer: &Peer) -> u32 {
        let usual = self.limits.exclusive_per_peer_max.saturating_add(self.limits.shared_per_peer_max);
        peer.own.connections_max.unwrap_or(usual)
    }

    fn waiting_max(&self, peer: PeerId) -> u32 {
        let own = self.own.get(&peer).and_then(|own| own.waiting_max);
        own.unwrap_or(self.limits.waiting_per_peer_max)
    }

    /// The number of `peer` will be given to another: what it spoke is forgotten. Only for numbers that
    /// are used again, and only when [`Pool::is_unused`].
    pub fn forget(&mut self, peer: PeerId) {
        self.own.remove(&peer);
        self.memory.forget(peer);
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn conn(&self, id: ConnId) -> &Conn {
        self.conns.get(&id).expect("a connection is listed no longer than it is held")
    }

    fn peer_mut(&mut self, id: PeerId) -> &mut Peer {
        self.peers.get_mut(&id).expect("a peer is kept while it has a connection or a request")
    }

    /// Changes a connection, and with it the counts.
    fn change<R>(&mut self, id: ConnId, change: impl FnOnce(&mut Conn) -> R) -> R {
        let conn = self.conns.get_mut(&id).expect("a connection is listed no longer than it is held");
        let (before, stood, counted) = (conn.footprint(), conn.standing(), conn.counted());
        let result = change(conn);
        self.usage.replace(&before, &conn.footprint());
        self.efforts.replace(id, stood, conn.standing());
        let (peer, counts) = (conn.peer, conn.counted());
        if counts != counted {
            self.peer_mut(peer).census.replace(&counted, &counts);
        }
        result
    }

    /// Looks at what the requests for `peer` need now, after something about it has changed.
    fn reseat(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.room.is_none() {
            if peer.conns.is_empty() {
                self.peers.remove(&id);
            }
            self.review_promise(id);
            return;
        }
        let needs = self.relieve(id);
        let room = self.peers.get(&id).and_then(|peer| peer.room.as_ref()).expect("somebody waits in it");
        let taken = room.seats.map(|seat| seat.map(|seat| seat.class));
        for way in Way::ALL.into_iter().filter(|way| taken[*way as usize] != needs.seats[*way as usize]) {
            self.seat(id, way, needs.seats[way as usize]);
        }
        self.look_at(id, needs.look_at.filter(|at| *at < Instant::FAR_FUTURE));
    }

    fn look_at(&mut self, id: PeerId, at: Option<Instant>) {
        let peer = self.peers.get_mut(&id).expect("a peer is kept while it has a connection or a request");
        if peer.look_at == at {
            return;
        }
        if let Some(before) = std::mem::replace(&mut peer.look_at, at) {
            self.looks.remove(&(before, id));
        }
        self.looks.extend(at.map(|at| (at, id)));
    }

    fn look_again(&mut self) {
        while let Some(&(at, id)) = self.looks.first().filter(|(at, _)| *at <= self.now) {
            self.looks.remove(&(at, id));
            self.peer_mut(id).look_at = None;
            self.reseat(id);
        }
    }
}

/// How long a peer whose protocol is not known may take to connect before a second connection is tried.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection is idle before it is stowed: longer than the pauses of whoever uses it all the time, and
/// short enough that of a thousand opened in a row for one request each, few are unstowed at a time.
pub const STOW_AFTER: Duration = Duration::from_millis(100);
/// How long more idle connections of a peer last than are kept for it: longer than the pauses of a program that asks in
/// bursts, to which each of them would have to be opened anew.
pub const SURPLUS_AFTER: Duration = Duration::from_secs(10);
/// How long a peer is not dialled after a failure, while another connection of it can serve.
pub const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
