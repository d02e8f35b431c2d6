//! The promise of a slot in the limited lane, for who never finds one free together with a connection.
//!
//! A request of the limited lane needs two things at once, when its peer may have no more connections: one of
//! those, and a slot of the lane. Where slots are few, each can be free again and again and never both: whenever
//! a connection comes back, others hold the slots, and the peer's open lane takes the connection. A peer whose
//! limited lane has been passed over like that for [`PASSED_MAX`] times queues for a *promise*: the next slot
//! that is free is kept for it, and the next of its connections to come back serves the limited lane. First the
//! slot, then the connection: each is certain to come, so nobody starves.
//!
//! There is one promise at a time. It ends when the limited lane of its peer has gone; when nobody waits there
//! any more, or nothing that could serve them is open or on its way; and after a lease's length, by when each of
//! the peer's connections should have come back. Until it is promised a slot again, a peer must have been passed
//! over as often again, which takes a peer that answers: a silent one keeps no slot for long.
//!
//! # Source
//! F14: no class and no host starves.

use southbridge_words::{Instant, PeerId};

use super::Pool;
use super::peer::{Peer, Room};
use crate::lane::Lane;

/// A slot of the limited lane that is kept for a peer. It counts as taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) peer: PeerId,
    /// Past when it is not kept any longer.
    pub(super) until: Instant,
}

impl Pool {
    /// Whether a slot of the limited lane is kept for `peer`.
    pub(super) fn is_promised(&self, peer: PeerId) -> bool {
        self.promise.is_some_and(|promise| promise.peer == peer)
    }

    /// Whether `peer`, where `room` waits, is to queue for a promise.
    pub(super) fn deserves_promise(&self, peer: &Peer, room: &Room) -> bool {
        room.passed >= PASSED_MAX && self.can_use_promise(peer, room)
    }

    /// Keeps a slot of the limited lane, which must have one, for `peer`.
    pub(super) fn make_promise(&mut self, peer: PeerId) {
        self.promise = Some(Promise { peer, until: self.now + self.limits.lease_max });
        if let Some(room) = &mut self.peer_mut(peer).room {
            room.passed = 0;
        }
        self.reseat(peer);
    }

    /// Ends the promise to `id` if it is of no use any more. What its peer needs is not looked at.
    pub(super) fn review_promise(&mut self, id: PeerId) {
        if !self.is_promised(id) {
            return;
        }
        let used = self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.room.as_ref().is_some_and(|room| self.can_use_promise(peer, room)));
        if !used {
            self.promise = None;
        }
    }

    pub(super) fn expire_promise(&mut self) {
        if let Some(promise) = self.promise.take_if(|promise| promise.until <= self.now) {
            self.reseat(promise.peer);
        }
    }

    /// A connection of `id` was lent to a request of `lane`: the limited lane has gone, or was passed over.
    pub(super) fn note_lent(&mut self, id: PeerId, lane: Lane) {
        let is_full = !self.limited_lane_has_room();
        self.promise.take_if(|promise| lane == Lane::Limited && promise.peer == id);
        let Some(room) = self.peers.get_mut(&id).and_then(|peer| peer.room.as_mut()) else { return };
        match lane {
            Lane::Open if room.has_waiting(Lane::Limited) => {
                room.passed = room.passed.saturating_add(is_full.into());
            }
            Lane::Open | Lane::Limited => room.passed = 0,
        }
    }

    fn can_use_promise(&self, peer: &Peer, room: &Room) -> bool {
        room.has_waiting(Lane::Limited) && peer.conns.iter().any(|conn| !self.conn(*conn).draining)
    }
}

/// The open lane gets four turns for one of the limited lane: by now that one is four turns behind.
const PASSED_MAX: u32 = 16;
