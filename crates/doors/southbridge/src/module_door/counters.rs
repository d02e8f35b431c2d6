//! What the module door counts.

use crate::local_http::Count;

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct ModuleDoorCounters {
    pub(super) connections: Count,
    pub(super) refused: Count,
    pub(super) malformed: Count,
    pub(super) overloaded: Count,
    pub(super) requests: Count,
    pub(super) bytes_in: Count,
}

/// The numbers of the door at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleDoorSnapshot {
    /// Modules connected.
    pub in_progress: u32,
    /// Connections accepted.
    pub connections: u64,
    /// Modules that were given no bus.
    pub refused: u64,
    /// Connections that ended because what came made no sense.
    pub malformed: u64,
    /// Requests refused because too many were under way.
    pub overloaded: u64,
    /// Requests taken.
    pub requests: u64,
    /// Bytes of frames read.
    pub bytes_in: u64,
}

impl ModuleDoorCounters {
    pub(super) fn snapshot(&self, in_progress: u32) -> ModuleDoorSnapshot {
        ModuleDoorSnapshot {
            in_progress,
            connections: self.connections.value(),
            refused: self.refused.value(),
            malformed: self.malformed.value(),
            overloaded: self.overloaded.value(),
            requests: self.requests.value(),
            bytes_in: self.bytes_in.value(),
        }
    }
}
