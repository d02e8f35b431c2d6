//! Shared connections that are busy without a pause, while others wait for their slots.
//!
//! An exclusive connection is free after every request, and then whoever's turn it is gets its slot. A
//! shared one may never be. When it has been busy for as long as a lease lasts and a request for another
//! peer waits for nothing but its slot, it *rests*: it is lent no further until its leases have ended, or
//! until nobody waits for it any more. There is one such tenure of a slot among all connections, and one of
//! a slot in the limited lane.

use southbridge_words::{ConnId, Instant};

use super::Pool;
use super::connection::{Conn, Tenure};
use super::list::Key;
use super::peer::LANES;
use super::turns::Way;
use crate::lane::Lane;

impl Pool {
    /// Lets a connection rest or ends its rest. Whether there was one.
    pub(super) fn rotate(&mut self) -> bool {
        LANES.into_iter().any(|lane| self.rotate_lane(lane))
    }

    /// When the next connection has to rest, if nothing happens before.
    pub(super) fn next_rest_at(&self) -> Option<Instant> {
        let ends = |lane| self.next_to_rest(lane).map(|(_, since)| since + self.limits.lease_max);
        LANES.into_iter().filter_map(ends).min()
    }

    /// Begins or ends the tenures of `id`, as its leases are now.
    pub(super) fn sort_tenures(&mut self, id: ConnId) {
        for lane in LANES {
            let conn = self.conn(id);
            match (conn.tenures[lane as usize], conn.holds(lane)) {
                (None, true) => {
                    let key = self.tenures.push_back(&mut self.busy[lane as usize], (id, self.now));
                    let tenure = Tenure { key, resting: false };
                    self.change(id, |conn| conn.tenures[lane as usize] = Some(tenure));
                }
                (Some(tenure), false) => {
                    self.change(id, |conn| conn.tenures[lane as usize] = None);
                    let lists = if tenure.resting { &mut self.resting } else { &mut self.busy };
                    self.tenures.remove(&mut lists[lane as usize], tenure.key);
                }
                _ => {}
            }
        }
    }

    fn rotate_lane(&mut self, lane: Lane) -> bool {
        if self.pressing(lane) == 0 {
            let Some(&(conn, _)) = self.tenures.front(&self.resting[lane as usize]) else { return false };
            self.set_resting(conn, lane, false);
            return true;
        }
        let due = |(_, since): &(Key, Instant)| *since + self.limits.lease_max <= self.now;
        let Some((key, _)) = self.next_to_rest(lane).filter(due) else { return false };
        let (conn, _) = *self.tenures.get(key);
        self.set_resting(conn, lane, true);
        true
    }

    fn set_resting(&mut self, conn: ConnId, lane: Lane, resting: bool) {
        let (peer, tenure) = self.change(conn, |conn| {
            let tenure = conn.tenures[lane as usize].as_mut().expect("it is in a list of tenures");
            tenure.resting = resting;
            (conn.peer, *tenure)
        });
        let (busy, rest) = (&mut self.busy[lane as usize], &mut self.resting[lane as usize]);
        let (from, to) = if resting { (busy, rest) } else { (rest, busy) };
        self.tenures.transfer(from, to, tenure.key);
        self.reseat(peer);
    }

    /// The connection that has been busy for longest while somebody else waits for its slot, and since when.
    fn next_to_rest(&self, lane: Lane) -> Option<(Key, Instant)> {
        let pressing = self.pressing(lane);
        let resting = self.resting[lane as usize].len();
        if resting >= pressing || resting > self.limits.connections_max / RESTING_PART {
            return None;
        }
        let may_rest = |key: &Key| {
            let (conn, _) = self.tenures.get(*key);
            self.pressing_of(self.conn(*conn), lane) < pressing
        };
        // Only those of a peer that waits alone are passed over, and a peer has few.
        let key = self.tenures.keys(&self.busy[lane as usize]).find(may_rest)?;
        Some((key, self.tenures.get(key).1))
    }

    /// How many seats wait for nothing but a slot: one among all connections, or one in the limited lane.
    fn pressing(&self, lane: Lane) -> u32 {
        if self.usage.waiting == 0 || self.can_free_slot(lane) {
            return 0;
        }
        self.pressing_ways(lane).iter().map(|way| self.seated(*way)).sum()
    }

    /// How many of those are of the peer of `conn`.
    fn pressing_of(&self, conn: &Conn, lane: Lane) -> u32 {
        let room = self.peers.get(&conn.peer).and_then(|peer| peer.room.as_ref());
        room.map_or(0, |room| self.pressing_ways(lane).iter().map(|way| room.seats(*way)).sum())
    }

    fn pressing_ways(&self, lane: Lane) -> &'static [Way] {
        match lane {
            Lane::Limited if self.is_held_up(Way::Promise) => &[Way::WarmLimited, Way::DialLimited],
            Lane::Limited => &[Way::WarmLimited, Way::DialLimited, Way::Promise],
            Lane::Open if self.can_free_slot(Lane::Limited) => &[Way::Dial, Way::DialLimited],
            Lane::Open => &[Way::Dial],
        }
    }
}

// No more than a sixteenth of all connections rest at a time: slots are to change hands, not to lie idle.
const RESTING_PART: u32 = 16;
