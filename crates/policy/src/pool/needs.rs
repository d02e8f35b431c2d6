//! What the waiting requests of one peer need, and what its connections have for them.

use southbridge_words::{Class, ConnId, Instant, PeerId, PerClass};

use super::Pool;
use super::census::Census;
use super::list::Key;
use super::peer::{LANES, Peer, Room, Spoken};
use super::turns::{WAYS, Way};
use crate::lane::Lane;

/// What a peer's connections have for one lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Supply {
    /// The best for a request that is not particular.
    pub(super) any: Option<ConnId>,
    /// One that has carried nothing yet.
    pub(super) unused: Option<ConnId>,
    /// The youngest that carries many requests, and when it was opened.
    newest: Option<(u64, ConnId)>,
}

/// What the waiting requests of one peer need.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    /// The most urgent class for each seat.
    pub(super) seats: [Option<Class>; WAYS],
    /// Requests that no open connection has anything for.
    pub(super) unserved: u32,
    /// Of those, how many will not take a connection that was used before.
    pub(super) unserved_fresh: u32,
    pub(super) census: Census,
    /// When to look again, if nothing happens before.
    pub(super) look_at: Option<Instant>,
}

impl Needs {
    /// Whether more connections are needed than are on their way.
    pub(super) fn are_uncovered(&self) -> bool {
        self.unserved > self.census.connecting
    }
}

impl Pool {
    /// What `peer` has for `lane` now.
    pub(super) fn supply(&self, peer: &Peer, lane: Lane) -> Supply {
        // While somebody waits for an unused connection, nobody else gets one.
        let keeps_unused = peer.room.as_ref().is_some_and(|room| room.fresh[lane as usize] > 0);
        let mut supply = Supply::default();
        let mut best = None;
        for &id in peer.shared.iter().chain(&peer.idle) {
            let conn = self.conn(id);
            if !conn.has_room(lane) {
                continue;
            }
            if !conn.used {
                supply.unused = Some(id);
            }
            if conn.shared && supply.newest.is_none_or(|(opened, _)| opened < conn.opened) {
                supply.newest = Some((conn.opened, id));
            }
            let rank = (lane == Lane::Limited && conn.is_limited(), !conn.leases.is_empty());
            // Of idle ones the last in the list is the one used most recently.
            let is_better = best.is_none_or(|best| rank > best || (rank == best && conn.idle.is_some()));
            if is_better && (conn.used || !keeps_unused) {
                best = Some(rank);
                supply.any = Some(id);
            }
        }
        supply
    }

    /// What the requests that wait for `peer` need.
    pub(super) fn needs(&self, peer: &Peer, room: &Room) -> Needs {
        let mut needs = Needs { census: peer.census, ..Needs::default() };
        let mut unserved: [Option<Class>; 2] = [None; 2];
        for lane in LANES.into_iter().filter(|lane| room.has_waiting(*lane)) {
            let supply = self.supply(peer, lane);
            for class in Class::ALL {
                for &fresh in room.kinds(lane) {
                    let waiting = room.queue(class, lane, fresh).len();
                    if waiting == 0 {
                        continue;
                    }
                    let most_urgent = match self.fit(room, (class, lane, fresh), &supply) {
                        Some(conn) => &mut needs.seats[self.warm_way(lane, conn) as usize],
                        None => {
                            needs.unserved += waiting;
                            needs.unserved_fresh += if fresh { waiting } else { 0 };
                            &mut unserved[lane as usize]
                        }
                    };
                    most_urgent.get_or_insert(class);
                }
            }
        }
        if needs.are_uncovered() {
            needs.look_at = self.next_look(peer, &needs);
            if needs.look_at.is_none() && self.may_dial(peer, &needs.census) {
                needs.seats[Way::Dial as usize] = unserved[Lane::Open as usize];
                needs.seats[Way::DialLimited as usize] = unserved[Lane::Limited as usize];
            }
        }
        if self.deserves_promise(peer, room) {
            // All in one queue, whatever waits: who comes here has waited for longer than its class is to.
            needs.seats[Way::Promise as usize] = Some(Class::Interactive);
        }
        needs
    }

    /// Whose turn it is among those that `peer`'s connections can serve in one of `ways`, and on what.
    pub(super) fn choose(&mut self, id: PeerId, ways: &[Way]) -> Option<(Key, ConnId)> {
        let peer = self.peers.get(&id)?;
        let room = peer.room.as_ref()?;
        let supplies = LANES.map(|lane| self.supply(peer, lane));
        let choice = |lane: Lane, class: Class| {
            room.kinds(lane).iter().find_map(|&fresh| {
                let key = room.queue(class, lane, fresh).first()?;
                let conn = self.fit(room, (class, lane, fresh), &supplies[lane as usize])?;
                ways.contains(&self.warm_way(lane, conn)).then_some((key, conn))
            })
        };
        let choices = LANES.map(|lane| PerClass(Class::ALL.map(|class| choice(lane, class))));
        let room = self.peers.get_mut(&id)?.room.as_mut()?;
        let (lane, class) = room.turns.next(&self.strides, |lane, class| choices[lane][class].is_some())?;
        choices[lane][class]
    }

    /// Whether what is open or on its way is all that `peer` may have.
    pub(super) fn is_at_bound(&self, peer: &Peer, census: &Census) -> bool {
        let has_all_shared = peer.shared.len() as u64 >= u64::from(self.shared_max(peer));
        self.is_full(peer, census)
            || census.exclusive + census.connecting >= self.exclusive_max(peer)
            || (peer.spoken == Some(Spoken::Shared) && has_all_shared)
    }

    /// Whether a peer has as many connections as it may, those included that take no new requests.
    pub(super) fn is_full(&self, peer: &Peer, census: &Census) -> bool {
        census.total >= self.total_max(peer)
    }

    /// The connection for the first request of a queue.
    fn fit(&self, room: &Room, queue: (Class, Lane, bool), supply: &Supply) -> Option<ConnId> {
        let (class, lane, fresh) = queue;
        if !fresh {
            return supply.any;
        }
        let first = self.waiters.front(room.queue(class, lane, fresh))?;
        let newest = supply.newest.filter(|(opened, _)| *opened > first.came);
        supply.unused.or(newest.map(|(_, conn)| conn))
    }

    /// How a request of `lane` is served on `conn`.
    pub(super) fn warm_way(&self, lane: Lane, conn: ConnId) -> Way {
        let conn = self.conn(conn);
        match lane {
            Lane::Limited if !conn.is_limited() && !self.is_promised(conn.peer) => Way::WarmLimited,
            _ => Way::Warm,
        }
    }

    fn may_dial(&self, peer: &Peer, census: &Census) -> bool {
        if census.resting > 0 || self.is_at_bound(peer, census) {
            return false;
        }
        match peer.spoken {
            Some(Spoken::Exclusive) => true,
            // One connection may be enough for all of them.
            Some(Spoken::Shared) => census.connecting == 0,
            None => census.connecting < 2,
        }
    }

    /// Until when `peer` is not to be dialled, although it needs it; the far future stands for the next fact.
    fn next_look(&self, peer: &Peer, needs: &Needs) -> Option<Instant> {
        let census = &needs.census;
        let is_paused = census.serving() > 0 && peer.paused_until > self.now;
        if is_paused {
            return Some(peer.paused_until);
        }
        let patience_ends = peer.tried_at + super::PATIENCE;
        let is_patient = peer.spoken.is_none() && census.connecting == 1;
        if is_patient && census.queued > 0 {
            return Some(Instant::FAR_FUTURE);
        }
        (is_patient && patience_ends > self.now).then_some(patience_ends)
    }
}
