//! What the pool keeps twice must agree, and nobody may wait for what is free.

use southbridge_words::ConnId;

use super::super::*;
use crate::lane::Lane;

impl Pool {
    /// Panics if what is kept twice differs, or if somebody waits who could be served.
    pub(super) fn check(&self) {
        let mut counted = PoolUse { waiting: self.usage.waiting, ..PoolUse::default() };
        for conn in self.conns.values() {
            counted.replace(&PoolUse::default(), &conn.footprint());
            assert_eq!(conn.is_idle(), conn.idle.is_some());
            assert_eq!(conn.is_revocable(), conn.revocable.is_some());
        }
        let efforts = || self.conns.iter().filter_map(|(id, conn)| Some((*id, conn.standing()?)));
        assert!(efforts().all(|(id, standing)| self.efforts.holds(id, standing)));
        assert_eq!(efforts().count(), self.efforts.len());
        assert!(
            self.next_given_up_at().is_none_or(|at| at > self.now),
            "somebody waits for what lasts too long"
        );
        assert_eq!(counted, self.usage);
        assert_eq!(self.idle.iter().map(List::len).sum::<u32>(), self.usage.idle);
        assert_eq!(self.in_time.len() + self.overdue.len(), self.usage.leases);
        assert_eq!(self.deadlines.len(), self.waiter_keys.len());
        self.check_promise();
        for peer in self.peers.values() {
            let mut census = census::Census::default();
            for id in &peer.conns {
                census.replace(&census::Census::default(), &self.conn(*id).counted());
            }
            assert_eq!(census, peer.census);
            let takes_new = |id: &&ConnId| self.conn(**id).shared && !self.conn(**id).draining;
            assert_eq!(peer.conns.iter().filter(takes_new).count(), peer.shared.len());
            assert!(peer.shared.len() <= self.limits.shared_per_peer_max as usize);
            let Some(room) = &peer.room else {
                assert!(!peer.conns.is_empty() && peer.look_at.is_none());
                continue;
            };
            let needs = self.needs(peer, room);
            let seats = std::array::from_fn(|way| room.seats[way].map(|seat| seat.class));
            assert_eq!(needs.seats, seats, "{peer:?}");
            assert_eq!(needs.seats[turns::Way::Warm as usize], None, "somebody could be served: {peer:?}");
        }
    }

    /// A slot is kept within the limit, for somebody who waits for a connection that may come, and not for ever.
    fn check_promise(&self) {
        let Some(promise) = self.promise else { return };
        assert!(self.usage.limited_connections < self.limits.limited_connections_max, "kept and lent");
        assert!(promise.until > self.now && promise.until <= self.now + self.limits.lease_max);
        let peer = &self.peers[&promise.peer];
        assert!(peer.room.as_ref().is_some_and(|room| room.has_waiting(Lane::Limited)), "kept for nobody");
        assert!(peer.conns.iter().any(|id| !self.conn(*id).draining), "kept without hope");
    }
}
