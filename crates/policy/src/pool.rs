//! The Connection Pool: alone decides that a connection is opened, and lends what is open.

use std::time::Duration;

use southbridge_words::{Class, ConnId, Instant, PeerId, PerClass, Ticket};

use crate::lane::Lane;

/// What the pool may hold at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections in all, from dial to close.
    pub connections_max: u32,
    /// Connections whose TCP handshake is in progress: cheap, but each holds a descriptor.
    pub dials_max: u32,
    /// Connections whose TLS handshake is in progress: each costs a third of a millisecond of CPU.
    pub handshakes_max: u32,
    /// How many of the dials may be for the limited lane.
    pub limited_dials_max: u32,
    /// How many of the TLS handshakes may be for the limited lane.
    pub limited_handshakes_max: u32,
    /// How many of the connections may be lent to, or opened for, the limited lane.
    pub limited_connections_max: u32,
    /// Connections that carry one request at a time (HTTP/1.1), for one peer.
    pub exclusive_per_peer_max: u32,
    /// Connections that carry many requests at a time (HTTP/2), for one peer.
    pub shared_per_peer_max: u32,
    /// Requests waiting in all.
    pub waiting_max: u32,
    /// Requests waiting for one peer.
    pub waiting_per_peer_max: u32,
    /// Idle connections kept for one peer.
    pub idle_per_peer_max: u32,
    /// How long an idle connection is kept.
    pub idle_max: Duration,
    /// How long a lease lasts before it is revoked, if somebody else waits for what it holds.
    pub lease_max: Duration,
    /// The share of each class in what is scarce.
    pub weights: PerClass<u32>,
}

/// A request for the use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Pairs the request with what is decided.
    pub ticket: Ticket,
    /// To whom.
    pub peer: PeerId,
    /// How urgent.
    pub class: Class,
    /// In which lane.
    pub lane: Lane,
    /// Past when nobody waits for it.
    pub deadline: Instant,
    /// Take no connection that was used before (the retry of a keep-alive race).
    pub fresh: bool,
}

/// How many requests a connection carries at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// One (HTTP/1.1).
    Exclusive,
    /// Up to `streams_max` (HTTP/2); zero when the peer allows none for now.
    Shared {
        /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS, or our own bound if that is lower.
        streams_max: u32,
    },
}

/// The right to send one request on one connection until its deadline. Not `Clone`: it can be given back once.
#[must_use = "a lease not given back is revoked at its deadline"]
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    /// The connection.
    pub conn: ConnId,
    /// Who holds it.
    pub ticket: Ticket,
    /// Past when it may be revoked.
    pub deadline: Instant,
    /// Whether the connection has carried a request before: then a silent close is nobody's fault.
    pub reused: bool,
}

/// In what state a connection comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// As good as new.
    Reusable,
    /// Closed, or not to be trusted again: ambiguous framing, surplus bytes, a request cut off.
    Spent,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection to `peer` (racing its addresses), then tell `handle_dialled`.
    Dial {
        /// Its number from now on.
        conn: ConnId,
        /// To whom.
        peer: PeerId,
    },
    /// Start TLS on `conn`, then tell `handle_connected`.
    Handshake {
        /// Which.
        conn: ConnId,
    },
    /// `ticket` may send its request.
    Lend {
        /// Whose turn it is.
        ticket: Ticket,
        /// On what.
        lease: Lease,
    },
    /// `ticket` waits in vain.
    Refuse {
        /// Who.
        ticket: Ticket,
        /// Why.
        refusal: Refusal,
    },
    /// Take `conn` back from whoever holds it, and close it.
    Revoke {
        /// Which.
        conn: ConnId,
    },
    /// Close `conn`: nobody uses it.
    Close {
        /// Which.
        conn: ConnId,
    },
}

/// Why a ticket got no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its deadline passed while it waited.
    DeadlinePassed,
    /// The attempt `conn` to reach the peer failed; the kernel knows why.
    ConnectFailed {
        /// Which attempt.
        conn: ConnId,
    },
}

/// The pool takes no more waiting requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{held} of {held_max} requests wait for {scope} already")]
pub struct PoolFull {
    /// Requests that wait.
    pub held: u32,
    /// The most that may.
    pub held_max: u32,
    /// `"a connection"` or `"this peer"`.
    pub scope: &'static str,
}

/// What the pool holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the limits")]
pub struct PoolUse {
    pub connections: u32,
    pub dials: u32,
    pub handshakes: u32,
    pub limited_dials: u32,
    pub limited_handshakes: u32,
    pub limited_connections: u32,
    pub idle: u32,
    pub leases: u32,
    pub waiting: u32,
}

/// What the pool holds for one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the limits")]
pub struct PeerUse {
    pub connecting: u32,
    pub idle: u32,
    pub leases: u32,
    pub waiting: u32,
}

/// The Connection Pool (F12), as a machine.
#[derive(Debug)]
pub struct Pool {}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Pool {
    pub fn new(limits: PoolLimits) -> Self {
        todo!()
    }
    pub fn handle_request(&mut self, want: Want, now: Instant) -> Result<(), PoolFull> {
        todo!()
    }
    /// TCP is up: asks for a TLS slot.
    pub fn handle_dialled(&mut self, conn: ConnId, now: Instant) {}
    pub fn handle_connected(&mut self, conn: ConnId, capacity: Capacity, now: Instant) {}
    /// The dial or the handshake failed.
    pub fn handle_connect_failed(&mut self, conn: ConnId, now: Instant) {}
    pub fn handle_capacity(&mut self, conn: ConnId, streams_max: u32, now: Instant) {}
    pub fn handle_returned(&mut self, lease: Lease, returned: Returned, now: Instant) {}
    /// The peer closed it, or said GOAWAY: it takes no new requests; leases on it go on.
    pub fn handle_draining(&mut self, conn: ConnId, now: Instant) {}
    /// Gone altogether; leases on it are void (returning one later is harmless).
    pub fn handle_closed(&mut self, conn: ConnId, now: Instant) {}
    /// The caller of `ticket` gave up before a lease.
    pub fn handle_cancelled(&mut self, ticket: Ticket, now: Instant) {}
    pub fn handle_timeout(&mut self, now: Instant) {}
    pub fn poll(&mut self) -> Option<Action> {
        todo!()
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    pub fn usage(&self) -> PoolUse {
        todo!()
    }
    pub fn peer_usage(&self, peer: PeerId) -> PeerUse {
        todo!()
    }
    /// Whether nothing is held for `peer` any more, so that its number may be forgotten.
    pub fn is_unused(&self, peer: PeerId) -> bool {
        todo!()
    }
}
