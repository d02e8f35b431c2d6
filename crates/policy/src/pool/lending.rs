//! Lending what is open, and taking it back.

use southbridge_words::{ConnId, Instant, PeerId, Ticket};

use super::Pool;
use super::connection::{Held, Idle, Idleness};
use super::list::Key;
use super::terms::{Action, Lease, Refusal, Returned, Want};
use super::turns::Way;
use crate::lane::Lane;

impl Pool {
    /// A lease comes back. Harmless when its connection was revoked or is gone.
    #[allow(clippy::needless_pass_by_value, reason = "a lease can be given back once")]
    pub fn handle_returned(&mut self, lease: Lease, returned: Returned, now: Instant) {
        self.advance(now);
        let Some(&key) = self.lease_keys.get(&(lease.conn, lease.ticket)) else { return };
        let gives_way = self.conn(lease.conn).rests(Lane::Open);
        self.end_lease(key);
        if returned == Returned::Spent {
            self.drain(lease.conn);
        }
        let conn = self.conn(lease.conn);
        let (peer, draining) = (conn.peer, conn.draining);
        if conn.leases.is_empty() {
            if draining || gives_way {
                self.close(lease.conn);
            } else {
                self.begin_idle(lease.conn);
            }
        }
        self.reseat(peer);
        self.settle_and_trim(peer);
    }

    /// Lends to `want` what is open and free, if nobody waits before it.
    pub(super) fn lend_at_once(&mut self, want: &Want) -> bool {
        let Some(peer) = self.peers.get(&want.peer).filter(|peer| peer.room.is_none()) else { return false };
        let supply = self.supply(peer, want.lane);
        let Some(conn) = (if want.fresh { supply.unused } else { supply.any }) else { return false };
        let may_lend = self.warm_way(want.lane, conn) == Way::Warm || self.limited_lane_has_room();
        if may_lend {
            self.lend(conn, want.ticket, want.lane);
        }
        may_lend
    }

    /// Lends to the request for `peer` whose turn it is among those that can be served in one of `ways`; or
    /// refuses it, if it has expired meanwhile. Whether there was one.
    pub(super) fn lend_next(&mut self, peer: PeerId, ways: &[Way]) -> bool {
        let Some((key, conn)) = self.choose(peer, ways) else { return false };
        let want = self.leave(key);
        if want.deadline <= self.now {
            self.refuse(want.ticket, Refusal::DeadlinePassed);
        } else {
            self.lend(conn, want.ticket, want.lane);
        }
        true
    }

    /// Ends the lease at `key`. What its peer needs is not looked at.
    pub(super) fn end_lease(&mut self, key: Key) {
        let held = *self.leases.get(key);
        let list = if held.overdue { &mut self.overdue } else { &mut self.in_time };
        self.leases.remove(list, key);
        self.lease_keys.remove(&(held.conn, held.ticket));
        let moved = self.change(held.conn, |conn| {
            conn.leases.swap_remove(held.at as usize);
            conn.limited_leases -= u32::from(held.lane == Lane::Limited);
            conn.overdue_leases -= u32::from(held.overdue);
            conn.leases.get(held.at as usize).copied()
        });
        if let Some(moved) = moved {
            self.leases.get_mut(moved).at = held.at;
        }
        self.sort_revocable(held.conn);
        self.sort_tenures(held.conn);
    }

    /// `conn` is lent to nobody from now on.
    pub(super) fn begin_idle(&mut self, conn: ConnId) {
        let key = self.idle_since.push_back(&mut self.idle[Idleness::Fresh as usize], (conn, self.now));
        let peer = self.change(conn, |conn| {
            conn.idle = Some(Idle { key, idleness: Idleness::Fresh });
            conn.peer
        });
        self.peer_mut(peer).idle.push(conn);
    }

    /// `id` is no longer idle, if it was.
    pub(super) fn end_idle(&mut self, id: ConnId) {
        let (idle, peer) = self.change(id, |conn| (conn.idle.take(), conn.peer));
        if let Some(Idle { key, idleness }) = idle {
            self.idle_since.remove(&mut self.idle[idleness as usize], key);
            self.peer_mut(peer).idle.retain(|idle| *idle != id);
        }
    }

    fn lend(&mut self, id: ConnId, ticket: Ticket, lane: Lane) {
        self.end_idle(id);
        let deadline = self.now + self.limits.lease_max;
        let held = Held { conn: id, ticket, lane, deadline, at: 0, overdue: false };
        let key = self.leases.push_back(&mut self.in_time, held);
        let (at, reused) = self.change(id, |conn| {
            conn.limited_leases += u32::from(lane == Lane::Limited);
            conn.leases.push(key);
            (conn.leases.len() - 1, std::mem::replace(&mut conn.used, true))
        });
        self.leases.get_mut(key).at = u32::try_from(at).expect("a connection has fewer streams than that");
        let twice = self.lease_keys.insert((id, ticket), key);
        assert!(twice.is_none(), "{ticket} holds {id} already: tickets are never used twice");
        self.sort_revocable(id);
        self.sort_tenures(id);
        self.note_lent(self.conn(id).peer, lane);
        self.actions.push_back(Action::Lend { ticket, lease: Lease { conn: id, ticket, deadline, reused } });
    }
}
