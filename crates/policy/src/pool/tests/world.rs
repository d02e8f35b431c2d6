//! A small world that does what the pool says, and holds it to its word.

use std::collections::BTreeMap;
use std::time::Duration;

use southbridge_words::{Class, ConnId, Instant, PeerId, Ticket};

use super::super::*;
use crate::lane::Lane;

/// A connection as the world sees it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) peer: PeerId,
    pub(super) stage: LineStage,
    /// Since when it is at that stage.
    pub(super) since: Instant,
    pub(super) capacity: Capacity,
    pub(super) leases: Vec<Lease>,
    pub(super) used: bool,
    pub(super) draining: bool,
    pub(super) stowed: bool,
    pub(super) idle_since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStage {
    Dialling,
    Dialled,
    Handshaking,
    Open,
}

impl Line {
    fn is_shared(&self) -> bool {
        self.stage == LineStage::Open && self.capacity != Capacity::Exclusive
    }

    fn streams_max(&self) -> usize {
        match self.capacity {
            Capacity::Exclusive => 1,
            Capacity::Shared { streams_max } => streams_max as usize,
        }
    }
}

/// The pool, what it was told, and what it said.
#[derive(Debug)]
pub(super) struct World {
    pub(super) pool: Pool,
    pub(super) limits: PoolLimits,
    pub(super) now: Instant,
    pub(super) lines: BTreeMap<ConnId, Line>,
    /// Those that wait, in the order they came.
    pub(super) waiting: BTreeMap<Ticket, Want>,
    pub(super) lent: BTreeMap<Ticket, Want>,
    pub(super) log: Vec<String>,
    tickets: u64,
}

impl World {
    pub(super) fn new(limits: PoolLimits) -> Self {
        Self {
            pool: Pool::new(limits.clone()),
            limits,
            now: Instant::ZERO + Duration::from_secs(1),
            lines: BTreeMap::new(),
            waiting: BTreeMap::new(),
            lent: BTreeMap::new(),
            log: Vec::new(),
            tickets: 0,
        }
    }

    pub(super) fn request(
        &mut self,
        peer: u32,
        class: Class,
        lane: Lane,
        patience: Duration,
        fresh: bool,
    ) -> Ticket {
        self.tickets += 1;
        let (ticket, deadline) = (Ticket(self.tickets), self.now + patience);
        let want = Want { ticket, peer: PeerId(peer), class, lane, deadline, fresh };
        self.waiting.insert(ticket, want);
        match self.pool.handle_request(want, self.now) {
            Ok(()) => {}
            Err(PoolFull { held, held_max, .. }) => {
                assert!(held >= held_max);
                self.waiting.remove(&ticket);
            }
        }
        self.obey();
        ticket
    }

    /// An unhurried request of the open lane.
    pub(super) fn ask(&mut self, peer: u32, class: Class) -> Ticket {
        self.request(peer, class, Lane::Open, HOUR, false)
    }

    /// The same, so many times.
    pub(super) fn ask_times(&mut self, times: u32, peer: u32, class: Class) {
        for _ in 0..times {
            self.ask(peer, class);
        }
    }

    /// An unhurried request of the limited lane.
    pub(super) fn ask_limited(&mut self, peer: u32, class: Class) -> Ticket {
        self.request(peer, class, Lane::Limited, HOUR, false)
    }

    /// What the pool has said since the last time.
    pub(super) fn said(&mut self) -> Vec<String> {
        self.log.drain(..).collect()
    }

    /// Connects `conn` all the way, one request at a time.
    pub(super) fn connect(&mut self, conn: u64) {
        self.connect_with(conn, Capacity::Exclusive);
    }

    /// Connects `conn` all the way.
    pub(super) fn connect_with(&mut self, conn: u64, capacity: Capacity) {
        self.dialled(ConnId(conn));
        self.connected(ConnId(conn), capacity);
    }

