//! The words between the pool and whoever runs it: requests, leases, decisions, counts.

use southbridge_words::{Class, ConnId, Instant, PeerId, Ticket};

use crate::lane::Lane;

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
    /// Take no connection that was used before (the retry of a keep-alive race). One that carries many
    /// requests at a time will do, if it was opened after this request came.
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
    /// Take `conn` back from whoever holds it, and close it. The pool counts it as gone from now on.
    Revoke {
        /// Which.
        conn: ConnId,
    },
    /// Stop dialling `conn`, or shaking hands on it: its peer has been silent for longer than others should
    /// wait for its place. Whoever waited for it alone is refused next. The pool counts it as gone from now on.
    GiveUp {
        /// Which.
        conn: ConnId,
    },
    /// Let go of what of `conn` only a request needs: it has been idle for a while. It may be lent at any time.
    Stow {
        /// Which. It carries one request at a time.
        conn: ConnId,
    },
    /// Close `conn`: nobody uses it. The pool counts it as gone from now on; it may be gone already.
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

/// Bounds of one peer that stand in the place of those of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLimits {
    /// Connections at a time, whatever they speak; as many stay open when idle. Default: as for all others.
    pub connections_max: Option<u32>,
    /// Requests that may wait for one. Default: as for all others.
    pub waiting_max: Option<u32>,
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
