//! What went through the forward proxy, in numbers.

use crate::local_http::Count;

/// The numbers of one forward proxy. They live on the I/O thread.
#[derive(Debug, Default)]
pub struct ProxyCounters {
    /// Connections accepted.
    pub connections: Count,
    /// Callers kept out for want of credentials.
    pub denied: Count,
    /// Answers of our own making, those to denied callers included.
    pub refusals: Count,
    /// Tunnels opened.
    pub tunnels: Count,
    /// Tunnels that ended because nothing moved.
    pub tunnels_idle: Count,
    /// Tunnels that broke.
    pub tunnels_broken: Count,
    /// Plain requests answered by their peers.
    pub requests: Count,
    /// Responses cut off in the middle.
    pub cut: Count,
    /// Bytes from callers: through tunnels, and in bodies of requests.
    pub bytes_up: Count,
    /// Bytes to callers.
    pub bytes_down: Count,
}

/// The numbers of a proxy at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of ProxyCounters that has its name, or what is held now")]
pub struct ProxySnapshot {
    pub in_progress: u32,
    pub tunnels_open: u32,
    pub connections: u64,
    pub denied: u64,
    pub refusals: u64,
    pub tunnels: u64,
    pub tunnels_idle: u64,
    pub tunnels_broken: u64,
    pub requests: u64,
    pub cut: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
}

impl ProxyCounters {
    /// All numbers at once, with how many connections are served and how many tunnels are open now.
    pub fn snapshot(&self, in_progress: u32, tunnels_open: u32) -> ProxySnapshot {
        ProxySnapshot {
            in_progress,
            tunnels_open,
            connections: self.connections.value(),
            denied: self.denied.value(),
            refusals: self.refusals.value(),
            tunnels: self.tunnels.value(),
            tunnels_idle: self.tunnels_idle.value(),
            tunnels_broken: self.tunnels_broken.value(),
            requests: self.requests.value(),
            cut: self.cut.value(),
            bytes_up: self.bytes_up.value(),
            bytes_down: self.bytes_down.value(),
        }
    }
}
