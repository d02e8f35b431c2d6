//! The peers that connections lead to, and what is remembered of them.
//!
//! # Source
//! F12 (services that resolve to the same host share connections), K6; faults row 8 (fallback to HTTP/1.1).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use southbridge_policy::pool::Action;
use southbridge_words::{ConnId, Instant, PeerId};

use super::{Connection, Inner, OpenConnection, Stage, State};
use crate::discovery::Route;

/// The far side of connections that several services may share.
pub(super) struct Peer {
    pub(super) key: Arc<str>,
    pub(super) route: Rc<Route>,
    /// Until when only HTTP/1.1 is offered: it does not do well with HTTP/2.
    pub(super) http1_until: Instant,
}

impl State {
    /// The number of the peer at the end of `route`. A route that has changed takes connections to
    /// addresses that went away out of use (K6).
    pub(super) fn peer_for(&mut self, route: &Rc<Route>, now: Instant) -> PeerId {
        if let Some(id) = self.peer_ids.get(&route.peer_key).copied() {
            let peer = self.peers.get_mut(&id).expect("every numbered peer is known");
            if !Rc::ptr_eq(&peer.route, route) {
                let moved = !Arc::ptr_eq(&peer.route.endpoints, &route.endpoints)
                    && peer.route.endpoints != route.endpoints;
                peer.route = Rc::clone(route);
                if moved {
                    self.drain_moved(id, now);
                }
            }
            return id;
        }
        if self.peers.len() >= self.sweep_at {
            self.forget_unused_peers(now);
        }
        let id = PeerId(self.peer_next);
        self.peer_next = self.peer_next.wrapping_add(1);
        self.peer_ids.insert(Arc::clone(&route.peer_key), id);
        if let Some(limits) = route.way.as_ref().and_then(|way| way.limits) {
            self.pool.bound(id, Some(limits));
        }
        let (key, route) = (Arc::clone(&route.peer_key), Rc::clone(route));
        self.peers.insert(id, Peer { key, route, http1_until: Instant::ZERO });
        id
    }

    fn drain_moved(&mut self, id: PeerId, now: Instant) {
        let endpoints = Arc::clone(&self.peers[&id].route.endpoints);
        self.drain_where(id, now, |open| !endpoints.iter().any(|endpoint| endpoint.address == open.remote));
    }

    /// Takes the open connections of `peer` that are `meant` out of use.
    fn drain_where(&mut self, peer: PeerId, now: Instant, meant: impl Fn(&OpenConnection) -> bool) {
        let is_meant = |connection: &Connection| match &connection.stage {
            Stage::Open(open) => connection.peer == peer && meant(open),
            Stage::Opening(_) => false,
        };
        let found: Vec<ConnId> =
            self.connections.iter().filter(|(_, held)| is_meant(held)).map(|(conn, _)| *conn).collect();
        for conn in found {
            self.pool.handle_retired(conn, now);
        }
    }

    /// Takes every open connection out of use; those to be closed at once, since they are lent to nobody.
    pub(super) fn retire_all(&mut self, now: Instant) -> Vec<ConnId> {
        let conns: Vec<ConnId> = self.connections.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.pool.handle_retired(conn, now));
        let closed = |action| match action {
            Action::Close { conn } => Some(conn),
            // Nobody waits any more who could be served.
            _ => None,
        };
        std::iter::from_fn(|| self.pool.poll()).filter_map(closed).collect()
    }

    /// Peers that nothing is held for are met anew when they are met again.
    fn forget_unused_peers(&mut self, now: Instant) {
        let pool = &self.pool;
        let mut remembered = 0;
        self.peers.retain(|id, peer| {
            let is_unused = pool.is_unused(*id);
            remembered += usize::from(is_unused && peer.http1_until > now);
            !is_unused || (peer.http1_until > now && remembered <= REMEMBERED_MAX)
        });
        let (peers, pool) = (&self.peers, &mut self.pool);
        self.peer_ids.retain(|_, id| {
            let is_known = peers.contains_key(id);
            if !is_known {
                pool.bound(*id, None);
            }
            is_known
        });
        // As often as the number doubles, so that each peer pays for a few looks only.
        self.sweep_at = (2 * self.peers.len()).max(PEERS_BEFORE_SWEEP);
    }
}

impl Inner {
    /// HTTP/2 with `peer` has come to nothing: it is offered HTTP/1.1 for a while, and what speaks HTTP/2 is
    /// lent no more.
    pub(super) fn avoid_http2(self: &Rc<Self>, peer: PeerId) {
        {
            let now = self.clock.now();
            let mut state = self.state.borrow_mut();
            let Some(known) = state.peers.get_mut(&peer) else { return };
            known.http1_until = now + HTTP1_FOR;
            state.drain_where(peer, now, |open| open.http2);
        }
        self.act();
    }
}

/// How many remembered peers are worth a sweep for those that nothing is held for.
pub(super) const PEERS_BEFORE_SWEEP: usize = 1024;
/// How long a peer that does not do well with HTTP/2 is offered HTTP/1.1 only: finding out again costs one request.
const HTTP1_FOR: Duration = Duration::from_secs(3600);
/// How many such peers are remembered while nothing is held for them: some 300 KiB.
const REMEMBERED_MAX: usize = 1024;
