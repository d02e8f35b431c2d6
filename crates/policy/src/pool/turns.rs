//! Who is served next with what all peers share: slots for connections, dials and handshakes.
//!
//! A peer with waiting requests has a *seat* for each way in which it could be served, in the queue of
//! the most urgent class that waits there. Classes take turns by weight, peers of one class by rotation,
//! so that a thousand requests for one peer do not delay the one request for another.

use southbridge_words::{Class, ConnId, PeerId};

use super::Pool;
use super::connection::Stage;
use super::patience::Places;
use super::peer::{LANES, Seat};
use super::terms::Action;
use crate::lane::Lane;

/// In what way a waiting request can be served next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// On a connection of its own peer, with nothing else needed.
    Warm,
    /// On a connection of its own peer, once the limited lane has room for it.
    WarmLimited,
    /// By a dial for the open lane.
    Dial,
    /// By a dial for the limited lane.
    DialLimited,
    /// Not yet: by the promise of a slot of the limited lane, for when a connection of its own peer is free.
    Promise,
}

impl Way {
    pub(super) const ALL: [Self; WAYS] =
        [Self::Warm, Self::WarmLimited, Self::Dial, Self::DialLimited, Self::Promise];

    /// What a turn costs, for each way. A dial costs a handshake, so a warm connection may serve eight
    /// requests of its own peer before it must make room for another's.
    pub(super) const COSTS: [u64; WAYS] = [1, LANE_COSTS[1], 8, 8 * LANE_COSTS[1], LANE_COSTS[1]];
}

impl Pool {
    /// Gives away whatever is free to whoever's turn it is.
    pub(super) fn settle(&mut self) {
        // A turn can make connections rest or wake, and that can give turns. It ends by itself; the bound
        // is there because an endless loop would be worse than a late turn.
        for _ in 0..ROTATIONS_MAX {
            while self.start_handshake() || (self.usage.waiting > 0 && self.take_turn()) || self.give_up() {}
            if !self.rotate() {
                break;
            }
        }
    }

    /// How many seats of `way` are taken.
    pub(super) fn seated(&self, way: Way) -> u32 {
        self.seats.len(way as usize)
    }

    /// Gives `peer` the seat of `way` in the queue of `class`, or none.
    pub(super) fn seat(&mut self, peer: PeerId, way: Way, class: Option<Class>) {
        let Some(room) = self.peers.get_mut(&peer).and_then(|peer| peer.room.as_mut()) else { return };
        let taken = &mut room.seats[way as usize];
        if taken.map(|seat| seat.class) == class {
            return;
        }
        if let Some(seat) = taken.take() {
            self.seats.remove(way as usize, seat.class, seat.key);
        }
        *taken = class.map(|class| {
            let key = self.seats.push_back(way as usize, class, peer);
            Seat { class, key }
        });
    }

    fn is_seated(&self, peer: PeerId, way: Way) -> bool {
        let room = self.peers.get(&peer).and_then(|peer| peer.room.as_ref());
        room.is_some_and(|room| room.seats(way) > 0)
    }

    fn start_handshake(&mut self) -> bool {
        if self.dialled.are_empty() {
            return false;
        }
        let open = LANES.map(|lane| self.lacking_for_handshake(lane).is_none());
        let Some((lane, class, key, conn)) = self.dialled.next(open) else { return false };
        self.dialled.remove(lane, class, key);
        let now = self.now;
        let peer = self.change(conn, |conn| {
            (conn.stage, conn.since) = (Stage::Handshaking, now);
            conn.peer
        });
        self.peer_mut(peer).tried_at = self.now;
        self.actions.push_back(Action::Handshake { conn });
        self.reseat(peer);
        true
    }

    fn take_turn(&mut self) -> bool {
        if self.seats.are_empty() {
            return false;
        }
        let Some((way, class, _, peer)) = self.seats.next(self.open_ways()) else { return false };
        let way = Way::ALL[way];
        // It queues again behind the others, if it needs more than this.
        self.seat(peer, way, None);
        match way {
            Way::Warm => self.turn_warm(peer, way),
            Way::WarmLimited => {
                self.make_room_in_limited_lane();
                self.turn_warm(peer, way);
            }
            Way::Dial => self.turn_dial(peer, class, Lane::Open),
            Way::DialLimited => {
                self.make_room_in_limited_lane();
                self.turn_dial(peer, class, Lane::Limited);
            }
            Way::Promise => {
                self.make_room_in_limited_lane();
                self.make_promise(peer);
            }
        }
        true
    }