    /// The oldest lease on `conn` comes back, as good as new.
    pub(super) fn give_back(&mut self, conn: u64) {
        self.returned(ConnId(conn), 0, Returned::Reusable);
    }

    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        self.pool.handle_cancelled(ticket, self.now);
        self.obey();
    }

    pub(super) fn dialled(&mut self, conn: ConnId) {
        self.lines.get_mut(&conn).expect("a line").stage = LineStage::Dialled;
        self.pool.handle_dialled(conn, self.now);
        self.obey();
    }

    pub(super) fn connected(&mut self, conn: ConnId, capacity: Capacity) {
        let line = self.lines.get_mut(&conn).expect("a line");
        (line.stage, line.capacity, line.idle_since) = (LineStage::Open, capacity, self.now);
        self.pool.handle_connected(conn, capacity, self.now);
        self.obey();
    }

    pub(super) fn failed(&mut self, conn: ConnId) {
        self.lines.remove(&conn);
        self.pool.handle_connect_failed(conn, self.now);
        self.obey();
    }

    pub(super) fn returned(&mut self, conn: ConnId, at: usize, returned: Returned) {
        let line = self.lines.get_mut(&conn).expect("a line");
        let lease = line.leases.remove(at);
        line.draining |= returned == Returned::Spent;
        line.idle_since = self.now;
        self.lent.remove(&lease.ticket);
        self.pool.handle_returned(lease, returned, self.now);
        self.obey();
    }

    pub(super) fn draining(&mut self, conn: ConnId) {
        self.lines.get_mut(&conn).expect("a line").draining = true;
        self.pool.handle_draining(conn, self.now);
        self.obey();
    }

    pub(super) fn retired(&mut self, conn: ConnId) {
        self.lines.get_mut(&conn).expect("a line").draining = true;
        self.pool.handle_retired(conn, self.now);
        self.obey();
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        let line = self.lines.remove(&conn).expect("a line");
        self.lent.retain(|ticket, _| line.leases.iter().all(|lease| lease.ticket != *ticket));
        self.pool.handle_closed(conn, self.now);
        self.obey();
        self.give_back_in_vain(line);
    }

    pub(super) fn capacity(&mut self, conn: ConnId, streams_max: u32) {
        let line = self.lines.get_mut(&conn).expect("a line");
        if line.is_shared() {
            line.capacity = Capacity::Shared { streams_max };
        }
        self.pool.handle_capacity(conn, streams_max, self.now);
        self.obey();
    }

    /// The system has no descriptors left; whether there was something to give up.
    pub(super) fn exhausted(&mut self) -> bool {
        let relieved = self.pool.handle_exhausted(self.now);
        self.obey();
        relieved
    }

    /// Lets time pass, with every timeout at its time.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.pool.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now, "a timeout was missed");
            self.now = at;
            self.pool.handle_timeout(at);
            self.obey();
            assert!(self.pool.poll_timeout().is_none_or(|next| next > at), "the pool would spin");
        }
        self.now = end;
        self.pool.handle_timeout(end);
        self.obey();
    }

    /// Does what the pool says, checking each word.
    fn obey(&mut self) {
        let mut revoked = Vec::new();
        let (mut given_up, mut given) = (0, 0);
        while let Some(action) = self.pool.poll() {
            // Said of whatever is idle for a moment, and nobody's affair but the connection's.
            if !matches!(action, Action::Stow { .. }) {
                self.log.push(word(&action));
            }
            match action {
                Action::GiveUp { .. } => given_up += 1,
                Action::Dial { .. } | Action::Handshake { .. } | Action::Lend { .. } => given += 1,
                _ => {}
            }
            match action {
                Action::Dial { conn, peer } => self.obey_dial(conn, peer),
                Action::Handshake { conn } => {
                    let line = self.lines.get_mut(&conn).expect("a handshake on what was dialled");
                    assert_eq!(line.stage, LineStage::Dialled);
                    (line.stage, line.since) = (LineStage::Handshaking, self.now);
                }
                Action::Lend { ticket, lease } => self.obey_lend(ticket, lease),
                Action::Refuse { ticket, refusal } => {
                    let want = self.waiting.remove(&ticket).expect("a refusal for who waits");
                    match refusal {
                        Refusal::DeadlinePassed => assert!(want.deadline <= self.now),
                        Refusal::ConnectFailed { conn } => {
                            assert!(!self.lines.contains_key(&conn), "{conn} has not failed");
                        }
                    }
                }
                Action::Revoke { conn } => {
                    let line = self.lines.remove(&conn).expect("revokes what is lent");
                    assert!(!line.leases.is_empty());
                    assert!(
                        line.leases.iter().all(|lease| lease.deadline <= self.now),
                        "revoked before its time"
                    );
                    assert!(self.pool.usage().waiting > 0 || !self.waiting.is_empty(), "revoked for nobody");
                    revoked.push(line);
                }
                Action::GiveUp { conn } => self.obey_give_up(conn),
                Action::Stow { conn } => self.obey_stow(conn),
                Action::Close { conn } => {
                    if let Some(line) = self.lines.remove(&conn) {
                        assert!(line.leases.is_empty(), "{conn} is in use");
                        assert_eq!(line.stage, LineStage::Open);
                    }
                }
            }
            self.check_lines();
        }
        assert!(given_up <= given, "more was given up than was needed");
        revoked.into_iter().for_each(|line| self.give_back_in_vain(line));
        self.check_counts();
        self.pool.check();
    }

    /// Only what has been waited for with patience is given up, and only for somebody.
    fn obey_give_up(&mut self, conn: ConnId) {
        let line = self.lines.remove(&conn).expect("gives up what is on its way");
        let patience = match line.stage {
            LineStage::Dialling => self.limits.dial_patience,
            LineStage::Handshaking => self.limits.handshake_patience,
            LineStage::Dialled | LineStage::Open => panic!("{conn} is not what is waited for"),
        };
        assert!(line.since + patience <= self.now, "{conn} was given up before its time");
        let waits_for_tls = self.lines.values().any(|line| line.stage == LineStage::Dialled);
        assert!(waits_for_tls || !self.waiting.is_empty(), "given up for nobody");
    }

    /// Only what has been idle for long enough is stowed, and once.
    fn obey_stow(&mut self, conn: ConnId) {
        let line = self.lines.get_mut(&conn).expect("stows what is there");
        assert!(line.leases.is_empty() && !line.is_shared(), "{conn} is in use, or is for many");
        assert!(!std::mem::replace(&mut line.stowed, true), "{conn} is stowed already");
        assert!(line.idle_since + STOW_AFTER <= self.now, "{conn} was stowed before its time");
    }

    fn obey_dial(&mut self, conn: ConnId, peer: PeerId) {
        assert!(self.waiting.values().any(|want| want.peer == peer), "a dial for nobody");
        let (stage, since, capacity) = (LineStage::Dialling, self.now, Capacity::Exclusive);
        let line = Line {
            peer,
            stage,
            since,
            capacity,
            leases: Vec::new(),
            used: false,
            draining: false,
            idle_since: since,
            stowed: false,
        };
        assert!(self.lines.insert(conn, line).is_none(), "{conn} was used twice");
    }

    fn obey_lend(&mut self, ticket: Ticket, lease: Lease) {
        let want = self.waiting.remove(&ticket).expect("lends to who waits");
        let is_alike = |other: &Want| {
            (other.peer, other.class, other.lane, other.fresh)
                == (want.peer, want.class, want.lane, want.fresh)
        };
        let earlier = self.waiting.range(..ticket).find(|(_, other)| is_alike(other));
        assert_eq!(earlier, None, "{ticket} went before its turn");
        assert!(want.deadline > self.now, "lent to who has expired");
        assert_eq!((lease.ticket, lease.deadline), (ticket, self.now + self.limits.lease_max));
        let line = self.lines.get_mut(&lease.conn).expect("lends what is there");
        assert_eq!((line.peer, line.stage, line.draining), (want.peer, LineStage::Open, false));
        assert!(line.leases.len() < line.streams_max(), "lends what is free");
        assert!(!(want.fresh && line.used && !line.is_shared()), "a fresh one was asked for");
        assert_eq!(lease.reused, std::mem::replace(&mut line.used, true));
        line.leases.push(lease);
        line.stowed = false;
        self.lent.insert(ticket, want);
    }

    fn give_back_in_vain(&mut self, line: Line) {
        for lease in line.leases {
            self.lent.remove(&lease.ticket);
            let usage = self.pool.usage();
            self.pool.handle_returned(lease, Returned::Spent, self.now);
            assert_eq!(self.pool.usage(), usage);
            assert_eq!(self.pool.poll(), None);
        }
    }

    /// The bounds, as the world counts for itself. They hold after every single action.
    fn check_lines(&self) {
        let count = |is: &dyn Fn(&Line) -> bool| self.lines.values().filter(|line| is(line)).count() as u32;
        let limits = &self.limits;
        assert!(count(&|_| true) <= limits.connections_max);
        assert!(count(&|line| line.stage == LineStage::Dialling) <= limits.dials_max);
        assert!(count(&|line| line.stage == LineStage::Handshaking) <= limits.handshakes_max);
        let is_limited =
            |lease: &Lease| self.lent.get(&lease.ticket).is_some_and(|want| want.lane == Lane::Limited);
        assert!(count(&|line| line.leases.iter().any(is_limited)) <= limits.limited_connections_max);
    }

    /// What the pool says that it holds is what is there, and within bounds.
    fn check_counts(&self) {
        let (usage, limits) = (self.pool.usage(), &self.limits);
        let count = |is: &dyn Fn(&Line) -> bool| self.lines.values().filter(|line| is(line)).count() as u32;
        let is_open = |line: &Line| line.stage == LineStage::Open;
        assert_eq!(usage.connections, count(&|_| true));
        assert_eq!(usage.dials, count(&|line| line.stage == LineStage::Dialling));
        assert_eq!(usage.handshakes, count(&|line| line.stage == LineStage::Handshaking));
        assert_eq!(usage.idle, count(&|line| is_open(line) && line.leases.is_empty()));
        assert_eq!(usage.leases as usize, self.lent.len());
        assert_eq!(usage.waiting as usize, self.waiting.len());
        assert!(usage.limited_dials <= limits.limited_dials_max);
        assert!(usage.limited_handshakes <= limits.limited_handshakes_max);
        assert!(usage.limited_connections <= limits.limited_connections_max);
        for peer in (0..PEERS).map(PeerId) {
            let count = |is: &dyn Fn(&Line) -> bool| count(&|line| line.peer == peer && is(line));
            assert!(count(&|line| is_open(line) && !line.is_shared()) <= limits.exclusive_per_peer_max);
            assert!(count(&|_| true) <= limits.exclusive_per_peer_max + limits.shared_per_peer_max);
            let held = self.pool.peer_usage(peer);
            let is_idle = |line: &Line| is_open(line) && line.leases.is_empty();
            let for_long =
                |line: &Line| limits.idle_per_peer_max == 0 || line.idle_since + SURPLUS_AFTER < self.now;
            assert!(
                count(&|line| is_idle(line) && !line.draining && for_long(line)) <= limits.idle_per_peer_max
            );
            assert_eq!(held.idle, count(&|line| is_open(line) && line.leases.is_empty()));
            assert_eq!(held.connecting, count(&|line| !is_open(line)));
            assert_eq!(self.pool.is_unused(peer), held == PeerUse::default());
        }
    }
}

/// An action in a word or two.
fn word(action: &Action) -> String {
    match action {
        Action::Dial { conn, peer } => format!("dial {conn} to {peer}"),
        Action::Handshake { conn } => format!("handshake {conn}"),
        Action::Lend { ticket, lease } => format!("lend {} to {ticket}", lease.conn),
        Action::Refuse { ticket, refusal: Refusal::DeadlinePassed } => format!("too late for {ticket}"),
        Action::Refuse { ticket, refusal: Refusal::ConnectFailed { conn } } => {
            format!("{conn} failed {ticket}")
        }
        Action::Revoke { conn } => format!("revoke {conn}"),
        Action::GiveUp { conn } => format!("give up {conn}"),
        Action::Stow { conn } => format!("stow {conn}"),
        Action::Close { conn } => format!("close {conn}"),
    }
}

pub(super) const PEERS: u32 = 5;
pub(super) const HOUR: Duration = Duration::from_secs(3600);
