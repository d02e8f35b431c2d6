//! Requests that come, wait, and leave without a lease.

use southbridge_words::{Class, ConnId, Instant, PeerId, Ticket};

use super::Pool;
use super::limits::PoolLimits;
use super::list::Key;
use super::peer::{LANES, Peer, Room, Waiter};
use super::terms::{Action, PoolFull, Refusal, Want};
use super::turns::Way;
use crate::lane::Lane;

impl Pool {
    /// A request wants a connection. It ends in exactly one [`Action::Lend`] or [`Action::Refuse`], unless
    /// it is cancelled.
    ///
    /// # Errors
    /// [`PoolFull`] when it would have to wait and too many of its class or above do; nothing is kept of it.
    ///
    /// # Panics
    /// If a request with the same ticket waits already, or holds the connection that it would be lent: a
    /// retry may use its ticket again, but only after its lease was returned.
    pub fn handle_request(&mut self, want: Want, now: Instant) -> Result<(), PoolFull> {
        self.advance(now);
        if want.deadline <= self.now {
            self.refuse(want.ticket, Refusal::DeadlinePassed);
            return Ok(());
        }
        if self.lend_at_once(&want) {
            if self.usage.waiting > 0 {
                // What it took may have been the last of what others could have had.
                self.settle();
            }
            return Ok(());
        }
        self.check_waiting(&want)?;
        self.enter(want);
        self.hurry(&want);
        self.reseat(want.peer);
        self.settle();
        Ok(())
    }

    /// The caller of `ticket` gave up before a lease. Harmless when it does not wait (any more).
    pub fn handle_cancelled(&mut self, ticket: Ticket, now: Instant) {
        self.advance(now);
        let Some(&key) = self.waiter_keys.get(&ticket) else { return };
        let peer = self.leave(key).peer;
        self.reseat(peer);
        self.settle();
    }

    pub(super) fn expire_requests(&mut self) {
        while let Some(&(_, key)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= self.now) {
            let want = self.leave(key);
            self.refuse(want.ticket, Refusal::DeadlinePassed);
            self.reseat(want.peer);
        }
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.actions.push_back(Action::Refuse { ticket, refusal });
    }

    /// The attempt `conn` for `peer` has failed: refuses those who have nothing else to hope for.
    pub(super) fn refuse_hopeless(&mut self, id: PeerId, conn: ConnId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let census = peer.census;
        if census.connecting > 0 {
            return;
        }
        let all = census.serving() == 0;
        let wants_fresh = peer.room.as_ref().is_some_and(|room| self.needs(peer, room).unserved_fresh > 0);
        if !all && !wants_fresh {
            return;
        }
        for class in Class::ALL {
            for lane in LANES {
                for fresh in [true, false] {
                    if all || fresh {
                        self.refuse_queue(id, (class, lane, fresh), conn);
                    }
                }
            }
        }
    }

    /// Takes the request at `key` out of the waiting room, and closes the room when it was the last.
    pub(super) fn leave(&mut self, key: Key) -> Want {
        let want = self.waiters.get(key).want;
        self.waiter_keys.remove(&want.ticket);
        self.deadlines.remove(&(want.deadline, key));
        self.usage.waiting -= 1;
        let peer = self.peers.get_mut(&want.peer).expect("a peer is kept while requests wait for it");
        let room = peer.room.as_mut().expect("a room is kept while somebody waits in it");
        self.waiters.remove(room.queue_of(&want), key);
        room.waiting -= 1;
        room.fresh[want.lane as usize] -= u32::from(want.fresh);
        if room.waiting == 0 {
            for way in Way::ALL {
                self.seat(want.peer, way, None);
            }
            self.look_at(want.peer, None);
            self.peer_mut(want.peer).room = None;
        }
        want
    }

    fn enter(&mut self, want: Want) {
        self.turn += 1;
        let peer = self.peers.entry(want.peer).or_insert_with(|| Peer {
            spoken: self.memory.recall(want.peer),
            own: self.own.get(&want.peer).copied().unwrap_or_default(),
            ..Peer::default()
        });
        let room = peer.room.get_or_insert_with(|| Box::new(Room::new()));
        let key = self.waiters.push_back(room.queue_of(&want), Waiter { want, came: self.turn });
        room.waiting += 1;
        room.fresh[want.lane as usize] += u32::from(want.fresh);
        self.usage.waiting += 1;
        self.deadlines.insert((want.deadline, key));
        let twice = self.waiter_keys.insert(want.ticket, key);
        assert!(twice.is_none(), "{} waits already: tickets are never used twice", want.ticket);
    }

    fn check_waiting(&self, want: &Want) -> Result<(), PoolFull> {
        let room = self.peers.get(&want.peer).and_then(|peer| peer.room.as_ref());
        let counts = [
            (self.usage.waiting, self.limits.waiting_max, "a connection"),
            (room.map_or(0, |room| room.waiting), self.waiting_max(want.peer), "this peer"),
        ];
        for (held, waiting_max, scope) in counts {
            let held_max = PoolLimits::waiting_share(want.class, waiting_max);
            if held >= held_max {
                return Err(PoolFull { held, held_max, scope });
            }
        }
        Ok(())
    }

    /// Lets a connection that is on its way go with the urgency of `want`, if it has less.
    fn hurry(&mut self, want: &Want) {
        let Some(peer) = self.peers.get(&want.peer).filter(|peer| peer.census.connecting > 0) else { return };
        let is_slower = |id: &&ConnId| {
            let conn = self.conn(**id);
            !conn.is_open() && (conn.class > want.class || conn.lane > want.lane)
        };
        if let Some(&id) = peer.conns.iter().find(is_slower) {
            self.promote(id, want.class, want.lane);
        }
    }

    fn refuse_queue(&mut self, id: PeerId, queue: (Class, Lane, bool), conn: ConnId) {
        let (class, lane, fresh) = queue;
        let first = |pool: &Self| pool.peers.get(&id)?.room.as_ref()?.queue(class, lane, fresh).first();
        while let Some(key) = first(self) {
            let ticket = self.leave(key).ticket;
            self.refuse(ticket, Refusal::ConnectFailed { conn });
        }
    }
}
