//! One peer, as the pool sees it, and the room where the requests for it wait.

use smallvec::SmallVec;
use southbridge_words::{Class, ConnId, Instant};

use super::census::Census;
use super::fair::Turns;
use super::list::{Key, List};
use super::terms::{PeerLimits, Want};
use super::turns::{WAYS, Way};
use crate::lane::Lane;

/// What a peer's connections can carry, as far as they have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// One request at a time.
    Exclusive,
    /// Many.
    Shared,
}

/// What the pool holds for one peer. Kept only while it holds anything.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// All its connections, the oldest first. Their number is bounded per peer.
    pub(super) conns: SmallVec<[ConnId; 4]>,
    /// Those lent to nobody, the longest idle first.
    pub(super) idle: SmallVec<[ConnId; 4]>,
    /// Those that carry many requests and take new ones, the oldest first.
    pub(super) shared: SmallVec<[ConnId; 2]>,
    /// All its connections, counted.
    pub(super) census: Census,
    pub(super) spoken: Option<Spoken>,
    /// What stands in the place of the bounds of all others.
    pub(super) own: PeerLimits,
    /// When it was last dialled, or a dial of it last made progress.
    pub(super) tried_at: Instant,
    /// Before when it is not dialled again, if one of its connections can serve meanwhile.
    pub(super) paused_until: Instant,
    /// When to look at it again.
    pub(super) look_at: Option<Instant>,
    /// Those who wait; absent when nobody does.
    pub(super) room: Option<Box<Room>>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) want: Want,
    /// The turn at which it came.
    pub(super) came: u64,
}

/// Where the requests for one peer wait: a queue for each class, lane and need of freshness.
#[derive(Debug)]
pub(super) struct Room {
    queues: [List; QUEUES],
    pub(super) waiting: u32,
    pub(super) fresh: [u32; 2],
    /// Shares what the peer's own connections carry among classes and lanes.
    pub(super) turns: Turns<2>,
    /// How often the open lane has gone since the limited one has, or found nobody waiting, while that was full.
    pub(super) passed: u32,
    /// Where the peer queues for what all peers share.
    pub(super) seats: [Option<Seat>; WAYS],
}

/// A peer's place in the queue of its most urgent class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) class: Class,
    pub(super) key: Key,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            queues: [List::EMPTY; QUEUES],
            waiting: 0,
            fresh: [0; 2],
            turns: Turns::new(),
            passed: 0,
            seats: [None; WAYS],
        }
    }

    pub(super) fn queue(&self, class: Class, lane: Lane, fresh: bool) -> &List {
        &self.queues[number(class, lane, fresh)]
    }

    /// The queue that `want` belongs in.
    pub(super) fn queue_of(&mut self, want: &Want) -> &mut List {
        &mut self.queues[number(want.class, want.lane, want.fresh)]
    }

    /// Whether somebody waits in `lane`.
    pub(super) fn has_waiting(&self, lane: Lane) -> bool {
        let queues = &self.queues[number(Class::ALL[0], lane, false)..][..Class::ALL.len() * 2];
        queues.iter().any(|queue| !queue.is_empty())
    }

    /// The kinds of requests that may wait in `lane`: those that want a fresh connection, and the others.
    pub(super) fn kinds(&self, lane: Lane) -> &'static [bool] {
        if self.fresh[lane as usize] > 0 { &[true, false] } else { &[false] }
    }

    /// How many peers' seats of `way` are this peer's: zero or one.
    pub(super) fn seats(&self, way: Way) -> u32 {
        u32::from(self.seats[way as usize].is_some())
    }
}

fn number(class: Class, lane: Lane, fresh: bool) -> usize {
    (lane as usize * Class::ALL.len() + class as usize) * 2 + usize::from(fresh)
}

pub(super) const LANES: [Lane; 2] = [Lane::Open, Lane::Limited];
const QUEUES: usize = Class::ALL.len() * LANES.len() * 2;
