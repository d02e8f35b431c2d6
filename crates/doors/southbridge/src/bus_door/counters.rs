//! The numbers of the bus door.

use super::routes::{Operation, ROUTES};
use crate::local_http::Count;

/// Counts what the door does.
#[derive(Debug, Default)]
pub(super) struct BusDoorCounters {
    pub(super) connections: Count,
    requests: [Count; ROUTES.len()],
    pub(super) denied: Count,
    pub(super) malformed: Count,
    pub(super) durable: Count,
    pub(super) volatile: Count,
    pub(super) refused: Count,
    pub(super) bytes_in: Count,
}

impl BusDoorCounters {
    pub(super) fn request(&self, operation: Operation) {
        self.requests[place(operation)].add(1);
    }

    pub(super) fn snapshot(&self, in_progress: u32, bodies_bytes: u64) -> BusDoorSnapshot {
        BusDoorSnapshot {
            in_progress,
            bodies_bytes,
            connections: self.connections.value(),
            requests: ROUTES
                .iter()
                .map(|route| (route.operation.name(), self.requests[place(route.operation)].value()))
                .collect(),
            denied: self.denied.value(),
            malformed: self.malformed.value(),
            durable: self.durable.value(),
            volatile: self.volatile.value(),
            refused: self.refused.value(),
            bytes_in: self.bytes_in.value(),
        }
    }
}

fn place(operation: Operation) -> usize {
    ROUTES.iter().position(|route| route.operation == operation).expect("every operation has its route")
}

/// The numbers of the door at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusDoorSnapshot {
    /// Connections open.
    pub in_progress: u32,
    /// Bytes of request bodies held.
    pub bodies_bytes: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests let in, by operation.
    pub requests: Vec<(&'static str, u64)>,
    /// Callers without the right secret.
    pub denied: u64,
    /// Requests refused for their form.
    pub malformed: u64,
    /// Submissions accepted as durable.
    pub durable: u64,
    /// Submissions accepted as volatile.
    pub volatile: u64,
    /// Submissions refused.
    pub refused: u64,
    /// Bytes of request bodies read.
    pub bytes_in: u64,
}
