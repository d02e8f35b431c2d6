//! What the pool shows to the admin port (K13).

use serde::Serialize;
use southbridge_words::Instant;

use super::{Lending, Stage};

/// One peer, as `/debug/pools` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerView {
    /// What its connections are shared by.
    pub peer: String,
    /// Its addresses.
    pub endpoints: Vec<String>,
    /// Requests that wait for it.
    pub waiting: u32,
    /// Requests under way.
    pub leases: u32,
    /// Its connections.
    pub connections: Vec<ConnectionView>,
}

/// One connection, as `/debug/pools` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionView {
    /// Its number.
    pub conn: String,
    /// `dialling`, `handshaking`, `http/1.1` or `h2`.
    pub state: &'static str,
    /// Where it leads, once it does.
    pub remote: Option<String>,
    /// Milliseconds since the decision to open it.
    pub age_ms: u64,
    /// Requests it has served.
    pub served: u64,
    /// Bytes read, after decryption.
    pub bytes_read: u64,
    /// Bytes written, before encryption.
    pub bytes_written: u64,
}

impl Lending {
    /// Every peer that something is held for.
    pub(crate) fn peers(&self, now: Instant) -> Vec<PeerView> {
        let state = self.inner.state.borrow();
        let mut by_peer: rustc_hash::FxHashMap<_, Vec<ConnectionView>> = rustc_hash::FxHashMap::default();
        for (conn, connection) in &state.connections {
            let (kind, remote, served, read, written) = match &connection.stage {
                Stage::Opening(opening) => {
                    let state = if opening.remote.is_some() { "handshaking" } else { "dialling" };
                    (state, opening.remote.map(|remote| remote.to_string()), 0, 0, 0)
                }
                Stage::Open(open) => (
                    if open.http2 { "h2" } else { "http/1.1" },
                    Some(open.remote.to_string()),
                    open.served,
                    open.gauge.read(),
                    open.gauge.written(),
                ),
            };
            let age = now.saturating_since(connection.opened_at).as_millis();
            by_peer.entry(connection.peer).or_default().push(ConnectionView {
                conn: conn.to_string(),
                state: kind,
                remote,
                age_ms: u64::try_from(age).unwrap_or(u64::MAX),
                served,
                bytes_read: read,
                bytes_written: written,
            });
        }
        let mut views: Vec<PeerView> = state
            .peers
            .iter()
            .filter(|(id, _)| !state.pool.is_unused(**id))
            .map(|(id, peer)| {
                let usage = state.pool.peer_usage(*id);
                PeerView {
                    peer: peer.key.to_string(),
                    endpoints: peer.route.endpoints.iter().map(|at| at.address.to_string()).collect(),
                    waiting: usage.waiting,
                    leases: usage.leases,
                    connections: by_peer.remove(id).unwrap_or_default(),
                }
            })
            .collect();
        views.sort_by(|one, other| one.peer.cmp(&other.peer));
        views
    }
}