    fn turn_warm(&mut self, peer: PeerId, way: Way) {
        let lent = self.lend_next(peer, &[way]);
        self.reseat(peer);
        if !lent {
            // What others do can leave a seat behind the times. It must not come again, or it would for ever.
            debug_assert!(!self.is_seated(peer, way), "a seat is given only to who can be served");
            self.seat(peer, way, None);
        }
    }

    fn turn_dial(&mut self, peer: PeerId, class: Class, lane: Lane) {
        self.make_room_for_connection();
        self.dial(peer, class, lane);
        self.reseat(peer);
    }

    /// Which ways lead somewhere now.
    fn open_ways(&self) -> [bool; WAYS] {
        Way::ALL.map(|way| self.lacking(way).is_none() && !self.is_held_up(way))
    }

    /// What is lacking to serve somebody in this way.
    pub(super) fn lacking(&self, way: Way) -> Places {
        let (usage, limits) = (&self.usage, &self.limits);
        let limited = || Places::LIMITED_CONNECTION.when(!self.can_free_slot(Lane::Limited));
        let dial = || {
            Places::CONNECTION.when(!self.can_free_slot(Lane::Open))
                | Places::DIAL.when(usage.dials >= limits.dials_max)
        };
        match way {
            Way::Warm => Places::default(),
            Way::WarmLimited | Way::Promise => limited(),
            Way::Dial => dial(),
            Way::DialLimited => {
                let many = usage.limited_dials >= limits.limited_dials_max;
                dial() | limited() | Places::LIMITED_DIAL.when(many)
            }
        }
    }

    /// Whether a round of connections waits for TLS already: who has dialled should not wait for long with TCP
    /// up, for the far side loses patience. Or whether somebody has a promise.
    pub(super) fn is_held_up(&self, way: Way) -> bool {
        let (lane, handshakes_max) = match way {
            Way::Warm | Way::WarmLimited => return false,
            Way::Promise => return self.promise.is_some(),
            Way::Dial => (Lane::Open, self.limits.handshakes_max),
            Way::DialLimited => (Lane::Limited, self.limits.limited_handshakes_max),
        };
        self.dialled.len(lane as usize) >= handshakes_max
    }

    /// Whether there is a slot, or could be: among all connections, or in the limited lane.
    pub(super) fn can_free_slot(&self, lane: Lane) -> bool {
        let can_revoke = |lane: Lane| !self.revocable[lane as usize].is_empty();
        match lane {
            Lane::Open => {
                self.usage.connections < self.limits.connections_max
                    || self.idle.iter().any(|list| !list.is_empty())
                    || can_revoke(Lane::Open)
                    || can_revoke(Lane::Limited)
            }
            Lane::Limited => self.limited_lane_has_room() || can_revoke(Lane::Limited),
        }
    }

    pub(super) fn limited_lane_has_room(&self) -> bool {
        let promised = u32::from(self.promise.is_some());
        self.usage.limited_connections + promised < self.limits.limited_connections_max
    }

    /// Lets `conn`, which waits for its handshake or will, go in the queue of a more urgent request.
    pub(super) fn promote(&mut self, conn: ConnId, class: Class, lane: Lane) {
        let (stage, from, to) = self.change(conn, |conn| {
            let from = (conn.lane as usize, conn.class);
            conn.class = conn.class.min(class);
            conn.lane = conn.lane.min(lane);
            (conn.stage, from, (conn.lane as usize, conn.class))
        });
        if let Stage::Queued(key) = stage {
            self.dialled.transfer(from, to, key);
        }
    }
}

/// What a turn costs in each lane: the open one gets four for one of the other.
pub(super) const LANE_COSTS: [u64; 2] = [1, 4];
const ROTATIONS_MAX: u32 = 256;
pub(super) const WAYS: usize = 5;
