//! What is taken back: overdue leases under pressure, and connections that have been idle for long.
//!
//! Pressure is a request that waits for something which an overdue lease holds: a connection of its own
//! peer, when the peer can have no more; a slot among all connections, when none is idle; a slot of the
//! limited lane. No more is taken back than is needed, and without pressure a lease lasts on.

use std::time::Duration;

use southbridge_words::{ConnId, Instant, PeerId};

use super::census::Census;
use super::connection::Idleness;
use super::list::List;
use super::needs::Needs;
use super::peer::{Peer, Spoken};
use super::terms::Action;
use super::{Pool, STOW_AFTER, SURPLUS_AFTER};
use crate::lane::Lane;

impl Pool {
    /// What the requests for `peer` need, after what they need first has been taken back. Somebody must wait.
    pub(super) fn relieve(&mut self, id: PeerId) -> Needs {
        loop {
            self.review_promise(id);
            let peer = self.peers.get(&id).expect("a peer is kept while requests wait for it");
            let room = peer.room.as_ref().expect("somebody waits");
            let needs = self.needs(peer, room);
            if !needs.are_uncovered() || !self.is_at_bound(peer, &needs.census) {
                return needs;
            }
            if let Some(conn) = self.overdue_of(peer, &needs.census) {
                self.revoke(conn);
            } else if needs.unserved_fresh > needs.census.connecting
                && let Some(conn) = self.stale_of(peer)
            {
                self.retire(conn);
            } else {
                return needs;
            }
        }
    }

    /// Our own side has run out of something that connections hold (descriptors, ports, memory), and the
    /// limits did not know: a few of those that have been idle for longest are closed. Whether there were any.
    pub fn handle_exhausted(&mut self, now: Instant) -> bool {
        self.advance(now);
        let idle_before = self.usage.idle;
        for _ in 0..SACRIFICED {
            let Some((conn, _)) = self.longest_idle() else { break };
            self.close_idle(conn);
        }
        self.settle();
        self.usage.idle < idle_before
    }

    pub(super) fn make_room_in_limited_lane(&mut self) {
        if !self.limited_lane_has_room() {
            self.revoke_any(Lane::Limited);
        }
    }

    /// Closes what has been idle for longest, or else takes back what is overdue.
    pub(super) fn make_room_for_connection(&mut self) {
        if self.usage.connections < self.limits.connections_max {
            return;
        }
        if let Some((conn, _)) = self.longest_idle() {
            self.close_idle(conn);
        } else if !self.revoke_any(Lane::Limited) {
            self.revoke_any(Lane::Open);
        }
    }

    pub(super) fn expire_leases(&mut self) {
        while let Some(key) = self.in_time.first().filter(|key| self.leases.get(*key).deadline <= self.now) {
            self.leases.transfer(&mut self.in_time, &mut self.overdue, key);
            let held = self.leases.get_mut(key);
            held.overdue = true;
            let conn = held.conn;
            let peer = self.change(conn, |conn| {
                conn.overdue_leases += 1;
                conn.peer
            });
            self.sort_revocable(conn);
            self.reseat(peer);
        }
    }

    pub(super) fn close_long_idle(&mut self) {
        let idle_max = self.limits.idle_max;
        let is_over = |since: Instant, now: Instant| since + idle_max <= now;
        while let Some((conn, since)) = self.longest_idle()
            && is_over(since, self.now)
        {
            self.close_idle(conn);
        }
    }

    /// Stows what has been idle for a while. A shared connection has nothing that only a request needs.
    pub(super) fn stow_idle(&mut self) {
        while let Some(id) = self.grow_older(Idleness::Fresh, Idleness::Stowed, STOW_AFTER) {
            if !self.conn(id).shared {
                self.actions.push_back(Action::Stow { conn: id });
            }
        }
    }

    /// Of peers that have had more idle connections for a while than are kept, closes those that have been so for longest.
    /// Not before: the next burst would open them anew.
    pub(super) fn close_surplus(&mut self) {
        while let Some(id) = self.grow_older(Idleness::Stowed, Idleness::Kept, SURPLUS_AFTER) {
            if let Some(conn) = self.surplus(self.conn(id).peer) {
                self.close_idle(conn);
            }
        }
    }

