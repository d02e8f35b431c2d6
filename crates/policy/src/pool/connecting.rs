//! From the decision to dial to an open connection, and out of the pool again.

use southbridge_words::{Class, ConnId, Instant, PeerId};

use super::census::Census;
use super::connection::{Conn, Stage};
use super::peer::Spoken;
use super::terms::{Action, Capacity, PoolUse};
use super::turns::Way;
use super::{PAUSE, Pool};
use crate::lane::Lane;

impl Pool {
    /// TCP is up: asks for a TLS slot.
    pub fn handle_dialled(&mut self, conn: ConnId, now: Instant) {
        self.advance(now);
        let Some(dialled) = self.conns.get(&conn).filter(|conn| conn.stage == Stage::Dialling) else {
            return;
        };
        let key = self.dialled.push_back(dialled.lane as usize, dialled.class, conn);
        let peer = self.change(conn, |conn| {
            conn.stage = Stage::Queued(key);
            conn.peer
        });
        self.reseat(peer);
        self.settle();
    }

    /// Requests may be sent on `conn` from now on, `capacity` at a time. A connection that the pool does
    /// not hold is closed.
    pub fn handle_connected(&mut self, conn: ConnId, capacity: Capacity, now: Instant) {
        self.advance(now);
        let Some(connected) = self.conns.get(&conn) else {
            self.actions.push_back(Action::Close { conn });
            return;
        };
        if connected.is_open() {
            return;
        }
        let peer = connected.peer;
        self.open(conn, capacity);
        // Whoever it was opened for has had its turn already.
        let ways: &[Way] =
            if self.limited_lane_has_room() { &[Way::Warm, Way::WarmLimited] } else { &[Way::Warm] };
        self.lend_next(peer, ways);
        self.reseat(peer);
        self.settle_and_trim(peer);
    }

    /// The dial or the handshake failed.
    pub fn handle_connect_failed(&mut self, conn: ConnId, now: Instant) {
        self.advance(now);
        self.lose(conn);
    }

    /// The peer allows `streams_max` requests at a time on `conn` from now on. Leases above that go on.
    pub fn handle_capacity(&mut self, conn: ConnId, streams_max: u32, now: Instant) {
        self.advance(now);
        let Some(shared) = self.conns.get(&conn).filter(|conn| conn.is_open() && conn.shared) else { return };
        let peer = shared.peer;
        self.change(conn, |conn| conn.streams_max = streams_max);
        self.reseat(peer);
        self.settle();
    }

    /// The peer closed it, or said GOAWAY: it takes no new requests; leases on it go on.
    pub fn handle_draining(&mut self, conn: ConnId, now: Instant) {
        self.advance(now);
        let Some(draining) = self.conns.get(&conn) else { return };
        if draining.leases.is_empty() {
            self.actions.push_back(Action::Close { conn });
            self.lose(conn);
        } else {
            let peer = draining.peer;
            self.drain(conn);
            self.reseat(peer);
            self.settle();
        }
    }

    /// `conn` is not wanted any more: it leads to where the peer no longer is, or speaks what it should not. It
    /// takes no new requests, and is closed when its leases have ended. That is no failure: whoever waits for
    /// the peer is served by another connection.
    pub fn handle_retired(&mut self, conn: ConnId, now: Instant) {
        self.advance(now);
        let Some(retired) = self.conns.get(&conn).filter(|conn| conn.is_open()) else { return };
        let peer = retired.peer;
        self.retire(conn);
        self.reseat(peer);
        self.settle();
    }

    /// Gone altogether; leases on it are void (returning one later is harmless).
    pub fn handle_closed(&mut self, conn: ConnId, now: Instant) {
        self.advance(now);
        self.lose(conn);
    }

    pub(super) fn dial(&mut self, peer: PeerId, class: Class, lane: Lane) {
        self.conns_opened += 1;
        let id = ConnId(self.conns_opened);
        let conn = Conn::new(peer, class, lane, self.now);
        self.usage.replace(&PoolUse::default(), &conn.footprint());
        self.efforts.replace(id, None, conn.standing());
        let counts = conn.counted();
        self.conns.insert(id, conn);
        let now = self.now;
        let dialled = self.peer_mut(peer);
        dialled.census.replace(&Census::default(), &counts);
        dialled.conns.push(id);
        dialled.tried_at = now;
        self.actions.push_back(Action::Dial { conn: id, peer });
    }

    /// `conn` takes no new requests.
    pub(super) fn drain(&mut self, conn: ConnId) {
        let peer = self.change(conn, |conn| {
            conn.draining = true;
            conn.peer
        });
        self.peer_mut(peer).shared.retain(|shared| *shared != conn);
    }

    /// Closes `conn`, which nobody uses. What its peer needs is not looked at.
    pub(super) fn close(&mut self, conn: ConnId) {
        self.actions.push_back(Action::Close { conn });
        self.discard(conn);
    }

    /// Forgets `conn`; leases on it are void. What its peer needs is not looked at.
    pub(super) fn discard(&mut self, id: ConnId) {
        while let Some(&key) = self.conn(id).leases.last() {
            self.end_lease(key);
        }
        self.end_idle(id);
        let conn = self.conns.remove(&id).expect("it was there a line ago");
        if let Stage::Queued(key) = conn.stage {
            self.dialled.remove(conn.lane as usize, conn.class, key);
        }
        self.usage.replace(&conn.footprint(), &PoolUse::default());
        self.efforts.replace(id, conn.standing(), None);
        let peer = self.peer_mut(conn.peer);
        peer.census.replace(&conn.counted(), &Census::default());
        peer.conns.retain(|held| *held != id);
        peer.shared.retain(|shared| *shared != id);
    }

    /// `conn` is gone, and that was not the pool's decision.
    fn lose(&mut self, conn: ConnId) {
        if self.conns.contains_key(&conn) {
            self.fail(conn);
            self.settle();
        }
    }

    /// Forgets `id`, and refuses those whom it has left without hope.
    pub(super) fn fail(&mut self, id: ConnId) {
        let conn = self.conn(id);
        let (peer, used) = (conn.peer, conn.used);
        self.discard(id);
        if !used {
            let until = self.now + PAUSE;
            self.peer_mut(peer).paused_until = until;
            self.refuse_hopeless(peer, id);
        }
        self.reseat(peer);
    }

    fn open(&mut self, id: ConnId, capacity: Capacity) {
        let (shared, streams_max) = match capacity {
            Capacity::Exclusive => (false, 1),
            Capacity::Shared { streams_max } => (true, streams_max),
        };
        if let Stage::Queued(key) = self.conn(id).stage {
            let conn = self.conn(id);
            self.dialled.remove(conn.lane as usize, conn.class, key);
        }
        self.turn += 1;
        let opened = self.turn;
        let peer_id = self.change(id, |conn| {
            conn.stage = Stage::Open;
            conn.opened = opened;
            (conn.shared, conn.streams_max) = (shared, streams_max);
            conn.peer
        });
        let spoken = if shared { Spoken::Shared } else { Spoken::Exclusive };
        self.memory.remember(peer_id, spoken);
        let shared_max = self.peers.get(&peer_id).map_or(0, |peer| self.shared_max(peer)) as usize;
        let now = self.now;
        let peer = self.peer_mut(peer_id);
        peer.spoken = Some(spoken);
        if streams_max > 0 {
            peer.paused_until = now;
        }
        if shared && peer.shared.len() >= shared_max {
            // Dialled when the peer still spoke HTTP/1.1, which takes more connections.
            self.close(id);
            return;
        }
        if shared {
            peer.shared.push(id);
        }
        self.begin_idle(id);
    }
}
