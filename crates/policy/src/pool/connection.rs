//! One connection, as the pool sees it.

use smallvec::SmallVec;
use southbridge_words::{Class, ConnId, Instant, PeerId, Ticket};

use super::list::Key;
use super::patience::{Effort, Standing};
use super::terms::PoolUse;
use crate::lane::Lane;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// TCP is being established.
    Dialling,
    /// TCP is up; TLS waits for its turn, at this place in its queue.
    Queued(Key),
    /// TLS is being established.
    Handshaking,
    /// Requests may be sent.
    Open,
}

/// What the pool knows of a connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: PeerId,
    pub(super) stage: Stage,
    /// When that stage began.
    pub(super) since: Instant,
    /// The most urgent class, and the better lane, of those it was opened for.
    pub(super) class: Class,
    pub(super) lane: Lane,
    /// The turn at which it was opened: comparable with the turn at which a request came.
    pub(super) opened: u64,
    pub(super) shared: bool,
    /// Requests it carries at a time.
    pub(super) streams_max: u32,
    pub(super) leases: SmallVec<[Key; 1]>,
    pub(super) limited_leases: u32,
    pub(super) overdue_leases: u32,
    /// Whether it has carried a request.
    pub(super) used: bool,
    /// Whether it takes no new requests.
    pub(super) draining: bool,
    /// How it holds its slot, while it is lent: among all connections, and in the limited lane.
    pub(super) tenures: [Option<Tenure>; 2],
    /// Its place among the idle.
    pub(super) idle: Option<Idle>,
    /// Its place among those that may be revoked.
    pub(super) revocable: Option<(Lane, Key)>,
}

/// A slot that is held without a pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenure {
    /// Its place among the tenures.
    pub(super) key: Key,
    /// Whether it has lasted for too long, and nothing more is lent on it.
    pub(super) resting: bool,
}

/// A place among the idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) key: Key,
    pub(super) idleness: Idleness,
}

/// For how long it has been idle, as far as that matters. Each of them has a list of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Idleness {
    /// It was in use until just now.
    Fresh,
    /// For [`STOW_AFTER`](super::STOW_AFTER): it is stowed.
    Stowed,
    /// For [`SURPLUS_AFTER`](super::SURPLUS_AFTER): no more are kept for its peer than the limits say.
    Kept,
}

/// A lease as the pool remembers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) conn: ConnId,
    pub(super) ticket: Ticket,
    pub(super) lane: Lane,
    pub(super) deadline: Instant,
    /// Its index among the leases of its connection.
    pub(super) at: u32,
    pub(super) overdue: bool,
}

impl Conn {
    pub(super) fn new(peer: PeerId, class: Class, lane: Lane, now: Instant) -> Self {
        Self {
            peer,
            stage: Stage::Dialling,
            since: now,
            class,
            lane,
            opened: 0,
            shared: false,
            streams_max: 0,
            leases: SmallVec::new(),
            limited_leases: 0,
            overdue_leases: 0,
            used: false,
            draining: false,
            tenures: [None; 2],
            idle: None,
            revocable: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub(super) fn is_idle(&self) -> bool {
        self.is_open() && self.leases.is_empty() && !self.draining
    }

    /// Whether one more request of `lane` can be sent on it now.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        let rests = self.rests(Lane::Open) || (lane == Lane::Limited && self.rests(Lane::Limited));
        let has_stream = (self.leases.len() as u64) < u64::from(self.streams_max);
        self.is_open() && !self.draining && has_stream && !rests
    }

    /// Whether it is to give back its slot: the one among all connections, or the one in the limited lane.
    pub(super) fn rests(&self, lane: Lane) -> bool {
        self.tenures[lane as usize].is_some_and(|tenure| tenure.resting)
    }

    /// Whether it may hold such a slot for as long as it is busy.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        self.shared
            && match lane {
                Lane::Open => !self.leases.is_empty(),
                Lane::Limited => self.limited_leases > 0,
            }
    }

    /// Whether it counts for the limited lane: opened for it, or lent to it.
    pub(super) fn is_limited(&self) -> bool {
        match self.stage {
            Stage::Open => self.limited_leases > 0,
            _ => self.lane == Lane::Limited,
        }
    }

    /// The lane it counts for.
    pub(super) fn counted_lane(&self) -> Lane {
        if self.is_limited() { Lane::Limited } else { Lane::Open }
    }

    /// Whether taking it back cuts off nobody who is in time. A shared connection has many holders, and
    /// is taken back only when all of them are overdue.
    pub(super) fn is_revocable(&self) -> bool {
        self.overdue_leases > 0 && self.overdue_leases as usize == self.leases.len()
    }

    /// What it waits for the peer with, if it does.
    pub(super) fn standing(&self) -> Option<Standing> {
        let effort = match self.stage {
            Stage::Dialling => Effort::Dial,
            Stage::Handshaking => Effort::Handshake,
            Stage::Queued(_) | Stage::Open => return None,
        };
        Some((effort, self.lane, self.since))
    }

    /// What it adds to the counts of the pool.
    pub(super) fn footprint(&self) -> PoolUse {
        let limited = u32::from(self.is_limited());
        let dials = u32::from(self.stage == Stage::Dialling);
        let handshakes = u32::from(self.stage == Stage::Handshaking);
        PoolUse {
            connections: 1,
            dials,
            handshakes,
            limited_dials: dials & limited,
            limited_handshakes: handshakes & limited,
            limited_connections: limited,
            idle: u32::from(self.is_idle()),
            leases: u32::try_from(self.leases.len()).unwrap_or(u32::MAX),
            waiting: 0,
        }
    }
}

impl PoolUse {
    /// Counts `after` in the place of `before`.
    pub(super) fn replace(&mut self, before: &Self, after: &Self) {
        let swap = |count: &mut u32, before: u32, after: u32| *count = *count - before + after;
        swap(&mut self.connections, before.connections, after.connections);
        swap(&mut self.dials, before.dials, after.dials);
        swap(&mut self.handshakes, before.handshakes, after.handshakes);
        swap(&mut self.limited_dials, before.limited_dials, after.limited_dials);
        swap(&mut self.limited_handshakes, before.limited_handshakes, after.limited_handshakes);
        swap(&mut self.limited_connections, before.limited_connections, after.limited_connections);
        swap(&mut self.idle, before.idle, after.idle);
        swap(&mut self.leases, before.leases, after.leases);
        swap(&mut self.waiting, before.waiting, after.waiting);
    }
}