    /// Has the longest idle of those in `before` come among those in `after`, if it has been idle for as long as `lasts`.
    fn grow_older(&mut self, before: Idleness, after: Idleness, lasts: Duration) -> Option<ConnId> {
        let (id, _) = *self
            .idle_since
            .front(&self.idle[before as usize])
            .filter(|(_, since)| *since + lasts <= self.now)?;
        let key = self.change(id, |conn| {
            let idle = conn.idle.as_mut().expect("a connection that is listed knows its place");
            idle.idleness = after;
            idle.key
        });
        let [from, to] = self.idle.get_disjoint_mut([before as usize, after as usize]).ok()?;
        self.idle_since.transfer(from, to, key);
        Some(id)
    }

    /// What has been idle for longest, and since when.
    pub(super) fn longest_idle(&self) -> Option<(ConnId, Instant)> {
        self.idle.iter().rev().find_map(|list| self.idle_since.front(list)).copied()
    }

    /// Gives away whatever is free. For whom nothing is kept, nothing is idle after that.
    pub(super) fn settle_and_trim(&mut self, id: PeerId) {
        self.settle();
        let keeps_none = |pool: &Self| pool.peers.get(&id).is_some_and(|peer| pool.idle_max(peer) == 0);
        while keeps_none(self)
            && let Some(conn) = self.surplus(id)
        {
            self.close_idle(conn);
            self.settle();
        }
    }

    /// The longest idle connection of `peer`, if it has more of them than are kept.
    fn surplus(&self, peer: PeerId) -> Option<ConnId> {
        let peer = self.peers.get(&peer).filter(|peer| peer.idle.len() > self.idle_max(peer) as usize)?;
        peer.idle.first().copied()
    }

    /// Puts `conn` among those that may be revoked, or takes it out, as its leases are now.
    pub(super) fn sort_revocable(&mut self, id: ConnId) {
        let conn = self.conn(id);
        let (was, lane) = (conn.revocable, conn.is_revocable().then(|| conn.counted_lane()));
        if was.map(|(lane, _)| lane) == lane {
            return;
        }
        if let Some((lane, key)) = was {
            self.revocable_conns.remove(&mut self.revocable[lane as usize], key);
        }
        let revocable = lane.map(|lane| {
            let key = self.revocable_conns.push_back(&mut self.revocable[lane as usize], id);
            (lane, key)
        });
        self.change(id, |conn| conn.revocable = revocable);
    }

    fn close_idle(&mut self, conn: ConnId) {
        let peer = self.conn(conn).peer;
        self.close(conn);
        self.reseat(peer);
    }

    fn revoke_any(&mut self, lane: Lane) -> bool {
        let Some(&conn) = self.revocable_conns.front(&self.revocable[lane as usize]) else { return false };
        let peer = self.conn(conn).peer;
        self.revoke(conn);
        self.reseat(peer);
        true
    }

    /// Takes `conn` back. What its peer needs is not looked at.
    fn revoke(&mut self, conn: ConnId) {
        self.actions.push_back(Action::Revoke { conn });
        self.discard(conn);
    }

    /// Closes `conn` when its last lease is returned, which may be now.
    pub(super) fn retire(&mut self, conn: ConnId) {
        if self.conn(conn).leases.is_empty() {
            self.close(conn);
        } else {
            self.drain(conn);
        }
    }

    /// A connection of `peer` which may be revoked, and whose end allows another.
    fn overdue_of(&self, peer: &Peer, census: &Census) -> Option<ConnId> {
        if self.revocable.iter().all(List::is_empty) {
            return None;
        }
        let is_full = self.is_full(peer, census);
        let helps = |id: &&ConnId| {
            let conn = self.conn(**id);
            conn.is_revocable() && (is_full || !conn.shared || !conn.draining)
        };
        peer.conns.iter().find(helps).copied()
    }

    /// The oldest connection of `peer` that a request which wants a fresh one can do without.
    fn stale_of(&self, peer: &Peer) -> Option<ConnId> {
        let is_used = |id: &&ConnId| self.conn(**id).used;
        let shared = || peer.shared.iter().find(is_used).copied();
        let idle = || peer.idle.iter().find(is_used).copied();
        if peer.spoken == Some(Spoken::Shared) { shared().or_else(idle) } else { idle().or_else(shared) }
    }
}

/// Idle connections given up at once when our own side runs out: enough for one request with all its lookups.
const SACRIFICED: usize = 4;
